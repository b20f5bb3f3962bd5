"""Gains and gates behind linear maps: where two factors that meet element by element may both move."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from match.models import Net, audit, counts, spec_file
from match.training import apart
from thinned import thinned
from torch import Tensor, nn
from torch.nn import functional as F

import gaugec

pytestmark = pytest.mark.usefixtures("double")

WIDTH, UNITS = 5, 7


@pytest.fixture(scope="module")
def gates(tmp_path_factory: pytest.TempPathFactory) -> str:
    text = 'architecture both:\n    "Both, where they hold."\n    use layer_scale, gate_scale from gates optional\n'
    return spec_file(tmp_path_factory.mktemp("gates"), text, "both")


def gain(*shape: int) -> nn.Parameter:
    return nn.Parameter(1 + 0.3 * torch.randn(*shape, dtype=torch.float64))


def block(run: Callable[..., Any], **parts: Any) -> Net:
    """A block of two linear maps, a and b, and a gain g of the outer one's outputs."""
    own: dict[str, Any] = {"a": nn.Linear(WIDTH, UNITS), "b": nn.Linear(UNITS, WIDTH), "g": gain(WIDTH)}
    return Net(run, **{**own, **parts})


def inner(m: Any, x: Tensor) -> Tensor:
    return torch.tanh(m.a(x))


def adaptive(m: Any, x: Tensor) -> Tensor:
    """Shift, scale and gate of a block from what it is conditioned on."""
    shift, scale, gate = m.condition(F.silu(x.mean(-2, keepdim=True))).chunk(3, -1)
    return x + gate * m.b(inner(m, x * (1 + scale) + shift))


def channels(m: Any, x: Tensor) -> Tensor:
    h = m.mix(x).permute(0, 2, 3, 1)
    return x + m.g.view(1, -1, 1, 1) * m.b(inner(m, h)).permute(0, 3, 1, 2)


def halves(m: Any, x: Tensor) -> Any:
    one, two = m.a(x).chunk(2, -1)
    return m.b(one * two)


X = (3, 4, WIDTH)
SOUND: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "a gain": (lambda: block(lambda m, x: x + m.g * m.b(inner(m, x))), X, "layer_scale"),
    "without a bias": (
        lambda: block(lambda m, x: x + m.g * m.b(inner(m, x)), b=nn.Linear(UNITS, WIDTH, bias=False)), X, "layer_scale"
    ),
    "a gain stored as its distance from one": (
        lambda: block(lambda m, x: x + (1 + m.g) * m.b(inner(m, x))), X, "layer_scale"
    ),
    "behind dropout": (lambda: block(lambda m, x: x + m.g * F.dropout(m.b(inner(m, x)), 0.2)), X, "layer_scale"),
    "channels of an image": (
        lambda: block(channels, mix=nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)), (2, WIDTH, 4, 4),
        "layer_scale",
    ),
    "an adaptive gate": (lambda: block(adaptive, condition=nn.Linear(WIDTH, 3 * WIDTH)), X, "gate_scale"),
    "a bilinear unit": (
        lambda: block(lambda m, x: m.b(m.a(x) * m.z(x)), z=nn.Linear(WIDTH, UNITS)), X, "gate_scale"
    ),
    "two parts of one weight": (lambda: block(halves, a=nn.Linear(WIDTH, 2 * UNITS)), X, "gate_scale"),
}  # fmt: skip


@pytest.mark.parametrize("name", thinned(SOUND, 2))
def test_both_factors_move(name: str, gates: str) -> None:
    make, shape, gauge = SOUND[name]
    model, x = make(), torch.randn(*shape)
    compiled = audit(gates, model, (x,))
    assert counts(compiled) == {gauge: 1}
    assert {b.move.exponent for b in compiled.sites[0].bindings} == {1, -1}
    assert apart(compiled, model, x) <= 1e-12


NEAR: dict[str, tuple[Callable[..., Any], dict[str, Any], str]] = {
    "a function between": (
        lambda m, x: x + m.g * torch.tanh(m.b(inner(m, x))),
        {},
        "tanh has no law that lets a positive scale through",
    ),
    "the gain of the sum": (
        lambda m, x: m.g * (x + m.b(inner(m, x))),
        {},
        "a value that does not move is added to one that does",
    ),
    "one gain for all": (
        lambda m, x: x + m.g * m.b(inner(m, x)),
        {"g": gain(1)},
        "a value that does not move is added to one that does",
    ),
    "a gain used twice": (
        lambda m, x: x * m.g + m.g * m.b(inner(m, x)),
        {},
        "another value is added to the moved one at aten.add, where the formula has no such step",
    ),
    "a gate that saturates": (
        lambda m, x: m.b(m.a(x) * torch.sigmoid(m.z(x))),
        {"z": nn.Linear(WIDTH, UNITS, dtype=torch.float64)},
        "sigmoid has no law that lets a positive scale through",
    ),
    "a gate from what it gates": (
        lambda m, x: (lambda h: m.b(h * m.z(h)))(m.a(x)),
        {"z": nn.Linear(UNITS, UNITS, dtype=torch.float64)},
        "the moved axis is contracted at aten.linear, where the formula has no such step",
    ),
    "the square of one map": (
        lambda m, x: m.b(m.a(x) * m.a(x)),
        {},
        "moved values are multiplied together at aten.mul, where the formula has no such step",
    ),
}


@pytest.mark.parametrize("name", NEAR)
def test_what_is_near_is_refused(name: str, gates: str) -> None:
    run, parts, reason = NEAR[name]
    compiled = gaugec.compile(gates, block(run, **parts), (torch.randn(*X),))
    assert counts(compiled) == {}
    assert reason in {r.reason for r in compiled.refusals}


def test_a_required_gauge_says_what_it_met(tmp_path: Path) -> None:
    spec = spec_file(tmp_path, 'architecture one:\n    "a"\n    use layer_scale from gates\n', "one")
    with pytest.raises(gaugec.MatchError, match="layer_scale finds no site"):
        gaugec.compile(spec, block(NEAR["a function between"][0]), (torch.randn(*X),))
