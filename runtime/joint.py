"""What a horizontal step goes through: batches of one component, whose vertical parts are removed in one solve.

The point, the step and what is computed from them are in memory that all steps share, [places, *shape] by tensor: so one
operation serves all layers that look alike. Not here: which batches there are, frames, rules, gauges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

from gaugec.runtime.batch import Batch, stack, stepped
from gaugec.runtime.component import Component
from gaugec.runtime.chart import Chart, charts, joined
from gaugec.runtime.frames import Frame
from gaugec.runtime.layout import Kept, Tensors
from gaugec.runtime.panel import Panel, Scratch, Strip
from gaugec.runtime.rules.rule import Settings, UpdateRule, add
from gaugec.runtime.stepper import Stepper, gradient, named

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
        self.rules = {slot: stepper.rule_of(groups[first.groups[slot]]) for slot in first.slots}
        members = [(batch, j) for batch in batches for j in range(len(batch.keys))]
        self.point, self.update, self.spare = (_memory(members, room, role) for role in (POINT, UPDATE, SPARE))
        self.stepper, self.room = stepper, room
        self.frames: list[Frame | None] = [None for _ in batches]
        self.legs: list[Leg] = []
        for slot, params in first.slots.items():
            width = len(members) if params[0].numel() < SMALL else 1
            for low in range(0, len(members), width):
                here = slice(low, low + width)
                views = self.point[slot][here], self.update[slot][here]
                self.legs.append(Leg(stepper, self.rules[slot], members[here], slot, *views))

    def _chart(self) -> None:
        """Read the batches' frames, where they are new."""
        frames = [batch.frame for batch in self.batches]
        if all(one is two for one, two in zip(frames, self.frames)):
            return
        self.frames = frames
        found = {id(batch): self._charts(batch) for batch in self.batches}
        for leg in self.legs:
            leg.chart([found[id(batch)][leg.slot].at(j) for batch, j in leg.members], self.room)

    def step(self, groups: Sequence[Settings]) -> None:
        """Step all places."""
        if self.stepper.compile and not self.component.whole:
            self._fused(groups)
            return
        self._chart()
        for leg in self.legs:
            leg.aim(groups)
        self.component.project(self.update, self.point, self.off, self.spare)
        for leg in self.legs:
            leg.land()

    def _charts(self, batch: Batch) -> dict[str, Chart]:
        """The charts of a batch's frame, which are read off it once."""
        if batch.charts is None or batch.charts[0] is not batch.frame:
            assert batch.frame is not None
            batch.charts = (batch.frame, charts(batch, batch.frame, {}))
        found: dict[str, Chart] = batch.charts[1]
        return found

    # --- fused

    def _fused(self, groups: Sequence[Settings]) -> None:
        """The same in two compiled graphs for every batch, one before and one after the solve.

        What is read and written is handed to the graphs as a list; nothing else may change from step to step.
        """
        stepper, component, first = self.stepper, self.component, self.batches[0]
        slots = tuple(first.slots)
        trained = frozenset(slot for slot in slots if first.trainable(slot))
        each, found, start = [], list[Tensors](), 0
        for batch in self.batches:
            here = slice(start, start + len(batch.keys))
            start = here.stop
            params, chart = batch.params(), self._charts(batch)
            update = {slot: x[here] for slot, x in self.update.items()}
            slopes = {slot: stack([gradient(p, groups[batch.groups[slot]]) for p in batch.slots[slot]]) for slot in slots}
            charted = [x for slot in slots for x in chart[slot].factors]
            shape = {slot: len(chart[slot].factors) for slot in slots}
            dicts = [params, update, slopes, stepper.numbers(batch, groups, params)]
            read = [x for each in dicts for x in each.values()] + charted
            read += [batch.state[name][slot] for slot, rule in self.rules.items() for name in rule.state]
            kind = (id(component), tuple((x.dtype, x.device, x.shape) for x in read), trained, tuple(shape.values()), *map(id, self.rules.values()))
            found.append(stepper.graph(("first", *kind), _first(stepper, component, self.rules, shape, trained), read)(*read))
            each.append((batch, here, params, [*params.values(), *update.values(), *charted], shape, kind))
        joint = found[0] if len(found) == 1 else {name: torch.cat([x[name] for x in found]) for name in found[0]}
        a = component.solve(joint, self.point, self.off)
        for batch, here, params, read, shape, kind in each:
            read += [a[name][here] for name in component.elements]
            stepper.graph(("last", *kind), _last(component, slots, shape, trained), read)(*read)
            batch.write(params, trained)


def _charted(
    component: Component, slots: Sequence[str], shape: Mapping[str, int], params: Tensors, rest: Sequence[Tensor]
) -> tuple[Tensors, dict[str, list[Tensor]], Sequence[Tensor]]:
    """The canonical point, the factors of the chart, and what is left of a list that begins with them."""
    point, factors = {}, {}
    for slot in slots:
        factors[slot], rest = list(rest[: shape[slot]]), rest[shape[slot] :]
        point[slot] = params[slot] + component.offsets.get(slot, 0.0)
        for factor in factors[slot]:
            point[slot] = point[slot] / factor
    return point, factors, rest


def _first(
    stepper: Stepper,
    component: Component,
    rules: Mapping[str, UpdateRule],
    shape: Mapping[str, int],
    trained: Collection[str],
) -> Callable[..., Tensors]:
    """The half before the solve: writes the step, returns its joint normal equations."""
    slots = tuple(rules)

    def first(*tensors: Tensor) -> Tensors:
        (params, update, slopes, numbers), rest = named(tensors, slots, 4)
        point, factors, rest = _charted(component, slots, shape, params, rest)
        kept = iter(rest)
        state = {slot: {name: next(kept) for name in rule.state} for slot, rule in rules.items()}
        step: Tensors = {}
        for slot in slots:
            if slot not in trained:
                step[slot] = torch.zeros_like(point[slot])
                continue
            slope = math.prod(factors[slot], start=slopes[slot])
            squares, unpool = stepper.averaging(component, slot, {}, point[slot])
            decay, *others = numbers[slot].unbind()
            step[slot] = add(point[slot] * -decay, rules[slot].update(slope, state[slot], others, squares), unpool)
        measured = component.measure(step, point)
        for slot in slots:
            update[slot].copy_(step[slot])
        return measured

    return first


def _last(
    component: Component, slots: Sequence[str], shape: Mapping[str, int], trained: Collection[str]
) -> Callable[..., None]:
    """The half after the solve: projects the step and adds it to the parameters."""

    def last(*tensors: Tensor) -> None:
        (params, update), rest = named(tensors, slots, 2)
        point, factors, rest = _charted(component, slots, shape, params, rest)
        step = component.lift({slot: x.clone() for slot, x in update.items()}, point, dict(zip(component.elements, rest)), -1.0)
        for slot in trained:
            params[slot].add_(math.prod(factors[slot], start=step[slot]))

    return last


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

    def chart(self, charts: Sequence[Chart], room: Scratch) -> None:
        """Take the factors of charts, one for each place, as those of all."""
        factors = [chart.factors for chart in charts]
        if len({len(each) for each in factors}) > 1:  # some have less: those that were 1 are left out
            one = self.point.new_ones([1] * self.point.dim())
            factors = [(math.prod(each, start=one),) for each in factors]
        whole = joined([Chart(each, None) for each in factors])
        assert whole is not None
        self.factors, self.inverses = whole.factors, [1 / factor for factor in whole.factors]
        if self.trained:
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
        if not self.trained:
            self.update.zero_()
            return
        group = groups[self.group]
        slope = _together([gradient(p, group) for p in self.params])
        torch.mul(self.point, -self.rule.decay(group), out=self.update)
        for strip in self.strips:
            strip.step(slope, group, self.members[0][0].step)

    def land(self) -> None:
        """Add the step to the parameters."""
        if not self.trained:
            return
        step, first = self.update, self.params[0].detach()
        *factors, last = self.factors or (None,)
        for factor in factors:
            step.mul_(factor)
        if last is not None and len(self.params) == 1 and first.dtype == step.dtype:
            first.addcmul_(step[0], last[0])
            return
        if last is not None:
            step.mul_(last)
        torch._foreach_add_([p.detach() for p in self.params], list(step.unbind(0)))


def _together(tensors: list[Tensor]) -> Tensor:
    return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(tensors)


def _memory(members: Sequence[Member], room: Scratch, role: int) -> Kept:
    """Memory like the parameters, in the dtype of steps."""
    first = {slot: params[0] for slot, params in members[0][0].slots.items()}
    sizes: dict[torch.dtype, int] = {}
    for p in first.values():
        sizes[stepped(p.dtype)] = sizes.get(stepped(p.dtype), 0) + len(members) * p.numel()
    device = members[0][0].device
    left = {dtype: room.of(role, [size], dtype, device) for dtype, size in sizes.items()}
    out: Tensors = {}
    for slot, p in first.items():
        dtype, size = stepped(p.dtype), len(members) * p.numel()
        out[slot], left[dtype] = left[dtype][:size].view(len(members), *p.shape), left[dtype][size:]
    return Kept(out)
