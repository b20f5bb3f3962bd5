"""Elements of their own for what has an axis of its own: experts and heads that are stacked in one parameter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from match.training import apart
from torch import Tensor, nn

import gaugec

EXPERTS, UNITS, WIDTH, HEADS = 4, 17, 10, 3


def drawn(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, dtype=torch.float64))


class Experts(nn.Module):
    """Experts in one stack, each with a bias of its own, mixed by a router."""

    def __init__(self, unit: Callable[[Tensor, Tensor], Tensor], each: int = EXPERTS) -> None:
        super().__init__()
        self.up, self.bias, self.gate = drawn(EXPERTS, UNITS, WIDTH), drawn(each, UNITS), drawn(EXPERTS, UNITS, WIDTH)
        self.down, self.unit = drawn(EXPERTS, WIDTH, UNITS), unit

    def forward(self, x: Tensor) -> Tensor:
        h = torch.einsum("bd,efd->bef", x, self.up) + self.bias
        return torch.einsum("bef,edf->bd", self.unit(torch.einsum("bd,efd->bef", x, self.gate), h), self.down)


class Attention(nn.Module):
    """Heads on an axis of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (drawn(HEADS, 7, WIDTH) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (torch.einsum("btd,hkd->bhtk", x, w) for w in (self.q, self.k, self.v))
        return torch.einsum("bhtk,hkd->btd", torch.softmax(q @ k.transpose(-1, -2), -1) @ v, self.o)


def found(model: nn.Module, *shape: int) -> tuple[gaugec.pipeline.compiled.CompiledGauge, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(*shape, WIDTH, dtype=torch.float64)
    return gaugec.compile("auto", model, (x,)), x


@pytest.mark.parametrize(
    ("unit", "gauge"),
    [(lambda g, h: torch.relu(h), "relu_rescale"), (lambda g, h: torch.sigmoid(g) * h, "swiglu_rescale")],
    ids=["relu", "gated"],
)
def test_every_expert_scales_its_units_by_itself(unit: Callable[[Tensor, Tensor], Tensor], gauge: str) -> None:
    model = Experts(unit)
    compiled, x = found(model, 5)
    (site,) = compiled.sites
    assert (site.gauge, site.copies, site.size, site.verdict) == (gauge, EXPERTS, UNITS, "proved")
    assert [b.parameter for b in site.bindings] == ["up", "bias", "down"]
    assert apart(compiled, model, x) < 1e-12


def test_every_head_has_its_own_bases() -> None:
    model = Attention()
    compiled, x = found(model, 5, 6)
    assert [(s.gauge, s.copies, s.size) for s in compiled.sites] == [
        ("value_rotation", HEADS, 7),
        ("qk_rotation", HEADS, 7),
    ]
    assert apart(compiled, model, x) < 1e-12


def test_a_bias_that_experts_share_holds_them_together() -> None:
    compiled, x = found(model := Experts(lambda g, h: torch.relu(h), each=1), 5)
    (site,) = compiled.sites
    assert (site.gauge, site.copies, site.size) == ("relu_rescale", 1, UNITS)
    assert apart(compiled, model, x) < 1e-12


class Chosen(nn.Module):
    """Each token goes through the two experts that a router picks, each with a scale of its own units."""

    def __init__(self, other: int = 0) -> None:
        super().__init__()
        self.up, self.bias = drawn(EXPERTS, UNITS, WIDTH), drawn(EXPERTS, UNITS)
        self.down, self.router, self.other = drawn(EXPERTS, WIDTH, UNITS), drawn(EXPERTS, WIDTH), other

    def forward(self, x: Tensor) -> Tensor:
        weights, picked = torch.softmax(x @ self.router.T, -1).topk(2, -1)
        into = picked.reshape(-1)
        out = (into + self.other) % EXPERTS if self.other else into
        h = torch.bmm(self.up[into], x.repeat_interleave(2, 0)[..., None]).squeeze(-1) + self.bias[into]
        y = torch.bmm(self.down[out], torch.relu(h)[..., None]).squeeze(-1) * weights.reshape(-1, 1)
        return y.view(-1, 2, WIDTH).sum(1)


def test_experts_that_are_looked_up_have_their_own_elements() -> None:
    compiled, x = found(model := Chosen(), 5)
    (site,) = (s for s in compiled.sites if s.gauge == "relu_rescale")
    assert (site.copies, site.size, site.verdict) == (EXPERTS, UNITS, "proved")
    assert [b.parameter for b in site.bindings] == ["up", "bias", "down"]
    assert apart(compiled, model, x) < 1e-12


def test_units_of_one_expert_read_by_another_are_no_site() -> None:
    compiled, _ = found(Chosen(other=1), 5)
    assert not [s for s in compiled.sites if s.gauge == "relu_rescale"]
