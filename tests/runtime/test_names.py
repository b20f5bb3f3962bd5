"""Which names are the same parameter, for everything that looks one up."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from gaugec.runtime import DDCAdamW, Gauge
from gaugec.runtime.names import by_name, plain
from gaugec.runtime.seal import sealed
from runtime import handmade


class Wrapper(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def inside() -> tuple[nn.Module, Gauge, dict[str, Tensor]]:
    """A model, a gauge that was compiled of it in a wrapper, and its parameters moved by the gauge of the model."""
    torch.manual_seed(0)
    model = handmade.MLP().double()
    params = {name: p.detach() for name, p in model.named_parameters()}
    own = handmade.compiled(model, handmade.mlp_sites())
    source = own.source
    for name in params:
        source = source.replace(f'"{name}"', f'"module.{name}"')
    return model, Gauge(sealed(source)), own.act(params, element(own))


def element(gauge: Gauge) -> dict[str, dict[str, Tensor]]:
    return gauge.random_element(torch.Generator().manual_seed(1))


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_a_gauge_of_a_wrapped_model_acts_on_the_model(prefix: str) -> None:
    model, gauge, moved = inside()
    assert all(name.startswith("module.") for name in gauge.parameters)
    out = gauge.act({prefix + name: p.detach() for name, p in model.named_parameters()}, element(gauge))
    assert list(out) == [prefix + name for name in moved]
    assert all(torch.equal(out[prefix + name], value) for name, value in moved.items())
    DDCAdamW([(prefix + name, p) for name, p in model.named_parameters()], gauge)
    DDCAdamW(Wrapper(model).named_parameters(), gauge)


def test_two_parameters_with_one_name_are_refused() -> None:
    model, gauge, _ = inside()
    name = gauge.parameters[0]
    params = {name: p.detach() for name, p in Wrapper(model).named_parameters()} | {plain(name): torch.ones(1)}
    message = rf"^two parameters have the name {plain(name)}, as {name} and as {plain(name)}$"
    with pytest.raises(ValueError, match=message):
        gauge.act(params, element(gauge))
    with pytest.raises(ValueError, match=message):
        by_name(params.items())
    with pytest.raises(KeyError):
        gauge.act({}, element(gauge))


def test_an_element_of_another_gauge_and_parameters_of_another_model_are_refused() -> None:
    model, gauge, _ = inside()
    params = {name: p.detach() for name, p in model.named_parameters()}
    name, (key, _, _) = plain(gauge.parameters[0]), next(gauge.places())
    own = element(gauge)[key]
    first, value = next(iter(own.items()))
    shape = tuple(value.shape)
    wrong = {
        r"^the element has the places 9\.9, which this gauge has not$": (params, {"9.9": {}}),
        rf"^the element has nope at {key}, which moves by {', '.join(own)}$": (params, {key: {"nope": value}}),
        rf"^the element's {first} at {key} has the shape \(3,\), not {re.escape(str(shape))}$": (
            params,
            {key: {first: torch.ones(3)}},
        ),
        rf"^{name} has the shape \(5,\), not ": (params | {name: torch.ones(5)}, {key: own}),
        rf"^{name} has the dtype torch.int64: a gauge moves floating point parameters$": (
            params | {name: torch.ones_like(params[name], dtype=torch.int64)},
            {key: own},
        ),
    }
    for message, (values, foreign) in wrong.items():
        with pytest.raises(ValueError, match=message):
            gauge.act(values, foreign)
