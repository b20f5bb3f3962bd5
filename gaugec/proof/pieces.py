"""Splitting a variable that runs over several pieces of an axis, so that each part reads one piece."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gaugec.proof.algebra import Algebra
from gaugec.proof.terms import (
    Index,
    NeedSplit,
    Number,
    Polynomial,
    Undecided,
    scaled,
    shifted,
    substituted,
    variable,
)


def split(algebra: Algebra, need: NeedSplit) -> list[tuple[Index, tuple[int, ...]]]:
    """The values that replace a split variable, each with the new variables in it."""
    out: list[tuple[Index, tuple[int, ...]]] = []
    for start, length, step in need.parts:
        if length == 1:
            out.append(((start, ()), ()))
        elif length > 1:
            new = algebra.fresh(length)
            out.append((shifted(scaled(variable(new), step), start), (new,)))
    return out


def cut_at(algebra: Algebra, ix: Index, cuts: tuple[int, ...], where: str) -> NeedSplit:
    """The split of the leading variable of an index after which it straddles none of the cuts."""
    offset, terms = ix
    if not terms:
        raise Undecided(f"not supported: an index is read outside its range ({where})")
    stride, v = terms[0]
    low, high = algebra.span((offset, terms[1:]))
    size = algebra.sizes[v]
    at = [0]
    for c in sorted(cuts):
        t = -((low - c) // stride) if stride > 0 else 0
        if stride <= 0 or (t - 1) * stride + high >= c:
            if size > 64 or algebra.symbolic:
                raise Undecided(f"not supported: the pieces do not align with the axis that is read ({where})")
            return NeedSplit(v, tuple((k, 1, 1) for k in range(size)))
        if at[-1] < t < size:
            at.append(t)
    if len(at) == 1:
        raise Undecided(f"not supported: an index is read outside its range ({where})")
    return NeedSplit(v, tuple((a, b - a, 1) for a, b in zip(at, [*at[1:], size], strict=True)))


def summed(
    algebra: Algebra,
    sizes: Mapping[int, int],
    build: Callable[[dict[int, Index]], list[Polynomial]],
    coefficient: Number = 1,
) -> Polynomial:
    """coefficient * sum over the names in `sizes` of the product that `build` gives; splits what must be split."""
    names = {v: algebra.fresh(size) for v, size in sizes.items()}
    out: Polynomial = {}
    todo = [({v: variable(w) for v, w in names.items()}, tuple(names.values()))]
    while todo:
        at, taken = todo.pop()
        try:
            parts = build(at)
        except NeedSplit as need:
            if need.variable not in taken:
                raise
            rest = tuple(v for v in taken if v != need.variable)
            for value, new in split(algebra, need):
                todo.append(({v: substituted(ix, {need.variable: value}) for v, ix in at.items()}, rest + new))
            continue
        out = algebra.add((1, out), (1, algebra.product(parts, coefficient, taken)))
    return out
