"""A gradient may be cut at a value that the gauge keeps; at one that moves it may not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from match.models import BATCH, OUT, UNITS, WIDTH, Net, audit, counts, mlp
from match.training import apart, loss_of
from thinned import thinned
from torch import Tensor, nn

import gaugec
from gaugec.tracing.export import exported

pytestmark = pytest.mark.usefixtures("double")
After = Callable[[Any, Tensor, Tensor], Any]


def x() -> Tensor:
    return torch.randn(BATCH, WIDTH, generator=torch.Generator().manual_seed(7))


def without(f: Callable[..., Any]) -> Callable[..., Any]:
    """The same function in a region without gradients."""

    def run(*values: Any) -> Any:
        with torch.no_grad():
            return f(*values)

    return run


def averaged(m: Any, y: Tensor, h: Tensor) -> Tensor:
    """Minus a running mean that is kept in a buffer."""
    with torch.no_grad():
        m.mean.mul_(0.9).add_(y.mean(0), alpha=0.1)
    return y - m.mean


def own_memory(m: Any, y: Tensor, h: Tensor) -> Tensor:
    """What was made in the region may be written there."""
    with torch.no_grad():
        size = y.abs()
        size.add_(1)
    return y / size


def between(m: Any, y: Tensor, h: Tensor) -> Tensor:
    """Gradients are on for a while inside of a region without them."""
    with torch.no_grad():
        size = y.square().mean()
        with torch.enable_grad():
            z = (y * size).tanh()
    return z * size


KEPT: dict[str, After] = {
    "a root mean square": lambda m, y, h: y / y.square().mean(-1, keepdim=True).sqrt().detach(),
    "a target": lambda m, y, h: (y, (y.tanh() - y.detach().sigmoid()).square().mean()),
    "straight through a rounding": lambda m, y, h: y + (y.round() - y).detach(),
    "a statistic in a region": lambda m, y, h: y / without(lambda y: y.square().mean())(y),
    "a running mean": averaged,
    "memory of the region": own_memory,
    "gradients on in between": between,
    "under autocast": lambda m, y, h: y * _cast(y).detach(),
}


def _cast(y: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return y.tanh()


@pytest.mark.parametrize("name", thinned(KEPT, 2))
def test_a_cut_at_what_is_kept(name: str, spec: str) -> None:
    model = mlp(after=KEPT[name], mean=torch.zeros(OUT))
    compiled = audit(spec, model, (x(),))
    assert counts(compiled) == {"relu_rescale": 1}
    assert apart(compiled, model, x()) <= 1e-10


@pytest.mark.parametrize("name", thinned(KEPT, 2))
def test_nothing_of_a_cut_is_lost_on_the_way(name: str) -> None:
    """The traced program has the gradient that the model has."""
    model = mlp(after=KEPT[name], mean=torch.zeros(OUT))
    program = exported(model, (x(),), {}).module()
    found = []
    for each in (copy.deepcopy(model), program):
        found.append(torch.autograd.grad(loss_of(each(x())), list(each.parameters())))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two)


CUT = "the gradient of the moved value is cut (a detach, or a region without gradients) at aten.detach"
MOVED: dict[str, After | Callable[..., Any]] = {
    "detach": lambda m, h: h.detach(),
    "a norm": lambda m, h: h / h.square().sum(-1, keepdim=True).sqrt().detach(),
    "a gate": lambda m, h: h * (h * h).detach(),
    "each by its size": lambda m, h: h / (h.detach() + 1),
    "a region": lambda m, h: h * without(lambda h: h.tanh())(h),
    "all of it": lambda m, h: without(lambda h: h * 2)(h),
    "a weight": lambda m, h: h * m.up.weight.detach().square().sum(),
}


@pytest.mark.parametrize("name", thinned(MOVED, 2))
def test_a_cut_at_what_moves(name: str) -> None:
    with pytest.raises(gaugec.MatchError) as caught:
        gaugec.compile("relu_mlp", mlp(MOVED[name]), (x(),))
    assert "relu_rescale finds no site" in caught.value.message
    if name in ("detach", "a weight", "each by its size"):
        assert CUT in str(caught.value), str(caught.value)
        assert "which has none, is the same at g θ and at θ" in str(caught.value)


def test_a_cut_at_half_of_the_units_leaves_the_others_free(spec: str) -> None:
    model, given = mlp(lambda m, h: torch.cat([h[:, :7].detach(), h[:, 7:]], -1)), x()
    compiled = audit(spec, model, (given,))
    (site,) = compiled.sites
    assert (site.gauge, site.size, site.verdict) == ("relu_rescale", UNITS - 7, "proved")
    assert {(b.parameter, b.offset) for b in site.bindings if b.parameter != "down.weight"} == {
        ("up.weight", 7 * WIDTH), ("up.bias", 7),
    }  # fmt: skip
    assert apart(compiled, model, given) <= 1e-10


def test_a_mean_of_what_moves_is_no_buffer(spec: str) -> None:
    def run(m: Any, y: Tensor, h: Tensor) -> Tensor:
        with torch.no_grad():
            m.mean.mul_(0.9).add_(h.mean(0), alpha=0.1)
        return y

    compiled = audit(spec, mlp(after=run, mean=torch.zeros(UNITS)), (x(),))
    assert not compiled.sites
    assert any("the gradient of the moved value is cut" in r.reason for r in compiled.refusals)


def written(m: Any, y: Tensor, h: Tensor) -> Tensor:
    with torch.no_grad():
        y.mul_(2)
    return y


def written_in_part(m: Any, y: Tensor, h: Tensor) -> Tensor:
    with torch.no_grad():
        y[:, :2].zero_()
    return y


def written_before(m: Any, y: Tensor, h: Tensor) -> Tensor:
    kept = torch.zeros_like(y)
    kept[:, :2] += y[:, :2]
    with torch.no_grad():
        kept.mul_(2)
    return kept


def in_place(m: Any, y: Tensor, h: Tensor) -> Tensor:
    y.detach_()
    return y * h.sum()


def a_number(m: Any, y: Tensor, h: Tensor) -> Tensor:
    return y * y.sum().item()


def cast_within(m: Any, y: Tensor, h: Tensor) -> Tensor:
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        size = h * 2
    return y * size.sum()


WRITTEN = "a value that depends on a parameter is written in a region without gradients, at "
HIDDEN: dict[str, tuple[After, str]] = {
    "a value": (written, WRITTEN),
    "a part of it": (written_in_part, WRITTEN),
    "memory with a gradient": (written_before, WRITTEN),
    "in place": (in_place, "the gradient is cut at detach_ (aten.detach_.default), which depends on a parameter"),
    "a number": (a_number, "the gradient is cut at item (aten.item.default), which depends on a parameter"),
    "what cannot be opened": (cast_within, "the gradient is cut at mul (wrap_with_set_grad_enabled), which depends"),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_a_cut_that_no_graph_shows(name: str, spec: str) -> None:
    after, said = HIDDEN[name]
    with pytest.raises(gaugec.MatchError) as caught:
        gaugec.compile(spec, mlp(after=after), (x(),))
    assert said in caught.value.message


def test_a_cut_where_there_is_no_gradient_is_none(spec: str) -> None:
    """Tables of a rotary embedding are often made in a region without gradients: they are read as they are."""

    def run(m: Any, x: Tensor) -> Tensor:
        angle = without(lambda x: x.cumsum(-1))(x)
        q, k = m.q(x), m.k(x)
        q, k = (torch.cat([z * angle.cos(), z * angle.sin()], -1) for z in (q, k))
        return (q @ k.transpose(-1, -2)).softmax(-1) @ x.detach()

    model = Net(run, q=nn.Linear(5, 5, bias=False), k=nn.Linear(5, 5, bias=False))
    gaugec.compile(spec, model, (torch.randn(3, 6, 5),))
