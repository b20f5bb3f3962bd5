"""Clipping by a norm that no gauge changes, and by the plain one, which gauges do."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gaugec.runtime import DDCAdamW, Gauge
from runtime import handmade
from runtime.test_equivariance import build

ORBITS = ("pinned", "horizontal")


def copies(case: str) -> tuple[Gauge, Any, list[nn.Module]]:
    model, gauge, data = build(case)
    return gauge, data, [model, handmade.moved(model, gauge, gauge.random_element(torch.Generator().manual_seed(1)))]


def slopes(model: nn.Module, data: Any, number: int) -> Tensor:
    model.zero_grad()
    loss: Tensor = model(*data(number))
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("case", ["llama", "gemma gains", "mlp"])
@pytest.mark.parametrize("orbit", ORBITS)
def test_the_norm_of_gradients_is_one_of_the_function(case: str, orbit: str) -> None:
    """Equal for gauge copies, before the first step and after some; it is the plain one where frames are those of 1."""
    gauge, data, models = copies(case)
    norms, plain = [], []
    for model in models:
        optimizer = DDCAdamW(model.named_parameters(), gauge, lr=1e-2, frame_every=2, orbit=orbit)
        mine = []
        for number in range(4):
            slopes(model, data, number)
            before = [p.grad.clone() for p in model.parameters() if p.grad is not None]
            plain.append(torch.nn.utils.get_total_norm(before))
            mine.append(optimizer.clip_grad_norm_(1e9))
            after = [p.grad for p in model.parameters() if p.grad is not None]
            assert all(torch.equal(x, y) for x, y in zip(before, after))
            optimizer.step()
        norms.append(torch.stack(mine))
    assert ((norms[0] - norms[1]).abs() / norms[0]).max() < 1e-12
    assert abs(plain[0] / plain[4] - 1) > 1e-2


@pytest.mark.parametrize("orbit", ORBITS)
@pytest.mark.parametrize("own", [True, False])
def test_clipped_runs_stay_copies(orbit: str, own: bool) -> None:
    """By the optimizer's norm they do, by torch's they do not."""
    gauge, data, models = copies("mlp")
    losses = []
    for model in models:
        optimizer = DDCAdamW(model.named_parameters(), gauge, lr=1e-2, weight_decay=0.1, frame_every=3, orbit=orbit)
        run = []
        for number in range(20):
            run.append(slopes(model, data, number))
            if own:
                optimizer.clip_grad_norm_(0.1 + 0.1 * number)
                assert float(optimizer.clip_grad_norm_(1e9)) <= 0.1 + 0.1 * number
            else:
                torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1 + 0.1 * number)
            optimizer.step()
        losses.append(torch.stack(run))
    gap = ((losses[0] - losses[1]).abs() / losses[0]).max()
    assert gap < 1e-12 if own else gap > 1e-6


def test_what_no_gauge_moves_counts_as_it_is() -> None:
    gauge, data, (model, _) = copies("llama")
    optimizer = DDCAdamW(model.named_parameters(), gauge)
    model.embed.weight.grad = torch.full_like(model.embed.weight, 2.0)
    assert float(optimizer.clip_grad_norm_(1.0)) == pytest.approx(2.0 * model.embed.weight.numel() ** 0.5, rel=1e-14)
    assert float(model.embed.weight.grad.norm()) == pytest.approx(1.0, rel=1e-5)
    optimizer.zero_grad()
    assert float(optimizer.clip_grad_norm_(1.0)) == 0.0


def test_norms_that_are_no_numbers() -> None:
    gauge, data, (model, _) = copies("mlp")
    optimizer = DDCAdamW(model.named_parameters(), gauge)
    slopes(model, data, 0)
    model.maps[1].weight.grad[0, 0] = torch.inf
    before = copy.deepcopy([p.grad for p in model.parameters()])
    with pytest.raises(RuntimeError, match=r"^the norm of the gradients is inf: they cannot be clipped$"):
        optimizer.clip_grad_norm_(1.0, error_if_nonfinite=True)
    assert all(torch.equal(x, p.grad) for x, p in zip(before, model.parameters()) if x is not None)
    with pytest.raises(ValueError, match=r"^max_norm is positive, not 0\.0$"):
        optimizer.clip_grad_norm_(0.0)
