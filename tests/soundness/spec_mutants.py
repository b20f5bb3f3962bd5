"""Spec mutants: every shipped gauge with one thing wrong, in every way of a list, as texts.

A mutator takes a checked gauge and yields changed trees; each is written as text and read back by the language, so a
mutant is exactly what a person could have written.  Some mutants are sound (an inverse on every line of a rotation is
another name for the same gauge): whether one is, is for `soundness.judge` to say, never for its mutator.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from proof.statements import SOUND, gauge
from soundness.mutations import KINDS
from soundness.writing import checked, shipped_gauges, text_of

from gaugec.language import tree as t


@dataclass(frozen=True)
class Mutant:
    """One mutant: the gauge it was made of, the kind of change, what was changed, and the text."""

    base: str
    kind: str
    change: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.base}: {self.kind}: {self.change}"

    @property
    def gauge(self) -> t.Gauge:
        found = checked(self.text)
        assert found is not None
        return found


MORE = (
    "abs",
    "leaky",
    "values, invertible",
    "rope, scales of pairs",
    "key bias",
    "layer norm of a shift",
    "rms norm of a scale",
    "rms of a rotation",
    "layer norm of a rotation that keeps ones",
    "rotation conjugated by a gain",
    "affine gain",
)
"""Sound gauges of the prover's tests whose groups, operators or laws no shipped gauge has."""


def bases() -> dict[str, t.Gauge]:
    """The gauges that are changed: every shipped one, those of the documents, and some of the prover's tests."""
    return shipped_gauges() | {name: gauge(*SOUND[name]) for name in MORE}


def written() -> list[Mutant]:
    """All distinct mutants, those too that the language refuses; one without an action has no text."""
    originals = bases()
    seen = {text_of(gauge) for gauge in originals.values()}
    found: list[Mutant] = []
    for base, original in originals.items():
        for kind, mutate in KINDS.items():
            for change, new in mutate(original):
                text = text_of(new) if new.actions else ""
                if text not in seen:
                    found.append(Mutant(base, kind, change, text))
                if text:
                    seen.add(text)
    return found


def mutants(every: int = 1, least: int = 12) -> tuple[list[Mutant], dict[str, int]]:
    """The mutants that the language accepts, and for every kind how many it refuses.

    every: of each kind the first of every so many alone; of a rare kind more, `least` of them if there are so many.
    """
    texts = written()
    steps = {kind: max(1, min(every, n // least)) for kind, n in Counter(mutant.kind for mutant in texts).items()}
    found: list[Mutant] = []
    met, malformed = Counter[str](), dict.fromkeys(KINDS, 0)
    for mutant in texts:
        met[mutant.kind] += 1
        if (met[mutant.kind] - 1) % steps[mutant.kind]:
            continue
        if mutant.text and checked(mutant.text) is not None:
            found.append(mutant)
        else:
            malformed[mutant.kind] += 1
    return found, malformed
