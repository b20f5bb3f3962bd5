"""Running a model quietly, in the modes in which it is trained, at sizes that tell its axes apart."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gaugec.model.dry_run import dry_run
from gaugec.model.inputs import resized, tensors_of
from gaugec.model.interfaces import storage
from gaugec.model.preserve import preserved


def several(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs in which no batch or length is 1, nor the two alike, where the model takes such.

    An axis of length 1 hides what it does; and equal ones could not be told apart when they are resized.
    """
    tensors = tensors_of(args, kwargs)
    taken = {n for t in tensors for n in t.shape}
    taken |= {n for p in model.parameters() if not is_lazy(p) for n in p.shape}
    free = next(n for n in range(3, 10**6) if n not in taken)
    if any(n == 1 for t in tensors for n in t.shape[:2]):
        other = resized(args, kwargs, {1: free})
    elif alike := [t.shape[1] for t in tensors if t.ndim > 1 and t.shape[0] == t.shape[1]]:
        other = resized(args, kwargs, dict.fromkeys(alike, free), axes=(1,))
    else:
        return args, kwargs
    with preserved(model, parameters=False):
        return other if runs(model, *other) else (args, kwargs)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps what torch and the forward log, warn of and print from the reader: what matters is in the error.

    An export that fails prints its graph; and what a forward prints would be printed as often as it is called here.
    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    unread = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(unread), contextlib.redirect_stderr(unread):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def trained_modes(model: nn.Module) -> Iterator[None]:
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


def share_memory(one: torch.Tensor, two: torch.Tensor) -> bool:
    """Do two tensors live in the same memory, by whatever road (a view, `.data`, a numpy array)?"""
    if storage(one) == storage(two):
        return True
    a, b = one.untyped_storage(), two.untyped_storage()
    if one.device != two.device or one.is_meta or not a.nbytes() or not b.nbytes():
        return False
    first, second = a.data_ptr(), b.data_ptr()
    return bool(first) and first < second + b.nbytes() and second < first + a.nbytes()


def runs(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, numbers: bool = True) -> bool:
    """Does the forward take inputs of these shapes?  Without numbers it costs no memory, and sees less.

    What the forward writes stays written: see `gaugec.model.preserve`.
    """
    with trained_modes(model), quiet(), torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            if numbers:
                model(*args, **kwargs)
            else:
                with preserved(model, parameters=False):  # it would keep fakes
                    dry_run(model, args, kwargs)
            return True
        except Exception:
            return False
