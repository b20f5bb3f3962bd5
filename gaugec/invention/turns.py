"""Turns: from every axis of every parameter, what else must move when a matrix acts along it.

The largest group is tried first: what never asks for less moves by any invertible matrix, with its partners by the
inverse transposed; a sum of squares, or a value that meets itself, asks for an orthogonal one, and a sum over the axis,
or a value that is added and does not move, for one that keeps the vector of ones.  A gain on the way joins the chart in
which the axis turns.

What this module does not do: it follows no part of an axis (a fused weight, a rotary pair).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gaugec.graph.ir import Access, Concatenation, Contraction, Graph, Leaf, Node, Sum
from gaugec.groups import largest
from gaugec.invention.finding import Finding, Moved

ROUNDS = 1000  # parameters that one closure may bind, and more
Chart = tuple[tuple[int, int], ...]  # gains with their powers: x = D x^ in the coordinates that turn


class Stopped(Exception):
    """The closure of an axis ends at something that no turn passes."""


@dataclass(frozen=True)
class Turned:
    """A finding, and the gains whose chart each value that has one turns in: a formula cannot say these yet."""

    finding: Finding
    charts: Mapping[int, Chart]


def turns(graph: Graph, still: frozenset[int]) -> list[Turned]:
    """Every closed set of parameters that a matrix may turn, in the order of their first; `still`: what may not."""
    found: list[Turned] = []
    seen: set[frozenset[tuple[int, int]]] = set()
    for leaf in graph.leaves("param"):
        for position, mode in enumerate(leaf.modes):
            if mode.size < 2 or leaf.id in still or any((leaf.id, position) in places for places in seen):
                continue
            closure = _Closure(graph, still)
            try:
                made = closure.run(leaf.id, position)
            except Stopped:
                continue
            places = frozenset(made.finding.places)
            if places not in seen:
                seen.add(places)
                found.append(made)
    return found


class _Again(Exception):
    """A parameter was bound: the pass begins anew."""


@dataclass
class _Closure:
    graph: Graph
    still: frozenset[int]
    bound: dict[int, Moved] = field(default_factory=dict)
    charts: dict[int, Chart] = field(default_factory=dict)
    orthogonal: bool = False
    ones: bool = False

    def run(self, leaf: int, position: int) -> Turned:
        """Closes the movement of one axis of one parameter.

        Raises:
            Stopped: it does not close.
        """
        self.bound[leaf], self.charts[leaf] = Moved(position), ()
        for _ in range(ROUNDS):
            try:
                values, kept = self._once()
            except _Again:
                continue
            group = largest("rotate", compact=self.orthogonal, keeps_ones=self.ones)
            size = self.graph[leaf].modes[position].size
            charts = {id: chart for id, chart in self.charts.items() if chart and id in values}
            if size < 3 and self.ones:
                raise Stopped("only the identity is left")
            return Turned(Finding(group, size, dict(self.bound), values, kept), charts)
        raise Stopped("it does not end")

    def _once(self) -> tuple[dict[int, Moved], tuple[int, ...]]:
        self.values = dict(self.bound)
        self.charts = {leaf: self.charts[leaf] for leaf in self.bound}
        self.orthogonal = self.ones = False
        kept: list[int] = []
        for node in self.graph:
            moved = [i for i, access in enumerate(node.operands) if access.node in self.values]
            if isinstance(node, Leaf) or not moved:
                continue
            made = self._step(node, moved)
            if made is None:
                kept.append(node.id)
            else:
                self.values[node.id], self.charts[node.id] = made
        if any(id in self.values for id in (*self.graph.outputs, *self.graph.buffers)):
            raise Stopped("a moved value leaves the model")
        if not kept:
            raise Stopped("nothing reads what moves")
        return self.values, tuple(kept)

    def _axis(self, node: Node, operand: int) -> int:
        """The variable with which a node reads the moved axis of an operand."""
        access = node.operands[operand]
        moved = self.values[access.node]
        variable = access.index[moved.position].plain
        whole = self.graph[access.node].modes[moved.position].size
        if variable is None or node.size(operand, variable) != whole or access.variables.count(variable) > 1:
            raise Stopped("the axis is read in part")
        return variable

    def _step(self, node: Node, moved: list[int]) -> tuple[Moved, Chart] | None:
        """How the value of a node moves; None where it is kept."""
        if not isinstance(node, Contraction | Sum | Concatenation):
            raise Stopped(f"no turn passes {node.source or node.title}")
        axes = {self._axis(node, operand) for operand in moved}
        if len(axes) != 1:
            raise Stopped("two axes meet")
        (axis,) = axes
        others = [i for i, access in enumerate(node.operands) if axis in access.variables and i not in moved]
        place = {mode.variable: position for position, mode in enumerate(node.modes)}
        if isinstance(node, Contraction):
            return self._product(node, moved, others, axis, place)
        return self._joined(node, moved, axis, place)

    def _product(
        self, node: Contraction, moved: list[int], others: list[int], axis: int, place: Mapping[int, int]
    ) -> tuple[Moved, Chart] | None:
        states = [(self.values[node.operands[i].node], self.charts[node.operands[i].node]) for i in moved]
        if len(states) == 1:
            ((state, chart),) = states
            if axis in node.summed:
                self._read(node, state, chart, others, axis)
                return None
            for operand in others:
                leaf = self.graph[node.operands[operand].node]
                gain = isinstance(leaf, Leaf) and leaf.kind == "param" and len(leaf.modes) == 1
                if state.squared or not gain:
                    raise Stopped("what turns is weighted along its axis")
                chart = _times(chart, leaf.id, 1)
            return Moved(place[axis], dual=state.dual, squared=state.squared), chart
        (one, chart), (two, other), *more = states
        if more or others or one.squared or two.squared:
            raise Stopped("several values are multiplied")
        if axis in node.summed:
            if chart != _inverse(other):
                raise Stopped("the gains do not cancel")
            self.orthogonal = self.orthogonal or one.dual == two.dual
            return None
        if chart or other or one.dual != two.dual or node.operands[moved[0]] != node.operands[moved[1]]:
            raise Stopped("values that turn are multiplied entry by entry")
        self.orthogonal = True
        return Moved(place[axis], dual=one.dual, squared=True), ()

    def _read(self, node: Contraction, state: Moved, chart: Chart, others: list[int], axis: int) -> None:
        """The moved axis is summed: over squares, over all of it, or with a partner, which must move."""
        if state.squared:
            if others:
                raise Stopped("a sum of squares is weighted")
        elif not others:
            if chart:
                raise Stopped("a gain is summed")
            self.orthogonal = self.ones = True
        elif len(others) == 1:
            self._demand(node.operands[others[0]], axis, not state.dual, _inverse(chart))
        else:
            raise Stopped("several values meet what turns")

    def _joined(
        self, node: Sum | Concatenation, moved: list[int], axis: int, place: Mapping[int, int]
    ) -> tuple[Moved, Chart]:
        found = {
            (state.dual, state.squared, self.charts[access.node])
            for access in (node.operands[i] for i in moved)
            for state in (self.values[access.node],)
        }
        if len(found) != 1 or (isinstance(node, Concatenation) and axis == node.joined):
            raise Stopped("what is joined moves differently")
        ((dual, squared, chart),) = found
        still = [access for i, access in enumerate(node.operands) if i not in moved]
        if isinstance(node, Sum) and node.constant and not squared:
            raise Stopped("a number is added to what turns")
        for access in still:
            if squared:
                raise Stopped("something is added to squares")
            if axis in access.variables:
                self._demand(access, axis, dual, chart)
            if chart:
                raise Stopped("what is constant is added in a chart")
            self.orthogonal = self.ones = True
        return Moved(place[axis], dual=dual, squared=squared), chart

    def _demand(self, access: Access, axis: int, dual: bool, chart: Chart) -> None:
        """What is read must move too: it is traced back to the parameter that makes it."""
        while True:
            source = self.graph[access.node]
            places = [position for position, ix in enumerate(access.index) if ix.plain == axis]
            if len(places) != 1 or sum(axis in ix.variables for ix in access.index) != 1:
                raise Stopped("what must move is read in part")
            if isinstance(source, Leaf):
                self._bind(source, places[0], dual, chart)
            axis = source.modes[places[0]].variable
            writers = [a for a in source.operands if axis in a.variables and a.node not in self.values]
            whole = isinstance(source, Sum | Concatenation) or (isinstance(source, Contraction) and len(writers) == 1)
            if not writers or not whole or axis in source.binds:
                raise Stopped(f"what must move comes out of {source.source or source.title}")
            access = writers[0]

    def _bind(self, leaf: Leaf, position: int, dual: bool, chart: Chart) -> None:
        if leaf.kind != "param" or leaf.id in self.bound or leaf.id in self.still:
            raise Stopped("what must move is no parameter that is free to")
        self.bound[leaf.id], self.charts[leaf.id] = Moved(position, dual=dual), chart
        raise _Again


def _times(chart: Chart, leaf: int, power: int) -> Chart:
    powers = dict(chart)
    powers[leaf] = powers.get(leaf, 0) + power
    return tuple(sorted((id, p) for id, p in powers.items() if p))


def _inverse(chart: Chart) -> Chart:
    return tuple((leaf, -power) for leaf, power in chart)
