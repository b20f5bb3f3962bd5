"""Where what a proof computed has a value: the conditions of a theorem, and whether the group keeps them.

A normal form forgets where a root, a divisor or a logarithm had no value once it has cancelled.  That is remembered
here and becomes a condition.  A condition that the group's element enters is one that the group does not keep: from a
point where it holds an element leads to one where it does not, and there is nothing left that could be equal.

What this module does not do: it finds no sign that is not plain: what may have no value somewhere is a condition.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from gaugec.laws import pointwise
from gaugec.operators import Term
from gaugec.proof.algebra import Algebra
from gaugec.proof.terms import Number, Polynomial

_VALUES = {"function": "the value of {}", "base": "what a root or a divisor stands on"}


def divided_by(algebra: Algebra, symbol: int) -> None:
    """Notes that a symbol was divided by."""
    if _sign(algebra, symbol, 1) > 0:
        return
    row = algebra.symbols[symbol]
    name = _VALUES.get(row.kind, "{}").format(row.name)
    algebra.nonzero.setdefault(symbol, f"{row.alias or name} ≠ 0")


def rooted(algebra: Algebra, base: int, poly: Polynomial, exponent: Number) -> None:
    """Notes that a base, which is this polynomial, was taken to an exponent that is no positive integer."""
    if _lowest(algebra, poly) > (0 if exponent < 0 else -1):
        return
    sign = "≠" if isinstance(exponent, int) else "≥" if exponent > 0 else ">"
    algebra.partial.setdefault(base, f"{_words(algebra, poly, 'what a root or a divisor stands on')} {sign} 0")


def applied(algebra: Algebra, symbol: int, name: str, meaning: Term | None, poly: Polynomial) -> None:
    """Notes that a function was taken of a polynomial, where it is one without a value for every argument."""
    if meaning is not None and not total(meaning):
        if _lowest(algebra, poly) > 0 and total(_of_positive(meaning)):
            return
        what = _words(algebra, poly, "its argument")
        algebra.partial.setdefault(symbol, f"{what} is where {name} has a value")


def conditions(algebra: Algebra) -> list[str]:
    """The conditions of what was compared: every divisor, and what has cancelled and was not there everywhere.

    A root that is left has no value where it had none before.
    """
    gone = [text for symbol, text in algebra.partial.items() if symbol not in algebra.standing]
    return list(dict.fromkeys((*algebra.nonzero.values(), *gone)))


def not_kept(algebra: Algebra) -> str:
    """A condition that the group does not keep, in words: as it is before an element acts, where that can be said."""
    there = [(s, text) for s, text in (*algebra.nonzero.items(), *algebra.partial.items()) if s not in algebra.standing]
    moving = [text for s, text in there if _moves(algebra, s)]
    before = [text for s, text in there if not _moves(algebra, s)]
    return (before or moving)[0] if moving else ""


def _moves(algebra: Algebra, symbol: int) -> bool:
    """Does the group's element occur in a symbol, or in what a function is taken of?"""
    todo, seen = [symbol], {symbol}
    while todo:
        row = algebra.symbols[todo.pop()]
        if row.kind == "element":
            return True
        inner = {s for poly in row.data for factors, _ in poly for s, _, _ in factors}
        todo.extend(inner - seen)
        seen |= inner
    return False


def _sign(algebra: Algebra, symbol: int, exponent: Number) -> int:
    """1 where a symbol to an exponent is plainly positive, 0 where it is not negative, -1 where neither is."""
    row = algebra.symbols[symbol]
    meaning = pointwise.definition(row.name, dict(row.attributes)) if row.kind == "function" else None  # type: ignore
    if row.positive or (meaning is not None and _least(meaning) > 0):
        return 1
    return 0 if isinstance(exponent, int) and exponent % 2 == 0 else -1


def _lowest(algebra: Algebra, poly: Polynomial) -> int:
    """The same of a polynomial."""
    signs = [
        min([1 if coefficient > 0 else -1, *(_sign(algebra, s, e) for s, _, e in factors)])
        for (factors, _), coefficient in poly.items()
    ]
    return -1 if min(signs) < 0 else max(signs)


def _words(algebra: Algebra, poly: Polynomial, otherwise: str) -> str:
    """A polynomial in words, where it is short and of a spec."""
    # a proof on a model serves every place of equal structure: what it says later may name none of them
    inside = {s for factors, _ in poly for s, _, _ in factors}
    if not algebra.symbolic or len(poly) > 4 or any(algebra.symbols[s].alias or _moves(algebra, s) for s in inside):
        return otherwise
    return " + ".join(algebra.words(mono, coefficient) for mono, coefficient in poly.items()).replace("+ -", "-")


def _of_positive(term: Term) -> Term:
    """A definition with exp(x), which is any positive number, where its argument stands."""
    if isinstance(term, tuple):
        return (term[0], *map(_of_positive, term[1:]))
    return ("exp", "x") if term == "x" else term


def total(term: Term) -> bool:
    """Has a definition plainly a value for every real argument?"""
    if not isinstance(term, tuple):
        return True
    head, *operands = term
    if head == "pow":
        exponent = Fraction(operands[1])
        if not total(operands[0]):
            return False
        if exponent.denominator == 1:
            return exponent >= 0 or _least(operands[0]) > 0
        return _least(operands[0]) > (0 if exponent < 0 else -1)
    return all(map(total, operands)) and (head != "log" or _least(operands[0]) > 0)


def _least(term: Term) -> int:
    """1 where a definition is plainly positive for every argument, 0 where it is not negative, -1 where neither is."""
    if not isinstance(term, tuple):
        if isinstance(term, str):
            return 1 if term == "pi" else -1
        return 1 if term > 0 else 0 if term == 0 else -1
    head, *operands = term
    if head == "exp":
        return 1
    if head == "abs":
        return max(_least(operands[0]), 0)
    if head == "pow":
        exponent = Fraction(operands[1])
        return max(_least(operands[0]), 0 if exponent.denominator == 1 and exponent.numerator % 2 == 0 else -1)
    signs: list[Any] = [_least(operand) for operand in operands]
    if head == "add":
        return -1 if min(signs) < 0 else max(signs)
    if head == "max":
        return max(signs)
    return min(signs) if head in ("mul", "min") else -1
