"""What an exported program hides: a gradient that is cut, a constant that is a parameter in disguise.

Either makes training another function than the one that is proved.

What this module does not do: what a forward leaves behind (`gaugec.tracing.attributes`, `gaugec.tracing.side_effects`).
"""

from __future__ import annotations

import torch
from torch import nn

from gaugec.errors import MatchError
from gaugec.model.interfaces import OpOverload
from gaugec.model.memory import share_memory
from gaugec.operators import aten_kind
from gaugec.tracing.regions import carriers, packet


def no_shared_constants(model: nn.Module, program: torch.export.ExportedProgram) -> None:
    """Refuses constants in the storage of a parameter: moving the parameter would move them unseen."""
    buffers = dict(model.named_buffers())
    for name, constant in program.constants.items():
        if not isinstance(constant, torch.Tensor) or name in buffers:
            continue
        for owner, parameter in model.named_parameters():
            if share_memory(parameter, constant):
                raise MatchError(
                    f"the forward reads {owner} also as a constant ({name}), in the same memory",
                    help="use the parameter itself, through the module that owns it",
                )


def no_hidden_gradients(program: torch.export.ExportedProgram) -> None:
    """Refuses where a gradient is cut and no graph can say so: a detach in place, a number that is taken out, a region
    without gradients that could not be opened.

    There the gradient is not that of the traced function, and a gauge that is proved for the function would be wrong
    for training.  A plain detach is a value of the graph.
    """
    carrying = carriers(program)
    for node in program.graph.nodes:
        if node.op == "call_function" and any(n.name in carrying for n in node.all_input_nodes) and _hides(node):
            raise MatchError(
                f"the gradient is cut at {node.name} ({node.target}), which depends on a parameter",
                help="a detach or a no_grad region makes the gradient differ from the function that is proved",
            )


def _hides(node: torch.fx.Node) -> bool:
    kind = aten_kind(packet(node))
    if kind == "item":
        return True
    if isinstance(node.target, OpOverload):
        return kind == "cut" and bool(node.target._schema.is_mutable)
    return _without_gradients(node)


def _without_gradients(node: torch.fx.Node) -> bool:
    """Does an operation that holds others turn gradients off, itself or in what it holds?"""
    if "set_grad_enabled" in str(node.target) and node.args[0] is False:
        return True
    owner = node.graph.owning_module
    held = [getattr(owner, str(n.target), None) for n in node.all_input_nodes if n.op == "get_attr"]
    bodies = [body.graph for body in held if isinstance(body, torch.fx.GraphModule)]
    return any(_without_gradients(n) for body in bodies for n in body.nodes if n.op == "call_function")
