"""Pools average over what is mixed, and spread again."""

from __future__ import annotations

import torch

from gaugec.runtime import pooling
from gaugec.runtime.pooling import Piece
from runtime.slices import random


def test_pools_average_and_spread() -> None:
    pieces = (Piece(0, ((2, 6, False), (3, 2, True), (2, 1, False))), Piece(12, ((4, 1, False),)))
    x = random(2, 16)
    pooled = pooling.pool(x, pieces)
    assert pooled.shape == (2, 8)
    full = pooling.unpool(pooled, pieces, torch.empty(2, 16, dtype=torch.float64))
    assert torch.allclose(
        full[:, :12].view(2, 2, 3, 2), x[:, :12].view(2, 2, 3, 2).mean(2, keepdim=True).expand(2, 2, 3, 2)
    )
    assert torch.equal(full[:, 12:], x[:, 12:])
    assert torch.allclose(pooling.pool(full, pieces), pooled)
    assert torch.allclose(pooling.blur(x, pieces[:1]), full)
