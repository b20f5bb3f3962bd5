"""Pointwise functions that are spelled out become one: `relu(x) * relu(x)`, `x * relu(x)`, `x / (1 + exp(-x))`.

Formulas and traced models both pass here, so a function is met as one step however either of them spells it.  A node is
fused where several reads, or a power, of one value at one index meet, and what they compute is a function of that value
alone in which something bends (a maximum, a tanh...), or one that has a row in the operator table.  Polynomials are
left alone: the proof knows more about them than about functions.

What this module does not do: it believes no law, and it looks at no name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from gaugec.graph.check import checked
from gaugec.graph.ir import Access, Contraction, Graph, Ix, Map, Node, Sum
from gaugec.operators import BY_NAME, FUSED, Term

LARGEST = 64  # parts of a definition; what is larger stays spelled out
_BENDS = frozenset(("max", "min", "abs", "tanh", "erf", "sin", "cos", "step"))

Base = tuple[int, tuple[Ix, ...]] | None  # a value and the index at which it is read; None: no value, a constant
Chain = dict[Base, Term]  # what a node is as a function of one earlier value, for ever earlier ones, nearest first
Recognise = Callable[[Term], str | None]


def fuse(graph: Graph, numbers: Mapping[int, int], recognise: Recognise) -> tuple[Graph, dict[int, int]]:
    """The graph with spelled-out pointwise functions in one node each, and `numbers` (anything -> node id) renumbered.

    `recognise`: a definition -> the name of the row of the operator table that is the same function, or None.  Values
    that are read no more are left out of the graph and of `numbers`.
    """
    chains: list[Chain] = []  # over the positions of the node's modes, which play its variables
    nodes: list[Node] = []
    for node in graph:
        chain = _chain(node, chains)
        nodes.append(_fused(node, chain, recognise))
        places = {mode.variable: Ix(0, ((1, i),)) for i, mode in enumerate(node.modes)}
        chains.append({_read(base, places): term for base, term in chain.items()})
    return _live(graph, nodes, numbers)


# --- what a node is as a function of one value -----------------------------------------------------------------------
def _chain(node: Node, chains: Sequence[Chain]) -> Chain:
    if not isinstance(node, Map | Contraction | Sum) or node.binds:
        return {}
    parts: list[Chain] = []
    for access in node.operands:
        by = dict(enumerate(access.index))
        part: Chain = {} if None in chains[access.node] else {(access.node, access.index): "x"}
        part |= {_read(base, by): term for base, term in chains[access.node].items()}
        parts.append(part)
    varying = [part for part in parts if None not in part]
    made: Chain = {}
    for base in varying[0] if varying else (None,):
        if all(base in part for part in varying):
            term = _term(node, [part[None] if None in part else part[base] for part in parts])
            if term is not None and _size(term) <= LARGEST:
                made[base] = term
    return made


def _read(base: Base, by: Mapping[int, Ix]) -> Base:
    """A base over a node's variables, over the variables of a reader that reads variable v with by[v]."""
    return None if base is None else (base[0], tuple(_substituted(ix, by) for ix in base[1]))


def _substituted(ix: Ix, by: Mapping[int, Ix]) -> Ix:
    offset = ix.offset
    strides: dict[int, int] = {}
    for stride, variable in ix.terms:
        offset += stride * by[variable].offset
        for inner, v in by[variable].terms:
            strides[v] = strides.get(v, 0) + stride * inner
    terms = sorted(((s, v) for v, s in strides.items() if s), key=lambda t: (-t[0], t[1]))
    return Ix(offset, tuple(terms))


def _term(node: Node, parts: Sequence[Term]) -> Term | None:
    """The node's value from its operands'; None where it has no definition."""
    match node:
        case Contraction():
            times = {part: parts.count(part) for part in parts}  # equal factors are a power, for the reader
            factors: list[Term] = [part if n == 1 else ("pow", part, n) for part, n in times.items()]
            return _of("mul", [*([node.coefficient] if node.coefficient != 1 else []), *factors], 1)
        case Sum():
            scaled = zip(node.coefficients, parts, strict=True)
            terms = [part if c == 1 else _of("mul", [c, part], 1) for c, part in scaled]
            return _of("add", [*terms, *([node.constant] if node.constant else [])], 0)
        case Map():
            return _applied(node, parts)
    return None


def _applied(node: Map, parts: Sequence[Term]) -> Term | None:
    """A function's definition at its arguments; None where it has none."""
    attributes = dict(node.attributes)
    if node.function == "pow" and len(parts) == 1:
        return ("pow", parts[0], Fraction(str(attributes["exponent"])))
    if node.function in ("max", "min") and len(parts) == 2:
        return (node.function, *parts)
    row = BY_NAME.get(node.function)
    definition = attributes.get("definition", row.definition if row is not None else None)
    return put(definition, parts[0]) if definition is not None and len(parts) == 1 else None  # type: ignore[arg-type]


def _of(head: str, parts: Sequence[Term], empty: int) -> Term:
    return empty if not parts else parts[0] if len(parts) == 1 else (head, *parts)


def put(definition: Term, x: Term) -> Term:
    """A definition at the argument x."""
    if definition == "x":
        return x
    if isinstance(definition, tuple):
        return (definition[0], *(put(part, x) for part in definition[1:]))
    return definition


def _size(term: Term) -> int:
    return 1 + sum(map(_size, term[1:])) if isinstance(term, tuple) else 1


def _bends(term: Term) -> bool:
    return isinstance(term, tuple) and (term[0] in _BENDS or any(map(_bends, term[1:])))


# --- the new graph ---------------------------------------------------------------------------------------------------
def _fused(node: Node, chain: Chain, recognise: Recognise) -> Node:
    """The node as one function of the nearest value that makes it one, or as it was."""
    joins = len(node.operands) > 1 or (isinstance(node, Map) and node.function == "pow")
    for base, term in chain.items():
        if base is None or not joins:
            break
        name = recognise(term)
        if name is None and not _bends(term):
            continue
        attributes = () if name is not None else (("definition", term),)
        return node.become(Map, operands=(Access(*base),), function=name or FUSED, attributes=attributes)
    return node


def _live(graph: Graph, nodes: Sequence[Node], numbers: Mapping[int, int]) -> tuple[Graph, dict[int, int]]:
    live: set[int] = set()
    todo = [*graph.outputs, *graph.buffers]
    while todo:
        id = todo.pop()
        if id not in live:
            live.add(id)
            todo.extend(access.node for access in nodes[id].operands)
    new = {id: position for position, id in enumerate(sorted(live))}
    kept = tuple(
        replace(node, id=new[node.id], operands=tuple(replace(a, node=new[a.node]) for a in node.operands))
        for node in nodes
        if node.id in live
    )
    outputs, buffers = (tuple(new[id] for id in ids) for ids in (graph.outputs, graph.buffers))
    made = replace(graph, nodes=kept, outputs=outputs, buffers=buffers)
    return checked(made, "fusing"), {key: new[id] for key, id in numbers.items() if id in live}


__all__ = ["fuse", "put"]
