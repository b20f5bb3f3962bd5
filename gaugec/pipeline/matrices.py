"""Which matrices of a parameter an optimizer may treat as matrices where gauges rotate it.

What is made of a matrix as a whole, its nearest orthogonal one, goes along with a rotation of its rows or its columns:
with one and the same for all of them.  So a fibre along which a rotation acts has to lie in one matrix and to vary its
rows alone (or its columns alone), and every column (row) there has to be turned, by the same element.  Where the
matrices that the graph shows are not so, the parameter is one matrix; where that is not so, it is none.

What this module does not do: it finds no matrices (see `gaugec.graph.roles`) and no sites.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gaugec.graph.digits import Digits, along, count, starts
from gaugec.graph.roles import Block, Played, whole
from gaugec.groups import GROUPS
from gaugec.sites import Binding, Site

Shape = tuple[int, ...]
Place = tuple[int, int, int]  # the copy, the row and the column of an entry, as far as one index says

_ROW, _COLUMN = 1, 2


def compatible(found: Mapping[str, Played], sites: Sequence[Site], shapes: Mapping[str, Shape]) -> dict[str, Played]:
    """The roles, with the matrices that every rotation of the sites allows."""
    rotated: dict[str, dict[_Turn, None]] = {}
    for site in sites:
        if GROUPS[site.group].compact:
            for binding in site.bindings:
                rotated.setdefault(binding.parameter, {})[_Turn.of(binding)] = None
    known: dict[object, Played] = {}  # the layers of a model are alike
    out = dict(found)
    for name, turns in rotated.items():
        key = (found[name], tuple(turns), shapes[name])
        if key not in known:
            known[key] = _allowed(found[name], tuple(turns), shapes[name])
        out[name] = known[key]
    return out


@dataclass(frozen=True)
class _Turn:
    """Where a rotation acts: along `group`, alike for all of `rest`, with another element for each of `copies`."""

    offset: int
    copies: Digits
    group: Digits
    rest: Digits

    @classmethod
    def of(cls, binding: Binding) -> _Turn:
        return cls(binding.offset, binding.copies, binding.group, binding.rest)


def _allowed(played: Played, turns: Sequence[_Turn], shape: Shape) -> Played:
    role, blocks = played
    if not blocks:
        return played
    for these in (blocks, whole(blocks, shape)):
        if these and all(_kept(these, turn, shape) for turn in turns):
            return role, these
    return "other", ()


def _kept(blocks: Sequence[Block], turn: _Turn, shape: Shape) -> bool:
    """Is every matrix that the rotation meets turned as a whole, on one side?"""
    split = [along(digits, shape) for digits in (turn.copies, turn.group, turn.rest)]
    if any(part is None for part in split):
        return False
    first = starts(turn.offset, shape)
    axes = [_Axis(*each) for each in zip(first, *(part for part in split if part is not None), shape)]
    moved = [axis for axis, each in enumerate(axes) if each.group]
    if len(moved) != 1:
        return not moved
    for block in blocks:
        places = [_places(block, number, shape) for number in range(len(axes))]
        if any(place is None for place in places):
            return False
        if not _block_kept(axes, [place for place in places if place is not None], moved[0]):
            return False
    return True


@dataclass(frozen=True)
class _Axis:
    """What a rotation has of one axis of a tensor."""

    first: int
    copies: Digits
    group: Digits
    rest: Digits
    length: int

    @property
    def full(self) -> bool:
        """Is it all of the axis, for the same element?"""
        return not self.copies and not self.group and count(self.rest) == self.length

    def fibres(self) -> Iterator[tuple[int, list[int]]]:
        """The indices of every fibre, with the part of the element's number that the axis says."""
        for copy, rest in itertools.product(_sums(self.copies), _sums(self.rest)):
            yield copy, [self.first + copy + rest + step for step in _sums(self.group)]


class _Places:
    """The places of a block's entries by their index along one axis."""

    def __init__(self, start: int, parts: Sequence[Digits]) -> None:
        self.start, self.parts = start, parts
        self.by_index: dict[int, Place] = {}

    def at(self) -> Mapping[int, Place]:
        """Index -> place, of all indices that the block has."""
        if not self.by_index:
            for copy, row, column in itertools.product(*map(_sums, self.parts)):
                self.by_index[self.start + copy + row + column] = copy, row, column
        return self.by_index

    def many(self, side: int) -> int:
        """How many rows or columns the indices tell apart."""
        return count(self.parts[side])


def _places(block: Block, axis: int, shape: Shape) -> _Places | None:
    parts = [along(digits, shape) for digits in block[1:]]
    found = [part[axis] for part in parts if part is not None]
    return _Places(starts(block.offset, shape)[axis], found) if len(found) == len(parts) else None


def _block_kept(axes: Sequence[_Axis], places: Sequence[_Places], moved: int) -> bool:
    """The same of one block of matrices; one that the rotation does not meet is kept."""
    looked = [axis for axis, each in enumerate(axes) if not each.full]
    if any(not any(i in places[axis].at() for _, fibre in axes[axis].fibres() for i in fibre) for axis in looked):
        return True
    sides = set()
    for _, fibre in axes[moved].fibres():
        inside = [places[moved].at()[i] for i in fibre if i in places[moved].at()]
        copies, rows, columns = (len({place[part] for place in inside}) for part in range(3))
        if inside and (len(inside) < len(fibre) or copies > 1 or min(rows, columns) > 1):
            return False
        sides |= {_ROW if rows > 1 else _COLUMN} if inside else set()
    if len(sides) != 1:
        return False
    (side,) = sides
    other = _ROW + _COLUMN - side
    return all(_alike(axes[axis], places[axis], side, other) for axis in looked)


def _alike(axis: _Axis, places: _Places, side: int, other: int) -> bool:
    """Are all columns of every row (rows of every column) turned, by one element?"""
    turned: dict[tuple[int, int], tuple[set[int], set[int]]] = {}
    for copy, fibre in axis.fibres():
        for place in (places.at()[i] for i in fibre if i in places.at()):
            elements, reached = turned.setdefault((place[0], place[side]), (set(), set()))
            elements.add(copy)
            reached.add(place[other])
    return all(len(elements) == 1 and len(reached) == places.many(other) for elements, reached in turned.values())


def _sums(digits: Digits) -> list[int]:
    """Every number that the digits stand for."""
    return [sum(values) for values in itertools.product(*(range(0, size * step, step) for size, step in digits))]


__all__ = ["compatible"]
