"""The memory that a step works in, shared by batches that look the same."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gaugec.runtime import batch as batches
from gaugec.runtime.batch import Batch
from gaugec.runtime.layout import Tensors, Values


@dataclass
class Room:
    """Memory that a batch's steps work in, the same from step to step: fresh memory costs more than a pass over it.

    pieces: for each, room for gradient, point, update and anything.  measured: see `measure` of a component; kept:
    those of its entries that need not be zero before.
    """

    pieces: list[tuple[Values, Values, Values, Values]]
    measured: Tensors
    kept: frozenset[str]

    @staticmethod
    def of(batch: Batch, memory: dict[object, Tensor]) -> Room:
        """Make room; `memory` is shared by all rooms."""
        component, count = batch.component, len(batch.keys)
        first = {slot: p[0] for slot, p in batch.slots.items()}
        pieces = []
        whole = 0
        for piece in batch.pieces():
            rooms = []
            for role in range(4):
                used = whole if role == 2 else 0
                values = {}
                for slot in piece.slots:
                    p = first[slot]
                    low, high = piece.rows.get(slot, (0, p.shape[0] if p.dim() else 1))
                    shape = (count, high - low, *p.shape[1:]) if p.dim() else (count,)
                    numel = math.prod(shape)
                    values[slot] = (used, numel, shape, batches.stepped(p.dtype), p.device)
                    used += numel
                rooms.append((role, used, values))
                if role == 2:
                    whole = used
            pieces.append((piece, rooms))
        for _, rooms in pieces:
            for role, used, values in rooms:
                for _, _, _, dtype, device in values.values():
                    key = (role, dtype, device)
                    if key not in memory or memory[key].numel() < used:
                        memory[key] = torch.empty(used, dtype=dtype, device=device)
        out = []
        for piece, rooms in pieces:
            four = []
            for role, _, values in rooms:
                views = {
                    slot: memory[(role, dtype, device)][start : start + numel].view(shape)
                    for slot, (start, numel, shape, dtype, device) in values.items()
                }
                four.append(Values(views, piece.span))
            out.append((four[0], four[1], four[2], four[3]))
        measured = component.blank(out[0][1])
        return Room(out, measured, frozenset(component.kept))
