"""Parameters that are written as products: pruning masks, weight norms; and masks on what they make."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from match.models import BATCH, UNITS, WIDTH, Attention, audit, counts, found, mlp
from match.training import apart
from torch import Tensor, nn
from torch.nn import utils
from torch.nn.utils import parametrizations, parametrize, prune

import gaugec

pytestmark = pytest.mark.usefixtures("double")


def x() -> Tensor:
    return torch.randn(BATCH, WIDTH, generator=torch.Generator().manual_seed(7))


class Masked(nn.Module):
    """A parametrization: what is trained, times a mask."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def pruned(model: nn.Module, *names: str) -> nn.Module:
    for name in names:
        layer = model.get_submodule(name)
        mask = (torch.rand(layer.weight.shape) > 0.3).double()
        parametrize.register_parametrization(layer, "weight", Masked(mask))
    return model


def test_pruned_weights(spec: str) -> None:
    model = pruned(mlp(), "up", "down")
    compiled = audit(spec, model, (x(),))
    (site,) = found(compiled, "relu_rescale")
    assert set(site) == {
        "up.parametrizations.weight.original", "up.bias", "down.parametrizations.weight.original",
    }  # fmt: skip
    assert counts(compiled) == {"relu_rescale": 1}
    assert apart(compiled, model, x()) <= 1e-10


def test_masked_units(spec: str) -> None:
    model = mlp(lambda m, h: h * m.mask, mask=(torch.arange(UNITS) % 3 > 0).double())
    assert counts(audit(spec, model, (x(),))) == {"relu_rescale": 1}


def test_a_mask_commutes_with_no_rotation(spec: str) -> None:
    """Attention whose values are pruned turns no more; its queries and keys do."""
    inputs = (torch.randn(3, 5, 13),)
    whole = counts(audit(spec, Attention(), inputs))
    model = pruned(Attention(), "says")
    compiled = audit(spec, model, inputs)
    assert whole["value_rotation"] and counts(compiled) == whole - Counter(value_rotation=whole["value_rotation"])
    assert any(
        "it is weighted by values that vary along it" in r.reason and r.gauge == "value_rotation"
        for r in compiled.refusals
    ), [r.explained() for r in compiled.refusals]


@pytest.mark.parametrize("between", [lambda m, h: h * m.up(h[:, :11]), lambda m, h: h * (1 + m.gain)])
def test_a_gate_that_is_trained_is_a_step(between: object, spec: str) -> None:
    """What depends on a parameter is no mask: the formula must have it."""
    model = mlp(between, gain=nn.Parameter(torch.randn(UNITS)))  # type: ignore[arg-type]
    assert not counts(audit(spec, model, (x(),)))["relu_rescale"]


def test_a_weight_norm_moves_by_its_sizes(spec: str) -> None:
    model = mlp()
    model.up = parametrizations.weight_norm(model.up)
    compiled = audit(spec, model, (x(),))
    (site,) = found(compiled, "relu_rescale")
    assert site == {
        "up.parametrizations.weight.original0": (1, UNITS, 1),
        "up.bias": (1, UNITS, 1),
        "down.weight": (1, UNITS, 9),
    }
    assert apart(compiled, model, x()) <= 1e-10


@pytest.mark.parametrize("dim", [1, None])
def test_a_weight_norm_along_another_axis(dim: int | None) -> None:
    model = mlp()
    model.up = parametrizations.weight_norm(model.up, dim=dim)
    with pytest.raises(gaugec.MatchError, match="relu_rescale finds no site"):
        gaugec.compile("relu_mlp", model, (x(),))


def test_a_spectral_norm_is_of_the_whole_weight() -> None:
    model = mlp()
    model.up = parametrizations.spectral_norm(model.up)
    with pytest.raises(gaugec.MatchError, match="relu_rescale finds no site"):
        gaugec.compile("relu_mlp", model, (x(),))


ALONE = "not looked up again: that no loss reads up.weight, which the forward makes of parameters"


@pytest.mark.parametrize("moved", ["weight_orig", "weight_g"])
def test_a_weight_that_a_hook_sets(moved: str) -> None:
    """It stays on the module, where a loss could read it, as it could the parameters: the report says so."""
    model = mlp()
    prune.random_unstructured(model.up, "weight", 0.3) if moved == "weight_orig" else utils.weight_norm(model.up)
    compiled = gaugec.compile("relu_mlp", model, (x(),))
    assert f"up.{moved}" in {b.parameter for site in compiled.sites for b in site.bindings}
    assert ALONE in compiled.report()


def test_an_old_spectral_norm_is_of_the_whole_weight() -> None:
    model = mlp()
    utils.spectral_norm(model.up)
    with pytest.raises(gaugec.MatchError, match="relu_rescale finds no site"):
        gaugec.compile("relu_mlp", model, (x(),))


@pytest.mark.parametrize("kept", ["h", "penalty"])
def test_what_else_stays_on_a_module(kept: str) -> None:
    """Units depend on the input, and nothing in the forward reads a penalty: either is there for a loss."""
    model = mlp()

    def leave(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        units = torch.relu(model.up(inputs[0]))
        module.__dict__[kept] = units if kept == "h" else model.up.weight.abs().sum()

    model.register_forward_pre_hook(leave)
    with pytest.raises(gaugec.MatchError, match="the forward leaves a tensor behind"):
        gaugec.compile("relu_mlp", model, (x(),))
