"""Random gauges through prover, component check and judge, side by side, as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from soundness.drawing import Unjudged
from soundness.judge import judge
from soundness.normal_forms import disagreement
from soundness.random_cases import case

from gaugec.language.lower import all_dims, lower
from gaugec.proof.prove import prove_statement
from gaugec.sampling.sample import sample

SAMPLES = 3
EIGHTH = 8


@dataclass(frozen=True)
class Case:
    """What was said of one random gauge.  checked: "agrees", "differs" or "no value" of the component check.

    judged: of the judge, who is asked wherever the prover or the check takes the gauge to be true; "" elsewhere.
    """

    seed: int
    made: str
    prover: str
    checked: str
    judged: str
    reason: str
    drawn: int
    entries: int = 0  # of the kept values, computed back from the prover's normal forms; of every eighth case
    form: str = ""  # the first that is wrong

    @property
    def disagreement(self) -> bool:
        """The prover says proved, or approximate, and a number says otherwise."""
        if self.prover == "approximate":
            return self.judged == "unsound"
        return self.prover == "proved" and (self.checked == "differs" or self.judged in ("unsound", "approximate"))

    @property
    def oversight(self) -> bool:
        """The component check agrees with what the judge saw fail: it cannot be relied on to save a false proof."""
        return self.checked == "agrees" and self.judged == "unsound"


def run(seed: int) -> Case:
    """One random gauge through everything."""
    _, made, gauge, drawn = case(seed)
    theorem = prove_statement(lower(gauge))
    agreement = sample(lambda sizes: lower(gauge, sizes), all_dims(gauge), samples=SAMPLES)
    checked = "agrees" if agreement else "differs" if agreement.samples else "no value"
    judged = judge(gauge).verdict if checked == "agrees" or theorem.verdict in ("proved", "approximate") else ""
    if checked == "agrees" and judged == "unsound":  # as many samples as the compiler takes
        checked = "agrees" if sample(lambda sizes: lower(gauge, sizes), all_dims(gauge)) else "differs"
    form, entries = "", 0
    if seed % EIGHTH == 0:
        try:
            form, entries = disagreement(gauge, seed)
        except Unjudged:
            pass
        except Exception as error:
            form = f"{type(error).__name__}: {error}"
    return Case(seed, made, theorem.verdict, checked, judged, theorem.reason or agreement.reason, drawn, entries, form)


def table(cases: Iterable[Case]) -> tuple[list[str], bool]:
    """The lines of the report, and whether all is as it must be."""
    cases = list(cases)
    ways = sorted({found.made for found in cases})
    rows: dict[tuple[str, str, str], Counter[str]] = {}
    for found in cases:
        rows.setdefault((found.prover, found.checked, found.judged or "not asked"), Counter())[found.made] += 1
    head = f"{'prover':12} {'check':10} {'judge':12}"
    lines = [head + "".join(way.rjust(16) for way in ways) + "all".rjust(10)]
    for key, row in sorted(rows.items()):
        cells = "".join(str(row[way]).rjust(16) for way in ways)
        lines.append(f"{key[0]:12} {key[1]:10} {key[2]:12}" + cells + str(sum(row.values())).rjust(10))
    proved = sum(found.prover == "proved" for found in cases)
    sound = [found for found in cases if found.judged == "sound"]
    missed = [found for found in sound if found.prover != "proved"]
    wrong = [found for found in cases if found.disagreement]
    blind = [found for found in cases if found.oversight]
    drawn = sum(found.drawn for found in cases)
    lines.append(f"{len(cases)} cases, {proved} proved; {drawn - len(cases)} more texts are no gauges of the language")
    lines.append(f"sound and not proved: {len(missed)} of {len(sound)}")
    lines += [f"  seed {found.seed} ({found.made}): {found.prover}, {found.reason}" for found in missed[:20]]
    for title, listed in (
        ("proved, and check or judge disagrees", wrong),
        ("the component check agrees, and the judge says unsound", blind),
    ):
        lines.append(f"{title}: {len(listed)}")
        lines += [f"  seed {f.seed} ({f.made}): check {f.checked}, judge {f.judged}: {f.reason}" for f in listed]
    forms = [found for found in cases if found.form]
    entries, read = sum(found.entries for found in cases), sum(found.entries > 0 for found in cases)
    lines.append(f"normal forms computed back, {entries} entries of {read} cases: {len(forms)} wrong")
    lines += [f"  seed {found.seed} ({found.made}): {found.form}" for found in forms]
    return lines, not wrong and not blind and not forms
