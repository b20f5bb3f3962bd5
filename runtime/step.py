"""A step of a batch by an update rule: pulled to canonical coordinates, stepped there, projected, pushed back.

Eagerly tile by tile, or fused into two compiled graphs with the solve between them. Parameters that no gauge moves take
the rule's plain step. Not here: rules, gauges, what parameters there are; a gauge's part is its component's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gaugec.runtime import fuse
from gaugec.runtime.batch import Batch, Tile
from gaugec.runtime.frames import Frame
from gaugec.runtime.layout import Tensors, Values
from gaugec.runtime.rules.rule import Averaging, Settings, UpdateRule
from gaugec.runtime.workspace import Workspace


class Stepper:
    """Steps batches by one rule.

    frame_every: steps between two frames; pooling: whether what the rule keeps pooled is; compile: whether to fuse.
    """

    def __init__(self, rule: UpdateRule, frame_every: int, pooling: bool, compile: bool) -> None:
        self.rule, self.frame_every, self.pooling, self.compile = rule, frame_every, pooling, compile
        self.look: Callable[[Batch], None] = lambda batch: None  # at every new frame, before it is used
        self._workspace = Workspace()
        self._graphs: dict[object, Callable[..., Any]] = {}

    def advance(self, batch: Batch, groups: Sequence[Settings]) -> None:
        """Step all places of a batch; groups: the param groups of the optimizer."""
        if batch.frame is None or batch.step % self.frame_every == 0:
            batch.framed()
            self.look(batch)
        assert batch.frame is not None
        if not batch.state:
            batch.state = self.begin(batch)
        batch.step += 1
        if self.compile and not batch.component.whole:
            self._fused(batch, batch.frame, groups)
        else:
            self._eager(batch, batch.frame, groups)

    def begin(self, batch: Batch) -> dict[str, Tensors]:
        """Zero state for a batch; a place is one row of it."""
        state = {}
        for name, pooled in self.rule.state.items():
            zeros: Tensors = {slot: torch.zeros_like(value) for slot, value in batch.params().items()}
            state[name] = batch.component.pool(zeros) if pooled and self.pooling else zeros
        return state

    # --- eager

    def _eager(self, batch: Batch, frame: Frame, groups: Sequence[Settings]) -> None:
        component, room, tiles = batch.component, self._workspace.room(batch), batch.tiles()
        values, gradients = batch.values(), _gradients(batch)
        for name, total in room.measured.items():
            if name not in room.kept:
                total.zero_()
        for tile, bench in zip(tiles, room.benches):
            gradient = component.pull(tile.of(gradients), frame, bench.gradient)
            point = component.canonical(tile.of(values), frame, bench.point)
            for slot in tile.slots:
                here = (gradient[slot], point[slot], bench.update[slot], bench.spare[slot])
                self._choose(batch, tile, slot, groups[batch.groups[slot]], *here)
            component.measure(bench.update, point, room.measured, bench.spare)
        a = _cast(component.solve(room.measured, point, frame.off), point)
        for tile, bench in zip(tiles, room.benches):
            if len(tiles) > 1:
                point = component.canonical(tile.of(values), frame, bench.point)
            _add(batch, tile, component.push(component.project(bench.update, point, frame, a), frame))

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
    ) -> None:
        """Write the rule's step of one slot of a tile to `out`."""
        if not batch.trainable(slot):
            out.zero_()
            return
        pooled = self.pooling and slot in batch.component.pooled
        whole = batch.slots[slot][0].numel()
        state = {
            name: tile.pooled(slot, batch.state[name][slot], whole)
            if pooled and averaged
            else tile.cut(slot, batch.state[name][slot])
            for name, averaged in self.rule.state.items()
        }
        faster = self.rule.unpooled
        if not pooled and faster is not None and faster(gradient, point, state, group, batch.step, out):
            return
        pool, unpool = _averaging(batch.component, slot, tile.span, out, room) if pooled else (_same, _same)
        self.rule.update(gradient, point, state, self.rule.numbers(group, batch.step), pool, unpool, out, room)

    # --- fused

    def _fused(self, batch: Batch, frame: Frame, groups: Sequence[Settings]) -> None:
        """The same in two compiled graphs, one before and one after the solve.

        What is read and written is handed to the graphs as a list; nothing else may change from step to step.
        """
        component, slots = batch.component, tuple(batch.slots)
        whole = Tile(slots, {}, {})
        params = whole.of(batch.values())
        update = self._workspace.flat(params)
        numbers = {
            slot: torch.tensor([*self.rule.numbers(groups[batch.groups[slot]], batch.step)], dtype=x.dtype).to(x.device)
            for slot, x in params.items()
        }
        read = [params, whole.of(_gradients(batch)), update, *batch.state.values(), numbers]
        powers = [x for each in frame.powers.values() for x in each.values()]
        trainable = frozenset(slot for slot in slots if batch.trainable(slot))

        here = [x for each in read for x in each.values()] + powers
        kind = (id(component), tuple((x.dtype, x.device, x.shape) for x in here), trainable)
        measured = self._graph("first", kind, self._first(batch, frame, trainable), here)(*here)
        a = _cast(component.solve(measured, params, frame.off), params)
        here = [*params.values(), *update.values(), *powers, *(a[name] for name in component.elements)]
        self._graph("last", kind, _last(batch, frame, trainable), here)(*here)
        for slot in trainable:
            for j, p in enumerate(batch.slots[slot]):
                if p.data_ptr() != params[slot][j].data_ptr():
                    p.copy_(params[slot][j])

    def _graph(
        self, half: str, kind: tuple[Any, ...], function: Callable[..., Any], arguments: Sequence[Tensor]
    ) -> Callable[..., Any]:
        if (half, *kind) not in self._graphs:
            self._graphs[half, *kind] = fuse.fuse(function, arguments)
        return self._graphs[half, *kind]

    def _first(self, batch: Batch, frame: Frame, trainable: Collection[str]) -> Callable[..., Tensors]:
        """The half before the solve: writes the update, returns what `measure` adds up."""
        component, rule, slots, shape = batch.component, self.rule, tuple(batch.slots), _shape(frame)

        def first(*tensors: Tensor) -> Tensors:
            dicts, rest = _named(tensors, slots, 4 + len(rule.state))
            params, gradients, update, *state, numbers = dicts
            frame, _ = _framed(rest, shape)
            point, pulled = component.canonical(params, frame), component.pull(gradients, frame)
            step: Tensors = {}
            for slot in slots:
                if slot not in trainable:
                    step[slot] = torch.zeros_like(point[slot])
                    continue
                pooled = self.pooling and slot in component.pooled
                pool, unpool = _averaging(component, slot, {}, point[slot]) if pooled else (_same, _same)
                mine = {name: each[slot] for name, each in zip(rule.state, state)}
                step[slot] = rule.update(pulled[slot], point[slot], mine, numbers[slot].unbind(), pool, unpool)
            measured: Tensors = component.blank(point)
            component.measure(step, point, measured)
            for slot in slots:
                update[slot].copy_(step[slot])
            return measured

        return first


def _last(batch: Batch, frame: Frame, trainable: Collection[str]) -> Callable[..., None]:
    """The half after the solve: projects the update and adds it to the parameters."""
    component, slots, shape = batch.component, tuple(batch.slots), _shape(frame)

    def last(*tensors: Tensor) -> None:
        (params, update), rest = _named(tensors, slots, 2)
        frame, rest = _framed(rest, shape)
        a = dict(zip(component.elements, rest))
        values = {slot: x.clone() for slot, x in update.items()}
        values = component.project(values, component.canonical(params, frame), frame, a)
        for slot, step in component.push(values, frame).items():
            if slot in trainable:
                params[slot].add_(step)

    return last


def plain(
    rule: UpdateRule, groups: Sequence[Settings], gauged: Collection[int], state: MutableMapping[Tensor, dict[str, Any]]
) -> None:
    """Step the parameters that no gauge moves, those whose id is not among `gauged`, where they have a gradient."""
    for group in groups:
        params = [p for p in group["params"] if id(p) not in gauged and p.grad is not None]
        for p in params:
            if p.grad.layout != torch.strided:
                raise RuntimeError("an optimizer of gauged models does not support sparse gradients")
            if not state[p]:
                step = torch.zeros((), dtype=torch.float32, device=p.device)
                state[p] = {"step": step, **{name: torch.zeros_like(p) for name in rule.state}}
        if params:
            rule.plain(params, [p.grad for p in params], [state[p] for p in params], group)


def _averaging(
    component: Any, slot: str, span: Mapping[str, tuple[int, int]], like: Tensor, room: Tensor | None = None
) -> tuple[Averaging, Averaging]:
    """`pool` and `unpool` of a component for one slot; room: where `unpool` writes, else new memory like `like`."""

    def pool(x: Tensor) -> Tensor:
        out: Tensor = component.pool(Values({slot: x}, span))[slot]
        return out

    def unpool(x: Tensor) -> Tensor:
        out: Tensor = component.unpool({slot: x}, {slot: torch.empty_like(like) if room is None else room})[slot]
        return out

    return pool, unpool


def _same(x: Tensor) -> Tensor:
    return x


def _gradients(batch: Batch) -> dict[str, list[Tensor]]:
    for params in batch.slots.values():
        for p in params:
            if p.grad is not None and p.grad.layout != torch.strided:
                raise RuntimeError("a gauge does not support sparse gradients")
    return {
        slot: [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
        for slot, params in batch.slots.items()
    }


def _add(batch: Batch, tile: Tile, step: Tensors) -> None:
    """Add a step to those parameters of a tile that are not frozen."""
    for slot in tile.slots:
        if batch.trainable(slot):
            for j, p in enumerate(batch.slots[slot]):
                tile.cut(slot, p.unsqueeze(0))[0].add_(step[slot][j])


def _cast(a: Tensors, like: Tensors) -> Tensors:
    dtype = next(iter(like.values())).dtype
    return {name: value.to(dtype) for name, value in a.items()}


def _named(tensors: Sequence[Tensor], slots: Sequence[str], count: int) -> tuple[list[Tensors], Sequence[Tensor]]:
    """The first tensors of a list as `count` dicts by slot, and what is left."""
    size = len(slots)
    return [dict(zip(slots, tensors[i * size :])) for i in range(count)], tensors[count * size :]


def _shape(frame: Frame) -> dict[str, tuple[float, ...]]:
    return {name: tuple(each) for name, each in frame.powers.items()}


def _framed(tensors: Sequence[Tensor], shape: Mapping[str, Sequence[float]]) -> tuple[Frame, Sequence[Tensor]]:
    """The first tensors of a list as the powers of a frame, and what is left."""
    rest = iter(tensors)
    frame = Frame(powers={name: {power: next(rest) for power in each} for name, each in shape.items()})
    return frame, tuple(rest)
