"""The index normal form of a tensor graph's nodes.

`Evaluator.value(world, node, index)` is the element of a node at an index as a polynomial of `gaugec.proof.algebra`.  A
`World` says what is read at a leaf: the leaf itself, or what the gauge has made of it.  Two equal worlds are a proof.

A variable that straddles the pieces of a `cat` (or the two halves of a rotary pair) is split: a summed one here, a free
one by the caller, who proves each part.  What this module does not do: it knows no law, only rules that stand on laws.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

from gaugec import limits
from gaugec.graph.ir import Along, Concatenation, Contraction, Graph, Ix, Leaf, Map, Node, OneHot, Sum
from gaugec.operators import BY_NAME, Operator
from gaugec.proof.algebra import Algebra
from gaugec.proof.apply import apply, common_positive, monomial
from gaugec.proof.pieces import cut_at, summed
from gaugec.proof.terms import (
    Factors,
    Index,
    Monomial,
    NeedSplit,
    Polynomial,
    Symbol,
    Undecided,
    joined,
    number,
    plain,
    scaled,
    shifted,
    substituted,
    variable,
)

Reading = Callable[["Evaluator", Leaf, tuple[Index, ...]], "Polynomial | None"]
_ALIASES = {"param": "a parameter", "input": "an input"}


@dataclass(frozen=True, eq=False)
class World:
    """What the leaves are: `leaf` returns a leaf's moved value, or None where it is itself."""

    name: str
    leaf: Reading
    inverse: Reading | None = None


class Carrier(Protocol):
    """How a node moves as a whole; see `gaugec.proof.carry`."""

    @property
    def free(self) -> tuple[int, ...]:
        """The variables of its modes."""

    def moved(self, algebra: Algebra, own: Polynomial, ixs: tuple[Index, ...], sizes: tuple[int, ...]) -> Polynomial:
        """The moved value at an index."""


STILL = World("still", lambda _evaluator, _node, _index: None)


@dataclass
class Evaluator:
    """Normal forms of one graph's nodes, remembered by (world, node, shape of the index).

    `atoms`: nodes that are opaque symbols.  `moved`: leaves that some world moves.  `without`: add nodes whose constant
    is taken to be zero (eps).  `root`: the node being proved (never an atom itself).  `carried`: nodes that are atoms
    in the two worlds named by `carrying`, and how each moves in the first of them (see `gaugec.proof.carry`).
    `plus`: leaves g that do not move, and a number n: their symbol is that of g + n, so that a quotient by it is one of
    symbols.
    """

    graph: Graph
    algebra: Algebra
    atoms: Container[int] = frozenset()
    moved: frozenset[int] = frozenset()
    without: frozenset[int] = frozenset()
    root: int = -1
    memo: dict[object, tuple[Polynomial, tuple[int, ...]]] = field(default_factory=dict)
    carrying: tuple[str, str] = ("", "")
    carried: dict[int, Carrier] = field(default_factory=dict)
    plus: Mapping[int, Fraction] = field(default_factory=dict)
    _reached: set[int] | None = None

    # --- what depends on what --------------------------------------------------------------------------------------
    def touched(self, id: int) -> bool:
        """Whether a moved leaf reaches the node; nothing flows on from a cut or kept node (an induction over these)."""
        if self._reached is None:
            reached = set(self.moved)
            todo = list(self.moved)
            while todo:
                for user in self.graph.users[todo.pop()]:
                    if user not in reached:
                        reached.add(user)
                        if user not in self.atoms:
                            todo.append(user)
            self._reached = reached
        return id in self._reached

    def _closed(self, node: Node) -> bool:
        return node.id in self.atoms and node.id != self.root

    # --- reading ---------------------------------------------------------------------------------------------------
    def value(self, world: World, id: int, ixs: tuple[Index, ...]) -> Polynomial:
        """The element of node `id` at the index in this world.

        Raises `NeedSplit` for a free variable that straddles pieces and `Undecided` where there is no normal form.
        """
        limits.check()
        if world is not STILL and not self.touched(id):
            world = STILL
        if id in self.carried and id != self.root and world.name in self.carrying:
            own = self.atom(self.graph[id], tuple(map(variable, self.carried[id].free)))
            if world.name == self.carrying[1]:
                return self.atom(self.graph[id], ixs)
            sizes = tuple(mode.size for mode in self.graph[id].modes)
            return self.carried[id].moved(self.algebra, own, ixs, sizes)
        names: dict[int, int] = {}
        for _, terms in ixs:
            for _, v in terms:
                names.setdefault(v, len(names))
        sizes = tuple(self.algebra.sizes[v] for v in names)
        # the node that is being proved is open, and may have been read as an atom before: that is another value
        root = id == self.root
        key = (world.name, id, root, tuple((o, tuple((s, names[v]) for s, v in terms)) for o, terms in ixs), sizes)
        known = self.memo.get(key)
        if known is None:
            fresh = [self.algebra.fresh(size) for size in sizes]
            inner = {v: variable(fresh[k]) for v, k in names.items()}
            try:
                poly = self._value(world, self.graph[id], tuple(substituted(ix, inner) for ix in ixs))
            except NeedSplit as need:
                back = {w: v for v, w in zip(names, fresh, strict=True)}
                if need.variable not in back:
                    raise Undecided("not supported: a split of an index inside a function") from None
                raise NeedSplit(back[need.variable], need.parts) from None
            known = self.memo[key] = (poly, tuple(fresh))
        return self.algebra.substitute(known[0], dict(zip(known[1], map(variable, names), strict=True)))

    def _value(self, world: World, node: Node, ixs: tuple[Index, ...]) -> Polynomial:
        if self._closed(node):
            return self._given(world, node, ixs)
        env = {mode.variable: ix for mode, ix in zip(node.modes, ixs, strict=True)}
        match node:
            case Leaf():
                return self._leaf(world, node, ixs)
            case Contraction():
                return self._contraction(world, node, env)
            case Sum():
                parts = [(c, self._read(world, node, k, env)) for k, c in enumerate(node.coefficients)]
                constant = Fraction(0) if node.id in self.without else node.constant
                return self.algebra.add(*parts, (1, self.algebra.constant(constant)))
            case Map():
                return apply(self.algebra, node, self._parts(world, node, env))
            case Along():
                return self._along(world, node, env)
            case Concatenation():
                return self._concatenation(world, node, env)
        if self.touched(node.id) and not self._reads_the_same(world, node):
            raise Undecided(f"not supported: {_place(node)} meets a moved value and has no row in the operator table")
        return self.atom(node, ixs)

    def _reads_the_same(self, world: World, node: Node) -> bool:
        """Does nothing move of what the node reads (rows beside the moved ones)?  Then it is what it was."""
        reads = dict.fromkeys(v for access in node.operands for v in access.variables)
        env = {v: variable(self.algebra.fresh(node.sizes[v])) for v in reads}
        try:
            return self._parts(world, node, env) == self._parts(STILL, node, env)
        except NeedSplit:
            return False

    def atom(self, node: Node, ixs: tuple[Index, ...]) -> Polynomial:
        """The node's element as a symbol without a definition; equal values are one symbol."""
        first = self.graph[self.graph.firsts[node.id]]
        leaf = isinstance(first, Leaf)
        name = first.name if isinstance(first, Leaf) else first.source or first.title
        called = f"({self.plus[first.id]} + {{}})".format if first.id in self.plus else str
        # a proof on a model serves every place of equal structure: what it says later may name none of them
        alias = "" if leaf else f"the value of {name} in {first.place}"
        if not self.graph.symbolic:
            alias = _ALIASES.get(first.title if leaf else "", "a divisor")
        row = Symbol("node", called(name), alias=alias and called(alias))
        if isinstance(first, OneHot):
            row = Symbol("one-hot", "one-hot", reads=first.rows, extent=first.shape[-1])
        return self.algebra.atom(self.algebra.symbol(("node", first.id), row), ixs)

    def _given(self, world: World, node: Node, ixs: tuple[Index, ...]) -> Polynomial:
        whole = all(
            (v := plain(ix)) is not None and self.algebra.sizes[v] == mode.size
            for ix, mode in zip(ixs, node.modes, strict=True)
        )
        if whole or not self.graph.piecewise[node.id]:
            return self.atom(node, ixs)
        return self._pushed(node, ixs)

    def _pushed(self, node: Node, ixs: tuple[Index, ...]) -> Polynomial:
        """A given read at a part of an axis: the index moves down to where the parts were made."""
        if not self.graph.piecewise[node.id]:
            return self.atom(node, ixs)
        env = {mode.variable: ix for mode, ix in zip(node.modes, ixs, strict=True)}
        if isinstance(node, Concatenation):
            at = self._piece(node, env)
            if at is None:
                return self.atom(node, ixs)
            operand, env = at
            return self._pushed(self.graph[node.operands[operand].node], self._index(node, operand, env))
        parts = tuple(self._pushed(self.graph[a.node], self._index(node, k, env)) for k, a in enumerate(node.operands))
        match node:
            case Sum():
                terms = zip(node.coefficients, parts, strict=True)
                return self.algebra.add(*terms, (1, self.algebra.constant(node.constant)))
            case Contraction():
                return self.algebra.product(parts, number(node.coefficient))
            case Map():
                return apply(self.algebra, node, parts)
        raise TypeError(f"{node} is not made of pieces")

    def _index(self, node: Node, operand: int, env: Mapping[int, Index]) -> tuple[Index, ...]:
        return tuple(at_index(ix, env) for ix in node.operands[operand].index)

    def _read(self, world: World, node: Node, operand: int, env: Mapping[int, Index]) -> Polynomial:
        return self.value(world, node.operands[operand].node, self._index(node, operand, env))

    def _parts(self, world: World, node: Node, env: Mapping[int, Index]) -> tuple[Polynomial, ...]:
        return tuple(self._read(world, node, k, env) for k in range(len(node.operands)))

    # --- one method a type ------------------------------------------------------------------------------------------
    def _leaf(self, world: World, node: Leaf, ixs: tuple[Index, ...]) -> Polynomial:
        if node.kind == "delta":
            return self.algebra.delta(*ixs)
        moved = world.leaf(self, node, ixs)
        if moved is not None:
            return moved
        if node.kind == "element":
            raise Undecided("the group's element occurs outside an action")
        own = self.atom(node, ixs)
        return self.algebra.minus(own, self.algebra.constant(self.plus[node.id])) if node.id in self.plus else own

    def _contraction(self, world: World, node: Contraction, env: dict[int, Index]) -> Polynomial:
        def build(at: dict[int, Index]) -> list[Polynomial]:
            return list(self._parts(world, node, {**env, **at}))

        return summed(self.algebra, {v: node.sizes[v] for v in node.summed}, build, number(node.coefficient))

    def _piece(self, node: Concatenation, env: dict[int, Index]) -> tuple[int, dict[int, Index]] | None:
        """The operand that an index reads, and the index counted from its start; None where it straddles."""
        ix = env[node.joined]
        low, high = self.algebra.span(ix)
        for k, (start, length) in enumerate(node.pieces):
            if start <= low and high < start + length:
                return k, {**env, node.joined: shifted(ix, -start)}
        return None

    def _concatenation(self, world: World, node: Concatenation, env: dict[int, Index]) -> Polynomial:
        at = self._piece(node, env)
        if at is not None:
            return self._read(world, node, *at)
        raise cut_at(self.algebra, env[node.joined], tuple(s for s, _ in node.pieces if s), _place(node))

    def _inverse(self, world: World, node: Along, env: dict[int, Index]) -> Polynomial | None:
        """The inverse of the group's element; None where a matrix that does not move is inverted."""
        source = self.graph[node.operands[0].node]
        if isinstance(source, Leaf) and source.kind == "element" and world.inverse is not None:
            found = world.inverse(self, source, self._index(node, 0, env))
            if found is not None:
                return found
        if self.touched(source.id):
            raise Undecided(f"not supported: the inverse of a moved value ({_place(node)})")
        return None

    def _along(self, world: World, node: Along, env: dict[int, Index]) -> Polynomial:
        algebra, name = self.algebra, node.function
        inverse = self._inverse(world, node, env) if name == "inverse" else None
        if inverse is not None:
            return inverse
        kept = {mode.variable for mode in node.modes}
        local = {v for a in node.operands for v in a.variables}
        other = tuple(sorted(v for v in local if v not in kept and v not in node.bound))
        dummies = tuple(algebra.fresh(node.sizes[v]) for v in (*node.bound, *other))
        inner = {**env, **{v: variable(w) for v, w in zip((*node.bound, *other), dummies, strict=True)}}
        try:
            parts = self._parts(world, node, inner)
        except NeedSplit as need:
            if need.variable in dummies:
                raise Undecided(f"not supported: the axis of {name} is made of pieces ({_place(node)})") from None
            raise
        reads = tuple(env[v] for v in node.bound if v in kept)
        poly, outside, factor = parts[0], Polynomial(), Factors()
        if name in BY_NAME and node.bound:
            poly, outside, factor = self._taken_out(BY_NAME[name], parts[0], dummies, len(node.bound))
        frozen = tuple((k, repr(v)) for k, v in node.attributes)
        atom = algebra.function(name, frozen, (poly, *parts[1:]), dummies=dummies, reads=reads)
        return algebra.add(
            (1, algebra.product([monomial(algebra, factor), monomial(algebra, {atom: 1})])), (1, outside)
        )

    def _taken_out(
        self, row: Operator, poly: Polynomial, dummies: tuple[int, ...], bound: int
    ) -> tuple[Polynomial, Polynomial, Factors]:
        """What stays inside a function by its proved laws, what is added outside, and what is a factor.

        It acts along the first `bound` of the dummies, all at once.
        """
        algebra, along = self.algebra, frozenset(dummies[:bound])
        outside, factor, passes = Polynomial(), Factors(), row.shift == "passes"
        stays = {m: c for m, c in poly.items() if _contains(m, along)}
        if row.shift and len(stays) < len(poly) and (stays or not passes) and algebra.allow(f"{row.name} shift"):
            if passes:
                outside = {m: c for m, c in poly.items() if m not in stays}
            poly = stays
        if row.scale and algebra.allow(f"{row.name} scale"):
            factor, poly = common_positive(algebra, poly, dummies)
        return poly, outside, factor


# --- helpers -------------------------------------------------------------------------------------------------------
def _contains(mono: Monomial, variables: frozenset[int]) -> bool:
    return any(v in variables for _, ixs, _ in mono[0] for _, terms in ixs for _, v in terms)


def at_index(ix: Ix, env: Mapping[int, Index]) -> Index:
    """An index expression of a node where its variables have these values."""
    return joined([(ix.offset, ()), *(scaled(env[v], stride) for stride, v in ix.terms)])


def _place(node: Node) -> str:
    what = node.source or node.title
    return f"{what} at {node.place}" if node.place else what
