"""Fake tensors that are remembered (`gaugec.model.fakes`) are those that torch would make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gaugec.model.axes import Bundle
from gaugec.model.fakes import Remembering
from gaugec.model.interfaces import DimDynamic, FakeTensorMode, ShapeEnv, StatelessSymbolicContext
from gaugec.tracing.guards import turning_points


def written(x: Tensor) -> Tensor:
    y = x + 1
    y.mul_(2)
    y.unsqueeze_(0)
    return y


def asking(x: Tensor) -> Tensor:
    return x[:, :3] if x.shape[1] > 4 else x


STEPS: dict[str, Callable[[Tensor], Any]] = {
    "arithmetic": lambda x: (x * 2).sum(-1) / x.shape[1],
    "views": lambda x: x.t()[1:].unflatten(1, (-1, 1)).expand(-1, -1, 2),
    "another type": lambda x: (x.half(), x > 0, x.long()),
    "several results": lambda x: x.sort(-1),
    "what is written": written,
    "memory": lambda x: x.flatten().as_strided((2, 2), (1, 1)),
    "made of sizes": lambda x: torch.arange(x.shape[1]) + torch.ones(x.shape),
    "asked of sizes": asking,
    "a constant": lambda x: x * torch.tensor(3.0),
    "an index": lambda x: x[torch.tensor([0, 1])],
}


def seen(kind: Any, step: Callable[[Tensor], Any]) -> tuple[list[object], list[str]]:
    """What a step makes of a tensor with symbolic sizes, three times, and what it asked of them."""
    known = ShapeEnv()
    mode = kind(shape_env=known, allow_non_fake_inputs=True)
    context = StatelessSymbolicContext(dynamic_sizes=[DimDynamic.DYNAMIC, DimDynamic.DYNAMIC])
    x = mode.from_tensor(torch.ones(3, 5), symbolic_context=context)
    rows: list[object] = []
    with mode:
        for _ in range(3):
            made = step(x)
            for y in made if isinstance(made, tuple) else (made,):
                strides = [str(n) for n in y.stride()]
                rows.append(([str(n) for n in y.shape], strides, y.dtype, y.device, y.requires_grad, y._is_view()))
    return rows, [str(guard.expr) for guard in known.guards]


@pytest.mark.parametrize("name", STEPS)
def test_what_is_remembered_is_what_torch_makes(name: str) -> None:
    assert seen(Remembering, STEPS[name]) == seen(FakeTensorMode, STEPS[name])


def test_what_is_written_to_is_not_written_in_memory() -> None:
    """A result that somebody changes is not the one that is remembered."""
    mode = Remembering(shape_env=ShapeEnv())
    with mode:
        x = torch.ones(3, 5)
        first = x + 1
        first.unsqueeze_(0)
        second = x + 1
    assert first.shape == (1, 3, 5) and second.shape == (3, 5)


def test_alike_layers_ask_what_one_asks_and_one_that_is_not_alike_is_seen() -> None:
    class Layers(nn.Module):
        def __init__(self, lengths: list[int]) -> None:
            super().__init__()
            self.maps = nn.ModuleList(nn.Linear(4, 4) for _ in lengths)
            self.lengths = lengths

        def forward(self, x: Tensor) -> Tensor:
            for layer, n in zip(self.maps, self.lengths):
                x = layer(x) if x.shape[1] < n else x
            return x

    bundle = Bundle(((0, 1),), 5)

    def turns(lengths: list[int]) -> list[str]:
        return [str(turn) for turn in turning_points(Layers(lengths), (torch.ones(2, 5, 4),), {}, [bundle])[0]]

    assert turns([50, 50, 50]) == turns([50]) == ["5->50", "5->103"]
    assert set(turns([50, 50, 40])) == {"5->50", "5->103", "5->40", "5->83"}
