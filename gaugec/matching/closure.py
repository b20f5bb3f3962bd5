"""The closure of a site: what else must move when some parameters do, followed forward until nothing is missing.

One `Closure` is one forward pass in step with a pattern.  It binds a parameter on demand (tracing an operand back to it
through views and linear maps), refuses a step that the formula has not, and checks the first three conditions of
soundness: every use of what moves is inside, nothing that moves leaves the model, every role is played.

What this module does not do: it chooses no place to start (see `gaugec.matching.search`) and proves nothing.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol

from gaugec.graph.ir import Access, Along, Concatenation, Contraction, Graph, Leaf, Node, Opaque, Sum
from gaugec.graph.vectors import Vector
from gaugec.groups import GROUPS
from gaugec.laws.meanings import alike
from gaugec.matching.flow import played, step
from gaugec.matching.pattern import Pattern
from gaugec.matching.states import (
    ANOTHER_LOOKUP,
    LOOKED_UP,
    Blocked,
    Chart,
    Context,
    Demand,
    Demote,
    Extent,
    Key,
    Number,
    Outcome,
    Spot,
    State,
    inverse,
)
from gaugec.operators import spelled

LEAVES = "the moved value is an output of the model"
_KEEPS = "what leaves the site must be what the gauge keeps"
_STEP = "the formula of the gauge has no such step: the law that is proved for it says nothing of this"
_PARTNER = "what meets the moved value must move too, and only a parameter seen through views and linear maps can"
_WAYS = "one parameter, one action: two elements would have to be equal"


class Owner(Protocol):
    """What a closure reads of the matcher that owns it."""

    graph: Graph
    blocked: Mapping[int, str]
    labels: Mapping[int, str]
    depends: dict[int, bool]
    noisy: frozenset[int]
    chosen: dict[int, int]
    zeros: frozenset[int]
    weights: frozenset[int]
    vectors: dict[int, Vector]


@dataclass
class Bound:
    """A part of a parameter that plays a role; `digits`: digit -> where it is; shift_by: the moved quantity is
    x + shift_by; chart: it moves as D R D^-1 x, D the product of these."""

    leaf: int
    role: str
    digits: dict[Number, Extent]
    shift_by: Fraction | None = None
    chart: Chart = ()


def fits(pattern: Pattern, role: str, leaf: Node, axis: int, copied: Set[int], summed: bool = False) -> bool:
    """Has the leaf axes beside the acting one exactly when the role has?  (A vector plays a vector.)

    copied: modes along which there are copies: a vector of each.  One that has axes with length 1 (the sizes of a
    weight norm) plays either; so does one that the moved value is itself `summed` against: a reader of width one.
    """
    beside = any(mode.axis != axis for position, mode in enumerate(leaf.modes) if position not in copied)
    matrix = len(pattern.statement.axes[role]) > 1
    return beside == matrix or (matrix and (summed or len(leaf.shape) > 1))


def ranges(bound: Mapping[Number, Extent]) -> dict[int, tuple[int, int]]:
    """For every mode the least and the greatest index that the digits reach."""
    made: dict[int, tuple[int, int]] = {}
    for e in bound.values():
        low, high = made.get(e.position, (0, 0))
        made[e.position] = (low + e.start, high + e.start + e.step * (e.length - 1))
    return made


def _disjoint(one: Mapping[Number, Extent], two: Mapping[Number, Extent]) -> bool:
    a, b = ranges(one), ranges(two)
    return any(a[p][1] < b[p][0] or b[p][1] < a[p][0] for p in a.keys() & b.keys())


class Closure:
    """One forward pass with the bindings known so far."""

    def __init__(
        self,
        matcher: Owner,
        pattern: Pattern,
        bound: list[Bound],
        group: frozenset[Number],
        copies: frozenset[Number],
    ) -> None:
        self.matcher, self.pattern, self.bound = matcher, pattern, bound
        self.graph = matcher.graph
        row = GROUPS[pattern.statement.group]
        known = (matcher.depends, matcher.noisy, matcher.chosen, matcher.zeros, matcher.vectors, pattern.wide)
        self.context = Context(pattern.kind, row.paired, row.keeps_ones, group, copies, *known)
        self.lengths = {d: e.length for b in bound for d, e in b.digits.items()}
        self.alive = group | copies
        self.states: dict[int, list[State]] = {}
        self.kept: set[int] = set()
        self.steps: set[Key] = set()

    def run(self) -> Closure | None:
        """Follows everything.  None: a parameter was bound, or unbound; run again.

        Raises:
            Blocked, Demote: see `gaugec.matching.flow`.
        """
        for bound in self.bound:
            self._begin(bound)
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
                    demand = outcome if isinstance(outcome, Demand) else self._instead(outcome)
                    if demand is not None:
                        self._bind(node, demand)
                        users = self.graph.users[self.bound[-1].leaf]
                        if not self.pattern.wide or done & set(users) - {id}:
                            return None
                        # what has been seen does not read it: the way goes on from there
                        self._begin(self.bound[-1])
                        for again in (*users, id):
                            heapq.heappush(pending, again)
                        done.discard(id)
                        break
                if id not in done:
                    continue
                if self._settle(node, [o for o in outcomes if isinstance(o, Outcome)]):
                    continue
            except Blocked as error:
                # the other branches are still followed: how far they come tells how near a miss this is
                first = first or error
                continue
            for user in self.graph.users[id]:
                heapq.heappush(pending, user)
        if first is not None:
            self._judge(first)
            raise first
        try:
            self._closed()
        except Blocked as error:
            self._judge(error)
            raise
        return self

    def _begin(self, bound: Bound) -> None:
        """What is bound moves."""
        self.lengths |= {digit: extent.length for digit, extent in bound.digits.items()}
        movement = self.pattern.movements[bound.role]
        number = list(self.pattern.movements).index(bound.role)
        tag = "wide" if self.pattern.wide else ("role", number)
        state = State(bound.digits, tag, movement.exponent, movement.dual, chart=bound.chart)
        self.states.setdefault(bound.leaf, []).append(state)

    def _judge(self, error: Blocked) -> None:
        """How near a miss is: is every role played, and was a value kept too?"""
        error.whole = {b.role for b in self.bound} >= set(self.pattern.roles)
        error.near = bool(self.kept) and error.whole

    def _step(self, node: Node) -> list[Outcome | Demand]:
        states = [self.states.get(a.node, []) for a in node.operands]
        read = {a.node for a in node.operands}
        mine = [bound for bound in self.bound if bound.leaf in read]
        if self.context.kind == "scale" and isinstance(node, Sum) and node.constant and len(node.operands) == 1:
            if mine and node.coefficients == (Fraction(1),):
                for bound in mine:
                    if bound.shift_by is None:
                        bound.shift_by = node.constant
                if all(bound.shift_by == node.constant for bound in mine):
                    node = replace(node, constant=Fraction(0))
        elif any(bound.shift_by for bound in mine):
            raise Blocked(
                "a gain is used both with and without a constant added", node, "one quantity, w or w + 1, is scaled"
            )
        return step(node, states, self.context)

    def _settle(self, node: Node, outcomes: Sequence[Outcome]) -> bool:
        """Records what a node does; True when it is kept.  Refuses a step that the formula has not."""
        if self.pattern.wide:
            outcomes = [replace(o, key=None) for o in outcomes]
        outcomes = [o if (key := self._formula_s(o)) == o.key else replace(o, key=key) for o in outcomes]
        for outcome in outcomes:
            if outcome.key is not None and outcome.key not in self.pattern.keys:
                raise self._no_such_step(outcome.key, node, self._playing(node))
            if outcome.key is not None:
                self.steps.add(outcome.key)
        moving = [
            o.state if o.key is None else replace(o.state, tag=o.key) for o in outcomes if o.state is not None
        ]
        if self.pattern.wide:
            moving = [replace(state, tag="wide") for state in moving]
        if not moving:
            self.kept.add(node.id)
            return True
        if len(moving) != len(outcomes):
            raise Blocked("not supported: one value in which a part is kept and a part moves", node)
        self.states[node.id] = moving
        return False

    def _playing(self, node: Node) -> set[object]:
        """The values of the formula that the operands of a node play."""
        return {played(state) for access in node.operands for state in self.states.get(access.node, [])}

    def _no_such_step(self, key: Key, node: Node, playing: Set[object]) -> Blocked:
        """The refusal of a step, with those that the formula has there.

        It is stray where what the search began with is multiplied with itself: so a norm reads any matrix before it.
        """
        there = sorted((k for k in self.pattern.keys if any(part in playing for part in k[1:])), key=repr)
        steps = list(dict.fromkeys(_STEPS[str(k[0])].format(_function(k)) for k in there))
        expected = f"there it has {' or '.join(steps)}" if steps else "there it ends"
        error = Blocked(_unexpected(key, node), node, f"the formula of the gauge has no such step: {expected}")
        elsewhere = key[0] == "product" and key[0] not in {k[0] for k in there}
        error.stray = elsewhere and all(map(self._seed_s, playing))
        return error

    def _seed_s(self, tag: object) -> bool:
        """Is a value of the formula the parameter with which the search began, or what comes of applying it?"""
        seed = ("role", list(self.pattern.movements).index(self.bound[0].role))
        return tag in (seed, ("apply", seed))

    def _formula_s(self, outcome: Outcome) -> Key | None:
        """The formula's own step where it applies the same function to the same value, however that is spelled."""
        key = outcome.key
        if key is None or key in self.pattern.keys:
            return key
        if outcome.otherwise:
            return outcome.otherwise[0]
        if key[0] != "map":
            return key
        for other in sorted((k for k in self.pattern.keys if k[0] == "map" and k[3] == key[3]), key=repr):
            if alike((key[1], key[2]), (other[1], other[2])):  # type: ignore[arg-type]
                return other
        return key

    def _closed(self) -> None:
        """The first three conditions of soundness: every use inside, nothing moved leaves, all roles bound.

        Raises:
            Blocked: one of them fails.
        """
        for id in self.states:
            node = self.graph[id]
            if id in self.graph.outputs:
                raise Blocked(LEAVES, node, _KEEPS)
            if id in self.graph.buffers:
                raise Blocked("the moved value is written to a buffer by the forward", node, _KEEPS)
            for user in self.graph.users[id]:
                if user not in self.states and user not in self.kept and not self._misses(self.graph[user], id):
                    raise Blocked("the moved value is used outside the site", self.graph[user], _KEEPS)
        if not self.kept or not (self.pattern.wide or {k for k in self.steps if k in self.pattern.kept}):
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
    def _instead(self, outcome: Outcome) -> Demand | None:
        """What must move too where the formula multiplies by a moved value, and by no other."""
        if outcome.instead is None or outcome.key in self.pattern.keys:
            return None
        return outcome.instead if self._wanted(outcome.instead) else None

    def _wanted(self, demand: Demand) -> list[object]:
        """The values of the formula that meet the moved one in such a step.

        A formula's sum of products says the same of each of its products, where the model sums nothing."""
        mine, kinds = played(demand.mine), {demand.kind, "contract" if demand.kind == "times" else demand.kind}
        wanted: list[object] = []
        for key in sorted(self.pattern.keys, key=repr):
            if key[0] in kinds and mine in key[1:]:
                others = list(key[1:])
                others.remove(mine)
                wanted.extend(others)
        return wanted

    def _bind(self, node: Node, demand: Demand) -> None:
        mine, wanted = played(demand.mine), [] if self.pattern.wide else self._wanted(demand)
        if not wanted and not self.pattern.wide:
            raise self._no_such_step((demand.kind, mine), node, {mine})
        access = node.operands[demand.operand]
        for digit, spot in demand.variables.items():
            if spot.variable not in access.variables and digit in self.alive:
                raise Demote(digit, "a value that must move with it does not have it", node, _PARTNER)
        named = list(self.pattern.movements)
        roles = [named[number] for tag in wanted for number in _roles_in(tag)]
        chart = demand.mine.chart if demand.kind == "add" else inverse(demand.mine.chart)
        if self.pattern.wide:
            powers = sorted(-power for _, power in chart)
            movements = self.pattern.movements
            roles = [r for r in named if sorted(power for *_, power in movements[r].factors) == powers]
        leaf, digits = self._trace_back(node, access, demand)
        if leaf in self.matcher.blocked:
            raise Blocked(f"{self.matcher.labels[leaf]} cannot be moved: {self.matcher.blocked[leaf]}", node)
        if any(b.leaf == leaf and not _disjoint(b.digits, digits) for b in self.bound):
            raise Blocked(f"{self.matcher.labels[leaf]} would have to move in two ways", node, _WAYS)
        free = [r for r in roles if r in self.pattern.statement.each or all(b.role != r for b in self.bound)]
        for role in free:
            movement = self.pattern.movements[role]
            place = next(e for d, e in digits.items() if d in self.context.group)
            axis = self.graph[leaf].modes[place.position].axis
            copied = {e.position for d, e in digits.items() if d in self.context.copies}
            made = not isinstance(self.graph[access.node], Leaf)
            summed = demand.kind == "contract" and not made
            if not fits(self.pattern, role, self.graph[leaf], axis, copied, summed):
                continue
            needed = demand.mine.exponent if demand.kind == "add" else -demand.mine.exponent
            if self.pattern.kind != "scale" or movement.exponent == needed or made:
                self.bound.append(Bound(leaf, role, digits, chart=chart))
                return
        raise Blocked(f"{self.matcher.labels[leaf]} must move, and the formula has no role left for it", node, _STEP)

    def _trace_back(self, node: Node, access: Access, demand: Demand) -> tuple[int, dict[Number, Extent]]:
        """Follows an operand back to the parameter from which its digits come."""
        pieced: set[Number] = set()
        variables, lengths, lookups = dict(demand.variables), dict(self.lengths), list(demand.mine.lookups)
        if lookups:
            lengths |= {d: e.length for d, e in demand.mine.digits.items()}
        for hop in range(1000):
            source = self.graph[access.node]
            places = _places(access, variables, lengths)
            if self.context.paired:
                self._whole_again(access, source, places, node)
                if isinstance(node, Concatenation):
                    pieced |= {d for d, spot in variables.items() if spot.variable == node.joined}
            self._none_missing((set(variables) - set(places) - pieced) & self.alive, node)
            for digit, extent in _bystanders(node, access, source, places, hop).items():
                places[digit] = extent
                lengths[digit] = extent.length
            if isinstance(source, Leaf):
                self._none_missing(pieced - set(places), node)
                if source.kind != "param":
                    raise Blocked("a value that must move is not made by a parameter", node, _PARTNER)
                if lookups:
                    raise Blocked(ANOTHER_LOOKUP, node, LOOKED_UP)
                return source.id, places
            variables = {d: Spot(source.modes[e.position].variable, e.start, e.step) for d, e in places.items()}
            chooser = self._chooser(source, variables)
            if chooser is None:
                node, access = source, self._further(source, places)
                continue
            (digit,) = (d for d, s in variables.items() if s.variable == chooser.variables[-2] and d in self.alive)
            if not lookups or (digit, self.matcher.chosen[chooser.node]) != lookups.pop():
                raise Blocked(ANOTHER_LOOKUP, source, LOOKED_UP)
            entry = chooser.variables[-1]
            node, access = source, next(a for a in source.operands if a is not chooser and entry in a.variables)
            variables[digit], lengths[digit] = Spot(entry), self.lengths[digit]
        raise Blocked("a value that must move is too far from its parameter", node)

    def _chooser(self, source: Node, variables: Mapping[Number, Spot]) -> Access | None:
        """What picks the entries along a digit that takes part, where a value is a lookup along it."""
        inner = {s.variable for d, s in variables.items() if d in self.alive}
        picks = [a for a in source.operands if a.node in self.matcher.chosen and inner & set(a.variables)]
        if len(picks) != 1 or len(picks[0].variables) < 2:
            return None
        row, entry = picks[0].variables[-2:]
        made = [a for a in source.operands if a is not picks[0] and entry in a.variables]
        return picks[0] if row in inner and len(made) == 1 and row not in made[0].variables else None

    def _none_missing(self, missing: Set[Number], node: Node) -> None:
        """Raises Demote for the first digit that a value which must move does not have."""
        for digit in sorted(missing):
            raise Demote(digit, "a value that must move with it does not have it", node, _PARTNER)

    def _whole_again(self, access: Access, source: Node, places: dict[Number, Extent], node: Node) -> None:
        """Where a piece of a rotary axis is read, the digit is the whole axis, or the digits are."""
        operand = list(node.operands).index(access)
        taken = {e.position for d, e in places.items() if d not in self.context.group}
        for position, (ix, mode) in enumerate(zip(access.index, source.modes)):
            low, high = node.span(operand, ix)
            group = sorted(self.context.group)
            mine = [d for d in group if d not in places or places[d].position == position]
            if high - low + 1 == mode.size or position in taken:
                continue
            whole = [[d] for d in mine if self.lengths[d] == mode.size] or [mine]
            if math.prod(self.lengths[d] for d in whole[0]) == mode.size:
                for digits in whole:
                    stride = mode.size
                    for digit in digits:
                        stride //= self.lengths[digit]
                        places[digit] = Extent(position, 0, self.lengths[digit], stride)

    def _further(self, source: Node, places: Mapping[Number, Extent]) -> Access:
        """The one operand of a node from which its digits can come.

        Raises:
            Blocked: the node is none that is followed, or several operands could be it.
        """
        if isinstance(source, Along | Opaque):
            raise Blocked(f"a value that must move comes out of {source.title}", source, _PARTNER)
        inner = {source.modes[e.position].variable for d, e in places.items() if d in self.alive}
        choices = [a for a in source.operands if self.matcher.depends[a.node] and inner & set(a.variables)]
        if isinstance(source, Contraction) and len(choices) > 1:  # a factor without the axis is none
            group = {source.modes[e.position].variable for d, e in places.items() if d in self.context.group}
            choices = [a for a in choices if group <= set(a.variables)]
        if isinstance(source, Contraction) and len(choices) > 1:  # a gain, and the data that it multiplies
            choices = [a for a in choices if a.node in self.matcher.weights]
        if isinstance(source, Contraction) and len(choices) != 1:
            raise Blocked("a value that must move is not made by one parameter", source, _PARTNER)
        if not choices:
            raise Blocked("a value that must move is not made by a parameter", source, _PARTNER)
        return next((a for a in choices if inner <= set(a.variables)), choices[0])


def _places(access: Access, variables: Mapping[Number, Spot], lengths: Mapping[Number, int]) -> dict[Number, Extent]:
    """Where in a value the digits are that a reader has at its variables."""
    places: dict[Number, Extent] = {}
    for position, ix in enumerate(access.index):
        offset = ix.offset
        for digit, spot in variables.items():
            scale = next((s for s, v in ix.terms if v == spot.variable), 0)
            if scale and digit not in places:
                places[digit] = Extent(position, offset + scale * spot.start, lengths[digit], scale * spot.step)
                offset = 0
    return places


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


_STEPS = {
    "apply": "a parameter that is applied to data",
    "map": "{} of it",
    "along": "{} of it",
    "gate": "a product with values that stay",
    "weigh": "weights that stay, along its axis",
    "add": "a sum with another moved value",
    "contract": "a contraction with what undoes it",
    "times": "a product, entry by entry, with what undoes it",
    "product": "a product with another moved value",
    "sum": "a sum along its axis",
}


def _function(key: Key) -> object:
    """The function of a step that applies one, as a spec writes it."""
    if key[0] == "map":
        return spelled(key[1], key[2])  # type: ignore[arg-type]
    return key[1] if len(key) > 1 else key[0]


def _unexpected(key: Key, node: Node) -> str:
    words = {
        "gate": "the moved value is multiplied by values that vary along its axis",
        "weigh": "the moved value is mixed with weights that vary along its axis",
        "apply": "the moved parameter is applied to data",
        "add": "another value is added to the moved one",
        "contract": "the moved axis is contracted",
        "times": "two moved values are multiplied to one that is kept",
        "product": "moved values are multiplied together",
        "sum": "the moved axis is summed",
    }
    what = words.get(str(key[0]), f"the moved value passes {_function(key)}")
    return f"{what} at {node.source or node.word}, where the formula has no such step"
