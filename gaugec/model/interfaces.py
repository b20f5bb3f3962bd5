"""What gaugec uses of torch that torch does not promise to keep, in one place.

Tried with torch 2.13.0.  Where another version has moved or dropped something, importing this module is a GaugeError
that names it; nothing is looked for elsewhere.

What this module does not do: it changes nothing in torch.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from gaugec.errors import GaugeError
from gaugec.model.guest import TORCH

TRIED = ("2.13.0",)


def private(module: str, name: str) -> Any:
    """An interface of torch that is not public.

    Raises:
        GaugeError: this version of torch has none of that name.
    """
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise GaugeError(
            f"torch {TORCH} has no {module}.{name}, which gaugec needs",
            help=f"use a torch that was tried: {', '.join(TRIED)}",
        ) from error


tree_flatten = private("torch.utils._pytree", "tree_flatten")
"""Nested inputs -> (their leaves in order, how they were nested)."""
tree_map = private("torch.utils._pytree", "tree_map")
"""(function, nested inputs) -> the same nesting with the function's values."""
tree_unflatten = private("torch.utils._pytree", "tree_unflatten")
"""(leaves in order, how they were nested) -> the nested values."""
DispatchMode = private("torch.utils._python_dispatch", "TorchDispatchMode")
"""Sees every operation of ATen while it is entered."""
StorageWeakRef = private("torch.multiprocessing.reductions", "StorageWeakRef")
"""A reference to a storage that does not keep it alive."""
FakeTensor = private("torch._subclasses.fake_tensor", "FakeTensor")
FakeTensorMode = private("torch._subclasses.fake_tensor", "FakeTensorMode")
"""Tensors with sizes and types and no numbers."""
again = private("torch._subclasses.fake_impls", "fast_detach")
"""(mode, fake tensor) -> another fake tensor like it, with the same symbols."""
ShapeEnv = private("torch.fx.experimental.symbolic_shapes", "ShapeEnv")
"""Symbolic sizes, and what has been asked of them."""
DimDynamic = private("torch.fx.experimental.symbolic_shapes", "DimDynamic")
StatelessSymbolicContext = private("torch.fx.experimental.symbolic_shapes", "StatelessSymbolicContext")
"""Which sizes of a fake tensor are symbols."""
compiling = private("torch._export.utils", "_compiling_state_context")
"""A forward that is entered here believes that it is exported."""
OpOverload = private("torch._ops", "OpOverload")
"""One operation of an exported graph, with its schema."""
_tracing = private("torch.fx", "config")
uncompiled = private("torch.fx._lazy_graph_module", "_use_lazy_graph_module")
"""uncompiled(True): a graph module that is made inside is written as Python, and compiled, when it is called."""
backward_task = private("torch._C", "_current_graph_task_id")
"""The number of the backward that runs, -1 where none does."""


def leaves(*values: Any) -> list[Any]:
    """Everything that nested inputs or outputs hold, in order."""
    found: list[Any] = tree_flatten(values)[0]
    return found


def storage(x: torch.Tensor) -> int:
    """The identity of the storage that a tensor lives in."""
    return int(x.untyped_storage()._cdata)


def writes(x: torch.Tensor) -> int:
    """How often a tensor was written in place; 0 of one made under inference mode, of which nobody counts."""
    return 0 if x.is_inference() else int(x._version)


def after_accumulation(x: torch.Tensor) -> Any:
    """The hooks that run after a parameter's gradient is accumulated, or None."""
    return x._post_accumulate_grad_hooks


@contextlib.contextmanager
def without_lines() -> Iterator[None]:
    """The nodes of a graph that is traced inside do not say from which line of source they come."""
    before = _tracing.do_not_emit_stack_traces
    _tracing.do_not_emit_stack_traces = True
    try:
        yield
    finally:
        _tracing.do_not_emit_stack_traces = before


@contextlib.contextmanager
def unheard(parameters: Iterable[torch.Tensor]) -> Iterator[None]:
    """Hooks that run after a gradient is accumulated are away: they may be an optimizer."""
    own = [(hooks, dict(hooks)) for p in parameters if (hooks := after_accumulation(p))]
    try:
        for hooks, _ in own:
            hooks.clear()
        yield
    finally:
        for hooks, content in own:
            hooks.update(content)


def hooked(x: torch.Tensor) -> bool:
    """May a hook on a parameter change its gradient?"""
    return bool(x._backward_hooks or after_accumulation(x))
