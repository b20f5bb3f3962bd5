"""What a trace shows: an export that needs no decomposition, sizes at which a forward turns, runs without numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from match.models import outcome
from thinned import thinned
from torch import Tensor, nn
from torch.compiler import is_compiling

import gaugec
from gaugec.model.axes import Bundle
from gaugec.model.dry_run import dry_run
from gaugec.tracing import export as exporting
from gaugec.tracing.guards import turning_points
from gaugec.tracing.lower import lower_program


class Net(nn.Module):
    """Two linear layers and what `middle` does between them."""

    def __init__(self, middle: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.middle = middle
        self.up, self.down, self.norm = nn.Linear(5, 7), nn.Linear(7, 3), nn.BatchNorm1d(7)
        self.register_buffer("scale", torch.rand(7))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.middle(self, self.up(x)))


def _no_grad(m: Any, h: Tensor) -> Tensor:
    with torch.no_grad():
        wave = torch.stack((m.scale.sin(), m.scale.cos()))
    return torch.relu(h) * wave[0] + wave[1]


def _two_regions(m: Any, h: Tensor) -> Tensor:
    with torch.no_grad():
        a, b = m.scale.sin(), m.scale.cos()
        with torch.enable_grad():
            h = h * 2
        c = a + b
    return torch.relu(h) * c


def _counts(m: Any, h: Tensor) -> Tensor:
    m.calls.add_(1)
    return torch.relu(h)


# middle -> does its export stay as it is
WAYS: dict[str, tuple[Callable[[Any, Tensor], Tensor], bool]] = {
    "relu": (lambda m, h: torch.relu(h), True),
    "no_grad": (_no_grad, True),
    "two no_grad regions": (_two_regions, True),
    "a cast": (lambda m, h: torch.relu(h.double()).to(h.dtype), True),
    "in place": (lambda m, h: h.clone().relu_(), False),
    "a written view": (lambda m, h: h.clone().index_fill_(1, torch.tensor([0]), 1.0), False),
    "a batch norm": (lambda m, h: torch.relu(m.norm(h)), False),
    "a buffer that counts": (_counts, False),
    "dropout": (lambda m, h: torch.dropout(torch.relu(h), 0.3, True), False),
}


@pytest.mark.parametrize("name", WAYS)
def test_an_export_that_is_not_decomposed_is_the_same_graph(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    middle, stays = WAYS[name]
    model, x = Net(middle), torch.randn(4, 5)
    asked: list[bool] = []
    own = exporting._functional

    def record(program: Any) -> bool:
        asked.append(own(program))
        return asked[-1]

    monkeypatch.setattr(exporting, "_functional", record)
    quick = lower_program(model, exporting.exported(model, (x,), {}))
    monkeypatch.setattr(exporting, "_functional", lambda program: False)
    slow = lower_program(model, exporting.exported(model, (x,), {}))
    assert asked == [stays]
    assert quick.graph == slow.graph and quick.leaves == slow.leaves


def test_a_region_put_in_its_place_runs_as_it_did() -> None:
    model, x = Net(_no_grad), torch.randn(4, 5)
    program = exporting.exported(model, (x,), {})
    assert not any("wrap_with" in str(node.target) for node in program.graph.nodes)
    flat = [*model.state_dict(keep_vars=True).values()]
    named = dict(zip(model.state_dict(), flat))
    signature = program.graph_signature
    values = [
        named.get(signature.inputs_to_parameters.get(n.name) or signature.inputs_to_buffers.get(n.name) or "", x)
        for n in program.graph.nodes
        if n.op == "placeholder"
    ]
    (y,) = torch.fx.Interpreter(program.graph_module).run(*values)
    torch.testing.assert_close(y, model(x))


# middle -> turns of the batch of 4, and those that are guesses
TURNS: dict[str, tuple[Callable[[Any, Tensor], Tensor], list[int], list[int]]] = {
    "none": (lambda m, h: torch.relu(h), [], []),
    "a branch on the batch": (lambda m, h: h if h.shape[0] < 50 else h + 1, [50, 103], []),
    "an even number": (lambda m, h: h if h.shape[0] % 2 == 0 else h + 1, [3], []),
    "its elements": (lambda m, h: h if h.numel() > 7 * 20 else h + 1, [21, 45], []),
    "a quotient": (lambda m, h: h if h.shape[0] / 7 < 10.5 else h + 1, [74, 151], []),
    "a root": (lambda m, h: h if h.shape[0] ** 0.5 < 8.5 else h + 1, [73, 149], []),
    "one of two": (lambda m, h: h if (h.shape[0] > 50) | (h.shape[0] > 70) else h + 1, [51, 105], []),
    "no value at 2": (lambda m, h: h if 100 // (h.shape[0] - 2) > 3 else h + 1, [28, 59], []),
    "the number itself": (lambda m, h: h if int(h.shape[0]) < 50 else h + 1, [], [3, 64, 1024]),
    "a range": (lambda m, h: h + sum(0.1 for _ in range(len(h)) if len(h) > 40), [], [3, 64, 1024]),
}


@pytest.mark.parametrize("name", TURNS)
def test_sizes_at_which_a_forward_turns(name: str) -> None:
    middle, points, guesses = TURNS[name]
    batch = Bundle(((0, 0),), 4)
    found, seen = turning_points(Net(middle), (torch.randn(4, 5),), {}, [batch])
    assert seen
    assert [turn.change for turn in found if not turn.guess] == [((batch, n),) for n in points]
    assert [turn.change for turn in found if turn.guess] == [((batch, n),) for n in guesses]


def test_a_forward_that_asks_for_numbers_is_looked_at_far_away() -> None:
    model, x = Net(lambda m, h: h if h.sum() > 0 else h + 1), torch.randn(4, 6, 5)
    found, seen = turning_points(model, (x,), {}, [Bundle(((0, 0),), 4), Bundle(((0, 1),), 6)])
    assert not seen and all(turn.guess for turn in found)
    assert [str(turn) for turn in found] == ["4->64", "4->1024", "6->64", "6->1024"]


def test_a_number_in_the_model_s_own_tensor_hides_no_branch() -> None:
    """A run without numbers cannot read it; an export can."""
    model = Net(lambda m, h: torch.relu(h) * int(m.own) if h.shape[0] < 50 else h + 1)
    model.own = torch.tensor(1)
    found, seen = turning_points(model, (x := torch.randn(4, 5),), {}, [Bundle(((0, 0),), 4)])
    assert seen and "4->50" in map(str, found)
    assert not any(key.startswith("_dynamo") for key in vars(x))


BRANCHES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "behind a branch": lambda m, h: h + 1 if h.shape[1] >= 12 and h.shape[1] >= 200 else torch.relu(h),
    "on another axis behind a branch": lambda m, h: h + 1 if h.shape[1] >= 70 and h.shape[0] >= 8 else torch.relu(h),
    "of two sizes at once": lambda m, h: h + 1 if (h.shape[1] >= 70) & (h.shape[0] >= 80) else torch.relu(h),
    "of one axis on another": lambda m, h: torch.relu(h) if h.shape[1] < 20 * h.shape[0] else h + 1,
    "on a root that numbers go into": lambda m, h: torch.relu(h) if math.sqrt(h.shape[1] - 5) < 30 else h + 1,
    "as a value": lambda m, h: torch.relu(h) + (max(h.shape[1], 90) - 90),
    "on the type of a size": lambda m, h: h + 1 if type(h.shape[1]) is int and h.shape[1] > 50 else torch.relu(h),
    "where nothing is compiled": lambda m, h: h + 1 if not is_compiling() and h.shape[1] > 50 else torch.relu(h),
    "on a size under a root of numpy": lambda m, h: torch.relu(h / np.sqrt(h.shape[1])) if len(h[0]) < 50 else h + 1,
    "on a size as a number": lambda m, h: torch.relu(h) if int(h.shape[1]) < 1000 else h + 1,
    "on a length of one": lambda m, h: h + 1 if h.shape[1] == 1 else torch.relu(h),
    "on a batch of one": lambda m, h: h + 1 if h.shape[0] == 1 else torch.relu(h),
    "on a size in bytes": lambda m, h: torch.relu(h) if h.nbytes < 9000 else h + 1,
}


@pytest.mark.parametrize("name", BRANCHES)
def test_a_branch_on_a_size_is_refused(name: str, spec: str) -> None:
    made = outcome(spec, Net(BRANCHES[name]), (torch.randn(4, 6, 5),))
    assert isinstance(made, gaugec.MatchError)


@pytest.mark.parametrize(
    ("x", "middle"),
    [
        (torch.randn(4, 4, 5), lambda m, h: torch.relu(h) if h.shape[0] == h.shape[1] else h + 1),
        (torch.randn(4, 6, 8, 5), lambda m, h: torch.relu(h) if h.shape[2] < 50 else h + 1),
    ],
    ids=["equal sizes", "a third axis"],
)
def test_a_branch_that_other_inputs_would_show(x: Tensor, middle: Callable[[Any, Tensor], Tensor], spec: str) -> None:
    with pytest.raises(gaugec.MatchError, match="the model's graph depends on the shape of its input"):
        gaugec.compile(spec, Net(middle), (x,))


# --- the model stays as it is


def wave(n: int, width: int) -> Tensor:
    return torch.sin((torch.arange(n)[:, None] * torch.arange(1, width + 1)).float())


class Positions(Net):
    """A table of positions that grows when it is too short, kept in one of the ways that people know."""

    def __init__(self, way: str) -> None:
        super().__init__(lambda m, h: torch.relu(h))
        self.way, self.longest, self.tables = way, 48, {}
        self.attribute = wave(48, 5)
        self.register_buffer("table", wave(48, 5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[1]
        if self.way == "dict":
            if int(n) not in self.tables:
                self.tables[int(n)] = wave(int(n), 5)
            return super().forward(x + self.tables[int(n)])
        if n > self.longest:
            self.longest, self.attribute = n, wave(n, 5)
            self.register_buffer("table", wave(n, 5), persistent=False)
        return super().forward(x + (self.table if self.way == "buffer" else self.attribute)[:n])


@pytest.mark.parametrize("way", ["dict", "buffer", "attribute"])
def test_a_table_that_grows_is_left_as_it_was(way: str, spec: str) -> None:
    model = Positions(way)
    buffer, attribute = model.table, model.attribute
    made = gaugec.compile(spec, model, (torch.randn(4, 6, 5),))
    assert [site.gauge for site in made.sites] == ["relu_rescale"]
    assert model.longest == 48 and model.tables == {}
    assert model.table is buffer and model.attribute is attribute
    for n in (6, 9, 49, 64, 66, 200, 1024):
        assert type(model(torch.randn(2, n, 5))) is Tensor


@pytest.mark.parametrize("kind", thinned([nn.LSTM, nn.GRU], 2))
def test_recurrent_layers_keep_their_weights(kind: Any, spec: str) -> None:
    model = Net(lambda m, h: torch.relu(h))
    model.before = kind(5, 5, batch_first=True)
    own = model.up
    model.up = nn.Sequential(Take(model.before), own)
    weights = [id(p) for p in model.before._flat_weights]
    assert [site.gauge for site in gaugec.compile(spec, model, (torch.randn(4, 6, 5),)).sites] == ["relu_rescale"]
    assert [id(p) for p in model.before._flat_weights] == weights == [id(p) for p in model.before.parameters()]


class Take(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


def test_a_parameter_that_is_written_after_its_use(spec: str) -> None:
    class Normed(Net):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            with torch.no_grad():
                self.up.weight.div_(self.up.weight.norm(dim=1, keepdim=True))
            return y

    model = Normed(lambda m, h: torch.relu(h))
    before = model.up.weight.detach().clone()
    with pytest.raises(gaugec.MatchError, match=r"the forward writes to the parameter up\.weight"):
        gaugec.compile(spec, model, (torch.randn(4, 5),))
    assert torch.equal(model.up.weight, before)


def test_a_buffer_that_is_written_unsaid(spec: str) -> None:
    """The schema of an instance norm does not say that it keeps statistics."""

    def middle(m: Any, h: Tensor) -> Tensor:
        h = torch.relu(h)
        m.kept(h.transpose(1, 2))
        return h

    model = Net(middle)
    model.kept = nn.InstanceNorm1d(7, track_running_stats=True)
    with pytest.raises(gaugec.MatchError, match=r"the buffer kept\.running_mean, which its trace does not show"):
        gaugec.compile(spec, model, (torch.randn(4, 6, 5),))
    model.kept = nn.InstanceNorm1d(7)
    assert gaugec.compile(spec, model, (torch.randn(4, 6, 5),)).sites


class Same(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


class Signs(Same):
    """Another gradient in the type that is trained in."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g.sign() if g.dtype == torch.float32 else g


def test_a_backward_that_depends_on_the_type(spec: str) -> None:
    with pytest.raises(gaugec.MatchError, match="the gradient is not that of the forward"):
        gaugec.compile(spec, Net(lambda m, h: Signs.apply(torch.relu(h))), (torch.randn(4, 5),))
    assert gaugec.compile(spec, Net(lambda m, h: Same.apply(torch.relu(h))), (torch.randn(4, 5),)).sites


def test_a_run_without_numbers_leaves_the_model_as_it_is() -> None:
    """A module under two names, a tied parameter, a buffer that is written and one that is set anew."""

    def busy(m: Any, h: Tensor) -> Tensor:
        m.calls.add_(1)
        m.scale = m.scale + 1
        return m.again(torch.relu(m.norm(h)).T[:5].T) + m.other(h).sum()

    model = Net(busy)
    model.again = model.up
    model.down.bias = nn.Parameter(torch.randn(3))
    model.other = nn.Linear(7, 3)
    model.other.weight = model.down.weight
    before = {name: (t, t.clone()) for name, t in model.state_dict(keep_vars=True).items()}
    dry_run(model, (torch.randn(4, 5),), {})
    after = model.state_dict(keep_vars=True)
    assert list(after) == list(before)
    for name, (tensor, value) in before.items():
        assert after[name] is tensor and torch.equal(after[name], value), name
