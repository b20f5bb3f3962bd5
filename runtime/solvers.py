"""Solvers of the joint normal equations, as pure functions: dense, by eigenvalues, by conjugate gradients.

Coefficients are tensors [batch, ...] by gauge.  Not here: parameters and how they are laid out (see `linalg`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
View = tuple[int, tuple[tuple[int, int], ...]]


def skew(x: Tensor) -> Tensor:
    """Skew part of matrices [..., k, k]."""
    return (x - x.mT) / 2


def skew_ones(x: Tensor) -> Tensor:
    """Skew part of matrices [..., k, k] after the vector of ones is taken out of rows and columns."""
    x = x - x.mean(-1, keepdim=True)
    return skew(x - x.mean(-2, keepdim=True))


def factor(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Prepare `sylvester` for positive semidefinite Gram matrices [..., k, k]."""
    values, vectors = torch.linalg.eigh(gram)
    values = values.clamp_min(0)
    total = values.unsqueeze(-1) + values.unsqueeze(-2)
    floor = values[..., -1:, None] * (4 * values.shape[-1] * torch.finfo(values.dtype).eps)
    return vectors, torch.where(total > floor, 2 / total, torch.zeros_like(total))


def factor_ones(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Prepare `sylvester` for generators that leave the vector of ones where it is."""
    basis = ones_basis(gram.shape[-1], gram)
    vectors, weight = factor(basis.mT @ gram @ basis)
    return basis @ vectors, weight


def unfactor(factors: tuple[Tensor, Tensor], right: Tensor) -> Tensor:
    """Skew A with skew(A S) = right, S the factored Gram matrix; directions in which S has no weight get 0."""
    vectors, weight = factors
    return skew(vectors @ ((vectors.mT @ right @ vectors) * weight) @ vectors.mT)


def sylvester(gram: Tensor, right: Tensor, tolerance: float, rounds: int = 32) -> Tensor:
    """Skew A with skew(A S) = right, S the Gram matrix [..., k, k].

    In float64 by eigenvalues.  Where less is asked for, by conjugate gradients in float32 from the diagonal of S, which
    takes a few products of matrices for the heads of a network; by eigenvalues after all where that does not end.
    """
    if tolerance < 1e-9:
        return unfactor(factor(gram), right)
    s, r = gram.float(), right.float()
    diagonal = s.diagonal(dim1=-2, dim2=-1)
    weight = inverse((diagonal.unsqueeze(-1) + diagonal.unsqueeze(-2)) / 2)
    a = torch.zeros_like(r)
    z = r * weight
    direction = z
    rho = (r * z).sum((-2, -1), keepdim=True)
    floor = rho * (tolerance / 2) ** 2
    for i in range(rounds):
        if i % 4 == 0 and not bool((rho > floor).any()):
            return a.to(right.dtype)
        image = skew(direction @ s)
        step = (rho / (direction * image).sum((-2, -1), keepdim=True)).nan_to_num(0.0, 0.0, 0.0)
        a = a + step * direction
        r = r - step * image
        z = r * weight
        new = (r * z).sum((-2, -1), keepdim=True)
        direction = z + (new / rho).nan_to_num(0.0, 0.0, 0.0) * direction
        rho = new
    return unfactor(factor(gram), right)


def sylvester_ones(gram: Tensor, right: Tensor, tolerance: float) -> Tensor:
    """`sylvester` for generators that leave the vector of ones where it is."""
    return unfactor(factor_ones(gram), right)


def inverse(x: Tensor) -> Tensor:
    """1/x where x > 0, else 0: the pseudo-inverse of a diagonal Gram block."""
    return torch.where(x > 0, 1 / x, torch.zeros_like(x))


def ones_basis(size: int, like: Tensor) -> Tensor:
    """Orthonormal columns [size, size - 1] that span the complement of the vector of ones (Householder)."""
    v = torch.full((size,), 1 / math.sqrt(size), dtype=like.dtype, device=like.device)
    v[0] += 1
    reflection = torch.eye(size, dtype=like.dtype, device=like.device) - torch.outer(v, v) * (2 / (v @ v))
    return reflection[:, 1:]


def _dot(x: Tensors, y: Tensors) -> Tensor:
    return torch.stack([(x[name] * y[name]).flatten(1).sum(1) for name in x]).sum(0)


def _axpy(x: Tensors, y: Tensors, scale: Tensor) -> Tensors:
    return {name: x[name] + y[name] * scale.view(-1, *(1 for _ in range(x[name].dim() - 1))) for name in x}


def solve(
    gram: Callable[[Tensors], Tensors],
    right: Tensors,
    precondition: Callable[[Tensors], Tensors],
    size: Tensor,
    tolerance: float,
    off: Collection[str] = (),
    rounds: int = 100,
) -> Tensors:
    """Solve the joint normal equations gram(a) = right by preconditioned conjugate gradients, batch by batch.

    right: gauge -> [batch, ...] in float64; the system may be singular, as long as it is consistent.
    size: [batch], the norm of the step; stops when the vertical part left is below tolerance * size.
    off: gauges whose coefficients stay 0.
    """

    def masked(function: Callable[[Tensors], Tensors], x: Tensors) -> Tensors:
        y = function(x)
        return {name: torch.zeros_like(value) if name in off else value for name, value in y.items()} if off else y

    right = masked(lambda x: x, right)
    answer = {name: torch.zeros_like(value) for name, value in right.items()}
    residual = right
    z = masked(precondition, residual)
    direction = z
    rho = _dot(residual, z)
    floor = (tolerance * size) ** 2
    for _ in range(rounds):
        busy = rho > floor
        if not bool(busy.any()):
            break
        image = masked(gram, direction)
        curve = _dot(direction, image)
        step = torch.where(busy & (curve > 0), rho / curve, torch.zeros_like(rho))
        answer = _axpy(answer, direction, step)
        residual = _axpy(residual, image, -step)
        z = masked(precondition, residual)
        new = _dot(residual, z)
        ratio = torch.where(busy & (rho > 0), new / rho, torch.zeros_like(rho))
        direction = _axpy(z, direction, ratio)
        rho = new
    return answer


def without(coefficients: Tensors, off: Collection[str]) -> Tensors:
    """Set the coefficients of gauges that are not in force to 0."""
    if not off:
        return coefficients
    return {name: torch.zeros_like(value) if name in off else value for name, value in coefficients.items()}


def tolerance(values: Mapping[str, Tensor]) -> float:
    """How much of a step may stay vertical: 1e-13 in float64, 1e-6 below it."""
    return 1e-13 if all(value.dtype == torch.float64 for value in values.values()) else 1e-6


def size(values: Mapping[str, Tensor]) -> Tensor:
    """Joint Euclidean norm of every member of the batch: [batch] in float64."""
    norms = [torch.linalg.vector_norm(x.flatten(1), dim=1).double() for x in values.values()]
    return torch.linalg.vector_norm(torch.stack(norms), dim=0)


def digits(coefficient: Tensor, view: View) -> Tensor:
    """View a contiguous coefficient [batch, copies, size] by (offset, axes)."""
    offset, axes = view
    return coefficient.as_strided(
        [coefficient.shape[0], *(n for n, _ in axes)],
        [coefficient.stride(0), *(stride for _, stride in axes)],
        coefficient.storage_offset() + offset,
    )


def couple(
    out: Tensor, coefficient: Tensor, cross: Tensor, formula: str, to: View, source: View, weight: float
) -> None:
    """Add weight times one cross block of the Gram matrix, applied to a coefficient, to another, in place."""
    x = digits(coefficient.contiguous(), source).to(cross.dtype)
    digits(out, to).add_(torch.einsum(formula, cross, x), alpha=weight)
