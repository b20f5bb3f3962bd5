"""Every spec mutant through the compiler and the judge, side by side, as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from soundness.judge import NO_VALUE, judge
from soundness.mutations import KINDS
from soundness.spec_mutants import Mutant

from gaugec.language.lower import all_dims, lower
from gaugec.proof.prove import prove_statement
from gaugec.sampling.sample import sample

ALLOWED = 0.05  # of the sound mutants may be refused


@dataclass(frozen=True)
class Outcome:
    """What was said of one mutant: by the judge, by the prover alone, and by both of the compiler's checks together."""

    mutant: Mutant
    judged: str
    prover: str
    accepted: bool
    reason: str

    @property
    def false(self) -> bool:
        """Accepted, and not sound; what has no value at any point of the judge's is no function to change."""
        return self.accepted and self.judged != "sound" and self.reason != NO_VALUE

    @property
    def false_proof(self) -> bool:
        """Proved, if only up to eps, and not sound, whatever the component check says."""
        wrong = {"proved": ("unsound", "approximate"), "approximate": ("unsound",)}
        return self.judged in wrong.get(self.prover, ())

    @property
    def missed(self) -> bool:
        """Sound, and not accepted."""
        return self.judged == "sound" and not self.accepted


def outcome(mutant: Mutant) -> Outcome:
    """What `gaugec verify` accepts is proved and passes the component check; the judge is asked apart."""
    gauge = mutant.gauge
    judged = judge(gauge)
    theorem = prove_statement(lower(gauge))
    accepted, reason = theorem.verdict == "proved", theorem.reason
    if accepted:
        agreement = sample(lambda sizes: lower(gauge, sizes), all_dims(gauge))
        accepted, reason = bool(agreement), agreement.reason
    return Outcome(mutant, judged.verdict, theorem.verdict, accepted, reason or judged.reason)


COLUMNS = ("mutants", "sound, accepted", "sound, refused", "approximate, refused", "unsound, refused", "FALSE")


def table(outcomes: Iterable[Outcome], malformed: dict[str, int]) -> tuple[list[str], bool]:
    """The lines of the report, and whether all is as it must be."""
    outcomes = list(outcomes)
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for found in outcomes:
        row = counts[found.mutant.kind]
        row["mutants"] += 1
        if found.false or found.false_proof:
            row["FALSE"] += 1
        elif found.judged == "unjudged":
            row["unjudged"] += 1
        else:
            row[f"{found.judged}, {'accepted' if found.accepted else 'refused'}"] += 1
    columns = (*COLUMNS, *(["unjudged"] if any(row["unjudged"] for row in counts.values()) else []))
    width = max(map(len, KINDS))
    lines = [" " * width + "  " + "  ".join(columns)]
    total: Counter[str] = Counter()
    for kind, row in counts.items():
        total.update(row)
        lines.append(kind.ljust(width) + "  " + "  ".join(str(row[c]).rjust(len(c)) for c in columns))
    lines.append("all".ljust(width) + "  " + "  ".join(str(total[c]).rjust(len(c)) for c in columns))
    sound = sum(found.judged == "sound" for found in outcomes)
    missed = [found for found in outcomes if found.missed]
    false = [found for found in outcomes if found.false]
    proofs = [found for found in outcomes if found.false_proof and not found.accepted]
    lines.append(f"{sum(malformed.values())} more are no gauges of the language and are not counted")
    for title, listed in (
        ("unsound and accepted", false),
        ("unsound and proved, saved by the component check", proofs),
        (f"sound and refused ({len(missed) / max(sound, 1):.1%} of {sound})", missed),
    ):
        lines.append(f"{title}: {len(listed)}")
        for found in listed:
            lines.append(f"  {found.mutant.name}  [{found.judged}; prover: {found.prover}; {found.reason}]")
    return lines, not false and not proofs and len(missed) <= ALLOWED * sound
