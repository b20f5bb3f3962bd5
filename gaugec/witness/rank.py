"""What a traced model's Jacobian is blind to, and whether vectors lie in there: counted by singular values with a gap.

Not here: the rows (see `jacobian`); whose the vectors are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gaugec.witness.interpreter import Runner
from gaugec.witness.jacobian import rows

GAP = 1e3  # between neighbours in a list of singular values that is taken for the end of it
FLOOR = 1e-9  # of the largest: nothing above it is taken for zero


class Spectrum(NamedTuple):
    """null: an orthonormal basis of what is dead, one a row.  unread: entries of no effect at all.

    alive, least: the least singular value that counts, the largest that does not, over the largest; clear: whether the
    one is far above the other.  matrix: the rows that were looked at, over the largest singular value.
    """

    null: Tensor
    unread: int
    alive: float
    least: float
    clear: bool
    matrix: Tensor


def generic(traced: Any) -> dict[str, Tensor]:
    """Random parameters of a traced model, in float64: gains about 1, no bias 0."""
    return Runner(traced.program, traced.names, traced.counted).parameters(traced.shapes)


def dead(
    traced: Any, point: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], count: int, eps: float
) -> Spectrum:
    """The null space of the Jacobian by the parameters of these shapes, from so many rows."""
    matrix = _matrix(traced, point, shapes, count, eps)
    _, values, vectors = torch.linalg.svd(matrix, full_matrices=len(matrix) < matrix.shape[1])
    rank, least, alive = cut(values)
    unread = int((matrix == 0).all(0).sum())
    return Spectrum(vectors[rank:], unread, alive, least, alive > GAP * least, matrix / values[0])


def nullity(
    traced: Any, point: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], count: int, eps: float
) -> int:
    """The dimension of the null space alone."""
    matrix = _matrix(traced, point, shapes, count, eps)
    return matrix.shape[1] - cut(torch.linalg.svdvals(matrix))[0]


def _matrix(
    traced: Any, point: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], count: int, eps: float
) -> Tensor:
    whole = rows(traced.program, traced.graph, traced.names, traced.counted, point, count, eps)
    sizes = [x.numel() for x in point.values()]
    return torch.cat([part for part, name in zip(whole.split(sizes, 1), point) if name in shapes], 1)


def cut(values: Tensor) -> tuple[int, float, float]:
    """How many singular values count: up to the widest gap of those that end below the floor; that gap's ends."""
    relative = (values / values[0]).clamp(min=1e-17)
    below = (relative < FLOOR).nonzero()
    if not len(below):
        return len(values), 0.0, float(relative[-1])
    ratios = relative[:-1] / relative[1:]
    ratios[: max(0, int(below[0]) - 1)] = 0
    first = int(ratios.argmax()) + 1
    rank = first if relative[first] < FLOOR else int(below[0])
    return rank, float(relative[rank]), float(relative[rank - 1])


def span(tangents: Sequence[Sequence[Tensor]], spectrum: Spectrum) -> tuple[Tensor, float]:
    """An orthonormal basis of what tangents span, one a row, and how much the worst of them moves the outputs.

    tangents: of every place, by parameter, [number, entries].
    """
    if not tangents:
        return spectrum.null[:0], 0.0
    stack = torch.cat([torch.cat(list(parts), 1) for parts in tangents])
    stack = stack / stack.norm(dim=1, keepdim=True).clamp(min=1e-300)
    _, values, vectors = torch.linalg.svd(stack, full_matrices=False)
    moved = (spectrum.matrix @ stack.T).norm(dim=0).max()
    return vectors[values > FLOOR * values[0]], float(moved)
