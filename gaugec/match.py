"""Finds every site of a gauge in a model's tensor graph, or says why there is none.

From each axis of each parameter the moved values are followed forward (`gaugec.flow`) in step with the formula; what
must move with them is bound on demand; digits of the axis that cannot belong to one group element become copies or
bystanders; and this repeats until nothing changes.  What remains is a candidate: the caller proves it on the subgraph.

What this module does not do: it looks at no name and no module class, and it proves nothing.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from gaugec.flow import (
    Blocked,
    Context,
    Demand,
    Demote,
    Extent,
    Key,
    Law,
    Number,
    Outcome,
    Refine,
    Spot,
    State,
    played,
    step,
)
from gaugec.tensor import Access, Digit, Graph, Movement, Node, Region, Statement


@dataclass(frozen=True)
class Pattern:
    """A gauge as the matcher reads it: the steps of its formula with the optional roles `absent` left out."""

    statement: Statement
    movements: Mapping[str, Movement]
    absent: frozenset[str]
    keys: frozenset[Key]
    kept: frozenset[Key]
    kind: str

    @property
    def roles(self) -> tuple[str, ...]:
        """The moved roles that must be bound, in the order of the spec's actions."""
        return tuple(role for role in self.movements if role not in self.absent)


@dataclass
class Bound:
    """A part of a parameter that plays a role; `digits`: digit -> where it is; shift_by: the moved quantity is
    x + shift_by."""

    leaf: int
    role: str
    digits: dict[Number, Extent]
    shift_by: Fraction | None = None


@dataclass(frozen=True)
class Candidate:
    """A closed flow: what moves, what is kept, and how the digits of the moved axis take part."""

    bound: list[Bound]
    moved: frozenset[int]
    kept: tuple[int, ...]
    cut: frozenset[int]
    group: tuple[Number, ...]
    copies: tuple[Number, ...]
    sizes: dict[Number, int]
    pattern: Pattern


@dataclass(frozen=True)
class Refusal:
    """Why a parameter's axis is no site: falsy, with its reason.

    leaf, axis: where the search began; node: where it ended; progress: how far it came (for choosing what to show).
    """

    leaf: int
    axis: int
    reason: str
    node: int | None = None
    progress: int = 0
    roles: tuple[tuple[str, int], ...] = ()

    def __bool__(self) -> bool:
        return False

    @property
    def near(self) -> bool:
        """Was some branch of the moved value kept, so that this is a site but for one obstacle?"""
        return self.progress >= 10


def patterns(
    statement: Statement, movements: Mapping[str, Movement], degree: Law, forgets: Callable[[str], bool]
) -> tuple[list[Pattern], str]:
    """The formula's steps, once for every choice of absent optional roles; and why there are none, if so."""
    kinds = {movement.kind for movement in movements.values()}
    if len(kinds) != 1 or "general" in kinds:
        return [], "its action is not yet supported: the matcher follows scales, rotations and shifts of whole axes"
    (kind,) = kinds
    found: list[Pattern] = []
    reason = ""
    optional = [role for role in statement.params if role in statement.optional]
    for count in range(len(optional) + 1):
        for absent in itertools.combinations(optional, count):
            try:
                found.append(_pattern(statement, movements, frozenset(absent), kind, degree, forgets))
            except (Blocked, Demote) as error:
                reason = reason or f"the formula itself does not follow the rules of matching: {error}"
    unique: dict[tuple[object, ...], Pattern] = {}
    for pattern in found:
        moved = tuple(r for r in pattern.roles)
        unique.setdefault((moved, pattern.keys), pattern)
    return list(unique.values()), reason


def _pattern(
    statement: Statement,
    movements: Mapping[str, Movement],
    absent: frozenset[str],
    kind: str,
    degree: Law,
    forgets: Callable[[str], bool],
) -> Pattern:
    graph = statement.graph
    gone = {statement.params[role] for role in absent}
    torus = statement.group == "torus"
    context = Context(kind, torus, frozenset({(0,)}), frozenset(), degree, forgets, dependence(graph), noise(graph))
    states: dict[int, State] = {}
    for number, (role, movement) in enumerate(movements.items()):
        if role not in absent:
            leaf = graph[statement.params[role]]
            extent = Extent(movement.axis, 0, leaf.modes[movement.axis].size)
            states[leaf.id] = State({(0,): extent}, ("role", number), movement.exponent, movement.dual)
    wanted = _ancestors(graph, statement.kept)
    keys: set[Key] = set()
    kept: set[Key] = set()
    for node in graph:
        if node.id not in wanted or node.op == "leaf":
            continue
        if node.op == "add" and any(a.node in gone for a in node.operands):
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
    return Pattern(statement, dict(movements), absent, frozenset(keys), frozenset(kept), kind)


def dependence(graph: Graph) -> dict[int, bool]:
    """Node id -> does it depend on a parameter."""
    depends: dict[int, bool] = {}
    for node in graph:
        own = node.op == "leaf" and node.function == "param"
        depends[node.id] = own or any(depends[access.node] for access in node.operands)
    return depends


def noise(graph: Graph) -> frozenset[int]:
    """The leaves that are drawn anew in every forward: dropout masks."""
    return frozenset(node.id for node in graph if node.op == "leaf" and ("random", True) in node.attributes)


def _ancestors(graph: Graph, roots: Sequence[int]) -> set[int]:
    seen: set[int] = set()
    pending = list(roots)
    while pending:
        id = pending.pop()
        if id not in seen:
            seen.add(id)
            pending.extend(access.node for access in graph[id].operands)
    return seen


@dataclass
class Matcher:
    """Searches one model's graph; `blocked`: leaf id -> why it may not move; `said`: leaf id -> its name for people."""

    graph: Graph
    blocked: Mapping[int, str]
    said: Mapping[int, str]
    degree: Law
    forgets: Callable[[str], bool]
    depends: dict[int, bool] = field(default_factory=dict)
    noisy: frozenset[int] = frozenset()
    cuts: dict[int, set[tuple[int, int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.depends = dependence(self.graph)
        self.noisy = noise(self.graph)
        for space, start, length in self.graph.cuts:
            self.cuts.setdefault(space, set()).add((start, length))
        for node in self.graph:
            for operand, access in enumerate(node.operands):
                for mode, ix in zip(self.graph[access.node].modes, access.index):
                    low, high = node.span(operand, ix)
                    dense = math.prod(node.size(operand, v) for _, v in ix.terms) == high - low + 1
                    if dense and high - low + 1 < mode.size:
                        self.cuts.setdefault(mode.space, set()).add((low, high - low + 1))

    # -- seeds ------------------------------------------------------------------------------------------------
    def find(self, all_patterns: Sequence[Pattern]) -> tuple[list[Candidate], list[Refusal]]:
        """Every candidate site, in the order of the parameters, and what was refused on the way."""
        candidates: list[Candidate] = []
        refusals: list[Refusal] = []
        taken: set[tuple[object, ...]] = set()
        for leaf in self.graph.leaves("param"):
            for axis, digits in self._seeds(leaf):
                tried: list[Refusal] = []
                for pattern in all_patterns:
                    found = self._grow(pattern, leaf, axis, digits)
                    if isinstance(found, Candidate):
                        mark = _mark(found)
                        if mark not in taken:
                            taken.add(mark)
                            candidates.append(found)
                        tried = []
                        break
                    tried.append(found)
                if tried:
                    refusals.append(max(tried, key=lambda r: r.progress))
        return candidates, refusals

    def _seeds(self, leaf: Node) -> Iterator[tuple[int, dict[Number, Extent]]]:
        for axis in range(len(leaf.shape)):
            positions = [i for i, mode in enumerate(leaf.modes) if mode.axis == axis]
            if not positions:
                continue
            whole: dict[Number, Extent] = {(n,): Extent(p, 0, leaf.modes[p].size) for n, p in enumerate(positions)}
            yield axis, whole
            for n, p in enumerate(positions):
                for start, length in sorted(self.cuts.get(leaf.modes[p].space, ())):
                    yield axis, {**whole, (n,): Extent(p, start, length)}

    # -- growing one site -------------------------------------------------------------------------------------
    def _grow(self, pattern: Pattern, leaf: Node, axis: int, digits: dict[Number, Extent]) -> Candidate | Refusal:
        role = pattern.roles[0]
        group, copies = {d for d, e in digits.items() if e.length > 1}, set[Number]()
        if not group:
            return Refusal(leaf.id, axis, "its axis has a single element", None, -1)
        progress = 0
        bound = [Bound(leaf.id, role, dict(digits))]
        if not _fits(pattern, role, leaf, axis):
            return Refusal(leaf.id, axis, f"its axes are not those of {role}", None, -1)
        if leaf.id in self.blocked:
            return Refusal(leaf.id, axis, self.blocked[leaf.id], None, 0)
        node: int | None = None
        why = ""
        for _ in range(200):
            try:
                again = _Flow(self, pattern, bound, frozenset(group), frozenset(copies)).run()
                progress = max(progress, len(bound))
                if again is not None:
                    return self._candidate(pattern, bound, again, tuple(sorted(group)), tuple(sorted(copies)), digits)
                continue
            except Refine as error:
                digits = _refined(digits, error)
                for part in (group, copies):
                    if error.digit in part:
                        part.discard(error.digit)
                        part |= {(*error.digit, n) for n in range(len(error.sizes))}
                bound = [Bound(leaf.id, role, dict(digits))]
            except Demote as error:
                why = str(error)
                digit = error.digit
                if digit in group and pattern.kind == "rotate":
                    group.discard(digit)
                    copies.add(digit)
                else:
                    group.discard(digit)
                    copies.discard(digit)
                progress = max(progress, len(bound))
                bound = [Bound(leaf.id, role, dict(digits))]
                if not group:
                    return Refusal(
                        leaf.id,
                        axis,
                        f"no axis is left on which one element acts: {why}",
                        node,
                        progress,
                        _roles(bound),
                    )
            except Blocked as error:
                node = error.node.id if error.node is not None else None
                progress = max(progress, len(bound)) + (10 if error.near else 0)
                return Refusal(leaf.id, axis, str(error), node, progress, _roles(bound))
        return Refusal(leaf.id, axis, "the search for a closed site did not end", node, progress, _roles(bound))

    def _cut(self, moved: frozenset[int], kept: frozenset[int]) -> frozenset[int]:
        """The values at which the proof may stop: read by the site, and untouched by what moves.

        A value that reads only the still part of a moved one (the gate's half of a fused weight) is not one of them: the
        prover must look into it.
        """
        touched = set(moved)
        for id in range(min(moved), max(kept) + 1):
            if id not in kept and any(access.node in touched for access in self.graph[id].operands):
                touched.add(id)
        pending = list(kept)
        seen: set[int] = set()
        cut: set[int] = set()
        while pending:
            id = pending.pop()
            if id in seen:
                continue
            seen.add(id)
            if id in touched or id in kept:
                pending.extend(access.node for access in self.graph[id].operands)
            elif self.graph[id].op != "leaf":
                cut.add(id)
        return frozenset(cut)

    def _candidate(
        self,
        pattern: Pattern,
        bound: list[Bound],
        flow: _Flow,
        group: tuple[Number, ...],
        copies: tuple[Number, ...],
        digits: Mapping[Number, Extent],
    ) -> Candidate:
        moved = frozenset(flow.states)
        cut = self._cut(moved, frozenset(flow.kept))
        sizes = {digit: extent.length for digit, extent in digits.items()}
        return Candidate(bound, moved, tuple(sorted(flow.kept)), cut, group, copies, sizes, pattern)


def _mark(found: Candidate) -> tuple[object, ...]:
    """What a candidate moves, however it was found (queries from keys or keys from queries)."""
    marks: list[tuple[object, ...]] = []
    for bound in found.bound:
        places = {d: (e.position, e.start, e.length, e.step) for d, e in bound.digits.items()}
        parts = (tuple(sorted(places[d] for d in part if d in places)) for part in (found.group, found.copies))
        marks.append((bound.leaf, *parts))
    return tuple(sorted(marks))


def _fits(pattern: Pattern, role: str, leaf: Node, axis: int) -> bool:
    """Has the leaf axes beside the acting one exactly when the role has?  (A vector plays a vector.)"""
    beside = any(mode.axis != axis for mode in leaf.modes)
    return beside == (len(pattern.statement.axes[role]) > 1)


def _refined(digits: Mapping[Number, Extent], error: Refine) -> dict[Number, Extent]:
    """The digits with one of them split."""
    extent = digits[error.digit]
    made = {d: e for d, e in digits.items() if d != error.digit}
    step, start = extent.step * extent.length, extent.start
    for n, size in enumerate(error.sizes):
        step //= size
        made[(*error.digit, n)] = Extent(extent.position, start, size, step)
        start = 0
    return dict(sorted(made.items()))


def _roles(bound: Sequence[Bound]) -> tuple[tuple[str, int], ...]:
    return tuple((b.role, b.leaf) for b in bound)


def _ranges(bound: Mapping[Number, Extent]) -> dict[int, tuple[int, int]]:
    """For every mode the least and the greatest index that the digits reach."""
    made: dict[int, tuple[int, int]] = {}
    for e in bound.values():
        low, high = made.get(e.position, (0, 0))
        made[e.position] = (low + e.start, high + e.start + e.step * (e.length - 1))
    return made


def _disjoint(one: Mapping[Number, Extent], two: Mapping[Number, Extent]) -> bool:
    a, b = _ranges(one), _ranges(two)
    return any(a[p][1] < b[p][0] or b[p][1] < a[p][0] for p in a.keys() & b.keys())


class _Flow:
    """One forward pass with the bindings known so far."""

    def __init__(
        self,
        matcher: Matcher,
        pattern: Pattern,
        bound: dict[int, Bound],
        group: frozenset[Number],
        copies: frozenset[Number],
    ) -> None:
        self.matcher, self.pattern, self.bound = matcher, pattern, bound
        self.graph = matcher.graph
        laws = (matcher.degree, matcher.forgets, matcher.depends, matcher.noisy)
        self.context = Context(pattern.kind, pattern.statement.group == "torus", group, copies, *laws)
        self.lengths = {d: e.length for b in bound for d, e in b.digits.items()}
        self.alive = group | copies
        self.states: dict[int, list[State]] = {}
        self.kept: set[int] = set()
        self.steps: set[Key] = set()

    def run(self) -> _Flow | None:
        """Follows everything.  None: a parameter was bound, or unbound; run again.

        Raises:
            Blocked, Demote: see `gaugec.flow`.
        """
        for bound in self.bound:
            movement = self.pattern.movements[bound.role]
            number = list(self.pattern.movements).index(bound.role)
            state = State(bound.digits, ("role", number), movement.exponent, movement.dual)
            self.states.setdefault(bound.leaf, []).append(state)
        pending = sorted({user for bound in self.bound for user in self.graph.users[bound.leaf]})
        heapq.heapify(pending)
        done: set[int] = set()
        first: Blocked | None = None
        while pending:
            id = heapq.heappop(pending)
            if id in done:
                continue
            done.add(id)
            node = self.graph[id]
            try:
                outcomes = self._step(node)
                if not outcomes:
                    continue
                for outcome in outcomes:
                    if isinstance(outcome, Demand):
                        self._bind(node, outcome)
                        return None
                if self._settle(node, [o for o in outcomes if isinstance(o, Outcome)]):
                    continue
            except Blocked as error:
                # the other branches are still followed: how far they come tells how near a miss this is
                first = first or error
                continue
            for user in self.graph.users[id]:
                heapq.heappush(pending, user)
        if first is not None:
            first.near = bool(self.kept)
            raise first
        self._closed()
        return self

    def _step(self, node: Node) -> list[Outcome | Demand]:
        states = [self.states.get(a.node, []) for a in node.operands]
        read = {a.node for a in node.operands}
        mine = [bound for bound in self.bound if bound.leaf in read]
        if node.op == "add" and node.constant and len(node.operands) == 1 and self.context.kind == "scale":
            if mine and node.coefficients == (Fraction(1),):
                for bound in mine:
                    if bound.shift_by is None:
                        bound.shift_by = node.constant
                if all(bound.shift_by == node.constant for bound in mine):
                    node = replace(node, constant=Fraction(0))
        elif any(bound.shift_by for bound in mine):
            raise Blocked("a gain is used both with and without a constant added", node)
        return step(node, states, self.context)

    def _settle(self, node: Node, outcomes: Sequence[Outcome]) -> bool:
        """Records what a node does; True when it is kept.  Refuses a step that the formula has not."""
        for outcome in outcomes:
            if outcome.key is not None and outcome.key not in self.pattern.keys:
                raise Blocked(_unexpected(outcome.key, node), node)
            if outcome.key is not None:
                self.steps.add(outcome.key)
        moving = [
            replace(o.state, tag=o.state.tag if o.key is None else o.key) for o in outcomes if o.state is not None
        ]
        if not moving:
            self.kept.add(node.id)
            return True
        if len(moving) != len(outcomes):
            raise Blocked("not supported: one value in which a part is kept and a part moves", node)
        self.states[node.id] = moving
        return False

    def _closed(self) -> None:
        """The first three conditions of soundness: every use inside, nothing moved leaves, all roles bound.

        Raises:
            Blocked: one of them fails.
        """
        for id in self.states:
            node = self.graph[id]
            if id in self.graph.outputs:
                raise Blocked("the moved value is an output of the model", node)
            if id in self.graph.buffers:
                raise Blocked("the moved value is written to a buffer by the forward", node)
            for user in self.graph.users[id]:
                if user not in self.states and user not in self.kept and not self._misses(self.graph[user], id):
                    raise Blocked("the moved value is used outside the site", self.graph[user])
        if not self.kept or not {k for k in self.steps if k in self.pattern.kept}:
            raise Blocked("nothing reads the moved value: the site has no reader")
        counts = {role: sum(b.role == role for b in self.bound) for role in self.pattern.roles}
        for role, count in counts.items():
            if count == 0:
                raise Blocked(f"no parameter plays {role}")
            if count > 1 and role not in self.pattern.statement.each:
                raise Blocked(f"{count} parameters would play {role}, which the formula has once")

    def _misses(self, node: Node, id: int) -> bool:
        """Does a node read only the part of a value that does not move?"""
        return not self._step(node)

    # -- binding ----------------------------------------------------------------------------------------------
    def _bind(self, node: Node, demand: Demand) -> None:
        mine = played(demand.mine)
        wanted: list[object] = []
        for key in sorted(self.pattern.keys, key=repr):
            if key[0] == demand.kind and mine in key[1:]:
                others = list(key[1:])
                others.remove(mine)
                wanted.extend(others)
        if not wanted:
            raise Blocked(_unexpected((demand.kind, mine), node), node)
        access = node.operands[demand.operand]
        for digit, spot in demand.variables.items():
            if spot.variable not in access.variables and digit in self.alive:
                raise Demote(digit, "a value that must move with it does not have it")
        named = list(self.pattern.movements)
        roles = [named[number] for tag in wanted for number in _roles_in(tag)]
        leaf, digits = self._trace_back(node, access, dict(demand.variables))
        if leaf in self.matcher.blocked:
            raise Blocked(f"{self.matcher.said[leaf]} cannot be moved: {self.matcher.blocked[leaf]}", node)
        if any(b.leaf == leaf and not _disjoint(b.digits, digits) for b in self.bound):
            raise Blocked(f"{self.matcher.said[leaf]} would have to move in two ways", node)
        free = [r for r in roles if r in self.pattern.statement.each or all(b.role != r for b in self.bound)]
        for role in free:
            movement = self.pattern.movements[role]
            axis = self.graph[leaf].modes[next(iter(digits.values())).position].axis
            if not _fits(self.pattern, role, self.graph[leaf], axis):
                continue
            needed = -demand.mine.exponent if demand.kind == "contract" else demand.mine.exponent
            if self.pattern.kind != "scale" or movement.exponent == needed or self.graph[access.node].op != "leaf":
                self.bound.append(Bound(leaf, role, digits))
                return
        raise Blocked(f"{self.matcher.said[leaf]} must move, and the formula has no role left for it", node)

    def _whole_again(self, access: Access, source: Node, places: dict[Number, Extent], node: Node) -> None:
        """Where a piece of a rotary axis is read, the digit is the whole axis."""
        operand = list(node.operands).index(access)
        taken = {e.position for d, e in places.items() if d not in self.context.group}
        for position, (ix, mode) in enumerate(zip(access.index, source.modes)):
            low, high = node.span(operand, ix)
            for digit in sorted(self.context.group):
                mine = digit not in places or places[digit].position == position
                if mine and high - low + 1 < mode.size == self.lengths[digit] and position not in taken:
                    places[digit] = Extent(position, 0, mode.size)

    def _trace_back(
        self, node: Node, access: Access, variables: dict[Number, Spot]
    ) -> tuple[int, dict[Number, Extent]]:
        """Follows an operand back to the parameter from which its digits come."""
        pieced: set[Number] = set()
        lengths = dict(self.lengths)
        for hop in range(1000):
            source = self.graph[access.node]
            places: dict[Number, Extent] = {}
            for position, ix in enumerate(access.index):
                offset = ix.offset
                for digit, spot in variables.items():
                    scale = next((s for s, v in ix.terms if v == spot.variable), 0)
                    if scale and digit not in places:
                        length = lengths[digit]
                        places[digit] = Extent(position, offset + scale * spot.start, length, scale * spot.step)
                        offset = 0
            if self.context.torus:
                self._whole_again(access, source, places, node)
                pieced |= {d for d, spot in variables.items() if node.op == "cat" and spot.variable == node.bound[0]}
            for missing in sorted((set(variables) - set(places) - pieced) & self.alive):
                raise Demote(missing, "a value that must move with it does not have it")
            for digit, extent in _bystanders(node, access, source, places, hop).items():
                places[digit] = extent
                lengths[digit] = extent.length
            for missing in sorted(pieced - set(places)) if source.op == "leaf" else ():
                raise Demote(missing, "a value that must move with it does not have it")
            if source.op == "leaf":
                if source.function != "param":
                    raise Blocked("a value that must move is not made by a parameter", node)
                return source.id, places
            if source.op not in ("einsum", "add", "cat", "map"):
                raise Blocked(f"a value that must move comes out of {source.function or source.source}", source)
            inner = {d: source.modes[e.position].variable for d, e in places.items() if d in self.alive}
            choices = [
                a for a in source.operands if self.matcher.depends[a.node] and set(inner.values()) & set(a.variables)
            ]
            if source.op == "einsum" and len(choices) != 1:
                raise Blocked("a value that must move is not made by one parameter", source)
            if not choices:
                raise Blocked("a value that must move is not made by a parameter", source)
            full = [a for a in choices if set(inner.values()) <= set(a.variables)]
            node, access = source, (full or choices)[0]
            variables = {d: Spot(source.modes[e.position].variable, e.start, e.step) for d, e in places.items()}
        raise Blocked("a value that must move is too far from its parameter", node)


def _bystanders(
    node: Node, access: Access, source: Node, places: Mapping[Number, Extent], hop: int
) -> dict[Number, Extent]:
    """Digits that only a partner has where its access is a part of a mode: the query heads of a group in a fused
    weight, the place of the keys in a packed one."""
    made: dict[Number, Extent] = {}
    operand = list(node.operands).index(access)
    for position, (ix, mode) in enumerate(zip(access.index, source.modes, strict=True)):
        low, high = node.span(operand, ix)
        mine = [e for e in places.values() if e.position == position]
        if math.prod(e.length for e in mine) == mode.size or (not mine and high - low + 1 == mode.size):
            continue
        offset = 0 if mine else ix.offset
        if not mine and not ix.terms:
            made[(1000 + hop, position)] = Extent(position, offset, 1)
        for stride, variable in ix.terms:
            if not any(e.step <= stride < e.step * e.length or e.step == stride for e in mine):
                made[(1000 + hop, position, stride)] = Extent(position, offset, node.size(operand, variable), stride)
                offset = 0
    return made


def _roles_in(tag: object) -> list[int]:
    """The numbers of the roles of which a value of the formula is made."""
    if isinstance(tag, tuple):
        if len(tag) == 2 and tag[0] == "role" and isinstance(tag[1], int):
            return [tag[1]]
        return [number for part in tag for number in _roles_in(part)]
    return []


def _unexpected(key: Key, node: Node) -> str:
    words = {
        "gate": "the moved value is multiplied by values that vary along its axis",
        "weigh": "the moved value is mixed with weights that vary along its axis",
        "apply": "the moved parameter is applied to data",
        "add": "another value is added to the moved one",
        "contract": "the moved axis is contracted",
        "product": "moved values are multiplied together",
    }
    what = words.get(str(key[0]), f"the moved value passes {key[1] if len(key) > 1 else key[0]}")
    return f"{what} at {node.source or node.op}, where the formula has no such step"


def regions(graph: Graph, candidate: Candidate) -> tuple[Region, ...]:
    """The moved parameters of a candidate, as the prover reads them."""
    made: list[Region] = []
    numbers = {digit: n for n, digit in enumerate(sorted((*candidate.group, *candidate.copies)))}
    for bound in candidate.bound:
        leaf = bound.leaf
        movement = candidate.pattern.movements[bound.role]
        order = 0
        digits: list[Digit] = []
        for position, mode in enumerate(graph[leaf].modes):
            mine = sorted((d, e) for d, e in bound.digits.items() if e.position == position)
            if not mine:
                digits.append(Digit("rest", 0, mode.size, 1, order, position))
                order += 1
            for digit, e in mine:
                part = "group" if digit in candidate.group else "copy" if digit in candidate.copies else "rest"
                number = numbers[digit] if part != "rest" else order
                order += part == "rest"
                digits.append(Digit(part, e.start, e.length, e.step, number, position))
        shift = bound.shift_by or Fraction(0)
        made.append(Region(leaf, tuple(digits), movement.kind, movement.exponent, movement.dual, shift))
    return tuple(made)
