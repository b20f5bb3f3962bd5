"""The steps of a formula, as the matcher reads them: one pattern for every choice of absent optional parameters.

A pattern is found by the same flow rules that are then applied to models, so a formula and a model meet step by step.

What this module does not do: it looks at no model and proves nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gaugec.graph.ir import Contraction, Graph, Ix, Leaf, OneHot, Sum
from gaugec.graph.statement import Movement, Multiplied, Statement
from gaugec.graph.vectors import vectors
from gaugec.groups import GROUPS
from gaugec.matching.flow import step
from gaugec.matching.shifts import Shifting, Sight, shifted
from gaugec.matching.states import Blocked, Context, Demand, Demote, Extent, Key, State
from gaugec.operators import aten_kind


@dataclass(frozen=True)
class Pattern:
    """A gauge as the matcher reads it: the steps of its formula with the optional roles `absent` left out.

    wide: what turns in charts closes by how it turns, whatever the steps between: the basis of a residual stream."""

    statement: Statement
    movements: Mapping[str, Movement]
    absent: frozenset[str]
    keys: frozenset[Key]
    kept: frozenset[Key]
    kind: str
    wide: bool = False

    @property
    def roles(self) -> tuple[str, ...]:
        """The moved roles that must be bound, in the order of the spec's actions."""
        return tuple(role for role in self.movements if role not in self.absent)


def patterns(
    statement: Statement, movements: Mapping[str, Movement], sight: Sight
) -> tuple[list[Pattern], str]:
    """The formula's steps, once for every choice of absent optional roles; and why there are none, if so.

    sight: what shows the values of the formula where its parameters were shifted."""
    kinds = {movement.kind for movement in movements.values()} - {"still"}
    if len(kinds) != 1 or "general" in kinds:
        return [], "its action is not yet supported: the matcher follows scales, rotations and shifts of whole axes"
    (kind,) = kinds
    if kind == "shift":
        return _shift_patterns(statement, movements, sight)
    found: list[Pattern] = []
    reason = ""
    optional = [role for role in statement.params if role in statement.optional]
    for count in range(len(optional) + 1):
        for absent in itertools.combinations(optional, count):
            try:
                found.append(_pattern(statement, movements, frozenset(absent), kind))
            except (Blocked, Demote) as error:
                reason = reason or f"the formula itself does not follow the rules of matching: {error}"
    unique: dict[tuple[object, ...], Pattern] = {}
    for pattern in found:
        moved = tuple(r for r in pattern.roles)
        unique.setdefault((moved, pattern.keys), pattern)
    return list(unique.values()), reason


def _shift_patterns(
    statement: Statement, movements: Mapping[str, Movement], sight: Sight
) -> tuple[list[Pattern], str]:
    """A shift passes whatever is linear: of its formula only what moves is read, and how the shift ends there."""
    ordered = dict(sorted(movements.items(), key=lambda item: (item[1].kind == "still", item[0] in statement.each)))
    first, seed = next(iter(ordered.items()))
    if first in statement.each:
        return [], "its action is not yet supported: a shift begins at one parameter, and every one here is an `each`"
    if any(axis not in m.constant for m in ordered.values() for _, axis, *_ in m.factors):
        return [], "its action is not yet supported: a chart along an axis along which the shift varies"
    if any(len(m.constant) not in (0, 1, len(statement.axes[role])) for role, m in ordered.items()):
        return [], "its action is not yet supported: a shift that is constant along some of several axes"
    pattern = Pattern(statement, ordered, frozenset(), frozenset(), frozenset(), "shift")
    leaf = statement.graph[statement.params[first]]
    constant = {position for position, mode in enumerate(leaf.modes) if mode.axis in seed.constant}
    read = tuple(
        Multiplied(statement.params[role], (Ix(0, ((1, axis),)),), power, plus)
        for role, axis, plus, power in seed.factors
    )
    begin = replace(shifted(leaf, constant, seed.exponent), factors=read)
    closure = Shifting(Searched(replace(statement.graph, outputs=()), {}, sight), pattern, begin)
    try:
        closure.run()
    except Blocked as error:
        return [], f"the formula itself does not follow the rules of matching: {error}"
    return [replace(pattern, keys=frozenset(closure.ends))], ""


@dataclass(frozen=True)
class Searched:
    """A formula as it is searched for shifts: nothing in it is blocked."""

    graph: Graph
    blocked: Mapping[int, str]
    sight: Sight


def _pattern(
    statement: Statement,
    movements: Mapping[str, Movement],
    absent: frozenset[str],
    kind: str,
) -> Pattern:
    graph = statement.graph
    gone = {statement.params[role] for role in absent}
    row, one = GROUPS[statement.group], frozenset({(0,)})
    known = (dependence(graph), noise(graph))
    wide = kind == "rotate" and not row.paired and any(movement.factors for movement in movements.values())
    context = Context(kind, row.paired, row.keeps_ones, one, frozenset(), *known, vectors=vectors(graph), wide=wide)
    states: dict[int, State] = {}
    for number, (role, movement) in enumerate(movements.items()):
        if role not in absent:
            leaf = graph[statement.params[role]]
            extent = Extent(movement.axis, 0, leaf.modes[movement.axis].size)
            chart = tuple(sorted(((statement.params[r], plus), -power) for r, _, plus, power in movement.factors))
            tag = ("role", number)
            states[leaf.id] = State({(0,): extent}, tag, movement.exponent, movement.dual, chart=chart)
    wanted = _ancestors(graph, statement.kept)
    keys: set[Key] = set()
    kept: set[Key] = set()
    for node in graph:
        if node.id not in wanted or isinstance(node, Leaf):
            continue
        if isinstance(node, Sum) and any(a.node in gone for a in node.operands):
            pairs = [(a, c) for a, c in zip(node.operands, node.coefficients) if a.node not in gone]
            node = replace(node, operands=tuple(a for a, _ in pairs), coefficients=tuple(c for _, c in pairs))
        outcomes = step(node, [[states[a.node]] if a.node in states else [] for a in node.operands], context)
        if not outcomes:
            continue
        (outcome,) = outcomes
        if isinstance(outcome, Demand):
            raise Blocked("a value of the formula that does not move meets one that does")
        if outcome.key is not None:
            keys.add(outcome.key)
        if outcome.state is None:
            assert outcome.key is not None
            kept.add(outcome.key)
        else:
            states[node.id] = outcome.state if outcome.key is None else replace(outcome.state, tag=outcome.key)
    if not kept:
        raise Blocked("nothing in the formula is kept")
    return Pattern(statement, dict(movements), absent, frozenset(keys), frozenset(kept), kind, wide)


def dependence(graph: Graph) -> dict[int, bool]:
    """Node id -> does it depend on a parameter, by values that may move: none does behind a gradient that is cut."""
    depends: dict[int, bool] = {}
    for node in graph:
        own = isinstance(node, Leaf) and node.kind == "param"
        reached = aten_kind(node.source) != "cut" and any(depends[access.node] for access in node.operands)
        depends[node.id] = own or reached
    return depends


def noise(graph: Graph) -> frozenset[int]:
    """The leaves that are drawn anew in every forward: dropout masks."""
    return frozenset(node.id for node in graph if isinstance(node, Leaf) and node.random)


def chosen(graph: Graph) -> dict[int, int]:
    """One-hot node id -> the first node of the same value: lookups by one are lookups by the other."""
    return {node.id: graph.firsts[node.id] for node in graph if isinstance(node, OneHot)}


def zeros(graph: Graph) -> frozenset[int]:
    """The nodes whose every entry is 0, which every scale and every rotation leaves as they are."""
    return frozenset(node.id for node in graph if isinstance(node, Contraction) and node.coefficient == 0)


def weights(graph: Graph) -> frozenset[int]:
    """The nodes that are made of parameters and numbers alone: a gain, a gain plus one, no data."""
    found: set[int] = set()
    for node in graph:
        own = isinstance(node, Leaf) and node.kind == "param"
        if own or (node.operands and all(access.node in found for access in node.operands)):
            found.add(node.id)
    return frozenset(found)


def _ancestors(graph: Graph, roots: Sequence[int]) -> set[int]:
    seen: set[int] = set()
    pending = list(roots)
    while pending:
        id = pending.pop()
        if id not in seen:
            seen.add(id)
            pending.extend(access.node for access in graph[id].operands)
    return seen
