"""What an eager step on a pinned orbit goes through where a chart has matrices: a tensor at all places of a batch.

A matrix mixes the rows of a head, or columns that lie apart, so that a tensor is stepped whole. Not here: pins; rules
that go by matrices themselves, see `lot`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gaugec.runtime.batch import Batch, stack
from gaugec.runtime.chart import Coordinates, mixed
from gaugec.runtime.rules.rule import Settings, add
from gaugec.runtime.stepper import Stepper, gradient


class Mixed:
    """One slot of a batch, and its chart."""

    def __init__(self, stepper: Stepper, batch: Batch, slot: str, chart: Coordinates) -> None:
        self.stepper, self.batch, self.slot, self.chart = stepper, batch, slot, chart

    def step(self, groups: Sequence[Settings]) -> None:
        """Step all its places."""
        batch, slot, chart = self.batch, self.slot, self.chart
        params, group = batch.slots[slot], groups[batch.groups[slot]]
        rule = self.stepper.rule_of(group)
        values = stack([p.detach() for p in params])
        slope = stack([gradient(p, group) for p in params]).to(values.dtype)
        for factor in chart.factors:
            slope = slope * factor
        slope = mixed(slope, chart.mixes)
        state = {name: batch.state[name][slot] for name in rule.state}
        squares, unpool = self.stepper.averaging(batch.component, slot, {}, slope)
        direction = rule.update(slope, state, rule.numbers(group, batch.step), squares)
        step = mixed(add(torch.zeros_like(values), direction, unpool), chart.mixes, back=True)
        for factor in chart.factors:
            step.mul_(factor)
        decay = rule.decay(group)
        if decay:
            values.mul_(1 - decay) if chart.centre is None else values.lerp_(chart.centre, decay)
        batch.write({slot: values.add_(step)}, [slot])
