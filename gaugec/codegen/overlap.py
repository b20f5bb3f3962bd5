"""Strided slices of one flat parameter, compared exactly: the standard library only.

A slice is an offset and axes; an axis is a `Digit` (size, stride) with what it means: whether the coefficient of the
action varies along it, and by what stride.  Not here: tensors, gauges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod


@dataclass(frozen=True)
class Digit:
    """One axis of a slice: `step` strides the coefficient (0: constant along it), `mixed`: the action mixes it."""

    size: int
    stride: int
    step: int = 0
    mixed: bool = False


@dataclass(frozen=True)
class Region:
    """The elements offset + sum of index * stride."""

    offset: int
    digits: tuple[Digit, ...]

    @property
    def count(self) -> int:
        """How many elements the region has."""
        return prod(digit.size for digit in self.digits)

    @property
    def end(self) -> int:
        """One past the last element."""
        return self.offset + sum((digit.size - 1) * digit.stride for digit in self.digits) + 1


@dataclass(frozen=True)
class Shared:
    """A region seen by two slices: axes (size, stride), and for both the step of the coefficient and `mixed`."""

    offset: int
    axes: tuple[tuple[int, int], ...]
    inner: tuple[Digit, ...]
    outer: tuple[Digit, ...]
    inner_start: int
    outer_start: int


def disjoint(one: Region, two: Region) -> bool:
    """Whether it is certain that no element lies in both."""
    if one.end <= two.offset or two.end <= one.offset:
        return True
    periods = {digit.stride for digit in one.digits} & {digit.stride for digit in two.digits}
    for period in sorted(periods):
        spans = []
        for region in (one, two):
            small = [digit for digit in region.digits if digit.stride < period]
            if any(digit.stride % period for digit in region.digits if digit.stride >= period):
                break
            start = region.offset % period
            spans.append((start, start + sum((digit.size - 1) * digit.stride for digit in small)))
        if len(spans) == 2 and max(end for _, end in spans) < period:
            if spans[0][1] < spans[1][0] or spans[1][1] < spans[0][0]:
                return True
    return False


def share(inner: Region, outer: Region) -> Shared | None:
    """See `inner` through the axes of `outer`; None where it does not lie inside, or lies askew."""
    rest = inner.offset - outer.offset
    if rest < 0:
        return None
    base: dict[int, int] = {}
    places = sorted(
        (i for i in range(len(outer.digits)) if outer.digits[i].size > 1), key=lambda i: -outer.digits[i].stride
    )
    for i in places:
        base[i] = min(rest // outer.digits[i].stride, outer.digits[i].size - 1)
        rest -= base[i] * outer.digits[i].stride
    if rest:
        return None
    reach = dict(base)
    axes: list[tuple[int, int]] = []
    mine: list[Digit] = []
    theirs: list[Digit] = []
    for digit in inner.digits:
        if digit.size == 1:
            continue
        pieces = []
        low = digit.stride
        for i in reversed(places):  # ascending strides
            other = outer.digits[i]
            top = min(digit.size * digit.stride, other.size * other.stride)
            if low >= digit.size * digit.stride or top <= low or low < other.stride:
                continue
            if low % other.stride or top % low:
                return None
            pieces.append((top // low, low, i))
            low = top
        if low != digit.size * digit.stride:
            return None
        for size, stride, i in reversed(pieces):
            other = outer.digits[i]
            ratio = stride // other.stride
            reach[i] += (size - 1) * ratio
            if reach[i] >= other.size:
                return None
            axes.append((size, stride))
            mine.append(Digit(size, stride, digit.step * (stride // digit.stride), digit.mixed))
            theirs.append(Digit(size, stride, other.step * ratio, other.mixed))
    start = sum(base[i] * outer.digits[i].step for i in places)
    return Shared(inner.offset, tuple(axes), tuple(mine), tuple(theirs), 0, start)


def gaps(regions: Sequence[Region], count: int) -> list[Region] | None:
    """The contiguous runs of 0..count that no region covers; None unless every region is one contiguous run."""
    out = []
    at = 0
    for region in sorted(regions, key=lambda region: region.offset):
        if region.end - region.offset != region.count or region.offset < at:
            return None
        if region.offset > at:
            out.append(Region(at, (Digit(region.offset - at, 1),)))
        at = region.end
    if at < count:
        out.append(Region(at, (Digit(count - at, 1),)))
    return out if at <= count else None
