"""Solvers of the joint normal equations, as pure functions: dense, by eigenvalues, by conjugate gradients.

Coefficients are tensors [batch, ...] by gauge.  Not here: parameters and how they are laid out (see `layout`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_EPS = torch.finfo(torch.float64).eps

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
        return unfactor(factor(gram.double()), right.double())
    size = gram.shape[-1]
    s, r = (x.float().reshape(-1, size, size) for x in (gram, 2 * right))  # of the system A S + S A = 2 right
    diagonal = s.diagonal(dim1=-2, dim2=-1)
    weight = inverse(diagonal.unsqueeze(-1) + diagonal.unsqueeze(-2))
    a, z = torch.zeros_like(r), r * weight
    direction, image, product = z.clone(), torch.empty_like(r), torch.empty_like(r)

    def inner(x: Tensor, y: Tensor) -> Tensor:
        return torch.mul(x, y, out=product).sum((-2, -1), keepdim=True)

    rho = inner(r, z)
    floor = rho * tolerance**2
    for i in range(rounds):
        if i >= 3 and not bool((rho > floor).any()):
            break
        torch.bmm(direction, s, out=product)
        torch.sub(product, product.mT, out=image)
        step = (rho / inner(direction, image)).nan_to_num_(0.0, 0.0, 0.0)
        a.addcmul_(step, direction)
        r.addcmul_(step, image, value=-1.0)
        new = inner(r, torch.mul(r, weight, out=z))
        torch.addcmul(z, direction, (new / rho).nan_to_num_(0.0, 0.0, 0.0), out=direction)
        rho = new
    left = (rho > floor).flatten()
    if bool(left.any()):
        a[left] = unfactor(factor(s[left].double()), right.float().reshape(a.shape)[left].double()).float()
    return a.view(gram.shape).to(right.dtype)


def sylvester_ones(gram: Tensor, right: Tensor, tolerance: float) -> Tensor:
    """`sylvester` for generators that leave the vector of ones where it is."""
    return unfactor(factor_ones(gram.double()), right.double())


def polar(matrix: Tensor) -> Tensor:
    """The orthogonal matrices nearest to matrices [..., k, k]: the R with the largest <R, matrix>, of either sign."""
    left, _, right = torch.linalg.svd(matrix)
    return left @ right


def polar_ones(matrix: Tensor) -> Tensor:
    """`polar` among those that leave the vector of ones where it is."""
    size = matrix.shape[-1]
    basis = ones_basis(size, matrix)
    return basis @ polar(basis.mT @ matrix @ basis) @ basis.mT + 1 / size


def cayley(generator: Tensor) -> Tensor:
    """The rotation (1 - A/2)^-1 (1 + A/2), which is exp(A) to second order; A is skew [..., k, k]."""
    one = torch.eye(generator.shape[-1], dtype=generator.dtype, device=generator.device)
    return torch.linalg.solve(one - generator / 2, one + generator / 2)


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
    rounds: int = 1000,
    quiet: bool = False,
) -> Tensors:
    """Solve the joint normal equations gram(a) = right by preconditioned conjugate gradients, batch by batch.

    right: gauge -> [batch, ...] in float64; the system may be singular, as long as it is consistent.
    size: [batch], the norm of the step; stops when the vertical part left is below tolerance * size, or is what `right`
    is rounded by: beyond that a singular system is none that is consistent.
    off: gauges whose coefficients stay 0.  Warns where it stops before, after so many rounds, unless it is to be quiet.
    """

    def masked(function: Callable[[Tensors], Tensors], x: Tensors) -> Tensors:
        y = function(x)
        return {name: torch.zeros_like(value) if name in off else value for name, value in y.items()} if off else y

    right = masked(lambda x: x, right)
    answer = {name: torch.zeros_like(value) for name, value in right.items()}
    residual = right
    z = masked(precondition, residual)
    direction, weighted = z, residual  # the second is the first, times the inverse of what `precondition` is
    rho = _dot(residual, z)
    floor = torch.maximum((tolerance * size) ** 2, (8 * _EPS) ** 2 * rho)
    ended = torch.zeros_like(rho, dtype=torch.bool)  # the direction left is one in which nothing moves, but by rounding
    for _ in range(rounds):
        busy = (rho > floor) & ~ended
        if not bool(busy.any()):
            break
        image = masked(gram, direction)
        curve = _dot(direction, image)
        ended = ended | (busy & (curve <= 64 * _EPS * _dot(direction, weighted)))
        step = torch.where(busy & ~ended, rho / curve, torch.zeros_like(rho))
        answer = _axpy(answer, direction, step)
        residual = _axpy(residual, image, -step)
        z = masked(precondition, residual)
        new = _dot(residual, z)
        ratio = torch.where(busy & (rho > 0), new / rho, torch.zeros_like(rho))
        direction, weighted = _axpy(z, direction, ratio), _axpy(residual, weighted, ratio)
        rho = new
    else:
        left = (rho.clamp(min=0).sqrt() / size)[(rho > floor) & ~ended]
        if left.numel() and not quiet:
            warnings.warn(
                f"a step keeps a vertical part of {float(left.max()):.0e} of its length: the equations of gauges that "
                f"share parameters were not solved in {rounds} rounds",
                stacklevel=2,
            )
    return answer


def without(coefficients: Tensors, off: Collection[str], right: Tensors) -> Tensors:
    """Coefficients of all gauges: those of gauges that are not in force are 0."""
    return {n: torch.zeros_like(x) if n in off else coefficients[n] for n, x in right.items()}


def tolerance(values: Mapping[str, Tensor]) -> float:
    """How much of a step may stay vertical: 1e-13 in float64, 3e-6 below it."""
    return 1e-13 if all(value.dtype == torch.float64 for value in values.values()) else 3e-6


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


class Cross(NamedTuple):
    """One cross block of the Gram matrix: weight * field, read by a formula between two coefficients' views."""

    left: str
    right: str
    field: Tensor
    letters: tuple[str, str, str]
    left_view: View
    right_view: View
    weight: float

    def add(self, out: Tensors, a: Tensors) -> None:
        """Add the block applied to those coefficients that are there, to those that are there, in place."""
        field, left, right = self.letters
        if self.left in out and self.right in a:
            self._add(out[self.left], self.left_view, a[self.right], self.right_view, (field, right, left))
        if self.right in out and self.left in a:
            self._add(out[self.right], self.right_view, a[self.left], self.left_view, (field, left, right))

    def _add(self, out: Tensor, to: View, a: Tensor, source: View, letters: tuple[str, str, str]) -> None:
        x = digits(a.contiguous(), source).to(self.field.dtype)
        field, known, wanted = letters
        if x.device.type == "cpu" and field in (known + wanted, wanted + known) and len(field) == 2:
            matrices = self.field if field[1] == known else self.field.mT
            y = torch.stack([matrix @ vector for matrix, vector in zip(matrices, x)])  # far faster than einsum's
        else:
            y = torch.einsum(f"z{field},z{known}->z{wanted}", self.field, x)
        digits(out, to).add_(y, alpha=self.weight)


Blocks = Mapping[str, Callable[[Tensor], Tensor]]


def _weights(
    right: Tensors,
    diagonal: Blocks,
    inverses: Blocks,
    crosses: Sequence[Cross],
    first: Collection[str],
    rest: Collection[str],
) -> Tensors:
    """Inverse diagonals of what elimination leaves, where a cross block is diagonal itself.

    A gain's tangent and a shift's are nearly parallel once the shift is large; the diagonal of the whole says nothing
    of it, that of the Schur complement all.
    """
    left: Tensors = {}
    for cross in crosses:
        ends = {cross.left: cross.left_view, cross.right: cross.right_view}
        mine, other = [name for name in ends if name in rest], [name for name in ends if name in first]
        if len(set(cross.letters)) > 1 or len(mine) != 1 or len(other) != 1:
            continue
        (name,), (gone,) = mine, other
        if name not in left:
            left[name] = diagonal[name](torch.ones_like(right[name])).contiguous()
        weight = inverses[gone](torch.ones_like(right[gone])).contiguous()
        taken = cross.field.double().square() * digits(weight, ends[gone]) * cross.weight**2
        digits(left[name], ends[name]).sub_(taken)
    return {name: inverse(value) for name, value in left.items()}


def solve_blocks(
    right: Tensors,
    diagonal: Blocks,
    inverse: Blocks,
    crosses: Sequence[Cross],
    eliminated: Collection[str],
    size: Tensor,
    tolerance: float,
    off: Collection[str] = (),
) -> Tensors:
    """`solve` for a Gram matrix of diagonal blocks, which are inverted exactly, and cross blocks.

    eliminated: gauges without cross blocks between them; conjugate gradients see the others only.
    """
    right = {name: value for name, value in right.items() if name not in off}
    first = [name for name in right if name in eliminated]
    rest = [name for name in right if name not in eliminated]

    def across(a: Tensors, names: Collection[str]) -> Tensors:
        out = {name: torch.zeros_like(right[name]) for name in names}
        for cross in crosses:
            cross.add(out, a)
        return out

    def gram(a: Tensors) -> Tensors:
        out = across(a, [*first, *rest])
        inner = across({name: inverse[name](out[name]) for name in first}, rest)
        return {name: diagonal[name](a[name]) + out[name] - inner[name] for name in rest}

    weights = _weights(right, diagonal, inverse, crosses, first, rest)

    def precondition(x: Tensors) -> Tensors:
        return {name: value * weights[name] if name in weights else inverse[name](value) for name, value in x.items()}

    start = {name: inverse[name](right[name]) for name in first}
    a: Tensors = {}
    if rest:
        moved = across(start, rest)
        a = solve(gram, {name: right[name] - moved[name] for name in rest}, precondition, size, tolerance)
        moved = across(a, first)
        start = {name: start[name] - inverse[name](moved[name]) for name in first}
    return {**start, **a}
