"""Strides written as axis patterns, where a slice is a box of its tensor: the inverse of `gaugec.runtime.patterns`.

Not here: which slices there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import NamedTuple

WHOLE, PART = "mnoqabdefgh", "rstuvwxyz"  # letters of axes that are a whole dimension, or a part of one


class AxisPattern(NamedTuple):
    """box: which part of the tensor, "" for all of it; text: the axes; sizes: what the shape leaves open."""

    box: str
    text: str
    sizes: dict[str, int]


class _Factor(NamedTuple):
    """A part of an axis within one dimension: kind, its number in the order of the axes, its size and its step."""

    kind: str
    number: int
    dimension: int
    size: int
    step: int


def pattern(
    shape: Sequence[int],
    offset: int,
    axes: Sequence[tuple[str, int, int]],
    known: Mapping[str, int],
    named: bool = False,
) -> AxisPattern | None:
    """Axes (kind, size, stride) from an offset as a pattern; None where no pattern says that.

    kind: "c", "k", "p", or "r" for axes without a meaning, which are merged where they follow on one another; where
    `named` the names themselves, but for "r".  An axis that runs over several dimensions is split.  known: sizes that a
    reader knows of names that stand alone ("c", "k").
    """
    factors = _factors(shape, axes)
    if factors is None or (named and len(factors) > len(axes)) or not 0 <= offset < max(1, prod(shape)):
        return None
    ranges, dimensions = [], []
    for i, n in enumerate(shape):
        here = sorted((factor for factor in factors if factor.dimension == i), key=lambda factor: -factor.step)
        extent = 1
        for factor in reversed(here):
            if factor.step != extent:
                return None
            extent *= factor.size
        low = offset // prod(shape[i + 1 :]) % n
        if low + extent > n:
            return None
        ranges.append(":" if extent == n else f"{low}:{low + extent}")
        dimensions.append(here)
    shown = [factor for here in dimensions for factor in here]
    for kind in "r" if named else "ckpr":
        numbers = [factor.number for factor in shown if factor.kind == kind]
        if numbers != sorted(numbers):
            return None
    names = _names(dimensions, named)
    if names is None:
        return None
    texts = []
    sizes: dict[str, int] = {}
    for here in dimensions:
        words = [names[factor.number] for factor in here]
        texts.append(f"({' '.join(words)})" if len(words) > 1 else (words or ["1"])[0])
        unknown = [factor for factor in here if names[factor.number] not in known]
        open_one = next((factor for factor in unknown if factor.kind == "r"), unknown[0] if unknown else None)
        sizes |= {names[factor.number]: factor.size for factor in unknown if factor is not open_one}
    box = "" if set(ranges) <= {":"} else f"[{', '.join(ranges)}]"
    return AxisPattern(box, " ".join(texts), sizes)


def _factors(shape: Sequence[int], axes: Sequence[tuple[str, int, int]]) -> list[_Factor] | None:
    """Axes taken apart by dimension, and put together within one where they have no meaning."""
    strides = [prod(shape[i + 1 :]) for i in range(len(shape))]
    out: list[_Factor] = []
    for kind, size, stride in axes:
        parts: list[_Factor] = []
        while size > 1:
            i = next((i for i, n in enumerate(shape) if strides[i] <= stride < strides[i] * n), None)
            if i is None or stride % strides[i]:
                return None
            room, left = divmod(strides[i] * shape[i], stride)
            if size > room and (left or size % room):
                return None
            parts.insert(0, _Factor(kind, 0, i, min(size, room), stride // strides[i]))
            size, stride = size // min(size, room), stride * room
        for part in parts:
            last = out[-1] if out else None
            follows = last and last.dimension == part.dimension and last.step == part.size * part.step
            if last and follows and last.kind == part.kind == "r":
                out[-1] = last._replace(size=last.size * part.size, step=part.step)
            else:
                out.append(part)
    return [factor._replace(number=number) for number, factor in enumerate(out)]


def _names(dimensions: Sequence[Sequence[_Factor]], named: bool) -> dict[int, str] | None:
    """A name for every factor, by its number."""
    factors = [factor for here in dimensions for factor in here]
    taken = {factor.kind for factor in factors} if named else set()
    whole, part = (iter([name for name in names if name not in taken]) for names in (WHOLE, PART))
    out: dict[int, str] = {}
    for kind in {factor.kind for factor in factors} - {"r"}:
        same = [factor.number for factor in factors if factor.kind == kind]
        out |= {number: kind if len(same) == 1 else f"{kind}{j}" for j, number in enumerate(same, 1)}
    for here in dimensions:
        for factor in here:
            if factor.kind == "r":
                name = next(whole if len(here) == 1 else part, None)
                if name is None:
                    return None
                out[factor.number] = name
    return out
