"""Pinned orbits: what a pin does to the parameters, to the function, to the state, and what it leaves alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gaugec.runtime import DDCAdamW, Gauge
from gaugec.runtime.batch import Batch
from gaugec.runtime.pin import means, pin
from runtime import handmade
from runtime.test_equivariance import build, groups, train


def scales(gauge: Gauge, model: nn.Module) -> dict[tuple[str, str], Tensor]:
    """The frame of every place, gauge by gauge, in float64."""
    params = {name: p.detach().double() for name, p in model.named_parameters()}
    out = {}
    for key, component, names in gauge.places():
        frame = component.frame({slot: params[name][None] for slot, name in zip(component.shapes, names)})
        out.update({(key, name): scale for name, scale in frame.scales.items()})
    return out


def apart(one: dict[Any, Tensor], two: dict[Any, Tensor]) -> float:
    return max(float((one[key] / two[key] - 1).abs().max()) for key in one)


@pytest.mark.parametrize("case", ["llama", "gemma gains", "mlp"])
def test_scales_and_means_are_where_they_began(case: str) -> None:
    """After 60 steps and a pin; without the pin they are not."""
    model, gauge, data = build(case)
    began = scales(gauge, model)
    optimizer = DDCAdamW(groups(model), gauge, weight_decay=0.1, frame_every=20)
    homes: list[dict[str, Tensor]] = []
    train(model, optimizer, data, 60)
    assert apart(began, scales(gauge, model)) > 1e-4
    for batch in optimizer.batches:
        homes.append(dict(batch.homes or {}))
        pin(batch)
    assert apart(began, scales(gauge, model)) < 1e-13
    for batch, home in zip(optimizer.batches, homes):
        for name, here in means(batch).items():
            assert torch.allclose(here, home[name], rtol=0, atol=1e-15)


@pytest.mark.parametrize("case", ["llama", "gemma gains", "mlp"])
def test_the_function_does_not_see_a_pin_and_the_state_stays(case: str) -> None:
    model, gauge, data = build(case)
    optimizer = DDCAdamW(groups(model), gauge, lr=1e-2, weight_decay=0.1)
    train(model, optimizer, data, 8)
    before, state = model(*data(0)).detach(), copy.deepcopy(optimizer.state_dict()["state"])
    params = [p.detach().clone() for p in model.parameters()]
    for batch in optimizer.batches:
        pin(batch)
    assert abs(model(*data(0)).detach() - before) < 1e-14 * before
    assert any(not torch.equal(p, q) for p, q in zip(model.parameters(), params))
    after = optimizer.state_dict()["state"]
    for i, entries in state.items():
        assert all(torch.equal(x, after[i][name]) for name, x in entries.items() if name != "gauge")


def test_any_interval_is_one_path_to_second_order() -> None:
    losses = []
    for every in (1, 7, 1000):
        model, gauge, data = build("llama")
        losses.append(train(model, DDCAdamW(model.named_parameters(), gauge, lr=1e-3, frame_every=every), data, 30))
    assert 0 < (losses[0] - losses[2]).abs().max() < 1e-3
    assert (losses[0] - losses[1]).abs().max() < 1e-3


def test_what_decays_goes_to_the_mean_that_it_began_with() -> None:
    """Logits that are all shifted: decay leaves the shift, and takes from what is beside it."""
    model, gauge, _ = build("llama")
    with torch.no_grad():
        model.head.weight += 3.0
    mean = model.head.weight.detach().mean(0)
    optimizer = DDCAdamW(model.named_parameters(), gauge, lr=1e-2, weight_decay=0.5, frame_every=1000)
    spread = (model.head.weight.detach() - mean).norm()
    for _ in range(10):
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
    assert torch.allclose(model.head.weight.mean(0), mean, rtol=1e-12)
    assert float((model.head.weight.detach() - mean).norm() / spread) == pytest.approx((1 - 5e-3) ** 10, rel=1e-12)


def test_half_precision_is_pinned_by_powers_of_two() -> None:
    """A factor that is near 1 is left, for it would round away; one that is not is undone to the bit."""
    model, gauge, _ = build("mlp")
    model = model.bfloat16()
    optimizer = DDCAdamW(model.named_parameters(), gauge, lr=0.0, weight_decay=0.0, frame_every=1)

    def step() -> None:
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()

    step()
    start = [p.detach().clone() for p in model.parameters()]
    (batch,) = optimizer.batches
    for factor, back in ((4.0, True), (1.25, False)):
        element = {
            key: {name: torch.full_like(x, factor) for name, x in each.items()}
            for key, each in gauge.identity().items()
        }
        away = gauge.act(dict(model.named_parameters()), element)
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.copy_(away.get(name, p))
        moved = [p.detach().clone() for p in model.parameters()]
        step()
        assert all(torch.equal(p, q) for p, q in zip(model.parameters(), start if back else moved))
    assert isinstance(batch, Batch)


def test_another_orbit_is_refused() -> None:
    model, gauge, _ = build("mlp")
    with pytest.raises(ValueError, match=r"^orbit is one of 'pinned', 'horizontal', not 'fixed'$"):
        DDCAdamW(model.named_parameters(), gauge, orbit="fixed")


def test_a_state_goes_from_one_kind_of_orbit_to_the_other() -> None:
    """The homes of shifts are those where it begins to be pinned."""
    model, gauge, data = build("llama")
    first = DDCAdamW(model.named_parameters(), gauge, orbit="horizontal")
    train(model, first, data, 3)
    second = DDCAdamW(model.named_parameters(), gauge)
    second.load_state_dict(first.state_dict())
    train(model, second, data, 1)
    assert {batch.step for batch in second.batches} == {4}
    assert handmade.Shape.vocab and any(batch.homes for batch in second.batches)
