"""The rule of AdamW, with a second moment that may be pooled.

Decoupled decay and the corrections of both moments as in Loshchilov and Hutter, "Decoupled weight decay regularization"
(2019), algorithm 2, and in torch.optim.AdamW, with one η for both:

    m ← β₁ m + (1 − β₁) ĝ        v ← β₂ v + (1 − β₂) pool(ĝ²)
    u = −η λ θ̂ − η / (1 − β₁ᵗ) · m / unpool(√(v / (1 − β₂ᵗ)) + ε)

for a gradient ĝ at a point θ̂ in canonical coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from gaugec.runtime import kernels
from gaugec.runtime.rules.rule import Averaging, Direction, Number, Settings, State, UpdateRule, blend, decoupled


class Numbers(NamedTuple):
    """1 − β₁, 1 − β₂, η √(1 − β₂ᵗ) / (1 − β₁ᵗ), ε √(1 − β₂ᵗ): the correction of v is taken out of the root."""

    first: float
    second: float
    rate: float
    eps: float


def numbers(group: Settings, step: int) -> Numbers:
    """The numbers of a step."""
    beta1, beta2 = group["betas"]
    correction = (1 - beta2**step) ** 0.5
    return Numbers(1 - beta1, 1 - beta2, float(group["lr"]) * correction / (1 - beta1**step), group["eps"] * correction)


def update(
    gradient: Tensor, state: State, numbers: Sequence[Number], squares: Averaging, room: Tensor | None = None
) -> Direction:
    """AdamW's direction: see `rule.Update`."""
    first, second, rate, eps = numbers
    blend(state["exp_avg"], gradient, first)
    average = squares(gradient)
    blend(state["exp_avg_sq"], average, second)
    roots = torch.sqrt(state["exp_avg_sq"], out=None if room is None else average)
    roots.add_(eps if isinstance(eps, Tensor) else kernels.number(eps, roots.dtype))
    return Direction(-rate, state["exp_avg"], roots)


def kernel(out: Tensor, gradient: Tensor, state: State, group: Settings, step: int, decays: bool) -> bool:
    """The same step by torch's kernel, where there is one."""
    if out.device.type not in kernels.DEVICES:
        return False
    weight = group["weight_decay"] if decays else 0.0
    first, second = state["exp_avg"], state["exp_avg_sq"]
    kernels.adam(out, gradient, first, second, step, float(group["lr"]), group["betas"], group["eps"], weight)
    return True


def plain(params: Sequence[Tensor], gradients: Sequence[Tensor], states: Sequence[State], group: Settings) -> None:
    """The step of torch.optim.AdamW."""
    beta1, beta2 = group["betas"]
    kinds: dict[bool, list[tuple[Tensor, Tensor, State]]] = {}
    for p, gradient, state in zip(params, gradients, states):
        tensors = (p, gradient, state["exp_avg"], state["exp_avg_sq"])
        kinds.setdefault(kernels.serves(tensors), []).append((p, gradient, state))
    for fused, some in kinds.items():
        adamw(
            [p for p, _, _ in some],
            [gradient for _, gradient, _ in some],
            [state["exp_avg"] for _, _, state in some],
            [state["exp_avg_sq"] for _, _, state in some],
            [],
            [state["step"] for _, _, state in some],
            foreach=not fused,
            fused=fused,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"] if fused else float(group["lr"]),
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


ADAMW = UpdateRule({"exp_avg": False, "exp_avg_sq": True}, numbers, update, plain, decoupled, kernel)
