"""What a graph still says when the same model was traced at another shape: nodes that read other elements are opaque.

What this module does not do: it decides not whether two graphs are one function (see `gaugec.trace`).
"""

from __future__ import annotations

from dataclasses import replace

from gaugec.tensor import Access, Graph, Ix, Node

RESIZED = "(what it reads depends on the size of an input)"


def settled(graph: Graph, first: Graph, second: Graph) -> Graph:
    """The graph in which a node that reads other elements at another shape is opaque.

    `first` and `second` are the graphs of the two shapes; `graph` is the first one, perhaps settled before.
    An index may follow the axis that was resized (the last token); on an axis that was not, it may not: what is read
    there would be another part of a parameter.
    """

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
