"""Which rotations bring one point of a component nearest to another: Procrustes, in the Euclidean norm.

In closed form where no two rotations move one entry of a tensor: there each has its own minimum.  Where they meet,
each is solved for in turn until the distance falls no more, beginning with those that move entries alone, else from
several starts: the least that was found, which need not be the least there is.

Not here: scales and shifts, which are brought to their canonical form before (see `quotient`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from gaugec.runtime import elements
from gaugec.runtime.component import Component
from gaugec.runtime.groups import Action
from gaugec.runtime.layout import Slice, Tensors, cut, product

SWEEPS = 1000
SLOW = 1e-12  # a sweep that lowers the square of the distance by less than this part of it is the last
ROUGH = 1e-3  # the same while starts are compared
STARTS = 16
ROUNDING = 1e-24  # of the square of the size: a square of a distance below it is 0


class Alignment(NamedTuple):
    """An element, and by tensor the square of the distance that is left; searched: whether it was not closed form."""

    element: Tensors
    squares: dict[str, float]
    searched: bool

    @property
    def square(self) -> float:
        """The square of the distance, over all tensors."""
        return sum(self.squares.values())


def align(component: Component, target: Tensors, point: Tensors) -> Alignment:
    """The rotations that bring point nearest to target, both [1, ...] in float64; other gauges stand still.

    The distance is the same, to the bit, when the two change places: both ways are gone, and the shorter is taken.
    """
    there = _found(component, target, point)
    if not any(gauge.mixes for gauge in component.gauges):
        return there
    back = _found(component, point, target)
    if (there.square, *there.squares.values()) <= (back.square, *back.squares.values()):
        return there
    undone = {name: elements.inverse(component.elements[name][0], x) for name, x in back.element.items()}
    return Alignment(undone, back.squares, back.searched)


def _found(component: Component, target: Tensors, point: Tensors) -> Alignment:
    rotations = [gauge for gauge in component.gauges if gauge.mixes]
    element, owned = _by_own_slices(component, rotations, target, point)
    if not any(_own(component, gauge, rotations) < {*gauge.slices} for gauge in rotations):
        sharp = {gauge.name: gauge.sharpened(target, point, element[gauge.name]) for gauge in rotations}
        return Alignment({**element, **sharp}, _squares(target, component.act(point, {**element, **sharp})), False)
    best = Alignment(element, _squares(target, component.act(point, element)), True)
    size = sum(float(x.square().sum()) for each in (target, point) for x in each.values())
    starts = [element] if owned else [element, *_drawn(component, rotations)]
    for start in starts:
        rough = _descended(component, rotations, target, point, start, ROUGH)
        best = min(best, rough, key=lambda found: found.square)
        if best.square <= ROUNDING * size:
            return best
    fine = _descended(component, rotations, target, point, best.element, SLOW)
    return min(best, fine, key=lambda found: found.square)


def _drawn(component: Component, rotations: Sequence[Action]) -> Iterator[Tensors]:
    """Random rotations, the same in every process."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(STARTS):
        drawn = component.random_element(1, generator)
        yield {**elements.identities(component), **{gauge.name: drawn[gauge.name] for gauge in rotations}}


def _by_own_slices(
    component: Component, rotations: Sequence[Action], target: Tensors, point: Tensors
) -> tuple[Tensors, bool]:
    """Solve for one rotation after another by what no rotation after it moves; whether all have enough."""
    element, waiting, owned = elements.identities(component), list(rotations), True
    moved = {slot: x.clone() for slot, x in point.items()}
    while waiting:
        own = {gauge.name: _own(component, gauge, waiting) for gauge in waiting}
        ready = [gauge for gauge in waiting if _enough(gauge, own[gauge.name])]
        owned = owned and bool(ready)
        gauge = (ready or waiting)[0]
        parts = [part for part in gauge.slices if part in own[gauge.name]]
        element[gauge.name] = gauge.nearest(target, moved, parts if ready else None)
        gauge.act(moved, element[gauge.name])
        waiting.remove(gauge)
    return element, owned


def _own(component: Component, gauge: Action, among: Sequence[Action]) -> set[Slice]:
    """The slices of a gauge of which no other gauge moves an element."""
    others = [part for other in among if other is not gauge for part in other.slices]
    return {part for part in gauge.slices if not any(_share(component, part, other) for other in others)}


def _share(component: Component, one: Slice, two: Slice) -> bool:
    if one.slot != two.slot:
        return False
    marked = {one.slot: torch.zeros(1, *component.shapes[one.slot], dtype=torch.bool)}
    cut(marked, one).fill_(True)
    return bool(cut(marked, two).any())


def _enough(gauge: Action, parts: set[Slice]) -> bool:
    """Whether these slices have a column for every direction that the rotation turns."""
    columns = sum(product(part.rest) for part in parts)
    return columns >= (1 if gauge.kind == "turn" else gauge.size)


def _descended(
    component: Component, rotations: Sequence[Action], target: Tensors, point: Tensors, start: Tensors, slow: float
) -> Alignment:
    """Solve for one rotation after another, all tensors counting, until a sweep is slow."""
    element, moved, last = dict(start), component.act(point, start), float("inf")
    for _ in range(SWEEPS):
        for gauge in rotations:
            step = gauge.nearest(target, moved)
            gauge.act(moved, step)
            element[gauge.name] = elements.product(gauge.kind, step, element[gauge.name])
        square = sum(_squares(target, moved).values())
        if square >= last * (1 - slow):
            break
        last = square
    return Alignment(element, _squares(target, component.act(point, element)), True)


def _squares(one: Tensors, two: Tensors) -> dict[str, float]:
    return {slot: float((one[slot] - two[slot]).square().sum()) for slot in one}
