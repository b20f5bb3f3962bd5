"""What a proof on a model reads, as a hash: equal layers have equal hashes and are proved once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from gaugec.graph.ir import Graph, Map, OneHot, Sum
from gaugec.graph.statement import Region

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
    moved_ = sorted((numbers.get(r.leaf, -1), repr(_named(r, graph, numbers)), _sizes(r, graph)) for r in regions)
    text = "\n".join([*lines, repr([numbers[id] for id in kept]), repr(moved_), repr(more), repr(graph.symbolic)])
    return hashlib.sha256(text.encode()).hexdigest()


def _named(region: Region, graph: Graph, numbers: Mapping[int, int]) -> Region:
    """The region with the numbers of what its chart reads; what nothing else reads is below all of them, by its own."""

    def named(leaf: int) -> int:
        return numbers.get(leaf, -2 - graph.firsts[leaf])

    factors = tuple(replace(factor, leaf=named(factor.leaf)) for factor in region.factors)
    summands = tuple(
        replace(each, weight=None if each.weight is None else named(each.weight), bias=named(each.bias))
        for each in region.summands
    )
    return replace(region, leaf=0, factors=factors, summands=summands)


def _sizes(region: Region, graph: Graph) -> str:
    """The lengths of what a chart reads, in its order."""
    leaves = [factor.leaf for factor in region.factors]
    leaves += [leaf for each in region.summands for leaf in (each.weight, each.bias) if leaf is not None]
    return repr([[mode.size for mode in graph[leaf].modes] for leaf in leaves])


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
