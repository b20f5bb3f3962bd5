"""Spec mutants: every shipped gauge with one thing wrong, in every way of a list, as texts.

A mutator takes a checked gauge and yields changed trees; each is written as text and read back by the language, so a
mutant is exactly what a person could have written.  Some mutants are sound (an inverse on every line of a rotation is
another name for the same gauge): whether one is, is for `soundness.judge` to say, never for its mutator.
"""

from __future__ import annotations

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


def mutants() -> tuple[list[Mutant], dict[str, int]]:
    """All distinct mutants that the language accepts, and for every kind how many it refuses."""
    originals = bases()
    seen = {text_of(gauge) for gauge in originals.values()}
    found: list[Mutant] = []
    malformed = dict.fromkeys(KINDS, 0)
    for base, original in originals.items():
        for kind, mutate in KINDS.items():
            for change, new in mutate(original):
                if not new.actions:
                    malformed[kind] += 1
                    continue
                text = text_of(new)
                if text in seen:
                    continue
                seen.add(text)
                if checked(text) is None:
                    malformed[kind] += 1
                else:
                    found.append(Mutant(base, kind, change, text))
    return found, malformed
