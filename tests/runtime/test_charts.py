"""Gauges in charts: runs from θ and gθ are copies of each other, and what charts read is held."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gaugec.runtime import DDCAdamW, Gauge
from runtime import handmade
from runtime.handmade_charts import CASES, Network, network, tokens

GAUGES: dict[str, Gauge] = {}


def compiled(case: str) -> Gauge:
    if case not in GAUGES:
        GAUGES[case] = handmade.compiled(network(), CASES[case]())
    return GAUGES[case]


def train(model: Network, optimizer: torch.optim.Optimizer, steps: int, first: int = 0, clip: bool = False) -> Tensor:
    losses = []
    for step in range(first, first + steps):
        optimizer.zero_grad()
        loss = model(tokens(step))
        loss.backward()
        if clip:
            optimizer.clip_grad_norm_(0.1)
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def groups(model: Network) -> list[dict[str, Any]]:
    pairs = list(model.named_parameters())
    return [{"params": pairs[::2], "lr": 1e-2}, {"params": pairs[1::2], "lr": 4e-3}]


def copies(case: str) -> tuple[Network, Network, Gauge]:
    model, gauge = network(), compiled(case)
    return model, handmade.moved(model, gauge, gauge.random_element(torch.Generator().manual_seed(1))), gauge


def gap(one: Tensor, two: Tensor) -> float:
    return float(((one - two).abs() / one.abs()).max().detach())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("orbit", ["pinned", "horizontal"])
def test_two_runs_stay_copies_of_each_other(case: str, orbit: str) -> None:
    pair, losses = copies(case), list[Tensor]()
    gauge = pair[2]
    for model in pair[:2]:
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        optimizer = DDCAdamW(groups(model), gauge, weight_decay=0.1, orbit=orbit)
        losses.append(train(model, optimizer, 100 if case == "all" else 40))
        held = {name for component in gauge.components for place in component.instances
                for slot, name in zip(component.shapes, place) if slot in component.holds}  # fmt: skip
        assert set(optimizer.held) == held and optimizer.inactive == []
        for name, p in model.named_parameters():
            if name in held or orbit == "pinned":  # a key's bias is all vertical
                assert torch.equal(p, before[name]) == (name in held), name
            assert (p in optimizer.state and bool(optimizer.state[p])) == (name not in held), name
    assert gap(*losses) < 1e-12
    assert losses[0][0] - losses[0][-1] > 0.01  # it trains


@pytest.mark.parametrize("case", ["norm bias", "value bias", "reader shift", "stream", "all"])
def test_what_is_moved_is_seen_by_adam(case: str) -> None:
    one, two, _ = copies(case)
    losses = [train(each, torch.optim.AdamW(each.parameters(), lr=1e-2, weight_decay=0.1), 60) for each in (one, two)]
    assert gap(*losses) > 1e-6


@pytest.mark.parametrize("case", CASES)
def test_the_function_does_not_see_an_element(case: str) -> None:
    one, two, _ = copies(case)
    assert gap(one(tokens(0)), two(tokens(0))) < 1e-13
    assert max(float((p - q).detach().abs().max()) for p, q in zip(one.parameters(), two.parameters())) > 0.1
