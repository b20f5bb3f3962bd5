"""Two graphs of one model at two shapes: where they differ in more than sizes (`departure`), and what the first still
says beside the second (`settled`): nodes that read other elements are opaque.

What this module does not do: it traces nothing (see `gaugec.tracing.trace`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from fractions import Fraction

from gaugec.graph.check import checked
from gaugec.graph.ir import Access, Along, Concatenation, Contraction, Graph, Ix, Leaf, Map, Node, Opaque, Sum

RESIZED = "(what it reads depends on the size of an input)"


def settled(graph: Graph, first: Graph, second: Graph) -> Graph:
    """The graph in which a node that reads other elements at another shape is opaque.

    `first` and `second` are the graphs of the two shapes; `graph` is the first one, perhaps settled before.
    An index may follow the axis that was resized (the last token); on an axis that was not, it may not: what is read
    there would be another part of a parameter.  No more or less may be read there either, but of a table of parameters
    that meets the resized axis (positions), and of what no parameter reaches.  Where an axis has come to length 1
    nothing can be told apart, and all is left as it is.
    """
    if shrunk(first, second):
        return graph

    kept: dict[int, list[int]] = {}  # which modes of a node the other one has too
    moving = _of_parameters(first)

    def differs(node: Node, other: Node) -> bool:
        names = _renamed(node, other, first, second, kept)
        if names is not None and node.id in moving and _reads_another_share(node, other, first, second, kept):
            names = None
        known = {} if names is None else names
        left = [(i, known.get(m.variable, m.variable)) for i, m in enumerate(node.modes)]
        kept[node.id] = [i for i, name in left if name is not None]
        if names is None or [n for v in node.binds if (n := known.get(v, v)) is not None] != list(other.binds):
            return True
        if [name for _, name in left if name is not None] != [m.variable for m in other.modes]:
            return True
        return node.shape == other.shape and _pieces(node) != _pieces(other)

    nodes = tuple(
        _opaque(known, first) if differs(one, two) and not isinstance(known, Leaf | Opaque) else known
        for known, one, two in zip(graph, first, second, strict=True)
    )
    return checked(replace(graph, nodes=nodes), "settling")


def shrunk(first: Graph, second: Graph) -> bool:
    """Has an axis come to length 1 in the second one, so that nothing can be told apart along it?"""
    return any(m != 1 and n == 1 for one, two in zip(first, second) for m, n in zip(one.shape, two.shape))


def _renamed(
    node: Node, other: Node, first: Graph, second: Graph, kept: Mapping[int, Sequence[int]]
) -> dict[int, int | None] | None:
    """By what variables of the other node those of this one are called; None where they read other elements.

    A variable that runs over a part of a resized axis (all tokens but the last) has no name where that part has come
    to length 1: there it is a constant, and a mode of it is none.
    """
    names: dict[int, int | None] = {}
    for one, two in zip(node.operands, other.operands, strict=True):
        modes = kept[one.node]
        if len(modes) != len(second[two.node].modes):
            return None
        there = dict(zip(modes, zip(two.index, second[two.node].modes, strict=True), strict=True))
        for i, (a, m) in enumerate(zip(one.index, first[one.node].modes, strict=True)):
            b, n = there.get(i, (Ix(), None))
            if n is not None and m.size == n.size and (a.offset, _strides(a)) != (b.offset, _strides(b)):
                return None
            gone = not b.terms and (n is None or n.size < m.size)
            if not gone and len(a.terms) != len(b.terms):
                return None
            for variable, name in zip(a.variables, [None] * len(a.terms) if gone else b.variables, strict=True):
                if names.setdefault(variable, name) != name:
                    return None
    called = [name for name in names.values() if name is not None]
    return names if len(set(called)) == len(called) else None


def _of_parameters(graph: Graph) -> Set[int]:
    """The nodes that a parameter reaches."""
    found: set[int] = set()
    for node in graph:
        if (isinstance(node, Leaf) and node.kind == "param") or any(access.node in found for access in node.operands):
            found.add(node.id)
    return found


def _reads_another_share(
    node: Node, other: Node, first: Graph, second: Graph, kept: Mapping[int, Sequence[int]]
) -> bool:
    """Is more or less read along an axis that was not resized?"""
    shares: list[tuple[bool, int]] = []
    resized: set[int] = set()
    for operand, (one, two) in enumerate(zip(node.operands, other.operands, strict=True)):
        modes, there = first[one.node].modes, second[two.node].modes
        for i, b, n in zip(kept[one.node], two.index, there):
            a, table = one.index[i], isinstance(first[one.node], Leaf)
            if modes[i].size != n.size:
                resized |= set(a.variables)
            else:
                pairs = zip(a.variables, b.variables)
                shares += [(table, v) for v, w in pairs if node.size(operand, v) != other.size(operand, w)]
    return any(not table or variable not in resized for table, variable in shares)


def _strides(ix: Ix) -> list[int]:
    return [stride for stride, _ in ix.terms]


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
    reason = f"{node.source} {RESIZED}"
    return node.become(Opaque, reason=reason, operands=tuple(operands), sizes=tuple(sizes))


def _pieces(node: Node) -> tuple[tuple[int, int], ...]:
    return node.pieces if isinstance(node, Concatenation) else ()


def _kind(node: Node) -> tuple[object, ...]:
    """What a node is, whatever the sizes; an opaque node's `reason` may speak of them, its `source` does not."""
    match node:
        case Leaf():
            own: object = (node.kind, node.name if node.kind == "param" else "")
        case Map() | Along():
            own = node.function
        case Opaque():
            own = node.source
        case _:
            own = ""
    return (node.word, own, len(node.operands))


def _constants(node: Node) -> tuple[object, ...]:
    """The numbers of a node that no size may change."""
    match node:
        case Leaf():
            return (node.random,)
        case Sum():
            return (node.constant,)
        case Map() | Along():
            return (node.attributes,)
    return ()


def _coefficients(node: Node) -> tuple[Fraction, ...]:
    match node:
        case Contraction():
            return (node.coefficient,)
        case Sum():
            return node.coefficients
    return ()


def departure(first: Graph, second: Graph) -> str:
    """The first node at which two graphs differ in more than sizes, or "": an argument may depend on a length too."""
    for a, b in zip(first, second):
        place = f"{a.source or a.word} at {a.place or 'the top'}"
        if _kind(a) != _kind(b):
            return f"{place} is {a.title} at one shape, {b.title} at another"
        if [access.node for access in a.operands] != [access.node for access in b.operands]:
            return f"{place} reads other values at another shape"
        if _constants(a) != _constants(b):
            return f"a constant of {place} depends on it"
        # the divisor of a mean may change with a length; a term of a sum or a factor that vanishes may not
        one, two = _coefficients(a), _coefficients(b)
        if one != two and (isinstance(a, Sum) or 0 in (*one, *two)):
            return f"a coefficient of {place} depends on it"
    if len(first.nodes) != len(second.nodes):
        return "the graphs differ in length"
    same = (first.outputs, first.buffers) == (second.outputs, second.buffers)
    return "" if same else "what leaves the model depends on it"
