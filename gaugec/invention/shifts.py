"""Shifts: constants that a model forgets along an axis, and biases that the biases behind a linear map take up.

What is added to every entry along an axis is forgotten by a softmax, by a cross-entropy, and where the mean is taken
away.  What is added to a bias goes through the maps that read it, and each map's own bias may take it up; so it goes
through a mean whose weights sum to 1.

What this module does not do: it trades nothing between two parameters that are added up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from gaugec.graph.ir import Along, Contraction, Graph, Leaf, Node, Sum
from gaugec.groups import largest
from gaugec.invention.finding import Finding, Moved
from gaugec.laws.meanings import forgets_shift
from gaugec.operators import BY_NAME


class _Stopped(Exception):
    """The shift meets something that does not forget it."""


@dataclass(frozen=True)
class Forgotten:
    """A constant along one axis of one parameter.

    ends: what forgets it, "layer_norm" where a mean is taken away.  applied: data weigh the parameter's rows before.
    """

    finding: Finding
    ends: tuple[str, ...]
    applied: bool


@dataclass(frozen=True)
class TakenUp:
    """Any vector may be added to the bias `source` where every reader, a weight with a bias behind it, takes it up.

    averaged: for every reader whether a mean with weights that sum to 1 stands before it.
    """

    finding: Finding
    source: int
    readers: tuple[tuple[int, int, bool], ...]


def shifts(graph: Graph, still: frozenset[int]) -> list[Forgotten | TakenUp]:
    """Every shift of a single parameter that closes, in the order of the parameters; `still`: what may not move."""
    found: list[Forgotten | TakenUp] = []
    for leaf in graph.leaves("param"):
        if leaf.id in still or not graph.users[leaf.id]:
            continue
        for position, mode in enumerate(leaf.modes):
            if mode.size > 1:
                try:
                    found.append(_Constant(graph, leaf, position).run())
                except _Stopped:
                    pass
        if len(leaf.modes) == 1:
            try:
                found.append(_Added(graph, leaf, still).run())
            except _Stopped:
                pass
    return found


def _leaves_model(graph: Graph, values: Mapping[int, object]) -> bool:
    return any(id in values for id in (*graph.outputs, *graph.buffers))


class _Constant:
    """The same number for every entry along an axis, another one for each place beside it."""

    def __init__(self, graph: Graph, leaf: Leaf, position: int) -> None:
        self.graph, self.leaf, self.position = graph, leaf, position
        self.values: dict[int, int] = {leaf.id: position}  # how a value moves: constant along this mode
        self.means: dict[int, int] = {}  # a mean along that axis, and the node of which it is one
        self.ends: dict[str, None] = {}
        self.applied = False

    def run(self) -> Forgotten:
        """Follows it.

        Raises:
            _Stopped: not everything forgets it.
        """
        kept: list[int] = []
        for node in self.graph:
            moved = [a.node for a in node.operands if a.node in self.values or a.node in self.means]
            if moved and not self._step(node, moved):
                kept.append(node.id)
        if _leaves_model(self.graph, self.values) or _leaves_model(self.graph, self.means) or not kept:
            raise _Stopped
        size = math.prod(mode.size for p, mode in enumerate(self.leaf.modes) if p != self.position)
        values = {id: Moved(position) for id, position in self.values.items()}
        bound = {self.leaf.id: Moved(self.position)}
        return Forgotten(Finding(largest("shift"), size, bound, values, tuple(kept)), tuple(self.ends), self.applied)

    def _step(self, node: Node, moved: Sequence[int]) -> bool:
        """Does the value of a node move?  It is marked so."""
        if isinstance(node, Sum):
            return self._sum(node, moved)
        if len(moved) != 1 or moved[0] in self.means:
            raise _Stopped
        (access,) = (a for a in node.operands if a.node == moved[0])
        variable = access.index[self.values[moved[0]]].plain
        if variable is None or node.size(node.operands.index(access), variable) != self._size(moved[0]):
            raise _Stopped
        if isinstance(node, Along) and node.operands[0] == access and node.bound == (variable,):
            if not forgets_shift(node.function):
                raise _Stopped
            self.ends.setdefault(node.function)
            return False
        if not isinstance(node, Contraction) or sum(variable in a.variables for a in node.operands) != 1:
            raise _Stopped
        if variable in node.summed:
            mean = node.coefficient == Fraction(1, self._size(access.node))
            if node.summed != (variable,) or len(node.operands) != 1 or not mean:
                raise _Stopped
            self.means[node.id] = access.node
            return True
        if moved[0] == self.leaf.id:
            self.applied = True
        self.values[node.id] = next(p for p, mode in enumerate(node.modes) if mode.variable == variable)
        return True

    def _size(self, id: int) -> int:
        return self.graph[id].modes[self.values[id]].size

    def _sum(self, node: Sum, moved: Sequence[int]) -> bool:
        """A sum of what moves with what does not; or of a value and the opposite of its mean, which is kept."""
        ids = [access.node for access in node.operands]
        means = [id for id in moved if id in self.means]
        if means:
            whole = [id for id in moved if id in self.values]
            if len(ids) != 2 or len(means) != 1 or whole != [self.means[means[0]]] or sum(node.coefficients) != 0:
                raise _Stopped
            self._whole(node, whole[0])
            self.ends.setdefault("layer_norm")
            return False
        if len(moved) != 1:
            raise _Stopped
        variable = self._whole(node, moved[0])
        self.values[node.id] = next(p for p, mode in enumerate(node.modes) if mode.variable == variable)
        return True

    def _whole(self, node: Node, id: int) -> int:
        """The variable with which a node reads all of the axis of an operand."""
        number, access = next((i, a) for i, a in enumerate(node.operands) if a.node == id)
        variable = access.index[self.values[id]].plain
        if variable is None or node.size(number, variable) != self._size(id):
            raise _Stopped
        return variable


class _Added:
    """Any vector added to a bias: it is the same along every other axis of what it is added to."""

    def __init__(self, graph: Graph, leaf: Leaf, still: frozenset[int]) -> None:
        self.graph, self.leaf, self.still = graph, leaf, still
        self.values: dict[int, int] = {leaf.id: 0}  # the mode along which the vector lies
        self.averaged: set[int] = set()
        self.mapped: dict[int, tuple[int, bool]] = {}  # a value that moves by W a: W, and whether it was averaged
        self.readers: list[tuple[int, int, bool]] = []

    def run(self) -> TakenUp:
        """Follows it.

        Raises:
            _Stopped: something does not take it up.
        """
        kept: list[int] = []
        for node in self.graph:
            moved = [a.node for a in node.operands if a.node in self.values or a.node in self.mapped]
            if moved and not self._step(node, moved):
                kept.append(node.id)
        if _leaves_model(self.graph, self.values) or _leaves_model(self.graph, self.mapped) or not self.readers:
            raise _Stopped
        biases = [bias for _, bias, _ in self.readers]
        if len(set(biases)) < len(biases):
            raise _Stopped
        bound = {self.leaf.id: Moved(0), **{bias: Moved(0) for bias in biases}}
        values = {id: Moved(position) for id, position in self.values.items()}
        finding = Finding(largest("shift"), self.leaf.modes[0].size, bound, values, tuple(kept))
        return TakenUp(finding, self.leaf.id, tuple(self.readers))

    def _step(self, node: Node, moved: Sequence[int]) -> bool:
        if len(moved) != 1:
            raise _Stopped
        (id,) = moved
        number, access = next((i, a) for i, a in enumerate(node.operands) if a.node == id)
        if id in self.mapped:
            self._take_up(node, number)
            return False
        variable = access.index[self.values[id]].plain
        if variable is None or node.size(number, variable) != self.graph[id].modes[self.values[id]].size:
            raise _Stopped
        place = {mode.variable: p for p, mode in enumerate(node.modes)}
        if isinstance(node, Sum) and node.coefficients[number] == 1:
            self.values[node.id] = place[variable]
            self.averaged |= {node.id} if id in self.averaged else set()
            return True
        if not isinstance(node, Contraction) or len(node.operands) != 2 or node.coefficient != 1 or id == self.leaf.id:
            raise _Stopped
        other = node.operands[1 - number]
        if variable in node.summed:
            weight = self.graph[other.node]
            if not isinstance(weight, Leaf) or weight.kind != "param" or variable not in other.variables:
                raise _Stopped
            if node.summed != (variable,) or any(ix.plain is None for ix in other.index):
                raise _Stopped
            self.mapped[node.id] = weight.id, id in self.averaged
            return True
        if variable in other.variables or not self._averages(node, other.node, other.variables):
            raise _Stopped
        self.values[node.id] = place[variable]
        self.averaged.add(node.id)
        return True

    def _averages(self, node: Contraction, id: int, variables: Sequence[int]) -> bool:
        """Is a value summed with weights that are those of a softmax, along its axis?"""
        weights = self.graph[id]
        if not isinstance(weights, Along) or not BY_NAME[weights.function].unit or len(weights.bound) != 1:
            return False
        place = next(p for p, mode in enumerate(weights.modes) if mode.variable == weights.bound[0])
        access = next(a for a in node.operands if a.node == id)
        return node.summed == (access.index[place].plain,) and weights.modes[place].size == node.sizes[node.summed[0]]

    def _take_up(self, node: Node, number: int) -> None:
        """A mapped vector meets the map's own bias, along the axes of the weight that are left."""
        weight, averaged = self.mapped[node.operands[number].node]
        if not isinstance(node, Sum) or node.coefficients[number] != 1:
            raise _Stopped
        for other, c in zip(node.operands, node.coefficients):
            bias = self.graph[other.node]
            if not isinstance(bias, Leaf) or bias.kind != "param" or c != 1 or bias.id in self.still:
                continue
            made = set(other.variables)
            rows = self.graph[weight].modes
            size = math.prod(mode.size for mode in rows) // self.leaf.modes[0].size
            alone = self.graph.users[bias.id] == (node.id,) and len(bias.shape) == 1
            if alone and len(made) == len(bias.modes) and bias.shape[0] == size:
                self.readers.append((weight, bias.id, averaged))
                return
        raise _Stopped
