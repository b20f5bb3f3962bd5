"""Muon on hidden matrices and AdamW on everything else, both in canonical coordinates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gaugec.runtime import settings
from gaugec.runtime.binding import Groups, named
from gaugec.runtime.gauge import Gauge
from gaugec.runtime.matrices import Layout
from gaugec.runtime.optimizer import GaugeOptimizer, check_gauge
from gaugec.runtime.routing import ADAMW as BY_ADAMW
from gaugec.runtime.routing import MUON as BY_MUON
from gaugec.runtime.routing import Router, Routing
from gaugec.runtime.rules.adamw import ADAMW
from gaugec.runtime.rules.muon import COEFFICIENTS, muon
from gaugec.runtime.rules.rule import Settings, UpdateRule
from gaugec.runtime.stepper import Stepper


class DDCMuon(GaugeOptimizer):
    """Muon that takes the same path from every gauge copy of a model, with AdamW for what is no hidden matrix.

    Which parameter takes which step follows from the compiled gauge and the traced graph (`routing` prints it): logical
    matrices between the first and the last layer take Muon's, each of a fused weight, each head and each expert by
    itself; embeddings, the output head, stems, gains, biases take AdamW's.

    named_parameters, gauge, frame_every, pooling, compile, model, orbit, maximize: as in `DDCAdamW`.
    lr, weight_decay, momentum, nesterov, ns_steps, ns_coefficients, adjust_lr_fn: as in torch.optim.Muon, per group.
    ns_dtype: the dtype of the Newton-Schulz iteration; None is bfloat16, as in torch.optim.Muon, and float64 where the
        parameters are. Rotations pass through it to its rounding: docs/training.md has how far copies come apart with
        each, and torch.float32 is the faster one on a CPU that has no unit for bfloat16.
    adamw_lr, adamw_weight_decay, betas, eps: of AdamW's steps, per group; a group's `weight_decay` is of both where
        it has no `adamw_weight_decay`.
    decay_gains: whether gains decay. By default they do not: decay of a norm's gain shrinks what the next matrix is
        given, which Muon, whose steps have one length whatever the gradient, does not make up for.
    routes: names -> "muon" or "adamw", where the table is to be overruled; with the prefixes of wrappers or without.

    A given param group becomes up to three, of Muon's matrices, of AdamW's parameters, and of gains, each with a `step`
    and with a `lr` of its own, which a scheduler changes alike; a group that has a `step` already, which is "muon" or
    "adamw", stays one, and its settings are those of that step.

    Raises what `DDCAdamW` raises, and ValueError or TypeError for a route that is none.
    """

    def __init__(
        self,
        named_parameters: Groups | nn.Module,
        gauge: Gauge,
        lr: float | Tensor = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        ns_coefficients: tuple[float, float, float] = COEFFICIENTS,
        adjust_lr_fn: str | None = None,
        ns_dtype: torch.dtype | None = None,
        adamw_lr: float | Tensor = 3e-4,
        adamw_weight_decay: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        decay_gains: bool = False,
        routes: dict[str, str] | None = None,
        frame_every: int = 10,
        pooling: bool = True,
        compile: bool = False,
        model: nn.Module | None = None,
        orbit: str = "pinned",
        maximize: bool = False,
    ) -> None:
        defaults: dict[str, Any] = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_steps": ns_steps,
            "ns_coefficients": ns_coefficients,
            "adjust_lr_fn": adjust_lr_fn,
            "ns_dtype": ns_dtype,
            "betas": betas,
            "eps": eps,
            "maximize": maximize,
        }
        self._own = {"adamw_lr": adamw_lr, "adamw_weight_decay": adamw_weight_decay, "decay_gains": decay_gains}
        settings.check({**defaults, **self._own})
        check_gauge(gauge)
        if isinstance(named_parameters, nn.Module):
            model = named_parameters
            named_parameters = model.named_parameters()
        groups = named(named_parameters, model)
        names = (name for group in groups for name, _ in group["params"])
        self._router = Router(gauge.roles, gauge.parameters, names, {} if routes is None else routes)
        super().__init__(groups, gauge, defaults, frame_every, pooling, compile, model, orbit)

    def rule_of(self, group: Settings) -> UpdateRule:
        """Muon's rule or AdamW's, as the group's `step` says."""
        if group["step"] == BY_ADAMW:
            return ADAMW
        return muon(group["ns_steps"], tuple(group["ns_coefficients"]), group["adjust_lr_fn"], group["ns_dtype"])

    def routing(self) -> Routing:
        """Every parameter with its step, its role in the traced graph and its logical matrices; prints as a table."""
        return self._router.table(
            (name, group["step"]) for group in self.param_groups for name in group["param_names"]
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As for any torch optimizer, by (name, parameter) pairs; a group without `step` is divided by the roles.

        Raises what `GaugeOptimizer.add_param_group` raises, and ValueError for a step that is none, and for a parameter
        that is to take Muon's and has no logical matrices, or not those that were compiled; no part of a group that is
        refused is added.
        """
        count, known = len(self.param_groups), self._router.roles
        settings.check(param_group, count)
        (group,) = named([param_group])
        try:
            self._router.meet(name for name, _ in group["params"])
            for name, _ in group["params"] if "step" in group else ():
                self._router.check(name, group["step"], f"group {count}")
            for part in self._router.divided(group, self._own):
                super().add_param_group(part)
            if hasattr(self, "named"):
                self.stepper.layouts = self._layouts()
        except (TypeError, ValueError):
            del self.param_groups[count:]
            self._router.roles = known
            if hasattr(self, "named"):
                self._name()
            raise

    def _layouts(self) -> dict[int, Layout]:
        return {
            id(p): self._router.fitting(name, p)
            for group in self.param_groups
            if group["step"] == BY_MUON
            for name, p in zip(group["param_names"], group["params"])
        }

    def _bind(self, gauge: Gauge, stepper: Stepper) -> None:
        stepper.layouts = self._layouts()
        super()._bind(gauge, stepper)

    def _step(self) -> None:
        for i, group in enumerate(self.param_groups):
            was = {BY_MUON if id(p) in self.stepper.layouts else BY_ADAMW for p in group["params"]}
            if was - {group["step"]}:
                raise RuntimeError(
                    f"group {i} has the step {group['step']!r} now, and had {min(was)!r} when it was added: what is "
                    "kept of its parameters is of that step. Make a new optimizer"
                )
        super()._step()

    def __getstate__(self) -> dict[str, Any]:
        """As of any gauge optimizer, and what divides param groups."""
        return {**super().__getstate__(), "router": self._router, "own": self._own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As of any gauge optimizer."""
        if "router" in state:
            self._router, self._own = state["router"], state["own"]
        super().__setstate__(state)
