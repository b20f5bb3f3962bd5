"""Rows of the lowering table for truth values, which are 0 and 1, and for what is chosen by them.

What this module does not do: what a step function lets through is found from its definition (`gaugec.laws`).
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from gaugec.graph.builder import Builder, Ref
from gaugec.graph.ir import Contraction, Leaf, Opaque
from gaugec.tracing.aten import number, row

SWALLOWS = Fraction(-(2**128 - 2**120))  # the least bfloat16: what a model adds to that is less than its last digit


# -- truth values, as 0 and 1 ------------------------------------------------------------------------------------
def _difference(b: Builder, x: Ref, y: Any, sign: int) -> Ref:
    """sign * (x - y)"""
    one = Fraction(sign)
    return b.add(x, y, coefficients=[one, -one]) if isinstance(y, Ref) else b.add(
        x, coefficients=[one], constant=-one * number(y)
    )


def _step(b: Builder, x: Ref, y: Any, sign: int) -> Ref:
    """1 where x > y (sign 1) or x < y (sign -1), else 0."""
    if not isinstance(y, Ref) and not number(y):
        return b.map("step", x if sign == 1 else b.mul(x, coefficient=Fraction(-1)))
    return b.map("step", _difference(b, x, y, sign))


def _not(b: Builder, x: Ref) -> Ref:
    return b.add(x, coefficients=[Fraction(-1)], constant=Fraction(1))


@row("gt", "greater")
def _greater(b: Builder, shape: tuple[int, ...], x: Ref, y: Any) -> Ref:
    return _step(b, x, y, 1)


@row("lt", "less")
def _less(b: Builder, shape: tuple[int, ...], x: Ref, y: Any) -> Ref:
    return _step(b, x, y, -1)


@row("le", "less_equal")
def _at_most(b: Builder, shape: tuple[int, ...], x: Ref, y: Any) -> Ref:
    return _not(b, _step(b, x, y, 1))


@row("ge", "greater_equal")
def _at_least(b: Builder, shape: tuple[int, ...], x: Ref, y: Any) -> Ref:
    return _not(b, _step(b, x, y, -1))


@row("ne", "not_equal")
def _unlike(b: Builder, shape: tuple[int, ...], x: Ref, y: Any) -> Ref:
    return b.add(_step(b, x, y, 1), _step(b, x, y, -1))


@row("eq")
def _alike(b: Builder, shape: tuple[int, ...], x: Ref, y: Any) -> Ref:
    return _not(b, _unlike(b, shape, x, y))


@row("logical_not", "bitwise_not")
def _negated(b: Builder, shape: tuple[int, ...], x: Ref) -> Ref:
    return _not(b, x) if _known(b, x) else b.opaque(b.source, [x], shape)


@row("logical_and", "bitwise_and")
def _both(b: Builder, shape: tuple[int, ...], x: Ref, y: Any) -> Ref:
    refs = [v for v in (x, y) if isinstance(v, Ref)]
    return b.mul(*refs) if len(refs) == 2 and all(_known(b, v) for v in refs) else b.opaque(b.source, refs, shape)


def _known(b: Builder, x: Ref) -> bool:
    """Is a value a truth value that is made of comparisons, and of nothing unknown?"""
    return b.truth and x.node in b.boolean and b.nodes[x.node].type not in (Leaf, Opaque)


# -- choosing ----------------------------------------------------------------------------------------------------
@row("where")
def _where(b: Builder, shape: tuple[int, ...], condition: Ref, x: Any, y: Any) -> Ref:
    if b.nodes[condition.node].type in (Leaf, Opaque):
        yes = b.opaque("condition", [condition], condition.shape)
        no = b.opaque("condition, negated", [condition], condition.shape)
    else:
        yes, no = condition, _not(b, condition)
    for mask, value, other in ((no, y, x), (yes, x, y)):
        if isinstance(other, Ref) and not b.zero(other) and _swallows(b, value):  # x or -inf is x + (0 or -inf)
            return b.expand(b.add(other, b.opaque("-inf where chosen", [mask], mask.shape)), shape)
    terms = [_chosen(b, mask, value) for mask, value in ((yes, x), (no, y)) if not _zero(b, value)]
    if not terms:
        return b.scalar(Fraction(0), shape)
    return b.expand(terms[0], shape) if len(terms) == 1 else b.add(*terms)


def _swallows(b: Builder, value: Any) -> bool:
    """Is it minus infinity, or the least number of a type, which stays what it is whatever a model adds to it?"""
    if isinstance(value, Ref):
        node = b.nodes[value.node]
        return node.type is Contraction and not node.operands and node.own["coefficient"] <= SWALLOWS
    return isinstance(value, float) and value <= float(SWALLOWS)


def _zero(b: Builder, value: Any) -> bool:
    """Is nothing chosen there?  (A scale and a rotation leave it, as they leave what is not there.)"""
    return b.zero(value) if isinstance(value, Ref) else value == 0


def _chosen(b: Builder, mask: Ref, value: Any) -> Ref:
    if isinstance(value, Ref):
        return b.mul(value, mask)
    if isinstance(value, float) and not math.isfinite(value):
        return b.opaque(f"{value} where chosen", [mask], mask.shape)
    return b.mul(mask, coefficient=number(value))


@row("masked_fill")
def _masked_fill(b: Builder, shape: tuple[int, ...], x: Ref, mask: Ref, value: Any) -> Any:
    return _where(b, shape, mask, value, x)
