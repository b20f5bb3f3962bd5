"""What surrounds a compilation, and what surrounds every run of the guest's code in it.

A compilation: gradients on, no inference mode, and new tensors on the CPU, whatever the caller set.  A run: as in the
caller's training, and unheard.  The caller's default device is the guest's: its forward may make tensors there.

What this module does not do: autocast is left as it is, and what a run writes is put back by `gaugec.model.preserve`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from contextvars import ContextVar

import torch
from torch import nn

from gaugec.garbage import seldom_collected

_CALLERS: ContextVar[torch.device | None] = ContextVar("gaugec_callers_device", default=None)


@contextlib.contextmanager
def ordinary() -> Iterator[None]:
    """Inside, gaugec computes as if nothing was set; afterwards everything is as it was."""
    callers = torch.get_default_device()
    token = _CALLERS.set(callers)
    # a mode of the device, even of the CPU, is asked at every call of torch
    device = contextlib.nullcontext() if callers.type == "cpu" else torch.device("cpu")
    try:
        with _unlogged(), seldom_collected(), torch.inference_mode(False), torch.enable_grad(), device:
            yield
    finally:
        _CALLERS.reset(token)


@contextlib.contextmanager
def as_trained(model: nn.Module, *, moved: bool = False) -> Iterator[None]:
    """Inside, the model runs as it does in its training: in those modes, with gradients, tensors where its caller has
    them; and nothing that it prints, logs or warns of is heard.

    moved: it is a copy on the CPU, where its new tensors lie too.
    """
    now, wanted = torch.get_default_device(), torch.device("cpu") if moved else _CALLERS.get()
    tensors = contextlib.nullcontext() if wanted in (None, now) else wanted
    with _trained_modes(model), _quiet(), tensors, torch.enable_grad():
        yield


@contextlib.contextmanager
def _trained_modes(model: nn.Module) -> Iterator[None]:
    """Modules in the modes in which they are trained, and back.

    Of a model in train mode every module keeps its own: a stage in eval mode stays there.  A model in eval mode, as it
    comes from a checkpoint, is what its `train()` makes of it.
    """
    modes = [(module, module.training) for module in model.modules()]
    if not model.training:
        model.train()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what torch and the guest log, warn of and print from the reader: what matters is in the error.

    An export that fails prints its graph; and what a forward prints would be printed as often as it is called here.
    """
    unread = io.StringIO()
    with _unlogged(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.redirect_stdout(unread), contextlib.redirect_stderr(unread):
            yield


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Nothing is logged inside; where that is so already it costs nothing, for every logger forgets what it knows."""
    before = logging.root.manager.disable
    if before >= logging.CRITICAL:
        yield
        return
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


__all__ = ["as_trained", "ordinary"]
