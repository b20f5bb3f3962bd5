"""Where a step meets the end of numbers: units that die and come back, far scales, large shifts, half precision."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gaugec.runtime import DDCAdamW, Gauge, watch
from runtime import handmade

SIZES = (7, 6, 5)


def mlp(dtype: torch.dtype = torch.float64, sizes: tuple[int, ...] = SIZES) -> tuple[nn.Module, Gauge]:
    torch.manual_seed(0)
    model = handmade.MLP(sizes)
    return model.to(dtype), handmade.compiled(model, handmade.mlp_sites(sizes))


def numbers(model: nn.Module, seed: int) -> tuple[Tensor, Tensor]:
    first, last = model.maps[0].weight, model.maps[-1].weight
    g = torch.Generator().manual_seed(seed)
    return (
        torch.randn(16, first.shape[1], generator=g).to(first.dtype),
        torch.randn(16, last.shape[0], generator=g).to(first.dtype),
    )


def scaled(gauge: Gauge, scale: Callable[[int], float]) -> dict[str, dict[str, Tensor]]:
    """An element with these scales, unit by unit; what is no scale stays."""
    return {
        key: {
            name: torch.tensor([scale(i) for i in range(value.numel())], dtype=torch.float64).view(value.shape)
            for name, value in each.items()
            if gauge.components[int(key.split(".")[0])].by_name[name].framed
        }
        for key, each in gauge.identity().items()
    }


def step(model: nn.Module, optimizer: Any, seed: int, after: Callable[[], None] = lambda: None) -> float:
    optimizer.zero_grad()
    loss = model(*numbers(model, seed))
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        after()
    return float(loss.detach())


def jump(model: nn.Module, before: list[Tensor]) -> float:
    return max(float((p.detach().float() - q.float()).abs().max()) for p, q in zip(model.parameters(), before))


def copies(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


DIED = (
    r"units have lost their canonical form in training \(a norm that has become zero, a head that has become singular, "
    r"or a scale beyond {}\); they keep the scale that they had \(place.gauge: number in parameters\): "
    r"0.0.relu_rescale: {} in {}$"
)


# --- scales that are far from 1


@pytest.mark.parametrize("power", [6, 8, 10, 11])
@pytest.mark.parametrize("frame_every", [1, 4])
def test_far_copies_stay_copies(power: int, frame_every: int) -> None:
    """Scales up to 10^11 in either direction, no clamp: θ and gθ end at copies of each other."""
    model, gauge = mlp(sizes=(7, 6, 4, 5))
    element = scaled(gauge, lambda i: 10.0 ** (power * (-1) ** i))
    other = handmade.moved(model, gauge, element)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizers = [
            DDCAdamW(each.named_parameters(), gauge, lr=1e-2, weight_decay=0.1, frame_every=frame_every)
            for each in (model, other)
        ]
        losses = [[step(each, opt, seed) for seed in range(10)] for each, opt in zip((model, other), optimizers)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    end = gauge.act(dict(model.named_parameters()), element)
    for name, p in other.named_parameters():
        assert torch.allclose(end[name], p.detach(), rtol=1e-6, atol=0), name


def test_a_scale_beyond_all_numbers_is_said_and_held() -> None:
    model, gauge = mlp()
    other = handmade.moved(model, gauge, scaled(gauge, lambda i: 1e14 if i == 2 else 1.0))
    text = (
        "units with a zero norm, heads that are singular, or a scale beyond 1e12, have no canonical form; they are "
        r"stepped as they are \(place.gauge: number in parameters\): 0.0.relu_rescale: 1 in maps.0.weight, "
        "maps.0.bias, maps.1.weight"
    )
    with pytest.warns(UserWarning, match=text):
        optimizer = DDCAdamW(other.named_parameters(), gauge, weight_decay=0.0)
    assert optimizer.inactive == [
        "0.0.relu_rescale: 1 in maps.0.weight, maps.0.bias, maps.1.weight: no canonical form (a zero norm, a head that "
        "is singular, or a scale beyond 1e12)"
    ]
    before = copies(other)
    step(other, optimizer, 0)
    assert jump(other, before) < 1e-2


# --- units that die


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("frame_every", [1, 3])
def test_a_unit_that_is_pruned_does_not_throw_its_partner(dtype: torch.dtype, frame_every: int) -> None:
    model, gauge = mlp(dtype)
    optimizer = DDCAdamW(model.named_parameters(), gauge, lr=1e-3, weight_decay=0.1, frame_every=frame_every)
    for seed in range(3):
        step(model, optimizer, seed)
    with torch.no_grad():
        model.maps[0].weight[2], model.maps[0].bias[2], model.maps[1].weight[:, 4] = 0, 0, 0
    limit = f"{1e4 if dtype == torch.float16 else 1e12:g}".replace("+", r"\+")
    before = copies(model)
    with pytest.warns(UserWarning, match=DIED.format(limit, 2, "maps.0.weight, maps.0.bias, maps.1.weight")):
        step(model, optimizer, 3)
    assert jump(model, before) < 2e-2
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        for seed in range(4, 9):
            step(model, optimizer, seed)
    assert jump(model, before) < 2e-2
    assert all(p.isfinite().all() for p in model.parameters())


def test_a_mask_after_every_step() -> None:
    """Pruned for good: dead at every frame, held, said once, and the others are not touched by it."""
    model, gauge = mlp(torch.float32)

    def prune() -> None:
        model.maps[0].weight[1], model.maps[0].bias[1] = 0, 0

    optimizer = DDCAdamW(model.named_parameters(), gauge, lr=1e-2, frame_every=1)
    step(model, optimizer, 0, prune)
    scale = optimizer.frames["0.0"].scales["relu_rescale"][0, 0, 1].clone()
    with pytest.warns(UserWarning, match=DIED.format(r"1e\+12", 1, "maps.0.weight, maps.0.bias")) as said:
        for seed in range(1, 30):
            before = copies(model)
            step(model, optimizer, seed, prune)
            assert jump(model, before) < 0.05
    assert len(said) == 1
    frame = optimizer.frames["0.0"]
    assert (
        frame.scales["relu_rescale"][0, 0, 1] == scale and frame.live["relu_rescale"][0, 0].tolist().count(False) == 1
    )


def test_the_dead_of_two_copies_are_held_alike() -> None:
    """θ and gθ, a unit of each pruned for some steps and then given back: still copies at the end."""
    model, gauge = mlp()
    element = scaled(gauge, lambda i: 10.0 ** (i - 3))
    other = handmade.moved(model, gauge, element)
    for each in (model, other):
        optimizer = DDCAdamW(each.named_parameters(), gauge, lr=1e-2, weight_decay=0.1, frame_every=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for seed in range(12):

                def prune(each: nn.Module = each, seed: int = seed) -> None:
                    if 3 <= seed < 8:
                        each.maps[0].weight[2], each.maps[0].bias[2] = 0, 0
                    elif seed == 8:
                        each.maps[0].weight[2] = 0.3 if each is model else 0.3 * element["0.0"]["relu_rescale"][0, 0, 2]

                step(each, optimizer, seed, prune)
        assert optimizer.frames["0.0"].live["relu_rescale"].all()
    end = gauge.act(dict(model.named_parameters()), element)
    for name, p in other.named_parameters():
        assert torch.allclose(end[name], p.detach(), rtol=1e-7, atol=1e-12), name


@pytest.mark.parametrize("orbit", ["pinned", "horizontal"])
def test_a_unit_that_is_zero_from_the_start_comes_to_life(orbit: str) -> None:
    model, gauge = mlp()
    with torch.no_grad():
        model.maps[1].weight[:, 3] = 0
    with pytest.warns(UserWarning, match=r"0.0.relu_rescale: 1 in maps.1.weight"):
        optimizer = DDCAdamW(model.named_parameters(), gauge, lr=1e-3, frame_every=1, orbit=orbit)
    losses = []
    for seed in range(20):
        before = copies(model)
        losses.append(step(model, optimizer, 0))
        assert jump(model, before) < 0.05, seed
        assert optimizer.batches[0].live["relu_rescale"].all() == (seed > 0), seed
    assert optimizer.batches[0].live["relu_rescale"].all()
    assert losses[-1] < losses[0]
    other = DDCAdamW(copy.deepcopy(model).named_parameters(), gauge, lr=1e-3)
    other.load_state_dict(optimizer.state_dict())
    assert torch.equal(other.frames["0.0"].scales["relu_rescale"], optimizer.frames["0.0"].scales["relu_rescale"])


# --- what is loaded


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -1.0, 1e300])
def test_scales_that_are_none_are_not_loaded(value: float) -> None:
    model, gauge = mlp()
    optimizer = DDCAdamW(model.named_parameters(), gauge)
    step(model, optimizer, 0)
    state = copy.deepcopy(optimizer.state_dict())
    (place,) = [each["gauge"] for each in state["state"].values() if "gauge" in each]
    place["relu_rescale"]["scale"][0, 1] = value
    before = optimizer.frames["0.0"].scales["relu_rescale"].clone()
    text = "the gauge 0.0.relu_rescale has scales that are no numbers between 1e-12 and 1e\\+12"
    with pytest.raises(ValueError, match=text):
        optimizer.load_state_dict(state)
    assert torch.equal(optimizer.frames["0.0"].scales["relu_rescale"], before)


# --- shifts


def llama(dtype: torch.dtype) -> tuple[nn.Module, Gauge]:
    torch.manual_seed(0)
    model = handmade.Llama()
    return model.to(dtype), handmade.compiled(model, handmade.llama_sites())


@pytest.mark.parametrize(("dtype", "accurate"), [(torch.float64, 1e-5), (torch.float32, 2e-2)])
def test_steps_are_accurate_up_to_the_border_of_shifts(dtype: torch.dtype, accurate: float) -> None:
    """At half the ratio that is allowed the losses agree; at twice it, it is said with the parameter's name."""
    losses = []
    for part in (0.0, 0.5):
        model, gauge = llama(dtype)
        with torch.no_grad():
            weight = model.head.weight
            weight += part * watch.SHIFTS[dtype] * weight.std() * torch.linspace(-1, 1, weight.shape[1]).to(dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            optimizer = DDCAdamW(model.named_parameters(), gauge, lr=1e-2)
            own = []
            for seed in range(8):
                optimizer.zero_grad()
                loss = model(handmade.tokens(seed))
                loss.backward()
                optimizer.step()
                own.append(float(loss.detach()))
        losses.append(own)
    assert losses[0] == pytest.approx(losses[1], rel=accurate)
    with torch.no_grad():
        model.head.weight += 4 * watch.SHIFTS[dtype] * weight.std()
    text = (
        r"shifts are so large beside what they are added to that steps lose digits \(parameter: shift over spread, and "
        rf"the most that its dtype bears\): head.weight: \S+, {watch.SHIFTS[dtype]:g}$"
    )
    with pytest.warns(UserWarning, match=text):
        DDCAdamW(model.named_parameters(), gauge)


def test_a_shift_that_grows_in_training_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "RARELY", 2)
    model, gauge = llama(torch.float32)
    optimizer = DDCAdamW(model.named_parameters(), gauge, frame_every=2, orbit="horizontal")

    def step() -> None:
        optimizer.zero_grad()
        model(handmade.tokens(0)).backward()
        optimizer.step()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step()
        step()
    with torch.no_grad():
        model.head.weight += 4 * watch.SHIFTS[torch.float32] * model.head.weight.std()
    with pytest.warns(UserWarning, match="shifts are so large beside what they are added to"):
        step()
