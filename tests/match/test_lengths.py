"""Lengths of what turns: a norm over the whole axis of a rotation, without a gain, is the same after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from match.models import Attention, Net, audit, counts, rope_halves, same
from match.training import apart
from thinned import thinned
from torch import Tensor, nn
from torch.nn import functional as F

pytestmark = pytest.mark.usefixtures("double")
Way = Callable[[Tensor], Tensor]


def tokens() -> Tensor:
    return torch.randn(3, 5, 13)


def rms(x: Tensor) -> Tensor:
    return F.rms_norm(x, (6,))


def spelled(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


LENGTHS: dict[str, tuple[str, Way, Way, Way]] = {
    "root mean squares": ("qk_rotation", rms, rms, same),
    "root mean squares of rotary queries and keys": (
        "qk_rotation_rope", lambda x: rope_halves(rms(x)), lambda x: rope_halves(spelled(x)), same
    ),
    "unit length, of queries alone": ("qk_rotation", unit, same, same),
    "values of unit length": ("qk_rotation", same, same, unit),
}  # fmt: skip


@pytest.mark.parametrize("name", LENGTHS)
def test_a_norm_without_a_gain(name: str, spec: str) -> None:
    gauge, on_q, on_k, on_v = LENGTHS[name]
    model, x = Attention(on_q=on_q, on_k=on_k, on_v=on_v), tokens()
    compiled = audit(spec, model, (x,))
    assert counts(compiled) == {"value_rotation": 1, gauge: 1}
    assert {(site.verdict, site.copies, site.size) for site in compiled.sites} == {("proved", 2, 6)}
    assert apart(compiled, model, x) < 1e-12


def test_two_towers(spec: str) -> None:
    """Images and texts meet as cosines."""

    def run(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return unit(m.image(x)) @ F.normalize(m.text(y), dim=-1).T

    model = Net(run, image=nn.Linear(7, 4), text=nn.Linear(5, 4, bias=False))
    x, y = torch.randn(3, 7), torch.randn(3, 5)
    compiled = audit(spec, model, (x, y))
    assert counts(compiled) == {"qk_rotation": 1}
    assert apart(compiled, model, x, y) < 1e-12


READS = "the squares of a value that turns are read one by one at"
OTHERS: dict[str, tuple[Way, str]] = {
    "squares that are weighed": (
        lambda x: x * (x * x * torch.arange(1.0, 7)).sum(-1, keepdim=True).rsqrt(), f"{READS} aten.mul"
    ),
    "fourth powers": (lambda x: x * (x * x).square().sum(-1, keepdim=True).rsqrt(), f"{READS} aten.square"),
    "absolute values": (
        lambda x: x / x.abs().sum(-1, keepdim=True), "abs acts on each coordinate by itself at aten.abs"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", thinned(OTHERS, 2))
def test_what_is_no_length(name: str, spec: str) -> None:
    on_q, reason = OTHERS[name]
    compiled = audit(spec, Attention(on_q=on_q, on_k=same), (tokens(),))
    assert counts(compiled) == {"value_rotation": 1}
    said = f"qk_rotation at asks.weight, with keys.weight: {reason}"
    assert said in [str(refused) for refused in compiled.refusals]


ALSO: dict[str, Way] = {
    "less its mean": lambda x: F.layer_norm(x, (6,)),
    "squares with a number added, one by one": lambda x: x * (x * x + 1.0).rsqrt(),
    "lengths along the tokens": lambda x: F.normalize(x, dim=-2),
}


@pytest.mark.parametrize("name", thinned(ALSO, 2))
def test_what_bends_or_mixes(name: str, spec: str) -> None:
    assert counts(audit(spec, Attention(on_q=ALSO[name], on_k=same), (tokens(),))) == {"value_rotation": 1}
