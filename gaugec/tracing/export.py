"""Exporting a model, and what makes an export unfit for a proof: hidden outputs, cut gradients, shared constants.

The model is exported in train mode (an evaluation trace has no dropout nodes).  What writes in place is decomposed with
an empty table, so that linear, attention and einsum stay whole.  Here are also the example inputs at other sizes.

What this module does not do: it reads no operation (see `gaugec.tracing.lower`).
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from gaugec.errors import MatchError, printable
from gaugec.model.preserve import preserved
from gaugec.model.run import quiet, share_memory, train_mode
from gaugec.operators import aten_kind


def _names_are_no_code(model: nn.Module) -> None:
    """torch.fx writes the names of parameters into source text as they are, and runs it.

    Raises:
        MatchError: a name that could leave the string that it stands in.
    """
    kinds = (
        ("parameter", model.named_parameters(remove_duplicate=False)),
        ("buffer", model.named_buffers(remove_duplicate=False)),
        ("module", model.named_modules(remove_duplicate=False)),
    )
    for kind, items in kinds:
        for name, _ in items:
            if set(name) & set('"\n\r\0'):
                raise MatchError(
                    f"the name of the {kind} '{printable(name)}' holds a double quote or a line break",
                    help="torch.export would take it for code: rename it",
                )


def exported(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.export.ExportedProgram:
    """The exported program in train mode, undecomposed but for in-place and higher-order operations.

    Raises:
        MatchError: it cannot be exported, or what is exported is not the function that is trained.
    """
    _names_are_no_code(model)
    with train_mode(model), quiet(), torch.enable_grad():
        try:
            with preserved(model, parameters=False), _nothing_left_behind(model):
                program = torch.export.export(model, args, kwargs, strict=False)
            _no_hidden_gradients(program)
            _no_shared_constants(model, program)
            return program if _functional(program) else program.run_decompositions({})
        except MatchError:
            raise
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise MatchError(
                f"torch.export cannot trace the model: {reason[0][:300]}",
                help="the forward must be a static graph of tensors: no data-dependent branch, use_cache=False",
            ) from error


def _functional(program: torch.export.ExportedProgram) -> bool:
    """Is an export as it comes what a decomposition would make of it: no operation in it that writes, or holds others?

    A decomposition with an empty table does nothing else, and is half of the time of an export.  Regions under a
    gradient mode are put in their place here; that no gradient is cut in them has been asked before.
    """
    graph = program.graph
    returned = {str(name) for name in program.graph_signature.user_outputs}
    for node in list(graph.nodes):
        if node.op != "call_function" or "wrap_with_set_grad_enabled" not in str(node.target):
            continue
        held = node.args[1]
        body = getattr(program.graph_module, str(held.target))
        results = [user for user in node.users if user.target is operator.getitem]
        if len(results) != len(node.users) or any(n.name in returned for n in (node, *results)):
            return False
        inner = dict(zip((n for n in body.graph.nodes if n.op == "placeholder"), node.args[2:], strict=True))
        if any(n.op == "get_attr" for n in body.graph.nodes):
            return False
        with graph.inserting_before(node):
            made = graph.graph_copy(body.graph, inner)
        for result in results:
            result.replace_all_uses_with(made[result.args[1]])
            graph.erase_node(result)
        graph.erase_node(node)
        if not held.users:
            graph.erase_node(held)
    return all(_writes_nothing(n.target) for n in graph.nodes if n.op not in ("placeholder", "output"))


def _writes_nothing(target: Any) -> bool:
    """An operation of ATen whose schema says that it writes nothing; that of a batch norm does not say what it does."""
    if target is operator.getitem:
        return True
    if not isinstance(target, torch._ops.OpOverload) or target.namespace != "aten" or target._schema.is_mutable:
        return False
    if torch.Tag.maybe_aliasing_or_mutating in target.tags:
        return False
    return not any("running" in argument.name for argument in target._schema.arguments)


def _kept(module: nn.Module) -> dict[str, Any]:
    """A module's attributes, and for containers what they hold, so that a change can be seen."""
    own = {k: v for k, v in module.__dict__.items() if k not in ("_parameters", "_buffers", "_modules", "training")}
    marks: dict[str, Any] = {}
    for name, value in own.items():
        held = list(value.values()) if isinstance(value, dict) else value
        marks[name] = [id(x) for x in held] if isinstance(held, (list, tuple, set)) else id(value)
    return marks


def _holds_tensor(value: Any) -> bool:
    flat, _ = torch.utils._pytree.tree_flatten(value)
    return any(isinstance(x, torch.Tensor) for x in flat)


@contextlib.contextmanager
def _nothing_left_behind(model: nn.Module) -> Iterator[None]:
    """Refuses a forward that leaves a tensor on a module: an output that the trace does not show."""
    before = {name: _kept(module) for name, module in model.named_modules()}
    yield
    for name, module in model.named_modules():
        if name not in before:
            continue
        changed = [key for key, mark in _kept(module).items() if before[name].get(key) != mark]
        left = [key for key in changed if _holds_tensor(module.__dict__[key])]
        if left:
            raise MatchError(
                f"the forward leaves a tensor in the attribute {left[0]} of {name or 'the model'}",
                help="what leaves the forward unseen cannot be proved invariant: return it instead",
            )


def _no_shared_constants(model: nn.Module, program: torch.export.ExportedProgram) -> None:
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


def _no_hidden_gradients(program: torch.export.ExportedProgram) -> None:
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
