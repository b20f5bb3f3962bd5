"""Averages of squares over the axes on which a compact group mixes coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gaugec.runtime.layout import contiguous


class Piece(NamedTuple):
    """A slice of a parameter whose squares are averaged over some axes: axes are (size, stride, pooled)."""

    offset: int
    axes: tuple[tuple[int, int, bool], ...]


def _piece(x: Tensor, piece: Piece) -> Tensor:
    """View x [batch, *shape], or some of its rows, by a piece; rows are cut along the first axis only."""
    sizes = [n for n, _, _ in piece.axes]
    if sizes and not piece.offset:
        sizes[0] = min(sizes[0], max(1, x[0].numel() // piece.axes[0][1]))
    dense = contiguous(tuple((n, stride) for n, (_, stride, _) in zip(sizes, piece.axes)))
    if dense is not None:
        run, order_sizes, order = dense
        return x.flatten(1)[:, piece.offset : piece.offset + run].view(x.shape[0], *order_sizes).permute(order)
    return x.as_strided(
        [x.shape[0], *sizes],
        [x.stride(0), *[stride for _, stride, _ in piece.axes]],
        x.storage_offset() + piece.offset,
    )


def pool(squares: Tensor, pieces: Sequence[Piece]) -> Tensor:
    """Average over the pooled axes of each piece: [batch, what is left, piece after piece]."""
    out = []
    for piece in pieces:
        x = _piece(squares, piece)
        axes = [i + 1 for i, (_, _, pooled) in enumerate(piece.axes) if pooled]
        if len(axes) == 1 and x.shape[axes[0]] == 2:  # rotary pairs: far faster than a mean
            x = (x.select(axes[0], 0) + x.select(axes[0], 1)).mul_(0.5)
        elif axes:
            x = x.mean(axes)
        out.append(x.reshape(x.shape[0], -1))
    return torch.cat(out, 1) if len(out) > 1 else out[0]


def unpool(pooled: Tensor, pieces: Sequence[Piece], out: Tensor) -> Tensor:
    """Spread what `pool` gave over `out` [batch, *shape], in place; the pieces cover it."""
    start = 0
    for piece in pieces:
        view = _piece(out, piece)
        sizes = [1 if averaged else n for n, (_, _, averaged) in zip(view.shape[1:], piece.axes)]
        count = math.prod(sizes)
        view.copy_(pooled[:, start : start + count].reshape(-1, *sizes))
        start += count
    return out


def blur(squares: Tensor, pieces: Sequence[Piece]) -> Tensor:
    """Average over the pooled axes of each piece in turn and write the average back; for pieces that overlap."""
    squares = squares.clone()
    for piece in pieces:
        x = _piece(squares, piece)
        axes = [i + 1 for i, (_, _, pooled) in enumerate(piece.axes) if pooled]
        x.copy_(x.mean(axes, keepdim=True).expand_as(x))
    return squares
