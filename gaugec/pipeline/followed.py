"""A proved gauge as the matcher reads it, or why it can follow none yet: then no model will have a site of it.

What this module does not do: it looks at no model (see `gaugec.pipeline.find`).
"""

from __future__ import annotations

import functools

from gaugec.graph.statement import Movement
from gaugec.language.lower import lower
from gaugec.language.tree import Gauge
from gaugec.matching.pattern import Pattern, patterns
from gaugec.proof.theorem import Theorem


def followed(gauge: Gauge, theorem: Theorem) -> tuple[tuple[Pattern, ...], str]:
    """The patterns of a proved gauge, and why there are none, if so."""
    return _followed(gauge, tuple(_movements(theorem).items()))


def unmatched(gauge: Gauge, theorem: Theorem) -> str:
    """Why no compile can have a site of a proved gauge, or ""."""
    made, why = followed(gauge, theorem)
    return "" if made else why


@functools.lru_cache(maxsize=256)
def _followed(gauge: Gauge, movements: tuple[tuple[str, Movement], ...]) -> tuple[tuple[Pattern, ...], str]:
    """The same of equal gauges, which one process asks for more than once a model."""
    made, why = patterns(lower(gauge), dict(movements))
    return tuple(made), why


def _movements(theorem: Theorem) -> dict[str, Movement]:
    """The prover's movements as the matcher reads them; what it cannot follow is "general"."""
    turned = {m.inverse for m in theorem.movements.values() if m.kind == "rotate"}
    made: dict[str, Movement] = {}
    for role, found in theorem.movements.items():
        simple = found.coefficient == 1 and len(turned) <= 1
        if found.kind != "none":
            kind = found.kind if simple else "general"
            made[role] = Movement(kind, found.axis, found.exponent, found.dual, found.shift_by)
    return made


__all__ = ["followed", "unmatched"]
