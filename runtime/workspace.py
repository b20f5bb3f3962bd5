"""The memory that steps work in: kept from step to step, since fresh memory costs more than a pass over it.

Batches that look the same share a room, and all rooms share their memory: what is in it lasts for one batch's step.
"""

from __future__ import annotations

import math
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from gaugec.runtime.batch import Batch, Tile, stepped
from gaugec.runtime.layout import Tensors, Values

T = TypeVar("T")


class Bench(NamedTuple, Generic[T]):
    """Room for one tile, by slot: its gradient, its point, its part of the update, and anything."""

    gradient: T
    point: T
    update: T
    spare: T


class Room(NamedTuple):
    """Room for a batch's steps: a bench for every tile, and what a component's `measure` adds up in.

    kept: those entries of `measured` that need not be zero before.
    """

    benches: list[Bench[Values]]
    measured: Tensors
    kept: frozenset[str]


class Workspace:
    """The rooms of one optimizer."""

    def __init__(self) -> None:
        self._memory: dict[object, Tensor] = {}
        self._rooms: dict[object, Room] = {}

    def room(self, batch: Batch) -> Room:
        """Room for an eager step of a batch: the update takes a whole batch, everything else a tile."""
        kinds = tuple(stepped(p[0].dtype) for p in batch.slots.values())
        key = (id(batch.component), len(batch.keys), batch.device, kinds)
        if key not in self._rooms:
            self._rooms[key] = self._furnished(batch)
        return self._rooms[key]

    def flat(self, params: Tensors) -> Tensors:
        """Room for the update of a fused step, shaped like the parameters, which have one dtype."""
        first = next(iter(params.values()))
        sizes = [x.numel() for x in params.values()]
        whole = self._at_least(sum(sizes), Bench._fields.index("update"), first.dtype, first.device)[: sum(sizes)]
        return {slot: part.view(x.shape) for (slot, x), part in zip(params.items(), whole.split(sizes))}

    def _furnished(self, batch: Batch) -> Room:
        first: Tensors = {slot: p[0] for slot, p in batch.slots.items()}
        tiles = batch.tiles()
        shapes = [{slot: _shape(tile, slot, first[slot], len(batch.keys)) for slot in tile.slots} for tile in tiles]
        sizes = [sum(math.prod(shape) for shape in each.values()) for each in shapes]
        needs = Bench(max(sizes), max(sizes), sum(sizes), max(sizes))
        for kind in {(stepped(p.dtype), p.device) for p in first.values()}:
            for role, need in enumerate(needs):  # before the first view is taken: what grows is new memory
                self._at_least(need, role, *kind)
        benches = []
        for i, tile in enumerate(tiles):
            starts = Bench(0, 0, sum(sizes[:i]), 0)  # the updates of all tiles stand one after the other
            views = [self._views(role, start, shapes[i], first) for role, start in enumerate(starts)]
            benches.append(Bench(*(Values(each, tile.span) for each in views)))
        return Room(benches, batch.component.blank(benches[0].point), frozenset(batch.component.kept))

    def _views(self, role: int, start: int, shapes: dict[str, tuple[int, ...]], like: Tensors) -> Tensors:
        out = {}
        for slot, shape in shapes.items():
            end = start + math.prod(shape)
            memory = self._at_least(end, role, stepped(like[slot].dtype), like[slot].device)
            out[slot] = memory[start:end].view(shape)
            start = end
        return out

    def _at_least(self, count: int, role: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        key = (role, dtype, device)
        if key not in self._memory or self._memory[key].numel() < count:
            self._memory[key] = torch.empty(count, dtype=dtype, device=device)
        return self._memory[key]


def _shape(tile: Tile, slot: str, p: Tensor, count: int) -> tuple[int, ...]:
    if not p.dim():
        return (count,)
    low, high = tile.rows.get(slot, (0, p.shape[0]))
    return (count, high - low, *p.shape[1:])
