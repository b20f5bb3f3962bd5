"""A size that the caller calls fixed is not varied, stands in the certificate, and is the only one that `holds` has.

Sizes that the caller calls one change together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from match.models import counts
from match.training import apart
from torch import Tensor, nn
from torch.nn import functional as F

import gaugec
from gaugec.tracing.trace import trace

pytestmark = pytest.mark.usefixtures("double")
UNITS = {"relu_rescale": 1}


class Positioned(nn.Module):
    """Learned positions, interpolated where there are more or fewer tokens than them, and a perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.up, self.down = nn.Embedding(6, 5), nn.Linear(5, 9), nn.Linear(9, 5)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        own = self.own.weight
        if x.shape[1] != own.shape[0]:
            own = F.interpolate(own.T[None], size=x.shape[1])[0].T
        y: Tensor = self.down(torch.relu(self.up(x + own)))
        return y if skip is None else y + skip


def x() -> Tensor:
    return torch.randn(4, 6, 5)


def test_without_the_word_it_is_refused_and_the_word_is_named() -> None:
    with pytest.raises(gaugec.MatchError, match="the model's graph depends on the shape of its input") as caught:
        gaugec.compile("relu_mlp", Positioned(), (x(),))
    assert (caught.value.help or "").endswith('where no other size comes, call it fixed: fixed="all", --fixed all')


@pytest.mark.parametrize("words", ["x:1", ["x:-2"], ("x:1", "x:1")])
def test_one_axis(words: Any) -> None:
    net, given = Positioned(), x()
    compiled = gaugec.compile("relu_mlp", net, (given,), fixed=words)
    assert counts(compiled) == UNITS
    assert compiled.metadata["fixed"] == ["x:1"]
    assert compiled.metadata["traced"].endswith("fixed sizes 5, 6 (x:1 as the caller says)")
    assert "(x:1 as the caller says)" in compiled.report()
    assert apart(compiled, net, given) <= 1e-12
    assert compiled.holds(net, torch.randn(7, 6, 5))
    held = compiled.holds(net, torch.randn(4, 7, 5))
    assert not held
    assert "x" in str(held)


def test_all_of_them() -> None:
    net, given = Positioned(), x()
    compiled = gaugec.compile("relu_mlp", net, (given, torch.randn(4, 6, 5)), fixed="all")
    assert counts(compiled) == UNITS
    assert compiled.metadata["fixed"] == ["skip:0", "skip:1", "skip:2", "x:0", "x:1", "x:2"]
    assert "all sizes are fixed, as the caller says" in compiled.metadata["traced"]
    assert not compiled.holds(net, torch.randn(3, 6, 5), torch.randn(3, 6, 5))


def test_an_axis_of_length_one_stays() -> None:
    given = torch.randn(1, 6, 5)
    compiled = gaugec.compile("relu_mlp", Positioned(), (given,), fixed="x")
    assert compiled.metadata["fixed"] == ["x:0", "x:1", "x:2"]
    assert not compiled.holds(Positioned(), x())


class Read(nn.Module):
    """A perceptron over frames, which are averaged in as many groups as there are rows of another input."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(5, 9), nn.Linear(9, 5)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        read: Tensor = self.down(torch.relu(self.up(x)).view(y.shape[0], -1, 9).mean(1, keepdim=True)) + y
        return read


ONE = "x:0=y:0"


def frames(n: int, batch: int = 4, other: int = 4) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, n, 5), torch.randn(other, 3, 5)


def test_two_batches_that_are_one_change_together() -> None:
    net, given = Read(), frames(11)
    alone = trace(net, given)
    assert f'other elements are read where {ONE} is several (fixed="{ONE}" says that it is one)' in alone.second
    with pytest.raises(gaugec.MatchError):
        gaugec.compile("relu_mlp", net, given)
    compiled = gaugec.compile("relu_mlp", net, given, fixed=[ONE, "y:0=x:0"])
    assert counts(compiled) == UNITS
    assert compiled.metadata["fixed"] == [ONE]
    assert f"one size {ONE} as the caller says" in compiled.metadata["traced"]
    assert apart(compiled, net, *given) <= 1e-12
    assert compiled.holds(net, *frames(12, 7, 7))
    held = compiled.holds(net, *frames(11, 8, 4))
    assert not held
    assert "axis 0 of x is 8, axis 0 of y is 4: they were one size, and looked at as one alone" in str(held)


def test_where_two_batches_are_another_graph_the_word_is_named() -> None:
    with pytest.raises(gaugec.MatchError, match="the model's graph depends on the shape of its input") as caught:
        gaugec.compile("relu_mlp", Read(), frames(6))
    assert (caught.value.help or "").endswith(f', or, where they are always one size, say so: fixed="{ONE}"')
    assert counts(gaugec.compile("relu_mlp", Read(), frames(6), fixed=ONE)) == UNITS


def test_what_is_one_size_and_fixed_is_fixed() -> None:
    compiled = gaugec.compile("relu_mlp", Read(), frames(6), fixed=[ONE, "y:0"])
    assert compiled.metadata["fixed"] == ["y:0", ONE]
    assert not compiled.holds(Read(), *frames(6, 7, 7))


def test_a_batch_of_one_that_two_inputs_have_is_made_longer_in_both() -> None:
    compiled = gaugec.compile("relu_mlp", Read(), frames(6, 1, 1), fixed=ONE)
    assert counts(compiled) == UNITS
    assert compiled.holds(Read(), *frames(6, 7, 7))


def test_a_branch_on_what_is_one_size_is_seen() -> None:
    class Branched(Read):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            made = super().forward(x, y)
            return made if x.shape[0] < 50 else made.relu()

    with pytest.raises(gaugec.MatchError, match="the model's graph depends on the shape of its input"):
        gaugec.compile("relu_mlp", Branched(), frames(11), fixed=ONE)


NO_SIZE = {
    "x:0=y": "fixed='x:0=y' names no size of the inputs",
    "x:0=z:0": "fixed='z:0' names no size of the inputs",
    "x:0=all": "fixed='x:0=all' names no size of the inputs",
    "x:0=": "fixed='x:0=' names no size of the inputs",
    "x:0=y:3": "fixed='y:3': y has the axes 0 to 2",
    "x:0=y:1": "fixed='x:0=y:1': the sizes are 4, 3",
}


@pytest.mark.parametrize("word", NO_SIZE)
def test_what_is_no_one_size(word: str) -> None:
    with pytest.raises(gaugec.MatchError) as caught:
        gaugec.compile("relu_mlp", Read(), frames(11), fixed=word)
    assert caught.value.message == NO_SIZE[word]


WRONG = {
    "y": "fixed='y' names no size of the inputs",
    "x:3": "fixed='x:3': x has the axes 0 to 2",
    "x:-4": "fixed='x:-4': x has the axes 0 to 2",
    "x:one": "fixed='x:one' names no size of the inputs",
    "x:²": "fixed='x:²' names no size of the inputs",
    "": "fixed='' names no size of the inputs",
    "xs": "fixed='xs' names no size of the inputs",
}


@pytest.mark.parametrize("word", WRONG)
def test_what_is_no_size(word: str) -> None:
    with pytest.raises(gaugec.MatchError) as caught:
        gaugec.compile("relu_mlp", Positioned(), (x(),), fixed=word)
    assert caught.value.message == WRONG[word]
    assert caught.value.help == {
        "xs": "did you mean x? say an input (x), one of its axes as NAME:AXIS, or all",
        "x:one": "did you mean x? say an input (x), one of its axes as NAME:AXIS, or all",
        "x:²": "did you mean x? say an input (x), one of its axes as NAME:AXIS, or all",
        "x:3": "name one of them",
        "x:-4": "name one of them",
    }.get(word, "say an input (x), one of its axes as NAME:AXIS, or all")


@pytest.mark.parametrize("words", [3, None, [1], [("x", 1)]])
def test_what_is_no_word(words: Any) -> None:
    with pytest.raises(gaugec.MatchError, match="names no size of the inputs"):
        gaugec.compile("relu_mlp", Positioned(), (x(),), fixed=words)


def test_a_recheck_asks_for_the_word(tmp_path: Path) -> None:
    net, given = Positioned(), x()
    file = tmp_path / "net.py"
    gaugec.compile("relu_mlp", net, (given,), fixed="x:1").save(file)
    said = {
        None: ("not done", "the certificate says that x:1 are fixed: say fixed=['x:1'], on the command line --fixed"),
        "x:1": ("ok", "the same graph"),
        "x": ("differs", "x:1 was fixed at the compile, x:0, x:1, x:2 in this recheck"),
    }
    for word, (outcome, text) in said.items():
        result = gaugec.recheck(file, net, (given,), fixed=word or ())
        (check,) = (check for check in result.checks if check.name == "model")
        assert (check.verdict, text in check.says) == (outcome, True), (word, check)
