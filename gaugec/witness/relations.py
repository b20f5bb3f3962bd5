"""What two parameters do together along which no output moves: read off vectors, in numbers alone.

Of all dead directions those are taken that are 0 in all other parameters. Where each is a matrix applied to an axis,
dA = M A and dB = -M^T B, the matrices are an algebra: its blocks are what the axis falls into (heads, pairs, units),
and the dimension and the symmetry of a block say which group it is the algebra of.

Not here: where the vectors come from; a proof.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gaugec.witness import bases

TOLERANCE = 1e-6  # dead directions are known to about 1e-9 of their length, and better
SPAN = 1e-4  # between what lies in a span and what does not


@dataclass(frozen=True)
class Relation:
    """What two parameters do together: how many dimensions of it nothing explains, and what it is, in words."""

    parameters: tuple[str, ...]
    dimension: int
    words: str


def relations(
    null: Tensor,
    known: Tensor,
    point: Mapping[str, Tensor],
    pairs: Sequence[tuple[str, ...]],
) -> list[Relation]:
    """What single parameters and pairs do that is not in the span of what is known, each counted once.

    null, known: orthonormal, float64, one vector a row over the entries of all parameters in the order of `point`.
    point: the parameters, each axis that the model reads as several (heads and their width) as so many axes.
    """
    places, start = dict[str, slice](), 0
    for name, x in point.items():
        places[name] = slice(start, start + x.numel())
        start += x.numel()
    found: list[Relation] = []
    for names in (*((name,) for name in places), *pairs):
        own = within(null, [places[name] for name in names])
        new = bases.apart(own, known)
        if len(new):
            values = [point[name] for name in names]
            single = torch.cat([within(null, [places[name]]) for name in names])
            moves, alone = (
                [x[:, places[name]].reshape(len(x), *like.shape) for name, like in zip(names, values)]
                for x in (own, single)
            )
            found.append(Relation(names, len(new), _read(values, moves, alone)))
            known = torch.cat([known, new])
    return found


def within(null: Tensor, places: Sequence[slice]) -> Tensor:
    """An orthonormal basis of the vectors in a span that are 0 in all columns but these."""
    gram = sum((null[:, place] @ null[:, place].T for place in places), null.new_zeros(len(null), len(null)))
    lengths, turn = torch.linalg.eigh(gram)
    return turn[:, lengths > 1 - TOLERANCE**1.5].T @ null


def _read(values: Sequence[Tensor], moves: Sequence[Tensor], alone: Sequence[Tensor]) -> str:
    """What moves do, in words; alone: those of one of the parameters, the other standing still."""
    if len(values) == 1:
        for axis in range(values[0].ndim):
            if _constant(moves[0], axis):
                return f"what is constant along {_axis(values[0], axis)} is added"
        return "it moves in a way that was not read"
    if all(x.ndim == 1 for x in values) and len(values[0]) == len(values[1]):
        if torch.allclose(moves[0], -moves[1], atol=TOLERANCE):
            return "what is added to one is taken from the other"
        logs = [move / x for move, x in zip(moves, values)]
        if torch.allclose(logs[0], -logs[1], atol=TOLERANCE * float(logs[0].abs().max())):
            return "what scales an entry of one unscales that of the other"
    for one in range(values[0].ndim):
        for two in range(values[1].ndim):
            if values[0].shape[one] == values[1].shape[two]:
                words = _matrices(values, moves, alone, one, two)
                if words:
                    a, b = _axis(values[0], one), _axis(values[1], two)
                    return f"M acts on {a} of the first, -M.T on {b} of the second, and M is {words}"
    if all(any(_constant(move, axis) for axis in range(x.ndim)) for x, move in zip(values, moves)):
        return "what is constant along an axis is added to one and taken from the other"
    return "they move together in a way that was not read"


def _axis(value: Tensor, axis: int) -> str:
    """Which axis it is, of those that a model reads the parameter with."""
    sizes = " × ".join(f"[{n}]" if i == axis else str(n) for i, n in enumerate(value.shape))
    return f"the axis in brackets of {sizes}" if value.ndim > 1 else "the axis"


def _constant(moves: Tensor, axis: int) -> bool:
    return torch.allclose(moves, moves.mean(axis + 1, keepdim=True).expand_as(moves), atol=TOLERANCE)


def _matrices(
    values: Sequence[Tensor], moves: Sequence[Tensor], alone: Sequence[Tensor], one: int, two: int
) -> str:
    """What the matrices are that move both, but for what each may do alone; "" where no matrices do."""
    a, b = _rows(values[0][None], one)[0], _rows(values[1][None], two)[0]
    size = len(a)
    if max(a.shape[1], b.shape[1]) < size:
        return ""
    # M a = da and M^T b = -db, together: least squares over all entries of M
    eye = torch.eye(size, dtype=a.dtype)
    left = torch.cat([torch.kron(eye, a.T.contiguous()), torch.kron(b.T.contiguous(), eye)])
    right, free = (
        torch.cat([_rows(da, one).flatten(1), -_rows(db, two).transpose(1, 2).flatten(1)], 1)
        for da, db in (moves, alone)
    )
    free = bases.independent(free)
    left, right = left - free.T @ (free @ left), (right - (right @ free.T) @ free).T
    found = torch.linalg.lstsq(left, right, driver="gelsd").solution
    if float((left @ found - right).abs().max()) > TOLERANCE:
        return ""
    return algebra(found.T.reshape(-1, size, size))


def _rows(many: Tensor, axis: int) -> Tensor:
    """Values, one in each row, with an axis first and all others as one: [number, axis, rest]."""
    return many.movedim(axis + 1, 1).unsqueeze(-1).flatten(2)


def algebra(matrices: Tensor) -> str:
    """What a span of matrices [number, k, k] is: its blocks, and the group of which each is the algebra."""
    size = matrices.abs().amax(0)
    linked = size > 1e-5 * float(size.max())
    blocks: list[list[int]] = []
    for i in range(len(size)):
        touched = [block for block in blocks if any(linked[i, j] or linked[j, i] for j in block)]
        blocks = [block for block in blocks if block not in touched]
        blocks.append(sorted([i, *(j for block in touched for j in block)]))
    counts: dict[str, int] = {}
    total = 0
    for block in sorted(blocks):
        words, dimension = _block(matrices[:, block][:, :, block])
        total += dimension
        if words:
            counts[words] = counts.get(words, 0) + 1
    shared = "" if total == _rank(matrices) else ", one element for several blocks"
    return " and ".join(f"{words} in each of {n} blocks" if n > 1 else words for words, n in counts.items()) + shared


def _block(matrices: Tensor) -> tuple[str, int]:
    """What the matrices of one block are, and how many dimensions they have."""
    k, dimension = matrices.shape[1], _rank(matrices)
    largest = float(matrices.abs().max())
    if not dimension:
        return "", 0
    skew = float((matrices + matrices.transpose(1, 2)).abs().max()) < 1e-5 * largest
    diagonal = float((matrices - torch.diag_embed(matrices.diagonal(dim1=1, dim2=2))).abs().max()) < 1e-5 * largest
    if k == 1:
        return "a scale", 1
    if dimension == k * k:
        return f"any matrix, as of invertible({k})", dimension
    if diagonal and dimension == 1:
        return f"one scale for {k} coordinates", dimension
    if skew and dimension == k * (k - 1) // 2:
        return f"any skew matrix, as of orthogonal({k})", dimension
    if k == 2 and dimension == 2:
        return "a scale and a turn of a pair", dimension
    return f"of dimension {dimension} in matrices {k} by {k}", dimension


def _rank(matrices: Tensor) -> int:
    values = torch.linalg.svdvals(matrices.flatten(1))
    return int((values > SPAN * float(values[0])).sum()) if float(values[0]) > 0 else 0
