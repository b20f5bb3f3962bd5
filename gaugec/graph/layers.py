"""Layers that formulas and models have in common, spelled out once in the builder's few operations.

A LayerNorm is means and a power, a product of matrices is one contraction, so that no law about them needs to be
believed.  Formulas (`gaugec.language.lower`) and models (`gaugec.tracing.aten`) meet here step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from gaugec.graph.builder import Builder, Ref

HALF = Fraction(1, 2)
_LETTERS = "abcdfghijloprstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def axes(count: int, *, after: int = 0) -> str:
    """One letter for each of so many axes; those that contractions name themselves (e k m n q) are left to them."""
    return _LETTERS[after : after + count]


def centred(b: Builder, x: Ref, positions: Sequence[int]) -> Ref:
    """x minus its mean over the axes."""
    return b.add(x, b.total(x, positions, mean=True), coefficients=[Fraction(1), Fraction(-1)])


def over_root(b: Builder, x: Ref, positions: Sequence[int], eps: Fraction) -> Ref:
    """x divided by the root of its mean square over the axes (plus eps)."""
    square = b.total(b.mul(x, x), positions, mean=True)
    return b.mul(x, b.power(b.add(square, constant=eps) if eps else square, -HALF))


def matmul(b: Builder, x: Ref, y: Ref) -> Ref:
    """x @ y: vectors, matrices, and batches of them that are broadcast."""
    if len(x.shape) == 1 and len(y.shape) == 1:
        return b.einsum([x, y], ["k", "k"], "")
    if len(y.shape) == 1:
        batch = axes(len(x.shape) - 1)
        return b.einsum([x, y], [batch + "k", "k"], batch)
    rank = max(len(x.shape), len(y.shape)) - 2
    batch = axes(rank)
    left = batch[rank - (len(x.shape) - 2) :] if len(x.shape) > 1 else ""
    right = batch[rank - (len(y.shape) - 2) :]
    rows = "m" if len(x.shape) > 1 else ""
    return b.einsum([x, y], [left + rows + "k", right + "kn"], batch + rows + "n")


def dropout(b: Builder, x: Ref) -> Ref:
    """x times a mask that is drawn anew in every forward."""
    return b.mul(x, b.leaf("input", "dropout", x.shape, random=True))


def cross_entropy(b: Builder, logits: Ref, target: Ref) -> Ref:
    """The loss of logits whose last axis are the classes, the mean over all rows."""
    return b.along("cross_entropy", logits, [len(logits.shape) - 1], keep=False, data=[target], out=[])
