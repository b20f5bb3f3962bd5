"""The norm of gradients as no gauge changes it: in the canonical coordinates that steps are taken in.

The plain norm of gradients goes from θ to gθ by as much as one likes, and what is clipped by it takes another path. Not
here: what clipping is good for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor

from gaugec.runtime import shards
from gaugec.runtime.batch import Batch, stack
from gaugec.runtime.chart import charts
from gaugec.runtime.shards import Shard
from gaugec.runtime.stepper import gradient


@torch.no_grad()
def total_norm(batches: Sequence[Batch], others: Iterable[Tensor]) -> Tensor:
    """The norm of all gradients, a scalar: those of batches pulled to their frames, those of the others as they are.

    Of gradients in shards every process takes the norm of its rows; their squares are added up in one all-reduce.
    """
    plain = ((gradient(p), shards.shard(p)) for p in others if p.grad is not None)
    norms: list[tuple[Tensor, Shard | None]] = []
    for x, here in chain(_pulled(batches), plain):  # one at a time
        dtype = torch.promote_types(x.dtype, torch.float32)
        norms.append((torch.linalg.vector_norm(x, dtype=dtype), here))
    if not norms:
        return torch.zeros(())
    if any(here for _, here in norms):
        squares = shards.summed([(x.square(), here) for x, here in norms])
        norms = [(x.sqrt(), None) for x in squares]
    dtype = torch.float64 if any(x.dtype == torch.float64 for x, _ in norms) else torch.float32
    return torch.linalg.vector_norm(torch.stack([x.to(norms[0][0].device, dtype) for x, _ in norms]))


def _pulled(batches: Sequence[Batch]) -> Iterator[tuple[Tensor, Shard | None]]:
    """The gradients of batches in canonical coordinates, and how they are divided.

    Of places that were not stepped yet, in their next frame.
    """
    for batch in batches:
        if all(p.grad is None for params in batch.slots.values() for p in params):
            continue
        frame = batch.frame
        if frame is None:
            values = batch.params()
            gains = batch.component.gained(values, batch.held)
            frame = batch.component.frame(values, None, batch.live, batch.off, batch.far, gains)
        slopes = {slot: [gradient(p) for p in params] for slot, params in batch.slots.items()}
        if not any(shards.shard(params[0]) for params in batch.slots.values()):
            for tile in batch.tiles():
                pulled = batch.component.pull(tile.of(slopes), frame)
                yield from ((x, None) for slot, x in pulled.items() if slot not in batch.standing)
            continue
        for slot, chart in charts(batch, frame, {}).items():
            if slot in batch.standing:
                continue
            p, slope = batch.slots[slot][0], stack(slopes[slot])
            for factor in chart.within(*shards.rows(p)).factors:
                slope = slope * factor
            yield slope, shards.shard(p)
