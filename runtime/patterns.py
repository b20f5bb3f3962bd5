"""Letter patterns in einops' notation: which elements of a tensor are meant, and how they are laid out.

    tensor                 pattern        of a tensor [60, 48]
    "q_proj"               "(c r k) m"    axes c, r, k of the 60 rows, in this order, and m, all of the 48 columns
    "qkv[20:40, :]"        "(c k) m"      the same of the rows 20 to 39 alone

Sizes that the shape leaves open are given; of each dimension one may stay open.  The standard library only.

Not here: what an axis is for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_DIMENSION = re.compile(r"\(([^()]*)\)|([^\s()]+)")
_RANGE = re.compile(r"([0-9]+):([0-9]+)")


class Letter(NamedTuple):
    """An axis of a pattern: its name, its size, and the distance of its entries in elements."""

    name: str
    size: int
    stride: int


def slot(tensor: str) -> str:
    """The name of a tensor without its box."""
    return tensor.partition("[")[0]


def names(pattern: object) -> list[str]:
    """The names of the axes of a pattern; none of what is no pattern."""
    return re.findall(r"[a-z][0-9]*", pattern) if isinstance(pattern, str) else []


def read(tensor: str, pattern: str, shape: Sequence[int], sizes: Mapping[str, int]) -> tuple[int, tuple[Letter, ...]]:
    """Where the pattern starts in a contiguous tensor of this shape, in elements, and its axes in the order written.

    Raises ValueError where the pattern does not fit the shape.
    """
    where = f"{tensor!r}, {pattern!r}"
    dimensions = [(inner or alone).split() for inner, alone in _DIMENSION.findall(pattern)]
    ranges = _box(tensor, shape)
    if len(dimensions) != len(shape):
        raise ValueError(f"{where}: {len(dimensions)} dimensions are written, the tensor has {len(shape)}")
    offset = 0
    axes: list[Letter] = []
    for i, (names, (low, high)) in enumerate(zip(dimensions, ranges)):
        names = [name for name in names if name != "1"]
        stride = math.prod(shape[i + 1 :])
        offset += low * stride
        known = math.prod(sizes[name] for name in names if name in sizes)
        unknown = [name for name in names if name not in sizes]
        if len(unknown) > 1 or not known or (high - low) % known or (not unknown and known != high - low):
            raise ValueError(f"{where}: the sizes {dict(sizes)} do not fit dimension {i}, of {high - low} entries")
        here: list[Letter] = []
        for name in reversed(names):
            size = sizes.get(name, (high - low) // known)
            here.append(Letter(name, size, stride))
            stride *= size
        axes += reversed(here)
    return offset, tuple(axes)


def _box(tensor: str, shape: Sequence[int]) -> list[tuple[int, int]]:
    """From where to where each dimension is meant."""
    name, bracket, box = tensor.partition("[")
    if not bracket:
        return [(0, n) for n in shape]
    texts = [text.strip() for text in box.removesuffix("]").split(",")]
    out = []
    for text, n in zip(texts, shape):
        match = _RANGE.fullmatch(text)
        low, high = (0, n) if text == ":" else (int(match[1]), int(match[2])) if match else (0, 0)
        if not 0 <= low < high <= n:
            raise ValueError(f"{tensor!r}: {text!r} is no range of the {n} entries of a dimension")
        out.append((low, high))
    if len(texts) != len(shape):
        raise ValueError(f"{tensor!r}: {name} has {len(shape)} dimensions")
    return out
