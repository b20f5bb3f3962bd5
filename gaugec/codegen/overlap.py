"""Strided slices of one flat parameter, compared exactly: the standard library only.

A slice is an offset and axes; an axis is an `Axis` (size, stride) with what it means: whether the coefficient of the
action varies along it, and by what stride.  Not here: tensors, gauges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod


@dataclass(frozen=True)
class Axis:
    """One axis of a slice: `step` strides the coefficient (0: constant along it), `mixed`: the action mixes it."""

    size: int
    stride: int
    step: int = 0
    mixed: bool = False


@dataclass(frozen=True)
class Box:
    """The elements offset + sum of index * stride."""

    offset: int
    axes: tuple[Axis, ...]

    @property
    def count(self) -> int:
        """How many elements the box has."""
        return prod(axis.size for axis in self.axes)

    @property
    def end(self) -> int:
        """One past the last element."""
        return self.offset + sum((axis.size - 1) * axis.stride for axis in self.axes) + 1


@dataclass(frozen=True)
class Shared:
    """A box seen by two slices: axes (size, stride), and for both the step of the coefficient and `mixed`."""

    offset: int
    axes: tuple[tuple[int, int], ...]
    inner: tuple[Axis, ...]
    outer: tuple[Axis, ...]
    inner_start: int
    outer_start: int


def disjoint(one: Box, two: Box) -> bool:
    """Whether it is certain that no element lies in both."""
    if one.end <= two.offset or two.end <= one.offset:
        return True
    periods = {axis.stride for axis in one.axes} & {axis.stride for axis in two.axes}
    for period in sorted(periods):
        spans = []
        for box in (one, two):
            small = [axis for axis in box.axes if axis.stride < period]
            if any(axis.stride % period for axis in box.axes if axis.stride >= period):
                break
            start = box.offset % period
            spans.append((start, start + sum((axis.size - 1) * axis.stride for axis in small)))
        if len(spans) == 2 and max(end for _, end in spans) < period:
            if spans[0][1] < spans[1][0] or spans[1][1] < spans[0][0]:
                return True
    return False


def share(inner: Box, outer: Box) -> Shared | None:
    """See `inner` through the axes of `outer`; None where it does not lie inside, or lies askew."""
    rest = inner.offset - outer.offset
    if rest < 0:
        return None
    base: dict[int, int] = {}
    places = sorted(
        (i for i in range(len(outer.axes)) if outer.axes[i].size > 1), key=lambda i: -outer.axes[i].stride
    )
    for i in places:
        base[i] = min(rest // outer.axes[i].stride, outer.axes[i].size - 1)
        rest -= base[i] * outer.axes[i].stride
    if rest:
        return None
    reach = dict(base)
    axes: list[tuple[int, int]] = []
    mine: list[Axis] = []
    theirs: list[Axis] = []
    for axis in inner.axes:
        if axis.size == 1:
            continue
        pieces = []
        low = axis.stride
        for i in reversed(places):  # ascending strides
            other = outer.axes[i]
            top = min(axis.size * axis.stride, other.size * other.stride)
            if low >= axis.size * axis.stride or top <= low or low < other.stride:
                continue
            if low % other.stride or top % low:
                return None
            pieces.append((top // low, low, i))
            low = top
        if low != axis.size * axis.stride:
            return None
        for size, stride, i in reversed(pieces):
            other = outer.axes[i]
            ratio = stride // other.stride
            reach[i] += (size - 1) * ratio
            if reach[i] >= other.size:
                return None
            axes.append((size, stride))
            mine.append(Axis(size, stride, axis.step * (stride // axis.stride), axis.mixed))
            theirs.append(Axis(size, stride, other.step * ratio, other.mixed))
    start = sum(base[i] * outer.axes[i].step for i in places)
    return Shared(inner.offset, tuple(axes), tuple(mine), tuple(theirs), 0, start)


def gaps(boxes: Sequence[Box], count: int) -> list[Box] | None:
    """The contiguous runs of 0..count that no box covers; None unless every box is one contiguous run."""
    out = []
    at = 0
    for box in sorted(boxes, key=lambda box: box.offset):
        if box.end - box.offset != box.count or box.offset < at:
            return None
        if box.offset > at:
            out.append(Box(at, (Axis(box.offset - at, 1),)))
        at = box.end
    if at < count:
        out.append(Box(at, (Axis(count - at, 1),)))
    return out if at <= count else None
