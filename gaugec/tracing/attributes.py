"""Tensors that a forward leaves in its modules' attributes while it is exported: outputs that no trace shows.

What this module does not do: what is left elsewhere (a global, a closure) is seen by `gaugec.tracing.side_effects`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from gaugec.errors import MatchError
from gaugec.model.interfaces import leaves
from gaugec.tracing.left_behind import Place


def _kept(module: nn.Module) -> dict[str, Any]:
    """A module's attributes, and for containers what they hold, so that a change can be seen."""
    own = {k: v for k, v in module.__dict__.items() if k not in ("_parameters", "_buffers", "_modules", "training")}
    marks: dict[str, Any] = {}
    for name, value in own.items():
        held = list(value.values()) if isinstance(value, dict) else value
        marks[name] = [id(x) for x in held] if isinstance(held, (list, tuple, set)) else id(value)
    return marks


def _holds_tensor(value: Any) -> bool:
    return any(isinstance(x, torch.Tensor) for x in leaves(value))


@contextlib.contextmanager
def nothing_left_on(model: nn.Module, weights: frozenset[Place]) -> Iterator[None]:
    """Refuses a forward that leaves a tensor on a module, but for `weights`: an output that the trace does not show."""
    before = {name: _kept(module) for name, module in model.named_modules()}
    yield
    for name, module in model.named_modules():
        if name not in before:
            continue
        changed = [key for key, mark in _kept(module).items() if before[name].get(key) != mark]
        left = [key for key in changed if _holds_tensor(module.__dict__[key]) and (name, key) not in weights]
        if left:
            raise MatchError(
                f"the forward leaves a tensor in the attribute {left[0]} of {name or 'the model'}",
                help="what leaves the forward unseen cannot be proved invariant: return it instead",
            )
