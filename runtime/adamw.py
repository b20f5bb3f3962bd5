"""AdamW in canonical coordinates, with pooled second moments and horizontal steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from gaugec.runtime.base import GaugeOptimizer, Groups
from gaugec.runtime.batches import Batch
from gaugec.runtime.linalg import Tensors


class DDCAdamW(GaugeOptimizer):
    """AdamW that takes the same path from every gauge copy of a model.

    named_parameters: model.named_parameters(), or a list of param groups whose "params" are (name, parameter) pairs.
    gauge: what gaugec.compile or gaugec.runtime.load returns.
    lr, betas, eps, weight_decay: as in torch.optim.AdamW, per group; decay acts on the canonical parameters.
    frame_every: steps between two frames; exact whatever the number.
    pooling: average second moments over what compact elements mix; without it rotations are no longer exact.

    Parameters that no gauge moves take torch.optim.AdamW's step.  Raises ValueError for wrong settings, missing or
    doubled parameters and wrong shapes, TypeError for parameters without names; warns of gauges that are off
    (`inactive`) and of singular orbits.
    """

    def __init__(
        self,
        named_parameters: Groups,
        gauge: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        frame_every: int = 1,
        pooling: bool = True,
    ) -> None:
        if not lr >= 0 or not weight_decay >= 0 or not eps > 0:
            raise ValueError(f"lr and weight_decay are not negative, eps is positive: {lr}, {weight_decay}, {eps}")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas lie in [0, 1): {betas}")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(named_parameters, gauge, defaults, frame_every, pooling)

    def _begin(self, batch: Batch, params: Tensors) -> None:
        batch.moments = {slot: torch.zeros_like(value) for slot, value in params.items()}
        zeros = {slot: torch.zeros_like(value) for slot, value in params.items()}
        batch.second = batch.component.pool(zeros) if self.pooling else zeros

    def _direction(self, batch: Batch, gradient: Tensors, point: Tensors, out: Tensors) -> Tensors:
        pooled = set(batch.component.pooled) if self.pooling else set()
        groups = {slot: self.param_groups[i] for slot, i in batch.groups.items() if batch.slots[slot][0].requires_grad}
        for slot, x in point.items():
            rate = float(groups[slot]["lr"]) * groups[slot]["weight_decay"] if slot in groups else 0.0
            torch.mul(x, -rate, out=out[slot])
        for slot, group in groups.items():
            if slot not in pooled:
                _adam(out[slot], gradient[slot], batch.moments[slot], batch.second[slot], batch.step, group)
        pooled &= set(groups)
        if not pooled:
            return out
        for slot in pooled:
            batch.moments[slot].lerp_(gradient[slot], 1 - groups[slot]["betas"][0])
            gradient[slot].mul_(gradient[slot])
        squares = batch.component.pool(gradient)
        roots = dict(batch.second)
        for slot in pooled:
            second = groups[slot]["betas"][1]
            batch.second[slot].lerp_(squares[slot], 1 - second)
            roots[slot] = (batch.second[slot] / (1 - second**batch.step)).sqrt_().add_(groups[slot]["eps"])
        roots = batch.component.unpool(roots, gradient)
        for slot in pooled:
            rate = float(groups[slot]["lr"]) / (1 - groups[slot]["betas"][0] ** batch.step)
            out[slot].addcdiv_(batch.moments[slot], roots[slot], value=-rate)
        return out

    def _plain(self) -> None:
        for group in self.param_groups:
            params = [p for p in group["params"] if id(p) not in self._gauged and p.grad is not None]
            if not params:
                continue
            for p in params:
                if p.grad.is_sparse:
                    raise RuntimeError("DDCAdamW does not support sparse gradients")
                if not self.state[p]:
                    self.state[p] = {
                        "step": torch.zeros((), dtype=torch.float32, device=p.device),
                        "exp_avg": torch.zeros_like(p),
                        "exp_avg_sq": torch.zeros_like(p),
                    }
            states = [self.state[p] for p in params]
            fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in params)
            first, second = group["betas"]
            adamw(
                params,
                [p.grad for p in params],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                foreach=not fused,
                fused=fused,
                amsgrad=False,
                beta1=first,
                beta2=second,
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )

    def _shown(self, batch: Batch, slot: str, j: int) -> dict[str, Any]:
        step = torch.tensor(float(batch.step))
        return {"step": step, "exp_avg": batch.moments[slot][j], "exp_avg_sq": batch.second[slot][j]}

    def _adopt(self, batch: Batch) -> None:
        self._begin(batch, batch.params())
        for slot, params in batch.slots.items():
            for j, p in enumerate(params):
                if p.requires_grad:
                    batch.moments[slot][j].copy_(self.state[p]["exp_avg"])
                    batch.second[slot][j].copy_(self.state[p]["exp_avg_sq"])


def _adam(x: Tensor, gradient: Tensor, first: Tensor, second: Tensor, step: int, group: dict[str, Any]) -> None:
    """Subtract an Adam step without decay from x and update the moments, all in place: torch's own fused kernel."""
    adamw(
        [x],
        [gradient],
        [first],
        [second],
        [],
        [torch.tensor(float(step - 1), device=x.device)],
        foreach=False,
        fused=x.device.type in ("cpu", "cuda"),
        amsgrad=False,
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        lr=group["lr"],
        weight_decay=0.0,
        eps=group["eps"],
        maximize=False,
    )
