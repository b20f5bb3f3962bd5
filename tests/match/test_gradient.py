"""The gradient that training sees: custom backwards and hooks are caught, gradients that only lack rows are not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gaugec


class Weighed(torch.autograd.Function):
    """The identity, whose backward depends on a weight."""

    @staticmethod
    def forward(context: Any, y: Tensor, w: Tensor) -> Tensor:
        context.save_for_backward(w)
        return y.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (w,) = context.saved_tensors
        return gradients[0] / w.square().sum().sqrt(), None


class Custom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(7, 11), nn.Linear(11, 5)

    def forward(self, x: Tensor) -> Tensor:
        return Weighed.apply(self.b(torch.relu(self.a(x))), self.a.weight)


class Padded(nn.Module):
    """Its embedding's row for padding has no gradient; that row commutes with any action on the columns."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Embedding(13, 6, padding_idx=0), nn.Linear(6, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(ids)))


class Shared(nn.Module):
    """Reads a weight through numpy."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(7, 11), nn.Linear(11, 7)
        self.alias = self.a.weight.data.numpy()

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x))) + x @ torch.from_numpy(self.alias)[:7].T


def test_a_backward_that_depends_on_weights() -> None:
    with pytest.raises(gaugec.MatchError, match="the gradient is not that of the forward: under relu_rescale"):
        gaugec.compile("relu_mlp", Custom(), (torch.randn(3, 7),))


def test_a_row_without_gradient() -> None:
    ids = torch.tensor([[0, 1, 2], [3, 0, 4]])
    assert [site.gauge for site in gaugec.compile("relu_mlp", Padded(), (ids,)).sites] == ["relu_rescale"]


def test_a_weight_read_through_numpy() -> None:
    with pytest.raises(gaugec.MatchError, match="also as a constant"):
        gaugec.compile("relu_mlp", Shared(), (torch.randn(3, 7),))
