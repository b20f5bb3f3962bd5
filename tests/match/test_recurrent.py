"""Recurrent networks: what reads a norm in front of one is the input weights of its first layer, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from match.models import BATCH, WIDTH, LibraryNorm, Net, audit, counts
from thinned import thinned
from torch import Tensor, nn

pytestmark = pytest.mark.usefixtures("double")
STATES, LENGTH = 5, 4

CELLS: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {
    "LSTM of two layers": (lambda: nn.LSTM(WIDTH, STATES, 2, batch_first=True), {"cell.weight_ih_l0"}),
    "LSTM both ways, projected": (
        lambda: nn.LSTM(WIDTH, STATES, 2, bias=False, bidirectional=True, proj_size=3),
        {"cell.weight_ih_l0", "cell.weight_ih_l0_reverse"},
    ),
    "GRU both ways": (
        lambda: nn.GRU(WIDTH, STATES, bidirectional=True), {"cell.weight_ih_l0", "cell.weight_ih_l0_reverse"},
    ),
    "RNN with ReLU": (lambda: nn.RNN(WIDTH, STATES, nonlinearity="relu"), {"cell.weight_ih_l0"}),
    "one step of an LSTM": (lambda: nn.LSTMCell(WIDTH, STATES), {"cell.weight_ih"}),
    "one step of a GRU": (lambda: nn.GRUCell(WIDTH, STATES), {"cell.weight_ih"}),
}  # fmt: skip


def states(m: Any, x: Tensor) -> Tensor:
    found: Tensor = m.cell(m.norm(x))[0]
    return found


def network(cell: nn.Module, run: Callable[..., Any] = states, **parts: Any) -> tuple[Net, tuple[Tensor]]:
    step = isinstance(cell, nn.RNNCellBase)
    x = torch.randn(BATCH, WIDTH) if step else torch.randn(BATCH, LENGTH, WIDTH)
    return Net(run, norm=LibraryNorm(WIDTH), cell=cell, **parts), (x,)


@pytest.mark.parametrize("name", thinned(CELLS, 2))
def test_the_first_layer_reads_the_norm(name: str, spec: str) -> None:
    build, readers = CELLS[name]
    compiled = audit(spec, *network(build()))
    assert counts(compiled) == {"norm_gain": 1}
    (site,) = compiled.sites
    assert site.verdict == "proved"
    assert {binding.parameter for binding in site.bindings} == {"norm.scale", *readers}


def and_once_more(m: Any, x: Tensor) -> Tensor:
    return states(m, x) + torch.relu(m.norm(x) @ m.cell.weight_ih_l0.T).sum(-1, keepdim=True)


def as_states(m: Any, x: Tensor) -> Tensor:
    h = m.norm(x)
    found: Tensor = m.cell(h, h[None, :, 0])[0]
    return found


def test_states_that_are_the_norm_end_it(spec: str) -> None:
    compiled = audit(spec, *network(nn.GRU(WIDTH, WIDTH, batch_first=True), as_states))
    assert not compiled.sites
    (refusal,) = [r for r in compiled.refusals if r.gauge == "norm_gain" and r.parameter.startswith("norm.scale")]
    assert refusal.reason == "no rule is known for aten.gru, what recurs"


def test_input_weights_that_are_the_recurring_ones_too_end_it(spec: str) -> None:
    cell = nn.GRU(WIDTH, WIDTH, batch_first=True)
    cell.weight_hh_l0 = cell.weight_ih_l0
    compiled = audit(spec, *network(cell))
    assert not compiled.sites
    (refusal,) = [r for r in compiled.refusals if r.gauge == "norm_gain" and r.parameter.startswith("norm.scale")]
    assert refusal.reason == "no rule is known for aten.gru, what recurs"


def test_a_second_use_of_the_input_weights_is_inside_too(spec: str) -> None:
    compiled = audit(spec, *network(nn.GRU(WIDTH, STATES, batch_first=True), and_once_more))
    assert counts(compiled) == {"norm_gain": 1}
    apart = lambda m, x: states(m, x) + torch.relu(x @ m.cell.weight_ih_l0.T).sum(-1, keepdim=True)  # noqa: E731
    assert not audit(spec, *network(nn.GRU(WIDTH, STATES, batch_first=True), apart)).sites
