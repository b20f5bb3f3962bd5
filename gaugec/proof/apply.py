"""Pointwise functions of polynomials: what leaves a function by its laws, and the atom that is left.

A law is asked of `gaugec.laws.pointwise` every time; where sympy has not proved it, the function is an atom and nothing
leaves.
"""

from __future__ import annotations

from fractions import Fraction

from gaugec import limits
from gaugec.graph.ir import Map
from gaugec.laws import pointwise
from gaugec.operators import spelled
from gaugec.proof.algebra import Algebra
from gaugec.proof.domains import applied, divided_by, rooted
from gaugec.proof.terms import (
    Factors,
    Index,
    Monomial,
    Number,
    Polynomial,
    Undecided,
    number,
    plain,
    substituted,
    variable,
)


def apply(algebra: Algebra, node: Map, parts: tuple[Polynomial, ...]) -> Polynomial:
    """A pointwise function of polynomials, after its laws have done what they can."""
    found = looked_up(algebra, parts[0]) if len(parts) == 1 else None
    if found is not None:
        row, entry, inner = found
        return algebra.product([monomial(algebra, {row: 1}), apply(algebra, node, (inner,))], summed=(entry,))
    attributes = dict(node.attributes)
    # an `op` line may have any free name ("log"): what has a definition of its own is that, and no built-in of its name
    name = node.function if "definition" not in attributes else ""
    if name == "pow" and len(parts) == 1:
        return power(algebra, parts[0], Fraction(str(attributes["exponent"])))
    if name == "exp" and algebra.allow("exp"):
        factors: Factors = {}
        for mono, coefficient in parts[0].items():
            atom = algebra.function("exp", (), ({mono: 1},), positive=True)
            factors[atom] = factors.get(atom, 0) + coefficient
        return monomial(algebra, factors)
    if name == "log" and parts[0] and algebra.allow("log"):
        positive, rest = common_positive(algebra, parts[0], ())
        out: list[tuple[Number, Polynomial]] = []
        for (s, at), e in positive.items():
            if algebra.symbols[s].name == "exp":
                out.append((e, algebra.opened(s, at)))
            else:
                out.append((e, plain_function(algebra, "log", (), ({(((s, at, 1),), ()): 1},))))
        if rest != algebra.constant(1):
            out.append((1, plain_function(algebra, "log", (), (rest,))))
        return algebra.add(*out)
    frozen = tuple((k, v if k == "definition" else repr(v)) for k, v in node.attributes)
    if len(parts) != 1:
        return plain_function(algebra, node.function, frozen, parts)
    meaning = pointwise.definition(node.function, attributes)
    poly = parts[0]
    positive, rest = common_positive(algebra, poly, ())
    degree = pointwise.degree(meaning) if positive or not poly else None
    if degree is not None and (poly or degree > 0) and algebra.allow("degree"):  # one of degree 0 may be 1 at 0
        algebra.used.setdefault(f"degree of {spelled(node.function, node.attributes)} is {degree}")
        if not poly:
            return {}
        inside = plain_function(algebra, node.function, frozen, (rest,))
        factors = {atom: number(e * degree) for atom, e in positive.items()}
        return algebra.product([monomial(algebra, factors), inside])
    sign = 1
    if poly and (even := pointwise.parity(meaning)) and poly[min(poly)] < 0 and algebra.allow("parity"):
        sign, poly = even, algebra.add((-1, poly))
    return algebra.add((sign, plain_function(algebra, node.function, frozen, (poly,))))


def looked_up(
    algebra: Algebra, poly: Polynomial
) -> tuple[tuple[int, tuple[Index, ...]], int, Polynomial] | None:
    """A polynomial that is all looked up by one row of a one-hot: the row at a new variable, it, and what stands there.

    Every term must have the row, and its entry must be summed over all that there are: then the polynomial is what
    stands at one entry, and so is a function of it.
    """
    choices: set[tuple[int, tuple[Index, ...]]] | None = None
    for mono in poly:
        own = set(_rows(algebra, mono))
        choices = own if choices is None else choices & own
        if not choices:
            return None
    if not choices or not algebra.allow("one-hot"):
        return None
    symbol, rows = min(choices)
    entry = algebra.fresh(algebra.symbols[symbol].extent)
    inner: Polynomial = {}
    for mono, coefficient in poly.items():
        opened, sums = algebra.released(mono)
        old = list(sums)[-1 - _rows(algebra, mono)[symbol, rows]]
        factors: Factors = {}
        for s, ixs, e in opened:
            if s == symbol and ixs == (*rows, variable(old)):
                continue
            at = (s, tuple(substituted(ix, {old: variable(entry)}) for ix in ixs))
            factors[at] = factors.get(at, 0) + e
        algebra.collect(inner, coefficient, factors, {v: n for v, n in sums.items() if v != old})
    return (symbol, (*rows, variable(entry))), entry, inner


def _rows(algebra: Algebra, mono: Monomial) -> dict[tuple[int, tuple[Index, ...]], int]:
    """The rows of one-hots in a term whose one entry runs, summed, over all there are; and the label of the entry."""
    found: dict[tuple[int, tuple[Index, ...]], int] = {}
    for s, ixs, e in mono[0]:
        row = algebra.symbols[s]
        if row.kind != "one-hot" or e != 1 or len(ixs) != row.reads + 1:
            continue
        label = plain(ixs[-1])
        free = all(v >= 0 for ix in ixs[:-1] for _, v in ix[1])
        if label is not None and label < 0 and mono[1][-1 - label] == row.extent and free:
            found[s, ixs[:-1]] = label
    return found


def power(algebra: Algebra, poly: Polynomial, exponent: Fraction) -> Polynomial:
    """A polynomial to a rational power: positive factors leave it, and all factors of one monomial do at an integer."""
    e = number(exponent)
    if not poly:
        if e > 0:
            return {}
        raise Undecided("a division by zero")
    factor, rest = common_positive(algebra, poly, ()) if algebra.allow("power of a product") else (Factors(), poly)
    out = {atom: number(x * e) for atom, x in factor.items()}
    ((factors, bound), coefficient), *more = rest.items()
    if not more and not bound and (isinstance(e, int) or (not factors and coefficient == 1)):
        for s, ix, x in factors:
            if e < 0:
                divided_by(algebra, s)
            out[s, ix] = number(out.get((s, ix), 0) + x * e)
        scale = number(limits.bounded_power(coefficient, e)) if isinstance(e, int) else 1
        return algebra.add((scale, monomial(algebra, out)))
    if isinstance(e, int) and 1 <= e <= 4:
        return algebra.product([monomial(algebra, out), *[rest] * e])
    base = algebra.function("pow", (), (rest,), kind="base")
    if not (isinstance(e, int) and e > 0):
        rooted(algebra, base[0], rest, e)
    out[base] = number(out.get(base, 0) + e)
    return monomial(algebra, out)


def common_positive(algebra: Algebra, poly: Polynomial, dummies: tuple[int, ...]) -> tuple[Factors, Polynomial]:
    """The product of positive factors that all terms share, and the polynomial without it.

    Only factors whose indices are free there: not summed in a term, not what a function acts along.
    """
    shared: Factors | None = None
    for factors, _ in poly:
        own = {
            (s, ixs): e
            for s, ixs, e in factors
            if algebra.symbols[s].positive and all(v >= 0 and v not in dummies for _, terms in ixs for _, v in terms)
        }
        shared = own if shared is None else {a: min(e, own[a]) for a, e in shared.items() if a in own}
        if not shared:
            return {}, poly
    if not shared:
        return {}, poly
    inverse = {atom: number(-e) for atom, e in shared.items()}
    return shared, algebra.product([poly, monomial(algebra, inverse)])


def monomial(algebra: Algebra, factors: Factors) -> Polynomial:
    """The polynomial of one product of factors."""
    out: Polynomial = {}
    algebra.collect(out, 1, dict(factors), {})
    return out


def plain_function(
    algebra: Algebra, name: str, attributes: tuple[object, ...], parts: tuple[Polynomial, ...]
) -> Polynomial:
    """The function as an atom, with no law."""
    atom = algebra.function(name, attributes, parts)
    if len(parts) == 1:
        shown = spelled(name, attributes)  # type: ignore[arg-type]
        applied(algebra, atom[0], shown, pointwise.definition(name, dict(attributes)), parts[0])  # type: ignore[arg-type]
    return monomial(algebra, {atom: 1})
