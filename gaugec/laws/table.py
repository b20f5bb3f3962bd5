"""The table of laws: ONE row a law, each with its statement and its proof from definitions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import sympy

from gaugec.laws.pointwise import ATOMS, expression, remember, zero
from gaugec.operators import TABLE, Operator, Term

Definition = Callable[[Callable[[Any], Any], Any], Any]


def holds(name: str) -> bool:
    """Whether sympy proves the row of `LAWS`.  False for an unknown name and for any exception."""
    row = LAWS.get(name)
    if row is None:
        return False
    return bool(remember(("law", name), lambda: bool(row.prove(*row.definitions)), False))


def _symbols() -> tuple[Any, Any, Any, Any, Any]:
    """x[j], j, n, a real shift and a positive scale."""
    n = sympy.Symbol("n", integer=True, positive=True)
    j = sympy.Symbol("j", integer=True)
    return sympy.IndexedBase("x", real=True), j, n, sympy.Symbol("a", real=True), sympy.Symbol("c", positive=True)


def along(row: Operator) -> Definition:
    """The definition of an operator along an axis: the value at entry i, of the entries x[j] after `of` moved them."""
    assert row.along is not None
    return partial(_along, row.along)


def _along(term: Term, of: Callable[[Any], Any], i: Any) -> Any:
    x, j, n, _, _ = _symbols()
    if not isinstance(term, tuple):
        return of(x[i]) if term == "x" else expression(term, None)
    head, *operands = term
    if head == "sum":  # with everything that does not depend on j taken out
        return sympy.factor_terms(sympy.Sum(sympy.expand(_along(operands[0], of, j)), (j, 1, n)))
    value = ATOMS[head](*(_along(operand, of, i) for operand in operands))
    if head == "exp":
        return sympy.expand_power_exp(value)
    return sympy.expand_log(value, force=True) if head == "log" else value


def _shift_free(value: Callable[..., Any]) -> bool:
    a = sympy.Symbol("a", real=True)
    i = sympy.Symbol("i", integer=True)
    return zero(value(lambda y: y + a, i) - value(lambda y: y, i))


def _sums_to_one(value: Callable[..., Any]) -> bool:
    x, j, n, _, _ = _symbols()
    total = sympy.Sum(sympy.exp(x[j]), (j, 1, n))
    whole = sympy.factor_terms(sympy.Sum(sympy.expand(value(lambda y: y, j) * total), (j, 1, n)))
    concrete = [sympy.Symbol(f"y{k}", real=True) for k in range(3)]
    parts = sum(sympy.exp(y) for y in concrete)
    return zero(whole - total) and zero(sum(sympy.exp(y) / parts for y in concrete) - 1)


def _extreme(of: Callable[..., Any], move: str) -> bool:
    """max or min of x, y under a common shift or scale, on both orders."""
    x, a = sympy.symbols("x a", real=True)
    gap, c = sympy.symbols("g c", positive=True)
    moved = (lambda y: y + a) if move == "shift" else (lambda y: c * y)
    pairs = ((x, x + gap), (x + gap, x))
    for one, two in pairs:
        # the larger of the moved two is the moved larger one, because moving keeps the sign of their difference
        if sympy.sign(sympy.expand(moved(one) - moved(two))) != sympy.sign(sympy.expand(one - two)):
            return False
        value = sympy.simplify(of(one, two))
        if not zero(value - of(one, two)) or not zero(moved(of(one, two)) - of(moved(one), moved(two))):
            return False
    return True


def _larger(one: Any, two: Any) -> Any:
    return one if sympy.sign(sympy.expand(one - two)) == 1 else two


def _smaller(one: Any, two: Any) -> Any:
    return two if sympy.sign(sympy.expand(one - two)) == 1 else one


def _distribute() -> bool:
    a, b, c, d = sympy.symbols("a b c d")
    return zero((a + b) * (c + d) - a * c - a * d - b * c - b * d)


def _power_of_product(operation: Term) -> bool:
    c, d = sympy.symbols("c d", positive=True)
    x = sympy.Symbol("x", positive=True)
    n = sympy.Symbol("n", real=True)
    whole, k = sympy.Symbol("x", real=True, nonzero=True), sympy.Symbol("k", integer=True)
    power = ATOMS[operation]  # type: ignore[index]
    return (
        zero(power(c * x, n) - power(c, n) * power(x, n))
        and zero(power(c, n) * power(c, d) - power(c, n + d))
        and zero(power(c * whole, k) - power(c, k) * power(whole, k))
    )


def _power(operation: Term) -> bool:
    p, n = sympy.Symbol("p", positive=True), sympy.Symbol("n", real=True)
    power = ATOMS[operation]  # type: ignore[index]
    return zero(power(p, n) * power(p, 1 - n) - p)


def _exp(operation: Term) -> bool:
    a, b = sympy.symbols("a b", real=True)
    exp = ATOMS[operation]  # type: ignore[index]
    return zero(exp(a + b) - exp(a) * exp(b)) and exp(a).is_positive is True


def _log(operation: Term) -> bool:
    c, x = sympy.symbols("c x", positive=True)
    r = sympy.Symbol("r", real=True)
    log = ATOMS[operation]  # type: ignore[index]
    return zero(sympy.expand_log(log(c * x)) - log(c) - log(x)) and zero(log(sympy.exp(r)) - r)


def _orthogonal() -> bool:
    n = sympy.Symbol("n", integer=True, positive=True)
    q = sympy.MatrixSymbol("Q", n, n)
    one = sympy.Identity(n)
    known = sympy.Q.orthogonal(q)
    return all(sympy.simplify(sympy.expand(sympy.refine(value, known))) == one for value in (q.T * q, q * q.T))


def _inverse() -> bool:
    n = sympy.Symbol("n", integer=True, positive=True)
    t = sympy.MatrixSymbol("T", n, n)
    one = sympy.Identity(n)
    return all(sympy.simplify(sympy.expand(value.doit())) == one for value in (t.I * t, t * t.I))


def _ones() -> bool:
    n = sympy.Symbol("n", integer=True, positive=True)
    q, v = sympy.MatrixSymbol("Q", n, n), sympy.MatrixSymbol("v", n, 1)
    # R 1 = 1 gives R'1 = R'R1 = 1
    return bool(_orthogonal() and sympy.expand((sympy.refine(q.T * q, sympy.Q.orthogonal(q)) * v).doit()) == v)


def _angles() -> bool:
    s, t = sympy.symbols("s t", real=True)
    sin, cos = sympy.sin, sympy.cos
    return (
        zero((sin(s) ** 2 + cos(s) ** 2 - 1).rewrite(sympy.exp))
        and zero(sympy.expand(cos(s + t), trig=True) - cos(s) * cos(t) + sin(s) * sin(t))
        and zero(sympy.expand(sin(s + t), trig=True) - sin(s) * cos(t) - cos(s) * sin(t))
    )


def _delta() -> bool:
    values = sympy.symbols("f0:4")
    delta = sympy.KroneckerDelta
    return all(zero(sum(delta(i, j) * values[j] for j in range(4)) - values[i]) for i in range(4))


def _one_hot() -> bool:
    """A row of a one-hot is delta[i, .] for some i: on all rows of four entries."""
    delta, f = sympy.KroneckerDelta, sympy.Function("f")
    values, n = sympy.symbols("x0:4"), range(4)
    once = all(zero(delta(i, j) * delta(i, k) - delta(i, j) * delta(j, k)) for i in n for j in n for k in n)

    def picked(i: int, of: Callable[[Any], Any]) -> Any:
        return sum(delta(i, j) * of(values[j]) for j in n)

    return once and all(zero(f(picked(i, lambda x: x)) - picked(i, f)) for i in n)


def _one_hot_sum() -> bool:
    """So does the sum over a row of it: on all rows of four entries."""
    return all(zero(sum(sympy.KroneckerDelta(i, j) for j in range(4)) - 1) for i in range(4))


def _size() -> bool:
    n, i = sympy.Symbol("n", integer=True, positive=True), sympy.Symbol("i", integer=True)
    f = sympy.Symbol("f")
    return zero(sympy.summation(f, (i, 1, n)) - n * f)


@dataclass(frozen=True)
class Law:
    """One law: what it says, the definitions it is about, and the proof (called with the definitions)."""

    says: str
    prove: Callable[..., bool]
    definitions: tuple[Any, ...] = ()


_GENERAL: dict[str, Law] = {
    "distribute": Law("(a + b)(c + d) = ac + ad + bc + bd", _distribute),
    "delta": Law("sum over j of delta[i,j] f[j] = f[i]", _delta),
    "one-hot": Law("O[i,j] O[i,k] = O[i,j] delta[j,k] and f(O x) = O f(x)", _one_hot),
    "one-hot sum": Law("sum over j of O[i,j] = 1", _one_hot_sum),
    "size": Law("sum over i = 1..n of f = n f", _size),
    "orthogonality": Law("R'R = RR' = 1", _orthogonal),
    "inverse": Law("T^-1 T = T T^-1 = 1", _inverse),
    "ones": Law("R1 = 1 and R'R = 1 give R'1 = 1", _ones),
    "angles": Law("cos^2 + sin^2 = 1 and the sums of angles", _angles),
    "power of a product": Law("(c x)^n = c^n x^n for c > 0", _power_of_product, ("pow",)),
    "power": Law("p^n p^(1-n) = p for p > 0", _power, ("pow",)),
    "exp": Law("exp(a + b) = exp(a) exp(b) > 0", _exp, ("exp",)),
    "log": Law("log(c x) = log(c) + log(x), log(exp(r)) = r", _log, ("log",)),
}

_LARGEST: dict[str, Callable[[Any, Any], Any]] = {"largest": _larger, "smallest": _smaller}


def laws_of(row: Operator) -> dict[str, Law]:
    """The laws that may be asked for of an operator along an axis, as its row says."""
    name, made = row.name, dict[str, Law]()
    if row.unit:
        made[f"{name} sum"] = Law(f"sum over i of {name}(x)_i = 1", _sums_to_one, (along(row),))
    if row.shift == "forgets":
        made[f"{name} shift"] = Law(f"{name}(x + a) = {name}(x)", _shift_free, (along(row),))
    for way, says in ((row.shift, "shift"), (row.scale, "scale")):
        if way == "passes" and isinstance(row.along, tuple) and row.along[0] in _LARGEST:
            text = f"{name}(x + a) = {name}(x) + a" if says == "shift" else f"{name}(c x) = c {name}(x) for c > 0"
            made[f"{name} {says}"] = Law(text, _extreme, (_LARGEST[row.along[0]], says))
    return made


LAWS: dict[str, Law] = {**_GENERAL, **{name: law for row in TABLE for name, law in laws_of(row).items()}}
"""Every law that a rule of `gaugec.proof.algebra` stands on."""
