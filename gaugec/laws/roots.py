"""Frames solved by sympy: the scale that makes the two sides of a `fix` line equal."""

from __future__ import annotations

from typing import Any

import sympy

from gaugec.laws.pointwise import expression
from gaugec.operators import Term


def frame(left: Term, right: Term) -> tuple[str, ...]:
    """The scale that makes two sides equal: its formula over n0, n1, ..., then the symbols that these were.

    Where there is not exactly one positive solution: "", and why.
    """
    scale = sympy.Symbol("s", positive=True)
    try:
        solutions = [x for x in sympy.solve(expression(left, None) - expression(right, None), scale) if x.is_positive]
        if len(solutions) == 1:
            return _formula(sympy.simplify(solutions[0]))
    except (NotImplementedError, StopIteration, ValueError, TypeError, RecursionError, _Unprintable) as error:
        return "", f"sympy cannot solve this fix: {error}"
    count = "no positive solution" if not solutions else f"{len(solutions)} positive solutions"
    return "", f"this fix has {count} for the scale, it must have one"


class _Unprintable(Exception):
    pass


def _formula(expr: Any) -> tuple[str, ...]:
    used = sorted((x.name for x in expr.free_symbols if x.name != "s"), key=lambda name: int(name[1:]))
    if not used:
        raise _Unprintable("the solution reads no parameter")
    new = {_positive(name): _positive(f"n{j}") for j, name in enumerate(used)}
    return (_print(expr.subs(new, simultaneous=True), 0), *used)


def _positive(name: str) -> Any:
    return sympy.Symbol(name, positive=True)


def _print(expr: Any, level: int) -> str:
    """Write a sympy expression as tensor code; level 0 takes sums, 1 products, 2 factors."""
    if isinstance(expr, sympy.Symbol):
        return str(expr.name)
    if isinstance(expr, sympy.Rational):
        text = str(int(expr.p)) if expr.q == 1 else f"{int(expr.p)} / {int(expr.q)}"
        return text if expr.q == 1 and expr.p >= 0 else f"({text})"
    if isinstance(expr, sympy.Add):
        text = " + ".join(_print(term, 1) for term in expr.as_ordered_terms())
        return f"({text})" if level > 0 else text
    if isinstance(expr, sympy.Pow | sympy.Mul):
        up, down = sympy.fraction(expr)
        if down != 1:
            text = f"{_print(up, 1)} / {_print(down, 2)}"
            return f"({text})" if level > 1 else text
    if isinstance(expr, sympy.Mul):
        text = " * ".join(_print(factor, 2) for factor in expr.as_ordered_factors())
        return f"({text})" if level > 1 else text
    if isinstance(expr, sympy.Pow) and isinstance(expr.exp, sympy.Rational):
        base = _print(expr.base, 2)
        if expr.exp == sympy.Rational(1, 2):
            return f"{base}.sqrt()"
        return f"{base}.pow({_print(expr.exp, 0)})"
    raise _Unprintable(f"the solution holds a {type(expr).__name__}")
