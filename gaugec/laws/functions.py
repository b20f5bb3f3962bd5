"""What a pointwise function is: whether two definitions are one function, and every law that it has, in words.

Definitions are trees of `gaugec.operators.Term`.  Two are one function where sympy proves that their difference is zero
on x > 0, on x < 0 and at 0; a few numbers are tried first, because most pairs differ.

What this module does not do: it believes nothing that is declared, it knows no graph, and it asks sympy only through
`gaugec.laws.pointwise`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from gaugec import limits
from gaugec.laws import pointwise
from gaugec.operators import TABLE, Term

_POINTS = (Fraction(1, 3), Fraction(-2, 5), Fraction(7, 4), Fraction(-13, 6), Fraction(5), Fraction(-9, 2))


@dataclass(frozen=True)
class Laws:
    """The laws of one pointwise function f, each proved from its definition.

    degree: n with f(c x) = c^n f(x) for c > 0, or None.  parity: 1 even, -1 odd, 0 neither.
    shift: k with f(x + a) = f(x) + k a for every real a, or None.
    """

    degree: Fraction | None
    parity: int
    shift: Fraction | None

    @property
    def commutes(self) -> tuple[str, ...]:
        """The actions g with f(g x) = g f(x), in words; a pointwise function commutes with every permutation."""
        found = ["permutations of the units"]
        if self.degree == 1:
            found.append("positive scales")
        if self.parity == -1:
            found.append("a flip of the sign")
        if self.shift == 1:
            found.append("shifts")
        return tuple(found)

    def sentences(self, name: str) -> tuple[str, ...]:
        """The laws as sentences about the function `name`."""
        n = self.degree
        power = "" if n == 1 else f"**{n}" if n is not None and n.denominator == 1 else f"**({n})"
        factor = f"c{power}*" if n != 0 else ""
        scale = f"{name}(c*x) = {factor}{name}(x) for c > 0" if n is not None else "no degree: a scale cannot leave it"
        parity = {1: f"even: {name}(-x) = {name}(x)", -1: f"odd: {name}(-x) = -{name}(x)", 0: "neither odd nor even"}
        times = "" if self.shift == 1 else f"{self.shift}*"
        shift = "no law of shifts"
        if self.shift is not None:
            shift = f"{name}(x + a) = {name}(x)" + ("" if self.shift == 0 else f" + {times}a")
        return scale, parity[self.parity], shift, "commutes with " + ", ".join(self.commutes)


def found(definition: Term) -> Laws:
    """Every law of the function, found and proved by sympy."""
    return Laws(pointwise.degree(definition), pointwise.parity(definition), shift(definition))


def shift(term: Term) -> Fraction | None:
    """The k with f(x + a) = f(x) + k a for all real x and a, or None."""
    answer = pointwise.answer("shift", term)
    return None if answer is None else Fraction(answer)


def same(one: Term, two: Term) -> bool:
    """Are two definitions one function of a real number?"""
    if one == two:
        return True
    if _differ(one, two):
        return False
    first, second = sorted((one, two), key=repr)
    return bool(pointwise.answer("same", first, second))


def proportional(one: Term, two: Term) -> bool:
    """Is one function the other times a rational number other than 0?  The number is read off at one point."""
    if same(one, two):
        return True
    for point in (1, -1):
        a, b = value(one, float(point)), value(two, float(point))
        if a and b:
            ratio = Fraction(a / b).limit_denominator(10**6)
            return ratio != 0 and same(one, ("mul", ratio, two))
    return False


def recognise(term: Term) -> str | None:
    """The name of the first row of the operator table that is the same function, or None.

    Raises `gaugec.limits.Exceeded` where the limit of a proof is reached.
    """
    for row in TABLE:
        limits.check()
        if row.kind == "map" and row.definition is not None and same(row.definition, term):
            return row.name
    return None


def _differ(one: Term, two: Term) -> bool:
    """Do two definitions differ at some number, beyond rounding?  A value that cannot be computed decides nothing."""
    for point in _POINTS:
        a, b = value(one, float(point)), value(two, float(point))
        if a is not None and b is not None and abs(a - b) > 1e-9 * (1 + abs(a) + abs(b)):
            return True
        if (a is None) != (b is None):
            return True
    return False


def value(term: Term, x: float) -> float | None:
    """The function at a number; None where it has no real, finite value."""
    try:
        answer = _value(term, x)
    except (ArithmeticError, ValueError, TypeError, KeyError):
        return None
    return answer if isinstance(answer, float) and math.isfinite(answer) else None


def _value(term: Term, x: float) -> float:
    if not isinstance(term, tuple):
        return x if term == "x" else math.pi if term == "pi" else float(Fraction(term))
    head, *operands = term
    values = [_value(operand, x) for operand in operands]
    if head == "add":
        return math.fsum(values)
    if head == "mul":
        return math.prod(values)
    if head == "pow":
        return float(values[0] ** values[1])
    if head in ("max", "min"):
        return max(values) if head == "max" else min(values)
    return float(_FUNCTIONS[head](*values))


_FUNCTIONS: dict[str, Callable[..., float]] = {
    "exp": math.exp,
    "log": math.log,
    "tanh": math.tanh,
    "erf": math.erf,
    "sin": math.sin,
    "cos": math.cos,
    "abs": abs,
    "step": lambda x: float(x > 0),
}


__all__ = ["Laws", "found", "proportional", "recognise", "same", "shift", "value"]
