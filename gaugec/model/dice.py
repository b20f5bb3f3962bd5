"""The states of random numbers: torch's, on the CPU and on the devices of a model, Python's and numpy's.

What this module does not do: generators that somebody made for himself are looked for in `gaugec.model.reachable`.
"""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


class TorchDice:
    """The state of torch's random numbers, as it is now, wherever a model lies."""

    def __init__(self, model: nn.Module) -> None:
        self.cpu = torch.get_rng_state()
        self.others = [(d, torch.get_device_module(d).get_rng_state(d)) for d in _devices(model)]

    def again(self) -> None:
        """Puts the state back."""
        torch.set_rng_state(self.cpu)
        for device, state in self.others:
            torch.get_device_module(device).set_rng_state(state, device)


def _devices(model: nn.Module) -> list[torch.device]:
    """Where a model lies beside the CPU."""
    return sorted({p.device for p in model.parameters() if p.device.type not in ("cpu", "meta")}, key=str)


def seed(model: nn.Module, number: int) -> None:
    """Seeds torch's random numbers wherever a model lies."""
    if _devices(model):
        torch.manual_seed(number)
    else:  # to ask after all devices there may be costs as much as a small forward
        torch.default_generator.manual_seed(number)


def numpy_state(dice: Any) -> Any:
    """The state of one of numpy's generators as something that can be compared; None where it is none."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if isinstance(dice, (numpy.random.Generator, numpy.random.BitGenerator)):
        return _comparable(getattr(dice, "bit_generator", dice).state)
    return _comparable(dice.get_state()) if isinstance(dice, numpy.random.RandomState) else None


def _comparable(state: Any) -> Any:
    if isinstance(state, dict):
        return [(key, _comparable(value)) for key, value in state.items()]
    if isinstance(state, tuple):
        return [_comparable(value) for value in state]
    return state.tobytes() if hasattr(state, "tobytes") else state


def other_dice() -> dict[str, Any]:
    """The states of the random numbers of Python and numpy that everyone shares, to be compared."""
    numpy = sys.modules.get("numpy")
    shared = {"numpy": _comparable(numpy.random.get_state())} if numpy is not None else {}
    return {"Python": random.getstate(), **shared}


@contextlib.contextmanager
def dice_kept(model: nn.Module) -> Iterator[None]:
    """All of these states are afterwards what they were before."""
    torchs, python, numpy = TorchDice(model), random.getstate(), sys.modules.get("numpy")
    state = None if numpy is None else numpy.random.get_state()
    try:
        yield
    finally:
        torchs.again()
        random.setstate(python)
        if numpy is not None:
            numpy.random.set_state(state)


__all__ = ["TorchDice", "dice_kept", "numpy_state", "other_dice", "seed"]
