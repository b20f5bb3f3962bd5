"""The rewrite rules of the normal form: ONE row per rule, each with what it says and the laws it stands on.

A rule fires only where sympy has proved its laws (`gaugec.laws.pointwise`).  Rows without a function are applied where
a function atom is made (`gaugec.proof.normal`); the others rewrite one monomial, given as factors and the sizes of its
summed indices.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping

from gaugec.operators import BY_NAME, TABLE, Operator
from gaugec.proof.algebra import Algebra, Rule
from gaugec.proof.pieces import cut_at
from gaugec.proof.terms import Factors, Index, Raw, Symbol, plain, shifted, substituted, variable


def _count(factors: Factors, variables: Iterable[int]) -> dict[int, int]:
    """How often each variable occurs, over all factors and positions."""
    out = dict.fromkeys(variables, 0)
    for _, ixs in factors:
        for _, terms in ixs:
            for _, v in terms:
                if v in out:
                    out[v] += 1
    return out


def _covers(ix: Index, bound: Mapping[int, int], extent: int) -> bool:
    """Whether the summed variables of the index run over 0..extent-1, each value once."""
    offset, terms = ix
    stride = 1
    if offset or not terms or any(v not in bound for _, v in terms):
        return False
    for s, v in reversed(terms):
        if s != stride:
            return False
        stride *= bound[v]
    return stride == extent


def _replace(factors: Factors, values: Mapping[int, Index]) -> Factors:
    out: Factors = {}
    for (s, ixs), e in factors.items():
        key = (s, tuple(substituted(ix, values) for ix in ixs))
        out[key] = out.get(key, 0) + e
    return out


def _without(factors: Factors, *gone: tuple[int, tuple[Index, ...]]) -> Factors:
    return {key: e for key, e in factors.items() if key not in gone}


def _delta_rule(algebra: Algebra, factors: Factors, bound: dict[int, int]) -> list[Raw] | None:
    for key in factors:
        if key[0] != algebra.delta_:
            continue
        base = min(key[1][0][0], key[1][1][0])
        left, right = shifted(key[1][0], -base), shifted(key[1][1], -base)
        if factors[key] != 1:
            return [(1, {**factors, key: 1}, bound)]
        if not algebra.allow("delta"):
            return None
        rest = _without(factors, key)
        if left == right:
            return [(1, rest, bound)]
        a, b = algebra.span(left, bound), algebra.span(right, bound)
        if a[1] < b[0] or b[1] < a[0]:
            return []
        straddles: tuple[Index, int, int] | None = None
        for one, other, (least, most) in ((left, right, b), (right, left, a)):
            start = one[0]
            v = plain(shifted(one, -start))
            if v is None or v not in bound or any(w == v for _, w in other[1]):
                continue
            if start <= least and most < start + bound[v]:
                sums = {w: size for w, size in bound.items() if w != v}
                return [(1, _replace(rest, {v: shifted(other, -start)}), sums)]
            if not any(w in bound for _, w in other[1]):
                straddles = other, start, start + bound[v]
        if straddles is not None:
            raise cut_at(algebra, straddles[0], straddles[1:], "a diagonal")
        # digit by digit: equal leading strides, the rest smaller than one stride
        if left[1] and right[1] and left[1][0][0] == right[1][0][0] and left[1][0][0] > 1:
            stride = left[1][0][0]
            low, high = (left[0], left[1][1:]), (right[0], right[1][1:])
            spans = [algebra.span(low, bound), algebra.span(high, bound)]
            if all(0 <= s[0] and s[1] < stride for s in spans):
                heads = (variable(left[1][0][1]), variable(right[1][0][1]))
                out = dict(rest)
                for i, j in (heads, (low, high)):
                    if i != j:
                        out[algebra.delta_, (min(i, j), max(i, j))] = 1
                return [(1, out, bound)]
    return None


def _one_hot_rule(algebra: Algebra, factors: Factors, bound: dict[int, int]) -> list[Raw] | None:
    """Two entries of one row are both 1 only where they are one entry."""
    rows: dict[object, tuple[int, tuple[Index, ...]]] = {}
    for key, e in factors.items():
        row = algebra.symbols[key[0]]
        if row.kind != "one-hot" or not isinstance(e, int) or e < 1:
            continue
        if e > 1 and algebra.allow("one-hot"):
            return [(1, {**factors, key: 1}, bound)]
        other = rows.setdefault((key[0], key[1][: row.reads]), key)
        if other != key and algebra.allow("one-hot"):
            out = _without(factors, key)
            for i, j in zip(other[1][row.reads :], key[1][row.reads :], strict=True):
                if i != j:
                    delta = (algebra.delta_, (min(i, j), max(i, j)))
                    out[delta] = out.get(delta, 0) + 1
            return [(1, out, bound)]
    return None


def _row_rule(algebra: Algebra, factors: Factors, bound: dict[int, int]) -> list[Raw] | None:
    """A row of a one-hot has one 1, wherever that is."""
    if not bound:
        return None
    counts = _count(factors, bound)
    for key, e in factors.items():
        row = algebra.symbols[key[0]]
        if row.kind != "one-hot" or e != 1 or len(key[1]) != row.reads + 1:
            continue
        ix = key[1][-1]
        if _covers(ix, bound, row.extent) and all(counts[v] == 1 for _, v in ix[1]) and algebra.allow("one-hot sum"):
            gone = {v for _, v in ix[1]}
            return [(1, _without(factors, key), {v: size for v, size in bound.items() if v not in gone})]
    return None


def _size_rule(algebra: Algebra, factors: Factors, bound: dict[int, int]) -> list[Raw] | None:
    if not bound:
        return None
    counts = _count(factors, bound)
    gone = [v for v, count in counts.items() if not count]
    if not gone or not algebra.allow("size"):
        return None
    out, value = dict(factors), 1
    for v in gone:
        if algebra.symbolic:
            label = bound[v]
            key = (algebra.symbol(("size", label), Symbol("size", f"size{label}", positive=True)), ())
            out[key] = out.get(key, 0) + 1
        else:
            value *= bound[v]
    return [(value, out, {v: size for v, size in bound.items() if v not in gone})]


def _pair_rule(algebra: Algebra, factors: Factors, bound: dict[int, int]) -> list[Raw] | None:
    """R^T R = 1 = R R^T for orthogonal elements and R^-1 R = 1 = R R^-1: the summed index in exactly those two."""
    found = [(key, e) for key, e in factors.items() if algebra.symbols[key[0]].tag in ("R", "Ri") and e in (1, 2)]
    if not found or not bound:
        return None
    listed = [key for key, e in found for _ in range(int(e))]
    counts = _count({(s, ix): e for (s, ix), e in factors.items()}, bound)
    for one, two in itertools.combinations(listed, 2):
        a, b = algebra.symbols[one[0]], algebra.symbols[two[0]]
        if a.attributes != b.attributes or one[1][:-2] != two[1][:-2]:
            continue
        orthogonal = bool(a.attributes and a.attributes[0])
        if orthogonal and a.tag == b.tag:
            places, rule = ((-2, -2), (-1, -1)), "orthogonality"
        elif a.tag != b.tag:
            places, rule = ((-2, -1), (-1, -2)), "inverse"
        else:
            continue
        for p, q in places:
            ix = one[1][p]
            if ix != two[1][q] or not _covers(ix, bound, a.extent):
                continue
            # exactly those two: one atom squared, or two atoms each to the power one
            occurrences = 1 if one == two else 2
            if factors[one] != (2 if one == two else 1) or factors[one] != factors[two]:
                continue
            if any(counts[v] != occurrences for _, v in ix[1]) or not algebra.allow(rule):
                continue
            i, j = one[1][-3 - p], two[1][-3 - q]
            if any(w == v for _, v in ix[1] for _, w in (*i[1], *j[1])):
                continue
            rest = _without(factors, one, two)
            out = dict(rest)
            if i != j:
                out[algebra.delta_, (min(i, j), max(i, j))] = 1
            gone = {v for _, v in ix[1]}
            return [(1, out, {v: size for v, size in bound.items() if v not in gone})]
    return None


def _ones_rule(algebra: Algebra, factors: Factors, bound: dict[int, int]) -> list[Raw] | None:
    if not algebra.ones or not bound:
        return None
    counts = _count(factors, bound)
    for key, e in factors.items():
        row = algebra.symbols[key[0]]
        if row.tag != "R" or e != 1:
            continue
        for p in (-2, -1):
            ix = key[1][p]
            if _covers(ix, bound, row.extent) and all(counts[v] == 1 for _, v in ix[1]) and algebra.allow("ones"):
                gone = {v for _, v in ix[1]}
                return [(1, _without(factors, key), {v: size for v, size in bound.items() if v not in gone})]
    return None


def _angles_rule(algebra: Algebra, factors: Factors, bound: dict[int, int]) -> list[Raw] | None:
    for key, e in factors.items():
        row = algebra.symbols[key[0]]
        if row.tag == "S" and e >= 2 and algebra.allow("angles"):
            cosine = algebra.symbol(("element", row.name[1:], "C"), Symbol("element", "C" + row.name[1:], "C"))
            less = dict(factors)
            less[key] = e - 2
            more = dict(less)
            more[cosine, key[1]] = more.get((cosine, key[1]), 0) + 2
            return [(1, less, dict(bound)), (-1, more, dict(bound))]
    return None


def _unit_rule(algebra: Algebra, factors: Factors, bound: dict[int, int]) -> list[Raw] | None:
    if not bound:
        return None
    counts = _count(factors, bound)
    for key, e in factors.items():
        symbol = algebra.symbols[key[0]]
        row = BY_NAME.get(symbol.name)
        if row is None or not row.unit:
            continue
        if symbol.reads == 1 and e == 1 and _covers(key[1][0], bound, symbol.extent):
            gone = {v for _, v in key[1][0][1]}
            if all(counts[v] == 1 for v in gone) and algebra.allow(f"{row.name} sum"):
                return [(1, _without(factors, key), {v: size for v, size in bound.items() if v not in gone})]
    return None


def _base_rule(algebra: Algebra, factors: Factors, bound: dict[int, int]) -> list[Raw] | None:
    for key, e in factors.items():
        if algebra.symbols[key[0]].kind == "base" and isinstance(e, int) and 1 <= e <= 4 and algebra.allow("power"):
            poly = algebra.product([algebra.opened(*key)] * e)
            out: list[Raw] = []
            for mono, coefficient in poly.items():
                opened, sums = algebra.released(mono)
                more = _without(factors, key)
                for s, ix, exponent in opened:
                    more[s, ix] = more.get((s, ix), 0) + exponent
                out.append((coefficient, more, {**bound, **sums}))
            return out
    return None


def unit_rules(row: Operator) -> Iterator[Rule]:
    """The rewrite of an operator whose values along the axis sum to 1."""
    if row.unit:
        name = f"{row.name} sum"
        yield Rule(name, f"a {row.name} sums to 1", (name,), frozenset({"function"}), _unit_rule)


def along_rules(row: Operator) -> Iterator[Rule]:
    """What an operator along an axis does with a common shift or scale, as its row says."""
    name = row.name
    if row.shift:
        passes = f"{name}(x + a) = {name}(x) + a"
        says = passes if row.shift == "passes" else f"{name} forgets what is added along its axis"
        yield Rule(f"{name} shift", says, (f"{name} shift",))
    if row.scale:
        yield Rule(f"{name} scale", f"{name}(c x) = c {name}(x) for c > 0", (f"{name} scale",))


_ELEMENT = frozenset({"element"})
ORDER: tuple[Rule, ...] = (
    Rule("delta", "sum over j of delta[i,j] f[j] is f[i]", ("delta",), frozenset({"delta"}), _delta_rule),
    Rule(
        "one-hot",
        "a lookup by index is a sum with O, and O[i,j] O[i,k] = O[i,j] delta[j,k]: f(O x) = O f(x) element by element",
        ("one-hot",),
        frozenset({"one-hot"}),
        _one_hot_rule,
    ),
    Rule("one-hot sum", "a row of a one-hot sums to 1", ("one-hot sum",), frozenset({"one-hot"}), _row_rule),
    Rule(
        "orthogonality",
        "R'R = 1 = RR', where the summed index occurs in those two only",
        ("orthogonality",),
        _ELEMENT,
        _pair_rule,
    ),
    Rule("angles", "S^2 = 1 - C^2 in every rotated pair", ("angles",), _ELEMENT, _angles_rule),
    Rule("ones", "R1 = 1 = R'1", ("ones",), _ELEMENT, _ones_rule),
    *(rule for row in TABLE for rule in unit_rules(row)),
    Rule("power", "(P^(1/2))^2 = P", ("power",), frozenset({"base"}), _base_rule),
    Rule("size", "a sum over an index that occurs nowhere is its size", ("size",), frozenset(), _size_rule),
)
"""The rewrites of monomials, in the order in which they are tried."""

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        *ORDER,
        Rule("linearity", "products distribute over sums", ("distribute",)),
        Rule("inverse", "R^-1 R = 1 = R R^-1", ("inverse",)),
        Rule("degree", "f(c x) = c^n f(x) for c > 0", ()),
        Rule("parity", "f(-x) = f(x), or -f(x)", ()),
        Rule("power of a product", "(c x)^n = c^n x^n for c > 0", ("power of a product",)),
        Rule("exp", "exp(a + b) = exp(a) exp(b)", ("exp",)),
        Rule("log", "log(c x) = log(c) + log(x) for c > 0", ("log",)),
        *(rule for row in TABLE for rule in along_rules(row)),
    )
}
"""Every rule, by name."""
