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


def small() -> tuple[nn.Module, Gauge]:
    torch.manual_seed(0)
    model = handmade.MLP().double()
    return model, handmade.compiled(model, handmade.mlp_sites())


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in model.named_parameters()}


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
    params = {name: p.detach() for name, p in Wrapper(model).named_parameters()} | {f"_orig_mod.{name}": torch.ones(1)}
    message = rf"^two parameters have the name {name}, as {name} and as _orig_mod\.{name}$"
    with pytest.raises(ValueError, match=message):
        gauge.act(params, element(gauge))
    with pytest.raises(ValueError, match=message):
        by_name(params.items(), gauge.parameters)
    with pytest.raises(KeyError):
        gauge.act({}, element(gauge))


@pytest.mark.parametrize(
    "wrapped",
    [
        "_fsdp_wrapped_module.{}",
        "_fsdp_wrapped_module._checkpoint_wrapped_module.{}",
        "module._orig_mod.{}",
        "model.{}",
        "model._orig_mod.{}",
        "module.model.{}",
    ],
)
def test_prefixes_of_wrappers(wrapped: str) -> None:
    model, gauge = small()
    out = gauge.act({wrapped.format(name): p.detach() for name, p in model.named_parameters()}, element(gauge))
    assert all(torch.equal(out[wrapped.format(n)], x) for n, x in gauge.act(values(model), element(gauge)).items())
    optimizer = DDCAdamW([(wrapped.format(name), p) for name, p in model.named_parameters()], gauge)
    assert list(optimizer.named) == [name for name, _ in model.named_parameters()]


def test_wrappers_inside_a_model() -> None:
    model, gauge = small()
    inside = "maps.1._checkpoint_wrapped_module."
    DDCAdamW([(name.replace("maps.1.", inside), p) for name, p in model.named_parameters()], gauge)


def test_a_models_own_parts_stay() -> None:
    """`module.` and `model.` are taken away only where they are a wrapper's; the gauge's names tell."""
    known = ["a.weight", "module.a.weight"]
    assert list(by_name([("a.weight", 0), ("module.a.weight", 1)], known)) == known
    assert list(by_name([("module.a.weight", 0), ("module.module.a.weight", 1)], known)) == known
    assert list(by_name([("a.weight", 0), ("module.b", 1)], ["a.weight"])) == ["a.weight", "module.b"]
    assert list(by_name([("model.a", 0), ("head", 1)], ["model.a"])) == ["model.a", "head"]
    assert list(by_name([("model.a", 0), ("model.b", 1)], ["a", "b", "c"])) == ["model.a", "model.b"]
    with pytest.raises(
        ValueError,
        match=r"^every name begins with module\., and the gauge's names are there with it and without it: whether it "
        r"is a wrapper's cannot be told\. Give the parameters of the model without the wrapper$",
    ):
        by_name([("module.a", 0), ("module.module.a", 1)], ["module.a"])


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
