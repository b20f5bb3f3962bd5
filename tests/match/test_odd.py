"""Tensors of unusual kinds in every place, and unusual surroundings: a verdict or a refusal, never a traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from match.models import counts
from thinned import thinned
from torch import Tensor, nn

import gaugec


class Net(nn.Module):
    """A perceptron that also holds, or reads, something."""

    def __init__(self, read: Callable[[Any, Tensor], Any] = lambda odd, x: 0) -> None:
        super().__init__()
        self.up, self.down, self.read = nn.Linear(5, 7), nn.Linear(7, 3), read

    def forward(self, x: Tensor, odd: Any = None) -> Any:
        own = odd if odd is not None else getattr(self, "odd", None)
        return self.down(torch.relu(self.up(x))) + self.read(own, x)


class Own(Tensor):
    """A tensor of a class of its own."""


def of_inference() -> Tensor:
    with torch.inference_mode():
        return torch.ones(4, 3)


def lengths() -> list[Tensor]:
    return [torch.ones(2, 3), torch.ones(4, 3)]


ODD: dict[str, Callable[[], Tensor]] = {
    "sparse": lambda: torch.ones(4, 3).to_sparse(),
    "CSR": lambda: torch.ones(4, 3).to_sparse_csr(),
    "CSC": lambda: torch.ones(4, 3).to_sparse_csc(),
    "BSR": lambda: torch.eye(4).to_sparse_bsr((2, 2)),
    "mkldnn": lambda: torch.ones(4, 3).to_mkldnn(),
    "nested": lambda: torch.nested.nested_tensor(lengths()),
    "jagged": lambda: torch.nested.nested_tensor(lengths(), layout=torch.jagged),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(4, 3), 0.1, 0, torch.qint8),
    "of inference": of_inference,
    "integers": lambda: torch.ones(4, 3, dtype=torch.long),
    "expanded": lambda: torch.ones(1, 3).expand(4, 3),
    "of its own class": lambda: torch.ones(4, 3).as_subclass(Own),
    "on no device": lambda: torch.ones(4, 3, device="meta"),
    "empty": lambda: torch.ones(0, 3),
}
X = torch.randn(4, 5)


def held(place: str, odd: Tensor, reads: bool) -> tuple[nn.Module, tuple[Any, ...]]:
    model = Net(lambda odd, x: odd.to_dense() if odd.layout is not torch.strided else odd) if reads else Net()
    if place == "a buffer":
        model.register_buffer("odd", odd)
    elif place == "a parameter":
        model.register_parameter("odd", nn.Parameter(odd, requires_grad=odd.is_floating_point()))
    elif place == "a frozen parameter":
        model.register_parameter("odd", nn.Parameter(odd, requires_grad=False))
    elif place == "an attribute":
        model.__dict__["odd"] = odd
    return model, (X, odd) if place == "an input" else (X,)


def verdict(spec: str, model: nn.Module, args: tuple[Any, ...]) -> Any:
    """The compiled gauge, or the message of a refusal with words for the cure."""
    surroundings = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_device())
    try:
        return gaugec.compile(spec, model, args)
    except gaugec.GaugeError as error:
        assert error.message and error.help and "\n\n" not in error.message
        return error.message
    finally:
        now = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_device())
        assert now == surroundings


PLACES = ("a buffer", "a parameter", "a frozen parameter", "an attribute", "an input")
SERVED = {  # places in which nothing reads it, and it is no reason to refuse
    "sparse": ("a buffer", "an attribute", "an input"),
    "CSR": ("a buffer", "an attribute"),
    "CSC": ("a buffer", "an attribute"),
    "BSR": ("a buffer", "an attribute"),
    "mkldnn": ("a buffer", "an attribute"),
    "of inference": ("a buffer", "a frozen parameter", "an attribute", "an input"),
    "integers": PLACES,
    "expanded": PLACES,
    "of its own class": ("a buffer", "an attribute"),
    "on no device": ("a buffer", "an attribute"),
    "empty": ("a buffer", "a parameter", "an attribute"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reads", [False, True], ids=["unused", "used"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", thinned(ODD, 3))
def test_an_odd_tensor(kind: str, place: str, reads: bool, spec: str) -> None:
    if (kind, place) == ("of inference", "a parameter"):
        pytest.skip("torch makes no parameter of it that is trained")
    made = verdict(spec, *held(place, ODD[kind](), reads))
    if not reads and place in SERVED.get(kind, ()):
        assert counts(made) == {"relu_rescale": 1}, made


@pytest.mark.filterwarnings("ignore")
def test_what_an_export_does_not_take_is_named(spec: str) -> None:
    model, args = held("a buffer", ODD["jagged"](), reads=False)
    with pytest.raises(gaugec.MatchError, match=r"torch\.export cannot trace the model") as caught:
        gaugec.compile(spec, model, args)
    assert caught.value.help == "odd is a jagged tensor, which an export may not take, used or not"


class Wholly(Net):
    """Its reader holds integers, and plays the part of a weight."""

    def forward(self, x: Tensor, odd: Any = None) -> Tensor:
        return torch.relu(self.up(x)) @ self.down.weight.to(x.dtype).T


def test_a_frozen_weight_of_integers(spec: str) -> None:
    model = Wholly()
    model.down.weight = nn.Parameter(torch.arange(21).reshape(3, 7) % 5, requires_grad=False)
    made = verdict(spec, model, (X,))
    assert isinstance(made, str) or not counts(made)["relu_rescale"]


@contextlib.contextmanager
def default(device: str) -> Iterator[None]:
    before = torch.get_default_device()
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(before)


SURROUNDINGS: dict[str, Callable[[], Any]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "a default device": lambda: default("meta"),
    "a device for a while": lambda: torch.device("meta"),
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
}


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_unusual_surroundings(name: str, spec: str) -> None:
    model = Net()
    with SURROUNDINGS[name]():
        assert counts(verdict(spec, model, (X,))) == {"relu_rescale": 1}


def test_inputs_made_under_inference_mode(spec: str) -> None:
    with torch.inference_mode():
        x = torch.ones(4, 5)
    assert counts(verdict(spec, Net(), (x,))) == {"relu_rescale": 1}


def test_a_model_made_under_inference_mode(spec: str) -> None:
    with torch.inference_mode():
        model = Net()
    told = "the parameter up.weight was made under torch.inference_mode, and cannot be trained"
    assert verdict(spec, model, (X,)) == told


def test_a_script_and_other_wrappers(spec: str) -> None:
    plain = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    assert counts(verdict(spec, nn.DataParallel(plain), (X,))) == {"relu_rescale": 1}
    exported = torch.export.export(plain, (X,)).module()
    assert counts(verdict(spec, exported, (X,))) == {"relu_rescale": 1}
    assert isinstance(verdict(spec, nn.Sequential(nn.LazyLinear(7), nn.ReLU(), nn.Linear(7, 3)), (X,)), str)
    scripted = nn.Sequential(nn.Linear(5, 7), torch.jit.script(nn.ReLU()), nn.Linear(7, 3))
    assert isinstance(verdict(spec, scripted, (X,)), str)
