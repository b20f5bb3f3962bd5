"""What surrounds a compilation: gradients on, no inference mode, and new tensors on the CPU, whatever the caller set.

The caller's default device is the guest's: its forward may make tensors there.

What this module does not do: modes of modules are `gaugec.model.run`'s; autocast is left as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch

_CALLERS: ContextVar[torch.device | None] = ContextVar("gaugec_callers_device", default=None)


@contextlib.contextmanager
def ordinary() -> Iterator[None]:
    """Inside, gaugec computes as if nothing was set; afterwards everything is as it was."""
    token = _CALLERS.set(torch.get_default_device())
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.device("cpu"):
            yield
    finally:
        _CALLERS.reset(token)


@contextlib.contextmanager
def as_the_caller() -> Iterator[None]:
    """Inside, new tensors lie where they do for the caller of a compilation."""
    device = _CALLERS.get()
    if device is None or device.type == "cpu":
        yield
    else:
        with torch.device(device):
            yield


__all__ = ["as_the_caller", "ordinary"]
