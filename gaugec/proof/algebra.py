"""Polynomials over indexed atoms, in a normal form: equal normal forms are a proof of equality.

The data is that of `gaugec.proof.terms`; the rewrites are given to it (they are the rows of `gaugec.proof.rules`).  Two
unequal normal forms can only cause a refusal: a missed identity is never a false proof.

What this module does not do: it knows no rule, no graph (see `gaugec.proof.normal`) and no gauge.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gaugec import limits
from gaugec.laws import table
from gaugec.operators import FUSED, spelled
from gaugec.proof.terms import (
    DUMMY,
    MARK,
    Factor,
    Factors,
    Index,
    Monomial,
    Number,
    Polynomial,
    Raw,
    Symbol,
    Undecided,
    index,
    number,
    plain,
    relabelled,
    substituted,
)

PERMUTATIONS = 720
FACTORS = 1_000  # of one term, and as many summed indices
WORDS = 600  # letters of a term that a person is shown

Template = list[tuple[Number, list[Factor], tuple[int, ...]]]
"""Terms of a polynomial whose free indices are slots: coefficient, factors, sizes of the summed indices."""


@dataclass(frozen=True)
class Rule:
    """One rewrite: what it says, the laws of `gaugec.laws.pointwise` it stands on, the symbol kinds that wake it."""

    name: str
    says: str
    laws: tuple[str, ...]
    kinds: frozenset[str] = frozenset()
    apply: Callable[[Algebra, Factors, dict[int, int]], list[Raw] | None] | None = None


class Algebra:
    """The symbols, variables and rules of one proof, with its budget: steps, and `seconds` within `gaugec.limits`.

    `rules`: by name; those with a function rewrite monomials, tried in the order in which they stand.
    `symbolic`: sizes are labels; a summed index that occurs nowhere then gives the symbol of its label, never a number.
    `used` collects the rules and laws that fired; `nonzero` and `partial` say where what was made of symbols has a
    value (see `gaugec.proof.domains`).
    """

    def __init__(
        self,
        rules: Mapping[str, Rule],
        *,
        symbolic: bool,
        ones: bool = False,
        steps: int = 400_000,
        seconds: float = math.inf,
    ) -> None:
        self.rules = rules
        self.order = tuple(rule for rule in rules.values() if rule.apply is not None)
        self.symbolic = symbolic
        self.ones = ones
        self.symbols: list[Symbol] = []
        self.table: dict[object, int] = {}
        self.sizes: dict[int, int] = {}
        self.used: dict[str, None] = {}
        self.nonzero: dict[int, str] = {}  # what was divided by, and that it must not vanish
        self.partial: dict[int, str] = {}  # what has no value everywhere, and where it has one
        self.standing: set[int] = set()  # the symbols that are left in what was compared
        self.steps = steps
        self.until = limits.now() + seconds
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
        limits.check()
        self.steps -= count
        if self.steps < 0 or (self.steps & 63 == 0 and limits.now() > self.until):
            raise Undecided("not decided: the proof is larger than its budget")

    def allow(self, rule: str) -> bool:
        """Whether the rule may fire: its law holds.  Records the use."""
        if rule in self.used:
            return True
        row = self.rules[rule]
        if not all(table.holds(law) for law in row.laws):
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
                limits.check()
                value = number(limits.bounded(out.get(mono, 0) + scale * coefficient))
                if value:
                    out[mono] = value
                else:
                    out.pop(mono, None)
        return out

    def minus(self, left: Polynomial, right: Polynomial) -> Polynomial:
        """left - right."""
        return self.add((1, left), (-1, right))

    def released(self, mono: Monomial) -> tuple[tuple[Factor, ...], dict[int, int]]:
        """The factors with fresh names for the summed indices."""
        factors, bound = mono
        if not bound:
            return factors, {}
        labels, sizes = {}, {}
        for k, size in enumerate(bound):
            self._next += 1
            labels[-1 - k] = self._next
            sizes[self._next] = size
        return tuple((s, relabelled(ix, labels), e) for s, ix, e in factors), sizes

    def product(self, parts: Iterable[Polynomial], coefficient: Number = 1, summed: Iterable[int] = ()) -> Polynomial:
        """coefficient * sum over `summed` of the product of the parts."""
        out: Polynomial = {}
        bound = {v: self.sizes[v] for v in summed}
        for combination in itertools.product(*(poly.items() for poly in parts)):
            value: Number = coefficient
            factors: Factors = {}
            sums = dict(bound)
            for mono, scale in combination:
                value = limits.bounded(value * scale)
                opened, sizes = self.released(mono)
                sums.update(sizes)
                for s, ix, e in opened:
                    factors[s, ix] = factors.get((s, ix), 0) + e
                self._small(factors, sums)
            self.collect(out, value, factors, sums)
        return out

    def substitute(self, poly: Polynomial, values: Mapping[int, Index]) -> Polynomial:
        """The polynomial with free variables replaced by indices."""
        if all(plain(ix) == v for v, ix in values.items()):
            return poly
        out: Polynomial = {}
        for mono, coefficient in poly.items():
            opened, sums = self.released(mono)
            factors: Factors = {}
            for s, ixs, e in opened:
                key = (s, tuple(substituted(ix, values) for ix in ixs))
                factors[key] = factors.get(key, 0) + e
            self.collect(out, coefficient, factors, sums)
        return out

    def _small(self, factors: Factors, bound: Mapping[int, int]) -> None:
        """A term that grows without end is given up before it fills the memory."""
        if len(factors) > FACTORS or len(bound) > FACTORS:
            raise Undecided(f"not decided: a term has more than {FACTORS:,} factors")

    def collect(self, out: Polynomial, coefficient: Number, factors: Factors, bound: dict[int, int]) -> None:
        """Adds coefficient * sum over bound of the factors to `out`, after the rules have done what they can."""
        todo: list[Raw] = [(coefficient, factors, bound)]
        while todo:
            value, factors, bound = todo.pop()
            self.spend()
            self._small(factors, bound)
            kinds = set()
            factors = {key: number(limits.bounded(e)) for key, e in factors.items() if e}
            for s, _ in factors:
                kinds.add(self.symbols[s].kind)
            for rule in self.order:
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
            limits.check()
            signatures = {
                v: (colours[v], size)
                + tuple(
                    sorted(
                        (items[at][0], relabelled(items[at][1], {**colours, v: MARK}), items[at][2]) for at in where[v]
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

    def _labelled(self, items: list[Factor], bound: dict[int, int], colours: dict[int, int]) -> Iterable[Monomial]:
        classes: dict[int, list[int]] = {}
        for v, colour in colours.items():
            classes.setdefault(-colour, []).append(v)
        ordered = [classes[c] for c in sorted(classes)]
        for choice in _orders(ordered, PERMUTATIONS):
            limits.check()
            order = [v for group in choice for v in group]
            labels = {v: -1 - k for k, v in enumerate(order)}
            yield tuple(sorted((s, relabelled(ix, labels), e) for s, ix, e in items)), tuple(bound[v] for v in order)

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
        raw, slots = _opened(parts, dummies)
        key, labels, polys = self._least(raw, len(slots))
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

    def _least(
        self, raw: Sequence[Template], count: int
    ) -> tuple[tuple[object, ...], Mapping[int, int], list[Polynomial]]:
        """The least key among the labellings of the slots that are tried, its labels, and the parts in these labels."""
        best: tuple[Any, Mapping[int, int], list[Polynomial]] | None = None
        for labels in self._slot_order(raw, count):
            limits.check()
            polys = [self._template(terms, labels) for terms in raw]
            key = tuple(tuple(sorted(p.items())) for p in polys)
            if best is None or key < best[0]:
                best = (key, labels, polys)
        assert best is not None
        return best

    def _template(self, terms: Template, labels: Mapping[int, int]) -> Polynomial:
        out: Polynomial = {}
        for coefficient, factors, bound in terms:
            limits.check()
            names = {-1 - k: -(1 << 20) - k for k in range(len(bound))}
            both = {**labels, **names}
            mono = self.canonical(
                {(s, relabelled(ix, both)): e for s, ix, e in factors},
                {names[-1 - k]: size for k, size in enumerate(bound)},
            )
            out[mono] = number(out.get(mono, 0) + coefficient)
        return out

    def _slot_order(self, raw: Sequence[Template], count: int) -> Iterable[dict[int, int]]:
        """Orders of the slots that do not depend on their names; ties are all tried by the caller, up to a limit."""
        colours: dict[int, int] = dict.fromkeys(range(count), 0)
        for _ in range(2):
            if len(set(colours.values())) == count:
                break
            signatures = {}
            for k in range(count):
                limits.check()
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
        for choice in _orders(ordered, 24):
            yield {k: at for at, k in enumerate(k for group in choice for k in group)}

    def opened(self, symbol: int, indices: tuple[Index, ...], part: int = 0) -> Polynomial:
        """The argument of an interned function, at the indices of an instance."""
        row = self.symbols[symbol]
        values: dict[int, Index] = dict(enumerate(indices[row.reads :]))
        values.update({DUMMY + k: ix for k, ix in enumerate(indices[: row.reads])})
        return self.substitute(row.data[part], values)

    # --- words -----------------------------------------------------------------------------------------------------
    def words(self, mono: Monomial, coefficient: Number = 1) -> str:
        """A monomial for people: sum over s of 2 * R[i, s] * W[s, d]."""
        factors, bound = mono
        names: dict[int, str] = {-1 - k: f"s{k + 1}" if len(bound) > 1 else "s" for k in range(len(bound))}

        def name(v: int) -> str:
            free = len(names) - len(bound)
            return names.setdefault(v, "ijpqmn"[free] if free < 6 else f"i{free}")

        def show(ix: Index) -> str:
            offset, terms = ix
            parts = [str(offset)] if offset or not terms else []
            parts += [name(v) if s == 1 else f"{s}{name(v)}" for s, v in terms]
            return "+".join(parts)

        shown = []
        for s, ixs, e in factors:
            row = self.symbols[s]
            text = row.name if row.name != FUSED else f"({spelled(FUSED, row.attributes)})"  # type: ignore[arg-type]
            text += f"[{', '.join(map(show, ixs))}]" if ixs else ""
            shown.append(text if e == 1 else f"{text}^{e if e > 0 else f'({e})'}")
        head = "" if coefficient == 1 and shown else f"{coefficient} " if coefficient != -1 or not shown else "- "
        sums = f"sum over {', '.join(names[-1 - k] for k in range(len(bound)))} of " if bound else ""
        text = f"{sums}{head}{' * '.join(shown)}".strip()
        return text if len(text) <= WORDS else text[:WORDS] + " …"


def _opened(parts: Sequence[Polynomial], dummies: Sequence[int]) -> tuple[list[Template], dict[Index, int]]:
    """Parts with a slot in place of every free index, and which index each slot stands for."""
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
    return raw, slots


def _orders(classes: list[list[int]], most: int) -> Iterable[tuple[tuple[int, ...], ...]]:
    """The first orders of the elements within each class; `itertools.product` alone would make all of them first."""
    few = (itertools.islice(itertools.permutations(each), most) for each in classes)
    return itertools.islice(itertools.product(*few), most)


def _reads(term: tuple[Number, list[Factor], tuple[int, ...]], slot: int) -> bool:
    return any(v == slot for _, ixs, _ in term[1] for _, terms in ixs for _, v in terms)
