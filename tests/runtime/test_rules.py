"""A new optimizer is one rule of pure functions and a thin class, and is equivariant like the shipped ones."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gaugec.runtime import DDCSGD
from gaugec.runtime.optimizer import GaugeOptimizer
from gaugec.runtime.rules.rule import Averaging, Direction, Number, Settings, State, UpdateRule
from runtime import handmade
from runtime.test_equivariance import build, train


def numbers(group: Settings, step: int) -> Sequence[float]:
    return group["lr"], group["momentum"]


def update(
    gradient: Tensor, state: State, numbers: Sequence[Number], squares: Averaging, room: Tensor | None = None
) -> Direction:
    lr, momentum = numbers
    state["momentum"].mul_(momentum).add_(gradient)
    return Direction(-lr, state["momentum"])


def plain(params: Sequence[Tensor], gradients: Sequence[Tensor], states: Sequence[State], group: Settings) -> None:
    for p, gradient, state in zip(params, gradients, states):
        state["step"].add_(1)
        p.add_(state["momentum"].mul_(group["momentum"]).add_(gradient), alpha=-group["lr"])


class Heavy(GaugeOptimizer):
    """Gradient descent with momentum."""

    rule = UpdateRule({"momentum": False}, numbers, update, plain)

    def __init__(self, named_parameters: Any, gauge: Any, lr: float, momentum: float, orbit: str = "pinned") -> None:
        super().__init__(named_parameters, gauge, {"lr": lr, "momentum": momentum}, 3, True, False, orbit=orbit)


MAKES: dict[str, Callable[[nn.Module, Any, str], GaugeOptimizer]] = {
    "of a test": lambda model, gauge, orbit: Heavy(model.named_parameters(), gauge, 1e-2, 0.9, orbit=orbit),
    "SGD": lambda model, gauge, orbit: DDCSGD(model.named_parameters(), gauge, 1e-2, weight_decay=0.1, orbit=orbit),
    "Nesterov": lambda model, gauge, orbit: DDCSGD(
        model.named_parameters(), gauge, 1e-2, nesterov=True, frame_every=7, orbit=orbit
    ),
}


@pytest.mark.parametrize("case", ["llama", "mlp"])
@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("orbit", ["pinned", "horizontal"])
def test_two_runs_of_another_rule_stay_copies(case: str, make: str, orbit: str) -> None:
    model, gauge, data = build(case)
    element = gauge.random_element(torch.Generator().manual_seed(1))
    other, start = handmade.moved(model, gauge, element), copy.deepcopy(model)
    ours = [train(each, MAKES[make](each, gauge, orbit), data, 20) for each in (model, other)]
    assert ((ours[0] - ours[1]).abs() / ours[0].abs()).max() < 1e-12
    assert any(not torch.equal(p, q) for p, q in zip(model.parameters(), start.parameters()))
    end = gauge.act(dict(model.named_parameters()), element)
    for name, p in other.named_parameters():
        assert torch.allclose(end[name], p.detach(), rtol=1e-9, atol=1e-10), name


def test_its_state_is_saved_and_taken_over() -> None:
    model, gauge, data = build("mlp")
    whole, half = copy.deepcopy(model), copy.deepcopy(model)
    losses = train(whole, Heavy(whole.named_parameters(), gauge, 1e-2, 0.9), data, 6)
    first = Heavy(half.named_parameters(), gauge, 1e-2, 0.9)
    start = train(half, first, data, 3)
    second = Heavy(half.named_parameters(), gauge, 1e-2, 0.9)
    second.load_state_dict(first.state_dict())
    rest = train(half, second, lambda step: data(step + 3), 3)
    assert torch.equal(torch.cat([start, rest]), losses)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_torchs_where_no_gauge_moves(nesterov: bool) -> None:
    model, gauge, data = build("llama")
    other = copy.deepcopy(model)
    ours = DDCSGD(model.named_parameters(), gauge, 1e-2, nesterov=nesterov)
    theirs = torch.optim.SGD(other.parameters(), 1e-2, momentum=0.9, nesterov=nesterov)
    for seed in range(4):
        for p, q in zip(model.parameters(), other.parameters()):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(seed), dtype=p.dtype)
            q.grad = p.grad.clone()
        ours.step()
        theirs.step()
    assert torch.allclose(model.embed.weight, other.embed.weight, rtol=1e-14, atol=1e-15)
    with pytest.raises(
        ValueError,
        match=r"^momentum is 1\.0: it should be a number in \[0, 1\)$",
    ):
        DDCSGD(model.named_parameters(), gauge, 1e-2, momentum=1.0)
