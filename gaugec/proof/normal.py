"""The index normal form of a tensor graph's nodes.

`Evaluator.value(world, node, index)` is the element of a node at an index as a polynomial of `gaugec.proof.algebra`.  A
`World` says what is read at a leaf: the leaf itself, or what the gauge has made of it.  Two equal worlds are a proof.

A variable that straddles the pieces of a `cat` (or the two halves of a rotary pair) is split: a summed one here, a free
one by the caller, who proves each part.  What this module does not do: it knows no law, only rules that stand on laws.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

from gaugec import limits
from gaugec.graph.ir import Graph, Ix, Node
from gaugec.proof.algebra import Algebra
from gaugec.proof.apply import apply, common_positive, monomial
from gaugec.proof.pieces import cut_at, summed
from gaugec.proof.terms import (
    Factors,
    Index,
    Monomial,
    NeedSplit,
    Number,
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

Leaf = Callable[["Evaluator", Node, tuple[Index, ...]], "Polynomial | None"]
_SAID = {"param": "a parameter", "input": "an input"}


@dataclass(frozen=True, eq=False)
class World:
    """What the leaves are: `leaf` returns a leaf's moved value, or None where it is itself."""

    name: str
    leaf: Leaf
    inverse: Leaf | None = None


class Carrier(Protocol):
    """How a node moves as a whole; see `gaugec.proof.carry`."""

    @property
    def free(self) -> tuple[int, ...]:
        """The variables of its modes."""

    def moved(self, algebra: Algebra, own: Polynomial, ixs: tuple[Index, ...], sizes: tuple[int, ...]) -> Polynomial:
        """The moved value at an index."""


STILL = World("still", lambda _evaluator, _node, _index: None)


@dataclass
class Shared:
    """What every proof on one graph shares: value numbers, and which nodes are made piecewise."""

    graph: weakref.ref[Graph]
    cats: dict[int, bool] = field(default_factory=dict)
    numbers: dict[int, int] = field(default_factory=dict)
    numbering: dict[object, int] = field(default_factory=dict)


_SHARED: dict[int, Shared] = {}


@dataclass
class Evaluator:
    """Normal forms of one graph's nodes, remembered by (world, node, shape of the index).

    `atoms`: nodes that are opaque symbols.  `moved`: leaves that some world moves.  `without`: add nodes whose constant
    is taken to be zero (eps).  `root`: the node being proved (never an atom itself).  `carried`: nodes that are atoms
    in the two worlds named by `carrying`, and how each moves in the first of them (see `gaugec.proof.carry`).
    """

    graph: Graph
    algebra: Algebra
    atoms: frozenset[int] = frozenset()
    moved: frozenset[int] = frozenset()
    without: frozenset[int] = frozenset()
    root: int = -1
    memo: dict[object, tuple[Polynomial, tuple[int, ...]]] = field(default_factory=dict)
    carrying: tuple[str, str] = ("", "")
    carried: dict[int, Carrier] = field(default_factory=dict)
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

    def has_cat(self, id: int) -> bool:
        """Whether the node is made piecewise, below pointwise operations only."""

        def stop(node: Node) -> bool:
            return node.op not in ("map", "add", "cat", "einsum") or bool(node.summed) or node.function == "dropout"

        known = self._shared().cats
        todo = [id]
        while todo:
            at = todo[-1]
            node = self.graph[at]
            if at in known or stop(node) or node.op == "cat":
                known.setdefault(at, node.op == "cat")
                todo.pop()
                continue
            missing = [a.node for a in node.operands if a.node not in known]
            if missing:
                todo.extend(missing)
            else:
                known[at] = any(known[a.node] for a in node.operands)
        return known[id]

    def _shared(self) -> Shared:
        """What is known of the graph itself, for every proof on it."""
        found = _SHARED.get(id(self.graph))
        if found is None or found.graph() is not self.graph:
            found = _SHARED[id(self.graph)] = Shared(weakref.ref(self.graph))
        return found

    def _closed(self, node: Node) -> bool:
        return node.id in self.atoms and node.id != self.root

    def numbered(self, id: int) -> int:
        """The first node of the graph with the same definition (value numbering; nothing random is merged)."""
        shared = self._shared()
        numbers, numbering = shared.numbers, shared.numbering
        todo = [id]
        while todo:
            at = todo[-1]
            if at in numbers:
                todo.pop()
                continue
            node = self.graph[at]
            if node.op in ("leaf", "opaque") or node.function == "dropout":
                numbers[at] = at
                continue
            missing = [a.node for a in node.operands if a.node not in numbers]
            if missing:
                todo.extend(missing)
                continue
            key = (
                node.op,
                node.function,
                repr(node.attributes),
                tuple((m.variable, m.size) for m in node.modes),
                tuple((numbers[a.node], a.index) for a in node.operands),
                node.sizes,
                node.summed,
                node.bound,
                node.coefficients,
                node.constant,
                node.pieces,
            )
            numbers[at] = numbering.setdefault(key, at)
        return numbers[id]

    # --- reading ---------------------------------------------------------------------------------------------------
    def value(self, world: World, id: int, ixs: tuple[Index, ...]) -> Polynomial:
        """The element of node `id` at the index in this world.

        Raises `NeedSplit` for a free variable that straddles pieces and `Undecided` where there is no normal form.
        """
        limits.check()
        if world is not STILL and not self.touched(id):
            world = STILL
        if id in self.carried and id != self.root and world.name in self.carrying:
            own = self._atom(self.graph[id], tuple(map(variable, self.carried[id].free)))
            if world.name == self.carrying[1]:
                return self._atom(self.graph[id], ixs)
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
        if node.op == "leaf":
            return self._leaf(world, node, ixs)
        if node.op == "einsum":
            return self._einsum(world, node, env)
        if node.op == "add":
            parts = [
                (c, self._read(world, node, k, env))
                for k, c in enumerate(node.coefficients or (Fraction(1),) * len(node.operands))
            ]
            constant = Fraction(0) if node.id in self.without else node.constant
            return self.algebra.add(*parts, (1, self.algebra.constant(constant)))
        if node.op == "map":
            return self._map(world, node, env, ixs)
        if node.op == "along":
            return self._along(world, node, env)
        if node.op == "cat":
            return self._cat(world, node, env)
        if self.touched(node.id):
            raise Undecided(f"not supported: {_place(node)} meets a moved value and has no row in the operator table")
        return self._atom(node, ixs)

    def _atom(self, node: Node, ixs: tuple[Index, ...]) -> Polynomial:
        first = self.graph[self.numbered(node.id)]
        name = first.name or first.source or first.function or first.op
        # a proof on a model serves every place of equal structure: what it says later may name none of them
        said = "" if first.op == "leaf" else f"the value of {name} in {first.place}"
        if not self.graph.symbolic:
            said = _SAID.get(first.function if first.op == "leaf" else "", "a divisor")
        return self.algebra.atom(self.algebra.symbol(("node", first.id), Symbol("node", name, said=said)), ixs)

    def _given(self, world: World, node: Node, ixs: tuple[Index, ...]) -> Polynomial:
        whole = all(
            (v := plain(ix)) is not None and self.algebra.sizes[v] == mode.size
            for ix, mode in zip(ixs, node.modes, strict=True)
        )
        if whole or not self.has_cat(node.id):
            return self._atom(node, ixs)
        return self._pushed(node, ixs)

    def _pushed(self, node: Node, ixs: tuple[Index, ...]) -> Polynomial:
        """A given read at a part of an axis: the index moves down to where the parts were made."""
        if not self.has_cat(node.id):
            return self._atom(node, ixs)
        env = {mode.variable: ix for mode, ix in zip(node.modes, ixs, strict=True)}
        if node.op == "cat":
            at = self._piece(node, env)
            if at is None:
                return self._atom(node, ixs)
            operand, env = at
            return self._pushed(self.graph[node.operands[operand].node], self._index(node, operand, env))
        parts = [self._pushed(self.graph[a.node], self._index(node, k, env)) for k, a in enumerate(node.operands)]
        if node.op == "add":
            scales = node.coefficients or (Fraction(1),) * len(parts)
            return self.algebra.add(*zip(scales, parts, strict=True), (1, self.algebra.constant(node.constant)))
        if node.op == "einsum":
            return self.algebra.product(parts, _coefficient(node))
        return apply(self.algebra, node, tuple(parts), ixs)

    def _index(self, node: Node, operand: int, env: Mapping[int, Index]) -> tuple[Index, ...]:
        return tuple(_at(ix, env) for ix in node.operands[operand].index)

    def _read(self, world: World, node: Node, operand: int, env: Mapping[int, Index]) -> Polynomial:
        return self.value(world, node.operands[operand].node, self._index(node, operand, env))

    # --- one method an op ------------------------------------------------------------------------------------------
    def _leaf(self, world: World, node: Node, ixs: tuple[Index, ...]) -> Polynomial:
        if node.function == "delta":
            return self.algebra.delta(*ixs)
        if node.function == "constant" and node.name == "1" and self.graph.symbolic:
            return self.algebra.constant(1)
        moved = world.leaf(self, node, ixs)
        if moved is not None:
            return moved
        if node.function == "element":
            raise Undecided("the group's element occurs outside an action")
        return self._atom(node, ixs)

    def _einsum(self, world: World, node: Node, env: dict[int, Index]) -> Polynomial:
        def build(at: dict[int, Index]) -> list[Polynomial]:
            return [self._read(world, node, k, {**env, **at}) for k in range(len(node.operands))]

        return summed(self.algebra, {v: node.sizes[v] for v in node.summed}, build, _coefficient(node))

    def _map(self, world: World, node: Node, env: dict[int, Index], ixs: tuple[Index, ...]) -> Polynomial:
        parts = tuple(self._read(world, node, k, env) for k in range(len(node.operands)))
        return apply(self.algebra, node, parts, ixs)

    def _piece(self, node: Node, env: dict[int, Index]) -> tuple[int, dict[int, Index]] | None:
        """The operand that an index reads, and the index counted from its start; None where it straddles."""
        ix = env[node.bound[0]]
        low, high = self.algebra.span(ix)
        for k, (start, length) in enumerate(node.pieces):
            if start <= low and high < start + length:
                return k, {**env, node.bound[0]: shifted(ix, -start)}
        return None

    def _cat(self, world: World, node: Node, env: dict[int, Index]) -> Polynomial:
        at = self._piece(node, env)
        if at is not None:
            return self._read(world, node, *at)
        raise cut_at(self.algebra, env[node.bound[0]], tuple(s for s, _ in node.pieces if s), _place(node))

    def _along(self, world: World, node: Node, env: dict[int, Index]) -> Polynomial:
        algebra, name = self.algebra, node.function
        if name == "inverse":
            source = self.graph[node.operands[0].node]
            if source.op == "leaf" and source.function == "element" and world.inverse is not None:
                found = world.inverse(self, source, self._index(node, 0, env))
                if found is not None:
                    return found
            if self.touched(source.id):
                raise Undecided(f"not supported: the inverse of a moved value ({_place(node)})")
        kept = {mode.variable for mode in node.modes}
        local = {v for a in node.operands for v in a.variables}
        other = tuple(sorted(v for v in local if v not in kept and v not in node.bound))
        dummies = tuple(algebra.fresh(node.sizes[v]) for v in (*node.bound, *other))
        inner = {**env, **{v: variable(w) for v, w in zip((*node.bound, *other), dummies, strict=True)}}
        along = frozenset(dummies[: len(node.bound)])
        try:
            parts = [self._read(world, node, k, inner) for k in range(len(node.operands))]
        except NeedSplit as need:
            if need.variable in dummies:
                raise Undecided(f"not supported: the axis of {name} is made of pieces ({_place(node)})") from None
            raise
        reads = tuple(env[v] for v in node.bound if v in kept)
        poly, outside, factor = parts[0], Polynomial(), Factors()
        if name in ("softmax", "log_softmax", "cross_entropy", "max", "min") and len(node.bound) == 1:
            stays = {m: c for m, c in poly.items() if _contains(m, along)}
            extreme = name in ("max", "min")
            if len(stays) < len(poly) and (stays or not extreme) and algebra.allow(f"{name} shift"):
                if extreme:
                    outside = {m: c for m, c in poly.items() if m not in stays}
                poly = stays
            if extreme and algebra.allow(f"{name} scale"):
                factor, poly = common_positive(algebra, poly, dummies)
        frozen = tuple((k, repr(v)) for k, v in node.attributes)
        atom = algebra.function(name, frozen, (poly, *parts[1:]), dummies=dummies, reads=reads)
        return algebra.add(
            (1, algebra.product([monomial(algebra, factor), monomial(algebra, {atom: 1})])), (1, outside)
        )


# --- helpers -------------------------------------------------------------------------------------------------------
def _contains(mono: Monomial, variables: frozenset[int]) -> bool:
    return any(v in variables for _, ixs, _ in mono[0] for _, terms in ixs for _, v in terms)


def _at(ix: Ix, env: Mapping[int, Index]) -> Index:
    return joined([(ix.offset, ()), *(scaled(env[v], stride) for stride, v in ix.terms)])


def _coefficient(node: Node) -> Number:
    return number(node.coefficients[0]) if node.coefficients else 1


def _place(node: Node) -> str:
    what = node.source or node.function or node.op
    return f"{what} at {node.place}" if node.place else what
