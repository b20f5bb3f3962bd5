"""The laws of the operators, found from their definitions and proved by sympy.

Nothing is declared: `degree` and `parity` read a pointwise operator's definition, `holds` proves one row of `LAWS`.  An
exception inside sympy, or an answer other than zero, means that the law does not hold here; the prover then refuses.
Results are remembered for the life of the process (`forget` empties the memory).  Definitions that are not short ones
of the operator table are asked about in another process, within the limits of the proof (see `gaugec.laws.oracle`).

What this module does not do: it evaluates no text (definitions are trees of `gaugec.operators.Term`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy

from gaugec import limits
from gaugec.laws import oracle
from gaugec.operators import BY_NAME, TABLE, Term

_MEMO: dict[object, Any] = {}

_ATOMS: dict[str, Callable[..., Any]] = {
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
        if head in _ATOMS:
            return _ATOMS[head](*(expression(operand, x) for operand in operands))
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
    """Whether sympy reduces the value to zero, by both of its ways."""
    return bool(sympy.simplify(sympy.expand(value)) == 0)


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
    every degree), then proved by substitution.  The zero function has none.
    """
    found: int | Fraction | None = None if term is None else answer("degree", term)
    return None if found is None else Fraction(found)


def _degree(term: Term) -> Fraction | None:
    p, c = sympy.symbols("p c", positive=True)
    found = set()
    for sign in (1, -1):
        value = expression(term, sign * p)
        if sympy.simplify(value) == 0:
            continue
        ratio = sympy.simplify(p * sympy.diff(value, p) / value)
        if not ratio.is_Rational:
            return None
        if not zero(expression(term, sign * c * p) - c**ratio * value):
            return None
        found.add(Fraction(int(ratio.p), int(ratio.q)))
    if len(found) != 1:
        return None
    n = found.pop()
    at_zero = expression(term, sympy.Integer(0))
    return n if n > 0 and at_zero == 0 else None


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


def holds(name: str) -> bool:
    """Whether sympy proves the row of `LAWS`.  False for an unknown name and for any exception."""
    row = LAWS.get(name)
    if row is None:
        return False
    return bool(remember(("law", name), lambda: bool(row.prove(*row.definitions)), False))


# --- proofs --------------------------------------------------------------------------------------------------------
def _symbols() -> tuple[Any, Any, Any, Any, Any]:
    """x[j], j, n, a real shift and a positive scale."""
    n = sympy.Symbol("n", integer=True, positive=True)
    j = sympy.Symbol("j", integer=True)
    return sympy.IndexedBase("x", real=True), j, n, sympy.Symbol("a", real=True), sympy.Symbol("c", positive=True)


def _sum_exp(of: Callable[[Any], Any]) -> Any:
    """sum over j of exp(of(j)), with everything that does not depend on j taken out."""
    x, j, n, _, _ = _symbols()
    inside = sympy.expand(sympy.expand_power_exp(sympy.exp(of(x[j]))))
    return sympy.factor_terms(sympy.Sum(inside, (j, 1, n)))


def softmax_definition(of: Callable[[Any], Any], i: Any) -> Any:
    """exp(x_i) / sum over j of exp(x_j), of the moved logits."""
    x, *_ = _symbols()
    return sympy.expand_power_exp(sympy.exp(of(x[i]))) / _sum_exp(of)


def log_softmax_definition(of: Callable[[Any], Any], i: Any) -> Any:
    """x_i - log of the sum over j of exp(x_j)."""
    x, *_ = _symbols()
    return of(x[i]) - sympy.expand_log(sympy.log(_sum_exp(of)), force=True)


def cross_entropy_definition(of: Callable[[Any], Any], i: Any) -> Any:
    """The loss at target class i."""
    x, *_ = _symbols()
    return sympy.expand_log(sympy.log(_sum_exp(of)), force=True) - of(x[i])


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
    power = _ATOMS[operation]  # type: ignore[index]
    return (
        zero(power(c * x, n) - power(c, n) * power(x, n))
        and zero(power(c, n) * power(c, d) - power(c, n + d))
        and zero(power(c * whole, k) - power(c, k) * power(whole, k))
    )


def _power(operation: Term) -> bool:
    p, n = sympy.Symbol("p", positive=True), sympy.Symbol("n", real=True)
    power = _ATOMS[operation]  # type: ignore[index]
    return zero(power(p, n) * power(p, 1 - n) - p)


def _exp(operation: Term) -> bool:
    a, b = sympy.symbols("a b", real=True)
    exp = _ATOMS[operation]  # type: ignore[index]
    return zero(exp(a + b) - exp(a) * exp(b)) and exp(a).is_positive is True


def _log(operation: Term) -> bool:
    c, x = sympy.symbols("c x", positive=True)
    r = sympy.Symbol("r", real=True)
    log = _ATOMS[operation]  # type: ignore[index]
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


def _torus() -> bool:
    s, t = sympy.symbols("s t", real=True)
    sin, cos = sympy.sin, sympy.cos
    return (
        zero(sin(s) ** 2 + cos(s) ** 2 - 1)
        and zero(sympy.expand(cos(s + t), trig=True) - cos(s) * cos(t) + sin(s) * sin(t))
        and zero(sympy.expand(sin(s + t), trig=True) - sin(s) * cos(t) - cos(s) * sin(t))
    )


def _delta() -> bool:
    values = sympy.symbols("f0:4")
    delta = sympy.KroneckerDelta
    return all(zero(sum(delta(i, j) * values[j] for j in range(4)) - values[i]) for i in range(4))


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


LAWS: dict[str, Law] = {
    "distribute": Law("(a + b)(c + d) = ac + ad + bc + bd", _distribute),
    "delta": Law("sum over j of delta[i,j] f[j] = f[i]", _delta),
    "size": Law("sum over i = 1..n of f = n f", _size),
    "orthogonal": Law("R'R = RR' = 1", _orthogonal),
    "inverse": Law("T^-1 T = T T^-1 = 1", _inverse),
    "ones": Law("R1 = 1 and R'R = 1 give R'1 = 1", _ones),
    "torus": Law("cos^2 + sin^2 = 1 and the sums of angles", _torus),
    "power of a product": Law("(c x)^n = c^n x^n for c > 0", _power_of_product, ("pow",)),
    "power": Law("p^n p^(1-n) = p for p > 0", _power, ("pow",)),
    "exp": Law("exp(a + b) = exp(a) exp(b) > 0", _exp, ("exp",)),
    "log": Law("log(c x) = log(c) + log(x), log(exp(r)) = r", _log, ("log",)),
    "softmax sum": Law("sum over i of softmax(x)_i = 1", _sums_to_one, (softmax_definition,)),
    "softmax shift": Law("softmax(x + a) = softmax(x)", _shift_free, (softmax_definition,)),
    "log_softmax shift": Law("log_softmax(x + a) = log_softmax(x)", _shift_free, (log_softmax_definition,)),
    "cross_entropy shift": Law("cross_entropy(x + a) = cross_entropy(x)", _shift_free, (cross_entropy_definition,)),
    "max shift": Law("max(x + a) = max(x) + a", _extreme, (_larger, "shift")),
    "min shift": Law("min(x + a) = min(x) + a", _extreme, (_smaller, "shift")),
    "max scale": Law("max(c x) = c max(x) for c > 0", _extreme, (_larger, "scale")),
    "min scale": Law("min(c x) = c min(x) for c > 0", _extreme, (_smaller, "scale")),
}
"""Every law that a rule of `gaugec.proof.algebra` stands on."""
