"""A proved gauge as the matcher reads it, or why it can follow none yet: then no model will have a site of it.

What this module does not do: it looks at no model (see `gaugec.pipeline.find`).
"""

from __future__ import annotations

import functools
from dataclasses import fields

from gaugec.graph.statement import Movement
from gaugec.language.lower import lower
from gaugec.language.tree import Gauge
from gaugec.matching.pattern import Pattern, patterns
from gaugec.proof.shifts import sight
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
    statement = lower(gauge)
    made, why = patterns(statement, dict(movements), functools.partial(sight, statement.graph))
    return tuple(made), why


def _movements(theorem: Theorem) -> dict[str, Movement]:
    """The prover's movements as the matcher reads them; what it cannot follow is "general"."""
    turned = {m.inverse for m in theorem.movements.values() if m.kind == "rotate"}
    made: dict[str, Movement] = {}
    for role, found in theorem.movements.items():
        if found.kind != "none":
            plain = {f.name: getattr(found, f.name) for f in fields(Movement)}
            made[role] = Movement(**plain) if len(turned) <= 1 else Movement("general", found.axis)
    return made


__all__ = ["followed", "unmatched"]
