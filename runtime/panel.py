"""What an eager step on a pinned orbit goes through: one tensor at places that step alike, rows that fit in a cache.

Small tensors of all layers are stacked for a step; a large one is stepped where it is, some rows at a time. Not here:
which tensors there are; pins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from gaugec.runtime import kernels, shards
from gaugec.runtime.batch import Batch, stack, stepped
from gaugec.runtime.chart import Band, Coordinates, bands, divided, joined, pooled
from gaugec.runtime.rules.rule import Averaging, Direction, Settings, UpdateRule, same
from gaugec.runtime.stepper import Stepper, gradient

TILE_CPU = 1 << 20  # elements that are stepped at a time: fewer are more calls than a cache makes up for
TILE_GPU = 1 << 28


class Scratch:
    """Memory that panels work in, one after the other: two tensors of the largest strip, by dtype and device."""

    def __init__(self) -> None:
        self._memory: dict[object, Tensor] = {}

    def of(self, role: int, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Uninitialized memory of a shape; the same for the same role."""
        key, count = (role, dtype, device), math.prod(shape)
        if key not in self._memory or self._memory[key].numel() < count:
            self._memory[key] = torch.empty(count, dtype=dtype, device=device)
        return self._memory[key][:count].view(*shape)


class Panel:
    """One tensor of a component at places that step together, and the views that a step of it goes through.

    members: batch and number in it of every place.  Small tensors are stacked for a step; a large one is stepped where
    it is, some rows at a time.  first, last: the rows of the parameters that this process has.  lands: whether it is
    parameters that are stepped; else what is placed takes the direction alone, in the coordinates of the chart.
    """

    straddles = False  # is it stepped where this process has no rows, too?

    def __init__(
        self,
        stepper: Stepper,
        rule: UpdateRule,
        members: list[tuple[Batch, int]],
        slot: str,
        chart: Coordinates,
        lands: bool = True,
    ) -> None:
        self.stepper, self.rule, self.members, self.slot, self.chart = stepper, rule, members, slot, chart
        self.lands = lands
        self.params = params = [batch.slots[slot][j] for batch, j in members]
        self.dtype = stepped(params[0].dtype)
        self.first, self.last = shards.rows(params[0])
        self.below: Tensor | None = None

    @property
    def batch(self) -> Batch:
        """One of its batches: they have component, group and number of steps in common."""
        return self.members[0][0]

    def furnish(self, room: Scratch) -> None:
        """Find the strips and their memory."""
        batch, slot, p = self.batch, self.slot, self.params[0]
        averaged = self.stepper.pooling and slot in batch.component.pooled
        found = self._bands() if averaged else None
        limit = TILE_CPU if p.device.type == "cpu" else TILE_GPU
        row, count = math.prod(p.shape[1:]), self.last - self.first
        wanted = max(1, limit // (row * len(self.params)))
        self.strips: list[Strip] = []
        if averaged and found is None:
            self.strips += [Strip(self, (0, count), None, room)] if count or self.straddles else []
        elif not averaged:
            self.strips += [Strip(self, (a, min(a + wanted, count)), None, room) for a in range(0, count, wanted)]
        else:
            for band in found or ():
                size = max(band.unit, wanted // band.unit * band.unit)
                for a in range(band.rows[0], band.rows[1], size):
                    self.strips.append(Strip(self, (a, min(a + size, band.rows[1])), band, room))
        self.home = -1

    def averaging(self, room: Tensor) -> tuple[Averaging, Averaging]:
        """`squares` and `unpool` of all its rows, where they are no bands; room: where both write."""
        return self.stepper.averaging(self.batch.component, self.slot, {}, room, room)

    def _bands(self) -> list[Band] | None:
        """The pools of the rows that this process has; None where they are no bands in which factors are constant."""
        batch, slot, p = self.batch, self.slot, self.params[0]
        if not divided(batch.component, slot, p):
            return None
        found = bands(batch.component, slot, p.shape)
        if found is not None and self.chart.factors and self.lands:
            self.below = pooled(self.chart.factors, batch.component, slot, p.shape)
            if self.below is None:
                return None
        here = shards.shard(p)
        if found is None or here is None:
            return found
        if self.below is not None:
            low, high = here.rows(self.below.shape[1])
            self.below = self.below[:, low:high]
        return [band.within(self.first, self.last) for band in found]

    def step(self, groups: Sequence[Settings]) -> None:
        """Step all its places."""
        batch = self.batch
        group, number = groups[batch.groups[self.slot]], batch.step
        p = shards.own(self.params[0])
        if len(self.params) == 1 and p.dtype == self.dtype and p.is_contiguous() and p.dim():
            slope = gradient(self.params[0], group)
            if p.data_ptr() != self.home:
                self.home = p.data_ptr()
                for strip in self.strips:
                    strip.place(p.unsqueeze(0))
            for strip in self.strips:
                strip.step(slope.unsqueeze(0), group, number)
            return
        mine = [shards.own(p) for p in self.params]
        values = stack(mine)
        slope = stack([gradient(p, group) for p in self.params])
        if values.data_ptr() == p.data_ptr():
            values = values.clone()
        self.home = -1
        for strip in self.strips:
            strip.place(values)
            strip.step(slope, group, number)
        torch._foreach_copy_(mine, list(values.unbind(0)))


class Strip:
    """Rows of a panel, from and to, and what a step of them reads and writes; the first axis is that of places."""

    def __init__(self, panel: Panel, rows: tuple[int, int], band: Band | None, room: Scratch) -> None:
        self.panel, self.rows, self.band = panel, rows, band
        stepper, batch, slot = panel.stepper, panel.batch, panel.slot
        first, n = panel.params[0], len(panel.params)
        self.whole = rows == (0, panel.last - panel.first)
        shape = (n, rows[1] - rows[0], *first.shape[1:]) if first.dim() else (n,)
        self.x, self.y = (room.of(role, shape, panel.dtype, first.device) for role in (0, 1))
        chart = panel.chart.within(panel.first, panel.last)
        self.factors = tuple(self._cut(f) for f in chart.factors)
        self.back = self.factors if panel.lands else ()
        self.centre = None if chart.centre is None else self._cut(chart.centre)
        self.averaged = stepper.pooling and slot in batch.component.pooled
        self.shape: tuple[int, ...] = shape
        kept: tuple[int, ...] = ()
        if band is not None:
            share = (rows[1] - rows[0]) / (band.rows[1] - band.rows[0])
            sizes = (round(band.sizes[0] * share), *band.sizes[1:])
            self.shape = (n, *sizes)
            kept = (n, *(1 if mixed else size for size, mixed in zip(sizes, band.averaged)))
            begin = band.start + round(band.count * (rows[0] - band.rows[0]) / (band.rows[1] - band.rows[0]))
            part = slice(begin, begin + round(band.count * share))
            self.axes = [i + 1 for i, mixed in enumerate(band.averaged) if mixed]
        self.state: dict[str, Tensor] = {}
        for name, mixed in panel.rule.state.items():
            here = _stacked_state(panel, name)
            if mixed and self.averaged:
                self.state[name] = here if band is None else here[:, part].view(kept)
            else:
                self.state[name] = self._cut(here).view(self.shape)
        self.below = None
        if band is not None and self.back:
            assert panel.below is not None
            self.below = panel.below[:, part].view(panel.below.shape[0], *kept[1:])
        self.room, self.pulled = self.x.view(self.shape), self.y.view(self.shape)
        self.squares, self.unpool = self._averaging()

    def _cut(self, x: Tensor) -> Tensor:
        return x if self.whole or x.shape[1] == 1 else x[:, self.rows[0] : self.rows[1]]

    def place(self, values: Tensor) -> None:
        """Say where the parameters are: [places, *shape], contiguous."""
        self.p = self._cut(values)
        self.seen = self.p.view(self.shape)

    def step(self, slope: Tensor, group: Settings, number: int) -> None:
        """Step these rows; slope: the gradient of the whole panel."""
        rule, g = self.panel.rule, self._cut(slope)
        for factor in self.factors:
            g = torch.mul(g, factor, out=self.y)
        if g.dtype != self.p.dtype or not g.is_contiguous():
            g = self.y.copy_(g)
        if rule.kernel is not None and not self.averaged and self._by_kernel(g, group, number):
            return
        pulled = self.pulled if g is self.y else g.view(self.shape)
        direction = rule.update(pulled, self.state, rule.numbers(group, number), self.squares, self.room)
        self._shrink(group)
        self._add(direction)

    def _by_kernel(self, g: Tensor, group: Settings, number: int) -> bool:
        rule, p, x = self.panel.rule, self.p, self.x
        assert rule.kernel is not None
        if not self.back and self.centre is None:
            return rule.kernel(p, g, self.state, group, number, self.panel.lands)
        if not rule.kernel(x.zero_(), g, self.state, group, number, False):
            return False
        for factor in self.back[1:]:
            x.mul_(factor)
        self._shrink(group)
        if self.back:
            p.addcmul_(x, self.back[0])
        else:
            p.add_(x)
        return True

    def _shrink(self, group: Settings) -> None:
        """Decay the parameters."""
        decay = self.panel.rule.decay(group) if self.panel.lands else 0.0
        if decay and self.centre is not None:
            self.p.lerp_(self.centre, decay)
        elif decay:
            self.p.mul_(kernels.number(1 - decay, self.p.dtype))

    def _add(self, direction: Direction) -> None:
        """Add a direction to the parameters, multiplied by the factors."""
        _, above, below = direction
        weight = float(direction.weight)
        if below is None:
            if len(self.back) == 1:
                self.p.addcmul_(above.view_as(self.p), self.back[0], value=weight)
                return
            for factor in self.back:
                above = torch.mul(above.view_as(self.p), factor, out=self.x)
            self.p.add_(above.view_as(self.p), alpha=weight)
        elif self.band is not None:
            if self.below is not None:
                below.div_(self.below)
            self.seen.addcdiv_(above, below, value=weight)
        else:
            below = self.unpool(below)
            for factor in self.back:
                below.div_(factor)
            self.p.addcdiv_(above.view_as(self.p), below.view_as(self.p), value=weight)

    def _averaging(self) -> tuple[Averaging, Averaging]:
        """`squares` and `unpool` of the rule's steps."""
        if self.band is None:
            return self.panel.averaging(self.x)
        if not self.axes:  # a band beside others: torch would take the mean of all of it
            return lambda g: torch.mul(g, g, out=self.room), same
        axis = self.axes[0] if len(self.axes) == 1 else 0
        if self.shape[axis] != 2 or not axis:
            return lambda g: torch.mul(g, g, out=self.room).mean(self.axes, keepdim=True), same
        halves, half = self.pulled.split(1, axis), kernels.number(0.5, self.x.dtype)
        out = self.room.narrow(axis, 0, 1)

        def squares(g: Tensor) -> Tensor:  # of rotary pairs: far faster than a mean
            low, high = halves if g is self.pulled else g.split(1, axis)
            return torch.mul(low, low, out=out).addcmul_(high, high).mul_(half)

        return squares, same


def stacked(panels: list[Panel]) -> list[Panel]:
    """Join panels of one kind, as many as are stepped at a time."""
    first = panels[0]
    if len(panels) == 1:
        return panels
    width = max(1, (TILE_CPU if first.params[0].device.type == "cpu" else TILE_GPU) // first.params[0].numel())
    out = []
    for start in range(0, len(panels), width):
        some = panels[start : start + width]
        chart = joined([each.chart for each in some])
        if chart is None or len(some) == 1:
            out += some
            continue
        members = [member for each in some for member in each.members]
        out.append(type(first)(first.stepper, first.rule, members, first.slot, chart))
    return out


def _stacked_state(panel: Panel, name: str) -> Tensor:
    """The state of a panel's places as one tensor [places, ...]."""
    batches = list({id(batch): batch for batch, _ in panel.members}.values())
    here = batches[0].state[name][panel.slot]
    if len(batches) == 1:
        numbers = [j for _, j in panel.members]
        return here[numbers[0] : numbers[-1] + 1]
    flat = joint(panel.stepper, [(batch, panel.slot) for batch in batches], name)
    return flat.view(len(panel.members), *here.shape[1:])


def joint(stepper: Stepper, places: Sequence[tuple[Batch, str]], name: str) -> Tensor:
    """The state of slots of batches as one vector, one after the other; it moves there if it is elsewhere."""
    rows = [batch.state[name][slot] for batch, slot in places]
    starts = accumulate([x.numel() for x in rows], initial=rows[0].storage_offset())
    store = rows[0].untyped_storage().data_ptr()
    if all(x.untyped_storage().data_ptr() == store and x.storage_offset() == at for x, at in zip(rows, starts)):
        return rows[0].as_strided((sum(x.numel() for x in rows),), (1,))
    out = torch.cat([x.flatten() for x in rows])
    for (batch, slot), x, part in zip(places, rows, out.split([x.numel() for x in rows])):
        batch.state[name][slot] = part.view_as(x)
        stepper.moved(batch)
    return out
