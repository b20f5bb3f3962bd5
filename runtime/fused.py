"""What a compiled step on a pinned orbit goes through: one graph for a batch, the same for all that look alike.

The graph reads and writes a list of tensors, which is kept from step to step: only gradients and the numbers of the
step are new, and parameters that have to be stacked or cast. Not here: how a graph is compiled; pins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from gaugec.runtime.batch import Batch, stack, stepped
from gaugec.runtime.chart import Coordinates, Mix, mixed
from gaugec.runtime.layout import Slice
from gaugec.runtime.rules.rule import Settings, add
from gaugec.runtime.stepper import Stepper, gradient

Form = tuple[int, bool, tuple[Slice, ...]]
"""Of a chart, the number of factors, whether it has a centre, and the slices that it has matrices for."""


class Fused:
    """A batch's step as one graph.

    Its tensors are, slot by slot that is trained, the parameters [places, *shape] and their gradients; of every group
    the decay and the rule's numbers; slot by slot the state, and the chart.
    """

    def __init__(
        self, stepper: Stepper, batch: Batch, groups: Sequence[Settings], charts: Mapping[str, Coordinates]
    ) -> None:
        self.stepper, self.batch = stepper, batch
        self.slots = [slot for slot in batch.slots if batch.trainable(slot)]
        self.groups = sorted({batch.groups[slot] for slot in self.slots})
        self.rules = {slot: stepper.rule_of(groups[batch.groups[slot]]) for slot in self.slots}
        self.charts = {slot: charts[slot] for slot in self.slots}
        self.dtype = {slot: stepped(batch.slots[slot][0].dtype) for slot in self.slots}
        self.widest = max(self.dtype.values(), key=lambda dtype: dtype.itemsize)
        kept = [batch.state[name][slot] for slot in self.slots for name in self.rules[slot].state]
        self.kept = [*kept, *(x for chart in self.charts.values() for x in chart.tensors)]
        self.homes: list[int | None] = []
        self.graph: Callable[..., None] | None = None

    def step(self, groups: Sequence[Settings]) -> None:
        """Step all its places."""
        batch, slots = self.batch, self.slots
        homes = [_home(batch.slots[slot]) for slot in slots]
        copied = [slot for slot, home in zip(slots, homes) if home is None]
        if homes != self.homes:
            self.homes, self.params = homes, batch.params()
        self.params.update({slot: stack([p.detach() for p in batch.slots[slot]]) for slot in copied})
        slopes = [self._slope(slot, groups[batch.groups[slot]]) for slot in slots]
        tensors = [*(self.params[slot] for slot in slots), *slopes, *self._numbers(groups), *self.kept]
        if self.graph is None:
            self.graph = self._compiled(tensors)
        self.graph(*tensors)
        batch.write(self.params, copied)

    def _slope(self, slot: str, group: Settings) -> Tensor:
        x = stack([gradient(p, group) for p in self.batch.slots[slot]])
        return x if x.dtype == self.dtype[slot] else x.to(self.dtype[slot])

    def _numbers(self, groups: Sequence[Settings]) -> list[Tensor]:
        batch, out = self.batch, []
        for number in self.groups:
            group, rule = groups[number], self.stepper.rule_of(groups[number])
            numbers = [rule.decay(group), *rule.numbers(group, batch.step)]
            out.append(torch.tensor(numbers, dtype=self.widest, device=batch.device))
        return out

    def _compiled(self, tensors: Sequence[Tensor]) -> Callable[..., None]:
        batch, slots = self.batch, tuple(self.slots)
        shapes = tuple(
            (len(chart.factors), chart.centre is not None, tuple(part for part, _ in chart.mixes))
            for chart in self.charts.values()
        )
        kinds = tuple((x.dtype, x.device, x.shape) for x in tensors)
        owners = tuple(self.groups.index(batch.groups[slot]) for slot in slots)
        kind = (id(batch.component), kinds, slots, shapes, owners, *map(id, self.rules.values()))
        return self.stepper.graph(kind, self._whole(dict(zip(slots, owners)), dict(zip(slots, shapes))), tensors)

    def _whole(self, owners: Mapping[str, int], shapes: Mapping[str, Form]) -> Callable[..., None]:
        stepper, batch, rules, slots = self.stepper, self.batch, dict(self.rules), tuple(self.slots)
        count, groups = len(slots), len(self.groups)

        def whole(*tensors: Tensor) -> None:
            rest = iter(tensors[2 * count + groups :])
            state = {slot: {name: next(rest) for name in rule.state} for slot, rule in rules.items()}
            for i, slot in enumerate(slots):
                p, g = tensors[i], tensors[count + i]
                decay, *numbers = tensors[2 * count + owners[slot]].to(p.dtype).unbind()
                number, central, parts = shapes[slot]
                factors, centre = [next(rest) for _ in range(number)], next(rest) if central else 0.0
                mixes = [Mix(part, next(rest)) for part in parts]
                for factor in factors:
                    g = g * factor
                g = mixed(g, mixes)
                squares, unpool = stepper.averaging(batch.component, slot, {}, p)
                direction = rules[slot].update(g, state[slot], numbers, squares)
                step = add(torch.zeros_like(p), stepper.finished(rules[slot], batch, slot, direction), unpool)
                step = mixed(step, mixes, back=True)
                for factor in factors:
                    step = step * factor
                p.copy_(p - decay * (p - centre) + step)

        return whole


def _home(params: Sequence[Tensor]) -> int | None:
    """Where parameters are, if a graph may write to their memory itself."""
    p = params[0]
    return p.data_ptr() if len(params) == 1 and stepped(p.dtype) == p.dtype and p.is_contiguous() else None
