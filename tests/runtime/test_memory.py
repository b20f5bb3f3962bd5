"""What is done to parameters, gradients and state between steps: moved to other memory, laid out otherwise, cast."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gaugec.runtime import DDCSGD, DDCAdamW, DDCMuon, joint, panel, pinned
from gaugec.runtime.optimizer import ORBITS
from runtime.test_equivariance import build
from runtime.test_muon import build as with_roles

Make = Callable[[nn.Module, Any, str], torch.optim.Optimizer]
RULES: dict[str, Make] = {
    "adamw": lambda model, gauge, orbit: DDCAdamW(
        model.named_parameters(), gauge, lr=1e-2, weight_decay=0.1, frame_every=3, orbit=orbit
    ),
    "sgd": lambda model, gauge, orbit: DDCSGD(
        model.named_parameters(), gauge, lr=1e-2, weight_decay=0.1, frame_every=3, orbit=orbit
    ),
    "muon": lambda model, gauge, orbit: DDCMuon(model.named_parameters(), gauge, frame_every=3, orbit=orbit),
}


def turned(x: Tensor) -> Tensor:
    """The same values, columns first."""
    return x.mT.contiguous().mT if x.dim() > 1 else x.clone()


def apart(x: Tensor) -> Tensor:
    """The same values with others between them."""
    out = torch.full((*x.shape, 2), 7.0, dtype=x.dtype)[..., 0]
    return out.copy_(x)


def run(model: nn.Module, optimizer: torch.optim.Optimizer, data: Any, between: Callable[[int], None]) -> list[Tensor]:
    """Seven steps; between: what is done before a step, when gradients are there."""
    for step in range(7):
        optimizer.zero_grad(set_to_none=step % 2 == 0)
        model(*data(step)).backward()
        between(step)
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("orbit", ORBITS)
def test_memory_and_layout_do_not_matter(rule: str, orbit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tensors that are stacked, and for those that are stepped where they are, some rows at a time."""
    model, gauge, data = with_roles("llama")
    for small, tile in ((1 << 15, 1 << 20), (1, 40)):
        for module in (pinned, joint):
            monkeypatch.setattr(module, "SMALL", small)
        monkeypatch.setattr(panel, "TILE_CPU", tile)

        ends = []
        for often in (0, 1):
            here = copy.deepcopy(model)

            def between(step: int, here: nn.Module = here, often: int = often) -> None:
                for number, p in enumerate(here.parameters()):
                    ways = [torch.clone, turned, apart][: 3 * often]
                    p.data = ways[(number + step) % 3](p.data) if ways else p.data
                    p.grad = ways[(2 * number + step) % 3](p.grad) if ways else p.grad

            ends.append(run(here, RULES[rule](here, gauge, orbit), data, between))
        assert all(map(torch.equal, *ends))


def test_graphs_write_to_parameters_wherever_they_are() -> None:
    """Eager steps, of parameters that stay where they are, are the same."""
    model, gauge, data = build("mlp")
    ends = []
    for compile in (False, True):
        here = copy.deepcopy(model)
        ways = {1: torch.clone, 2: turned, 3: apart, 5: torch.Tensor.contiguous} if compile else {}

        def between(step: int, here: nn.Module = here, ways: dict[int, Any] = ways) -> None:
            for p in here.parameters() if step in ways else ():
                p.data = ways[step](p.data)

        ends.append(run(here, DDCAdamW(here.named_parameters(), gauge, compile=compile), data, between))
    assert all(torch.allclose(x, y, rtol=1e-11, atol=1e-13) for x, y in zip(*ends))


@pytest.mark.parametrize("way", [turned, apart])
def test_a_state_may_be_laid_out_in_another_way_than_its_parameter(way: Callable[[Tensor], Tensor]) -> None:
    """Of parameters that no gauge moves: as torch's step has it that is not fused."""
    model, gauge, data = build("llama")
    ends = []
    for usual in (True, False):
        here = copy.deepcopy(model)
        free = [p for name, p in here.named_parameters() if name in ("embed.weight", "head.weight")]

        def between(step: int, free: list[Tensor] = free, usual: bool = usual) -> None:
            for p in free if step == 3 and not usual else ():
                p.data = way(p.data)

        ends.append(run(here, DDCAdamW(here.named_parameters(), gauge), data, between))
    assert all(map(torch.equal, *ends))


@pytest.mark.parametrize("orbit", ORBITS)
def test_a_model_may_be_cast_before_the_first_step(orbit: str) -> None:
    """Whatever became of single layers."""
    model, gauge, data = build("llama")
    ends = []
    for early in (True, False):
        here = copy.deepcopy(model).float()
        optimizer = RULES["adamw"](here, gauge, orbit) if early else None
        here.double()
        here.layers[1].norm1.float()
        here.layers[1].norm1.register_forward_hook(lambda module, given, out: out.double())
        ends.append(run(here, optimizer or RULES["adamw"](here, gauge, orbit), data, lambda step: None))
    assert all(map(torch.equal, *ends))


def test_a_model_that_was_cast_later_is_refused() -> None:
    """And its state goes into a new optimizer."""
    model, gauge, data = build("mlp")
    model.float()
    optimizer = DDCAdamW(model.named_parameters(), gauge)

    def train(optimizer: torch.optim.Optimizer, dtype: torch.dtype) -> float:
        optimizer.zero_grad()
        loss = model(*(x.to(dtype) if x.is_floating_point() else x for x in data(0)))
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    train(optimizer, torch.float32)
    model.double()
    before = [p.detach().clone() for p in model.parameters()]
    name, _ = next(model.named_parameters())
    with pytest.raises(RuntimeError) as error:
        train(optimizer, torch.float64)
    assert str(error.value) == (
        f"{name} is torch.float64 on cpu now, and was torch.float32 on cpu when its state began. Make a new optimizer "
        "of the model as it is now, and load the state_dict() of this one into it"
    )
    assert all(map(torch.equal, before, model.parameters()))
    other = DDCAdamW(model.named_parameters(), gauge)
    other.load_state_dict(optimizer.state_dict())
    assert train(other, torch.float64) > train(other, torch.float64)


def test_an_edit_counts_where_places_come_apart() -> None:
    """One layer has no gradient in the step that follows the edit."""
    model, gauge, data = build("llama")
    ends = []
    for anew in (True, False):
        here = copy.deepcopy(model)
        optimizer = DDCAdamW(here.named_parameters(), gauge)

        def between(step: int, here: nn.Module = here, state: Any = optimizer.state, anew: bool = anew) -> None:
            for name, p in here.named_parameters() if step == 3 else ():
                moment = state[p]["exp_avg"]
                state[p]["exp_avg"] = torch.zeros_like(moment) if anew else moment.zero_()
                if name.startswith("layers.1."):
                    p.grad = None

        ends.append(run(here, optimizer, data, between))
    assert all(map(torch.equal, *ends))


@pytest.mark.parametrize("orbit", ORBITS)
def test_torchs_default_device_does_not_matter(orbit: str) -> None:
    """Numbers that a step counts and reckons with stay on the host."""
    model, gauge, data = build("mlp")
    ends = []
    for device in ("cpu", "meta"):
        here = copy.deepcopy(model)
        with torch.device(device):
            optimizer = RULES["adamw"](here, gauge, orbit)
        for step in range(4):
            optimizer.zero_grad()
            here(*data(step)).backward()
            with torch.device(device):
                optimizer.step()
        with torch.device(device):
            state = optimizer.state_dict()
            optimizer = RULES["adamw"](here, gauge, orbit)
            optimizer.load_state_dict(state)
            optimizer.step()
        ends.append([p.detach() for p in here.parameters()])
    assert all(map(torch.equal, *ends))
