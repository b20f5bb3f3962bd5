"""What the gauge-equivariant optimizers share: finding parameters, batches, frames, state that can be saved.

Not here: how a step is chosen from moments; any gauge.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gaugec.runtime import batch as batches
from gaugec.runtime import fuse as compiling
from gaugec.runtime.batch import Batch, Piece
from gaugec.runtime.binding import Groups, _named
from gaugec.runtime.frames import Frame
from gaugec.runtime.gauge import Gauge, check, plain
from gaugec.runtime.layout import Tensors, Values
from gaugec.runtime.workspace import Room


class GaugeOptimizer(torch.optim.Optimizer):
    """An optimizer that steps gauged parameters in canonical coordinates.

    inactive: what is off and why, one text each; `frame_every` and `pooling` hold for all groups.
    """

    def __init__(
        self,
        named_parameters: Groups,
        gauge: Any,
        defaults: dict[str, Any],
        frame_every: int,
        pooling: bool,
        compile: bool,
    ) -> None:
        if not isinstance(frame_every, int) or frame_every < 1:
            raise ValueError(f"frame_every is a number of steps, 1 or more, not {frame_every!r}")
        components = getattr(gauge, "components", None)
        if components is None:
            raise TypeError("gauge should be what gaugec.compile or gaugec.runtime.load returns")
        check(tuple(components))
        self._gauge = gauge
        self.frame_every = frame_every
        self.pooling = pooling
        self.compile = compile
        if compile:
            compiling.check()
        self._graphs: dict[object, Callable[..., Any]] = {}
        self.inactive: list[str] = []
        self.batches: list[Batch] = []
        self._rooms: dict[object, Room] = {}
        self._memory: dict[object, Tensor] = {}
        super().__init__(_named(named_parameters), defaults)
        self._bind(gauge)

    # --- binding

    def _bind(self, gauge: Any) -> None:
        """Find the parameters of every place, decide which gauges are in force, and batch equal places."""
        where: dict[str, tuple[nn.Parameter, int]] = {}
        seen: dict[int, str] = {}
        for i, group in enumerate(self.param_groups):
            for name, p in zip(group["param_names"], group["params"]):
                if id(p) in seen:
                    raise ValueError(f"{name} is the same parameter as {seen[id(p)]}: give it once")
                seen[id(p)] = name
                if plain(name) in where:
                    raise ValueError(f"two parameters have the name {plain(name)}")
                where[plain(name)] = (p, i)
        missing = [name for name in gauge.parameters if plain(name) not in where]
        if missing:
            raise ValueError(f"the gauge moves parameters that the optimizer was not given: {', '.join(missing[:20])}")
        places: dict[int, list[Any]] = {}
        owner: dict[int, Any] = {}
        self._gauged: set[int] = set()
        singular: list[str] = []
        for key, component, names in gauge.places():
            found = {slot: where[plain(name)] for slot, name in zip(component.shapes, names)}
            for (slot, (p, _)), name in zip(found.items(), names):
                if tuple(p.shape) != tuple(component.shapes[slot]):
                    raise ValueError(f"{name} has the shape {tuple(p.shape)}, compiled for {component.shapes[slot]}")
                if not p.is_floating_point():
                    raise ValueError(f"{name} has the dtype {p.dtype}: a gauge moves real floating point parameters")
            frozen = {slot for slot, (p, _) in found.items() if not p.requires_grad}
            off = frozenset(name for name, slots in component.moves.items() if frozen & set(slots))
            slots_of = dict(zip(component.shapes, names))
            for name in sorted(off):
                frozen_names = ", ".join(slots_of[slot] for slot in component.moves[name] if slot in frozen)
                self.inactive.append(f"{key}.{name}: {frozen_names} frozen")
            places.setdefault(id(component), []).append(
                (key, {slot: p for slot, (p, _) in found.items()}, {slot: i for slot, (_, i) in found.items()}, off)
            )
            owner[id(component)] = component
            self._gauged.update(id(p) for p, _ in found.values())
        for each, same in places.items():
            self.batches += batches.make(owner[each], same)
        for batch in self.batches:
            batch.live = batch.component.alive(batch.params())
            for name in batch.off & set(batch.live):
                batch.live[name] = torch.zeros_like(batch.live[name])
            for name in sorted(set(batch.live) - batch.off):
                dead = int((~batch.live[name]).sum())
                if dead:
                    singular.append(f"{batch.keys[0]}.{name}: {dead}")
        if self.inactive:
            shown = "; ".join(self.inactive[:8])
            warnings.warn(
                f"{len(self.inactive)} gauges are off, they would move frozen parameters: {shown}", stacklevel=3
            )
        if singular:
            self.inactive += [f"{text} units have no canonical form (zero norm)" for text in singular]
            warnings.warn(
                "units with a zero norm have no canonical form; they are stepped as they are "
                f"(place.gauge: number): {'; '.join(singular[:8])}",
                stacklevel=3,
            )

    # --- a step

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; `closure`, where given, computes the loss and its gradients anew, and its value is returned.

        In a component of gauges a gradient of None counts as zero, unless all of them are None: then it is left alone.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        i = 0
        while i < len(self.batches):
            batch = self.batches[i]
            present = [any(p[j].grad is not None for p in batch.slots.values()) for j in range(len(batch.keys))]
            if any(present) and not all(present):
                self.batches[i : i + 1] = batch.parts()
                continue
            if all(present):
                self._advance(batch)
            i += 1
        self._plain()
        return loss

    def _advance(self, batch: Batch) -> None:
        if batch.frame is None or batch.step % self.frame_every == 0:
            batch.frame = self._frame(batch, batch.params())
        if not batch.moments:
            self._begin(batch, batch.params())
        batch.step += 1
        if self.compile and not batch.component.whole:
            self._advance_fused(batch)
            return
        component, pieces = batch.component, batch.pieces()
        room = self._room(batch)
        for name, total in room.measured.items():
            if name not in room.kept:
                total.zero_()
        for piece, (gradient, point, update, spare) in zip(pieces, room.pieces):
            params = _params(batch, piece)
            pulled = component.pull(_gradients(batch, piece), batch.frame, gradient)
            here = component.canonical(params, batch.frame, point)
            self._direction(batch, piece, pulled, here, update, spare)
            component.measure(update, here, room.measured, spare)
        a = _cast(component.solve(room.measured, here, batch.frame.off), here)
        for piece, (_, point, update, _) in zip(pieces, room.pieces):
            if len(pieces) > 1:
                here = component.canonical(_params(batch, piece), batch.frame, point)
            step = component.push(component.project(update, here, batch.frame, a), batch.frame)
            for slot in piece.slots:
                for j, p in enumerate(batch.slots[slot]):
                    if p.requires_grad:
                        piece.cut(slot, p.unsqueeze(0))[0].add_(step[slot][j])

    def _advance_fused(self, batch: Batch) -> None:
        """The same in two compiled graphs, one before and one after the solve."""
        component, frame = batch.component, batch.frame
        assert frame is not None
        everything = Piece(tuple(batch.slots), {}, {})
        params, gradients = _params(batch, everything), _gradients(batch, everything)
        update = self._update(batch, params)
        scalars = self._scalars(batch, params)
        state = [batch.moments, batch.second]
        powers = [frame.powers[name][power] for name in frame.powers for power in frame.powers[name]]
        here = [x for each in (params, gradients, update, *state, scalars) for x in each.values()] + powers
        slots = list(params)
        trainable = frozenset(slot for slot, p in batch.slots.items() if p[0].requires_grad)
        key = ("first", id(component), tuple((x.dtype, x.device, x.shape) for x in here), trainable)

        def named(tensors: Sequence[Tensor], kinds: int) -> tuple[list[Tensors], Frame]:
            dicts = [dict(zip(slots, tensors[i * len(slots) :])) for i in range(kinds)]
            rest = iter(tensors[kinds * len(slots) :])
            return dicts, Frame(powers={n: {p: next(rest) for p in each} for n, each in frame.powers.items()})

        def first(*tensors: Tensor) -> Tensors:
            (params, gradients, update, moments, second, scalars), frame = named(tensors, 6)
            point = component.canonical(params, frame)
            step = self._formula(batch, component.pull(gradients, frame), point, moments, second, scalars, trainable)
            measured: Tensors = component.blank(point)
            component.measure(step, point, measured)
            for slot in slots:
                update[slot].copy_(step[slot])
            return measured

        def last(*tensors: Tensor) -> None:
            (params, update), frame = named(tensors, 2)
            powers = sum(len(each) for each in frame.powers.values())
            a = dict(zip(component.elements, tensors[2 * len(slots) + powers :]))
            values = {slot: x.clone() for slot, x in update.items()}
            values = component.project(values, component.canonical(params, frame), frame, a)
            for slot, step in component.push(values, frame).items():
                if slot in trainable:
                    params[slot].add_(step)

        if key not in self._graphs:
            self._graphs[key] = compiling.fuse(first, here)
        measured = self._graphs[key](*here)
        a = _cast(component.solve(measured, params, frame.off), params)
        here = [*params.values(), *update.values(), *powers, *(a[name] for name in component.elements)]
        key = ("last", *key[1:])
        if key not in self._graphs:
            self._graphs[key] = compiling.fuse(last, here)
        self._graphs[key](*here)
        for slot in trainable:
            for j, p in enumerate(batch.slots[slot]):
                if p.data_ptr() != params[slot][j].data_ptr():
                    p.copy_(params[slot][j])

    def _update(self, batch: Batch, params: Tensors) -> Tensors:
        """Room for a step, shared by all batches of the same dtype."""
        first = next(iter(params.values()))
        whole = sum(x.numel() for x in params.values())
        key = (2, first.dtype, first.device)
        if key not in self._memory or self._memory[key].numel() < whole:
            self._memory[key] = torch.empty(whole, dtype=first.dtype, device=first.device)
        pieces = self._memory[key][:whole].split([x.numel() for x in params.values()])
        return {slot: piece.view(x.shape) for (slot, x), piece in zip(params.items(), pieces)}

    def _scalars(self, batch: Batch, params: Tensors) -> Tensors:
        """Numbers that change from step to step: one vector for each slot."""
        raise NotImplementedError

    def _formula(
        self,
        batch: Batch,
        gradient: Tensors,
        point: Tensors,
        moments: Tensors,
        second: Tensors,
        scalars: Tensors,
        trainable: frozenset[str],
    ) -> Tensors:
        """`_direction` for a compiler: no numbers but those in `scalars`; the step as new tensors."""
        raise NotImplementedError

    def _room(self, batch: Batch) -> Room:
        """Room to work in, shared by batches that look the same; the update needs a whole batch, the rest a piece."""
        first = next(iter(batch.slots.values()))[0]
        kinds = tuple(batches.stepped(p[0].dtype) for p in batch.slots.values())
        key = (id(batch.component), len(batch.keys), first.device, kinds)
        if key not in self._rooms:
            self._rooms[key] = Room.of(batch, self._memory)
        return self._rooms[key]

    def _frame(self, batch: Batch, params: Tensors) -> Frame:
        frame: Frame = batch.component.frame(params, batch.live)
        frame.off = batch.off
        return frame

    def _begin(self, batch: Batch, params: Tensors) -> None:
        """Zero state; a parameter's state is a view of its batch's."""
        raise NotImplementedError

    def _direction(
        self, batch: Batch, piece: Piece, gradient: Tensors, point: Tensors, out: Tensors, spare: Tensors
    ) -> None:
        """The step of a piece in canonical coordinates, to be added, learning rate and decay included, in `out`.

        Updates the state; may overwrite `spare`, but not the gradient, which may be the parameters' own.
        """
        raise NotImplementedError

    def _plain(self) -> None:
        """Step the parameters that no gauge moves."""
        raise NotImplementedError

    # --- state

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: the state dict and the source of the gauge, which is compiled again from there."""
        source = getattr(self._gauge, "source", None)
        if not isinstance(source, str):
            raise TypeError("an optimizer can be copied only when its gauge has its source")
        settings = {"frame_every": self.frame_every, "pooling": self.pooling, "compile": self.compile}
        rest = {"defaults": self.defaults, "param_groups": self.param_groups}
        return {**rest, **settings, "source": source, "saved": GaugeOptimizer.state_dict(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Bind the gauge to the parameters anew and take over the state."""
        if "source" not in state:  # torch's load_state_dict
            super().__setstate__(state)
            return
        super().__setstate__(
            {"defaults": state["defaults"], "state": defaultdict(dict), "param_groups": state["param_groups"]}
        )
        self.frame_every, self.pooling, self.compile = (state[name] for name in ("frame_every", "pooling", "compile"))
        self.inactive, self.batches = [], []
        self._rooms, self._memory, self._graphs = {}, {}, {}
        self._gauge = Gauge(state["source"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it was said when the original was made
            self._bind(self._gauge)
        self.load_state_dict(state["saved"])

    def _publish(self, batch: Batch) -> None:
        """Show the batch's state under its parameters, as views."""
        for slot, params in batch.slots.items():
            for j, p in enumerate(params):
                if p.requires_grad:
                    self.state[p] = self._shown(batch, slot, j)

    def _shown(self, batch: Batch, slot: str, j: int) -> dict[str, Any]:
        raise NotImplementedError

    def _adopt(self, batch: Batch) -> None:
        """Take over what a state dict put under the batch's parameters."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """As for any torch optimizer, and under "gauge" the frames and step numbers of every place."""
        for batch in self.batches:
            if batch.moments:
                self._publish(batch)
        out = super().state_dict()
        places: dict[str, Any] = {}
        for batch in self.batches:
            for one in batch.parts():
                places[one.keys[0]] = {
                    "step": one.step,
                    "live": {name: value.clone() for name, value in one.live.items()},
                    "scales": None if one.frame is None else {n: s.clone() for n, s in one.frame.scales.items()},
                }
        out["gauge"] = places
        return out

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave, to the bit; raises ValueError when it is of another gauge or no gauge."""
        places = state_dict.get("gauge")
        want = {key for batch in self.batches for key in batch.keys}
        if places is None or set(places) != want:
            raise ValueError("this state is not of an optimizer with the same compiled gauge")
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "gauge"})
        saved = [i for group in state_dict["param_groups"] for i in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        for i, p in zip(saved, params):  # torch casts state to the parameter's dtype; take the exact tensors again
            for name, value in state_dict["state"].get(i, {}).items():
                if isinstance(value, Tensor) and (id(p) in self._gauged or name == "step"):
                    self.state[p][name] = value.to(p.device, copy=True)
        whole = []
        for batch in self.batches:
            steps = {places[key]["step"] for key in batch.keys}
            whole += [batch] if len(steps) == 1 else batch.parts()
        self.batches = whole
        for batch in self.batches:
            device = next(iter(batch.slots.values()))[0].device
            here = [places[key] for key in batch.keys]
            batch.step = here[0]["step"]
            batch.live = {name: torch.cat([one["live"][name] for one in here]).to(device) for name in here[0]["live"]}
            batch.frame = None
            if all(one["scales"] is not None for one in here):
                names = here[0]["scales"]
                scales = {name: torch.cat([one["scales"][name] for one in here]).to(device) for name in names}
                dtype = next(iter(batch.params().values())).dtype
                batch.frame = Frame(scales, off=batch.off).ready(batch.component.powers, dtype)
            batch.moments, batch.second = {}, {}
            if batch.step:
                self._adopt(batch)




def _cast(a: Tensors, like: Tensors) -> Tensors:
    dtype = next(iter(like.values())).dtype
    return {name: value.to(dtype) for name, value in a.items()}


def _params(batch: Batch, piece: Piece) -> Values:
    out = {}
    for slot in piece.slots:
        params = [p.detach() for p in batch.slots[slot]]
        if slot in piece.rows:
            low, high = piece.rows[slot]
            params = [p[low:high] for p in params]
        out[slot] = batches.stack(params)
    return Values(out, piece.span)


def _gradients(batch: Batch, piece: Piece) -> Values:
    out = {}
    for slot in piece.slots:
        params = batch.slots[slot]
        for p in params:
            if p.grad is not None and p.grad.layout != torch.strided:
                raise RuntimeError("a gauge does not support sparse gradients")
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
        if slot in piece.rows:
            low, high = piece.rows[slot]
            gradients = [x[low:high] for x in gradients]
        out[slot] = batches.stack(gradients)
    return Values(out, piece.span)


