"""What an exported program hides: a gradient that is cut, a constant that is a parameter in disguise.

Either makes training another function than the one that is proved.

What this module does not do: what a forward leaves behind (`gaugec.tracing.attributes`, `gaugec.tracing.side_effects`).
"""

from __future__ import annotations

import torch
from torch import nn

from gaugec.errors import MatchError
from gaugec.model.run import share_memory
from gaugec.operators import aten_kind


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
    """Refuses no_grad regions and detach on anything that depends on a parameter.

    There the gradient is not that of the traced function, and a gauge that is proved for the function would be wrong
    for training.
    """
    parameters = set(program.graph_signature.inputs_to_parameters)
    tainted: set[str] = set()
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in parameters:
            tainted.add(node.name)
        elif node.op == "call_function" and any(n.name in tainted for n in node.all_input_nodes):
            if _cuts_gradient(node) and (_differentiable(node) or not _tensor(node)):
                raise MatchError(
                    f"the gradient is cut at {node.name} ({node.target}), which depends on a parameter",
                    help="a detach or a no_grad region makes the gradient differ from the function that is proved",
                )
            if _differentiable(node):
                tainted.add(node.name)


def _cuts_gradient(node: torch.fx.Node) -> bool:
    packet = str(getattr(node.target, "_overloadpacket", node.target))
    return aten_kind(packet) in ("cut", "item") or ("set_grad_enabled" in packet and node.args[0] is False)


def _tensor(node: torch.fx.Node) -> bool:
    return isinstance(node.meta.get("val"), (torch.Tensor, list, tuple))


def _differentiable(node: torch.fx.Node) -> bool:
    value = node.meta.get("val")
    values = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(v, torch.Tensor) and v.dtype.is_floating_point for v in values) or value is None
