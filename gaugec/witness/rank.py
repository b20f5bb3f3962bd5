"""What a traced model's Jacobian is blind to: counted by singular values with a gap, or beside what is known of it.

`dead` takes all singular values.  `beside` takes none: it projects away what is known to be dead, and looks for the
directions of the rest that outputs see least, by inverse iteration; it is for models of thousands of parameters.
Rows are added until rows that were not looked at see nothing of what was called dead.

Not here: the rows (see `jacobian`); whose the directions are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gaugec.witness import bases
from gaugec.witness.interpreter import Runner
from gaugec.witness.jacobian import Jacobian, added

GAP = 1e3  # between neighbours in a list of singular values that is taken for the end of it
FLOOR = 1e-9  # of the largest: nothing above it is taken for zero
MORE = 1.15  # rows for every column
ROUNDS = 5  # times that rows are added
BESIDE = 16  # directions that are looked for beside those that are expected
TURNS = 5  # of inverse iteration
TINY = 1e-18  # in place of a zero on a diagonal
POINTS = 4  # random points that are tried


class Spectrum(NamedTuple):
    """null: an orthonormal basis of what is dead, one a row.  unread: numbers of the columns that are zero.

    alive, least: the least singular value that counts, the largest that does not, over the largest; clear: whether the
    one is far above the other, and rows that were not looked at agree.  rows: how many were looked at, over the largest
    singular value as `matrix`.
    """

    null: Tensor
    unread: Tensor
    alive: float
    least: float
    clear: bool
    matrix: Tensor

    @property
    def rows(self) -> int:
        """How many rows were looked at."""
        return len(self.matrix)


def generic(traced: Any, shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Random parameters of a traced model, in float64: no gain and no bias near 0, of both signs, biases small.

    Of some points that are drawn the first where the fewest entries are without effect: a unit that is never active at
    a point is dead there and nowhere else.
    """
    biases, size = added(traced), {True: 0.3, False: 1.0}
    best: tuple[int, dict[str, Tensor]] | None = None
    for number in range(POINTS):
        runner = Runner(traced.program, traced.names, traced.counted, POINTS * seed + number)
        drawn = runner.parameters(traced.shapes)
        signs = torch.Generator().manual_seed(POINTS * seed + number)
        point = {
            name: x if x.ndim > 1 else x * size[name in biases] * (2.0 * torch.randint(2, x.shape, generator=signs) - 1)
            for name, x in drawn.items()
        }
        silent = int((Jacobian(traced, point, shapes, 0.1).rows(64, 1) == 0).all(0).sum())
        if best is None or silent < best[0]:
            best = silent, point
        if not silent:
            break
    assert best is not None
    return best[1]


def dead(jacobian: Jacobian) -> Spectrum:
    """The null space of the Jacobian, from all its singular values."""
    matrix = _first_rows(jacobian)
    for _ in range(ROUNDS):
        _, values, vectors = bases.svd(matrix)
        largest = float(values[0]) or 1.0
        rank, least, alive = cut(values)
        null = vectors[rank:]
        fresh = jacobian.rows(_held_out(matrix), 1)
        seen = _most(fresh / largest, null)
        if seen < FLOOR:
            break
        matrix = torch.cat([matrix, fresh, jacobian.rows(matrix.shape[1] // 2, 4)])
    unread = (matrix == 0).all(0).nonzero().flatten()
    return Spectrum(null, unread, alive, least, alive > GAP * least and seen < FLOOR, matrix / largest)


def beside(jacobian: Jacobian, known: Tensor | None = None) -> Spectrum:
    """The null space of the Jacobian, of which an orthonormal basis of a part may be known, one a row.

    What is known is taken to be dead, and `least` is how far it is not.  No singular value is found but the least.
    """
    matrix = _first_rows(jacobian)
    known = matrix[:0] if known is None else known
    for _ in range(ROUNDS):
        largest = _largest(matrix)
        unread = (matrix == 0).all(0).nonzero().flatten()
        there = bases.together(known, bases.units(unread, matrix.shape[1]))
        found, least, alive = _least_seen(torch.cat([matrix / largest, there]))
        null = bases.together(there, found)
        fresh = jacobian.rows(_held_out(matrix), 1)
        seen = _most(fresh / largest, null)
        if seen < FLOOR:
            break
        matrix = torch.cat([matrix, fresh, jacobian.rows(matrix.shape[1] // 2, 4)])
    least = max(least, moved(there, matrix / largest))
    clear = alive > GAP * least and least < FLOOR and seen < FLOOR
    return Spectrum(null, unread, alive, least, clear, matrix / largest)


def _first_rows(jacobian: Jacobian) -> Tensor:
    columns = sum(math.prod(shape) for shape in jacobian.shapes.values()) + sum(
        x.numel() for x in jacobian.more.values()
    )
    return jacobian.rows(math.ceil(MORE * columns))


def _held_out(matrix: Tensor) -> int:
    """How many rows tell whether others would have seen more."""
    return min(400, max(64, matrix.shape[1] // 20))


def _most(rows: Tensor, null: Tensor) -> float:
    return float((rows @ null.T).norm(dim=0).max()) if len(null) else 0.0


def _largest(matrix: Tensor) -> float:
    """The largest singular value, nearly."""
    x = torch.ones(matrix.shape[1], dtype=torch.float64)
    for _ in range(12):
        x = matrix.T @ (matrix @ (x / x.norm()))
    return float(x.norm().sqrt()) or 1.0


def _least_seen(matrix: Tensor) -> tuple[Tensor, float, float]:
    """The directions that a matrix does not see, one a row; the largest singular value of theirs, the least of others.

    What inverse iteration finds is added to the matrix, as seen, until it finds nothing more: then it has found the
    least singular value that counts.
    """
    triangle = _triangle(matrix)
    found, least = triangle[:0], 0.0
    while True:
        x = _by_inverse_iteration(triangle)
        _, values, turn = bases.svd(triangle @ x)
        rank, largest, alive = cut(torch.cat([torch.ones(1, dtype=torch.float64), values]))
        if rank > len(values):
            return found, least, alive
        new = (x @ turn.T[:, rank - 1 :]).T
        found, least = torch.cat([found, new]), max(least, largest)
        triangle = _triangle(torch.cat([triangle, new]))


def _triangle(matrix: Tensor) -> Tensor:
    return torch.linalg.qr(matrix, mode="r")[1]


def _by_inverse_iteration(triangle: Tensor) -> Tensor:
    """Orthonormal columns that span, among others, what a triangle hardly sees.

    A column that depends on those before it leaves nothing on the diagonal: so many directions there are, or nearly.
    """
    held, size = triangle.clone(), len(triangle)
    diagonal = held.diagonal()
    block = min(int((diagonal.abs() < FLOOR).sum()) + BESIDE, size)
    diagonal[diagonal.abs() < TINY] = TINY
    x = torch.randn(size, block, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for _ in range(TURNS):
        x = torch.linalg.solve_triangular(held.T, torch.linalg.qr(x)[0], upper=False)
        x = torch.linalg.solve_triangular(held, x / x.norm(dim=0), upper=True)
    return torch.linalg.qr(x)[0]


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


def read_of(spectrum: Spectrum, columns: int) -> Tensor:
    """A basis of what is dead and stays so in the first columns, where those behind them are rows that tables got."""
    return bases.independent(spectrum.null[:, :columns])


def moved(vectors: Tensor, matrix: Tensor) -> float:
    """How much the worst of some directions moves the outputs, over what the most visible one does."""
    return _most(matrix, vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-300))


def longer(shapes: Mapping[str, tuple[int, int]]) -> dict[str, Tensor]:
    """Random rows for tables: so many, so long."""
    draw = torch.Generator().manual_seed(3)
    return {
        name: torch.randn(shape, generator=draw, dtype=torch.float64) / math.sqrt(shape[1])
        for name, shape in shapes.items()
    }
