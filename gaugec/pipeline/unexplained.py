"""What single parameters and neighbours do that no gauge of a compiled spec explains, looked at in numbers.

What this module does not do: it proves nothing, and looks for no more than two parameters at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gaugec.errors import MatchError
from gaugec.invention.neighbours import neighbours
from gaugec.pipeline.compiled import CompiledGauge
from gaugec.progress import stage
from gaugec.tracing.trace import Trace
from gaugec.witness import bases, rank
from gaugec.witness.jacobian import Jacobian
from gaugec.witness.relations import Relation, relations
from gaugec.witness.tangents import tangents

LIMIT = 3000  # parameters whose singular vectors are found in minutes
EPS = 0.1  # of every norm: with it, what is nearly dead is plainly alive


@dataclass(frozen=True)
class Looked:
    """What was counted: dead directions, but for entries that nothing reads, those that the spec explains, relations.

    clear: whether there is a gap between the singular values that count and those that do not.
    """

    dead: int
    explained: int
    relations: tuple[Relation, ...]
    clear: bool

    @property
    def left(self) -> int:
        """Dead directions that neither the spec explains nor a relation of two parameters."""
        return self.dead - self.explained - sum(each.dimension for each in self.relations)


def fitting(traced: Trace) -> dict[str, tuple[int, ...]]:
    """The shapes of the parameters that are trained.

    Raises:
        MatchError: they have more entries than can be counted.
    """
    shapes = {name: shape for name, shape in traced.shapes.items() if name not in traced.frozen}
    total = sum(math.prod(shape) for shape in shapes.values())
    if total > LIMIT:
        raise MatchError(
            f"the model has {total:,} parameters, and with numbers {LIMIT:,} are looked at at most",
            help="give a small model of the same structure, or leave the numbers out",
        )
    return shapes


def unexplained(traced: Trace, compiled: CompiledGauge | None) -> Looked:
    """Looks at a traced model, and at what was compiled for it, if anything, at one random point.

    Raises:
        MatchError: the model has too many parameters.
    """
    shapes = fitting(traced)
    total = sum(math.prod(shape) for shape in shapes.values())
    with stage("drawing a point"):
        point = rank.generic(traced, shapes)
    with stage("counting dead directions"):
        spectrum = rank.dead(Jacobian(traced, point, shapes, EPS))
    with stage("counting the orbits"):
        moves = [tangents(point, site, shapes) for site in compiled.sites] if compiled is not None else []
        explained = bases.span(bases.without(bases.stacked(moves, total), spectrum.unread))
        null = bases.independent(bases.without(spectrum.null, spectrum.unread))
    with stage("reading what is left"):
        names = {leaf: name for name, leaf in traced.leaves.items()}
        pairs = [(names[one], names[two]) for one, two in neighbours(traced.graph)]
        pairs = [pair for pair in pairs if {*pair} <= shapes.keys()]
        found = relations(null, explained, _with_digits(traced, point, shapes), pairs)
    return Looked(len(null), len(explained), tuple(found), spectrum.clear)


def _with_digits(traced: Trace, point: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The parameters, each axis that the model reads as several as so many."""
    graph, leaves = traced.graph, traced.leaves
    sizes = {name: [m.size for m in graph[leaves[name]].modes] for name in shapes if name in leaves}
    return {name: point[name].reshape(sizes.get(name, shape)) for name, shape in shapes.items()}
