"""Numbers along an axis in mixed radix: which ones a row of digits stands for, and which digits a set of them has.

What this module does not do: it knows no graph, and not what is numbered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

Digits = tuple[tuple[int, int], ...]  # (size, stride), the largest stride first


def count(digits: Iterable[tuple[int, int]]) -> int:
    """How many numbers the digits stand for, where no two of their values are one number."""
    return math.prod(size for size, _ in digits)


def merged(digits: Iterable[tuple[int, int]]) -> Digits:
    """The same numbers by as few digits as possible."""
    out: list[tuple[int, int]] = []
    for size, stride in sorted(digits, key=lambda digit: digit[1]):
        if size > 1 and out and out[-1][0] * out[-1][1] == stride:
            out[-1] = (out[-1][0] * size, out[-1][1])
        elif size > 1:
            out.append((size, stride))
    return tuple(reversed(out))


def apart(digits: Iterable[tuple[int, int]]) -> bool:
    """Is every digit too coarse for what the finer ones reach, so that no two values are one number?"""
    reach = 0
    for size, stride in sorted(digits, key=lambda digit: digit[1]):
        if size > 1:
            if stride <= reach:
                return False
            reach += (size - 1) * stride
    return True


def numbers(start: int, digits: Iterable[tuple[int, int]]) -> frozenset[int]:
    """Every number that the digits stand for, from `start` on."""
    found = {start}
    for size, stride in digits:
        found = {number + stride * value for number in found for value in range(size)}
    return frozenset(found)


def factored(sorted_numbers: Sequence[int]) -> Digits | None:
    """The digits that stand for these numbers, from the first on; None where none do."""
    out: list[tuple[int, int]] = []
    left = sorted_numbers
    while len(left) > 1:
        step, size = left[1] - left[0], 1
        while size < len(left) and left[size] == left[0] + size * step:
            size += 1
        if len(left) % size:
            return None
        heads = left[::size]
        if any(left[i * size + j] != head + j * step for i, head in enumerate(heads) for j in range(size)):
            return None
        out.append((size, step))
        left = heads
    return merged(out)


def along(digits: Iterable[tuple[int, int]], shape: Sequence[int]) -> list[Digits] | None:
    """Digits of entries of a contiguous tensor as digits of its axes, for each axis; None where one crosses axes."""
    out: list[list[tuple[int, int]]] = [[] for _ in shape]
    left = [(size, stride) for size, stride in digits if size > 1]
    step = 1
    for axis in reversed(range(len(shape))):
        end = step * shape[axis]
        for size, stride in [digit for digit in left if digit[1] < end]:
            left.remove((size, stride))
            inside = min(size, -(-end // stride))
            if stride % step or size % inside or (inside < size and inside * stride != end):
                return None
            out[axis].append((inside, stride // step))
            if inside < size:
                left.append((size // inside, end))
        step = end
    return [tuple(sorted(found, key=lambda digit: -digit[1])) for found in out] if not left else None


def starts(offset: int, shape: Sequence[int]) -> tuple[int, ...]:
    """The index along every axis of an entry of a contiguous tensor."""
    out = []
    for size in reversed(shape):
        offset, index = divmod(offset, size)
        out.append(index)
    return tuple(reversed(out))


def without(digits: Digits, part: tuple[int, int]) -> Digits | None:
    """The digits that remain where a factor of one of them is taken out; None where none has such a factor."""
    size, stride = part
    for i, (whole, step) in enumerate(digits):
        low, odd = divmod(stride, step)
        if not odd and 0 < low and low * size <= whole and whole % (low * size) == 0:
            rest = ((whole // (low * size), stride * size), (low, step))
            return (*digits[:i], *(digit for digit in rest if digit[0] > 1), *digits[i + 1 :])
    return None
