"""Bases of directions: vectors over the entries of all parameters, float64, one a row.

Not here: which directions, and why.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

ANGLE = 1e-4  # between what is in a span and what is not: dead directions are known to about 1e-6 where little is seen
FLOOR = 1e-9  # of the largest singular value of tangents: nothing above it is taken for zero


def svd(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The reduced singular value decomposition; where it does not converge, of the rows mixed by an orthogonal matrix.

    The singular values and the right vectors are the same; the left ones are not given back then.
    """
    try:
        return torch.linalg.svd(x, full_matrices=False)
    except torch.linalg.LinAlgError:
        draw = torch.Generator().manual_seed(4)
        mixed = torch.linalg.qr(torch.randn(len(x), len(x), generator=draw, dtype=x.dtype))[0]
        left, values, right = torch.linalg.svd(mixed @ x, full_matrices=False)
        return mixed.T @ left, values, right


def span(vectors: Tensor) -> Tensor:
    """An orthonormal basis of what vectors span, to rounding: each counts, however short it is."""
    length = vectors.norm(dim=1, keepdim=True)
    vectors = (vectors / length.clamp(min=1e-300))[length[:, 0] > 0]
    if not len(vectors):
        return vectors
    _, values, basis = svd(vectors)
    return basis[values > FLOOR * values[0]]


def independent(vectors: Tensor) -> Tensor:
    """An orthonormal basis of what vectors of length 1 or less span, but for angles that are too small to be known."""
    if not len(vectors):
        return vectors
    squares, turn = torch.linalg.eigh(vectors @ vectors.T)
    kept = squares > ANGLE**2
    return (turn[:, kept].T @ vectors) / squares[kept].sqrt().unsqueeze(1)


def apart(one: Tensor, other: Tensor) -> Tensor:
    """An orthonormal basis of what is left of one when the other is projected away; both are orthonormal."""
    return independent(one - (one @ other.T) @ other)


def together(one: Tensor, other: Tensor) -> Tensor:
    """An orthonormal basis of what two orthonormal ones span."""
    return torch.cat([one, apart(other, one)])


def stacked(parts: Sequence[Tensor], columns: int = 0) -> Tensor:
    """Vectors of several lists, in one; of none that many columns."""
    return torch.cat(list(parts)) if parts else torch.zeros(0, columns, dtype=torch.float64)


def units(numbers: Tensor, columns: int) -> Tensor:
    """The unit vectors of some entries."""
    made = torch.zeros(len(numbers), columns, dtype=torch.float64)
    made[torch.arange(len(numbers)), numbers] = 1.0
    return made


def without(vectors: Tensor, numbers: Tensor) -> Tensor:
    """Vectors with 0 at some entries."""
    made = vectors.clone()
    made[:, numbers] = 0.0
    return made


def trace(basis: Tensor, place: slice) -> float:
    """The trace of the projector onto what an orthonormal basis spans, over some entries."""
    return float(basis[:, place].square().sum())
