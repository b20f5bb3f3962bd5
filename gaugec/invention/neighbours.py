"""Which parameters are neighbours in a graph: what one makes reaches the other before any other weight sums over it.

What this module does not do: it knows no law; neighbours are where relations are looked for in numbers.
"""

from __future__ import annotations

from gaugec.graph.ir import Contraction, Graph, Leaf

Pair = tuple[int, int]


def neighbours(graph: Graph) -> list[Pair]:
    """Pairs of parameters (leaf ids, the smaller first), in the order of the graph.

    A value carries the parameters that made it since the last weight that summed over it; where several meet in one
    node, each two of them are neighbours.
    """
    carried: dict[int, frozenset[int]] = {}
    found: dict[Pair, None] = {}
    for node in graph:
        if isinstance(node, Leaf):
            carried[node.id] = frozenset({node.id}) if node.kind == "param" else frozenset()
            continue
        reads = [carried[access.node] for access in node.operands]
        everything = frozenset().union(*reads)
        new = [leaf for leaf in sorted(everything) if any(access.node == leaf for access in node.operands)]
        apart = len([x for x in reads if x]) > 1
        for one in sorted(everything) if apart else ():
            for two in sorted(everything):
                met = not any(one in x and two in x for x in reads)
                if one < two and met:
                    found.setdefault((one, two))
        weighs = isinstance(node, Contraction) and node.summed and any(len(graph[leaf].shape) > 1 for leaf in new)
        carried[node.id] = frozenset(new) if weighs else everything
    return list(found)
