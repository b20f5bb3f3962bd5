"""Steps in a chart that stays, and pins: every so often the parameters go back along their orbits to where they began.

Nothing is projected. What runs along an orbit does not change the function at first order, and what it adds up to is
taken back by a group element h = ρ(θ₀)⁻¹ρ(θₜ), which does not change it at all: gains return to their size and their
readers take the difference, units return to balance, the mean of what a shift moves to what it was. The state of the
rule stays as it is. Coordinates, steps and h are equivariant, so the path of a gauge copy is the copy of the path.

A step of one tensor, in the parameter's own coordinates, with the factors f of its chart: the rule sees f g, and
p ← p − decay (p − centre) + f (direction). Eagerly tensor by tensor, rows that fit in a cache at a time, small tensors
of all layers together; or fused, one graph for all layers that look alike.

Not here: panels, pins, rules, gauges, what parameters there are.
"""

from __future__ import annotations

from collections.abc import Sequence

from gaugec.runtime import shards
from gaugec.runtime.batch import Batch
from gaugec.runtime.chart import Coordinates, charted
from gaugec.runtime.fused import Fused
from gaugec.runtime.lot import Member, lots
from gaugec.runtime.mixed import Mixed
from gaugec.runtime.panel import TILE_CPU, Panel, Scratch, stacked
from gaugec.runtime.pin import means, pin
from gaugec.runtime.rules.rule import Settings, UpdateRule
from gaugec.runtime.stepper import Mover, RuleOf, Stepper
from gaugec.runtime.straddling import Straddling, add_up
from gaugec.runtime.vector import Vector

SMALL = 1 << 15  # elements: below this, tensors are copied side by side
Parts = list[tuple[Batch, str, Coordinates]]


class Pinned(Stepper):
    """Steps that no gauge sees, and pins every `frame_every` of them."""

    orbit = "pinned"

    def __init__(self, rule_of: RuleOf, frame_every: int, pooling: bool, compile: bool) -> None:
        super().__init__(rule_of, frame_every, pooling, compile)
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
        arranged = self.arranged(batches, [batch.frame for batch in batches], groups)
        for batch in batches:
            batch.step += 1
        add_up([each for each in arranged if isinstance(each, Panel)], groups)
        for each in arranged:
            each.step(groups)

    def made(self, batches: Sequence[Batch], groups: Sequence[Settings]) -> Sequence[Mover]:
        """Graphs of whole batches, or tensors that step alike together: see `panel`, `vector` and `lot`."""
        if self.compile:
            return [Fused(self, batch, groups, charted(batch)) for batch in batches]
        alike: dict[object, list[Panel]] = {}
        vectors: dict[object, Parts] = {}
        by_matrices: dict[object, list[Member]] = {}
        whole: list[Mover] = []
        for batch in batches:
            chart = charted(batch)
            for slot, params in batch.slots.items():
                if not batch.trainable(slot):
                    continue
                p, rule = params[0], self.rule_of(groups[batch.groups[slot]])
                kind = (p.dtype, p.device, batch.groups[slot], batch.step)
                if rule.matrices is not None:
                    here = by_matrices.setdefault(kind, [])
                    here += [(batch, j, slot, chart[slot].at(j)) for j in range(len(params))]
                    continue
                if chart[slot].mixes:
                    whole.append(Mixed(self, batch, slot, chart[slot]))
                    continue
                if self._vectorial(batch, slot, rule):
                    vectors.setdefault(kind, []).append((batch, slot, chart[slot]))
                    continue
                straddle = any(here != shards.shard(p) for _, here in self.kept(batch, slot, groups).values())
                form, places = Straddling if straddle else Panel, range(len(params))
                if p.numel() < SMALL:
                    whose = (*kind, id(batch.component), slot, shards.shard(p))
                    members = [(batch, j) for j in places]
                    alike.setdefault(whose, []).append(form(self, rule, members, slot, chart[slot]))
                else:
                    for j in places:
                        alike[batch.keys[j], slot] = [form(self, rule, [(batch, j)], slot, chart[slot].at(j))]
        panels = [panel for same in alike.values() for panel in stacked(same)]
        for panel in panels:
            panel.furnish(self._room)
        joint = [Vector(self, some, groups, self._room) for parts in vectors.values() for some in _portions(parts)]
        alone = [lot for some in by_matrices.values() for lot in lots(self.rule_of, some, self.layouts)]
        return [*panels, *joint, *alone, *whole]

    def _vectorial(self, batch: Batch, slot: str, rule: UpdateRule) -> bool:
        """Whether a slot's tensors are small, whole, and stepped entry by entry."""
        p = batch.slots[slot][0]
        averaged = self.pooling and slot in batch.component.pooled
        return p.numel() < SMALL and rule.kernel is not None and not averaged and not shards.is_distributed(p)


def _portions(parts: Parts) -> list[Parts]:
    """Parts of a vector as several that stay in a cache."""
    out, size = list[Parts](), TILE_CPU
    for part in parts:
        size += sum(p.numel() for p in part[0].slots[part[1]])
        if size > TILE_CPU:
            out.append([])
            size = sum(p.numel() for p in part[0].slots[part[1]])
        out[-1].append(part)
    return out
