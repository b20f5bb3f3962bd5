"""Gauge in, theorem out: the index normal form of what is kept is the same before and after the gauge has acted.

`prove_statement` proves a gauge of a spec for every size, `prove_invariance` the same on a subgraph cut from a model,
`equivariant` that a value turns with its parameters.  All of them return a `Theorem`, which is false unless its verdict
is "proved"; nothing here raises for a statement that does not hold, and any exception inside a proof is a refusal.

What this module does not do: it samples nothing (see `gaugec.sampling.sample`, which shares no code with it).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from gaugec import limits
from gaugec.graph.ir import Graph, Leaf, Node
from gaugec.graph.statement import Region, Statement
from gaugec.graph.vectors import read_plus
from gaugec.groups import GROUPS
from gaugec.laws import pointwise
from gaugec.proof import domains
from gaugec.proof.algebra import Algebra
from gaugec.proof.carry import carry
from gaugec.proof.element import Element, Pairing, extent, moved
from gaugec.proof.movements import Motion, Reader, oriented
from gaugec.proof.normal import STILL, Evaluator, World
from gaugec.proof.pieces import split
from gaugec.proof.rules import RULES
from gaugec.proof.structure import structure
from gaugec.proof.terms import Index, NeedSplit, Polynomial, Undecided, substituted, variable
from gaugec.proof.theorem import Effort, NotProved, Theorem, finish, guarded, with_eps


# --- statements ----------------------------------------------------------------------------------------------------
def prove_statement(statement: Statement, seconds: float = math.inf) -> Theorem:
    """Proves that the kept nodes of a gauge do not change and that its action is one.  Never raises.

    What takes more than `seconds` is not decided.
    """
    start = time.monotonic()

    def attempt(effort: Effort) -> Theorem:
        return guarded(statement.name, lambda: _statement(statement, effort))

    with limits.proof():
        return with_eps(attempt, statement.graph, statement.kept, statement.group, start, seconds)


def _statement(statement: Statement, effort: Effort) -> Theorem:
    algebra = _algebra(statement.graph, statement.group, effort.seconds)
    if not statement.actions:
        raise NotProved("no parameter is moved")
    action = _Action(statement, algebra)
    leaves = frozenset({*action.roles, statement.element})
    held = {leaf.id for leaf in statement.graph.leaves("param")} - leaves
    plus = read_plus(statement.graph, held)
    evaluator = Evaluator(statement.graph, algebra, frozenset(statement.kept), leaves, effort.without, plus=plus)
    _keeps(action, evaluator, effort)
    # nothing is kept while actions are read: all nodes are opened
    opened = Evaluator(statement.graph, algebra, frozenset(), leaves, effort.without, plus=plus)
    _identity_stays(action, opened)
    _composes(action, opened)
    _conditions_stay(algebra)
    return _theorem(statement.name, algebra, _classified(action, opened))


class _Action:
    """The action of a statement's gauge: the elements that may act, and the worlds in which they have acted."""

    def __init__(self, statement: Statement, algebra: Algebra) -> None:
        self.statement, self.algebra = statement, algebra
        self.roles = {statement.params[role]: role for role in statement.actions}
        modes = statement.graph[statement.element].modes
        self.size = modes[0].size if modes else 1
        self.first, self.second = self.element(""), self.element("'")
        self.one = self.acting("one", self.element("", kind="identity"))

    def element(self, tag: str, **more: Any) -> Element:
        """An element of the group, named by its tag."""
        return Element(self.algebra, self.statement.group, self.size, Pairing("halves", self.size), tag, **more)

    def acting(self, name: str, by: Element, inner: World | None = None) -> World:
        """Reads an action's node: the element is `by`; a parameter is itself, or what `inner` has made of it."""
        element = self.statement.element

        def leaf(evaluator: Evaluator, node: Leaf, ixs: tuple[Index, ...]) -> Polynomial | None:
            if node.id == element:
                if len(ixs) == 2:
                    return by.matrix((), *ixs)
                return by.shift(ixs) if by.row.kind == "shift" else by.scale((), ixs[0], Fraction(1))
            return inner.leaf(evaluator, node, ixs) if inner is not None and node.id in self.roles else None

        def inverse(evaluator: Evaluator, node: Leaf, ixs: tuple[Index, ...]) -> Polynomial | None:
            return by.matrix((), *ixs, inverse=True) if node.id == element and len(ixs) == 2 else None

        return World(name, leaf, inverse)

    def after(self, name: str, acting: World) -> World:
        """Reads the model: a moved parameter is the value of its action."""

        def leaf(evaluator: Evaluator, node: Leaf, ixs: tuple[Index, ...]) -> Polynomial | None:
            role = self.roles.get(node.id)
            return None if role is None else evaluator.value(acting, self.statement.actions[role], ixs)

        return World(name, leaf)


def _keeps(action: _Action, evaluator: Evaluator, effort: Effort) -> None:
    """Raises unless every kept node is the same after the element has acted."""
    statement, paired = action.statement, GROUPS[action.statement.group].paired
    act = action.after("moved", action.acting("g", action.first))
    still = action.after("identity", action.one) if paired else STILL
    if effort.carries and not paired:
        effort.carried = carry(evaluator, act, still, statement.kept)
    for id in sorted(statement.kept):
        evaluator.root = id
        _same(evaluator, (act, id), (still, id), statement.graph[id].place or statement.name)


def _identity_stays(action: _Action, evaluator: Evaluator) -> None:
    """Raises unless the group's identity leaves every parameter as it is."""
    statement, graph = action.statement, evaluator.graph
    for role, own in statement.actions.items():
        if [m.size for m in graph[own].modes] != [m.size for m in graph[statement.params[role]].modes]:
            raise NotProved(f"the action on {role} changes its shape")
        _same(evaluator, (action.one, own), (STILL, statement.params[role]), f"{role} under the group's identity")


def _composes(action: _Action, evaluator: Evaluator) -> None:
    """Raises unless acting twice is acting by the product, in one of its two orders."""
    first = action.after("first", action.acting("g", action.first))
    twice = action.acting("twice", action.second, first)
    reason = ""
    for order in ((action.second, action.first), (action.first, action.second)):
        once = action.acting(f"product{order[0].tag}", action.element("", kind="product", factors=order))
        try:
            for role, own in action.statement.actions.items():
                _same(evaluator, (twice, own), (once, own), f"{role}, moved twice and by the product,")
            return
        except NotProved as refusal:
            reason = reason or f"this is no action of the group: {refusal}"
    raise NotProved(reason)


def _classified(action: _Action, evaluator: Evaluator) -> Mapping[str, Motion]:
    """How every role moves; raises where none does."""
    whole = action.acting("whole", action.element("", whole=True))
    statement = action.statement
    actions = {statement.params[role]: own for role, own in statement.actions.items()}
    roles = {leaf: role for role, leaf in statement.params.items()}
    found = Reader(evaluator, whole, actions, roles).motions()
    if all(move.kind == "none" for move in found.values()):
        raise NotProved("the group's element moves no parameter")
    return oriented(found, action.first.orthogonal)


# --- models --------------------------------------------------------------------------------------------------------
_PROOFS: dict[str, Theorem] = {}
_made = 0


def proofs_made() -> int:
    """How many statements on models were proved, or refused, so far: what was remembered does not count."""
    return _made


def prove_invariance(
    graph: Graph,
    kept: tuple[int, ...],
    regions: tuple[Region, ...],
    group: str,
    cut: frozenset[int] = frozenset(),
    pairing: str = "",
    rotary: int = 0,
) -> Theorem:
    """Proves that `kept` do not change when an element of the group moves the regions of their leaves.

    `cut` nodes are opaque; one that depends on a moved leaf other than through a kept node is refused.  `pairing` and
    `rotary` (0: the whole axis) are those of `Site`.  Equal structures are proved once.  Never raises.
    """
    key = structure(graph, kept, regions, cut, (group, pairing, rotary))
    known = _PROOFS.get(key)
    if known is not None:
        return known
    global _made
    _made += 1
    start = time.monotonic()

    def attempt(effort: Effort) -> Theorem:
        def prove() -> Theorem:
            evaluator, act, still = worlds(graph, kept, regions, group, cut, (pairing, rotary), effort)
            if effort.carries and not GROUPS[group].paired:
                effort.carried = carry(evaluator, act, still, kept)
            for id in sorted(kept):
                evaluator.root = id
                _same(evaluator, (act, id), (still, id), _where(graph[id]))
            _conditions_stay(evaluator.algebra)
            return _theorem("", evaluator.algebra, {})

        return guarded("", prove)

    with limits.proof():
        theorem = replace(with_eps(attempt, graph, kept, group, start), structure=key)
    if theorem.verdict != "not decided":
        _PROOFS[key] = theorem
    return theorem


def equivariant(
    graph: Graph,
    output: Region,
    regions: tuple[Region, ...],
    group: str,
    cut: frozenset[int] = frozenset(),
    pairing: str = "",
    rotary: int = 0,
) -> Theorem:
    """Proves that node `output.leaf` moves as `output` says (its digits describe the node's modes).  Never raises."""
    start = time.monotonic()

    def prove() -> Theorem:
        id = output.leaf
        evaluator, act, still = worlds(graph, (), regions, group, cut, (pairing, rotary), Effort(), (output,))
        evaluator.root = id
        by = _element(evaluator.algebra, (*regions, output), group, pairing, rotary)

        def expected(ixs: tuple[Index, ...]) -> Polynomial:
            def read(at: tuple[Index, ...]) -> Polynomial:
                return evaluator.value(still, id, at)

            value = moved(evaluator, output, by, ixs, read, _where(graph[id]))
            return read(ixs) if value is None else value

        _equal(evaluator, graph[id], lambda ixs: evaluator.value(act, id, ixs), expected, _where(graph[id]))
        return _theorem("", evaluator.algebra, {})

    with limits.proof():
        return finish(guarded("", prove), start)


def _element(algebra: Algebra, regions: tuple[Region, ...], group: str, pairing: str, rotary: int) -> Element:
    """The site's element; raises when the regions do not agree on its size and copies."""
    if group not in GROUPS:
        raise Undecided(f"not supported: the group {group}")
    regions = tuple(region for region in regions if region.kind != "still")
    if len({extent(region, "copy") for region in regions}) > 1:
        raise NotProved("the moved parameters do not agree on the number of copies")
    if len({extent(region, "rest" if region.kind == "shift" else "group") for region in regions}) > 1:
        raise NotProved("the moved parameters do not agree on the length of the axis that the group moves")
    size = extent(regions[0], "group") if regions else 1
    if {region.kind for region in regions} - {GROUPS[group].kind}:
        raise Undecided(f"not supported: such a movement under the group {group}")
    return Element(algebra, group, size, Pairing(pairing or "halves", rotary or size))


def _plus(regions: Sequence[Region]) -> dict[int, Fraction]:
    """The gains that charts read plus a number, and that number; raises where one is read otherwise too, or moves."""
    found: dict[int, Fraction] = {}
    for factor in (factor for region in regions for factor in region.factors):
        if found.setdefault(factor.leaf, factor.shift_by) != factor.shift_by:
            raise Undecided("not supported: a gain that is read plus several numbers")
    plus = {leaf: number for leaf, number in found.items() if number}
    if any(region.leaf in plus for region in regions):
        raise Undecided("not supported: a gain that moves, and that a chart reads plus a number")
    return plus


def worlds(
    graph: Graph,
    kept: tuple[int, ...],
    regions: tuple[Region, ...],
    group: str,
    cut: frozenset[int],
    pairs: tuple[str, int],
    effort: Effort,
    more: tuple[Region, ...] = (),
) -> tuple[Evaluator, World, World]:
    """The evaluator, the world after the element has acted, and the world before."""
    algebra = _algebra(graph, group, effort.seconds)
    by = _element(algebra, (*regions, *more), group, *pairs)
    table: dict[int, list[Region]] = {}
    for region in regions:
        table.setdefault(region.leaf, []).append(region)
    atoms, plus = frozenset(cut) | frozenset(kept), _plus((*regions, *more))
    evaluator = Evaluator(graph, algebra, atoms, frozenset(table), effort.without, plus=plus)
    for id in sorted(cut - set(kept)):
        if evaluator.touched(id):
            raise NotProved(f"{_where(graph[id])} is held fixed but depends on a moved parameter")

    def world(name: str, element: Element) -> World:
        def leaf(evaluator: Evaluator, node: Leaf, ixs: tuple[Index, ...]) -> Polynomial | None:
            def read(at: tuple[Index, ...]) -> Polynomial:
                return evaluator.atom(node, at)

            def after(other: int, at: tuple[Index, ...]) -> Polynomial:
                return evaluator.value(there, other, at)

            name = node.name or "a parameter"
            found = [
                value
                for region in table.get(node.id, ())
                if (value := moved(evaluator, region, element, ixs, read, name, after)) is not None
            ]
            if len(found) > 1:
                raise Undecided(f"not supported: two moved slices of {node.name} overlap")
            return found[0] if found else None

        there = World(name, leaf)
        return there

    still = STILL
    if GROUPS[group].paired:
        still = world("before", Element(algebra, group, by.extent, by.pairing, kind="identity"))
    return evaluator, world("after", by), still


# --- comparing -----------------------------------------------------------------------------------------------------
def _same(evaluator: Evaluator, left: tuple[World, int], right: tuple[World, int], name: str) -> None:
    """Raises unless two nodes are equal in their worlds, at every index."""

    def read(side: tuple[World, int]) -> Callable[[tuple[Index, ...]], Polynomial]:
        return lambda ixs: evaluator.value(side[0], side[1], ixs)

    _equal(evaluator, evaluator.graph[left[1]], read(left), read(right), name)


def _equal(
    evaluator: Evaluator,
    node: Node,
    left: Callable[[tuple[Index, ...]], Polynomial],
    right: Callable[[tuple[Index, ...]], Polynomial],
    name: str,
) -> None:
    algebra = evaluator.algebra
    todo: list[tuple[Index, ...]] = [tuple(variable(algebra.fresh(mode.size)) for mode in node.modes)]
    while todo:
        ixs = todo.pop()
        try:
            here = left(ixs)
            difference = algebra.minus(here, right(ixs))
        except NeedSplit as need:
            if all(v != need.variable for ix in ixs for _, v in ix[1]):
                raise Undecided("not supported: an axis inside a function is made of pieces") from None
            for value, _ in split(algebra, need):
                todo.append(tuple(substituted(ix, {need.variable: value}) for ix in ixs))
            continue
        if difference:
            mono = max(difference, key=lambda m: (any(algebra.symbols[f[0]].kind == "element" for f in m[0]), m))
            count = f" and {len(difference) - 1} more" if len(difference) > 1 else ""
            raise NotProved(f"{name} changes: left over is {algebra.words(mono, difference[mono])}{count}")
        _stands(algebra, here)


def _stands(algebra: Algebra, poly: Polynomial) -> None:
    """Notes the symbols of a value that did not change, those inside functions too."""
    todo = [poly]
    while todo:
        for factors, _ in todo.pop():
            for s, _, _ in factors:
                if s not in algebra.standing:
                    algebra.standing.add(s)
                    todo.extend(algebra.symbols[s].data)


def _conditions_stay(algebra: Algebra) -> None:
    """Raises unless the group keeps every condition under which both sides have a value."""
    condition = domains.not_kept(algebra)
    if condition:
        raise NotProved(
            f"it holds only where {condition}, and the group does not keep that: what has a value before an element "
            "acts may have none after"
        )


# --- shared ------------------------------------------------------------------------------------------------------
def _algebra(graph: Graph, group: str, seconds: float) -> Algebra:
    if group not in GROUPS:
        raise Undecided(f"not supported: the group {group}")
    algebra = Algebra(RULES, symbolic=graph.symbolic, ones=GROUPS[group].keeps_ones, seconds=seconds)
    if not algebra.allow("linearity"):
        raise NotProved("sympy could not prove that products distribute over sums")
    return algebra


def _theorem(name: str, algebra: Algebra, found: Mapping[str, Motion]) -> Theorem:
    steps = tuple(f"{rule}: {algebra.rules[rule].says}" if rule in algebra.rules else rule for rule in algebra.used)
    conditions = domains.conditions(algebra)
    if any(symbol.tag == "c" for symbol in algebra.symbols):
        conditions.insert(0, "c > 0")
    return Theorem(name, "proved", steps=steps, conditions=tuple(conditions), movements=found)


def _where(node: Node) -> str:
    return node.place or (node.name if isinstance(node, Leaf) else node.source) or node.title


def forget() -> None:
    """Forgets all proofs and laws (for tests that break a law on purpose)."""
    _PROOFS.clear()
    pointwise.forget()
