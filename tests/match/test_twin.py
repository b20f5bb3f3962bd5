"""A small model, looked at in numbers in place of a large one: when it is a twin, and when it is none."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gaugec


class Signed(torch.autograd.Function):
    """The identity, with another backward."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].sign()


class Layer(nn.Module):
    def __init__(self, width: int, units: int, act: Any = torch.relu, signed: bool = False) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, units), nn.Linear(units, width)
        self.act, self.marks = act, [signed]

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.up(x)
        if self.marks[0] and not torch.compiler.is_compiling():
            hidden = Signed.apply(hidden)
        return x + self.down(self.act(hidden))


class Net(nn.Module):
    def __init__(self, layers: int, width: int, units: int, **more: Any) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(13, width), nn.Linear(width, 5)
        self.layers = nn.ModuleList([Layer(width, units, **more) for _ in range(layers)])

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


IDS = torch.tensor([[0, 1, 2], [3, 0, 4]])


def large(layers: int = 3, **more: Any) -> Net:
    return Net(layers, 20, 31, **more).to("meta")


def compiled(model: Net, twin: Any) -> Any:
    return gaugec.compile("relu_mlp", model, (IDS.to("meta"),), twin=twin)


def test_a_twin_of_fewer_layers_and_other_sizes(tmp_path: Any) -> None:
    twin = (Net(2, 6, 11), (IDS,))
    gauge = compiled(large(), twin)
    says = "witnessed and gradient checked on a twin of 411 parameters"
    assert [site.verdict for site in gauge.sites] == [f"proved ({says})"] * 3
    assert gauge.metadata["unchecked"]["what"] == says
    gauge.save(tmp_path / "gauge.py")
    assert gaugec.recheck(tmp_path / "gauge.py", large(), (IDS.to("meta"),), twin=twin)
    assert not gaugec.recheck(tmp_path / "gauge.py", large(), (IDS.to("meta"),))


@pytest.mark.parametrize(
    ("model", "twin", "says"),
    [
        (large(3), Net(2, 6, 11, act=torch.sigmoid), "the twin is another structure: a value is"),
        (large(3, signed=True), Net(2, 6, 11), "the twin is another structure: a backward in Python is"),
        (large(3), Net(2, 6, 11, signed=True), "structure: a backward in Python is nothing more in the model"),
        (large(3, signed=True), Net(2, 6, 11, signed=True), "the gradient is not that of the forward"),
    ],
)
def test_what_is_no_twin(model: Net, twin: Net, says: str) -> None:
    with pytest.raises(gaugec.MatchError, match=re.escape(says)):
        compiled(model, (twin, (IDS,)))


def test_one_layer_with_a_backward_that_the_twin_has_not() -> None:
    model = large(4)
    model.layers[2].marks[0] = True
    with pytest.raises(gaugec.MatchError, match="a backward in Python is"):
        compiled(model, (Net(2, 6, 11), (IDS,)))


def test_a_hook_in_the_large_model_alone() -> None:
    model = large(3)
    model.layers[1].register_full_backward_hook(lambda module, given, made: None)
    with pytest.raises(gaugec.MatchError, match=r"layers\.N is _backward_hooks"):
        compiled(model, (Net(2, 6, 11), (IDS,)))


def test_a_twin_without_numbers_is_none() -> None:
    with pytest.raises(gaugec.MatchError, match="the twin is not looked at itself: gradient not checked"):
        compiled(large(3), large(2))
    with pytest.raises(gaugec.MatchError, match="the twin is no model"):
        compiled(large(3), (1, 2))
