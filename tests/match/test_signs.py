"""What is chosen by a sign: a ReLU however it is spelled, leaky units, counts of what is active."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from match.models import BATCH, UNITS, WIDTH, Net, audit, counts, mlp, spec_file
from match.training import apart
from thinned import thinned
from torch import Tensor, nn
from torch.nn import functional as F
from unit_scale import unit_scale

import gaugec
from gaugec.laws.functions import found, same
from gaugec.laws.pointwise import degree
from gaugec.operators import BY_NAME

pytestmark = pytest.mark.usefixtures("double")
INF = float("inf")


def x() -> Tensor:
    return torch.randn(BATCH, WIDTH, generator=torch.Generator().manual_seed(7))


RELU: dict[str, Callable[[Tensor], Tensor]] = {
    "times a truth value": lambda h: h * (h > 0),
    "times a cast one": lambda h: h * (h >= 0).to(h.dtype),
    "a choice": lambda h: torch.where(h > 0, h, 0),
    "the other choice": lambda h: torch.where(h <= 0, torch.zeros_like(h), h),
    "filled": lambda h: h.masked_fill(~(h > 0), 0.0),
    "hardtanh": lambda h: F.hardtanh(h, 0.0, INF),
    "clamped": lambda h: h.clamp(0.0, INF),
    "the larger": lambda h: torch.max(h, torch.zeros(())),
    "by its sign": lambda h: h * (1 + h.sign()) / 2,
    "under views": lambda h: (h.view(-1, 2, 7) * (h.view(-1, 2, 7) > 0)).flatten(1),
}


@pytest.mark.parametrize("name", thinned(RELU, 2))
def test_a_relu_however_it_is_spelled(name: str) -> None:
    model = mlp(act=RELU[name])
    compiled = audit("relu_mlp", model, (x(),))
    assert counts(compiled) == {"relu_rescale": 1}
    if name in ("times a truth value", "a choice"):
        assert apart(compiled, model, x()) <= 1e-10


NEAR: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "another border": (lambda h: h * (h > 0.1), "x * step(x - 1/10) has no law that lets a positive scale through"),
    "another value": (lambda h: torch.where(h > 0, h, 1), "has no law that lets a positive scale through"),
    "leaky": (lambda h: torch.where(h > 0, h, 0.1 * h), "where the formula has no such step"),
    "another unit's sign": (
        lambda h: h * (h.roll(1, -1) > 0), "multiplied by values that vary along its axis at aten.mul"
    ),
    "truth values added": (lambda h: h * ((h > 0) + (h > -1)), "the constant 1 is added to the moved value"),
    "capped": (lambda h: F.hardtanh(h, 0.0, 6.0), "clamp has no law that lets a positive scale through"),
}


@pytest.mark.parametrize("name", NEAR)
def test_what_is_near_a_relu(name: str) -> None:
    act, said = NEAR[name]
    with pytest.raises(gaugec.MatchError) as caught:
        gaugec.compile("relu_mlp", mlp(act=act), (x(),))
    assert said in str(caught.value), str(caught.value)


def test_what_counts_active_units_is_kept(spec: str) -> None:
    """A sign does not move: what is made of signs may leave the model."""

    def after(m: Any, y: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            active = (h > 0).double().mean()
        return y, active

    model = mlp(after=after)
    compiled = audit(spec, model, (x(),))
    assert counts(compiled) == {"relu_rescale": 1}
    assert apart(compiled, model, x()) <= 1e-10
    data = x()
    two = mlp(after=lambda m, y, h: (y, (m.up(data) > m.up(-data)).double()))
    assert counts(audit(spec, two, (x(),))) == {"relu_rescale": 1}
    assert not audit(spec, mlp(after=lambda m, y, h: (y, (h > 0.1).double().mean())), (x(),)).sites
    assert not audit(spec, mlp(after=lambda m, y, h: (y, (h > y.mean()).double().mean())), (x(),)).sites


def test_the_laws_of_a_step() -> None:
    step = BY_NAME["step"].definition
    assert degree(step) == 0 and degree(BY_NAME["sign"].definition) == 0
    assert degree(("step", ("add", "x", -1))) is None
    assert same(("mul", "x", ("step", "x")), ("max", "x", 0))
    assert not same(step, ("add", 1, ("mul", -1, ("step", ("mul", -1, "x")))))  # they differ at 0
    assert found(step).sentences("step")[0] == "step(c*x) = step(x) for c > 0"
    assert found(BY_NAME["sign"].definition).parity == -1


PRELU = unit_scale(
    "prelu_rescale",
    op="low(x) = x - max(x, 0)",
    given="x[n, d], slope[f]",
    unit="(relu(x @ W1.T + b1) + slope * low(x @ W1.T + b1))",
)
CBRT = unit_scale("cbrt_rescale", op="cbrt(x) = max(x, 0)**(1/3)", unit="cbrt(x @ W1.T + b1)", write="c**3")


class Sloped(nn.Module):
    def __init__(self, slope: Callable[[Any, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.slope, self.units, self.bend = slope, mlp(), nn.PReLU(UNITS)
        with torch.no_grad():
            self.bend.weight.add_(0.1 * torch.randn(UNITS))

    def forward(self, x: Tensor) -> Tensor:
        h = self.units.up(x)
        y: Tensor = self.units.down(F.prelu(h, self.slope(self, x, h)))
        return y


def test_a_prelu(tmp_path: Path) -> None:
    spec = spec_file(tmp_path, PRELU, "prelu")
    model = Sloped(lambda m, x, h: m.bend.weight)
    compiled = audit(spec, model, (x(),))
    assert counts(compiled) == {"prelu_rescale": 1}
    assert apart(compiled, model, x()) <= 1e-10
    assert counts(audit(spec, Sloped(lambda m, x, h: m.bend.weight * x.mean()), (x(),))) == {"prelu_rescale": 1}
    one = spec_file(tmp_path, PRELU.replace("slope[f]", "slope[]"), "one")  # one slope for all units
    assert counts(audit(one, Sloped(lambda m, x, h: m.bend.weight[:1]), (x(),))) == {"prelu_rescale": 1}
    for slope in (lambda m, x, h: m.bend.weight * h.mean(), lambda m, x, h: h[0]):
        with pytest.raises(gaugec.MatchError, match="prelu_rescale finds no site"):
            gaugec.compile(spec, Sloped(slope), (x(),))


def test_a_root_of_a_relu(tmp_path: Path) -> None:
    spec = spec_file(tmp_path, CBRT, "cbrt")
    model = mlp(act=lambda h: torch.relu(h) ** (1 / 3))
    (site,) = audit(spec, model, (x(),)).sites
    assert {b.role: b.move.exponent for b in site.bindings} == {"W1": 3, "b1": 3, "W2": -1}
    for power in (0.33, 0.5):
        with pytest.raises(gaugec.MatchError, match="where the formula has no such step"):
            gaugec.compile(spec, mlp(act=lambda h, p=power: torch.relu(h) ** p), (x(),))


assert Net  # the models are made of it
