"""What a compiled horizontal step goes through: for every batch two graphs, with the solve for all of them between.

What a graph reads and writes is handed to it as a list; nothing else may change from step to step. Not here: how a
graph is compiled, which batches there are, frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gaugec.runtime.batch import Batch, stack
from gaugec.runtime.chart import charted
from gaugec.runtime.joint import UPDATE, memory
from gaugec.runtime.layout import Tensors
from gaugec.runtime.panel import Scratch
from gaugec.runtime.rules.rule import Settings, add
from gaugec.runtime.stepper import Stepper, gradient, named

Graph = Callable[..., Any]


class Halves:
    """Batches that step together, as `Joint` has them: one half before the solve, and one after it."""

    def __init__(
        self, stepper: Stepper, batches: Sequence[Batch], groups: Sequence[Settings], room: Scratch
    ) -> None:
        self.stepper, self.batches, self.component, self.off = stepper, batches, batches[0].component, batches[0].off
        self.update, first = memory(batches, room, UPDATE), batches[0]
        self.rules = {slot: stepper.rule_of(groups[first.groups[slot]]) for slot in first.slots}
        self.trained = frozenset(slot for slot in first.slots if first.trainable(slot))

    def step(self, groups: Sequence[Settings]) -> None:
        """Step all places."""
        halves, found, start = [], list[Tensors](), 0
        for batch in self.batches:
            here = slice(start, start + len(batch.keys))
            start = here.stop
            measured, finish = self._begun(batch, here, groups)
            found.append(measured)
            halves.append((here, finish))
        whole = found[0] if len(found) == 1 else {name: torch.cat([x[name] for x in found]) for name in found[0]}
        a = self.component.solve(whole, self.update, self.off)
        for here, finish in halves:
            finish([a[name][here] for name in self.component.by_name])

    def _begun(
        self, batch: Batch, here: slice, groups: Sequence[Settings]
    ) -> tuple[Tensors, Callable[[list[Tensor]], None]]:
        """Take the first half of a step of one batch: its normal equations, and what takes the second."""
        component, charts, params = self.component, charted(batch), batch.params()
        update = {slot: x[here] for slot, x in self.update.items()}
        owner = {slot: groups[number] for slot, number in batch.groups.items()}
        slopes = {slot: stack([gradient(p, owner[slot]) for p in each]) for slot, each in batch.slots.items()}
        shape = {slot: len(chart.factors) for slot, chart in charts.items()}
        point = [*params.values(), *update.values(), *(x for chart in charts.values() for x in chart.factors)]
        more = [*slopes.values(), *self.stepper.numbers(batch, groups, params).values()]
        more += [batch.state[name][slot] for slot, rule in self.rules.items() for name in rule.state]
        kinds = tuple((x.dtype, x.device, x.shape) for x in [*point, *more])
        kind = (id(component), kinds, self.trained, tuple(shape.values()), *map(id, self.rules.values()))
        first = self.stepper.graph(("first", *kind), self._first(batch, shape), [*point, *more])

        def finish(a: list[Tensor]) -> None:
            self.stepper.graph(("last", *kind), _last(component, shape, self.trained), [*point, *a])(*point, *a)
            batch.write(params, self.trained)

        return first(*point, *more), finish

    def _first(self, batch: Batch, shape: Mapping[str, int]) -> Graph:
        """The half before the solve: writes the step, returns its joint normal equations."""
        stepper, component, rules, trained = self.stepper, self.component, self.rules, self.trained

        def first(*tensors: Tensor) -> Tensors:
            _, update, point, factors, rest = _charted(component, shape, tensors)
            (slopes, numbers), rest = named(rest, tuple(shape), 2)
            kept = iter(rest)
            state = {slot: {name: next(kept) for name in rule.state} for slot, rule in rules.items()}
            step: Tensors = {}
            for slot, x in point.items():
                if slot not in trained:
                    step[slot] = torch.zeros_like(x)
                    continue
                squares, unpool = stepper.averaging(component, slot, {}, x)
                decay, *others = numbers[slot].unbind()
                slope = math.prod(factors[slot], start=slopes[slot])
                direction = rules[slot].update(slope, state[slot], others, squares)
                step[slot] = add(x * -decay, stepper.finished(rules[slot], batch, slot, direction), unpool)
            component.recentred(step, point, {slot: x[0] for slot, x in numbers.items()}, batch.off)
            measured: Tensors = component.measure(step, point)
            for slot, x in step.items():
                update[slot].copy_(x)
            return measured

        return first


def _last(component: Any, shape: Mapping[str, int], trained: Collection[str]) -> Graph:
    """The half after the solve: projects the step and adds it to the parameters."""

    def last(*tensors: Tensor) -> None:
        params, update, point, factors, a = _charted(component, shape, tensors)
        step = {slot: x.clone() for slot, x in update.items()}
        component.lift(step, point, dict(zip(component.by_name, a)), -1.0)
        for slot in trained:
            params[slot].add_(math.prod(factors[slot], start=step[slot]))

    return last


def _charted(
    component: Any, shape: Mapping[str, int], tensors: Sequence[Tensor]
) -> tuple[Tensors, Tensors, Tensors, dict[str, list[Tensor]], Sequence[Tensor]]:
    """A list as parameters, steps, canonical points, factors, and what is left; shape: slot -> number of factors."""
    (params, update), rest = named(tensors, tuple(shape), 2)
    point, factors = {}, {}
    for slot, count in shape.items():
        factors[slot], rest = list(rest[:count]), rest[count:]
        point[slot] = params[slot] + component.offsets.get(slot, 0.0)
        for factor in factors[slot]:
            point[slot] = point[slot] / factor
    return params, update, point, factors, rest
