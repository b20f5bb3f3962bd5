"""Linear algebra of compiled gauges, as pure functions.

Every tensor has a batch axis in front: parameters of equal shape are stacked, and what is computed from them is
[batch, copies, size, ...].  A `Slice` says by strides which elements of a parameter an action moves, and how they are
laid out as copies, group axis and rest.  `Values` hold some slots only, or some rows of a slot: what fits in a cache.

Not here: any gauge, any parameter name, any state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

Axes = tuple[tuple[int, int], ...]
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Slice:
    """Elements of a parameter: slot, offset, and the axes (size, stride) of copies, group, rotary pair and rest.

    A coefficient has shape [batch, copies, group]; everything that follows is summed over or broadcast.
    dense: where the slice is one contiguous run, its length, the sizes in the order of the memory, and how to permute
    them; views and permutations are what a graph compiler can fuse, strides are not.
    """

    slot: str
    offset: int
    copies: Axes
    group: Axes
    pair: Axes
    rest: Axes
    dense: tuple[int, tuple[int, ...], tuple[int, ...]] | None = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Find out whether the slice is dense."""
        object.__setattr__(self, "dense", contiguous(self.copies + self.group + self.pair + self.rest))


def contiguous(axes: Axes) -> tuple[int, tuple[int, ...], tuple[int, ...]] | None:
    """Length of the run that axes make, sizes in the order of the memory, how to permute them; None for no run."""
    order = sorted(range(len(axes)), key=lambda i: -axes[i][1])
    run = 1
    for i in reversed(order):
        if axes[i][1] != run:
            return None
        run *= axes[i][0]
    return run, tuple(axes[i][0] for i in order), (0, *(order.index(i) + 1 for i in range(len(axes))))


class Values(dict[str, Tensor]):
    """Tensors of some slots; what goes slot by slot passes over the slots that are absent.

    span: for a slot of which only some rows are held, the elements from and to; the compiler says where to cut.
    """

    def __init__(self, values: Mapping[str, Tensor], span: Mapping[str, tuple[int, int]] | None = None) -> None:
        super().__init__(values)
        self.span: Mapping[str, tuple[int, int]] = span or {}


class Window(NamedTuple):
    """The part of a slice that is at hand, and which of the coefficient's entries belong to it.

    part: in the tensor at hand; whole: the slice; axis: the axis of copies and group that is cut, start: its first.
    """

    part: Slice
    whole: Slice
    axis: int | None
    start: int

    def narrow(self, coefficient: Tensor) -> Tensor:
        """View [batch, copies, group] as [batch, *copies, *group], the entries at hand."""
        x = coefficient.reshape(coefficient.shape[0], *[n for n, _ in self.whole.copies + self.whole.group])
        return self._cut(x)

    def spread(self, coefficient: Tensor) -> Tensor:
        """Reshape a coefficient [batch, copies, group] so that it broadcasts against `cut`."""
        x = self.narrow(coefficient)
        return x.view(*x.shape, *[1 for _ in self.part.pair + self.part.rest])

    def _cut(self, x: Tensor) -> Tensor:
        if self.axis is None:
            return x
        return x.narrow(1 + self.axis, self.start, (self.part.copies + self.part.group)[self.axis][0])


def window(values: Mapping[str, Tensor], part: Slice) -> Window | None:
    """What values hold of a slice; None where that is nothing."""
    if part.slot not in values:
        return None
    span = values.span.get(part.slot) if isinstance(values, Values) else None
    return Window(part, part, None, 0) if span is None else _window(part, *span)


@lru_cache(maxsize=4096)
def _window(part: Slice, low: int, high: int) -> Window | None:
    if part.dense is None:
        raise ValueError(f"{part} is not contiguous: it cannot be cut into rows")
    first, last = max(low, part.offset), min(high, part.offset + part.dense[0])
    if first >= last:
        return None
    axes = list(part.copies + part.group + part.pair + part.rest)
    i = max(range(len(axes)), key=lambda i: axes[i][1])
    start, count = (first - part.offset) // axes[i][1], (last - first) // axes[i][1]
    axes[i] = (count, axes[i][1])
    ends = (len(part.copies), len(part.copies + part.group), len(part.copies + part.group + part.pair))
    pieces = (axes[: ends[0]], axes[ends[0] : ends[1]], axes[ends[1] : ends[2]], axes[ends[2] :])
    here = Slice(part.slot, first - low, *(tuple(piece) for piece in pieces))
    return Window(here, part, i if i < ends[1] else None, start)


def product(axes: Axes) -> int:
    """How many elements axes reach."""
    return math.prod([size for size, _ in axes])


class Kept(dict[str, Tensor]):
    """Tensors that stay where they are, so that their slices are found once."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__(values)
        self.slices: dict[Slice, Tensor] = {}

    def __setitem__(self, slot: str, value: Tensor) -> None:
        raise TypeError(f"{slot!r} is kept")


def cut(values: Mapping[str, Tensor], part: Slice) -> Tensor:
    """Return the slice as a view [batch, *copies, *group, *pair, *rest] of the contiguous tensor values[part.slot]."""
    if not isinstance(values, Kept):
        return _cut(values[part.slot], part)
    if part not in values.slices:
        values.slices[part] = _cut(values[part.slot], part)
    return values.slices[part]


def _cut(x: Tensor, part: Slice) -> Tensor:
    if part.dense is not None:
        run, sizes, order = part.dense
        x = x.flatten(1)
        if run != x.shape[1]:
            x = x[:, part.offset : part.offset + run]
        return x.view(x.shape[0], *sizes).permute(order)
    axes = part.copies + part.group + part.pair + part.rest
    return x.as_strided(
        [x.shape[0], *[size for size, _ in axes]],
        [x.stride(0), *[stride for _, stride in axes]],
        x.storage_offset() + part.offset,
    )


def spread(coefficient: Tensor, part: Slice) -> Tensor:
    """Reshape a coefficient [batch, copies, group] so that it broadcasts against `cut`."""
    sizes = [size for size, _ in part.copies + part.group]
    return coefficient.reshape(coefficient.shape[0], *sizes, *[1 for _ in part.pair + part.rest])


def fold(x: Tensor, part: Slice, dtype: torch.dtype | None = torch.float64) -> Tensor:
    """Sum a view of `cut`'s shape over pair and rest: [batch, copies, group]."""
    inner = len(part.pair) + len(part.rest)
    if inner:
        x = x.sum(tuple(range(x.dim() - inner, x.dim())))
    return x.reshape(x.shape[0], product(part.copies), product(part.group)).to(dtype)


def rows(values: Mapping[str, Tensor], part: Slice) -> Tensor:
    """Return the slice as matrices [batch, copies, group, rest] (a copy where the strides ask for one)."""
    x = cut(values, part)
    return x.reshape(x.shape[0], product(part.copies), product(part.group), -1)


def planes(values: Mapping[str, Tensor], part: Slice) -> tuple[Tensor, Tensor]:
    """Return the first and second coordinates of every rotary pair, as views."""
    x = cut(values, part)
    axis = 1 + len(part.copies) + len(part.group)
    return x.select(axis, 0), x.select(axis, 1)


@lru_cache(maxsize=4096)
def plane(part: Slice) -> Slice:
    """The slice of one coordinate of every pair: `spread` and `fold` for what `planes` returns."""
    return replace(part, pair=())
