"""How large an `op` line is when it is written out, and when it is multiplied out: an estimate, before anyone tries.

The laws of an operator are found by computer algebra, which multiplies out.  A definition that would become too large
is refused here, with the reason and the place; what is small enough and still hard is stopped by its time limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from gaugec.errors import SpecError
from gaugec.language import tree as t
from gaugec.operators import BY_NAME, Term

MAX_SIZE = 1_000  # operations, with the definitions of the operators that it calls written out
MAX_DEPTH = 150  # of operations
MAX_TERMS = 1_000  # of any part of it, multiplied out
MAX_DEGREE = 1_000
MAX_DIGITS = 1_000
_CAP = 10**9


@dataclass(frozen=True)
class Measure:
    """Operations, nesting, terms when multiplied out (of the whole, and the most of any part), degree, bits."""

    size: int = 1
    depth: int = 1
    terms: int = 1
    most: int = 1
    degree: int = 0
    bits: int = 0


def bounded(operator: t.Operator) -> None:
    """Raises SpecError for an operator whose definition is too large to look for laws."""
    found = _measure(operator.expr, operator.argument)
    digits = int(found.bits * math.log10(2))
    for what, value, most in (
        ("has more than {} operations", found.size, MAX_SIZE),
        ("has operations nested more than {} deep", found.depth, MAX_DEPTH),
        ("has more than {} terms", found.most, MAX_TERMS),
        ("has a degree of more than {}", found.degree, MAX_DEGREE),
        ("has numbers of more than {} digits", digits, MAX_DIGITS),
    ):
        if value > most:
            message = f"the op '{operator.name}', multiplied out, {what.format(f'{most:,}')}"
            raise SpecError(message, operator.expr.span, "its laws cannot be looked for: write a smaller formula")


def _measure(expr: t.Expr, argument: str) -> Measure:
    match expr:
        case t.Number(value=value):
            return _number(value)
        case t.Name():
            return Measure(degree=1)
        case t.Negate(x=x):
            return _times(_number(Fraction(-1)), _measure(x, argument))
        case t.Binary(op="**", left=left, right=t.Number(value=exponent)):
            return _power(_measure(left, argument), exponent)
        case t.Binary(op="+" | "-", left=left, right=right):
            return _plus(_measure(left, argument), _measure(right, argument))
        case t.Binary(op="/", left=left, right=right):
            return _times(_measure(left, argument), _power(_measure(right, argument), Fraction(-1)))
        case t.Binary(left=left, right=right):
            return _times(_measure(left, argument), _measure(right, argument))
        case t.Call(op=name, args=args):
            parts = [_measure(arg, argument) for arg in args]
            row = BY_NAME.get(name)
            if row is not None and row.definition is not None and len(parts) == 1:
                return _put(row.definition, parts[0])
            return _function(parts)
    return Measure()


def _put(term: Term, x: Measure) -> Measure:
    """The measure of a definition whose argument has the measure x."""
    if not isinstance(term, tuple):
        return x if term == "x" else Measure() if isinstance(term, str) else _number(Fraction(term))
    head, *operands = term
    if head == "pow":
        return _power(_put(operands[0], x), Fraction(operands[1]))
    parts = [_put(operand, x) for operand in operands]
    if head not in ("add", "mul"):
        return _function(parts)
    total = parts[0]
    for part in parts[1:]:
        total = _plus(total, part) if head == "add" else _times(total, part)
    return total


def _number(value: Fraction) -> Measure:
    return Measure(bits=value.numerator.bit_length() + value.denominator.bit_length() - 1)


def _joined(a: Measure, b: Measure, terms: int, degree: int) -> Measure:
    terms = min(terms, _CAP)
    return Measure(
        size=min(a.size + b.size + 1, _CAP),
        depth=max(a.depth, b.depth) + 1,
        terms=terms,
        most=max(a.most, b.most, terms),
        degree=min(degree, _CAP),
        bits=min(a.bits + b.bits, _CAP),
    )


def _plus(a: Measure, b: Measure) -> Measure:
    return _joined(a, b, a.terms + b.terms, max(a.degree, b.degree))


def _times(a: Measure, b: Measure) -> Measure:
    return _joined(a, b, a.terms * b.terms, a.degree + b.degree)


def _power(a: Measure, exponent: Fraction) -> Measure:
    """A root of a sum stays whole; its square and its inverse square are multiplied out."""
    n = max(1, math.ceil(abs(exponent)))
    terms = math.comb(a.terms + n - 1, n) if a.terms < _CAP else _CAP
    made = _joined(a, Measure(), min(terms, _CAP), a.degree * n)
    return Measure(made.size, made.depth, made.terms, made.most, made.degree, min(a.bits * n, _CAP))


def _function(parts: list[Measure]) -> Measure:
    """A function of its arguments is one thing in the sums around it."""
    return Measure(
        size=min(1 + sum(part.size for part in parts), _CAP),
        depth=1 + max((part.depth for part in parts), default=0),
        most=max((part.most for part in parts), default=1),
        degree=max((part.degree for part in parts), default=0),
        bits=min(sum(part.bits for part in parts), _CAP),
    )
