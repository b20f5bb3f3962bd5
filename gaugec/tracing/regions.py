"""Where a program cuts gradients: regions under `torch.no_grad` put in their place, with a detach on all that leaves.

Export keeps a region under a gradient mode as a program of its own, and a decomposition would drop its borders without
a word.  Here its operations join the others; what they hand on is detached, so that a gradient is cut in one way only.

What this module does not do: it does not say which cuts a gauge bears (`gaugec.matching.flow`).
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import torch

from gaugec.errors import MatchError
from gaugec.model.interfaces import OpOverload
from gaugec.operators import aten_kind

_HELP = "let the forward compute it without a write, or where gradients are on"


def packet(node: torch.fx.Node) -> str:
    """The operation of a node, without its overload."""
    target = node.target
    found = getattr(target, "_overloadpacket", None)
    return str(found) if found is not None else getattr(target, "__name__", str(target))


def carriers(program: torch.export.ExportedProgram) -> frozenset[str]:
    """The names of the nodes through which a parameter has a gradient: floating values, as far as none is cut."""
    parameters = set(program.graph_signature.inputs_to_parameters)
    found: set[str] = set()
    memory: set[torch.fx.Node] = set()  # into which such a value was written: what is read there later is one too
    for node in program.graph.nodes:
        if node.op == "placeholder":
            if node.name in parameters:
                found.add(node.name)
        elif node.op == "call_function" and any(n.name in found or _base(n) in memory for n in node.all_input_nodes):
            if aten_kind(packet(node)) != "cut" and _floats(node):
                found.add(node.name)
                memory.update(_base(x) for x in _written(node))
    return frozenset(found)


def _floats(node: torch.fx.Node) -> bool:
    value = node.meta.get("val")
    values = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(v, torch.Tensor) and v.dtype.is_floating_point for v in values) or value is None


def open_regions(program: torch.export.ExportedProgram) -> None:
    """Puts the operations of every region under a gradient mode in its place, where they can stand there.

    Raises:
        MatchError: a region without gradients writes to a value through which a parameter has one.
    """
    graph = program.graph
    for node in list(graph.nodes):
        if node.op == "call_function" and "wrap_with_set_grad_enabled" in str(node.target):
            inside = _opened(program, node)
            if inside and node.args[0] is False:
                _cut_writes(program, inside)
    program.graph_module.recompile()


def _opened(program: torch.export.ExportedProgram, node: torch.fx.Node) -> list[torch.fx.Node]:
    """The operations of a region, now in its place; none where it holds what cannot be moved."""
    graph, held = program.graph, node.args[1]
    body = getattr(program.graph_module, str(held.target))  # type: ignore[union-attr]
    results = [user for user in node.users if user.target is operator.getitem]
    if len(results) != len(node.users) or any(n.op == "get_attr" for n in body.graph.nodes):
        return []
    inner = dict(zip((n for n in body.graph.nodes if n.op == "placeholder"), node.args[2:], strict=True))
    before = set(graph.nodes)
    with graph.inserting_before(node):
        made = graph.graph_copy(body.graph, inner)
    inside = [n for n in graph.nodes if n not in before]
    for result in results:
        source = made[result.args[1]]
        if node.args[0] is False and _floats(result):
            # the node keeps its name, by which the program knows what it returns
            result.target, result.args = torch.ops.aten.detach.default, (source,)
        else:
            result.target, result.args = torch.ops.aten.alias.default, (source,)
    graph.erase_node(node)
    if not held.users:  # type: ignore[union-attr]
        graph.erase_node(held)
    return inside


def _cut_writes(program: torch.export.ExportedProgram, inside: list[torch.fx.Node]) -> None:
    """Detaches what the operations of a region without gradients write elsewhere (a running mean in a buffer).

    Raises:
        MatchError: they write to what has a gradient, which would go on as if nothing had been written.
    """
    own, carrying = set(inside), carriers(program)
    for node in inside:
        written = set(_written(node))
        for x in written:
            base = _base(x)
            if base not in own and (base.name in carrying or x.name in carrying):
                raise MatchError(
                    f"a value that depends on a parameter is written in a region without gradients, at {node.name}",
                    help=_HELP,
                )
        if written:
            with program.graph.inserting_before(node):
                _detached_but(program.graph, node, written)


def _detached_but(graph: torch.fx.Graph, node: torch.fx.Node, written: set[torch.fx.Node]) -> None:
    """Lets a node read all operands but those that it writes through a detach."""
    for x in [x for x in node.all_input_nodes if x not in written and _floats(x)]:
        cut = graph.call_function(torch.ops.aten.detach.default, (x,))
        cut.meta = dict(x.meta)
        node.replace_input_with(x, cut)


def _written(node: torch.fx.Node) -> Iterator[torch.fx.Node]:
    """The operands that an operation writes in place."""
    if not isinstance(node.target, OpOverload):
        return
    for position, argument in enumerate(node.target._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value: Any = node.args[position] if position < len(node.args) else node.kwargs.get(argument.name)
            yield from _nodes(value)


def _nodes(value: Any) -> list[torch.fx.Node]:
    found: list[torch.fx.Node] = []
    torch.fx.node.map_arg(value, lambda n: found.append(n) or n)  # type: ignore[func-returns-value]
    return found


def _base(node: torch.fx.Node) -> torch.fx.Node:
    """The value in whose memory a node's value lies: itself, unless it is a view."""
    while isinstance(node.target, OpOverload):
        schema = node.target._schema
        if all(made.alias_info is None for made in schema.returns):
            break
        shared = [
            x
            for position, argument in enumerate(schema.arguments)
            if argument.alias_info is not None and position < len(node.args)
            for x in _nodes(node.args[position])
        ]
        if not shared:
            break
        node = shared[0]
    return node
