"""Settings and flags of torch optimizers: taken, or refused with their name, their group and what to do."""

from __future__ import annotations

import copy
import math
import re
import typing
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gaugec.runtime import DDCAdamW, Gauge
from runtime import handmade
from runtime.test_habits import mlp

ORBITS = ("pinned", "horizontal")


@pytest.fixture(scope="module")
def compiled() -> Gauge:
    return handmade.compiled(handmade.MLP(), handmade.mlp_sites())


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, sign: float = 1.0) -> None:
    for number in range(steps):
        optimizer.zero_grad()
        (sign * model(*handmade.numbers(number))).backward()
        optimizer.step()


def same(one: nn.Module, two: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters()))


LR = "a finite number, or a tensor with one, that is not negative"
WRONG: list[tuple[str, Any, str]] = [
    ("lr", -1.0, f"-1.0: it should be {LR}"),
    ("lr", math.inf, f"inf: it should be {LR}"),
    ("lr", math.nan, f"nan: it should be {LR}"),
    ("lr", torch.ones(2), f"a tensor of shape (2,): it should be {LR}"),
    ("lr", torch.tensor(-1.0), f"tensor(-1.): it should be {LR}"),
    ("lr", None, f"None: it should be {LR}"),
    ("betas", (0.9, 0.95, 0.999), "(0.9, 0.95, 0.999): it should be two numbers in [0, 1)"),
    ("betas", (0.9, 1.0), "(0.9, 1.0): it should be two numbers in [0, 1)"),
    ("betas", (1.5, 0.9), "(1.5, 0.9): it should be two numbers in [0, 1)"),
    ("betas", 0.9, "0.9: it should be two numbers in [0, 1)"),
    ("eps", 0.0, "0.0: it should be a finite number above 0"),
    ("weight_decay", -0.1, "-0.1: it should be a finite number that is not negative"),
    ("weight_decay", math.inf, "inf: it should be a finite number that is not negative"),
    ("maximize", 1, "1: it should be True or False"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_wrong_settings_are_refused(compiled: Gauge, name: str, value: Any, message: str) -> None:
    """For all parameters, for a group at construction, and for one that is added."""
    pairs = list(mlp().named_parameters())
    with pytest.raises(ValueError, match=f"^{re.escape(f'{name} is {message}')}$"):
        DDCAdamW(pairs, compiled, **{name: value})
    groups: Any = [{"params": pairs[1:]}, {"params": pairs[:1], name: value}]
    with pytest.raises(ValueError, match=f"^{re.escape(f'{name} of group 1 is {message}')}$"):
        DDCAdamW(groups, compiled)
    optimizer = DDCAdamW(pairs, compiled)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{name} of group 1 is {message}')}$"):
        optimizer.add_param_group({"params": [("more", nn.Parameter(torch.ones(1)))], name: value})
    assert len(optimizer.param_groups) == 1


FLAGS = {
    "amsgrad": (False, True, "the largest second moments are not kept; a smaller lr or a larger beta2 does their work"),
    "foreach": (None, True, "leave it out: small tensors are stepped together as it is, wherever they are"),
    "fused": (
        None,
        False,
        "leave it out: torch's fused kernel serves where it can; compile=True fuses all of a step",
    ),
    "capturable": (
        False,
        True,
        "a step counts on the host, and cannot be captured in a graph; compile=True fuses it",
    ),
    "differentiable": (False, True, "a step is not differentiated through; take the loss's own derivatives"),
}


@pytest.mark.parametrize("name", FLAGS)
def test_flags_of_torch_are_taken_at_their_defaults(compiled: Gauge, name: str) -> None:
    default, other, instead = FLAGS[name]
    pairs = list(mlp().named_parameters())
    optimizer = DDCAdamW(pairs, compiled, **{name: default})  # type: ignore[arg-type]
    assert name not in optimizer.param_groups[0]
    groups: Any = [{"params": pairs, name: default}]
    assert name not in DDCAdamW(groups, compiled).param_groups[0]
    message = f"is not supported, only {name}={default}: {instead}"
    with pytest.raises(ValueError, match=f"^{re.escape(f'{name}={other} {message}')}$"):
        DDCAdamW(pairs, compiled, **{name: other})  # type: ignore[arg-type]
    groups = [{"params": pairs, name: other}]
    with pytest.raises(ValueError, match=f"^{re.escape(f'{name}={other} of group 0 {message}')}$"):
        DDCAdamW(groups, compiled)


@pytest.mark.parametrize("orbit", ORBITS)
def test_maximize_descends_the_negative(compiled: Gauge, orbit: str) -> None:
    model = mlp()
    other = copy.deepcopy(model)
    train(model, DDCAdamW(model.named_parameters(), compiled, maximize=True, orbit=orbit), 4, sign=-1.0)
    train(other, DDCAdamW(other.named_parameters(), compiled, orbit=orbit), 4)
    assert same(model, other)
    pairs = list(model.named_parameters())
    groups: Any = [{"params": pairs[:1]}, {"params": pairs[1:], "maximize": True}]
    optimizer = DDCAdamW(groups, compiled, orbit=orbit)
    assert [group["maximize"] for group in optimizer.param_groups] == [False, True]


@pytest.mark.parametrize("orbit", ORBITS)
def test_a_learning_rate_may_be_a_tensor(compiled: Gauge, orbit: str) -> None:
    model = mlp()
    other = copy.deepcopy(model)
    rate = torch.tensor(1e-2, dtype=torch.float64)
    optimizer = DDCAdamW(model.named_parameters(), compiled, lr=rate, orbit=orbit)
    train(model, optimizer, 2)
    rate.fill_(1e-3)
    train(model, optimizer, 2)
    plain = DDCAdamW(other.named_parameters(), compiled, lr=1e-2, orbit=orbit)
    train(other, plain, 2)
    plain.param_groups[0]["lr"] = 1e-3
    train(other, plain, 2)
    assert same(model, other)
    optimizer.load_state_dict(optimizer.state_dict())


def test_what_a_type_checker_sees() -> None:
    hints = typing.get_type_hints(DDCAdamW.__init__)
    assert hints["gauge"] is Gauge
    assert hints["lr"] == float | Tensor
