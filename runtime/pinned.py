"""Steps in a chart that stays, and pins: every so often the parameters go back along their orbits to where they began.

Nothing is projected. What runs along an orbit does not change the function at first order, and what it adds up to is
taken back by a group element h = ρ(θ₀)⁻¹ρ(θₜ), which does not change it at all: gains return to their size and their
readers take the difference, units return to balance, the mean of what a shift moves to what it was. The state of the
rule stays as it is. Chart, steps and h are equivariant, so the path of a gauge copy is the copy of the path.

A step of one tensor, in the parameter's own coordinates, with the factors f of its chart: the rule sees f g, and
p ← p − decay (p − centre) + f (direction). Eagerly tensor by tensor, rows that fit in a cache at a time, small tensors
of all layers together; or fused, one graph for all layers that look alike.

Not here: panels, pins, rules, gauges, what parameters there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from gaugec.runtime import shards
from gaugec.runtime.batch import Batch, stack
from gaugec.runtime.chart import Chart, charts
from gaugec.runtime.frames import Frame
from gaugec.runtime.layout import Tensors
from gaugec.runtime.panel import Panel, Scratch, stacked
from gaugec.runtime.pin import means, pin
from gaugec.runtime.rules.rule import Settings, UpdateRule, add
from gaugec.runtime.stepper import RuleOf, Stepper, gradient, named
from gaugec.runtime.straddling import Straddling, add_up

SMALL = 1 << 15  # elements: below this, tensors of equal shape are stacked


class Pinned(Stepper):
    """Steps that no gauge sees, and pins every `frame_every` of them."""

    orbit = "pinned"

    def __init__(self, rule_of: RuleOf, frame_every: int, pooling: bool, compile: bool) -> None:
        super().__init__(rule_of, frame_every, pooling, compile)
        self._panels: tuple[list[tuple[Batch, Frame | None, int]], list[Panel]] = ([], [])
        self._room = Scratch()

    def advance(self, batches: Sequence[Batch], groups: Sequence[Settings]) -> None:
        """Pin where it is time, and step all places of batches; their charts are those of their first step."""
        for batch in batches:
            if batch.frame is None:
                batch.framed()
                self.look(batch)
            elif batch.step % self.frame_every == 0:
                pin(batch)
                self.look(batch)
            if batch.homes is None:
                batch.homes = means(batch)
            if not batch.state:
                batch.state = self.begin(batch, groups)
        if self.compile:
            for batch in batches:
                batch.step += 1
                self._fused(batch, groups)
        else:
            panels = self._arranged(batches, groups)
            for batch in batches:
                batch.step += 1
            add_up(panels, groups)
            for panel in panels:
                panel.step(groups)

    def _chart(self, batch: Batch) -> dict[str, Chart]:
        """The charts of a batch's tensors, read off its frame."""
        if batch.charts is None or batch.charts[0] is not batch.frame:
            assert batch.frame is not None
            batch.charts = (batch.frame, charts(batch, batch.frame, batch.homes or {}))
        return batch.charts[1]

    # --- eager

    def _arranged(self, batches: Sequence[Batch], groups: Sequence[Settings]) -> list[Panel]:
        """The panels of batches; made anew when they, their charts or their numbers of steps are not what they were."""
        first = batches[0].step
        key = [(batch, batch.frame, batch.step - first) for batch in batches]
        known, panels = self._panels
        if len(key) != len(known) or any(
            one[0] is not two[0] or one[1] is not two[1] or one[2] != two[2] for one, two in zip(key, known)
        ):
            panels = self._made(batches, groups)
            self._panels = (key, panels)
        return panels

    def _made(self, batches: Sequence[Batch], groups: Sequence[Settings]) -> list[Panel]:
        alike: dict[object, list[Panel]] = {}
        for batch in batches:
            chart = self._chart(batch)
            for slot, params in batch.slots.items():
                if not batch.trainable(slot):
                    continue
                p, places, rule = params[0], range(len(params)), self.rule_of(groups[batch.groups[slot]])
                straddle = any(here != shards.shard(p) for _, here in self.kept(batch, slot, groups).values())
                form = Straddling if straddle else Panel
                if p.numel() < SMALL:
                    kind = (
                        id(batch.component), slot, p.dtype, p.device, batch.groups[slot], batch.step, shards.shard(p)
                    )  # fmt: skip
                    alike.setdefault(kind, []).append(form(self, rule, [(batch, j) for j in places], slot, chart[slot]))
                else:
                    for j in places:
                        alike[batch.keys[j], slot] = [form(self, rule, [(batch, j)], slot, chart[slot].at(j))]
        out = [panel for same in alike.values() for panel in stacked(same)]
        for panel in out:
            panel.furnish(self._room)
        return out

    # --- fused

    def _fused(self, batch: Batch, groups: Sequence[Settings]) -> None:
        """The same as one graph; what is read and written is handed to it as a list, nothing else may change."""
        chart, slots = self._chart(batch), tuple(batch.slots)
        slots = tuple(slot for slot in slots if batch.trainable(slot))
        params = {slot: x for slot, x in batch.params().items() if slot in slots}
        slopes = {slot: stack([gradient(p, groups[batch.groups[slot]]) for p in batch.slots[slot]]) for slot in slots}
        rules = {slot: self.rule_of(groups[batch.groups[slot]]) for slot in slots}
        dicts: list[Tensors] = [params, slopes, self.numbers(batch, groups, params)]
        here = [x for each in dicts for x in each.values()]
        here += [batch.state[name][slot] for slot in slots for name in rules[slot].state]
        shape = {slot: (len(chart[slot].factors), chart[slot].centre is not None) for slot in slots}
        here += [x for slot in slots for x in chart[slot].tensors]
        kind = (id(batch.component), tuple((x.dtype, x.device, x.shape) for x in here), slots, tuple(shape.values()))
        kind += tuple(map(id, rules.values()))
        self.graph(kind, self._whole(batch, rules, shape), here)(*here)
        batch.write(params, slots)

    def _whole(
        self, batch: Batch, rules: Mapping[str, UpdateRule], shape: Mapping[str, tuple[int, bool]]
    ) -> Callable[..., None]:
        component, slots = batch.component, tuple(rules)

        def whole(*tensors: Tensor) -> None:
            (params, slopes, numbers), kept = named(tensors, slots, 3)
            rest = iter(kept)
            state = {slot: {name: next(rest) for name in rule.state} for slot, rule in rules.items()}
            for slot in slots:
                p, g = params[slot], slopes[slot]
                factors, centre = [next(rest) for _ in range(shape[slot][0])], next(rest) if shape[slot][1] else 0.0
                for factor in factors:
                    g = g * factor
                decay, *others = numbers[slot].unbind()
                squares, unpool = self.averaging(component, slot, {}, p)
                step = add(torch.zeros_like(p), rules[slot].update(g, state[slot], others, squares), unpool)
                for factor in factors:
                    step = step * factor
                p.copy_(p - decay * (p - centre) + step)

        return whole
