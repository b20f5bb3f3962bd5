"""AdamW in canonical coordinates, with pooled second moments and horizontal steps."""

from __future__ import annotations

from typing import Any

import torch
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
        if not lr >= 0 or not eps >= 0 or not weight_decay >= 0:
            raise ValueError(f"lr, eps and weight_decay are not negative: {lr}, {eps}, {weight_decay}")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas lie in [0, 1): {betas}")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(named_parameters, gauge, defaults, frame_every, pooling)

    def _begin(self, batch: Batch, params: Tensors) -> None:
        batch.moments = {slot: torch.zeros_like(value) for slot, value in params.items()}
        zeros = {slot: torch.zeros_like(value) for slot, value in params.items()}
        batch.second = batch.component.pool(zeros) if self.pooling else zeros

    def _direction(self, batch: Batch, gradient: Tensors, point: Tensors) -> Tensors:
        squares = {slot: g.square() for slot, g in gradient.items()}
        if self.pooling:
            squares = batch.component.pool(squares)
        groups = {slot: self.param_groups[i] for slot, i in batch.groups.items()}
        for slot, group in groups.items():
            first, second = group["betas"]
            batch.moments[slot].lerp_(gradient[slot], 1 - first)
            batch.second[slot].lerp_(squares[slot], 1 - second)
        second_moments = batch.component.unpool(batch.second) if self.pooling else batch.second
        out = {}
        for slot, group in groups.items():
            if not batch.slots[slot][0].requires_grad:
                out[slot] = torch.zeros_like(point[slot])
                continue
            first, second = group["betas"]
            lr = float(group["lr"])
            root = (second_moments[slot] / (1 - second**batch.step)).sqrt_().add_(group["eps"])
            step = (batch.moments[slot] * (lr / (1 - first**batch.step))).div_(root)
            out[slot] = step.add_(point[slot], alpha=lr * group["weight_decay"])
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
                        "step": torch.zeros((), dtype=torch.float32),
                        "exp_avg": torch.zeros_like(p),
                        "exp_avg_sq": torch.zeros_like(p),
                    }
            states = [self.state[p] for p in params]
            first, second = group["betas"]
            adamw(
                params,
                [p.grad for p in params],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                foreach=True,
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
