"""Modes: every module is traced in the mode in which it is trained, by its own flag."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from match.models import UNITS, WIDTH, counts, mlp
from torch import Tensor, nn
from torch.nn import functional as F

import gaugec
from gaugec.graph.ir import Leaf
from gaugec.tracing.trace import trace


class Stage(nn.Module):
    """A ReLU where it is in eval mode; in train mode what has no scale that could move."""

    def forward(self, h: Tensor) -> Tensor:
        return F.gelu(h) if self.training else torch.relu(h)


class Frozen(nn.Module):
    """A model that keeps its stage in eval mode, as those do that fine-tune a frozen backbone."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.stage, self.down = nn.Linear(WIDTH, UNITS), Stage(), nn.Linear(UNITS, 3)

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        self.stage.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.stage(self.up(x)))


def staged() -> nn.Module:
    return mlp(act=lambda h: h, between=lambda m, h: m.stage(h), stage=Stage())


def stage_in_eval() -> nn.Module:
    model = staged()
    model.stage.eval()
    return model


CASES: list[tuple[str, Callable[[], nn.Module], int]] = [
    ("a model in train mode", staged, 0),
    ("a stage in eval mode inside it", stage_in_eval, 1),
    ("a model in eval mode, as it will be trained", lambda: staged().eval(), 0),
    ("its own train keeps the stage in eval mode", lambda: Frozen().eval(), 1),
    ("its own train was called", lambda: Frozen().train(), 1),
]


@pytest.mark.parametrize(("made", "sites"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_every_module_is_taken_in_its_own_mode(spec: str, made: Callable[[], nn.Module], sites: int) -> None:
    model = made()
    before = [module.training for module in model.modules()]
    assert counts(gaugec.compile(spec, model, (torch.randn(4, WIDTH),)))["relu_rescale"] == sites
    assert [module.training for module in model.modules()] == before


@pytest.mark.parametrize("evaluated", [False, True])
def test_a_batch_norm_in_eval_mode_reads_its_buffers(evaluated: bool) -> None:
    model = mlp(between=lambda m, h: m.bn(h), bn=nn.BatchNorm1d(UNITS))
    model.bn.train(not evaluated)
    graph = trace(model, (torch.randn(4, WIDTH),)).graph
    statistics = {node.id for node in graph if isinstance(node, Leaf) and "running" in node.name}
    normed = [node for node in graph if statistics & {access.node for access in node.operands}]
    assert len(statistics) == 2 and bool(normed)
    assert bool(graph.buffers) != evaluated, "in train mode its statistics are written"


def test_the_gradient_is_looked_at_in_the_same_modes(spec: str) -> None:
    """A backward that is wrong in train mode only is right where the stage is in eval mode."""

    class Clipped(nn.Module):
        def forward(self, h: Tensor) -> Tensor:
            if self.training and h.requires_grad:
                h.register_hook(lambda gradient: gradient.clamp(-1e-3, 1e-3))
            return h

    model = mlp(between=lambda m, h: m.clipped(h), clipped=Clipped())
    with pytest.raises(gaugec.MatchError, match="the gradient is not that of the forward"):
        gaugec.compile(spec, model, (torch.randn(4, WIDTH),))
    model.clipped.eval()
    assert counts(gaugec.compile(spec, model, (torch.randn(4, WIDTH),)))["relu_rescale"] == 1
