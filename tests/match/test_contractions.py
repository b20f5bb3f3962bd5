"""Contractions, however many axes they have and however they are spelled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from match.models import BATCH, WIDTH, audit, counts, mlp
from torch import Tensor, nn
from torch.nn import functional as F

pytestmark = pytest.mark.usefixtures("double")
Run = Callable[[Any, Tensor], Tensor]


def _tensordot(m: Any, x: Tensor) -> Tensor:
    h = torch.relu(torch.tensordot(x, m.up.weight, dims=([-1], [1])) + m.up.bias)
    return torch.tensordot(m.down.weight, h, dims=([1], [-1]))


def _einsum(m: Any, x: Tensor) -> Tensor:
    h = torch.relu(torch.einsum("...d,fd->...f", x, m.up.weight) + m.up.bias)
    return torch.einsum("...f,ef", h, m.down.weight)


SPELLINGS: dict[str, Run] = {
    "tensordot": _tensordot,
    "inner": lambda m, x: torch.inner(torch.relu(torch.inner(x, m.up.weight) + m.up.bias), m.down.weight),
    "an ellipsis": _einsum,
    "an ellipsis first and last": lambda m, x: torch.einsum(
        "f...,ef->...e", torch.relu(torch.einsum("...d,fd->f...", x, m.up.weight)), m.down.weight
    ),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_two_linear_maps(name: str, spec: str) -> None:
    model = mlp()
    model.run = SPELLINGS[name]
    assert counts(audit(spec, model, (torch.randn(3, BATCH, WIDTH),))) == {"relu_rescale": 1}


def test_the_wrong_axis_is_another_function(spec: str) -> None:
    """Rows of the reader meet the units, and its columns do not."""
    model = mlp()
    model.down = nn.Linear(14, 14)
    model.run = lambda m, x: torch.tensordot(torch.relu(m.up(x)), m.down.weight, dims=([-1], [0]))
    (site,) = audit(spec, model, (torch.randn(BATCH, WIDTH),)).sites
    (reader,) = [b for b in site.bindings if b.role == "W2"]
    assert (reader.group, reader.rest) == (((14, 14),), ((14, 1),))


class Far(nn.Module):
    """Attention over as many batch axes as its input has."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(12, 12) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (3, 4)).transpose(-2, -3) for f in (self.q, self.k, self.v))
        return self.o(F.scaled_dot_product_attention(q, k, v).transpose(-2, -3).flatten(-2))  # type: ignore[no-any-return]


@pytest.mark.parametrize("batch", [(2,), (2, 1, 2, 1, 3)])
def test_attention_over_many_axes(batch: tuple[int, ...], spec: str) -> None:
    compiled = audit(spec, Far(), (torch.randn(*batch, 5, 12),))
    assert counts(compiled) == {"value_rotation": 1, "qk_rotation": 1}
