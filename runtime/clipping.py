"""The norm of gradients as no gauge changes it: in the canonical coordinates that steps are taken in.

The plain norm of gradients goes from θ to gθ by as much as one likes, and what is clipped by it takes another path. Not
here: what clipping is good for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor

from gaugec.runtime.batch import Batch
from gaugec.runtime.stepper import gradient


@torch.no_grad()
def total_norm(batches: Sequence[Batch], others: Iterable[Tensor]) -> Tensor:
    """The norm of all gradients, a scalar: those of batches pulled to their frames, those of the others as they are."""
    all_of_them = chain(_pulled(batches), (gradient(p) for p in others if p.grad is not None))  # one at a time
    norms = [torch.linalg.vector_norm(x, dtype=torch.promote_types(x.dtype, torch.float32)) for x in all_of_them]
    if not norms:
        return torch.zeros(())
    dtype = torch.float64 if any(x.dtype == torch.float64 for x in norms) else torch.float32
    return torch.linalg.vector_norm(torch.stack([x.to(norms[0].device, dtype) for x in norms]))


def _pulled(batches: Sequence[Batch]) -> Iterator[Tensor]:
    """The gradients of batches in canonical coordinates; of places that were not stepped yet, in their next frame."""
    for batch in batches:
        if all(p.grad is None for params in batch.slots.values() for p in params):
            continue
        frame = batch.frame
        if frame is None:
            frame = batch.component.frame(batch.params(), None, batch.live, batch.off, batch.far)
        slopes = {slot: [gradient(p) for p in params] for slot, params in batch.slots.items()}
        for tile in batch.tiles():
            yield from batch.component.pull(tile.of(slopes), frame).values()
