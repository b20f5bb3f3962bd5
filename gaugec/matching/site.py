"""From a proved candidate to a site: every binding as strides on the contiguous parameter, in canonical form.

What this module does not do: it searches and proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from gaugec.graph.ir import Graph, Ix, Leaf, Node
from gaugec.graph.statement import Region
from gaugec.groups import GROUPS
from gaugec.matching.search import Candidate, Matcher, regions
from gaugec.sites import Axes, Binding, Chart, Equation, Factor, Move, Site, Summand


def pairings(matcher: Matcher, candidate: Candidate) -> Iterator[tuple[str, int]]:
    """How a group may pair the coordinates of its axis, the most of them first; ("", 0) for one without pairs."""
    if not GROUPS[candidate.pattern.statement.group].paired:
        yield "", 0
        return
    size = math.prod(candidate.sizes[digit] for digit in candidate.group)
    rotary = {size}
    for id in candidate.moved:
        for mode in matcher.graph[id].modes:
            for _, length in matcher.cuts.get(mode.space, ()):
                rotary |= {length, 2 * length}
    for r in sorted((r for r in rotary if r <= size and r % 2 == 0 and r > 0), reverse=True):
        yield "halves", r
        yield "interleaved", r


def make_site(
    graph: Graph,
    candidate: Candidate,
    names: Mapping[int, str],
    index: int,
    pairing: tuple[str, int],
    outcome: str,
    certificate: Sequence[tuple[str, str]],
    *,
    theorem: str,
    fix: Sequence[Equation],
) -> Site:
    """The site of a candidate whose invariance has been proved."""
    statement = candidate.pattern.statement
    bindings: list[Binding] = []
    order = {role: n for n, role in enumerate(candidate.pattern.roles)}
    for bound, region in zip(candidate.bound, regions(graph, candidate), strict=True):
        node = graph[region.leaf]
        parts: dict[str, dict[int, tuple[int, int]]] = {"copy": {}, "group": {}, "rest": {}}
        offset = 0
        for digit in region.digits:
            mode = node.modes[digit.mode]
            stride = mode.stride * math.prod(node.shape[mode.axis + 1 :])
            offset += digit.start * stride
            parts[digit.part][digit.order] = (digit.length, stride * digit.step)
        copies, group, rest = (_axes(parts[part]) for part in ("copy", "group", "rest"))
        move = Move(region.kind, region.exponent, region.dual)
        at = (bound.role, names[region.leaf], offset, copies, group, rest, move, float(region.shift_by))
        bindings.append(Binding(*at, _chart(graph, region, names)))
    several = len({b.role for b in bindings}) < len(bindings)
    place = {name: n for n, name in enumerate(names.values())} if several else {}
    bindings.sort(key=lambda b: (order[b.role], place.get(b.parameter, 0), b.offset))
    return Site(
        gauge=statement.name,
        index=index,
        group=statement.group,
        copies=math.prod(n for n, _ in bindings[0].copies),
        size=math.prod(n for n, _ in bindings[0].group),
        pairing=pairing[0],
        rotary=pairing[1],
        bindings=tuple(bindings),
        fix=tuple(fix),
        outcome=outcome,
        place=_place([graph[id] for id in (*candidate.moved, *candidate.kept)]),
        theorem=theorem,
        certificate=tuple(certificate),
        way=tuple(_way(graph, candidate, names)),
        wide=candidate.pattern.wide,
    )


def _chart(graph: Graph, region: Region, names: Mapping[int, str]) -> Chart:
    """The chart of a region, by strides."""
    own = _strides(graph[region.leaf])
    begins = sum(digit.start * own[digit.mode] for digit in region.digits)

    def at(leaf: int, index: Sequence[Ix]) -> tuple[int, list[int], dict[int, int]]:
        """Where a leaf is read: its offset, its stride along every digit of the region, and along what is summed."""
        strides, offset, along = _strides(graph[leaf]), 0, dict[int, int]()
        for stride, ix in zip(strides, index, strict=True):
            offset += stride * ix.offset
            for s, v in ix.terms:
                along[v] = along.get(v, 0) + stride * s
        offset += sum(digit.start * along.get(digit.mode, 0) for digit in region.digits)
        return offset, [digit.step * along.get(digit.mode, 0) for digit in region.digits], along

    mine = [(digit.length, digit.step * own[digit.mode]) for digit in region.digits]
    factors = []
    for factor in region.factors:
        offset, theirs, _ = at(factor.leaf, factor.index)
        axes = tuple((n, s, t) for (n, s), t in zip(mine, theirs) if t and n > 1)
        factors.append(Factor(names[factor.leaf], offset, axes, factor.power, float(factor.shift_by)))
    summands = []
    for each in region.summands:
        left, weight, inside = (0, [0] * len(mine), {}) if each.weight is None else at(each.weight, each.weight_index)
        right, bias, within = at(each.bias, each.bias_index)
        kept = tuple((n, s, t, u) for (n, s), t, u in zip(mine, weight, bias) if n > 1)
        modes = range(len(own), len(own) + len(each.sizes))
        summed = tuple((n, inside.get(v, 0), within.get(v, 0)) for v, n in zip(modes, each.sizes))
        name = "" if each.weight is None else names[each.weight]
        summands.append(Summand(name, left, names[each.bias], right, kept, summed, each.coefficient, begins))
    return Chart(tuple(factors), tuple(summands))


def _strides(leaf: Node) -> list[int]:
    """The stride of every mode of a leaf, in elements."""
    return [mode.stride * math.prod(leaf.shape[mode.axis + 1 :]) for mode in leaf.modes]


def _way(graph: Graph, candidate: Candidate, names: Mapping[int, str]) -> Iterator[str]:
    """Every moved value in the order of the model: what it is, how it moves, and where it is kept."""
    symbol = {"scale": "c", "rotate": "R", "shift": "a"}[candidate.pattern.kind]
    roles = {bound.leaf: bound.role for bound in candidate.bound}
    bindings = {region.leaf: region.kind for region in regions(graph, candidate)}
    for id, state in candidate.way:
        node = graph[id]
        if state is None:
            moves = "is kept"
        elif symbol == "a":
            moves = "is shifted" if bindings.get(id, "") != "still" else "takes the shift up"
        else:
            axes = sorted({node.modes[e.position].axis for d, e in state.digits.items() if d in candidate.group})
            where = f"axis {', '.join(map(str, axes))}" if axes else "a part of an axis"
            power = (
                "" if state.exponent == 1 else f"**({state.exponent})" if state.exponent < 0 else f"**{state.exponent}"
            )
            turned = f"inv({symbol}).T" if state.dual else symbol
            moves = {"c": f"moves by {symbol}{power}", "R": f"turns by {turned}"}[symbol] + f" along {where}"
        if isinstance(node, Leaf):
            yield f"{names[id]}, as {roles[id]}, {moves}"
        else:
            where = " in ".join(text for text in (node.source or node.title, node.place) if text)
            yield f"{where} {moves}" + (f"    [{node.line}]" if node.line else "")


def _axes(parts: Mapping[int, tuple[int, int]]) -> Axes:
    return tuple(axis for _, axis in sorted(parts.items()) if axis[0] != 1)


def _place(nodes: Sequence[Node]) -> str:
    """The module path that all of a site's operations share."""
    paths = [node.place.split(".") for node in nodes if node.place]
    shared: list[str] = []
    for parts in zip(*paths):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)
