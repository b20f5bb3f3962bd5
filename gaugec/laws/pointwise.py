"""The laws of the operators, found from their definitions and proved by sympy.

Nothing is declared: `degree` and `parity` read a pointwise operator's definition.  An
exception inside sympy, or an answer other than zero, means that the law does not hold here; the prover then refuses.
Results are remembered for the life of the process (`forget` empties the memory).  Definitions that are not short ones
of the operator table are asked about in another process, within the limits of the proof (see `gaugec.laws.oracle`).

What this module does not do: it evaluates no text (definitions are trees of `gaugec.operators.Term`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import sympy

from gaugec import limits
from gaugec.laws import oracle
from gaugec.operators import BY_NAME, TABLE, Term

_MEMO: dict[object, Any] = {}

ATOMS: dict[str, Callable[..., Any]] = {
    "add": lambda *a: sympy.Add(*a),
    "mul": lambda *a: sympy.Mul(*a),
    "pow": lambda a, b: sympy.Pow(a, b),
    "max": lambda *a: sympy.Max(*a),
    "min": lambda *a: sympy.Min(*a),
    "exp": lambda a: sympy.exp(a),
    "log": lambda a: sympy.log(a),
    "tanh": lambda a: sympy.tanh(a),
    "erf": lambda a: sympy.erf(a),
    "abs": lambda a: sympy.Abs(a),
    "sin": lambda a: sympy.sin(a),
    "cos": lambda a: sympy.cos(a),
    "step": lambda a: sympy.Heaviside(a, 0),
    "sigmoid": lambda a: 1 / (1 + sympy.exp(-a)),
    "softplus": lambda a: sympy.log(1 + sympy.exp(a)),
    "sqrt": lambda a: sympy.sqrt(a),
}


def forget() -> None:
    """Empties the memory of proved laws."""
    _MEMO.clear()


def expression(term: Term, x: Any) -> Any:
    """The sympy expression of a definition at argument x.

    Raises ValueError for a term that is no number, argument or known operation.
    """
    if isinstance(term, tuple):
        head, *operands = term
        if head in ATOMS:
            return ATOMS[head](*(expression(operand, x) for operand in operands))
        row = BY_NAME.get(str(head))
        if row is not None and row.definition is not None and len(operands) == 1:
            return expression(row.definition, expression(operands[0], x))
        raise ValueError(f"no definition of {head!r}")
    if isinstance(term, str):
        if term == "pi":
            return sympy.pi
        if term == "x":
            return x
        if term == "s" or (term[:1] == "n" and term[1:].isdecimal()):
            return sympy.Symbol(term, positive=True)  # a scale and the norms of a `fix` line
        raise ValueError(f"unknown symbol {term!r}")
    value = Fraction(term)
    return sympy.Rational(value.numerator, value.denominator)


def zero(value: Any) -> bool:
    """Whether sympy reduces the value to zero: by expanding it, or, where numbers do not deny it, by all it can."""
    value = sympy.expand(value)
    return bool(value == 0 or (not _alive(value) and sympy.simplify(value) == 0))


def _alive(value: Any) -> bool:
    """Is the value surely not zero at some point?  Asked first, because `simplify` takes its time to find nothing."""
    symbols = sorted(value.free_symbols, key=str)
    point = {x: sympy.Integer(n) if x.is_integer else n / sympy.sqrt(7) for n, x in enumerate(symbols, 2)}
    number = value.subs(point)
    return bool(number.is_number and number.is_finite and abs(number.evalf(15)) > 1e-6)


def remember(key: object, prove: Callable[[], Any], failure: Any) -> Any:
    """What `prove` answers, asked once; `failure` where it raises."""
    if key not in _MEMO:
        try:
            _MEMO[key] = prove()
        except limits.Exceeded:
            raise  # not decided: nothing to remember
        except Exception:  # sympy raises what it likes, StopIteration included: no answer is a no
            _MEMO[key] = failure
    return _MEMO[key]


def degree(term: Term | None) -> Fraction | None:
    """The n with f(c x) = c^n f(x) for every c > 0 and real x, or None.

    Found from x f'(x) / f(x) on x > 0 and on x < 0, which must be the same rational number (a branch that is zero has
    every degree), then proved by substitution.  The zero function has none; a step has degree 0.
    """
    found: int | Fraction | None = None if term is None else answer("degree", term)
    return None if found is None else Fraction(found)


def _degree(term: Term) -> Fraction | None:
    p, c = sympy.symbols("p c", positive=True)
    found = set()
    for sign in (1, -1):
        value = expression(term, sign * p)
        if zero(value):
            continue
        ratio = p * sympy.diff(value, p) / value
        if _alive(sympy.diff(ratio, p)):
            return None
        ratio = sympy.simplify(ratio)
        if not ratio.is_Rational:
            return None
        if not zero(expression(term, sign * c * p) - c**ratio * value):
            return None
        found.add(Fraction(int(ratio.p), int(ratio.q)))
    if len(found) != 1:
        return None
    n = found.pop()
    at_zero = expression(term, sympy.Integer(0))
    return n if n == 0 or (n > 0 and at_zero == 0) else None


def parity(term: Term | None) -> int:
    """1 where f(-x) = f(x), -1 where f(-x) = -f(x), for every real x; 0 otherwise."""
    return 0 if term is None else int(answer("parity", term) or 0)


def _parity(term: Term) -> int:
    p = sympy.symbols("p", positive=True)
    plus, minus, middle = expression(term, p), expression(term, -p), expression(term, sympy.Integer(0))
    if zero(plus - minus):
        return 1
    return -1 if zero(plus + minus) and middle == 0 else 0


def _shift(term: Term) -> Fraction | None:
    """The k with f(x + a) = f(x) + k a for all real x and a: read off at two points, then proved."""
    x, a = sympy.symbols("x a", real=True)
    k = sympy.nsimplify(expression(term, sympy.Integer(1)) - expression(term, sympy.Integer(0)))
    if not k.is_Rational:
        return None
    gap = expression(term, x + a) - expression(term, x) - k * a
    return Fraction(int(k.p), int(k.q)) if zero(gap) else None


def _same(one: Term, two: Term) -> bool:
    """Whether two definitions are one function: on x > 0, on x < 0, and at 0."""
    p = sympy.symbols("p", positive=True)
    gaps = [expression(one, at) - expression(two, at) for at in (p, -p, sympy.Integer(0))]
    return all(zero(gap) or zero(gap.rewrite(sympy.exp)) for gap in gaps)


ANSWERS: dict[str, Callable[..., Any]] = {"degree": _degree, "parity": _parity, "shift": _shift, "same": _same}
"""Questions about definitions; None, like an exception, is "no such law"."""


def _operations(term: Term) -> int:
    return 1 + sum(map(_operations, term[1:])) if isinstance(term, tuple) else 1


_QUICK = 16  # operations; on what has more (gelu with its tanh) sympy may work for seconds
_OWN = frozenset(d for row in TABLE if (d := row.definition) is not None and _operations(d) <= _QUICK)


def answer(question: str, *terms: Term) -> Any:
    """The answer, from here for the table's own definitions, else from a process that can be killed.

    Outside of a proof what cannot be decided in time is no law; inside of one `gaugec.limits.Exceeded` ends it.
    """

    def prove() -> Any:
        if _OWN.issuperset(terms):
            return ANSWERS[question](*terms)
        return oracle.ask(question, *terms)

    try:
        return remember((question, terms), prove, None)
    except limits.Exceeded:
        if limits.active():
            raise
        return None


def definition(function: str, attributes: Mapping[str, object] | None = None) -> Term | None:
    """The definition of a pointwise function: its own attribute "definition", else its row's; None without one."""
    own = (attributes or {}).get("definition")
    if own is not None:
        return own  # type: ignore[return-value]
    row = BY_NAME.get(function)
    return row.definition if row is not None else None
