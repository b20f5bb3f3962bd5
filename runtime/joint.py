"""What a horizontal step goes through: batches of one component, whose vertical parts are removed in one solve.

The point, the step and what is computed from them are in memory that all steps share, [places, *shape] by tensor: so
one operation serves all layers that look alike. Not here: which batches there are, frames, rules, gauges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gaugec.runtime import actions
from gaugec.runtime.batch import Batch, stepped
from gaugec.runtime.chart import Coordinates, Mix, charted, joined, mixed
from gaugec.runtime.frames import Frame
from gaugec.runtime.layout import Kept, Tensors
from gaugec.runtime.matrices import orthogonal
from gaugec.runtime.panel import Panel, Scratch, Strip
from gaugec.runtime.rules.rule import Settings, UpdateRule, same
from gaugec.runtime.stepper import Stepper, gradient

SMALL = 1 << 15  # elements: below this, tensors of equal shape are stacked
POINT, UPDATE, SPARE = 2, 3, 4  # roles of memory, beside those of panels

Member = tuple[Batch, int]


class Joint:
    """Batches that step together: of one component, with the gauges that are off and the number of steps in common."""

    def __init__(
        self, stepper: Stepper, batches: Sequence[Batch], groups: Sequence[Settings], room: Scratch
    ) -> None:
        self.batches, self.component, self.off = batches, batches[0].component, batches[0].off
        first = batches[0]
        rules = {slot: stepper.rule_of(groups[first.groups[slot]]) for slot in first.slots}
        members = [(batch, j) for batch in batches for j in range(len(batch.keys))]
        self.point, self.update, self.spare = (Kept(memory(batches, room, role)) for role in (POINT, UPDATE, SPARE))
        self.room = room
        self.frames: list[Frame | None] = [None for _ in batches]
        self.legs: list[Leg] = []
        for slot, params in first.slots.items():
            width = len(members) if params[0].numel() < SMALL else 1
            for low in range(0, len(members), width):
                here = slice(low, low + width)
                views = self.point[slot][here], self.update[slot][here]
                self.legs.append(Leg(stepper, rules[slot], members[here], slot, *views))

    def _chart(self) -> None:
        """Read the batches' frames, where they are new."""
        frames = [batch.frame for batch in self.batches]
        if all(one is two for one, two in zip(frames, self.frames)):
            return
        self.frames = frames
        found = {id(batch): charted(batch) for batch in self.batches}
        for leg in self.legs:
            leg.chart([found[id(batch)][leg.slot].at(j) for batch, j in leg.members], self.room)

    def step(self, groups: Sequence[Settings]) -> None:
        """Step all places."""
        self._chart()
        for leg in self.legs:
            leg.aim(groups)
        decays = {leg.slot: leg.rule.decay(groups[leg.group]) for leg in self.legs}
        self.component.recentred(self.update, self.point, decays, self.off)
        self.component.project(self.update, self.point, self.off, self.spare)
        for leg in self.legs:
            leg.land()


class Leg:
    """One tensor of a joint step, at one place, or at all where it is small.

    point, update: [places, *shape], where it is in canonical coordinates, and where it goes.
    """

    def __init__(
        self,
        stepper: Stepper,
        rule: UpdateRule,
        members: list[Member],
        slot: str,
        point: Tensor,
        update: Tensor,
    ) -> None:
        self.stepper, self.rule, self.members, self.slot = stepper, rule, members, slot
        self.point, self.update = point, update
        batch = members[0][0]  # they have component, groups and number of steps in common
        self.params = [batch.slots[slot][j] for batch, j in members]
        self.offset = float(batch.component.offsets.get(slot, 0.0))
        self.trained, self.group = batch.trainable(slot), batch.groups[slot]
        self.strips: list[Strip] = []

    def chart(self, charts: Sequence[Coordinates], room: Scratch) -> None:
        """Take the factors of charts, one for each place, as those of all."""
        factors = [chart.factors for chart in charts]
        if len({len(each) for each in factors}) > 1:  # some have less: those that were 1 are left out
            one = self.point.new_ones([1] * self.point.dim())
            factors = [(math.prod(each, start=one),) for each in factors]
        whole = joined([Coordinates(each, None) for each in factors])
        assert whole is not None
        self.factors, self.inverses = whole.factors, [1 / factor for factor in whole.factors]
        mixes = joined([Coordinates((), None, chart.mixes) for chart in charts])
        assert mixes is not None
        self.mixes = mixes.mixes
        self.ways = [Mix(part, torch.linalg.inv(matrix.double()).mT.to(matrix.dtype)) for part, matrix in self.mixes]
        if self.trained and self.rule.matrices is None:
            panel = Panel(self.stepper, self.rule, self.members, self.slot, whole, lands=False)
            panel.furnish(room)
            self.strips = panel.strips
        for strip in self.strips:
            strip.place(self.update)

    def aim(self, groups: Sequence[Settings]) -> None:
        """Write the point, and the rule's step with its decay, in canonical coordinates."""
        here = _together([p.detach() for p in self.params])
        if self.offset:
            here = torch.add(here, self.offset, out=self.point)
        for factor in self.inverses:
            here = torch.mul(here, factor, out=self.point)
        if here is not self.point:
            self.point.copy_(here)
        for part, matrix in self.ways:
            actions.rotate({part.slot: self.point}, part, matrix)
        if not self.trained:
            self.update.zero_()
            return
        group = groups[self.group]
        slope = _together([gradient(p, group) for p in self.params])
        torch.mul(self.point, -self.rule.decay(group), out=self.update)
        slope = mixed(slope.to(self.update.dtype), self.mixes) if self.mixes else slope
        for strip in self.strips:
            strip.step(slope, group, self.members[0][0].step)
        if self.rule.matrices is not None:
            self._by_matrices(slope.to(self.update.dtype), group)

    def _by_matrices(self, slope: Tensor, group: Settings) -> None:
        """Add the step of a rule that goes by matrices, place by place but for what it makes of them."""
        for factor in self.factors:
            slope = slope * factor
        numbers, above, weight = self.rule.numbers(group, self.members[0][0].step), list[Tensor](), 0.0
        for x, (batch, j) in zip(slope.split(1), self.members):
            state = {name: batch.state[name][self.slot][j : j + 1] for name in self.rule.state}
            direction = self.rule.update(x, state, numbers, same)
            above.append(direction.above)
            weight = float(direction.weight)
        layouts = [self.stepper.layouts[id(p)] for p in self.params]
        self.update.add_(torch.cat(orthogonal(self.rule, above, layouts)), alpha=weight)

    def land(self) -> None:
        """Add the step to the parameters."""
        if not self.trained:
            return
        step, first = self.update, self.params[0].detach()
        for part, matrix in self.mixes:
            actions.rotate({part.slot: step}, part, matrix.mT)
        *factors, last = self.factors or (None,)
        for factor in factors:
            step.mul_(factor)
        if last is not None and len(self.params) == 1 and first.dtype == step.dtype:
            first.addcmul_(step[0], last[0])
            return
        if last is not None:
            step.mul_(last)
        torch._foreach_add_([p.detach() for p in self.params], list(step.unbind(0)))


def memory(batches: Sequence[Batch], room: Scratch, role: int) -> Tensors:
    """Memory for all places of batches, [places, *shape] by slot, in the dtype of steps."""
    count, device = sum(len(batch.keys) for batch in batches), batches[0].device
    first = {slot: params[0] for slot, params in batches[0].slots.items()}
    sizes: dict[torch.dtype, int] = {}
    for p in first.values():
        sizes[stepped(p.dtype)] = sizes.get(stepped(p.dtype), 0) + count * p.numel()
    left = {dtype: room.of(role, [size], dtype, device) for dtype, size in sizes.items()}
    out: Tensors = {}
    for slot, p in first.items():
        dtype, size = stepped(p.dtype), count * p.numel()
        out[slot], left[dtype] = left[dtype][:size].view(count, *p.shape), left[dtype][size:]
    return out


def _together(tensors: list[Tensor]) -> Tensor:
    return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(tensors)
