"""What the gauge-equivariant optimizers share: finding parameters, batches, frames, state that can be saved.

Not here: how a step is chosen from moments; any gauge.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gaugec.runtime import batches
from gaugec.runtime.batches import Batch
from gaugec.runtime.linalg import Frame, Tensors
from gaugec.runtime.loading import check, plain

Groups = Iterable[tuple[str, Tensor]] | Iterable[Mapping[str, Any]]


class GaugeOptimizer(torch.optim.Optimizer):
    """An optimizer that steps gauged parameters in canonical coordinates.

    inactive: what is off and why, one text each; `frame_every` and `pooling` hold for all groups.
    """

    def __init__(
        self, named_parameters: Groups, gauge: Any, defaults: dict[str, Any], frame_every: int, pooling: bool
    ) -> None:
        if not isinstance(frame_every, int) or frame_every < 1:
            raise ValueError(f"frame_every is a number of steps, 1 or more, not {frame_every!r}")
        components = getattr(gauge, "components", None)
        if components is None:
            raise TypeError("gauge should be what gaugec.compile or gaugec.runtime.load returns")
        check(tuple(components))
        self.frame_every = frame_every
        self.pooling = pooling
        self.inactive: list[str] = []
        self.batches: list[Batch] = []
        self._rooms: dict[object, tuple[Tensors, Tensors, Tensors]] = {}
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
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
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
        params = batch.params()
        if batch.frame is None or batch.step % self.frame_every == 0:
            batch.frame = self._frame(batch, params)
        if not batch.moments:
            self._begin(batch, params)
        component = batch.component
        room = self._room(batch, params)
        gradient = component.pull(_gradients(batch), batch.frame, room[0])
        point = component.canonical(params, batch.frame, room[1])
        batch.step += 1
        update = self._direction(batch, gradient, point, room[2])
        update = component.project(update, point, batch.frame, room[0])
        for slot, step in component.push(update, batch.frame).items():
            for j, p in enumerate(batch.slots[slot]):
                if p.requires_grad:
                    p.add_(step[j])

    def _room(self, batch: Batch, params: Tensors) -> tuple[Tensors, Tensors, Tensors]:
        """Three sets of tensors like the batch's parameters to work in, shared by batches that look the same."""
        first = next(iter(params.values()))
        key = (id(batch.component), len(batch.keys), first.device, tuple(x.dtype for x in params.values()))
        if key not in self._rooms:
            one, two, three = ({s: torch.empty_like(x) for s, x in params.items()} for _ in range(3))
            self._rooms[key] = (one, two, three)
        return self._rooms[key]

    def _frame(self, batch: Batch, params: Tensors) -> Frame:
        frame: Frame = batch.component.frame(params, batch.live)
        frame.off = batch.off
        return frame

    def _begin(self, batch: Batch, params: Tensors) -> None:
        """Zero state; a parameter's state is a view of its batch's."""
        raise NotImplementedError

    def _direction(self, batch: Batch, gradient: Tensors, point: Tensors, out: Tensors) -> Tensors:
        """The step in canonical coordinates, to be added, learning rate and decay included, in `out`.

        Updates the state; may overwrite the gradient.
        """
        raise NotImplementedError

    def _plain(self) -> None:
        """Step the parameters that no gauge moves."""
        raise NotImplementedError

    # --- state

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


def _named(named_parameters: Groups) -> list[Any]:
    """Param groups of (name, parameter) pairs, whatever form they came in."""
    entries = list(named_parameters)
    if not entries:
        raise ValueError("the optimizer was given no parameters")
    groups = [dict(entry) for entry in entries] if isinstance(entries[0], Mapping) else [{"params": entries}]
    for group in groups:
        pairs = group["params"]
        pairs = list(pairs) if not isinstance(pairs, Tensor) else [pairs]
        for pair in pairs:
            if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
                raise TypeError(
                    "a gauge knows parameters by name: pass model.named_parameters(), or groups of (name, parameter)"
                )
        group["params"] = pairs
        if len({id(p) for _, p in pairs}) != len(pairs):
            names: dict[int, str] = {}
            for name, p in pairs:
                if id(p) in names:
                    raise ValueError(f"{name} is the same parameter as {names[id(p)]}: give it once")
                names[id(p)] = name
    return groups


def _gradients(batch: Batch) -> Tensors:
    out = {}
    for slot, params in batch.slots.items():
        for p in params:
            if p.grad is not None and p.grad.layout != torch.strided:
                raise RuntimeError("a gauge does not support sparse gradients")
        out[slot] = batches.stack([torch.zeros_like(p) if p.grad is None else p.grad for p in params])
    return out
