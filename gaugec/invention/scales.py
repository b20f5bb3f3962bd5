"""Scales: the rational null space of the degree laws of a graph's operators.

Every mode of every value has an unknown exponent e: coordinate j along it moves by c[j] ** e.  A contraction adds the
exponents of what it multiplies, a sum equates them, a function of degree n multiplies by n; what no law lets through
has the exponent 0, and so has what leaves the model and what is no parameter.  Arithmetic is exact.  Equations only
join modes that are one index, so that the null space falls into parts, one an index; of each the vectors with the
fewest parameters are taken.

What this module does not do: it knows no scale that is one for several coordinates, such as a rotary pair's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction

from gaugec.graph.ir import Along, Concatenation, Contraction, Graph, Leaf, Map, Node, Sum
from gaugec.groups import largest
from gaugec.invention.finding import Finding, Moved, Place
from gaugec.laws.meanings import degree

Row = dict[int, Fraction]  # unknown -> coefficient; as an equation, their sum is 0
Vector = dict[int, Fraction]


def scales(graph: Graph, still: frozenset[int]) -> list[Finding]:
    """Every scale of a basis with few parameters each; `still`: parameters that may not move."""
    unknowns = _Unknowns(graph)
    pivots = _eliminated(_equations(graph, unknowns, still))
    places = {number: place for place, number in unknowns.numbers.items()}
    own = [u for u, (id, _) in places.items() if _is_parameter(graph[id])]
    found = [_finding(graph, places, pivots, v) for part in _parts(own, pivots) for v in _local(graph, places, part)]
    return sorted(found, key=lambda finding: sorted(finding.places))


def totals(graph: Graph, still: frozenset[int], known: Iterable[Vector]) -> list[Vector]:
    """Scales by one number of whole parameters, leaf -> exponent, that no product of known ones is."""
    pivots = _eliminated(_total_laws(graph, still))
    own = [leaf.id for leaf in graph.leaves("param")]
    places = {id: (id, 0) for id in own}
    basis = [vector for part in _parts(own, pivots) for vector in _local(graph, places, part)]
    spanned: dict[int, Row] = {}
    for vector in known:
        _joins(spanned, vector)
    return [vector for vector in basis if _joins(spanned, vector)]


def _total_laws(graph: Graph, still: frozenset[int]) -> Iterator[Row]:
    """One unknown a value: all of it moves by c to that power."""
    for node in graph:
        power, reads = _degree(node), [access.node for access in node.operands]
        if isinstance(node, Leaf):
            yield from _zero([] if node.kind == "param" and node.id not in still else [node.id])
        elif power is None or _has_constant(node):
            yield from _zero([node.id, *reads])
        elif isinstance(node, Contraction):
            row: Row = {node.id: Fraction(-1)}
            for id in reads:
                row[id] = row.get(id, Fraction(0)) + 1
            yield row
        else:
            yield from (_equal(id, node.id, power) for id in reads)
    yield from _zero((*graph.outputs, *graph.buffers))


def _joins(known: dict[int, Row], vector: Mapping[int, Fraction]) -> bool:
    """Is a vector no combination of those that are known?  Then it joins them."""
    row = dict(vector)
    while row and (last := max(row)) in known:
        _add(row, known[last], -row[last])
    if row:
        known[last] = {u: c / row[last] for u, c in row.items()}
    return bool(row)


def _is_parameter(node: Node) -> bool:
    return isinstance(node, Leaf) and node.kind == "param"


class _Unknowns:
    """The exponents, numbered in the order of the graph."""

    def __init__(self, graph: Graph) -> None:
        self.numbers: dict[Place, int] = {}
        for node in graph:
            for position in range(len(node.modes)):
                self.numbers[node.id, position] = len(self.numbers)

    def of(self, node: Node) -> list[int]:
        return [self.numbers[node.id, position] for position in range(len(node.modes))]


def _equations(graph: Graph, unknowns: _Unknowns, still: frozenset[int]) -> Iterator[Row]:
    for node in graph:
        if isinstance(node, Leaf):
            if node.kind != "param" or node.id in still:
                yield from _zero(unknowns.of(node))
        else:
            yield from _laws(graph, node, unknowns)
    for id in (*graph.outputs, *graph.buffers):
        yield from _zero(unknowns.of(graph[id]))


def _zero(unknowns: Iterable[int]) -> Iterator[Row]:
    for unknown in unknowns:
        yield {unknown: Fraction(1)}


def _laws(graph: Graph, node: Node, unknowns: _Unknowns) -> Iterator[Row]:
    """The equations of one node: those of its variables where a law is known, else that nothing it touches moves."""
    made = {mode.variable: u for mode, u in zip(node.modes, unknowns.of(node), strict=True)}
    power = _degree(node)
    if power is None:
        yield from _zero(made.values())
        for access in node.operands:
            yield from _zero(unknowns.of(graph[access.node]))
        return
    read: dict[int, list[tuple[int, int]]] = {}  # variable -> operands with their unknowns
    for number, access in enumerate(node.operands):
        source = graph[access.node]
        for mode, ix, unknown in zip(source.modes, access.index, unknowns.of(source), strict=True):
            if ix.plain is None or node.size(number, ix.plain) != mode.size or ix.plain in _mixed(node):
                yield {unknown: Fraction(1)}  # it is read in part, or as several, or mixed
            else:
                read.setdefault(ix.plain, []).append((number, unknown))
    if isinstance(node, Contraction):
        for variable in sorted({*made, *node.summed, *read}):
            row: Row = {}
            for _, unknown in read.get(variable, ()):
                row[unknown] = row.get(unknown, Fraction(0)) + 1
            if variable in made:
                row[made[variable]] = row.get(made[variable], Fraction(0)) - 1
            yield row
        return
    for variable, unknown in made.items():
        readers = read.get(variable, [])
        if len({number for number, _ in readers}) < len(node.operands) or _has_constant(node):
            yield {unknown: Fraction(1)}
        for _, other in readers:
            yield _equal(other, unknown, power)


def _equal(one: int, other: int, power: Fraction) -> Row:
    """power * one == other."""
    return {one: power, other: Fraction(-1)} if power else {other: Fraction(1)}


def _has_constant(node: Node) -> bool:
    return isinstance(node, Sum) and bool(node.constant)


def _mixed(node: Node) -> tuple[int, ...]:
    """The variables along which a node joins or mixes what it reads."""
    return () if isinstance(node, Contraction) else node.binds


def _degree(node: Node) -> Fraction | None:
    """The power with which a scale passes; None where it passes under no law."""
    if isinstance(node, Contraction | Sum | Concatenation):
        return Fraction(1)
    if isinstance(node, Map | Along) and len(node.operands) == 1:
        return degree(node.function, node.attributes)
    return None


def _eliminated(rows: Iterable[Row]) -> dict[int, Row]:
    """Pivot -> what it equals in earlier unknowns: values are said by what they are made of, and by earlier leaves."""
    pivots: dict[int, Row] = {}
    for row in rows:
        row = {unknown: c for unknown, c in row.items() if c}
        while row:
            last = max(row)
            if last not in pivots:
                scale = row.pop(last)
                pivots[last] = {unknown: -c / scale for unknown, c in row.items()}
                break
            _add(row, pivots[last], row.pop(last))
    return pivots


def _add(row: Row, other: Mapping[int, Fraction], times: Fraction) -> None:
    for unknown, c in other.items():
        row[unknown] = row.get(unknown, Fraction(0)) + times * c
        if not row[unknown]:
            del row[unknown]


def _parts(own: Sequence[int], pivots: Mapping[int, Row]) -> list[list[Vector]]:
    """A basis of the null space over the parameters' unknowns, vectors that share one together."""
    basis: list[Vector] = []
    values: dict[int, dict[int, Fraction]] = {}  # unknown -> by free unknown
    for unknown in sorted(own):
        if unknown not in pivots:
            values[unknown] = {unknown: Fraction(1)}
            continue
        values[unknown] = {}
        for other, c in pivots[unknown].items():
            _add(values[unknown], values[other], c)
    free = [unknown for unknown in sorted(own) if unknown not in pivots]
    basis = [{u: made[f] for u, made in values.items() if f in made} for f in free]
    parts: list[list[Vector]] = []
    for vector in basis:
        touched = [part for part in parts if any(vector.keys() & other.keys() for other in part)]
        parts = [part for part in parts if not any(part is other for other in touched)]
        parts.append([*(v for part in touched for v in part), vector])
    return parts


def _local(graph: Graph, places: Mapping[int, Place], basis: Sequence[Vector]) -> Iterator[Vector]:
    """A basis of the same space with few parameters each: of all that single parameters suggest, the smallest."""
    first = {leaf.id: min(graph.users[leaf.id], default=leaf.id) for leaf in graph.leaves("param")}
    unknowns = sorted({u for vector in basis for u in vector})
    when = {u: first[places[u][0]] for u in unknowns}
    offered: list[Vector] = []
    for seed in unknowns:
        order = sorted(unknowns, key=lambda u: (-abs(when[u] - when[seed]), u))  # far ones are eliminated
        offered += _reduced(basis, order)
    offered = [_whole(vector) for vector in offered]
    offered.sort(key=lambda vector: (len(vector), max(abs(c) for c in vector.values()), sorted(vector.items())))
    known: dict[int, Row] = {}
    yield from (vector for vector in offered if _joins(known, vector))


def _reduced(basis: Sequence[Vector], order: Sequence[int]) -> list[Vector]:
    """The same space, in reduced echelon form by that order of unknowns."""
    rows = [dict(vector) for vector in basis]
    done: list[Vector] = []
    for unknown in order:
        pivot = next((row for row in rows if unknown in row), None)
        if pivot is None:
            continue
        rows = [row for row in rows if row is not pivot]
        pivot = {u: c / pivot[unknown] for u, c in pivot.items()}
        for row in (*rows, *done):
            if unknown in row:
                _add(row, pivot, -row[unknown])
        done.append(pivot)
    return done


def _whole(vector: Vector) -> Vector:
    """The vector in whole numbers without a common factor, the first of them positive."""
    many = math.lcm(*(c.denominator for c in vector.values()))
    common = math.gcd(*(int(c * many) for c in vector.values()))
    sign = 1 if vector[min(vector)] > 0 else -1
    return {u: sign * c * many / common for u, c in vector.items()}


def _finding(graph: Graph, places: Mapping[int, Place], pivots: Mapping[int, Row], vector: Vector) -> Finding:
    """The finding of an exponent vector: the exponents of every value follow from those of the parameters."""
    exponent: dict[int, Fraction] = {}
    for unknown in range(len(places)):
        if unknown in vector:
            exponent[unknown] = vector[unknown]
        elif unknown in pivots and not _is_parameter(graph[places[unknown][0]]):
            exponent[unknown] = sum((c * exponent.get(o, Fraction(0)) for o, c in pivots[unknown].items()), Fraction(0))
    values: dict[int, list[Moved]] = {}
    for unknown, e in exponent.items():
        if e:
            id, position = places[unknown]
            values.setdefault(id, []).append(Moved(position, e))
    single = {id: moved[0] for id, moved in values.items() if len(moved) == 1}
    (size,) = {graph[places[u][0]].modes[places[u][1]].size for u in vector}
    kept = tuple(n.id for n in graph if n.id not in values and any(a.node in values for a in n.operands))
    bound = {id: moved for id, moved in single.items() if _is_parameter(graph[id])}
    return Finding(largest("scale"), size, bound, single if len(single) == len(values) else {}, kept)
