"""What a frame multiplies by: numbers [batch, copies, size], or matrices [batch, copies, size, size], told by the axes.

Not here: how they are found (see `frames` and `polar`), what they are multiplied with (see `actions.stretch`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def matrices(x: Tensor) -> bool:
    """Whether these are matrices."""
    return x.dim() == 4


def one_like(x: Tensor) -> Tensor:
    """What moves nothing, in the shape of x."""
    if not matrices(x):
        return torch.ones_like(x)
    return torch.eye(x.shape[-1], dtype=x.dtype, device=x.device).expand_as(x).clone()


def raised(x: Tensor, power: float) -> Tensor:
    """Numbers to a power; of matrices, power 1 is what they are and power -1 their inverse transposed."""
    if matrices(x):
        return x if power == 1 else torch.linalg.inv(x).mT
    return x if power == 1 else 1 / x if power == -1 else x.pow(power)


def ratio(now: Tensor, before: Tensor) -> Tensor:
    """What takes parameters from where `now` brings them to canonical form to where `before` does."""
    return torch.linalg.solve(before, now) if matrices(now) else now / before


def chosen(mask: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """x where the mask of units (or of copies, [batch, copies, 1]) is set, else y."""
    return torch.where(mask.unsqueeze(-1) if matrices(x) else mask, x, y)


def still(x: Tensor) -> Tensor:
    """Where nothing is moved: of numbers unit by unit, of matrices copy by copy, [batch, copies, 1]."""
    if not matrices(x):
        return x == 1
    return (x == one_like(x)).all(-1).all(-1, keepdim=True)


def coarse(x: Tensor) -> Tensor:
    """Numbers rounded to powers of two; matrices only where they stretch something by √2: else they stay."""
    if not matrices(x):
        return torch.exp2(x.log2().round())
    stretch = torch.linalg.svdvals(x).log().abs().amax(-1, keepdim=True)
    return chosen(stretch >= math.log(2) / 2, x, one_like(x))


def sound(x: Tensor, far: float) -> bool:
    """Whether numbers are between 1/far and far, and entries of matrices and of their inverses not beyond it."""
    if not matrices(x):
        return bool(((x >= 1 / far) & (x <= far)).all())
    inverse, failed = torch.linalg.inv_ex(x.double().nan_to_num(torch.inf))
    return bool((failed == 0).all() and (torch.maximum(x.abs(), inverse.abs()) <= far).all())


def stretches(x: Tensor) -> Tensor:
    """By what units are stretched, [batch, copies, size]: numbers, or singular values of matrices."""
    return torch.linalg.svdvals(x) if matrices(x) else x
