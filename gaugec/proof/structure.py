"""What a proof on a model reads, as a hash: equal layers have equal hashes and are proved once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, replace
from fractions import Fraction

from gaugec.graph.ir import Graph, Ix, Map, OneHot, Sum
from gaugec.graph.statement import Region, Summed

EPS = Fraction(1, 100)
"""The largest eps of a norm; those in use are at most a thousandth."""


def structure(
    graph: Graph, kept: tuple[int, ...], regions: tuple[Region, ...], cut: frozenset[int], more: object = ()
) -> str:
    """A hash of all that a proof reads, without node numbers and names: equal hashes are the same statement."""
    numbers: dict[int, int] = {}
    lines: list[str] = []
    todo = list(reversed(kept))
    while todo:
        at = todo[-1]
        if at in numbers:
            todo.pop()
            continue
        node = graph[at]
        closed = at in cut and at not in kept
        opened = not closed or graph.piecewise[at]
        missing = [a.node for a in node.operands if opened and a.node not in numbers]
        if missing:
            todo.extend(reversed(missing))
            continue
        numbers[at] = len(numbers)
        same = numbers.get(graph.firsts[at], -1)
        own: object = [mode.size for mode in node.modes]
        if opened:
            own = node.key([numbers[a.node] for a in node.operands])
        elif isinstance(node, OneHot):  # what it is, is known where its numbers are not
            own = (node.word, node.rows, own)
        lines.append(f"{closed} {same} {own!r}")
    moved_ = sorted((numbers.get(r.leaf, -1), _text(r, graph, numbers)) for r in regions)
    text = "\n".join([*lines, repr([numbers[id] for id in kept]), repr(moved_), repr(more), repr(graph.symbolic)])
    return hashlib.sha256(text.encode()).hexdigest()


def _text(region: Region, graph: Graph, numbers: Mapping[int, int]) -> str:
    """A region by the numbers of what its chart reads, with the lengths of that; a leaf that nothing else reads is
    below all of them, by its own."""
    chart = [(f.leaf, f.index, (f.power, f.shift_by) if f.shift_by else f.power) for f in region.factors]
    chart += [(leaf, index, each) for each in region.summands for leaf, index in _reads(each)]  # type: ignore[misc]
    plain = {f.name: getattr(region, f.name) for f in fields(region) if f.name not in ("leaf", "factors", "summands")}
    text = f"Region({', '.join(f'{name}={value!r}' for name, value in {'leaf': 0, **plain}.items())})"
    for leaf, index, how in chart:
        own = replace(how, weight=None, bias=0) if isinstance(how, Summed) else how
        number = numbers.get(leaf, -2 - graph.firsts[leaf])
        text += repr((number, [mode.size for mode in graph[leaf].modes], index, own))
    return text


def _reads(each: Summed) -> list[tuple[int, tuple[Ix, ...]]]:
    """The leaves of a summand, and where they are read."""
    weight = [] if each.weight is None else [(each.weight, each.weight_index)]
    return [*weight, (each.bias, each.bias_index)]


def eps_nodes(graph: Graph, kept: tuple[int, ...]) -> dict[int, Fraction]:
    """The sums that add a small positive constant, and that constant, right under a power of -1/2, below what is kept.

    A constant above `EPS` belongs to the formula: what holds only without it is wrong, and not approximate.
    """
    seen: set[int] = set()
    todo, found = list(kept), dict[int, Fraction]()
    while todo:
        at = todo.pop()
        if at in seen:
            continue
        seen.add(at)
        node = graph[at]
        todo.extend(access.node for access in node.operands)
        if isinstance(node, Map) and node.function == "pow" and ("exponent", Fraction(-1, 2)) in node.attributes:
            below = graph[node.operands[0].node]
            if isinstance(below, Sum) and 0 < below.constant <= EPS:
                found[below.id] = below.constant
    return dict(sorted(found.items()))
