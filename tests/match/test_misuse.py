"""Models and calls that cannot work: a GaugeError in words, never a traceback from inside."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from match.models import BATCH, WIDTH, counts, mlp
from torch import Tensor, nn

import gaugec
from gaugec.cli import main

X = (torch.ones(BATCH, WIDTH),)
MODELS = """
import torch

class Net(torch.nn.Module):
    def __init__(self, act):
        super().__init__()
        self.up, self.down, self.act = torch.nn.Linear(5, 7), torch.nn.Linear(7, 3), act

    def forward(self, x):
        return self.down(self.act(self.up(x)))

def good(): return Net(torch.relu), (torch.randn(4, 5),)
def gelu(): return Net(torch.nn.functional.gelu), (torch.randn(4, 5),)
def raises(): raise RuntimeError("the weights are not here\\nsecond line")
def leaves(): raise SystemExit(3)
def branches(): return Net(lambda h: h if h.sum() > 0 else -h), (torch.randn(4, 5),)
def fails(): return Net(lambda h: h.view(-1, 999)), (torch.randn(4, 5),)
def inputs(): return Net(torch.relu), (torch.randn(4, 6),)
"""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    (tmp_path / "models_to_misuse.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop("models_to_misuse", None)

    def run(factory: str, *more: str) -> Result:
        return CliRunner().invoke(main, ["compile", "relu_mlp", f"models_to_misuse:{factory}", "-o", "out.py", *more])

    return run


@pytest.mark.parametrize(
    ("factory", "code", "words"),
    [
        ("raises", 2, "models_to_misuse:raises raised RuntimeError: the weights are not here"),
        ("leaves", 2, "raised SystemExit"),
        ("absent", 2, "AttributeError"),
        ("branches", 1, "torch.export cannot trace the model"),
        ("fails", 1, "the model itself fails on these inputs: RuntimeError: shape '[-1, 999]' is invalid"),
        ("inputs", 1, "the model itself fails on these inputs: RuntimeError: mat1 and mat2"),
        ("gelu", 1, "relu_rescale finds no site in the model"),
    ],
)
def test_the_command_line_says_what_is_wrong(call: Callable[..., Result], factory: str, code: int, words: str) -> None:
    result = call(factory)
    assert result.exit_code == code, result.output
    assert words in result.stderr and "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert not Path("out.py").exists()


def test_the_command_line_on_a_good_model(call: Callable[..., Result]) -> None:
    result = call("good")
    assert result.exit_code == 0, result.output
    assert "relu_rescale" in result.stdout and Path("out.py").exists()


@pytest.mark.parametrize("loss", ["mse", "", 3, True])
def test_an_unknown_loss(loss: Any) -> None:
    with pytest.raises(gaugec.MatchError) as caught:
        gaugec.compile("relu_mlp", mlp(), X, loss=loss)
    assert caught.value.message == f"unknown loss {loss!r}"
    assert caught.value.help == 'use loss="cross_entropy", or let forward return the loss'


BAD_MODELS: dict[str, Callable[[], Any]] = {
    "it raises": lambda: mlp(act=lambda h: 1 / 0),
    "a branch on data": lambda: mlp(act=lambda h: h if h.sum() > 0 else -h),
    "numpy": lambda: mlp(act=lambda h: torch.tensor(h.detach().numpy())),
    "a lazy layer": lambda: nn.Sequential(nn.LazyLinear(4)),
    "a size that depends on data": lambda: mlp(after=lambda m, y, h: y[y.sum(-1) > 0]),
    "indices that depend on data": lambda: mlp(after=lambda m, y, h: y.nonzero()),
    "torch.cond": lambda: mlp(act=lambda h: torch.cond(h.sum() > 0, torch.relu, torch.tanh, (h,))),
    "a function": lambda: lambda x: x,
    "nothing": lambda: None,
    "a class": lambda: nn.Identity,
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_models_that_cannot_be_read(name: str, spec: str) -> None:
    """Refused in words, or compiled without the gauge that is not there."""
    try:
        compiled = gaugec.compile(spec, BAD_MODELS[name](), X)
    except gaugec.GaugeError as error:
        assert error.message and "\n\n" not in error.message and len(error.message) < 600
        assert error.help
    else:
        assert not counts(compiled)["relu_rescale"]


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), None), ((torch.ones(3, 4),), None), (("words",), None), (X, {"nonsense": 1}), (X[0], None)],
    ids=["none", "wrong shape", "text", "unknown keyword", "a tensor for a tuple"],
)
def test_inputs_that_do_not_fit(args: Any, kwargs: Any) -> None:
    with pytest.raises(gaugec.GaugeError):
        gaugec.compile("relu_mlp", mlp(), args, kwargs)


@pytest.mark.parametrize(
    "run",
    [
        lambda m, y, h: y.sum(-1).sum(),
        lambda m, y, h: 3,
        lambda m, y, h: (3, y),
        lambda m, y, h: y > 0,
        lambda m, y, h: {},
    ],
    ids=["a scalar", "a number", "a number first", "booleans", "nothing"],
)
def test_a_first_output_that_is_no_logits(run: Callable[..., Any], spec: str) -> None:
    with pytest.raises(gaugec.GaugeError, match="needs a first output of logits"):
        gaugec.compile(spec, mlp(after=run), X, loss="cross_entropy")


@pytest.mark.parametrize("name", ["a-b", "0", "é", "a'b", "a\\b", "{x}", "%s", "import os", "module", "_orig_mod"])
def test_names_that_need_care_in_the_emitted_module(name: str, spec: str) -> None:
    model = nn.Sequential()
    model.add_module(name, nn.Linear(WIDTH, 4))
    model.append(nn.ReLU()).append(nn.Linear(4, 3)) if name.isdigit() else [
        model.add_module(n, part) for n, part in (("act", nn.ReLU()), ("out", nn.Linear(4, 3)))
    ]
    compiled = gaugec.compile(spec, model, X)
    assert counts(compiled) == {"relu_rescale": 1}
    parameters: dict[str, Tensor] = {n: p.detach() for n, p in model.named_parameters()}
    moved = compiled.act(parameters, compiled.random_element(torch.Generator().manual_seed(1)))
    assert all(not torch.equal(moved[n], parameters[n]) for n in parameters if n != "out.bias" and n != "2.bias")


def test_keywords_that_are_a_tensor_are_told() -> None:
    with pytest.raises(gaugec.MatchError, match="not a tuple and a dict"):
        gaugec.compile("relu_mlp", mlp(), X, torch.ones(2))  # type: ignore[arg-type]
