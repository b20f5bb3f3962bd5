"""From a proved candidate to a site: every binding as strides on the contiguous parameter, in canonical form.

What this module does not do: it searches and proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from gaugec.graph.ir import Graph, Leaf, Node
from gaugec.groups import GROUPS
from gaugec.matching.search import Candidate, Matcher, regions
from gaugec.sites import Axes, Binding, Equation, Move, Site


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
        bindings.append(
            Binding(bound.role, names[region.leaf], offset, copies, group, rest, move, float(region.shift_by))
        )
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
    )


def _way(graph: Graph, candidate: Candidate, names: Mapping[int, str]) -> Iterator[str]:
    """Every moved value in the order of the model: what it is, how it moves, and where it is kept."""
    symbol = {"scale": "c", "rotate": "R", "shift": "a"}[candidate.pattern.kind]
    roles = {bound.leaf: bound.role for bound in candidate.bound}
    for id, state in candidate.way:
        node = graph[id]
        if state is None:
            moves = "is kept"
        else:
            axes = sorted({node.modes[e.position].axis for d, e in state.digits.items() if d in candidate.group})
            where = f"axis {', '.join(map(str, axes))}" if axes else "a part of an axis"
            power = (
                "" if state.exponent == 1 else f"**({state.exponent})" if state.exponent < 0 else f"**{state.exponent}"
            )
            turned = f"inv({symbol}).T" if state.dual else symbol
            verb = {"c": f"moves by {symbol}{power}", "R": f"turns by {turned}", "a": f"is shifted by {symbol}"}[symbol]
            moves = f"{verb}, constant along {where}" if symbol == "a" else f"{verb} along {where}"
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
