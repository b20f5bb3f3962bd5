"""Finds every site of a gauge in a model's tensor graph, or says why there is none.

From each axis of each parameter the moved values are followed forward (`gaugec.matching.flow`) in step with the
formula; what must move with them is bound on demand; digits of the axis that cannot belong to one group element become
copies or bystanders; and this repeats until nothing changes.  What remains is a candidate: the caller proves it on the
subgraph.

What this module does not do: it looks at no name and no module class, and it proves nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from gaugec.graph.ir import Concatenation, Graph, Ix, Node
from gaugec.graph.statement import Digit, Movement, Multiplied, Region
from gaugec.graph.vectors import Vector, vectors
from gaugec.groups import GROUPS
from gaugec.matching.closure import LEAVES, Bound, Closure, fits, ranges
from gaugec.matching.pattern import Pattern, chosen, dependence, noise, weights, zeros
from gaugec.matching.shifts import Shifting, Sight, charted, gains, shifted
from gaugec.matching.states import Blocked, Demote, Extent, Number, Refine, State

_BESIDE = 500  # digits of axes beside the acting one are numbered behind its own


@dataclass(frozen=True)
class Candidate:
    """A closed flow: what moves, what is kept, and how the digits of the moved axis take part.

    way: every node that the flow passed, in order, with how its value moves (None: it is kept)."""

    bound: list[Bound]
    moved: frozenset[int]
    kept: tuple[int, ...]
    cut: frozenset[int]
    group: tuple[Number, ...]
    copies: tuple[Number, ...]
    sizes: dict[Number, int]
    pattern: Pattern
    way: tuple[tuple[int, State | None], ...] = ()
    regions: tuple[Region, ...] = ()  # where they are more than the digits of what is bound


@dataclass(frozen=True)
class Miss:
    """Why a parameter's axis is no site: falsy, with its reason.

    leaf, axis: where the search began; span: the part of that axis, as (start, length), or None for all of it; node:
    where it ended; law: what would have to hold there; progress, steps, passed: how far it came, in bound parameters,
    steps of the formula, and values of the model; stray: it only met a step that the formula has nowhere
    near; whole: every role was played.
    """

    leaf: int
    axis: int
    reason: str
    node: int | None = None
    progress: int = 0
    roles: tuple[tuple[str, int], ...] = ()
    law: str = ""
    span: tuple[int, int] | None = None
    passed: int = 0
    steps: int = 0
    stray: bool = False
    whole: bool = False

    def __bool__(self) -> bool:
        return False

    @property
    def leaves(self) -> bool:
        """Would a moved value have left the model?"""
        return self.reason == LEAVES

    @property
    def far(self) -> tuple[object, ...]:
        """How far it came; the larger, the farther."""
        left = self.leaves and self.whole
        return self.near, left, not self.stray, self.steps, self.passed, not self.leaves, self.progress

    @property
    def near(self) -> bool:
        """Was some branch of the moved value kept, so that this is a site but for one obstacle?"""
        return self.progress >= 10


@dataclass
class Matcher:
    """Searches one model's graph; `blocked`: leaf id -> why it may not move; `labels`: leaf id -> what it is called;
    `sight`: what shows the values of a graph whose leaves were shifted."""

    graph: Graph
    blocked: Mapping[int, str]
    labels: Mapping[int, str]
    sight: Sight
    depends: dict[int, bool] = field(default_factory=dict)
    noisy: frozenset[int] = frozenset()
    chosen: dict[int, int] = field(default_factory=dict)
    zeros: frozenset[int] = frozenset()
    weights: frozenset[int] = frozenset()
    vectors: dict[int, Vector] = field(default_factory=dict)
    cuts: dict[int, set[tuple[int, int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.depends = dependence(self.graph)
        self.noisy = noise(self.graph)
        self.chosen = chosen(self.graph)
        self.zeros = zeros(self.graph)
        self.weights = weights(self.graph)
        self.vectors = vectors(self.graph)
        for space, start, length in self.graph.cuts:
            self.cuts.setdefault(space, set()).add((start, length))
        for node in self.graph:
            for operand, access in enumerate(node.operands):
                for mode, ix in zip(self.graph[access.node].modes, access.index):
                    low, high = node.span(operand, ix)
                    dense = math.prod(node.size(operand, v) for _, v in ix.terms) == high - low + 1
                    if dense and high - low + 1 < mode.size:
                        self.cuts.setdefault(mode.space, set()).add((low, high - low + 1))
            if isinstance(node, Concatenation):
                self._joined(node)

    def _joined(self, node: Concatenation) -> None:
        """What stood together before it was joined may move together: all pieces of one value."""
        space = next(mode.space for mode in node.modes if mode.variable == node.joined)
        for _, run in itertools.groupby(zip(node.operands, node.pieces, strict=True), key=lambda part: part[0].node):
            starts = [piece for _, piece in run]
            length = starts[-1][0] + starts[-1][1] - starts[0][0]
            self.cuts.setdefault(space, set()).add((starts[0][0], length))

    # -- seeds ------------------------------------------------------------------------------------------------
    def find(self, all_patterns: Sequence[Pattern]) -> tuple[list[Candidate], list[Miss]]:
        """Every candidate site, in the order of the parameters, and the misses on the way."""
        candidates: list[Candidate] = []
        misses: list[Miss] = []
        taken: dict[tuple[object, ...], int] = {}
        closed: set[tuple[int, int]] = set()  # of what is wide: where it has been found already
        for leaf in self.graph.leaves("param"):
            done: set[int] = set()  # axes of which the whole is a site: a part of it is no other one
            for axis, digits in self._seeds(leaf):
                tried: list[Miss] = []
                if axis in done and all_patterns[0].kind == "shift":
                    continue
                if (leaf.id, axis) in closed:
                    continue
                for pattern in all_patterns:
                    grow = self._shift if pattern.kind == "shift" else self._spread
                    found = grow(pattern, leaf, axis, digits)
                    if isinstance(found, Miss):
                        found = replace(found, span=_part(leaf, digits))
                    if isinstance(found, Candidate):
                        at = taken.setdefault(_mark(found), len(candidates))
                        if at == len(candidates):
                            candidates.append(found)
                        elif _count(found) < _count(candidates[at]):
                            candidates[at] = found
                        done.add(axis)
                        if pattern.wide:
                            closed |= {(b.leaf, _axis(self.graph[b.leaf], b, found.group)) for b in found.bound}
                        tried = []
                        break
                    tried.append(found)
                if tried:
                    misses.append(max(tried, key=lambda r: r.progress))
        sharing: dict[int, list[Candidate]] = {}
        for candidate in candidates:
            for moved in {b.leaf for b in candidate.bound}:
                sharing.setdefault(moved, []).append(candidate)
        alone = [c for c in candidates if not any(_within(c, other) for other in sharing[c.bound[0].leaf])]
        return alone, misses

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

    # -- shifts -----------------------------------------------------------------------------------------------
    def _shift(self, pattern: Pattern, leaf: Node, axis: int, digits: dict[Number, Extent]) -> Candidate | Miss:
        """A shift that is constant along these digits of an axis, or along nothing, in every chart that could hold."""
        role = pattern.roles[0]
        movement, axes = pattern.movements[role], pattern.statement.axes[role]
        if (len(leaf.shape) > 1) != (len(axes) > 1) or (len(movement.constant) == len(axes) and axis):
            return Miss(leaf.id, axis, f"its axes are not those of {role}", None, -1)
        if leaf.id in self.blocked:
            return Miss(leaf.id, axis, self.blocked[leaf.id], None, 0)
        seed = _seed(leaf, axis, digits, movement)
        charts = [seed]
        for *_, power in movement.factors:
            charts = [charted(one, gain, power) for one in charts for gain in gains(self.graph, leaf.id, axis)]
        miss = Miss(leaf.id, axis, "no gain multiplies what it is contracted with", None, 0)
        for region in charts:
            closure = Shifting(self, pattern, region)
            try:
                closure.run()
            except Blocked as error:
                node = error.node.id if error.node is not None else None
                whole = {r for r, _ in closure.roles} >= set(pattern.roles)
                near = whole and (closure.ends or self._closes_alone(pattern, region))
                progress = len(closure.roles) + (10 if near else 0)
                bound = tuple((r, one.leaf) for r, one in closure.roles)
                came = (len(closure.way), len(closure.way), False, whole)
                miss = Miss(leaf.id, axis, str(error), node, progress, bound, error.law, None, *came)
                continue
            return _shifted(pattern, closure, digits)
        return miss

    def _closes_alone(self, pattern: Pattern, region: Region) -> bool:
        """Would a shift of a weight that is used more than once be one, if one of its uses were the only one?"""
        users = self.graph.users[region.leaf]
        for user in users if len(users) > 1 else ():
            try:
                Shifting(self, pattern, region, user).run()
            except Blocked:
                continue
            return True
        return False

    # -- growing one site -------------------------------------------------------------------------------------
    def _spread(self, pattern: Pattern, leaf: Node, axis: int, digits: dict[Number, Extent]) -> Candidate | Miss:
        """A site with as many copies as it has: each expert, each head that has an axis of its own."""
        copies: dict[Number, Extent] = {}
        for position in self._beside(leaf, axis):
            wider = {**copies, (_BESIDE, position): Extent(position, 0, leaf.modes[position].size)}
            found = self._grow(pattern, leaf, axis, digits, wider)
            if isinstance(found, Candidate) and (_BESIDE, position) in found.copies:
                copies = wider
        return self._grow(pattern, leaf, axis, digits, copies)

    def _beside(self, leaf: Node, axis: int) -> list[int]:
        """The modes off the axis that every reader of a parameter keeps: they are summed over by a lookup at most."""
        reads = [(user, a) for id in self.graph.users[leaf.id] for user in (self.graph[id],) for a in user.operands]
        mine = [(user, access.index) for user, access in reads if access.node == leaf.id]
        return [
            position
            for position, mode in enumerate(leaf.modes)
            if mode.axis != axis
            and mode.size > 1
            and all(index[position].terms and self._keeps(user, index[position].variables) for user, index in mine)
        ]

    def _keeps(self, node: Node, variables: Sequence[int]) -> bool:
        """Does a node bind none of the variables, but where it looks up by index along one?"""
        chosen = {v for a in node.operands if a.node in self.chosen for v in a.variables}
        return not set(variables) & set(node.binds) - chosen

    def _grow(
        self,
        pattern: Pattern,
        leaf: Node,
        axis: int,
        digits: dict[Number, Extent],
        beside: Mapping[Number, Extent] | None = None,
    ) -> Candidate | Miss:
        role = pattern.roles[0]
        group, copies = {d for d, e in digits.items() if e.length > 1}, set(beside or ())
        digits = {**digits, **(beside or {})}
        if not group:
            return Miss(leaf.id, axis, "its axis has a single element", None, -1)
        progress = 0
        bound = [Bound(leaf.id, role, dict(digits))]
        if not fits(pattern, role, leaf, axis, {e.position for e in (beside or {}).values()}):
            return Miss(leaf.id, axis, f"its axes are not those of {role}", None, -1)
        if leaf.id in self.blocked:
            return Miss(leaf.id, axis, self.blocked[leaf.id], None, 0)
        node: int | None = None
        for _ in range(200):
            closure = Closure(self, pattern, bound, frozenset(group), frozenset(copies))
            try:
                again = closure.run()
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
                digit = error.digit
                node = error.node.id if error.node is not None else None
                if digit in group and (pattern.kind == "rotate" or GROUPS[pattern.statement.group].paired):
                    group.discard(digit)
                    copies.add(digit)
                else:
                    group.discard(digit)
                    copies.discard(digit)
                progress = max(progress, len(bound))
                bound = [Bound(leaf.id, role, dict(digits))]
                if not group:
                    return Miss(
                        leaf.id,
                        axis,
                        f"no axis is left on which one element acts: {error}",
                        node,
                        progress,
                        _roles(bound),
                        error.law,
                        None,
                        len(closure.states),
                        len(closure.steps),
                    )
            except Blocked as error:
                node = error.node.id if error.node is not None else None
                progress = max(progress, len(bound)) + (10 if error.near else 0)
                came = (None, len(closure.states), len(closure.steps), error.stray, error.whole)
                return Miss(leaf.id, axis, str(error), node, progress, _roles(bound), error.law, *came)
        return Miss(leaf.id, axis, "the search for a closed site did not end", node, progress, _roles(bound))

    def _cut(self, moved: frozenset[int], kept: frozenset[int], wide: bool) -> frozenset[int]:
        """The values at which the proof may stop: read by the site, and untouched by what moves.

        A value that reads only the still part of a moved one (the gate's half of a fused weight) is not one of them:
        the prover must look into it; so it must into 1 + g where that is wide, for it may be the gain of a chart.
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
            elif wide and id in self.vectors:
                pending.extend(access.node for access in self.graph[id].operands)
            elif self.graph[id].operands:  # a leaf and a number are what they are
                cut.add(id)
        return frozenset(cut)

    def _candidate(
        self,
        pattern: Pattern,
        bound: list[Bound],
        flow: Closure,
        group: tuple[Number, ...],
        copies: tuple[Number, ...],
        digits: Mapping[Number, Extent],
    ) -> Candidate:
        moved = frozenset(flow.states)
        cut = self._cut(moved, frozenset(flow.kept), pattern.wide)
        sizes = {digit: extent.length for digit, extent in digits.items()}
        way = tuple((id, state) for id in sorted({*flow.states, *flow.kept}) for state in flow.states.get(id, [None]))
        return Candidate(bound, moved, tuple(sorted(flow.kept)), cut, group, copies, sizes, pattern, way)


def _seed(leaf: Node, axis: int, digits: Mapping[Number, Extent], movement: Movement) -> Region:
    """The region that a shift begins with: constant along the digits, or along all, or along nothing."""
    own = {e.position: e for e in digits.values()}
    positions = range(len(leaf.modes)) if movement.constant else ()
    constant = own.keys() if len(movement.constant) == 1 else positions
    return shifted(leaf, constant, movement.exponent, own)


def _shifted(pattern: Pattern, closure: Shifting, digits: Mapping[Number, Extent]) -> Candidate:
    """The candidate of a closed shift."""
    constant = tuple(sorted(digits)) if pattern.movements[pattern.roles[0]].constant else ()
    bound = [Bound(region.leaf, role, dict(digits) if n == 0 else {}) for n, (role, region) in enumerate(closure.roles)]
    moved = frozenset([id for id, changed in closure.way if changed] + [b.leaf for b in bound])
    marks = sorted([*((b.leaf, True) for b in bound), *closure.way])
    way = tuple((id, State({}, None) if changed else None) for id, changed in marks)
    sizes = {digit: e.length for digit, e in digits.items()}
    regions = tuple(region for _, region in closure.roles)
    return Candidate(bound, moved, tuple(closure.kept), closure.cut, constant, (), sizes, pattern, way, regions)


def _axis(leaf: Node, bound: Bound, group: Sequence[Number]) -> int:
    """The axis along which the element acts."""
    return next(leaf.modes[e.position].axis for d, e in bound.digits.items() if d in group)


def _part(leaf: Node, digits: Mapping[Number, Extent]) -> tuple[int, int] | None:
    """The part of the axis that a search began with; None for all of it."""
    parts = [(e.start, e.length) for e in digits.values() if e.length != leaf.modes[e.position].size]
    return parts[0] if parts else None


def _count(found: Candidate) -> int:
    """How many copies a candidate has."""
    return math.prod(found.sizes[digit] for digit in found.copies)


def _mark(found: Candidate) -> tuple[object, ...]:
    """What a candidate moves, however it was found: queries from keys or keys from queries, and scales from whichever
    axis, for each entry has one of its own along copies and group alike."""
    if found.regions:
        return tuple(
            sorted(
                (region.leaf, region.kind, tuple((d.part, d.start, d.length, d.step, d.mode) for d in region.digits))
                for region in found.regions
            )
        )
    marks: list[tuple[object, ...]] = []
    whole = (*found.group, *found.copies)
    parted = (whole,) if found.pattern.kind == "scale" else (found.group, found.copies)
    for bound in found.bound:
        places = {d: (e.position, e.start, e.length, e.step) for d, e in bound.digits.items()}
        parts = (tuple(sorted(places[d] for d in part if d in places)) for part in parted)
        marks.append((bound.leaf, *parts))
    return tuple(sorted(marks))


def _within(one: Candidate, two: Candidate) -> bool:
    """Does a candidate move only a part of what another one moves?"""
    if one is two or {b.leaf for b in one.bound} - {b.leaf for b in two.bound}:
        return False

    def inside(b: Bound, c: Bound) -> bool:
        mine, theirs = ranges(b.digits), ranges(c.digits)
        return b.leaf == c.leaf and all(
            p in mine and low <= mine[p][0] and mine[p][1] <= high for p, (low, high) in theirs.items()
        )

    def size(candidate: Candidate) -> int:
        return math.prod(candidate.sizes[d] for d in (*candidate.group, *candidate.copies))

    smaller = size(one) < size(two)
    return smaller and all(any(inside(b, c) for c in two.bound) for b in one.bound)


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


def regions(graph: Graph, candidate: Candidate) -> tuple[Region, ...]:
    """The moved parameters of a candidate, as the prover reads them."""
    if candidate.regions:
        return candidate.regions
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
        acting = [digit for digit in digits if digit.part == "group"] if bound.chart else []
        index = tuple(Ix(-digit.start, ((1, digit.mode),)) for digit in acting)
        factors = tuple(Multiplied(gain, index, -power, plus) for (gain, plus), power in bound.chart)
        made.append(Region(leaf, tuple(digits), movement.kind, movement.exponent, movement.dual, shift, factors))
    return tuple(made)
