"""Places of a component that step together: parameters of equal shape stacked along a batch axis.

Small parameters are stacked, so that one operation serves every layer; large ones stay alone, as views, so that nothing
is copied.  Not here: moments, learning rates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gaugec.runtime.frames import Frame
from gaugec.runtime.layout import Tensors, Values

STACK_CPU = 1 << 18  # elements: beyond this a copy costs more than the calls that it saves
STACK_GPU = 1 << 26
PIECE_CPU = 1 << 20  # elements that a step takes at a time: gradient, moments, step and point stay in a cache together
PIECE_GPU = 1 << 28


@dataclass
class Batch:
    """Places of one component that have everything in common but their numbers.

    keys: the places; slots: slot -> one parameter for each place; groups: slot -> param group.
    off: gauges that are not in force; moments, second: state in canonical coordinates, slot -> [batch, ...].
    """

    component: Any
    keys: list[str]
    slots: dict[str, list[nn.Parameter]]
    groups: dict[str, int]
    off: frozenset[str]
    live: Tensors = field(default_factory=dict)
    frame: Frame | None = None
    moments: Tensors = field(default_factory=dict)
    second: Tensors = field(default_factory=dict)
    step: int = 0
    _pieces: list[Piece] | None = None

    def params(self) -> Tensors:
        """The parameters, stacked, at least in float32."""
        return {slot: stack([p.detach() for p in params]) for slot, params in self.slots.items()}

    def pieces(self) -> list[Piece]:
        """What a step takes at a time: runs of slots, and of rows of a large slot where the compiler lets it."""
        if self._pieces is None:
            first = next(iter(self.slots.values()))[0]
            limit = PIECE_CPU if first.device.type == "cpu" else PIECE_GPU
            self._pieces = _pieces(self.component, len(self.keys), limit)
        return self._pieces

    def parts(self) -> list[Batch]:
        """The same as batches of one place each, which share this one's state."""
        out = []
        for i, key in enumerate(self.keys):
            here = slice(i, i + 1)
            one = Batch(self.component, [key], {s: [p[i]] for s, p in self.slots.items()}, self.groups, self.off)
            one.live = {name: value[here] for name, value in self.live.items()}
            if self.frame is not None:
                scales = {name: value[here] for name, value in self.frame.scales.items()}
                powers = {n: {p: value[here] for p, value in each.items()} for n, each in self.frame.powers.items()}
                one.frame = Frame(scales, powers, self.frame.off)
            one.moments = {slot: value[here] for slot, value in self.moments.items()}
            one.second = {slot: value[here] for slot, value in self.second.items()}
            one.step = self.step
            out.append(one)
        return out


@dataclass(frozen=True)
class Piece:
    """Slots, and rows (from, to) of those that are cut; span: the same in elements."""

    slots: tuple[str, ...]
    rows: dict[str, tuple[int, int]]
    span: dict[str, tuple[int, int]]

    def of(self, values: Mapping[str, Tensor]) -> Values:
        """These slots and rows of tensors [batch, rows, ...]."""
        return Values({slot: self.cut(slot, values[slot]) for slot in self.slots}, self.span)

    def cut(self, slot: str, x: Tensor) -> Tensor:
        """These rows of one tensor [batch, rows, ...]."""
        if slot not in self.rows:
            return x
        low, high = self.rows[slot]
        return x[:, low:high]

    def pooled(self, slot: str, x: Tensor, whole: int) -> Tensor:
        """These rows of pooled state [batch, ...], of a slot with `whole` elements."""
        if slot not in self.span:
            return x
        low, high = (n * x.shape[1] // whole for n in self.span[slot])
        return x[:, low:high]


def _pieces(component: Any, count: int, limit: int) -> list[Piece]:
    out: list[Piece] = []
    slots: list[str] = []
    held = 0
    for slot, shape in component.shapes.items():
        numel = count * math.prod(shape)
        if count == 1 and slot in component.cuts and numel > limit:
            row, unit = math.prod(shape[1:]), component.cuts[slot]
            wanted = -(-numel // limit)
            step = max(unit, -(-shape[0] // (wanted * unit)) * unit)
            for low in range(0, shape[0], step):
                high = min(low + step, shape[0])
                out.append(Piece((slot,), {slot: (low, high)}, {slot: (low * row, high * row)}))
            continue
        if slots and held + numel > limit and not component.whole:
            out.append(Piece(tuple(slots), {}, {}))
            slots, held = [], 0
        slots.append(slot)
        held += numel
    return [*out, Piece(tuple(slots), {}, {})] if slots else out


def stack(tensors: Sequence[Tensor]) -> Tensor:
    """Stack along a new batch axis, contiguous, float32 at least; one tensor is not copied unless it has to be."""
    x = tensors[0].contiguous().unsqueeze(0) if len(tensors) == 1 else torch.stack(list(tensors))
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def stepped(dtype: torch.dtype) -> torch.dtype:
    """The dtype that steps of parameters of a dtype are taken in."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def make(
    component: Any, places: Sequence[tuple[str, dict[str, nn.Parameter], dict[str, int], frozenset[str]]]
) -> list[Batch]:
    """Batch places (key, parameters by slot, param groups by slot, gauges off) of one component."""
    alike: dict[object, list[Any]] = {}
    for place in places:
        _, params, groups, off = place
        kinds = tuple((p.dtype, p.device, p.requires_grad, groups[slot]) for slot, p in params.items())
        alike.setdefault((kinds, off), []).append(place)
    batches = []
    for same in alike.values():
        first = next(iter(same[0][1].values()))
        count = sum(p.numel() for p in same[0][1].values())
        width = max(1, (STACK_CPU if first.device.type == "cpu" else STACK_GPU) // count)
        for start in range(0, len(same), width):
            chunk = same[start : start + width]
            slots = {slot: [params[slot] for _, params, _, _ in chunk] for slot in chunk[0][1]}
            batches.append(Batch(component, [key for key, _, _, _ in chunk], slots, chunk[0][2], chunk[0][3]))
    return batches
