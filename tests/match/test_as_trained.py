"""What the guest prints in a compile is heard by nobody, and what its caller had set is afterwards as it was."""

from __future__ import annotations

import copy
import logging
import random
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gaugec


def shout(what: str) -> None:
    print(what)
    print(what, file=sys.stderr)
    logging.getLogger("guest").error(what)
    warnings.warn(what, stacklevel=2)


class Shouts(torch.autograd.Function):
    """The identity, which says what it does."""

    @staticmethod
    def forward(context: Any, y: Tensor) -> Tensor:
        shout("a forward by hand")
        return y.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        shout("a backward by hand")
        return gradients[0]


class Loud(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(7, 11), nn.Linear(11, 5)

    def __deepcopy__(self, memo: dict[int, Any]) -> Loud:
        shout("a copy")
        made = memo[id(self)] = Loud()
        made.load_state_dict(copy.deepcopy(self.state_dict(), memo))
        return made

    def forward(self, x: Tensor) -> Tensor:
        shout("a forward")
        y = self.a(x)
        y.register_hook(lambda g: shout("a hook"))
        return self.b(torch.relu(Shouts.apply(y)))


X = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("options", [{}, {"twin": Loud()}], ids=["alone", "beside a twin"])
def test_nothing_that_the_guest_says_is_heard(
    options: dict[str, Any], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        made = gaugec.compile("relu_mlp", Loud(), (X,), **options)
    assert len(made.sites) == 1
    assert capfd.readouterr() == ("", "")
    assert not caplog.records and not [w for w in warned if w.filename == __file__]


def settings() -> list[Any]:
    """What a caller of torch may have set."""
    numpy: Any = np.random.get_state()
    return [
        torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype(),
        torch.get_default_device(), torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"),
        torch.get_rng_state().tolist(), random.getstate(), numpy[1].tolist(), numpy[2:],
        logging.root.manager.disable, sys.stdout, sys.stderr, list(warnings.filters),
    ]  # fmt: skip


def test_what_the_caller_set_is_as_it_was() -> None:
    model, kind, device = Loud().double(), torch.get_default_dtype(), torch.get_default_device()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            before = settings()
            made = gaugec.compile("relu_mlp", model, (X.double(),))
            assert settings() == before
    finally:
        torch.set_default_dtype(kind)
        torch.set_default_device(device)
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])
    assert len(made.sites) == 1 and model.training
