"""A model and its moved copy, trained side by side: a few steps of the compiled optimizer in double precision."""

from __future__ import annotations

import copy
from typing import Any

import torch
from seeds import set_seed
from torch import Tensor, nn

from gaugec.runtime import DDCAdamW

STEPS = 6


def loss_of(made: Any) -> Tensor:
    """A loss of whatever a model returns, against numbers of its own."""
    outputs = [x for x in torch.utils._pytree.tree_leaves(made) if isinstance(x, Tensor) and x.is_floating_point()]
    generator = torch.Generator().manual_seed(3)
    return torch.stack([(x - torch.randn(x.shape, generator=generator)).square().mean() for x in outputs]).sum()


def apart(compiled: Any, model: nn.Module, *inputs: Tensor, orbit: str = "pinned", **keywords: Tensor) -> float:
    """The largest relative difference of the losses of a model and its moved copy, over a few steps."""
    element = compiled.random_element(torch.Generator().manual_seed(1))
    one, two = copy.deepcopy(model), copy.deepcopy(model)
    moved = compiled.act({n: p.detach() for n, p in one.named_parameters()}, element)
    assert any(not torch.allclose(moved[n], p) for n, p in one.named_parameters()), "the element moves nothing"
    two.load_state_dict({**two.state_dict(), **moved})
    losses: list[list[float]] = []
    for each in (one, two):
        optimizer = DDCAdamW(each.named_parameters(), compiled, lr=3e-3, orbit=orbit)
        losses.append([])
        for step in range(STEPS):
            set_seed(step)
            optimizer.zero_grad()
            loss = loss_of(each(*inputs, **keywords))
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    assert losses[0][-1] != losses[0][0], "nothing was trained"
    return max(abs(a - b) / abs(a) for a, b in zip(*losses, strict=True))
