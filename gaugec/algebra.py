"""Polynomials over indexed atoms, in a normal form: equal normal forms are a proof of equality.

A *symbol* is a tensor without a definition here: a leaf, a cut node, a part of the group's element, the Kronecker delta,
a size, or a function of a normalised polynomial (interned, so that equal functions of equal arguments are one symbol).
A *factor* is (symbol, indices, exponent); a *monomial* is a sorted tuple of factors with the sizes of its summed
indices; a *polynomial* maps monomials to rational coefficients.  Summed indices are the labels -1, -2, ... in an order
that does not depend on their names; free indices are non-negative numbers.

Every rewrite rule is one row of `RULES` and fires only where sympy has proved the law that the row names.  Two unequal
normal forms can only cause a refusal: a missed identity is never a false proof.

What this module does not do: it knows no graph (see `gaugec.normal`) and no gauge.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from gaugec import laws

Number = int | Fraction
Index = tuple[int, tuple[tuple[int, int], ...]]
"""offset + sum(stride * variable), terms sorted by descending stride."""
Factor = tuple[int, tuple[Index, ...], Number]
Monomial = tuple[tuple[Factor, ...], tuple[int, ...]]
Polynomial = dict[Monomial, Number]
Factors = dict[tuple[int, tuple[Index, ...]], Number]
Raw = tuple[Number, Factors, dict[int, int]]

DUMMY = 1 << 40  # labels of the indices that a function acts along, inside its interned argument
MARK = 1 << 41
PERMUTATIONS = 720


class Undecided(Exception):
    """The normal form cannot be computed; the message says why in a reader's words."""


class NeedSplit(Exception):
    """A variable must be split into parts: `parts` are (start, length, step), variable = start + step * part."""

    def __init__(self, variable: int, parts: tuple[tuple[int, int, int], ...]) -> None:
        super().__init__(f"variable {variable} must be split")
        self.variable = variable
        self.parts = parts


@dataclass(frozen=True)
class Symbol:
    """What an atom's number stands for.

    kind: "node", "element", "delta", "size", "function", "base" (what a pow stands on), "mask".
    name: how reports call it.  data: for functions the argument polynomials, over slots 0.. and dummies DUMMY...
    `reads`: how many of the leading indices say where a function along an axis is read.  extent: length of the summed
    axis (group elements, softmax).
    """

    kind: str
    name: str
    tag: str = ""
    data: tuple[Polynomial, ...] = ()
    attributes: tuple[object, ...] = ()
    reads: int = 0
    extent: int = 0
    positive: bool = False


def number(value: Number) -> Number:
    """An int where the value is one: hashing and printing are cheaper."""
    return value.numerator if isinstance(value, Fraction) and value.denominator == 1 else value


def index(offset: int, terms: Iterable[tuple[int, int]]) -> Index:
    """The sorted index of the given terms; terms of one variable are joined, zero strides dropped."""
    joined: dict[int, int] = {}
    for stride, variable in terms:
        joined[variable] = joined.get(variable, 0) + stride
    return offset, tuple(sorted(((s, v) for v, s in joined.items() if s), key=lambda t: (-t[0], t[1])))


def variable(v: int) -> Index:
    """The index that is the bare variable v."""
    return 0, ((1, v),)


def plain(ix: Index) -> int | None:
    """The variable, when the index is a bare one."""
    offset, terms = ix
    return terms[0][1] if offset == 0 and len(terms) == 1 and terms[0][0] == 1 else None


def shifted(ix: Index, by: int) -> Index:
    """The index moved by a constant."""
    return ix[0] + by, ix[1]


def scaled(ix: Index, by: int) -> Index:
    """The index times a constant."""
    return index(by * ix[0], ((by * s, v) for s, v in ix[1]))


def joined(parts: Iterable[Index]) -> Index:
    """The sum of indices."""
    parts = tuple(parts)
    return index(sum(p[0] for p in parts), (t for p in parts for t in p[1]))


def substituted(ix: Index, values: Mapping[int, Index]) -> Index:
    """The index with variables replaced by indices."""
    offset, terms = ix
    if not any(v in values for _, v in terms):
        return ix
    out: list[tuple[int, int]] = []
    for stride, v in terms:
        value = values.get(v)
        if value is None:
            out.append((stride, v))
        else:
            offset += stride * value[0]
            out.extend((stride * s, w) for s, w in value[1])
    return index(offset, out)


def _relabelled(indices: tuple[Index, ...], labels: Mapping[int, int]) -> tuple[Index, ...]:
    out = []
    for offset, terms in indices:
        if len(terms) == 1:
            stride, v = terms[0]
            out.append((offset, ((stride, labels.get(v, v)),)))
        else:
            out.append((offset, tuple(sorted(((s, labels.get(v, v)) for s, v in terms), key=lambda t: (-t[0], t[1])))))
    return tuple(out)


class Algebra:
    """The symbols, variables and rules of one proof, with its budget.

    `symbolic`: sizes are labels; a summed index that occurs nowhere then gives the symbol of its label, never a number.
    `used` collects the rules and laws that fired, `conditions` the side conditions.
    """

    def __init__(self, *, symbolic: bool, ones: bool = False, steps: int = 400_000, seconds: float = 20.0) -> None:
        self.symbolic = symbolic
        self.ones = ones
        self.symbols: list[Symbol] = []
        self.table: dict[object, int] = {}
        self.sizes: dict[int, int] = {}
        self.used: dict[str, None] = {}
        self.conditions: dict[str, None] = {}
        self.steps = steps
        self.until = time.monotonic() + seconds
        self._next = 0
        self._functions: dict[object, tuple[int, tuple[Index, ...]]] = {}
        self.delta_ = self.symbol(("delta",), Symbol("delta", "delta"))

    # --- symbols and variables -------------------------------------------------------------------------------------
    def symbol(self, key: object, symbol: Symbol) -> int:
        """The number of the symbol with this key."""
        found = self.table.get(key)
        if found is None:
            found = self.table[key] = len(self.symbols)
            self.symbols.append(symbol)
        return found

    def fresh(self, size: int) -> int:
        """A new free variable."""
        self._next += 1
        self.sizes[self._next] = size
        return self._next

    def span(self, ix: Index, sizes: Mapping[int, int] | None = None) -> tuple[int, int]:
        """The smallest and largest value of an index."""
        low = high = ix[0]
        for stride, v in ix[1]:
            size = (sizes[v] if sizes and v in sizes else self.sizes[v]) - 1
            low += min(0, stride * size)
            high += max(0, stride * size)
        return low, high

    def spend(self, count: int = 1) -> None:
        """Counts work against the budget."""
        self.steps -= count
        if self.steps < 0 or (self.steps & 63 == 0 and time.monotonic() > self.until):
            raise Undecided("not decided: the proof is larger than its budget")

    def allow(self, rule: str) -> bool:
        """Whether the rule may fire: its law holds.  Records the use."""
        if rule in self.used:
            return True
        row = RULES[rule]
        if not all(laws.holds(law) for law in row.laws):
            return False
        self.used[rule] = None
        return True

    # --- polynomials -----------------------------------------------------------------------------------------------
    def constant(self, value: Number) -> Polynomial:
        """The polynomial of a number."""
        return {((), ()): number(value)} if value else {}

    def atom(self, symbol: int, indices: tuple[Index, ...] = (), exponent: Number = 1) -> Polynomial:
        """The polynomial of one factor."""
        out: Polynomial = {}
        self.collect(out, 1, {(symbol, indices): exponent}, {})
        return out

    def delta(self, i: Index, j: Index) -> Polynomial:
        """1 where the two indices are equal, else 0."""
        return self.atom(self.delta_, (min(i, j), max(i, j)))

    def size(self, label: int) -> Polynomial:
        """The size: a symbol in a symbolic graph, a number in a traced one."""
        if not self.symbolic:
            return self.constant(label)
        return self.atom(self.symbol(("size", label), Symbol("size", f"size{label}", positive=True)))

    def add(self, *parts: tuple[Number, Polynomial]) -> Polynomial:
        """The linear combination of polynomials."""
        out: Polynomial = {}
        for scale, poly in parts:
            for mono, coefficient in poly.items():
                value = number(out.get(mono, 0) + scale * coefficient)
                if value:
                    out[mono] = value
                else:
                    out.pop(mono, None)
        return out

    def minus(self, left: Polynomial, right: Polynomial) -> Polynomial:
        """left - right."""
        return self.add((1, left), (-1, right))

    def _open(self, mono: Monomial) -> tuple[tuple[Factor, ...], dict[int, int]]:
        """The factors with fresh names for the summed indices."""
        factors, bound = mono
        if not bound:
            return factors, {}
        labels, sizes = {}, {}
        for k, size in enumerate(bound):
            self._next += 1
            labels[-1 - k] = self._next
            sizes[self._next] = size
        return tuple((s, _relabelled(ix, labels), e) for s, ix, e in factors), sizes

    def product(
        self, parts: Iterable[Polynomial], coefficient: Number = 1, summed: Iterable[int] = ()
    ) -> Polynomial:
        """coefficient * sum over `summed` of the product of the parts."""
        out: Polynomial = {}
        bound = {v: self.sizes[v] for v in summed}
        for combination in itertools.product(*(poly.items() for poly in parts)):
            value: Number = coefficient
            factors: Factors = {}
            sums = dict(bound)
            for mono, scale in combination:
                value = value * scale
                opened, sizes = self._open(mono)
                sums.update(sizes)
                for s, ix, e in opened:
                    factors[s, ix] = factors.get((s, ix), 0) + e
            self.collect(out, value, factors, sums)
        return out

    def substitute(self, poly: Polynomial, values: Mapping[int, Index]) -> Polynomial:
        """The polynomial with free variables replaced by indices."""
        if all(plain(ix) == v for v, ix in values.items()):
            return poly
        out: Polynomial = {}
        for mono, coefficient in poly.items():
            opened, sums = self._open(mono)
            factors: Factors = {}
            for s, ixs, e in opened:
                key = (s, tuple(substituted(ix, values) for ix in ixs))
                factors[key] = factors.get(key, 0) + e
            self.collect(out, coefficient, factors, sums)
        return out

    def collect(self, out: Polynomial, coefficient: Number, factors: Factors, bound: dict[int, int]) -> None:
        """Adds coefficient * sum over bound of the factors to `out`, after the rules have done what they can."""
        todo: list[Raw] = [(coefficient, factors, bound)]
        while todo:
            value, factors, bound = todo.pop()
            self.spend()
            kinds = set()
            for key in [key for key, e in factors.items() if e == 0]:
                del factors[key]
            for s, _ in factors:
                kinds.add(self.symbols[s].kind)
            for rule in ORDER:
                if rule.kinds and not rule.kinds & kinds:
                    continue
                assert rule.apply is not None
                result = rule.apply(self, factors, bound)
                if result is not None:
                    todo.extend((number(value * scale), f, b) for scale, f, b in result)
                    break
            else:
                mono = self.canonical(factors, bound)
                total = number(out.get(mono, 0) + value)
                if total:
                    out[mono] = total
                else:
                    out.pop(mono, None)

    # --- canonical names of summed indices -------------------------------------------------------------------------
    def canonical(self, factors: Factors, bound: dict[int, int]) -> Monomial:
        """The monomial with its summed indices labelled -1, -2, ... independently of their names."""
        items = [(s, ix, number(e)) for (s, ix), e in factors.items()]
        if not bound:
            return tuple(sorted(items)), ()
        where: dict[int, list[int]] = {v: [] for v in bound}
        for at, (_, ixs, _) in enumerate(items):
            for v in {v for _, terms in ixs for _, v in terms if v in bound}:
                where[v].append(at)
        colours = dict.fromkeys(bound, -1)
        count = 0
        while True:
            signatures = {
                v: (colours[v], size)
                + tuple(
                    sorted(
                        (items[at][0], _relabelled(items[at][1], {**colours, v: MARK}), items[at][2]) for at in where[v]
                    )
                )
                for v, size in bound.items()
            }
            ranks = {sig: -1 - k for k, sig in enumerate(sorted(set(signatures.values())))}
            colours = {v: ranks[sig] for v, sig in signatures.items()}
            if len(ranks) == count or len(ranks) == len(bound):
                break
            count = len(ranks)
        return min(self._labelled(items, bound, colours))

    def _labelled(
        self, items: list[Factor], bound: dict[int, int], colours: dict[int, int]
    ) -> Iterable[Monomial]:
        classes: dict[int, list[int]] = {}
        for v, colour in colours.items():
            classes.setdefault(-colour, []).append(v)
        ordered = [classes[c] for c in sorted(classes)]
        choices = itertools.product(*(itertools.permutations(c) for c in ordered))
        for choice in itertools.islice(choices, PERMUTATIONS):
            order = [v for group in choice for v in group]
            labels = {v: -1 - k for k, v in enumerate(order)}
            yield tuple(sorted((s, _relabelled(ix, labels), e) for s, ix, e in items)), tuple(bound[v] for v in order)

    # --- functions -------------------------------------------------------------------------------------------------
    def function(
        self,
        name: str,
        attributes: tuple[object, ...],
        parts: tuple[Polynomial, ...],
        *,
        kind: str = "function",
        dummies: tuple[int, ...] = (),
        reads: tuple[Index, ...] = (),
        positive: bool = False,
    ) -> tuple[int, tuple[Index, ...]]:
        """The interned symbol of a function of polynomials, and the indices at which this instance reads it.

        `dummies` are the variables that the function acts along; `reads` where its result is read along them.
        """
        memo = (name, attributes, tuple(frozenset(p.items()) for p in parts), dummies, kind)
        known = self._functions.get(memo)
        if known is not None:
            return known[0], reads + known[1]
        inner = {v: DUMMY + k for k, v in enumerate(dummies)}
        slots: dict[Index, int] = {}

        def slot(ix: Index) -> Index:
            offset, terms = ix
            inside = [(s, inner.get(v, v)) for s, v in terms if v < 0 or v in inner]
            if len(inside) == len(terms) and terms:
                return index(offset, inside)
            free = (offset, tuple((s, v) for s, v in terms if not (v < 0 or v in inner)))
            return index(0, [*inside, (1, slots.setdefault(free, len(slots)))])

        raw = [
            [(c, [(s, tuple(map(slot, ixs)), e) for s, ixs, e in factors], bound) for (factors, bound), c in p.items()]
            for p in parts
        ]
        order = self._slot_order(raw, len(slots))
        best = None
        for labels in order:
            polys = [self._template(terms, labels) for terms in raw]
            key = tuple(tuple(sorted(p.items())) for p in polys)
            if best is None or key < best[0]:
                best = (key, labels, polys)
        assert best is not None
        key, labels, polys = best
        extents = tuple(self.sizes[v] for v in dummies)
        number_ = self.symbol(
            (kind, name, attributes, extents, key),
            Symbol(
                kind,
                name,
                data=tuple(polys),
                attributes=attributes,
                reads=len(reads),
                extent=extents[0] if extents else 0,
                positive=positive,
            ),
        )
        at: list[Index] = [(0, ())] * len(slots)
        for ix, k in slots.items():
            at[labels[k]] = ix
        self._functions[memo] = (number_, tuple(at))
        return number_, reads + tuple(at)

    def _template(
        self, terms: list[tuple[Number, list[Factor], tuple[int, ...]]], labels: Mapping[int, int]
    ) -> Polynomial:
        out: Polynomial = {}
        for coefficient, factors, bound in terms:
            names = {-1 - k: -(1 << 20) - k for k in range(len(bound))}
            both = {**labels, **names}
            mono = self.canonical(
                {(s, _relabelled(ix, both)): e for s, ix, e in factors},
                {names[-1 - k]: size for k, size in enumerate(bound)},
            )
            out[mono] = number(out.get(mono, 0) + coefficient)
        return out

    def _slot_order(
        self, raw: list[list[tuple[Number, list[Factor], tuple[int, ...]]]], count: int
    ) -> Iterable[dict[int, int]]:
        """Orders of the slots that do not depend on their names; ties are all tried by the caller, up to a limit."""
        colours: dict[int, int] = dict.fromkeys(range(count), 0)
        for _ in range(2):
            if len(set(colours.values())) == count:
                break
            signatures = {}
            for k in range(count):
                labels = {j: (MARK if j == k else MARK + 1 + colours[j]) for j in range(count)}
                signatures[k] = (
                    colours[k],
                    tuple(
                        (at, tuple(sorted(self._template([t for t in terms if _reads(t, k)], labels).items())))
                        for at, terms in enumerate(raw)
                    ),
                )
            ranks = {sig: r for r, sig in enumerate(sorted(set(signatures.values())))}
            colours = {k: ranks[sig] for k, sig in signatures.items()}
        classes: dict[int, list[int]] = {}
        for k, colour in colours.items():
            classes.setdefault(colour, []).append(k)
        ordered = [classes[c] for c in sorted(classes)]
        for choice in itertools.islice(itertools.product(*map(itertools.permutations, ordered)), 24):
            yield {k: at for at, k in enumerate(k for group in choice for k in group)}

    def opened(self, symbol: int, indices: tuple[Index, ...], part: int = 0) -> Polynomial:
        """The argument of an interned function, at the indices of an instance."""
        row = self.symbols[symbol]
        values: dict[int, Index] = {k: ix for k, ix in enumerate(indices[row.reads :])}
        values.update({DUMMY + k: ix for k, ix in enumerate(indices[: row.reads])})
        return self.substitute(row.data[part], values)

    # --- words -----------------------------------------------------------------------------------------------------
    def words(self, mono: Monomial, coefficient: Number = 1) -> str:
        """A monomial for people: sum over s of 2 * R[i, s] * W[s, d]."""
        factors, bound = mono
        names: dict[int, str] = {-1 - k: f"s{k + 1}" if len(bound) > 1 else "s" for k in range(len(bound))}

        def show(ix: Index) -> str:
            offset, terms = ix
            parts = [str(offset)] if offset or not terms else []
            for s, v in terms:
                name = names.setdefault(v, "ijpqmn"[len(names) - len(bound)] if len(names) - len(bound) < 6 else f"i{v}")
                parts.append(name if s == 1 else f"{s}{name}")
            return "+".join(parts)

        shown = []
        for s, ixs, e in factors:
            text = self.symbols[s].name + (f"[{', '.join(map(show, ixs))}]" if ixs else "")
            shown.append(text if e == 1 else f"{text}^{e if e > 0 else f'({e})'}")
        head = "" if coefficient == 1 and shown else f"{coefficient} " if coefficient != -1 or not shown else "- "
        sums = f"sum over {', '.join(names[-1 - k] for k in range(len(bound)))} of " if bound else ""
        return f"{sums}{head}{' * '.join(shown)}".strip()


def _reads(term: tuple[Number, list[Factor], tuple[int, ...]], slot: int) -> bool:
    return any(v == slot for _, ixs, _ in term[1] for _, terms in ixs for _, v in terms)


# --- the rules -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Rule:
    """One rewrite: what it says, the laws of `gaugec.laws` it stands on, the symbol kinds that wake it."""

    name: str
    says: str
    laws: tuple[str, ...]
    kinds: frozenset[str] = frozenset()
    apply: Callable[[Algebra, Factors, dict[int, int]], list[Raw] | None] | None = None


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
        left, right = key[1]
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
        for one, other, room in ((left, right, b), (right, left, a)):
            v = plain(one)
            if v is None or v not in bound or any(w == v for _, w in other[1]):
                continue
            w = plain(other)
            whole = w is None or bound.get(w, algebra.sizes.get(w)) == bound[v]
            if room[0] >= 0 and room[1] < bound[v] and (whole or not algebra.symbolic):
                sums = {w: size for w, size in bound.items() if w != v}
                return [(1, _replace(rest, {v: other}), sums)]
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
    found = [
        (key, e) for key, e in factors.items() if algebra.symbols[key[0]].tag in ("R", "Ri") and e in (1, 2)
    ]
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
            places, rule = ((-2, -2), (-1, -1)), "orthogonal"
        elif a.tag != b.tag:
            places, rule = ((-2, -1), (-1, -2)), "inverse"
        else:
            continue
        for p, q in places:
            ix = one[1][p]
            if ix != two[1][q] or not _covers(ix, bound, a.extent):
                continue
            occurrences = 1 if one == two else 2
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


def _torus_rule(algebra: Algebra, factors: Factors, bound: dict[int, int]) -> list[Raw] | None:
    for key, e in factors.items():
        row = algebra.symbols[key[0]]
        if row.tag == "S" and e >= 2 and algebra.allow("torus"):
            cosine = algebra.symbol(("element", row.name[1:], "C"), Symbol("element", "C" + row.name[1:], "C"))
            less = dict(factors)
            less[key] = e - 2
            more = dict(less)
            more[cosine, key[1]] = more.get((cosine, key[1]), 0) + 2
            return [(1, less, dict(bound)), (-1, more, dict(bound))]
    return None


def _softmax_rule(algebra: Algebra, factors: Factors, bound: dict[int, int]) -> list[Raw] | None:
    if not bound:
        return None
    counts = _count(factors, bound)
    for key, e in factors.items():
        row = algebra.symbols[key[0]]
        if row.name == "softmax" and row.reads == 1 and e == 1 and _covers(key[1][0], bound, row.extent):
            gone = {v for _, v in key[1][0][1]}
            if all(counts[v] == 1 for v in gone) and algebra.allow("softmax sum"):
                return [(1, _without(factors, key), {v: size for v, size in bound.items() if v not in gone})]
    return None


def _base_rule(algebra: Algebra, factors: Factors, bound: dict[int, int]) -> list[Raw] | None:
    for key, e in factors.items():
        if algebra.symbols[key[0]].kind == "base" and isinstance(e, int) and 1 <= e <= 4 and algebra.allow("power"):
            poly = algebra.product([algebra.opened(*key)] * e)
            out: list[Raw] = []
            for mono, coefficient in poly.items():
                opened, sums = algebra._open(mono)
                more = _without(factors, key)
                for s, ix, exponent in opened:
                    more[s, ix] = more.get((s, ix), 0) + exponent
                out.append((coefficient, more, {**bound, **sums}))
            return out
    return None


_ELEMENT = frozenset({"element"})
ORDER: tuple[Rule, ...] = (
    Rule("delta", "sum over j of delta[i,j] f[j] is f[i]", ("delta",), frozenset({"delta"}), _delta_rule),
    Rule("orthogonal", "R'R = 1 = RR', where the summed index occurs in those two only", ("orthogonal",), _ELEMENT, _pair_rule),
    Rule("torus", "S^2 = 1 - C^2 in every rotated pair", ("torus",), _ELEMENT, _torus_rule),
    Rule("ones", "R1 = 1 = R'1", ("ones",), _ELEMENT, _ones_rule),
    Rule("softmax sum", "a softmax sums to 1", ("softmax sum",), frozenset({"function"}), _softmax_rule),
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
        Rule("softmax shift", "softmax forgets what is added along its axis", ("softmax shift",)),
        Rule("log_softmax shift", "log_softmax forgets what is added along its axis", ("log_softmax shift",)),
        Rule("cross_entropy shift", "cross-entropy forgets what is added to every logit", ("cross_entropy shift",)),
        Rule("max shift", "max(x + a) = max(x) + a", ("max shift",)),
        Rule("min shift", "min(x + a) = min(x) + a", ("min shift",)),
        Rule("max scale", "max(c x) = c max(x) for c > 0", ("max scale",)),
        Rule("min scale", "min(c x) = c min(x) for c > 0", ("min scale",)),
    )
}
"""Every rule, by name."""
