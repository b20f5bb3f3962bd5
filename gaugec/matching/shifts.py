"""The closure of a shift: from what is shifted on through all that is linear, until it is forgotten or taken up.

A shift passes sums, products with what stays, and contractions, whatever the formula has there; what is asked of every
value is only whether it changes (`Seer`, which the pipeline fills in).  Where something is added to a changed value
that another role of the formula may be, that role is tried: a bias that takes the shift up, in the chart that adds W b
to it, or a table that takes back what another gave.  A value that is kept ends the way; at one that bends, the gauge
does.  What is left is a candidate, which is proved by itself.

What this module does not do: it chooses no place to start (see `gaugec.matching.search`).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Protocol

from gaugec.graph.ir import Access, Concatenation, Contraction, Graph, Ix, Leaf, Node, OneHot, Sum
from gaugec.graph.statement import Digit, Movement, Multiplied, Region, Statement, Summed
from gaugec.graph.vectors import vector
from gaugec.matching.states import Blocked, Extent, Key
from gaugec.operators import aten_kind, spelled

Ixs = tuple[Ix, ...]
RawIndex = tuple[int, tuple[tuple[int, int], ...]]
Read = tuple[int, tuple[RawIndex, ...]]

_KEEPS = "what leaves the site must be what the gauge keeps"
_BENDS = "{f}(x + a) is {f}(x) only where {f} forgets what is constant along its axis"
_PRODUCT = "(x + a)(y + a) = x y + …: a product does not forget a"
_CUT = "L(g θ, v) has the gradient of L(θ, v), moved by g, where v, which has none, is the same at g θ and at θ"
_STEP = "the formula of the gauge has no such step: the law that is proved for it says nothing of this"
_ENDS = {
    "mean": "the shift is forgotten by a mean that is subtracted",
    "add": "the shift is undone by what is added",
    "sum": "the shift is summed to 0",
    "forget": "the shift is forgotten by a function along its axis",
}
_WHOLE: Mapping[int, Extent] = MappingProxyType({})
_DEPTH = 8  # sums within sums in which what is added to a value is looked for


class Term(Protocol):
    """A term that parameters alone make: coefficient * the sum over `sizes` of the product of `reads`.

    The variables of the indices are the modes of the value, and behind them those that are summed."""

    @property
    def coefficient(self) -> Fraction:
        """The number in front."""

    @property
    def reads(self) -> tuple[Read, ...]:
        """Leaf and index, as (offset, ((stride, variable), ...))."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """The lengths of what is summed."""


class Seer(Protocol):
    """What is known of the values of a graph whose leaves have been shifted; asked for in the order of the graph."""

    def stays(self, id: int) -> bool:
        """Whether a value is the same."""

    def changed(self, id: int) -> tuple[int, ...]:
        """The operands of its node that are not the same, as they are read."""

    def keep(self, id: int) -> None:
        """From here on it is given."""

    def constants(self, id: int) -> Sequence[Term]:
        """Its terms that parameters alone make."""

    def cut(self) -> frozenset[int]:
        """The values that all this was found from."""


Sight = Callable[[str, tuple[Region, ...]], Seer | None]


class Ground(Protocol):
    """What a closure reads of the matcher that owns it."""

    @property
    def graph(self) -> Graph:
        """The graph that is searched."""

    @property
    def blocked(self) -> Mapping[int, str]:
        """Leaf id -> why it may not move."""

    @property
    def sight(self) -> Sight:
        """What shows the values where leaves were shifted."""


class Formula(Protocol):
    """What a closure reads of a pattern; `keys`: the ends that the formula has, none where all may be."""

    @property
    def statement(self) -> Statement:
        """The gauge."""

    @property
    def movements(self) -> Mapping[str, Movement]:
        """How its roles move."""

    @property
    def roles(self) -> tuple[str, ...]:
        """Those that must be bound."""

    @property
    def keys(self) -> frozenset[Key]:
        """The ends of its shift."""


@dataclass(frozen=True)
class Reach:
    """A parameter that is added to a value: the leaf, and where it is read, in the variables of the value's node."""

    leaf: int
    index: Ixs | None


class Shifting:
    """One shift followed through a model: `roles` are the regions bound so far, with what they play.

    only: the one use of the seed that is followed, to see whether it is the others that end the shift."""

    def __init__(self, matcher: Ground, pattern: Formula, seed: Region, only: int | None = None) -> None:
        self.matcher, self.pattern, self.graph = matcher, pattern, matcher.graph
        self.roles: list[tuple[str, Region]] = [(pattern.roles[0], seed)]
        self.only = only
        self.way: list[tuple[int, bool]] = []
        self.kept: list[int] = []
        self.cut: frozenset[int] = frozenset()
        self.ends: set[Key] = set()

    def run(self) -> None:
        """Follows the shift until nothing more is bound.

        Raises:
            Blocked: the gauge ends here.
        """
        while self._pass():
            pass
        played = {role for role, _ in self.roles}
        missing = [role for role in self.pattern.roles if role not in played]
        if missing:
            raise Blocked(f"no parameter plays {missing[0]}")
        if not self.kept:
            raise Blocked("nothing reads the moved value: the site has no reader")

    def _pass(self) -> bool:
        """Once through the graph; True where a role was bound, and all begins anew."""
        seer = self._seer(tuple(region for _, region in self.roles))
        self.way, self.kept, self.ends = [], [], set()
        for region in dict.fromkeys(region.leaf for _, region in self.roles):
            if region in self.graph.outputs:
                raise Blocked("the moved value is an output of the model", self.graph[region], _KEEPS)
        error: Blocked | None = None
        for node, changed, stays in self._flow(seer, [region.leaf for _, region in self.roles]):
            self.way.append((node.id, not stays))
            if stays:
                error = error or (self._ends(node, changed) if changed else None)
                self.kept.append(node.id)
            elif isinstance(node, Sum) and self._taken_up(node, seer):
                return True
        if error is not None:
            raise error
        self.cut = seer.cut()
        return False

    def _seer(self, regions: tuple[Region, ...]) -> Seer:
        seer = self.matcher.sight(self.pattern.statement.group, regions)
        if seer is None:
            raise Blocked("the moved parameters do not agree on what moves them")
        return seer

    def _flow(self, seer: Seer, leaves: Sequence[int]) -> Iterator[tuple[Node, tuple[int, ...], bool]]:
        """Every node that a shift reaches, in order: the operands that it finds changed, and whether it stays.

        Raises:
            Blocked: a changed value is bent, or leaves the model: the latter after it was followed on, which tells how
                near a miss this is.
        """
        left: Blocked | None = None
        used = {leaf: self.graph.users[leaf] for leaf in leaves}
        if self.only is not None:
            used[self.roles[0][1].leaf] = (self.only,)
        pending = sorted({user for users in used.values() for user in users})
        done: set[int] = set()
        while pending:
            id = heapq.heappop(pending)
            if id in done:
                continue
            done.add(id)
            node = self.graph[id]
            try:
                changed, stays = self._seen(node, seer)
                yield node, changed, stays
                if stays:
                    seer.keep(id)
                    continue
                self._bends(node)
            except Blocked as error:
                raise left or error from None
            left = left or self._leaves(node)
            for user in self.graph.users[id]:
                heapq.heappush(pending, user)
        if left is not None:
            raise left

    def _seen(self, node: Node, seer: Seer) -> tuple[tuple[int, ...], bool]:
        """The operands of a node that are changed, and whether it stays."""
        if aten_kind(node.source) == "cut":
            what = "the gradient of the moved value is cut (a detach, or a region without gradients)"
            raise Blocked(what, node, _CUT)
        changed = seer.changed(node.id)
        if isinstance(node, Contraction) and len(changed) > 1:
            raise Blocked("two shifted values are multiplied" + self._dropped(), node, _PRODUCT)
        return changed, not changed or seer.stays(node.id)

    def _ends(self, node: Node, changed: Sequence[int]) -> Blocked | None:
        """The refusal of an end of a shift that the formula has not."""
        end = _end(self.graph, node, changed)
        if self.pattern.keys and end not in self.pattern.keys:
            return Blocked(f"{_ENDS[str(end[0])]}, which the formula of the gauge has not", node, _STEP)
        self.ends.add(end)
        return None

    def _dropped(self) -> str:
        """The dropout whose mask the shift was multiplied by: another number for every entry, in every forward."""
        for id, _ in self.way:
            masks = [self.graph[access.node] for access in self.graph[id].operands]
            mask = next((leaf for leaf in masks if isinstance(leaf, Leaf) and leaf.random), None)
            if mask is not None:
                return f" behind the dropout at {mask.source}" + (f" in {mask.place}" if mask.place else "")
        return ""

    def _leaves(self, node: Node) -> Blocked | None:
        """The refusal of a changed value that leaves the model."""
        if node.id in self.graph.outputs:
            return Blocked("the moved value is an output of the model", node, _KEEPS)
        if node.id in self.graph.buffers:
            return Blocked("the moved value is written to a buffer by the forward", node, _KEEPS)
        return None

    def _bends(self, node: Node) -> None:
        """Raises Blocked where a changed value is bent."""
        if not isinstance(node, Sum | Contraction | Concatenation):
            attributes = getattr(node, "attributes", ())
            name = spelled(node.title, attributes)
            raise Blocked(f"{name} does not forget the shift" + self._dropped(), node, _BENDS.format(f=name))

    # -- binding ------------------------------------------------------------------------------------------------------
    def _taken_up(self, node: Sum, seer: Seer) -> bool:
        """Binds a role that takes the shift up where something is added to it; False where none does."""
        played = [role for role, _ in self.roles]
        free = [r for r in self.pattern.roles if r not in played or r in self.pattern.statement.each]
        places = added(self.graph, node) if free else []
        for place in places:
            if place.leaf in self.matcher.blocked:
                continue
            for role in free:
                for region in self._proposed(node, place, role, seer):
                    regions = (*(r for _, r in self.roles), region)
                    apart = all(_apart(r, region) for r in regions[:-1] if r.leaf == region.leaf)
                    if apart and self._absorbs(node, regions):
                        self.roles.append((role, region))
                        return True
        return False

    def _absorbs(self, node: Sum, regions: tuple[Region, ...]) -> bool:
        """Does a sum stay where these regions are moved?"""
        try:
            for each, _, stays in self._flow(self._seer(regions), [region.leaf for region in regions]):
                if each.id >= node.id:
                    return each.id == node.id and stays
        except Blocked:
            pass
        return False

    def _proposed(self, node: Sum, place: Reach, role: str, seer: Seer) -> Iterator[Region]:
        """How a parameter could move in a role."""
        movement, leaf = self.pattern.movements[role], self.graph[place.leaf]
        if movement.kind == "shift" and not movement.factors:
            yield from whole(self.graph, leaf.id, movement.constant, self.pattern, role)
        if movement.kind == "still" and place.index is not None:
            summands = self._summands(node, place, role, seer)
            digits = _part(node, place.index)
            if summands and digits is not None:
                yield Region(leaf.id, digits, "still", summands=summands)

    def _summands(self, node: Sum, place: Reach, role: str, seer: Seer) -> tuple[Summed, ...]:
        """What a chart adds to a parameter: the terms, of what it is added to, of the formula's weight and bias."""
        ((weight, bias),) = self.pattern.movements[role].summands
        assert place.index is not None
        known = {r: [region.leaf for name, region in self.roles if name == r] for r in (weight, bias)}
        modes = [mode.variable for mode in node.modes]
        index = [(ix.offset, tuple((s, modes.index(v)) for s, v in ix.terms)) for ix in place.index]
        found: list[Summed] = []
        pairs: list[tuple[Read | None, Read]]
        for term in seer.constants(node.id):
            vectors = [read for read in term.reads if len(self.graph[read[0]].shape) == 1]
            if weight == "" and len(term.reads) == 1:
                pairs = [(None, term.reads[0])]
            elif weight and len(term.reads) == 2:
                pairs = [(next(r for r in term.reads if r is not b), b) for b in vectors]
            else:
                continue
            for w, b in pairs:
                right = (w is None or w[0] in (known[weight] or [w[0]])) and b[0] in (known[bias] or [b[0]])
                if not right or b[0] == place.leaf or (w is not None and w[0] == place.leaf):
                    continue
                made = _inverted(index, len(node.modes), len(self.graph[place.leaf].modes), term, w, b)
                known_already = [(each.weight, each.bias) for each in found]
                if made is not None and (made.weight, made.bias) not in known_already:
                    found.append(made)
                    break
        if not known[bias]:  # the bias that is read, and held, is the one of what is shifted
            mine = {region.leaf for _, region in self.roles}
            found = [each for each in found if each.weight in mine]
        return tuple(found)


def _end(graph: Graph, node: Node, changed: Sequence[int]) -> Key:
    """How a shift ends at a value that stays: by a mean that is subtracted, by another shift that is added, by a sum
    that is 0, or by a function that forgets it."""
    if isinstance(node, Sum):
        read = [node.operands[n].node for n in changed]
        return ("mean",) if any(_averages(graph, id, set(read) - {id}) for id in read) else ("add",)
    return ("sum",) if isinstance(node, Contraction | Concatenation) else ("forget",)


def _averages(graph: Graph, id: int, among: set[int], depth: int = 3) -> bool:
    """Is a value a sum along an axis, times a number, of one of the others?"""
    node = graph[id]
    if not isinstance(node, Contraction) or not depth:
        return False
    inner = [access.node for access in node.operands]
    return bool(among & set(inner) and node.summed) or any(_averages(graph, at, among, depth - 1) for at in inner)


def whole(graph: Graph, leaf: int, constant: Sequence[int], pattern: Formula, role: str) -> Iterator[Region]:
    """A whole leaf shifted along the axes that a role's shift is constant along; none where it has other axes."""
    node = graph[leaf]
    movement, axes = pattern.movements[role], len(pattern.statement.axes[role])
    rank = len(node.shape)
    if (rank > 1) != (axes > 1):
        return
    options = [tuple(range(rank))] if len(constant) == axes else [(axis,) for axis in range(rank)] if constant else [()]
    for option in options:
        along = {position for position, mode in enumerate(node.modes) if mode.axis in option}
        yield shifted(node, along, movement.exponent)


def shifted(leaf: Node, constant: Collection[int], exponent: Fraction, parts: Mapping[int, Extent] = _WHOLE) -> Region:
    """A leaf shifted, constant along some of its modes; parts: of a mode that is not moved as a whole, what is."""
    digits, order = list[Digit](), {"group": 0, "rest": 0}
    for position, mode in enumerate(leaf.modes):
        part, e = "group" if position in constant else "rest", parts.get(position, Extent(position, 0, mode.size))
        digits.append(Digit(part, e.start, e.length, e.step, order[part], position))
        order[part] += 1
    return Region(leaf.id, tuple(digits), "shift", exponent)


def added(graph: Graph, node: Node) -> list[Reach]:
    """The parameters that are added up in a value, through views, sums and lookups, in order."""
    found: list[Reach] = []

    def walk(access: Access, env: Mapping[int, Ix] | None, depth: int) -> None:
        source = graph[access.node]
        index = None if env is None else tuple(_substituted(ix, env) for ix in access.index)
        if isinstance(source, Leaf):
            if source.kind == "param":
                found.append(Reach(source.id, index))
            return
        if depth == 0:
            return
        plain = isinstance(source, Contraction) and len(source.operands) == 1 and not source.summed
        if isinstance(source, Sum | Concatenation) or plain:
            joined = isinstance(source, Concatenation)
            inner = None
            if index is not None and not joined:
                inner = {mode.variable: ix for mode, ix in zip(source.modes, index)}
            for each in source.operands:
                walk(each, inner, depth - 1)
        elif any(isinstance(graph[each.node], OneHot) for each in source.operands):
            for each in source.operands:
                if isinstance(graph[each.node], Leaf):
                    walk(each, None, depth - 1)

    here = {mode.variable: Ix(0, ((1, mode.variable),)) for mode in node.modes}
    for access in node.operands:
        walk(access, here, _DEPTH)
    return [place for n, place in enumerate(found) if all(place.leaf != other.leaf for other in found[:n])]


def gains(graph: Graph, leaf: int, axis: int) -> list[Multiplied]:
    """The vectors, plus a number or not, that multiply what a parameter is contracted with along an axis."""
    found: list[Multiplied] = []
    (position, *more) = [p for p, mode in enumerate(graph[leaf].modes) if mode.axis == axis]
    for user in graph.users[leaf]:
        node = graph[user]
        if more or not isinstance(node, Contraction):
            continue
        mine = next(access for access in node.operands if access.node == leaf)
        variable = mine.index[position].plain
        others = [a for a in node.operands if a.node != leaf and variable in a.variables]
        if variable is not None and variable in node.summed:
            for access in others:
                found += _gains(graph, access, variable, position, _DEPTH)
    return list(dict.fromkeys(found))


def _gains(graph: Graph, access: Access, variable: int, position: int, depth: int) -> list[Multiplied]:
    source = graph[access.node]
    where = [n for n, ix in enumerate(access.index) if variable in ix.variables]
    if len(where) != 1 or access.index[where[0]].plain is None:
        return []
    if (gain := vector(graph, source.id)) is not None:
        return [Multiplied(gain[0], (Ix(0, ((1, position),)),), shift_by=gain[1])]
    product = isinstance(source, Contraction) and not source.summed
    if not depth or not (product or isinstance(source, Sum)):
        return []
    inner = source.modes[where[0]].variable
    found: list[Multiplied] = []
    for each in source.operands:
        if inner in each.variables:
            alone = isinstance(source, Sum) and isinstance(graph[each.node], Leaf)
            found += [] if alone else _gains(graph, each, inner, position, depth - 1)
    return found


def _substituted(ix: Ix, env: Mapping[int, Ix]) -> Ix:
    offset, terms = ix.offset, dict[int, int]()
    for stride, v in ix.terms:
        offset += stride * env[v].offset
        for s, w in env[v].terms:
            terms[w] = terms.get(w, 0) + stride * s
    return Ix(offset, tuple(sorted(((s, w) for w, s in terms.items()), key=lambda t: (-t[0], t[1]))))


def _part(node: Node, index: Ixs) -> tuple[Digit, ...] | None:
    """The part of a parameter that a node reads, as digits that take no part; None where it is no box."""
    made: list[Digit] = []
    for n, ix in enumerate(index):
        low = ix.offset
        length = 1 + sum(stride * (node.sizes[v] - 1) for stride, v in ix.terms)
        if any(stride < 0 for stride, _ in ix.terms) or math.prod(node.sizes[v] for _, v in ix.terms) != length:
            return None
        made.append(Digit("rest", low, length, 1, n, n))
    return tuple(made)


def _apart(one: Region, two: Region) -> bool:
    """Have two regions of one leaf nothing in common?"""
    boxes = [{d.mode: (d.start, d.start + d.step * (d.length - 1)) for d in region.digits} for region in (one, two)]
    return any(boxes[0][mode][1] < low or high < boxes[0][mode][0] for mode, (low, high) in boxes[1].items())


def _inverted(
    index: Sequence[RawIndex],
    outer: int,
    rank: int,
    term: Term,
    weight: Read | None,
    bias: Read,
) -> Summed | None:
    """A summand with its indices over the modes of the parameter that is read at `index`; None where it varies along
    another variable of the value, of which there are `outer`, or is read backwards."""

    def over(ix: RawIndex) -> Ix | None:
        offset, terms = ix[0], {v: s for s, v in ix[1]}
        out: list[tuple[int, int]] = []
        for mode, (start, own) in enumerate(index):
            if not own:
                continue
            stride = terms.get(own[0][1], 0)
            if stride == 0 or stride % own[0][0]:
                continue
            times = stride // own[0][0]
            if any(terms.get(v, 0) != times * s for s, v in own):
                return None
            for _, v in own:
                del terms[v]
            offset -= times * start
            out.append((times, mode))
        if any(v < outer for v in terms) or min((*terms.values(), *(s for s, _ in out)), default=0) < 0:
            return None
        out += [(s, v - outer + rank) for v, s in terms.items()]
        return Ix(offset, tuple(sorted(out, key=lambda t: (-t[0], t[1]))))

    sides = [tuple(over(ix) for ix in read[1]) for read in (weight, bias) if read is not None]
    if any(ix is None for side in sides for ix in side):
        return None
    plain = [tuple(ix for ix in side if ix is not None) for side in sides]
    of_weight = plain[0] if weight is not None else ()
    leaf = None if weight is None else weight[0]
    return Summed(leaf, of_weight, bias[0], plain[-1], tuple(term.sizes), term.coefficient)


def charted(region: Region, gain: Multiplied, power: Fraction) -> Region:
    """A region in the chart that multiplies by a gain to a power."""
    return replace(region, factors=(*region.factors, replace(gain, power=power)))
