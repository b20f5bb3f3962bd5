"""The rule of Muon: a momentum of which every logical matrix is brought near the nearest orthogonal one.

As in Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024), and in torch.optim.Muon:

    m ← μ m + (1 − μ) ĝ        d = m, or by Nesterov μ m + (1 − μ) ĝ
    u = −η λ θ̂ − η a p(d)

for a gradient ĝ at a point θ̂ in canonical coordinates. p is an odd polynomial of matrices, five steps of a
Newton–Schulz iteration: p(R d S) = R p(d) S for orthogonal R and S, so that rotations pass through it to rounding. a
evens out shapes [rows, columns]: √max(1, rows / columns), or 0.2 √max(rows, columns), with which a step is as long as
one of AdamW (Liu et al., "Muon is scalable for LLM training", 2025).

Not here: which matrices a parameter is made of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from gaugec.runtime.rules.rule import Averaging, Direction, Number, Settings, State, UpdateRule, blend, decoupled

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan's, of the greatest slope at zero
EPS = 1e-7


class Steps(NamedTuple):
    """η, 1 − μ, and μ where the step is Nesterov's, else 1."""

    rate: float
    fresh: float
    ahead: float


def numbers(group: Settings, step: int) -> Steps:
    """The numbers of a step."""
    momentum = float(group["momentum"])
    return Steps(float(group["lr"]), 1 - momentum, momentum if group["nesterov"] else 1.0)


def update(
    gradient: Tensor, state: State, numbers: Sequence[Number], squares: Averaging, room: Tensor | None = None
) -> Direction:
    """The direction before it is orthogonalised: see `rule.Update`."""
    rate, fresh, ahead = numbers
    kept = state["momentum_buffer"]
    blend(kept, gradient, fresh)
    if isinstance(ahead, Tensor):  # in a graph, one formula for both
        return Direction(-rate, gradient + (kept - gradient) * ahead)
    return Direction(-rate, kept if ahead == 1 else torch.lerp(gradient, kept, ahead, out=room))


def original(rows: int, columns: int) -> float:
    """√max(1, rows / columns)."""
    return math.sqrt(max(1.0, rows / columns))


def match_rms_adamw(rows: int, columns: int) -> float:
    """0.2 √max(rows, columns)."""
    return 0.2 * math.sqrt(max(rows, columns))


ADJUSTMENTS: dict[str | None, Callable[[int, int], float]] = {
    None: original,
    "original": original,
    "match_rms_adamw": match_rms_adamw,
}


def newton_schulz(x: Tensor, steps: int, coefficients: Sequence[float], eps: float = EPS) -> Tensor:
    """Bring matrices [number, rows, columns] near the nearest orthogonal ones; x may be written over.

    Every singular value s of one goes to about 1, between 0.7 and 1.2 for those above a hundredth of the norm, with
    the usual coefficients and five steps. Products are of the smaller of the two sizes.
    """
    a, b, c = coefficients
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        gram = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, gram, x, beta=a)
    return x.mT if tall else x


@cache
def muon(
    steps: int, coefficients: tuple[float, float, float], adjust: str | None, dtype: torch.dtype | None
) -> UpdateRule:
    """The rule with so many steps of an iteration.

    dtype: of the iteration; None for bfloat16, as torch.optim.Muon has it, but float64 where the steps are.
    """

    def matrices(x: Tensor) -> Tensor:
        fine = x.dtype if x.dtype == torch.float64 else torch.bfloat16
        near = newton_schulz(x.to(dtype or fine), steps, coefficients).to(x.dtype)
        return near.mul_(ADJUSTMENTS[adjust](x.shape[1], x.shape[2]))

    return UpdateRule({"momentum_buffer": False}, numbers, update, None, decoupled, matrices=matrices)
