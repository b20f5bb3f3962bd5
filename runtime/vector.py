"""What an eager step on a pinned orbit goes through, of small tensors: many side by side in one vector.

Where nothing is averaged and a rule has a kernel, which steps entry by entry, it does not matter whose entries they
are: gains and biases of all layers are one vector, and a step of them a handful of calls. Not here: which tensors there
are; pins.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gaugec.runtime import kernels
from gaugec.runtime.batch import Batch, stepped
from gaugec.runtime.chart import Coordinates
from gaugec.runtime.panel import Scratch, joint
from gaugec.runtime.rules.rule import Settings, add, same
from gaugec.runtime.stepper import Stepper, gradient


class Vector:
    """Tensors of batches that are in one group and have taken as many steps, on one device and of one dtype.

    parts: batch, slot and chart; all places of a batch are there.
    """

    def __init__(
        self,
        stepper: Stepper,
        parts: Sequence[tuple[Batch, str, Coordinates]],
        groups: Sequence[Settings],
        room: Scratch,
    ) -> None:
        self.batch = parts[0][0]
        self.group = self.batch.groups[parts[0][1]]
        self.rule = stepper.rule_of(groups[self.group])
        self.params = [p for batch, slot, _ in parts for p in batch.slots[slot]]
        self.dtype = stepped(self.params[0].dtype)
        factors, centres = [], []
        for batch, slot, chart in parts:
            shape = (len(batch.slots[slot]), *batch.slots[slot][0].shape)
            whole = torch.ones(shape, dtype=self.dtype, device=batch.device)
            for factor in chart.factors:
                whole.mul_(factor)
            factors.append(whole.flatten())
            centre = torch.zeros((), dtype=self.dtype, device=batch.device) if chart.centre is None else chart.centre
            centres.append(centre.expand(shape).flatten())
        self.factor, self.centre = torch.cat(factors), torch.cat(centres)
        self.central = bool(self.centre.any())
        places = [(batch, slot) for batch, slot, _ in parts]
        self.state = {name: joint(stepper, places, name) for name in self.rule.state}
        self.x = room.of(0, self.factor.shape, self.dtype, self.factor.device)

    def step(self, groups: Sequence[Settings]) -> None:
        """Step all its tensors."""
        group, rule, number = groups[self.group], self.rule, self.batch.step
        slope = torch.cat([gradient(p, group).flatten() for p in self.params]).to(self.dtype).mul_(self.factor)
        x = self.x.zero_()
        if rule.kernel is None or not rule.kernel(x, slope, self.state, group, number, False):
            add(x, rule.update(slope, self.state, rule.numbers(group, number), torch.square), same)
        values = torch.cat([p.detach().flatten() for p in self.params]).to(self.dtype)
        decay = rule.decay(group)
        if decay and self.central:
            values.lerp_(self.centre, decay)
        elif decay:
            values.mul_(kernels.number(1 - decay, self.dtype))
        values.addcmul_(x, self.factor)
        parts = values.split([p.numel() for p in self.params])
        torch._foreach_copy_([p.detach() for p in self.params], [x.view_as(p) for x, p in zip(parts, self.params)])
