"""Places of a component that step together: parameters of equal shape stacked along a batch axis.

Small parameters are stacked, so that one operation serves every layer; large ones stay alone, as views, so that nothing
is copied; what only reads goes through them by tiles.  Not here: what a step does, learning rates.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gaugec.runtime import shards
from gaugec.runtime.frames import FAR, FAR_HALF, Frame
from gaugec.runtime.held import Added, at_hand
from gaugec.runtime.layout import Tensors, Values
from gaugec.runtime.multipliers import still

STACK_CPU = 1 << 18  # elements: beyond this a copy costs more than the calls that it saves
STACK_GPU = 1 << 26
TILE_CPU = 1 << 20  # elements that are taken at a time where something is only read, as for the norm of gradients
TILE_GPU = 1 << 28


@dataclass
class Batch:
    """Places of one component that have everything in common but their numbers.

    keys: the places; slots: slot -> one parameter for each place; groups: slot -> param group.
    held: slots that charts read, which are not stepped, or a part of which is not; sums: those of which something is
    added to a slot, None before they are known; inside: whether that is added in place, as in `held.coordinates`.
    off: gauges that are not in force; live: gauge -> where it has a canonical form, [batch, copies, size], of matrices
    [batch, copies, 1]; lost: where it had one, and has none any more, since somebody looked.  homes: where shifts
    began, on pinned orbits.
    shown, count: parameters with the views of the state, and the number of steps, as they stand in `optimizer.state`.
    charts: a frame, and what a pinned step has read off it.
    state: what the update rule keeps, in canonical coordinates: name -> slot -> [batch, ...]; step: steps taken.
    """

    component: Any
    keys: list[str]
    slots: dict[str, list[nn.Parameter]]
    groups: dict[str, int]
    off: frozenset[str]
    held: frozenset[str] = frozenset()
    live: Tensors = field(default_factory=dict)
    frame: Frame | None = None
    sums: tuple[Added, ...] | None = None
    inside: bool = False
    state: dict[str, Tensors] = field(default_factory=dict)
    step: int = 0
    lost: Tensors = field(default_factory=dict)
    homes: Tensors | None = None
    shown: list[tuple[Tensor, Tensors]] = field(default_factory=list)
    count: Tensor = field(default_factory=lambda: torch.zeros((), device="cpu"))
    charts: tuple[Frame | None, Any] | None = None
    _tiles: list[Tile] | None = None

    def values(self) -> dict[str, list[Tensor]]:
        """The parameters' values, by slot and place; gathered where this process has some rows only."""
        gathered = iter(shards.whole([p for params in self.slots.values() for p in params]))
        return {slot: [next(gathered) for _ in params] for slot, params in self.slots.items()}

    def params(self) -> Tensors:
        """The parameters, stacked, at least in float32, with what sums add to them."""
        values = {slot: stack(each) for slot, each in self.values().items()}
        if not self.component.sums:
            return values
        if self.sums is None:
            there = [each for each in self.component.sums if each.bias in self.held]
            self.sums = at_hand(there, values)
        whole: Tensors = self.component.summed(values, self.sums)
        return {slot: x if not self.inside or slot in self.standing else values[slot] for slot, x in whole.items()}

    def read(self) -> None:
        """Read what is held, where that was not done yet."""
        if self.sums is None or (self.frame is not None and self.frame.gains is None):
            values = self.params()
            self.sums = self.sums or ()
            if self.frame is not None and self.frame.gains is None:
                self.frame.gains = self.component.gained(values, self.held)

    @property
    def device(self) -> torch.device:
        """Where the batch is: all its parameters are on one device."""
        return next(iter(self.slots.values()))[0].device

    @property
    def far(self) -> float:
        """Beyond what its scales are none."""
        half = any(p.dtype == torch.float16 for params in self.slots.values() for p in params)
        return FAR_HALF if half else FAR

    def framed(self) -> None:
        """Solve for the scales anew; those of units without a canonical form are held."""
        held, was = None, self.live
        if self.frame is not None:
            held, was = self.frame.scales, self.known()
        values = self.params()
        gains = self.component.gained(values, self.held)
        self.frame = self.component.frame(values, held, was, self.off, self.far, gains)
        self.watched(self.frame.live)

    def known(self) -> Tensors:
        """Where a scale is taken as it comes: where there was one, and where there never was, so that it is still 1.

        Of gauges for which that is not everywhere.
        """
        assert self.frame is not None
        return {
            name: live | still(self.frame.scales[name]) for name, live in self.live.items() if not bool(live.all())
        }

    def watched(self, live: Tensors) -> None:
        """Remember where there is a canonical form now, and where there is none any more."""
        for name, here in live.items():
            if here is self.live[name] or bool(here.all()):
                continue
            lost = self.live[name] & ~here
            self.lost[name] = self.lost[name] | lost if name in self.lost else lost
        self.live = dict(live)

    def begin_anew(self) -> None:
        """Forget all steps."""
        self.frame, self.state, self.homes, self.step, self.shown = None, {}, None, 0, []
        self.charts, self.sums = None, None

    @property
    def standing(self) -> frozenset[str]:
        """The slots of which all is held."""
        return self.held - {*self.component.partly}

    def trainable(self, slot: str) -> bool:
        """Whether the slot's parameters are stepped; those of one batch are alike."""
        return self.slots[slot][0].requires_grad and slot not in self.standing

    def write(self, values: Tensors, slots: Collection[str]) -> None:
        """Put values of `params`, which were changed in place, into the parameters of these slots."""
        for slot in slots:
            for p, x in zip(self.slots[slot], values[slot]):
                here, low, high = shards.own(p), *shards.rows(p)
                if here.data_ptr() != x.data_ptr():
                    here.copy_(x[low:high] if x.dim() else x)

    def tiles(self) -> list[Tile]:
        """What a step takes at a time: runs of slots, and of rows of a large slot where the compiler lets it."""
        if self._tiles is None:
            limit = TILE_CPU if self.device.type == "cpu" else TILE_GPU
            self._tiles = _tiles(self.component, len(self.keys), limit)
        return self._tiles

    def parts(self) -> list[Batch]:
        """The same as batches of one place each, which share this one's state."""
        out = []
        for i, key in enumerate(self.keys):
            here = slice(i, i + 1)
            slots = {s: [p[i]] for s, p in self.slots.items()}
            one = Batch(self.component, [key], slots, self.groups, self.off, self.held)
            one.live = {name: value[here] for name, value in self.live.items()}
            if self.frame is not None:
                scales = {name: value[here] for name, value in self.frame.scales.items()}
                powers = {n: {p: value[here] for p, value in each.items()} for n, each in self.frame.powers.items()}
                live = {name: value[here] for name, value in self.frame.live.items()}
                gains = self.frame.gains
                gains = None if gains is None else {slot: x[here] for slot, x in gains.items()}
                one.frame = Frame(scales, powers, self.frame.off, live, gains)
            one.state = {n: {slot: value[here] for slot, value in each.items()} for n, each in self.state.items()}
            if self.homes is not None:
                one.homes = {name: value[here] for name, value in self.homes.items()}
            one.step = self.step
            out.append(one)
        return out


@dataclass(frozen=True)
class Tile:
    """Slots, and rows (from, to) of those that are cut; span: the same in elements."""

    slots: tuple[str, ...]
    rows: dict[str, tuple[int, int]]
    span: dict[str, tuple[int, int]]

    def of(self, tensors: Mapping[str, Sequence[Tensor]]) -> Values:
        """These slots and rows of tensors by slot, one for each place: stacked."""
        out = {}
        for slot in self.slots:
            low, high = self.rows.get(slot, (None, None))
            out[slot] = stack([x if low is None else x[low:high] for x in tensors[slot]])
        return Values(out, self.span)


def _tiles(component: Any, count: int, limit: int) -> list[Tile]:
    out: list[Tile] = []
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
                out.append(Tile((slot,), {slot: (low, high)}, {slot: (low * row, high * row)}))
            continue
        if slots and held + numel > limit and not component.whole:
            out.append(Tile(tuple(slots), {}, {}))
            slots, held = [], 0
        slots.append(slot)
        held += numel
    return [*out, Tile(tuple(slots), {}, {})] if slots else out


def stack(tensors: Sequence[Tensor]) -> Tensor:
    """Stack along a new batch axis, contiguous, float32 at least; one tensor is not copied unless it has to be."""
    x = tensors[0].contiguous().unsqueeze(0) if len(tensors) == 1 else torch.stack(list(tensors))
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def stepped(dtype: torch.dtype) -> torch.dtype:
    """The dtype that steps of parameters of a dtype are taken in."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


class Place(NamedTuple):
    """A component at one place: its key, parameters and param groups by slot, the gauges that are not in force, and
    the slots that are held.
    """

    key: str
    params: dict[str, nn.Parameter]
    groups: dict[str, int]
    off: frozenset[str]
    held: frozenset[str] = frozenset()


def make(component: Any, places: Sequence[Place]) -> list[Batch]:
    """Batch places of one component: those whose parameters have dtype, device, group and freezing in common."""
    alike: dict[object, list[Place]] = {}
    for place in places:
        kinds = tuple(
            (p.dtype, p.device, p.requires_grad, shards.shard(p), place.groups[slot])
            for slot, p in place.params.items()
        )
        alike.setdefault((kinds, place.off, place.held), []).append(place)
    batches = []
    for same in alike.values():
        params = list(same[0].params.values())
        limit = STACK_CPU if params[0].device.type == "cpu" else STACK_GPU
        width = max(1, limit // sum(p.numel() for p in params))
        for start in range(0, len(same), width):
            chunk = same[start : start + width]
            slots = {slot: [place.params[slot] for place in chunk] for slot in chunk[0].params}
            keys, first = [place.key for place in chunk], chunk[0]
            batches.append(Batch(component, keys, slots, first.groups, first.off, first.held))
    return batches
