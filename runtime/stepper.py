"""What steps on all kinds of orbits have in common: a batch's state, its gradients, parameters that no gauge moves.

Not here: what a step does with a gauge; see `pinned` and `horizontal`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor

from gaugec.runtime import fuse, shards
from gaugec.runtime.batch import Batch, stepped
from gaugec.runtime.chart import divided
from gaugec.runtime.layout import Tensors, Values
from gaugec.runtime.matrices import PLAIN, Charted, Layout, advance, orthogonal, together
from gaugec.runtime.rules.rule import Averaging, Direction, Settings, UpdateRule, same
from gaugec.runtime.shards import Shard

RuleOf = Callable[[Settings], UpdateRule]


class Mover(Protocol):
    """What steps some tensors, made once for many steps."""

    def step(self, groups: Sequence[Settings]) -> None:
        """Take a step; groups: the param groups of the optimizer."""
        ...


class Stepper:
    """Steps batches by rules.

    rule_of: the rule of a param group.  frame_every: steps between two looks at the frames; pooling: whether what the
    rule keeps pooled is; compile: whether to fuse.  layouts: the logical matrices of parameters, by id, for rules that
    go by them.  look: called at every new frame, before it is used; moved: when a batch's state is in other memory.
    """

    orbit = ""

    def __init__(self, rule_of: RuleOf, frame_every: int, pooling: bool, compile: bool) -> None:
        self.rule_of, self.frame_every, self.pooling, self.compile = rule_of, frame_every, pooling, compile
        self.look: Callable[[Batch], None] = lambda batch: None
        self.moved: Callable[[Batch], None] = lambda batch: None
        self.layouts: Mapping[int, Layout] = {}
        self._graphs: dict[object, Callable[..., Any]] = {}
        self._arranged: tuple[list[object], list[int], Sequence[Mover]] = ([], [], [])

    def advance(self, batches: Sequence[Batch], groups: Sequence[Settings]) -> None:
        """Step all places of batches, whose parameters have gradients; groups: the param groups of the optimizer."""
        raise NotImplementedError

    def made(self, batches: Sequence[Batch], groups: Sequence[Settings]) -> Sequence[Mover]:
        """What steps the batches."""
        raise NotImplementedError

    def arranged(
        self, batches: Sequence[Batch], seen: Sequence[object], groups: Sequence[Settings]
    ) -> Sequence[Mover]:
        """What steps the batches, as it was made last.

        Made anew when they, the objects that were `seen` of them, the rules or the numbers of steps are not the same.
        """
        things = [*batches, *seen, *(self.rule_of(group) for group in groups)]
        ahead = [batch.step - batches[0].step for batch in batches]
        known, before, steps = self._arranged
        if ahead != before or len(things) != len(known) or any(one is not two for one, two in zip(things, known)):
            steps = self.made(batches, groups)
            self._arranged = (things, ahead, steps)
        return steps

    def begin(self, batch: Batch, groups: Sequence[Settings]) -> dict[str, Tensors]:
        """Zero state for a batch; a place is one row of it, of what this process has."""
        state: dict[str, Tensors] = {}
        for slot, params in batch.slots.items():
            for name, (shape, here) in self.kept(batch, slot, groups).items():
                if here is not None:
                    low, high = here.rows(shape[0])
                    shape = (high - low, *shape[1:])
                p = params[0]
                zeros = torch.zeros(len(params), *shape, dtype=stepped(p.dtype), device=p.device)
                state.setdefault(name, {})[slot] = zeros
        return state

    def kept(
        self, batch: Batch, slot: str, groups: Sequence[Settings]
    ) -> dict[str, tuple[tuple[int, ...], Shard | None]]:
        """Of what is kept of a parameter, the shape, and how it is divided: None where every process has all."""
        p = batch.slots[slot][0]
        plain = (tuple(p.shape), shards.shard(p))
        averages = plain
        if self.pooling and slot in batch.component.pooled:
            like = batch.component.pool({slot: torch.empty(1, *p.shape, device="meta")})[slot]
            averages = (tuple(like.shape[1:]), plain[1] if divided(batch.component, slot, p) else None)
        states = self.rule_of(groups[batch.groups[slot]]).state
        return {name: averages if averaged else plain for name, averaged in states.items()}

    def averaging(
        self, component: Any, slot: str, span: Mapping[str, tuple[int, int]], like: Tensor, room: Tensor | None = None
    ) -> tuple[Averaging, Averaging]:
        """`squares` and `unpool` for one slot; room: where both write, else new memory like `like`."""
        pooled = self.pooling and slot in component.pooled

        def squares(x: Tensor) -> Tensor:
            out = torch.mul(x, x, out=room)
            return component.pool(Values({slot: out}, span))[slot] if pooled else out

        if not pooled:
            return squares, same

        def unpool(x: Tensor) -> Tensor:
            out: Tensor = component.unpool({slot: x}, {slot: torch.empty_like(like) if room is None else room})[slot]
            return out

        return squares, unpool

    def finished(self, rule: UpdateRule, batch: Batch, slot: str, direction: Direction) -> Direction:
        """The direction of all places of one slot, after what the rule makes of matrices."""
        if rule.matrices is None:
            return direction
        layouts = [self.layouts[id(p)] for p in batch.slots[slot]]
        if len(set(layouts)) == 1:
            return direction._replace(above=orthogonal(rule, [direction.above], layouts[:1])[0])
        return direction._replace(above=torch.cat(orthogonal(rule, direction.above.split(1), layouts)))

    def numbers(self, batch: Batch, groups: Sequence[Settings], like: Tensors) -> Tensors:
        """The decay and the rule's numbers of this step as a tensor for every slot, for a graph."""
        return {
            slot: torch.tensor([rule.decay(group), *rule.numbers(group, batch.step)], dtype=x.dtype).to(x.device)
            for slot, x in like.items()
            for group in [groups[batch.groups[slot]]]
            for rule in [self.rule_of(group)]
        }

    def graph(
        self, kind: tuple[Any, ...], function: Callable[..., Any], arguments: Sequence[Tensor]
    ) -> Callable[..., Any]:
        """The function, fused; made once for all arguments of a kind."""
        if kind not in self._graphs:
            self._graphs[kind] = fuse.fuse(function, arguments)
        return self._graphs[kind]


def plain(
    rule_of: RuleOf,
    groups: Sequence[Settings],
    gauged: Collection[int],
    state: MutableMapping[Tensor, dict[str, Any]],
    layouts: Mapping[int, Layout],
) -> None:
    """Step the parameters that no gauge moves, those whose id is not among `gauged`, where they have a gradient."""
    for group in groups:
        rule = rule_of(group)
        params = [p for p in group["params"] if id(p) not in gauged and p.grad is not None]
        states = []
        for p in params:
            if p.grad.layout != torch.strided:
                raise RuntimeError("an optimizer of gauged models does not support sparse gradients")
            if not state[p]:
                step = torch.zeros((), dtype=torch.float32, device=p.device)
                state[p] = {"step": step, **{name: torch.zeros_like(p) for name in rule.state}}
            states.append({n: shards.own(x) for n, x in state[p].items()} if shards.is_distributed(p) else state[p])
        if rule.matrices is not None:
            _by_matrices(rule, group, params, states, layouts)
        elif params:
            assert rule.plain is not None
            rule.plain([shards.own(p) for p in params], [gradient(p, group) for p in params], states, group)


def _by_matrices(
    rule: UpdateRule,
    group: Settings,
    params: Sequence[Tensor],
    states: Sequence[dict[str, Any]],
    layouts: Mapping[int, Layout],
) -> None:
    pieces = [Charted(p, gradient(p, group), state, PLAIN, layouts[id(p)]) for p, state in zip(params, states)]
    for state in states:
        state["step"] += 1
    for some in together([piece.layout for piece in pieces], params):
        advance(rule, group, [pieces[i] for i in some])


def gradient(p: Tensor, group: Settings = MappingProxyType({})) -> Tensor:
    """What a parameter is to descend along: its gradient, the negative of it where the group maximizes, zeros for none.

    Of the rows that this process has.  Raises RuntimeError for a sparse one.
    """
    if p.grad is None:
        return torch.zeros_like(shards.own(p))
    if p.grad.layout != torch.strided:
        raise RuntimeError("a gauge does not support sparse gradients")
    slope = shards.placed(p.grad, p)
    return -slope if group.get("maximize") else slope


def named(tensors: Sequence[Tensor], slots: Sequence[str], count: int) -> tuple[list[Tensors], Sequence[Tensor]]:
    """The first tensors of a list as `count` dicts by slot, and what is left."""
    size = len(slots)
    return [dict(zip(slots, tensors[i * size :])) for i in range(count)], tensors[count * size :]
