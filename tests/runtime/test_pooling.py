"""Pools average over what is mixed, and spread again."""

from __future__ import annotations

import torch

from gaugec.runtime import DDCAdamW, Gauge, pooling
from gaugec.runtime.pooling import Piece
from gaugec.sites import Binding
from runtime.handmade import ROTATE, site, written
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


def test_what_is_not_averaged_beside_what_is() -> None:
    """Rows that no gauge turns keep a second moment for every entry, where others of the same tensor share theirs."""
    turned = Binding("W", "a", 0, (), ((4, 5),), ((5, 1),), ROTATE)
    gauge = Gauge(written([site("head", 0, "orthogonal", 1, 4, [turned])], {"a": (7, 5)}))
    p = torch.nn.Parameter(torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    optimizer = DDCAdamW([("a", p)], gauge)
    p.grad = torch.randn(7, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    optimizer.step()
    squares = p.grad.square()
    wanted = torch.cat([squares[:4].mean(0), squares[4:].flatten()]) * 1e-3
    assert torch.allclose(optimizer.state[p]["exp_avg_sq"].flatten(), wanted, rtol=1e-12)
