"""The vectors that a gain can be: a parameter with one axis, w, and such a parameter plus a number, 1 + w."""

from __future__ import annotations

from collections.abc import Container
from fractions import Fraction

from gaugec.graph.ir import Access, Contraction, Graph, Ix, Leaf, Sum

Vector = tuple[int, Fraction, int]  # leaf, what is added to it, length


def vector(graph: Graph, id: int) -> Vector | None:
    """What a node is as such a vector; None where it is something else."""
    node = graph[id]
    if len(node.modes) != 1:
        return None
    (mode,) = node.modes
    if isinstance(node, Leaf):
        return (id, Fraction(0), mode.size) if node.kind == "param" else None
    if not isinstance(node, Sum):
        return None
    plus, found = node.constant, list[tuple[Access, Fraction]]()
    for access, coefficient in zip(node.operands, node.coefficients, strict=True):
        source = graph[access.node]
        if isinstance(source, Contraction) and not source.operands and not source.summed:  # a number
            plus += coefficient * source.coefficient
        else:
            found.append((access, coefficient))
    if len(found) != 1 or found[0][1] != 1:
        return None
    leaf, index = graph[found[0][0].node], found[0][0].index
    whole = index == (Ix(0, ((1, mode.variable),)),) and [m.size for m in leaf.modes] == [mode.size]
    return (leaf.id, plus, mode.size) if whole and isinstance(leaf, Leaf) and leaf.kind == "param" else None


def vectors(graph: Graph) -> dict[int, Vector]:
    """Every node that is one."""
    return {node.id: found for node in graph if (found := vector(graph, node.id)) is not None}


def read_plus(graph: Graph, among: Container[int]) -> dict[int, Fraction]:
    """The vectors of a graph that are read plus a number, and that number; none that is read plus several."""
    found: dict[int, set[Fraction]] = {}
    for leaf, plus, _ in vectors(graph).values():
        if plus and leaf in among:
            found.setdefault(leaf, set()).add(plus)
    return {leaf: numbers.pop() for leaf, numbers in found.items() if len(numbers) == 1}
