"""AdamW in canonical coordinates, with pooled second moments and horizontal steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from gaugec.runtime.batch import Batch, Piece
from gaugec.runtime.binding import Groups
from gaugec.runtime.layout import Tensors, Values
from gaugec.runtime.optimizer import GaugeOptimizer


class DDCAdamW(GaugeOptimizer):
    """AdamW that takes the same path from every gauge copy of a model.

    named_parameters: model.named_parameters(), or a list of param groups whose "params" are (name, parameter) pairs.
    gauge: what gaugec.compile or gaugec.runtime.load returns.
    lr, betas, eps, weight_decay: as in torch.optim.AdamW, per group; decay acts on the canonical parameters.
    frame_every: steps between two frames; exact whatever the number.
    pooling: average second moments over what compact elements mix; without it rotations are no longer exact.
    compile: fuse the steps with torch.compile: faster after a minute of compiling; on the CPU it needs a C++ compiler.

    Parameters that no gauge moves take torch.optim.AdamW's step.  Raises ValueError for wrong settings, missing or
    doubled parameters and wrong shapes, TypeError for parameters without names, RuntimeError where there is nothing to
    compile with; warns of gauges that are off (`inactive`) and of singular orbits.
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
        compile: bool = False,
    ) -> None:
        if not lr >= 0 or not weight_decay >= 0 or not eps > 0:
            raise ValueError(f"lr and weight_decay are not negative, eps is positive: {lr}, {weight_decay}, {eps}")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas lie in [0, 1): {betas}")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(named_parameters, gauge, defaults, frame_every, pooling, compile)

    def _begin(self, batch: Batch, params: Tensors) -> None:
        batch.moments = {slot: torch.zeros_like(value) for slot, value in params.items()}
        zeros = {slot: torch.zeros_like(value) for slot, value in params.items()}
        batch.second = batch.component.pool(zeros) if self.pooling else zeros

    def _direction(
        self, batch: Batch, piece: Piece, gradient: Tensors, point: Tensors, out: Tensors, spare: Tensors
    ) -> None:
        component = batch.component
        pooled: Tensors = {}
        moments = piece.of(batch.moments)
        for slot, x in out.items():
            p = batch.slots[slot][0]
            if not p.requires_grad:
                x.zero_()
                continue
            group = self.param_groups[batch.groups[slot]]
            torch.mul(point[slot], -float(group["lr"]) * group["weight_decay"], out=x)
            if not self.pooling or slot not in component.pooled:
                second = piece.cut(slot, batch.second[slot])
                _adam(x, gradient[slot], moments[slot], second, batch.step, group)
                continue
            moments[slot].lerp_(gradient[slot], 1 - group["betas"][0])
            pooled[slot] = torch.mul(gradient[slot], gradient[slot], out=spare[slot])
        if not pooled:
            return
        roots = component.pool(Values(pooled, piece.span))
        for slot, x in roots.items():
            group = self.param_groups[batch.groups[slot]]
            beta = group["betas"][1]
            second = piece.pooled(slot, batch.second[slot], batch.slots[slot][0].numel())
            second.lerp_(x, 1 - beta)
            torch.sqrt(second, out=x).mul_((1 - beta**batch.step) ** -0.5).add_(group["eps"])
        roots = component.unpool(roots, spare)
        for slot, x in roots.items():
            group = self.param_groups[batch.groups[slot]]
            rate = float(group["lr"]) / (1 - group["betas"][0] ** batch.step)
            out[slot].addcdiv_(moments[slot], x, value=-rate)

    def _scalars(self, batch: Batch, params: Tensors) -> Tensors:
        out = {}
        for slot, x in params.items():
            group = self.param_groups[batch.groups[slot]]
            lr, (beta1, beta2) = float(group["lr"]), group["betas"]
            rate, root = lr / (1 - beta1**batch.step), (1 - beta2**batch.step) ** -0.5
            numbers = [lr * group["weight_decay"], 1 - beta1, 1 - beta2, rate, root, group["eps"]]
            out[slot] = torch.tensor(numbers, dtype=x.dtype).to(x.device)
        return out

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
        component = batch.component
        squares: Tensors = {slot: gradient[slot].square() for slot in gradient}
        squares = component.pool(squares) if self.pooling else squares
        roots = {}
        for slot, x in second.items():
            _, one, two, _, root, eps = scalars[slot].unbind()
            if slot in trainable:
                moments[slot].add_((gradient[slot] - moments[slot]) * one)
                x.add_((squares[slot] - x) * two)
            roots[slot] = x.sqrt() * root + eps
        if self.pooling:
            roots = component.unpool(roots, {slot: torch.empty_like(x) for slot, x in point.items()})
        step = {}
        for slot, x in point.items():
            decay, _, _, rate, _, _ = scalars[slot].unbind()
            step[slot] = -rate * (moments[slot] / roots[slot]) - decay * x
            if slot not in trainable:
                step[slot] = torch.zeros_like(x)
        return step

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
    """Subtract an Adam step without decay from x and update the moments, all in place."""
    lr, (beta1, beta2), eps = group["lr"], group["betas"], group["eps"]
    if x.device.type not in ("cpu", "cuda"):
        first.lerp_(gradient, 1 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        root = second.sqrt().mul_((1 - beta2**step) ** -0.5).add_(eps)
        x.addcdiv_(first, root, value=-float(lr) / (1 - beta1**step))
        return
    torch._fused_adamw_(
        [x],
        [gradient],
        [first],
        [second],
        [],
        [torch.tensor(float(step), device=x.device)],
        lr=float(lr),
        beta1=beta1,
        beta2=beta2,
        weight_decay=0.0,
        eps=eps,
        amsgrad=False,
        maximize=False,
    )
