"""Why a model cannot be exported, and what mends it: the failures that people meet, each with its cure.

What this module does not do: it exports nothing (see `gaugec.tracing.export`).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gaugec.errors import MatchError, first_line
from gaugec.model.memory import kind, plain
from gaugec.model.source_files import line_of

_CURES = (
    (
        ("data-dependent expression", "data-dependent control flow", "Could not guard on", "Could not extract special"),
        "a branch, a size or a number in Python follows the values of a tensor: use torch.where or a mask in place of "
        "`if`, and keep .item(), int(), float() and bool() of tensors out of the forward",
    ),
    (
        (".item()", "_local_scalar_dense", "unbacked symint", "PendingUnbackedSymbolNotFound"),
        "a number is taken out of a tensor with .item() or .tolist(): keep it a tensor, or compute it in front of the "
        "model and pass it",
    ),
    (
        ("DynamicCache", "StaticCache", "Cache'"),
        "the model takes or returns a cache: call it with use_cache=False",
    ),
    (
        ("Unsupported input type", "Found <class", "not a known type", "register_pytree_node"),
        "inputs and outputs must be tensors and numbers, in tuples, lists and dicts: take the tensors out of objects "
        "in front of the model, or make them known with torch.export.register_dataclass",
    ),
    (
        ("'NoneType' object",),
        "an export takes another way than a call here, and something is None there: give the inputs that were left out "
        "(an attention_mask)",
    ),
    (
        (".numpy()", "numpy"),
        "the forward leaves torch for numpy, which has no gradient: use the function of torch",
    ),
)
_ELSE = "the forward must be a static graph of tensors: no data-dependent branch, use_cache=False"


def untraceable(model: nn.Module, error: BaseException) -> MatchError:
    """The refusal of a model that torch.export cannot trace: its first line, the cure, and where in the forward."""
    said = str(error)
    whole = f"{type(error).__name__}: {said}"
    cure = next((cure for signs, cure in _CURES if any(sign in whole for sign in signs)), _ELSE)
    at = line_of(error)
    place = f"; it ends at {at}" if at else ""
    reason = first_line(error)[:300] if said.strip() else type(error).__name__
    return MatchError(f"torch.export cannot trace the model: {reason}", help=_odd(model) or cure + place)


def _odd(model: nn.Module) -> str:
    """A parameter or buffer that an export may not take, used or not; "" where there is none."""
    for name, x in [*model.named_parameters(), *model.named_buffers()]:
        if not is_lazy(x) and (not plain(x) or x.is_quantized):
            return f"{name} is a {kind(x)} tensor, which an export may not take, used or not"
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            return f"{name or 'the model'} is a script, which an export cannot read: give the module that it is made of"
    return ""


__all__ = ["untraceable"]
