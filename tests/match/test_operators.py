"""Operators that a spec defines meet a model however the model spells them; what is near them is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from match.models import BATCH, UNITS, WIDTH, Net, audit, counts, mlp, spec_file
from seeds import set_seed
from thinned import thinned
from torch import Tensor, nn
from torch.nn import functional as F
from unit_scale import unit_scale

import gaugec
from gaugec.runtime import DDCAdamW
from gaugec.runtime.telemetry import vertical_part

pytestmark = pytest.mark.usefixtures("double")

RELU2 = unit_scale(
    "relu2_rescale", op="relu2(x) = max(x, 0)**2", unit="relu2(x @ W1.T + b1)", read="1/c**2"
)


@pytest.fixture(scope="module")
def relu2(tmp_path_factory: pytest.TempPathFactory) -> str:
    return spec_file(tmp_path_factory.mktemp("ops"), RELU2, "relu2")


def x() -> tuple[Tensor]:
    return (torch.randn(BATCH, WIDTH),)


SPELLINGS = {
    "power": lambda h: torch.relu(h) ** 2,
    "square": lambda h: F.relu(h).square(),
    "times itself": lambda h: h * F.relu(h),
    "a product": lambda h: F.relu(h) * torch.relu(h),
    "clamped": lambda h: h.clamp(min=0).pow(2),
    "in place": lambda h: F.relu(h, inplace=True).square(),
    "absolute": lambda h: ((h + h.abs()) / 2) ** 2,
    "larger of two": lambda h: torch.maximum(h, torch.zeros_like(h)) ** 2,
    "a factor": lambda h: -0.5 * F.relu(h) ** 2,
    "a factor within": lambda h: F.relu(3 * h) * h,
    "dropout": lambda h: F.dropout(F.relu(h).square(), 0.3),
    "views": lambda h: (F.relu(h).view(-1, 2, 7) * h.view(-1, 2, 7)).flatten(1),
}


@pytest.mark.parametrize("name", thinned(SPELLINGS, 2))
def test_spellings_that_mean_the_same(name: str, relu2: str) -> None:
    set_seed(1)
    compiled = audit(relu2, mlp(act=SPELLINGS[name]), x())
    (site,) = compiled.sites
    assert [(b.role, b.parameter, b.move.exponent) for b in site.bindings] == [
        ("W1", "up.weight", 1),
        ("b1", "up.bias", 1),
        ("W2", "down.weight", -2),
    ]
    assert site.verdict == "proved"


NEAR = {
    "a constant in 16 bits": (
        lambda h: h * F.relu(h) + h.exp() * (torch.full((UNITS,), 0.1, dtype=torch.float16) - 0.1),
        "exp has no law that lets a positive scale through",
    ),
    "relu": (torch.relu, "the moved value passes relu at aten.relu, where the formula has no such step"),
    "cube": (lambda h: F.relu(h) ** 3, "the moved value passes max(x, 0)**3 at aten.pow"),
    "square": (lambda h: h.square(), "moved values are multiplied together at aten.square"),
    "leaky": (lambda h: F.leaky_relu(h, 0.1) ** 2, "the moved value passes"),
    "another unit": (lambda h: F.relu(h) * h.roll(1, -1), "moved"),
    "flipped": (lambda h: F.relu(h) * h.flip(-1), "moved"),
    "shifted": (lambda h: F.relu(h + 1) * h, "max(x + 1, 0) * x has no law that lets a positive scale through"),
    "shifted after": (lambda h: (F.relu(h) + 1) * h, "has no law that lets a positive scale through"),
    "silu": (lambda h: F.silu(h) * h, "silu has no law that lets a positive scale through"),
    "a gate": (lambda h: F.relu(h) * h[..., :1], "moved"),
}


@pytest.mark.parametrize("name", thinned(NEAR, 2))
def test_what_is_near_is_refused(name: str, relu2: str) -> None:
    act, reason = NEAR[name]
    with pytest.raises(gaugec.MatchError) as caught:
        gaugec.compile(relu2, mlp(act=act), x())
    assert "relu2_rescale finds no site" in caught.value.message
    if reason == "moved":
        return
    assert reason in str(caught.value), str(caught.value)


def test_an_op_line_is_found_by_what_it_says(tmp_path: Path) -> None:
    """Another name, another spelling, a decimal slope: the same sites."""
    own = RELU2.replace("max(x, 0)**2", "max(x, 0) + 0.01 * (x - max(x, 0))").replace("relu2", "bent")
    own = own.replace("c**2", "c")
    spec = spec_file(tmp_path, own, "bent")
    for act in (lambda h: F.leaky_relu(h, 0.01), lambda h: torch.maximum(h, 0.01 * h)):
        assert counts(audit(spec, mlp(act=act), x())) == {"bent_rescale": 1}
    with pytest.raises(gaugec.MatchError):
        gaugec.compile(spec, mlp(act=lambda h: F.leaky_relu(h, 0.011)), x())


def test_a_built_in_row_is_found_however_it_is_spelled() -> None:
    for act in (lambda h: (h + h.abs()) / 2, lambda h: torch.maximum(h, torch.zeros_like(h)), lambda h: h.clamp_min(0)):
        assert counts(audit("relu_mlp", mlp(act=act), x())) == {"relu_rescale": 1}


def test_a_gate_that_is_spelled_out_is_still_a_gate(tmp_path: Path) -> None:
    """silu(g) = g / (1 + exp(-g)) is a function of the gate, and no second use of a moved value."""

    def run(m: Any, h: Tensor) -> Tensor:
        g = m.gate(h)
        return m.down(g / (1 + torch.exp(-g)) * m.up(h))

    net = Net(run, gate=nn.Linear(WIDTH, UNITS), up=nn.Linear(WIDTH, UNITS), down=nn.Linear(UNITS, 5))
    spec = spec_file(tmp_path, 'architecture a:\n    "a"\n    use swiglu_rescale from mlp\n', "a")
    assert counts(audit(spec, net, x())) == {"swiglu_rescale": 1}


def test_two_copies_train_alike_with_another_power(relu2: str) -> None:
    class Trained(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp(act=lambda h: F.relu(h) * h)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return F.mse_loss(self.net(x), y)

    def data(step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(step)
        return torch.randn(BATCH, WIDTH, generator=generator), torch.randn(BATCH, 9, generator=generator)

    one = Trained()
    compiled = gaugec.compile(relu2, one, data(0))
    element = compiled.random_element(torch.Generator().manual_seed(1))
    two = copy.deepcopy(one)
    moved = compiled.act({n: p.detach() for n, p in one.named_parameters()}, element)
    two.load_state_dict({**two.state_dict(), **moved})
    losses: list[list[float]] = []
    for model in (one, two):
        optimizer = DDCAdamW(model.named_parameters(), compiled, lr=1e-3, weight_decay=0.1, orbit="horizontal")
        losses.append([])
        for step in range(60):
            before = {name: p.detach().clone() for name, p in model.named_parameters()}
            optimizer.zero_grad()
            loss = model(*data(step))
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
        assert vertical_part(optimizer, before) <= 1e-10
    assert max(abs(a - b) / abs(a) for a, b in zip(*losses)) <= 1e-10
    assert losses[0][-1] != losses[0][0]
