"""What a graph does with every value, seen from the value: which of its entries one operation takes together.

A value passes operations that act element by element; the first that does not is a *use* of it.  Uses are found from
the outputs back, all nodes at once, so that what a stream of residuals carries is looked at once and not for each that
adds to it.

What this module does not do: it knows no parameter and no gauge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from gaugec.graph.ir import Access, Concatenation, Contraction, Graph, Ix, Map, Node, OneHot, Sum

LIMIT = 64  # uses of one value that are told apart; what has more is used as a whole


@dataclass(frozen=True, slots=True)
class Sweep:
    """One variable of a use: along each mode of the value it moves by that mode's stride.

    way: in a product of two values "summed" where the variable is summed, "shared" where it stays and the other value
    has it too, "kept" where it stays and the other has not; else "".  space: of the mode as which it stays.
    """

    size: int
    strides: tuple[int, ...]
    way: str = ""
    space: int = -1


@dataclass(frozen=True, slots=True)
class Usage:
    """The entries of a value that one operation takes together: starts + the sum over the runs of strides * variable.

    joined: the concatenation that makes one value of these entries and of those of its other uses; -1 for none.
    """

    starts: tuple[int, ...]
    runs: tuple[Sweep, ...]
    joined: int = -1


def put(ix: Ix, values: Mapping[int, Ix]) -> Ix:
    """The index with its variables replaced."""
    offset, terms = ix.offset, dict[int, int]()
    for stride, variable in ix.terms:
        value = values[variable]
        offset += stride * value.offset
        for inner, v in value.terms:
            terms[v] = terms.get(v, 0) + stride * inner
    return Ix(offset, tuple(sorted(((s, v) for v, s in terms.items() if s), key=lambda t: (-t[0], t[1]))))


def passes(node: Node) -> bool:
    """Does the node act element by element?"""
    return isinstance(node, Map | Sum) or (isinstance(node, Contraction) and not node.summed)


def uses(
    graph: Graph, followed: Sequence[bool], data: Sequence[bool], weights: Sequence[bool]
) -> list[tuple[Usage, ...]]:
    """For every node that is `followed` its uses.  data, weights: which nodes are data, and which made of parameters
    alone."""
    found: list[dict[Usage, None]] = [{} for _ in graph]
    for node in reversed(graph.nodes):
        later = _kept(graph, node.id, found[node.id])
        for number, access in enumerate(node.operands):
            if not followed[access.node]:
                continue
            if not passes(node):
                others = {v for other in _partners(graph, node, number, data, weights) for v in other.variables}
                found[access.node][_own(node, number, others)] = None
            if passes(node) or isinstance(node, Concatenation):
                read = (_read(graph, node, number, use) for use in later)
                found[access.node].update((use, None) for use in read if use is not None)
    return [tuple(_kept(graph, node.id, found[node.id])) for node in graph]


def _kept(graph: Graph, id: int, found: Mapping[Usage, None]) -> Sequence[Usage]:
    return list(found) if len(found) <= LIMIT else [_whole(graph[id])]


def _whole(node: Node) -> Usage:
    """All entries together."""
    places = range(len(node.modes))
    runs = (Sweep(mode.size, tuple(int(i == j) for j in places)) for i, mode in enumerate(node.modes))
    return Usage((0,) * len(node.modes), tuple(runs))


def _partners(
    graph: Graph, node: Node, number: int, data: Sequence[bool], weights: Sequence[bool]
) -> Iterator[Access]:
    """The data that an operand is multiplied with, where no weights are among the operands and nothing is picked."""
    if isinstance(node, Contraction) and not any(weights[access.node] for access in node.operands):
        for other in node.operands:
            if other != node.operands[number] and data[other.node] and not isinstance(graph[other.node], OneHot):
                yield other


def _own(node: Node, number: int, others: Set[int]) -> Usage:
    """The use of an operand by a node that does not act element by element.  others: variables of its partners."""
    access = node.operands[number]
    spaces = {mode.variable: mode.space for mode in node.modes}
    runs = []
    for v in dict.fromkeys(access.variables):
        way, size = "", node.size(number, v)
        if others:
            way = ("shared" if v in others else "kept") if v in spaces else "summed"
        strides = tuple(sum(stride for stride, u in ix.terms if u == v) for ix in access.index)
        if size > 1:
            runs.append(Sweep(size, strides, way, spaces.get(v, -1) if others else -1))
    joined = node.id if isinstance(node, Concatenation) else -1
    return Usage(tuple(ix.offset for ix in access.index), tuple(runs), joined)


def _read(graph: Graph, node: Node, number: int, use: Usage) -> Usage | None:
    """A use of a node's value as the use of an operand, of whose entries it is made; None where none of them is."""
    access, of = node.operands[number], graph[node.operands[number].node]
    if isinstance(node, Concatenation):
        place = next(i for i, mode in enumerate(node.modes) if mode.variable == node.joined)
        along = [run for run in use.runs if run.strides[place]]
        if len(along) > 1 or any(run.strides[place] != 1 for run in along):
            return _whole(of)
        cut = _piece(use, place, along[0] if along else None, *node.pieces[number])
        if cut is None:
            return None
        use = cut
    places = {mode.variable: i for i, mode in enumerate(node.modes)}

    def moved(ix: Ix, by: Sequence[int]) -> int:
        return sum(stride * by[places[v]] for stride, v in ix.terms if v in places)

    starts = tuple(ix.offset + moved(ix, use.starts) for ix in access.index)
    runs = (replace(run, strides=tuple(moved(ix, run.strides) for ix in access.index)) for run in use.runs)
    return Usage(starts, tuple(run for run in runs if any(run.strides)), use.joined)


def _piece(use: Usage, place: int, along: Sweep | None, start: int, length: int) -> Usage | None:
    """The part of a use that lies in one piece of a concatenation, counted from there; None where nothing does."""
    first = use.starts[place] - start
    low, high = max(0, -first), min(along.size if along else 1, length - first)
    if high <= low:
        return None
    starts = list(use.starts)
    starts[place] -= start
    if along:
        starts = [begin + low * stride for begin, stride in zip(starts, along.strides)]
    runs = tuple(replace(run, size=high - low) if run is along else run for run in use.runs)
    return Usage(tuple(starts), tuple(run for run in runs if run.size > 1), use.joined)
