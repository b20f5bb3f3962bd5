"""What a trace shows: an export that needs no decomposition, sizes at which a forward turns, runs without numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gaugec
from gaugec import exporting
from gaugec.dry import dry_run
from gaugec.trace import _lower
from gaugec.turning import turning_points


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
    quick = _lower(model, exporting.exported(model, (x,), {}), None)
    monkeypatch.setattr(exporting, "_functional", lambda program: False)
    slow = _lower(model, exporting.exported(model, (x,), {}), None)
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


TURNS: dict[str, tuple[Callable[[Any, Tensor], Tensor], list[dict[int, int]]]] = {
    "none": (lambda m, h: torch.relu(h), []),
    "a branch on the batch": (lambda m, h: h if h.shape[0] < 50 else h + 1, [{4: 50}]),
    "an even number": (lambda m, h: h if h.shape[0] % 2 == 0 else h + 1, [{4: 3}]),
    "its elements": (lambda m, h: h if h.numel() > 7 * 20 else h + 1, [{4: 21}]),
    "the number itself": (lambda m, h: h if int(h.shape[0]) < 50 else h + 1, [{4: 3}, {4: 64}, {4: 1024}]),
    "a range": (lambda m, h: h + sum(0.1 for _ in range(len(h)) if len(h) > 40), [{4: 3}, {4: 64}, {4: 1024}]),
}


@pytest.mark.parametrize("name", TURNS)
def test_sizes_at_which_a_forward_turns(name: str) -> None:
    middle, points = TURNS[name]
    found = turning_points(Net(middle), (torch.randn(4, 5),), {})
    assert found is not None
    assert [point for point in found if 5 not in point] == points  # 5 features, which the first layer asks for


def test_a_forward_that_asks_for_numbers_has_no_turning_points() -> None:
    assert turning_points(Net(lambda m, h: h if h.sum() > 0 else h + 1), (torch.randn(4, 5),), {}) is None


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


def test_a_size_that_is_taken_as_a_number_is_seen_far_away(spec: str) -> None:
    model = Net(lambda m, h: torch.relu(h) if int(h.shape[1]) < 1000 else h + 1)
    with pytest.raises(gaugec.MatchError, match="the model's graph depends on the shape of its input"):
        gaugec.compile(spec, model, (torch.randn(4, 6, 5),))
