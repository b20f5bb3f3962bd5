"""Layers that formulas and models have in common, spelled out once in sums and products."""

from __future__ import annotations

from fractions import Fraction

from gaugec.graph.builder import Builder, Ref


# -- norms -------------------------------------------------------------------------------------------------------
def centred(b: Builder, x: Ref, positions: list[int]) -> Ref:
    """x minus its mean over the axes."""
    return b.add(x, b.total(x, positions, mean=True), coefficients=[Fraction(1), Fraction(-1)])


def over_root(b: Builder, x: Ref, positions: list[int], eps: Fraction) -> Ref:
    """x divided by the root of its mean square over the axes (plus eps)."""
    square = b.total(b.mul(x, x), positions, mean=True)
    return b.mul(x, b.power(b.add(square, constant=eps) if eps else square, -HALF))


HALF = Fraction(1, 2)
