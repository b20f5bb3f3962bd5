"""The rule of gradient descent with momentum, as in torch.optim.SGD, with decoupled decay:

    m ← μ m + ĝ        u = −η λ θ̂ − η m, or by Nesterov −η λ θ̂ − η (ĝ + μ m)

for a gradient ĝ at a point θ̂ in canonical coordinates. Without momentum this is SGD's step to the letter; with it SGD
lets λ θ̂ through m, which with a pinned orbit would need the point.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gaugec.runtime.rules.rule import Averaging, Direction, Number, Settings, State, UpdateRule, decoupled, same


class Rates(NamedTuple):
    """η, μ, and μ again where the step is Nesterov's, else 0."""

    rate: float
    momentum: float
    ahead: float


def numbers(group: Settings, step: int) -> Rates:
    """The numbers of a step."""
    momentum = float(group["momentum"])
    return Rates(float(group["lr"]), momentum, momentum if group["nesterov"] else 0.0)


def update(
    gradient: Tensor, state: State, numbers: Sequence[Number], squares: Averaging, room: Tensor | None = None
) -> Direction:
    """The direction: see `rule.Update`."""
    rate, momentum, ahead = numbers
    kept = state["momentum_buffer"].mul_(momentum).add_(gradient)
    if isinstance(ahead, Tensor):  # in a graph, one formula for both
        return Direction(-rate, torch.where(ahead > 0, gradient + ahead * kept, kept))
    return Direction(-rate, torch.add(gradient, kept, alpha=ahead, out=room) if ahead else kept)


def plain(params: Sequence[Tensor], gradients: Sequence[Tensor], states: Sequence[State], group: Settings) -> None:
    """The same step where no gauge moves."""
    shrink = 1 - decoupled(group)
    torch._foreach_add_([state["step"] for state in states], 1)
    for p, gradient, state in zip(params, gradients, states):
        weight, above, _ = update(gradient, state, numbers(group, 0), same)
        p.mul_(shrink).add_(above, alpha=float(weight))



SGD = UpdateRule({"momentum_buffer": False}, numbers, update, plain, decoupled)
