"""Steps of which nothing runs along the orbits: pulled to canonical coordinates, stepped there, projected, pushed back.

Eagerly tile by tile, or fused into two compiled graphs with the solve between them. Not here: rules, gauges, what
parameters there are; a gauge's part is its component's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

from gaugec.runtime.batch import Batch, Tile, stack
from gaugec.runtime.frames import Frame
from gaugec.runtime.layout import Tensors
from gaugec.runtime.rules.rule import Settings, UpdateRule, add, same
from gaugec.runtime.stepper import RuleOf, Stepper, gradients, named, powers
from gaugec.runtime.workspace import Workspace


class Horizontal(Stepper):
    """Steps whose vertical part, at the canonical point, is removed."""

    orbit = "horizontal"

    def __init__(self, rule_of: RuleOf, frame_every: int, pooling: bool, compile: bool) -> None:
        super().__init__(rule_of, frame_every, pooling, compile)
        self._workspace = Workspace()

    def advance(self, batches: Sequence[Batch], groups: Sequence[Settings]) -> None:
        """Step all places of batches, in frames that are taken anew every `frame_every` steps."""
        for batch in batches:
            if batch.frame is None or batch.step % self.frame_every == 0:
                batch.framed()
                self.look(batch)
            assert batch.frame is not None
            if not batch.state:
                batch.state = self.begin(batch, groups)
            batch.step += 1
            if self.compile and not batch.component.whole:
                self._fused(batch, batch.frame, groups)
            else:
                self._eager(batch, batch.frame, groups)

    # --- eager

    def _eager(self, batch: Batch, frame: Frame, groups: Sequence[Settings]) -> None:
        component, room, tiles = batch.component, self._workspace.room(batch), batch.tiles()
        values, slopes = batch.values(), gradients(batch, groups)
        for name, total in room.measured.items():
            if name not in room.kept:
                total.zero_()
        made = self._by_matrices(batch, frame, slopes, groups)
        for tile, bench in zip(tiles, room.benches):
            gradient = component.pull(tile.of(slopes), frame, bench.gradient)
            point = component.canonical(tile.of(values), frame, bench.point)
            for slot in tile.slots:
                here = (gradient[slot], point[slot], bench.update[slot], bench.spare[slot])
                self._choose(batch, tile, slot, groups[batch.groups[slot]], *here, made.get(slot))
            component.measure(bench.update, point, room.measured, bench.spare)
        a = _cast(component.solve(room.measured, point, frame.off), point)
        for tile, bench in zip(tiles, room.benches):
            if len(tiles) > 1:
                point = component.canonical(tile.of(values), frame, bench.point)
            _add(batch, tile, component.push(component.project(bench.update, point, frame, a), frame))

    def _by_matrices(
        self, batch: Batch, frame: Frame, slopes: Mapping[str, Sequence[Tensor]], groups: Sequence[Settings]
    ) -> Tensors:
        """The steps, without decay, of the slots whose rule goes by matrices: of all their rows."""
        out: Tensors = {}
        for slot in batch.slots:
            group = groups[batch.groups[slot]]
            rule = self.rule_of(group)
            if rule.matrices is not None and batch.trainable(slot):
                slope = batch.component.pull({slot: stack(slopes[slot])}, frame)[slot]
                state = {name: batch.state[name][slot] for name in rule.state}
                direction = rule.update(slope, state, rule.numbers(group, batch.step), same)
                weight, above, _ = self.finished(rule, batch, slot, direction)
                out[slot] = above.mul_(float(weight))
        return out

    def _choose(
        self,
        batch: Batch,
        tile: Tile,
        slot: str,
        group: Settings,
        gradient: Tensor,
        point: Tensor,
        out: Tensor,
        room: Tensor,
        made: Tensor | None,
    ) -> None:
        """Write the rule's step of one slot of a tile to `out`; made: that of all its rows, where it is known."""
        if not batch.trainable(slot):
            out.zero_()
            return
        rule, pooled = self.rule_of(group), self.pooling and slot in batch.component.pooled
        whole = batch.slots[slot][0].numel()
        state = {
            name: tile.pooled(slot, batch.state[name][slot], whole)
            if pooled and averaged
            else tile.cut(slot, batch.state[name][slot])
            for name, averaged in rule.state.items()
        }
        torch.mul(point, -rule.decay(group), out=out)
        if made is not None:
            out.add_(tile.cut(slot, made))
            return
        if not pooled and rule.kernel is not None and rule.kernel(out, gradient, state, group, batch.step, False):
            return
        squares, unpool = self.averaging(batch.component, slot, tile.span, out, room)
        add(out, rule.update(gradient, state, rule.numbers(group, batch.step), squares, room), unpool)

    # --- fused

    def _fused(self, batch: Batch, frame: Frame, groups: Sequence[Settings]) -> None:
        """The same in two compiled graphs, one before and one after the solve.

        What is read and written is handed to the graphs as a list; nothing else may change from step to step.
        """
        component, slots = batch.component, tuple(batch.slots)
        whole = Tile(slots, {}, {})
        params = whole.of(batch.values())
        update = self._workspace.flat(params)
        read = [params, whole.of(gradients(batch, groups)), update, self.numbers(batch, groups, params)]
        scales = [x for each in frame.powers.values() for x in each.values()]
        rules = {slot: self.rule_of(groups[batch.groups[slot]]) for slot in slots}
        trainable = frozenset(slot for slot in slots if batch.trainable(slot))

        here = [x for each in read for x in each.values()] + scales
        here += [batch.state[name][slot] for slot, rule in rules.items() for name in rule.state]
        kind = (id(component), tuple((x.dtype, x.device, x.shape) for x in here), trainable, *map(id, rules.values()))
        measured = self.graph(("first", *kind), self._first(batch, frame, trainable, rules), here)(*here)
        a = _cast(component.solve(measured, params, frame.off), params)
        here = [*params.values(), *update.values(), *scales, *(a[name] for name in component.elements)]
        self.graph(("last", *kind), _last(batch, frame, trainable), here)(*here)
        batch.write(params, trainable)

    def _first(
        self, batch: Batch, frame: Frame, trainable: Collection[str], rules: Mapping[str, UpdateRule]
    ) -> Callable[..., Tensors]:
        """The half before the solve: writes the update, returns what `measure` adds up."""
        component, slots, shape = batch.component, tuple(batch.slots), powers(frame)

        def first(*tensors: Tensor) -> Tensors:
            (params, gradients, update, numbers), rest = named(tensors, slots, 4)
            frame, rest = _framed(rest, shape)
            kept = iter(rest)
            state = {slot: {name: next(kept) for name in rule.state} for slot, rule in rules.items()}
            point, pulled = component.canonical(params, frame), component.pull(gradients, frame)
            step: Tensors = {}
            for slot in slots:
                if slot not in trainable:
                    step[slot] = torch.zeros_like(point[slot])
                    continue
                squares, unpool = self.averaging(component, slot, {}, point[slot])
                decay, *others = numbers[slot].unbind()
                rule = rules[slot]
                direction = self.finished(rule, batch, slot, rule.update(pulled[slot], state[slot], others, squares))
                step[slot] = add(point[slot] * -decay, direction, unpool)
            measured: Tensors = component.blank(point)
            component.measure(step, point, measured)
            for slot in slots:
                update[slot].copy_(step[slot])
            return measured

        return first


def _last(batch: Batch, frame: Frame, trainable: Collection[str]) -> Callable[..., None]:
    """The half after the solve: projects the update and adds it to the parameters."""
    component, slots, shape = batch.component, tuple(batch.slots), powers(frame)

    def last(*tensors: Tensor) -> None:
        (params, update), rest = named(tensors, slots, 2)
        frame, rest = _framed(rest, shape)
        a = dict(zip(component.elements, rest))
        values = {slot: x.clone() for slot, x in update.items()}
        values = component.project(values, component.canonical(params, frame), frame, a)
        for slot, step in component.push(values, frame).items():
            if slot in trainable:
                params[slot].add_(step)

    return last


def _add(batch: Batch, tile: Tile, step: Tensors) -> None:
    """Add a step to those parameters of a tile that are not frozen."""
    for slot in tile.slots:
        if batch.trainable(slot):
            for j, p in enumerate(batch.slots[slot]):
                tile.cut(slot, p.unsqueeze(0))[0].add_(step[slot][j])


def _cast(a: Tensors, like: Tensors) -> Tensors:
    """Coefficients in the dtype of steps; a NaN in a step reaches many, and must not reach all tensors through them."""
    dtype = next(iter(like.values())).dtype
    return {name: value.to(dtype).nan_to_num_(0.0, 0.0, 0.0) for name, value in a.items()}


def _framed(tensors: Sequence[Tensor], shape: Mapping[str, Sequence[float]]) -> tuple[Frame, Sequence[Tensor]]:
    """The first tensors of a list as the powers of a frame, and what is left."""
    rest = iter(tensors)
    frame = Frame(powers={name: {power: next(rest) for power in each} for name, each in shape.items()})
    return frame, tuple(rest)
