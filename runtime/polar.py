"""Frames that are matrices: the basis in which what an element T moves and what T^-T moves have one Gram matrix.

For rows X -> T X and Y -> T^-T Y with P = X X^T and Q = Y Y^T, the geometric mean M = P^-1 # Q solves M P M = Q, and
its root S = M^1/2 brings both to S P S = S^-1 Q S^-1.  An element takes M to T^-T M T^-1, so S becomes K S T^-1 with a
rotation K.  A frame F is found from the one before, by the symmetric S of the point that F brings the parameters to:
F <- S F.  A rotation of that point turns S with it, so K stays what it was when F began: what is kept in coordinates
of the frame stays there.

Means are found by averages of matrices and inverses alone, which never fail to end: where a Gram matrix is singular
numbers become NaN, of that copy only.

Not here: which rows there are; scales.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FLOOR = 1e-12  # the least eigenvalue of a balanced Gram matrix, beside the largest: below it a copy has no frame
ROUNDS = 64
CLOSE = 1e-8  # a round squares what it is off by

Rows = Sequence[tuple[Tensor, bool]]


def balanced(rows: Rows, held: Tensor | None, far: float) -> tuple[Tensor, Tensor, Tensor]:
    """The frame [batch, copies, size, size], its inverse, and where there is one, [batch, copies, 1].

    rows: [batch, copies, size, rest] in float64, and whether a row is dual, moved by T^-T; where all are of one side,
    the Gram matrix of that side becomes 1.  held: the frame before, or None.  far: a frame with an entry beyond it, or
    its inverse, is none.
    """
    x = rows[0][0]
    one = torch.eye(x.shape[2], dtype=torch.float64, device=x.device).expand(*x.shape[:3], x.shape[2])
    frame, inverse = (one, one) if held is None else (held, torch.linalg.inv(held))
    sides = {dual for _, dual in rows}
    for _ in range(2 if held is None else 1):  # the second makes up for the digits that squares of raw numbers lost
        gram, dual = (_gram(rows, side, inverse.mT if side else frame) for side in (False, True))
        gram, dual = gram if False in sides else _inverse(dual), dual if True in sides else _inverse(gram)
        mean, _ = midway(dual, gram)
        root, back = midway(mean, one)
        frame, inverse = root @ frame, inverse @ back
    spread = _size(root @ gram @ root) * _size(back @ _inverse(gram) @ back)
    return frame, inverse, (spread < 1 / FLOOR).unsqueeze(-1) & within(frame, inverse, far)


def within(frame: Tensor, inverse: Tensor, far: float) -> Tensor:
    """Where no entry of matrices or of their inverses is beyond a number, nor none at all: [batch, copies, 1]."""
    return (torch.maximum(frame.abs(), inverse.abs()) < far).all(-1).all(-1, keepdim=True)


def midway(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The geometric mean of positive definite a and b^-1, [..., k, k], and its inverse; NaN where one is singular.

    By the iteration of Denman and Beavers, whose every round a change of basis commutes with; both are divided by what
    brings the trace of their product to that of 1, which leaves the mean where it is.
    """
    one = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    for _ in range(ROUNDS):
        product = a @ b
        square = product.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
        off, a, b = (product / square - one).abs().amax((-2, -1)), a / square.sqrt(), b / square.sqrt()
        a, b = (a + _inverse(b)) / 2, (b + _inverse(a)) / 2
        if not bool((off > CLOSE).any()):
            break
    return a, b


def factor(grams: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Prepare `solve` for pairs of Gram matrices P, Q, [..., 2, k, k] in float64."""
    values, vectors = torch.linalg.eigh(grams.nan_to_num(0.0, 0.0, 0.0))
    p, q = values.clamp_min(0).unbind(-2)
    total = q.unsqueeze(-1) + p.unsqueeze(-2)
    floor = total.amax((-2, -1), keepdim=True) * (4 * total.shape[-1] * torch.finfo(total.dtype).eps)
    weight = torch.where(total > floor, 1 / total, torch.zeros_like(total))
    return vectors[..., 1, :, :], vectors[..., 0, :, :], weight


def solve(factors: tuple[Tensor, Tensor, Tensor], right: Tensor) -> Tensor:
    """The matrix A with A P + Q A = right; directions in which neither has weight get 0."""
    left, other, weight = factors
    return left @ ((left.mT @ right @ other) * weight) @ other.mT


def _gram(rows: Rows, side: bool, frame: Tensor) -> Tensor:
    """The Gram matrix of the rows of one side where a frame brings them."""
    return sum((y @ y.mT for x, dual in rows if dual == side for y in [frame @ x]), torch.zeros_like(frame))


def _inverse(x: Tensor) -> Tensor:
    """The inverse of positive definite matrices, NaN where one is not."""
    lower, failed = torch.linalg.cholesky_ex(x)
    good = (failed == 0)[..., None, None]
    one = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    return torch.where(good, torch.cholesky_inverse(torch.where(good, lower, one)), torch.nan)


def _size(x: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(x)
