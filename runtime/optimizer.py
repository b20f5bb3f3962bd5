"""The torch optimizer that all gauge-equivariant ones are: a gauge bound to parameters, an update rule, saved state.

A subclass is an `UpdateRule` with the settings that it reads. Not here: how a step is chosen; any gauge.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gaugec.runtime import clipping, fuse, kernels, settings, shards, state
from gaugec.runtime.batch import Batch
from gaugec.runtime.binding import Groups, bind, named
from gaugec.runtime.frames import Frame
from gaugec.runtime.gauge import Gauge, check, code_hash
from gaugec.runtime.held import coordinates
from gaugec.runtime.horizontal import Horizontal
from gaugec.runtime.listed import listed
from gaugec.runtime.names import by_name
from gaugec.runtime.pinned import Pinned
from gaugec.runtime.rules.rule import Settings, UpdateRule
from gaugec.runtime.stepper import Stepper, plain
from gaugec.runtime.watch import Watch

FORMLESS = "no canonical form (a zero norm, a head that is singular, or a scale beyond 1e12)"
ORBITS: dict[str, type[Stepper]] = {each.orbit: each for each in (Pinned, Horizontal)}


class GaugeOptimizer(torch.optim.Optimizer):
    """An optimizer that steps gauged parameters in canonical coordinates.

    rule: the update rule, of the class.  gauge: what it was made with.  batches: the places, as they are stepped.
    inactive: what is off and why, one text each.  held: names of parameters that are not stepped, since a gauge's chart
    reads them: in its coordinates the function does not see them.  named: every parameter by its plain name, called:
    the names by id; gauged: ids of those that a gauge moves.
    """

    rule: ClassVar[UpdateRule]

    def __init__(
        self,
        named_parameters: Groups | nn.Module,
        gauge: Gauge,
        defaults: dict[str, Any],
        frame_every: int,
        pooling: bool,
        compile: bool,
        model: nn.Module | None = None,
        orbit: str = "pinned",
    ) -> None:
        _check_frame_every(frame_every)
        if orbit not in ORBITS:
            raise ValueError(f"orbit is one of {', '.join(map(repr, ORBITS))}, not {orbit!r}")
        check_gauge(gauge)
        settings.check(defaults)
        if isinstance(named_parameters, nn.Module):
            model = named_parameters
            named_parameters = model.named_parameters()
        if model is not None:
            _check_model(gauge, model)
        if compile:
            fuse.check()
        super().__init__(named(named_parameters, model), {**defaults, state.HASH: code_hash(gauge)})
        self._groups = len(self.param_groups)
        self._bind(gauge, ORBITS[orbit](self.rule_of, frame_every, pooling, compile))
        off, singular = self._bound.off, self._bound.singular
        if off:
            shown = "; ".join(off[:8])
            warnings.warn(
                f"{len(off)} gauges are off, they would move parameters that are frozen or were not given"
                f"{', or divide by gains of 0' if self._bound.zero else ''}: {shown}",
                stacklevel=3,
            )
        if singular:
            warnings.warn(
                "units with a zero norm, heads that are singular, or a scale beyond 1e12, have no canonical form; they "
                f"are stepped as they are (place.gauge: number in parameters): {'; '.join(singular[:8])}",
                stacklevel=3,
            )
        for batch in self.batches:
            self.watch.shifts(batch, self.called)

    def rule_of(self, group: Settings) -> UpdateRule:
        """The update rule of a param group."""
        return self.rule

    def _bind(self, gauge: Gauge, stepper: Stepper) -> None:
        self.gauge, self.stepper, self.watch = gauge, stepper, Watch()
        stepper.look = lambda batch: self.watch.look(batch, self.called)
        stepper.moved = lambda batch: batch.shown.clear()
        self._check_placements(stepper)
        self._bound = bind(gauge, self.param_groups[: self._groups])
        _check_whole(self._bound.batches)
        self.batches: list[Batch] = self._bound.batches
        self.gauged = self._bound.gauged
        self.inactive = self._bound.off + [
            f"{text}: {FORMLESS}" for text in self._bound.singular
        ]
        self._kinds: dict[str, tuple[torch.dtype, torch.device]] = {}
        self._name()
        held = self._bound.held
        self.held = [f"{name} (a part)" if held[i] else name for i, name in self.called.items() if i in held]

    def _check_placements(self, stepper: Stepper) -> None:
        pairs = (pair for group in self.param_groups for pair in zip(group["param_names"], group["params"]))
        shards.check(pairs, stepper.orbit, stepper.compile)

    def _name(self) -> None:
        pairs = (pair for group in self.param_groups for pair in zip(group["param_names"], group["params"]))
        self.named: dict[str, Tensor] = by_name(pairs, self.gauge.parameters)
        self.called = {id(p): name for name, p in self.named.items()}
        for name, p in self.named.items():
            self._kinds.setdefault(name, (p.dtype, p.device))

    def _follow(self) -> None:
        """Bind anew where parameters were moved or cast before the first step; RuntimeError where it was later."""
        moved = [name for name, p in self.named.items() if (p.dtype, p.device) != self._kinds[name]]
        if moved and (self.state or any(batch.state for batch in self.batches)):
            p, (dtype, device) = self.named[moved[0]], self._kinds[moved[0]]
            raise RuntimeError(
                f"{moved[0]} is {p.dtype} on {p.device} now, and was {dtype} on {device} when its state began. Make a "
                "new optimizer of the model as it is now, and load the state_dict() of this one into it"
            )
        if moved:
            self._bind(self.gauge, self.stepper)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As for any torch optimizer, by (name, parameter) pairs; what comes after the gauge was bound, none moves.

        Raises ValueError for a name that is taken, parameters without names, and wrong settings.
        """
        settings.check(param_group, len(self.param_groups))
        super().add_param_group(settings.without_flags(param_group))
        if not hasattr(self, "named"):  # torch's constructor: not bound yet
            return
        try:
            self._check_placements(self.stepper)
            self._name()
        except ValueError:
            self.param_groups.pop()
            raise

    @property
    def frame_every(self) -> int:
        """Steps between two frames, of all groups."""
        return self.stepper.frame_every

    @frame_every.setter
    def frame_every(self, number: int) -> None:
        _check_frame_every(number)
        self.stepper.frame_every = number

    @property
    def pooling(self) -> bool:
        """Whether what the rule keeps pooled is, in all groups: a state has the shapes that go with it."""
        return self.stepper.pooling

    @property
    def compile(self) -> bool:
        """Whether steps are fused, in all groups."""
        return self.stepper.compile

    @property
    def frames(self) -> dict[str, Frame]:
        """The frames of the last step, by place; places that were not stepped yet have none."""
        for batch in self.batches:
            batch.read()
        parts = [one for batch in self.batches for one in batch.parts()]
        return {one.keys[0]: one.frame for one in parts if one.frame is not None}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; `closure`, where given, computes the loss and its gradients anew, and its value is returned.

        In a component of gauges a gradient of None counts as zero, unless all of them are None: then it is left alone.
        Raises RuntimeError for sparse gradients, where a parameter beside others of a gauge was frozen or unfrozen
        since the optimizer was made, and where one has another dtype or device than its state.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if torch.compiler.is_dynamo_compiling():
            _step_uncompiled(self)
        else:
            self._step()
        return loss

    def _step(self) -> None:
        self._follow()
        i, present = 0, list[Batch]()
        while i < len(self.batches):
            batch = self.batches[i]
            there = [any(p[j].grad is not None for p in batch.slots.values()) for j in range(len(batch.keys))]
            if any(there):
                state.refresh(self, batch)
            if any(there) and not all(there):
                self.batches[i : i + 1] = batch.parts()
                continue
            if all(there):
                self._check_trained(batch)
                present.append(batch)
            i += 1
        if present:
            for batch in present:
                batch.read()
            with coordinates(present):
                self.stepper.advance(present, self.param_groups)
        for batch in present:
            if not batch.shown:
                state.publish(self, batch)
            batch.count.fill_(batch.step)
        plain(self.rule_of, self.param_groups, self.gauged, self.state, self.stepper.layouts)

    def _check_trained(self, batch: Batch) -> None:
        """Raise RuntimeError where another parameter is trained than when the optimizer was made."""
        for params in batch.slots.values():
            for p in params:
                if p.requires_grad == (id(p) in self._bound.frozen):
                    now, was = ("trained", "frozen") if p.requires_grad else ("frozen", "trained")
                    raise RuntimeError(
                        f"{self.called[id(p)]} is {now} now, and was {was} when the optimizer was made: which gauges "
                        "are in force was decided then. Make a new optimizer"
                    )

    @torch.no_grad()
    def clip_grad_norm_(self, max_norm: float, error_if_nonfinite: bool = False) -> Tensor:
        """Scale all gradients so that their norm is `max_norm` at most; returns what it was, a scalar.

        As torch.nn.utils.clip_grad_norm_, but for the norm: it is that of the gradients in canonical coordinates, which
        is the same from every gauge copy.  Raises ValueError for a `max_norm` that is not positive, RuntimeError for
        sparse gradients, and with `error_if_nonfinite` for a norm that is no number; nothing is scaled then.
        """
        if not max_norm > 0:
            raise ValueError(f"max_norm is positive, not {max_norm!r}")
        self._follow()
        params = [p for group in self.param_groups for p in group["params"]]
        for batch in self.batches:
            batch.read()
        with coordinates(self.batches, stepped=False):
            norm = clipping.total_norm(self.batches, (p for p in params if id(p) not in self.gauged))
        if error_if_nonfinite and not bool(norm.isfinite()):
            raise RuntimeError(f"the norm of the gradients is {float(norm)}: they cannot be clipped")
        for kind in (True, False):  # torch multiplies all of one kind at once
            some = [p for p in params if shards.is_distributed(p) == kind]
            torch.nn.utils.clip_grads_with_norm_(some, max_norm, norm)
        return norm

    # --- state: hooks that a user registers see all of it

    def state_dict(self) -> dict[str, Any]:
        """As for any torch optimizer; see `gaugec.runtime.state` for what a parameter's entries are."""
        state.complete(self)
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave, to the bit; parameters are matched by name, in whatever order they stand.

        Raises ValueError, with the differences in words and nothing changed, when it is of another gauge or of other
        parameters, or when the saved param groups have different settings and divide the parameters in another way.
        """
        loaded: dict[str, Any] = {}
        if not self.state:
            self._follow()

        def arrange(_: torch.optim.Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
            loaded.update(state.arranged(self, saved))
            return loaded

        def adopt(_: torch.optim.Optimizer) -> None:
            state.adopt(self, loaded)

        hooks = [
            self.register_load_state_dict_pre_hook(arrange),
            self.register_load_state_dict_post_hook(adopt, prepend=True),
        ]
        try:
            super().load_state_dict(state_dict)
        finally:
            for hook in hooks:
                hook.remove()

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: the state dict and the source of the gauge, which is compiled again from there."""
        source = getattr(self.gauge, "source", None)
        if not isinstance(source, str):
            raise TypeError("an optimizer can be copied only when its gauge has its source")
        stepper = self.stepper
        return {
            "defaults": self.defaults,
            "param_groups": self.param_groups,
            "groups": self._groups,  # those that were there when the gauge was bound
            "stepper": (stepper.orbit, stepper.frame_every, stepper.pooling, stepper.compile),
            "source": source,
            "saved": GaugeOptimizer.state_dict(self),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Bind the gauge to the parameters anew and take over the state; nothing is said of gauges that are off."""
        if "source" not in state:  # torch's load_state_dict
            super().__setstate__(state)
            return
        super().__setstate__(
            {"defaults": state["defaults"], "state": defaultdict(dict), "param_groups": state["param_groups"]}
        )
        self._groups = state["groups"]
        orbit, *settings = state["stepper"]
        self._bind(Gauge(state["source"]), ORBITS[orbit](self.rule_of, *settings))
        self.load_state_dict(state["saved"])


@kernels.uncompiled
def _step_uncompiled(optimizer: GaugeOptimizer) -> None:
    """A step inside of a function that is being compiled: the step is not, it fuses itself where `compile=True`."""
    optimizer._step()


def _check_model(gauge: Gauge, model: nn.Module) -> None:
    """Raise ValueError where the model is not what the gauge was compiled with; it may be in eval mode still."""
    differing = gauge.differing(model, evaluated=True)
    if differing:
        raise ValueError(
            f"the model is not what the gauge was compiled with: {listed(differing)}. Compile again "
            "with the model as it is trained now, or pass model=None to train without this check"
        )


def check_gauge(gauge: Any) -> None:
    """Raise TypeError for what is no compiled gauge, ValueError for one of another version."""
    components = getattr(gauge, "components", None)
    if components is None:
        raise TypeError("gauge should be what gaugec.compile or gaugec.runtime.load returns")
    check(tuple(components))


def _check_frame_every(number: int) -> None:
    if not isinstance(number, int) or number < 1:
        raise ValueError(f"frame_every is a number of steps, 1 or more, not {number!r}")


def _check_whole(batches: Sequence[Batch]) -> None:
    """Raise ValueError where a process has some rows only of what a frame mixes by a matrix."""
    divided = [
        f"{key} ({', '.join(gauge.name for gauge in batch.component.gauges if gauge.framed and gauge.mixes)})"
        for batch in batches
        if any(shards.shard(p) for slot in batch.component.mixed for p in batch.slots[slot])
        for key in batch.keys
    ]
    if divided:
        raise ValueError(
            f"invertible bases are stepped in whole matrices, and some at {listed(divided)} are DTensors, of which a "
            "process has a part. Use DDP, or gauge them by the orthogonal group"
        )
