"""Is a graph well formed?  Every stage that makes or changes one asks here, in tests; in use the last one does.

`check` reads a graph node by node against the rules that `gaugec.graph.ir` states in words.  What breaks one is a fault
of this program, never of a spec or a model: it is raised as `Malformed`, with the node on paper and what is wrong.

What this module does not do: it repairs nothing, and whether a graph is the right one it cannot say.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import prod

from gaugec.graph.ir import Along, Concatenation, Contraction, Graph, Leaf, Map, Node, Opaque, Sum
from gaugec.operators import BY_NAME

KINDS = frozenset(("param", "input", "constant", "element", "delta"))
SWITCH = "GAUGEC_CHECK_GRAPHS"
"""An environment variable: where it is set, every stage is checked and not the last one alone."""


class Malformed(Exception):
    """A graph breaks a rule: a fault of this program."""


def checked(graph: Graph, stage: str) -> Graph:
    """The graph, which an inner stage has made; looked at where `SWITCH` is set."""
    return check(graph, stage) if os.environ.get(SWITCH) else graph


def check(graph: Graph, stage: str) -> Graph:
    """The graph, which `stage` has made.

    Raises:
        Malformed: it breaks a rule.
    """
    spaces: dict[int, int] = {}
    for position, node in enumerate(graph.nodes):
        for wrong in _faults(graph, position, node, spaces):
            raise Malformed(f"after {stage}: {wrong}, at {node}")
    for what, ids in (("output", graph.outputs), ("buffer", graph.buffers)):
        for id in ids:
            if not 0 <= id < len(graph.nodes):
                raise Malformed(f"after {stage}: the {what} %{id} is no node of the graph")
    for space, start, length in graph.cuts:
        if start < 0 or length < 0 or start + length > spaces.get(space, start + length):
            raise Malformed(f"after {stage}: a cut of {length} from {start} lies outside its space {space}")
    return graph


def _faults(graph: Graph, position: int, node: Node, spaces: dict[int, int]) -> Iterator[str]:
    """What is wrong with a node, where the nodes before it are well formed; `spaces`: their sizes so far."""
    if node.id != position:
        yield f"its id is not its position {position}"
    yield from _mode_faults(node, spaces)
    yield from _variable_faults(node)
    for operand, access in enumerate(node.operands):
        if not 0 <= access.node < position:
            yield f"it reads %{access.node} before that is made"
        yield from _access_faults(graph, node, operand)
    yield from _own_faults(node)


def _mode_faults(node: Node, spaces: dict[int, int]) -> Iterator[str]:
    """Modes are row-major digits of the axes, over spaces that have one size each."""
    for mode in node.modes:
        if not 0 <= mode.variable < len(node.sizes) or node.sizes[mode.variable] != mode.size:
            yield f"the mode v{mode.variable} has not the size of its variable"
        if spaces.setdefault(mode.space, mode.size) != mode.size:
            yield f"its space {mode.space} has size {mode.size} here and {spaces[mode.space]} before"
    expected = [
        (axis, prod(m.size for m in digits[i + 1 :]))
        for axis in range(len(node.shape))
        for digits in [[m for m in node.modes if m.axis == axis]]
        for i in range(len(digits))
    ]
    lengths = [prod(m.size for m in node.modes if m.axis == axis) for axis in range(len(node.shape))]
    if [(m.axis, m.stride) for m in node.modes] != expected or lengths != list(node.shape):
        yield f"its modes are not the digits of its shape {node.shape}"


def _variable_faults(node: Node) -> Iterator[str]:
    """A variable is bound once: by a mode, or by the node; softmax and its like run along modes of theirs."""
    modes = [mode.variable for mode in node.modes]
    own = list(node.binds)
    if len({*modes}) != len(modes) or len({*own}) != len(own):
        yield "it binds a variable twice"
    if any(not 0 <= v < len(node.sizes) for v in own):
        yield "it binds a variable that has no size"
    if isinstance(node, Contraction) and {*modes} & {*own}:
        yield "it sums a variable of its modes"
    if isinstance(node, Concatenation) and node.joined not in modes:
        yield "it joins along a variable that is no mode"
    if isinstance(node, Along):
        # an axis of length one has no variable: where it is kept it stands in the shape; and along an axis that its
        # operand was spread over, the operand is read without it
        row = BY_NAME.get(node.function)
        if not own and (row is None or row.keeps) and 1 not in node.shape:
            yield "it acts along no variable"


def _access_faults(graph: Graph, node: Node, operand: int) -> Iterator[str]:
    """An operand is read with one index a mode, inside its range, at variables that are bound."""
    access = node.operands[operand]
    modes = graph.nodes[access.node].modes
    if len(access.index) != len(modes):
        yield f"it reads %{access.node} with {len(access.index)} indices, which has {len(modes)} modes"
    if any(not 0 <= v < len(node.sizes) for v in access.variables):
        yield f"it reads %{access.node} at a variable that has no size"
    bound = {*(mode.variable for mode in node.modes), *node.binds}
    if not isinstance(node, Along | Opaque) and not {*access.variables} <= bound:
        yield f"it reads %{access.node} at a variable that is not bound"
    for ix, mode in zip(access.index, modes, strict=True):
        if (0 in dict(ix.terms)) or list(ix.terms) != sorted(ix.terms, key=lambda t: (-t[0], t[1])):
            yield f"the terms of the index {ix} are not in order"
        empty = any(node.size(operand, v) == 0 for v in ix.variables)  # nothing is read at all
        low, high = node.span(operand, ix)
        if not empty and (low < 0 or high >= mode.size):
            yield f"the index {ix} of %{access.node} runs from {low} to {high}, outside 0 to {mode.size - 1}"


def _own_faults(node: Node) -> Iterator[str]:
    """What a type asks for itself."""
    match node:
        case Leaf():
            if node.operands or node.kind not in KINDS:
                yield f"a leaf is of one of the kinds {', '.join(sorted(KINDS))} and reads nothing"
        case Sum():
            if len(node.coefficients) != len(node.operands):
                yield f"it has {len(node.coefficients)} coefficients for {len(node.operands)} operands"
        case Map() | Along():
            if not node.operands or not node.function:
                yield "it has no function or no operand"
        case Concatenation():
            ends = [0, *(start + length for start, length in node.pieces)]
            starts = [*(start for start, _ in node.pieces), node.sizes[node.joined]]
            if len(node.pieces) != len(node.operands) or starts != ends or any(n < 1 for _, n in node.pieces):
                yield f"its pieces do not cover 0 to {node.sizes[node.joined] - 1}, one for each operand"
