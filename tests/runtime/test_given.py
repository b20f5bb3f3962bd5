"""Which parameters an optimizer was given: some, without names, frozen since, on several devices."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import nn

from gaugec.runtime import DDCAdamW, Gauge
from runtime import handmade
from runtime.test_state import llama

ORBITS = ("pinned", "horizontal")


@pytest.fixture(scope="module")
def compiled() -> Gauge:
    torch.manual_seed(0)
    return handmade.compiled(handmade.Llama(), handmade.llama_sites())


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: Iterable[int]) -> None:
    for number in steps:
        optimizer.zero_grad()
        model(handmade.tokens(number)).backward()
        optimizer.step()


def same(one: nn.Module, two: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters()))


# --- parameters that were not given


@pytest.mark.parametrize("orbit", ORBITS)
def test_what_was_not_given_is_frozen(compiled: Gauge, orbit: str) -> None:
    """The usual filter by requires_grad: as if the frozen parameters had been given, in every number."""
    ends = []
    for filtered in (False, True):
        model = llama()
        model.layers[0].o.weight.requires_grad_(False)
        model.layers[1].norm1.weight.requires_grad_(False)
        pairs = [pair for pair in model.named_parameters() if pair[1].requires_grad or not filtered]
        word = "not given" if filtered else "frozen"
        text = (
            "2 gauges are off, they would move parameters that are frozen or were not given: "
            f"0.0.value_rotation: layers.0.o.weight {word}; 0.1.norm_gain: layers.1.norm1.weight {word}"
        )
        with pytest.warns(UserWarning) as said:
            optimizer = DDCAdamW(pairs, compiled, lr=1e-2, frame_every=2, orbit=orbit)
        assert str(said[0].message) == text
        train(model, optimizer, range(3))
        with pytest.warns(UserWarning, match="2 gauges are off"):
            resumed = DDCAdamW(pairs, compiled, lr=1e-2, frame_every=2, orbit=orbit)
        resumed.load_state_dict(optimizer.state_dict())
        train(model, resumed, range(3, 6))
        ends.append(model)
    assert same(*ends)


def test_none_of_the_gauges_parameters_is_an_error(compiled: Gauge) -> None:
    pairs = [(f"net.{name}", p) for name, p in llama().named_parameters() if "layers.0" not in name][:2]
    message = (
        "the gauge moves parameters that the optimizer was not given: layers.0.norm1.weight; layers.0.q.weight; "
        "layers.0.k.weight; layers.0.v.weight; layers.0.o.weight; layers.1.norm1.weight; layers.1.q.weight; "
        "layers.1.k.weight; and 12 more. It was given net.embed.weight; net.layers.1.norm1.weight; was the gauge "
        "compiled of another model?"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        DDCAdamW(pairs, compiled)


def test_places_of_which_nothing_was_given_are_left_alone(compiled: Gauge) -> None:
    model, start = llama(), llama()
    pairs = [(name, p) for name, p in model.named_parameters() if not name.startswith("layers.1.")]
    with pytest.warns(UserWarning, match="gauges are off"):
        optimizer = DDCAdamW(pairs, compiled)
    train(model, optimizer, range(2))
    moved = {n for (n, p), q in zip(model.named_parameters(), start.parameters()) if not torch.equal(p, q)}
    assert moved == {name for name, _ in pairs}
    optimizer.add_param_group({"params": [("layers.1.q.weight", model.layers[1].q.weight)]})  # AdamW's steps, no gauge
    train(model, optimizer, range(2))
    assert not torch.equal(model.layers[1].q.weight, start.layers[1].q.weight)
    assert set(optimizer.state[model.layers[1].q.weight]) == {"step", "exp_avg", "exp_avg_sq"}


@pytest.mark.parametrize("orbit", ORBITS)
@pytest.mark.parametrize("frozen", [True, False])
def test_what_is_frozen_or_unfrozen_later_is_refused(compiled: Gauge, orbit: str, frozen: bool) -> None:
    model = llama()
    weight = model.layers[0].o.weight.requires_grad_(not frozen)
    if frozen:
        with pytest.warns(UserWarning, match="1 gauges are off"):
            optimizer = DDCAdamW(model.named_parameters(), compiled, orbit=orbit)
    else:
        optimizer = DDCAdamW(model.named_parameters(), compiled, orbit=orbit)
    train(model, optimizer, range(1))
    weight.requires_grad_(frozen)
    before = copy.deepcopy(model)
    now, was = ("trained", "frozen") if frozen else ("frozen", "trained")
    message = (
        f"layers.0.o.weight is {now} now, and was {was} when the optimizer was made: which gauges are in force was "
        "decided then. Make a new optimizer"
    )
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        train(model, optimizer, range(1))
    assert same(model, before)


# --- parameters without names


def test_parameters_without_names_get_the_models(compiled: Gauge) -> None:
    """Groups as the Trainer of transformers makes them; or the model itself, which it hands on in their place."""
    model, other, third = llama(), llama(), llama()
    model_gauge = lenient(compiled)
    groups: Any = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    named: Any = [
        {"params": [x for x in other.named_parameters() if x[1].dim() > 1], "weight_decay": 0.1},
        {"params": [x for x in other.named_parameters() if x[1].dim() < 2], "weight_decay": 0.0},
    ]
    train(model, DDCAdamW(groups, model_gauge, model=model), range(3))
    train(other, DDCAdamW(named, compiled), range(3))
    assert same(model, other)
    optimizer = DDCAdamW(third, model_gauge)
    assert list(optimizer.named) == [name for name, _ in third.named_parameters()]
    stranger = nn.Parameter(torch.ones(3))
    with pytest.raises(
        ValueError, match=r"^a parameter of shape \(3,\) has no name, and is none of the model's$"
    ):
        DDCAdamW([*model.parameters(), stranger], model_gauge, model=model)  # type: ignore[list-item]
    message = (
        "a gauge knows parameters by name: pass model.named_parameters(), or groups of (name, parameter), or "
        "model=model"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        DDCAdamW(model.parameters(), compiled)  # type: ignore[arg-type]


def lenient(compiled: Gauge) -> Gauge:
    """The gauge, which was written by hand, as if a compile had assumed nothing."""
    gauge = Gauge(compiled.source)
    gauge.differing = lambda *_, **__: []  # type: ignore[method-assign]
    return gauge


# --- where they are


def test_several_devices_are_refused(compiled: Gauge) -> None:
    pairs = [
        (n, nn.Parameter(torch.empty_like(p, device="meta")) if n == "layers.0.up.weight" else p)
        for n, p in llama().named_parameters()
    ]
    message = (
        r"parameters of place \S+ are on several devices, and step as one: layers\.0\.norm2\.weight on cpu, "
        r"layers\.0\.gate\.weight on cpu, layers\.0\.up\.weight on meta, layers\.0\.down\.weight on cpu"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        DDCAdamW(pairs, compiled)
