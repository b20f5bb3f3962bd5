"""Frames solved: the scale that makes the two sides of a `fix` line equal, as a Term of our own.

The sides are Terms over the scale s and the norms n0, n1, ...  An equation that is short, and on either side one power
of s, has one solution, which is written down; any other is solved in a process that can be killed (see
`gaugec.laws.oracle`).
"""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import Any

import sympy

from gaugec import limits
from gaugec.laws import oracle
from gaugec.laws.pointwise import expression
from gaugec.operators import Term

_PLAIN = 40  # operations of an equation A s^a = B s^b that is solved right here
_DEGREE = 8


class Unsolved(Exception):
    """There is not exactly one positive solution that can be written down; the message says why."""


def root(left: Term, right: Term) -> tuple[Term, tuple[str, ...]]:
    """The scale s > 0 at which left == right: a Term over n0, n1, ..., and the symbols of the sides that these were.

    Raises:
        Unsolved: there is none, there are several, or it was not found within the limits of the proof.
    """
    if not _scaled(left) and not _scaled(right):
        raise Unsolved("this fix has no positive solution for the scale, it must have one")
    plain = _size(left) + _size(right) <= _PLAIN
    try:
        found = _monomial(left, right) if plain else None
        found = found or oracle.ask("root", left, right) or ("", "sympy broke off")
    except limits.Exceeded as exceeded:
        raise Unsolved(f"this fix is not solved: {exceeded}") from exceeded
    solution, *more = found
    if solution == "":
        raise Unsolved(more[0])
    return solution, tuple(more)


def _size(term: Term) -> int:
    return 1 + sum(map(_size, term[1:])) if isinstance(term, tuple) else 1


def _scaled(term: Term) -> bool:
    """Is the scale in it?"""
    return any(map(_scaled, term[1:])) if isinstance(term, tuple) else term == "s"


def _power(term: Term) -> Fraction | None:
    """The power of s that a side is a multiple of; None where it is a sum of several, or has a large exponent."""
    if not isinstance(term, tuple):
        return Fraction(int(term == "s"))
    head, *operands = term
    if head == "pow":
        inner, exponent = _power(operands[0]), Fraction(operands[1])
        small = inner == 0 or (abs(exponent) <= _DEGREE and exponent.denominator <= _DEGREE)
        power = inner * exponent if inner is not None and small else None
    else:
        powers = [_power(operand) for operand in operands if head == "mul" or operand != 0]
        if None in powers or (head == "add" and len(set(powers)) > 1):
            return None
        known = [power for power in powers if power is not None] or [Fraction(0)]
        power = sum(known, Fraction(0)) if head == "mul" else known[0]
    return power if power is not None and abs(power) <= _DEGREE else None


@functools.cache  # gauges are alike in what they fix, and sympy takes its time
def _monomial(left: Term, right: Term) -> tuple[Term, ...] | None:
    """The solution of A s^a = B s^b, as `solve` gives it; None where the sides are not such, or may not be positive."""
    powers = _power(left), _power(right)
    if powers[0] is None or powers[1] is None or powers[0] == powers[1]:
        return None
    sides = [expression(side, None).subs(_positive("s"), 1) for side in (left, right)]
    if not all(side.is_positive for side in sides):
        return None
    degree = 1 / (powers[0] - powers[1])
    found = sympy.powdenest((sides[1] / sides[0]) ** sympy.Rational(degree.numerator, degree.denominator))
    try:
        return _renumbered(found if _simple(found) else sympy.simplify(found))
    except ValueError:
        return None


def _simple(expr: Any) -> bool:
    """Is it a product of powers of symbols, which nothing makes simpler?"""
    return all(factor.as_base_exp()[0].is_Symbol for factor in sympy.Mul.make_args(expr))


# --- asked of sympy --------------------------------------------------------------------------------------------------
def solve(left: Term, right: Term) -> tuple[Term, ...]:
    """The solution, then the symbols that its n0, n1, ... were; where there is not exactly one: "", and why."""
    scale = sympy.Symbol("s", positive=True)
    try:
        solutions = [x for x in sympy.solve(expression(left, None) - expression(right, None), scale) if x.is_positive]
        if len(solutions) == 1:
            return _renumbered(sympy.simplify(solutions[0]))
    except (NotImplementedError, StopIteration, ValueError, TypeError, RecursionError) as error:
        return "", f"sympy cannot solve this fix: {error}"
    count = "no positive solution" if not solutions else f"{len(solutions)} positive solutions"
    return "", f"this fix has {count} for the scale, it must have one"


def _renumbered(expr: Any) -> tuple[Term, ...]:
    used = sorted((x.name for x in expr.free_symbols if x.name != "s"), key=lambda name: int(name[1:]))
    if not used:
        raise ValueError("the solution reads no parameter")
    new = {_positive(name): _positive(f"n{j}") for j, name in enumerate(used)}
    return (_term(expr.subs(new, simultaneous=True)), *used)


def _positive(name: str) -> Any:
    return sympy.Symbol(name, positive=True)


def _term(expr: Any) -> Term:
    """A sympy expression of symbols, rational numbers, sums, products and powers; a quotient is u * d**(-1).

    Raises:
        ValueError: it holds something else.
    """
    if isinstance(expr, sympy.Symbol):
        return str(expr.name)
    if isinstance(expr, sympy.Rational):
        return Fraction(int(expr.p), int(expr.q))
    if isinstance(expr, sympy.Add):
        return ("add", *map(_term, expr.as_ordered_terms()))
    if isinstance(expr, sympy.Pow | sympy.Mul):
        up, down = sympy.fraction(expr)
        if down != 1:
            return ("mul", _term(up), ("pow", _term(down), -1))
    if isinstance(expr, sympy.Mul):
        return ("mul", *map(_term, expr.as_ordered_factors()))
    if isinstance(expr, sympy.Pow) and isinstance(expr.exp, sympy.Rational):
        return ("pow", _term(expr.base), Fraction(int(expr.exp.p), int(expr.exp.q)))
    raise ValueError(f"the solution holds a {type(expr).__name__}")
