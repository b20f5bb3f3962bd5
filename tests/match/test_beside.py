"""A run of the witness beside another one: what no moved parameter reaches is taken over, and nothing else is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import gaugec.witness.interpreter
from gaugec.tracing.trace import Trace, trace
from gaugec.witness.interpreter import Runner


class Net(nn.Module):
    def __init__(self, dropped: float = 0.0) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 4), nn.Linear(4, 3), nn.Linear(4, 3)
        self.drop = nn.Dropout(dropped)
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.drop(torch.relu(self.a(x)))
        self.mean.copy_(y.detach().mean(0))
        return self.b(y), self.c(y).float().softmax(-1)


def traced(dropped: float = 0.0) -> Trace:
    return trace(Net(dropped), (torch.randn(6, 5),))


def runner(found: Trace) -> Runner:
    return Runner(found.program, found.names, found.counted)


def test_a_run_beside_another_is_the_run_by_itself_to_the_bit() -> None:
    found = traced()
    run = runner(found)
    parameters = run.parameters(found.shapes)
    before, seen = run.kept(parameters)
    assert seen is not None
    assert all(map(torch.equal, before, run.run(parameters, seen)))
    for name in parameters:
        changed = {**parameters, name: 2 * parameters[name]}
        alone, beside = run.run(changed), run.run(changed, seen)
        assert len(alone) == 3 and all(map(torch.equal, alone, beside))
        assert not all(map(torch.equal, before, beside))


def test_only_what_is_reached_runs_again() -> None:
    found = traced()
    run = runner(found)
    parameters = run.parameters(found.shapes)
    _, seen = run.kept(parameters)
    ran: list[str] = []
    own = run.interpreter.call_function
    run.interpreter.call_function = lambda *x: (ran.append(str(x[0])), own(*x))[1]  # type: ignore[method-assign]
    run.run({**parameters, "c.weight": 2 * parameters["c.weight"]}, seen)
    assert ran[0] == "aten.linear.default" and "aten.relu.default" not in ran and len(ran) <= 3
    ran.clear()
    run.run(parameters)
    assert ran.count("aten.linear.default") == 3


def test_what_draws_random_numbers_is_run_as_a_whole() -> None:
    found = traced(0.5)
    assert runner(found).kept(runner(found).parameters(found.shapes))[1] is None


def test_what_is_large_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    found = traced()
    monkeypatch.setattr(gaugec.witness.interpreter, "KEPT", 10)
    run = runner(found)
    assert run.kept(run.parameters(found.shapes))[1] is None
