"""Two graphs of one model at two shapes: where they differ in more than sizes (`departure`), and what the first still
says beside the second (`settled`): nodes that read other elements are opaque.

What this module does not do: it traces nothing (see `gaugec.tracing.trace`).
"""

from __future__ import annotations

from dataclasses import replace

from gaugec.graph.ir import Access, Graph, Ix, Node

RESIZED = "(what it reads depends on the size of an input)"


def settled(graph: Graph, first: Graph, second: Graph) -> Graph:
    """The graph in which a node that reads other elements at another shape is opaque.

    `first` and `second` are the graphs of the two shapes; `graph` is the first one, perhaps settled before.
    An index may follow the axis that was resized (the last token); on an axis that was not, it may not: what is read
    there would be another part of a parameter.  Where an axis has come to length 1 nothing can be told apart, and all
    is left as it is.
    """
    if any(m != 1 and n == 1 for one, two in zip(first, second) for m, n in zip(one.shape, two.shape)):
        return graph

    def differs(node: Node, other: Node) -> bool:
        if node.summed != other.summed or node.bound != other.bound or len(node.modes) != len(other.modes):
            return True
        if [m.variable for m in node.modes] != [m.variable for m in other.modes]:
            return True
        for one, two in zip(node.operands, other.operands, strict=True):
            here, there = first[one.node].modes, second[two.node].modes
            if len(here) != len(there):
                return True
            for a, b, m, n in zip(one.index, two.index, here, there, strict=True):
                if a.variables != b.variables or (m.size == n.size and a != b):
                    return True
        return node.shape == other.shape and node.pieces != other.pieces

    nodes = tuple(
        _opaque(known, first) if known.op not in ("leaf", "opaque") and differs(one, two) else known
        for known, one, two in zip(graph, first, second, strict=True)
    )
    return replace(graph, nodes=nodes)


def _opaque(node: Node, graph: Graph) -> Node:
    """The node as one of which nothing is known, and which reads all of its operands."""
    sizes = list(node.sizes)
    operands: list[Access] = []
    for access in node.operands:
        index: list[Ix] = []
        for mode in graph[access.node].modes:
            index.append(Ix(0, ((1, len(sizes)),)))
            sizes.append(mode.size)
        operands.append(Access(access.node, tuple(index)))
    return replace(
        node,
        op="opaque",
        function=f"{node.source} {RESIZED}",
        operands=tuple(operands),
        sizes=tuple(sizes),
        summed=(),
        bound=(),
        pieces=(),
    )


def _kind(node: Node) -> tuple[object, ...]:
    """What a node is, whatever the sizes; an opaque node's `function` may speak of them."""
    function = node.source if node.op == "opaque" else node.function
    return (node.op, function, len(node.operands), node.name if node.function == "param" else "")


def departure(first: Graph, second: Graph) -> str:
    """The first node at which two graphs differ in more than sizes, or "": an argument may depend on a length too."""
    for a, b in zip(first, second):
        place = f"{a.source or a.op} at {a.place or 'the top'}"
        if _kind(a) != _kind(b):
            return f"{place} is {a.function or a.op} at one shape, {b.function or b.op} at another"
        if [access.node for access in a.operands] != [access.node for access in b.operands]:
            return f"{place} reads other values at another shape"
        if a.constant != b.constant or a.attributes != b.attributes:
            return f"a constant of {place} depends on it"
        # the divisor of a mean may change with a length; a term of a sum or a factor that vanishes may not
        if a.coefficients != b.coefficients and (a.op != "einsum" or 0 in (*a.coefficients, *b.coefficients)):
            return f"a coefficient of {place} depends on it"
    return "" if len(first.nodes) == len(second.nodes) else "the graphs differ in length"
