"""Rows of the lowering table for what moves along space: convolution, pooling, resampling, padding, unfolding, rolling.

All but the maximum are linear: a contraction with a constant that says which place is read by which window, and how
much of it.  The constant is named by all that determines it, and nothing else is known of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gaugec.graph.builder import Builder, Ref
from gaugec.graph.spaces import leaves
from gaugec.tracing.aten import number, row

_SPACE, _KERNEL, _OUT = "opqr", "ijkl", "uvwx"  # letters of axes; what stands before space takes a to d and n


def _window(b: Builder, kind: str, sizes: Sequence[Sequence[int]], settings: Any) -> Ref:
    """The constant of a sliding window, with one axis for every size."""
    name = f"{kind}{[list(s) for s in sizes]}{[str(s) for s in settings]}"
    return b.leaf("constant", name, [n for group in sizes for n in group])


def _rank(b: Builder) -> int:
    """How many axes of space an operation has, from its name: the 2 of max_pool2d."""
    return next(int(letter) for letter in b.source if letter.isdigit())


def _resampled(b: Builder, shape: tuple[int, ...], x: Ref, rank: int, settings: Any) -> Ref:
    """Every place of the new space is a sum of places of the old one, with constant weights."""
    lead, space, out = "abcd"[: len(x.shape) - rank], x.shape[-rank:], shape[-rank:]
    window = _window(b, b.source, [space, out], settings)
    s, o = _SPACE[:rank], _OUT[:rank]
    return b.reshape(b.einsum([x, window], [lead + s, s + o], lead + o), shape)


@row("conv1d", "conv2d", "conv3d", "convolution")
def _conv(b: Builder, shape: tuple[int, ...], x: Ref, w: Ref, bias: Any = None, *settings: Any) -> Ref:
    numbers, groups = settings[:3], settings[3] if len(settings) > 3 else 1
    if b.source.startswith("aten.convolution"):
        groups = settings[5]
        if settings[3]:
            return _convolved(b, shape, x, w, bias, groups, (*numbers, settings[4]), transposed=True)
    return _convolved(b, shape, x, w, bias, groups, numbers)


@row("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _conv_transpose(
    b: Builder,
    shape: tuple[int, ...],
    x: Ref,
    w: Ref,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    more: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Ref:
    return _convolved(b, shape, x, w, bias, groups, (stride, padding, dilation, more), transposed=True)


def _convolved(
    b: Builder,
    shape: tuple[int, ...],
    x: Ref,
    w: Ref,
    bias: Any,
    groups: int,
    numbers: Sequence[Any],
    *,
    transposed: bool = False,
) -> Ref:
    if len(x.shape) != len(w.shape):
        return b.opaque("convolution without a batch", [v for v in (x, w, bias) if isinstance(v, Ref)], shape)
    space, kernel, out = x.shape[2:], w.shape[2:], shape[2:]
    window = _window(b, "transposed window" if transposed else "window", [space, kernel, out], numbers)
    s, k, o = _SPACE[: len(space)], _KERNEL[: len(kernel)], _OUT[: len(out)]
    weight = "cd" if transposed else "dc"
    if groups == 1:
        y = b.einsum([x, w, window], ["nc" + s, weight + k, s + k + o], "nd" + o)
    else:
        parts = b.reshape(x, (x.shape[0], groups, x.shape[1] // groups, *space))
        weights = b.reshape(w, (groups, w.shape[0] // groups, *w.shape[1:]))
        y = b.einsum([parts, weights, window], ["ngc" + s, "g" + weight + k, s + k + o], "ngd" + o)
        y = b.reshape(y, shape)
    return y if bias is None else b.add(y, b.reshape(bias, (shape[1], *(1,) * len(space))))


@row("avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d")
def _avg_pool(b: Builder, shape: tuple[int, ...], x: Ref, *settings: Any) -> Ref:
    return _resampled(b, shape, x, _rank(b), settings)


@row(
    *(f"{name}{rank}d" for name in ("upsample_nearest", "_upsample_nearest_exact") for rank in (1, 2, 3)),
    *("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d"),
    *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
)
def _upsample(b: Builder, shape: tuple[int, ...], x: Ref, *settings: Any) -> Ref:
    return _resampled(b, shape, x, _rank(b), settings)


@row("pad", "constant_pad_nd")
def _pad(
    b: Builder, shape: tuple[int, ...], x: Ref, sizes: Sequence[int], mode: Any = "constant", value: Any = None
) -> Ref:
    if b.source == "aten.constant_pad_nd":
        mode, value = "constant", 0 if mode == "constant" else mode
    if mode == "constant" and value is not None and (not math.isfinite(value) or number(value)):
        return b.opaque(f"{b.source} with {value}", [x], shape)
    for axis, (before, after) in enumerate(zip(sizes[::2], sizes[1::2], strict=True), start=1):
        if before or after:
            x = _along_one(b, x, len(shape) - axis, shape[-axis], f"{mode} pad", (before, after))
    return x


def _along_one(b: Builder, x: Ref, axis: int, length: int, kind: str, settings: Any) -> Ref:
    """The same for one axis, wherever it is."""
    letters = "abcdfghi"[: len(x.shape)]
    window = _window(b, kind, [[x.shape[axis]], [length]], settings)
    return b.einsum([x, window], [letters, letters[axis] + "z"], letters.replace(letters[axis], "z"))


@row("roll")
def _roll(b: Builder, shape: tuple[int, ...], x: Ref, shifts: Any, dims: Any = ()) -> Ref:
    """Two pieces that change places; of an axis that windows cut up, where they would end inside a digit, a sum."""
    pairs = [(shifts, dims)] if isinstance(shifts, int) else list(zip(shifts, dims))
    if not dims and dims != 0:
        return b.opaque("aten.roll of all axes", [x], shape)
    for shift, dim in ((s, (d[0] if isinstance(d, (list, tuple)) else d) % len(shape)) for s, d in pairs):
        n = x.shape[dim]
        if shift % n and len(leaves(x.axes[dim])) > 1:
            x = _along_one(b, x, dim, n, "roll", (shift % n,))
        elif shift % n:
            x = b.cat([b.slice(x, dim, n - shift % n, shift % n), b.slice(x, dim, 0, n - shift % n)], dim)
    return x


@row("im2col")
def _im2col(b: Builder, shape: tuple[int, ...], x: Ref, kernel: Sequence[int], *settings: Any) -> Ref:
    window = _window(b, b.source, [x.shape[-2:], kernel, shape[-1:]], settings)
    lead = "nc"[4 - len(x.shape) :]
    return b.reshape(b.einsum([x, window], [lead + "op", "opiju"], lead + "iju"), shape)


@row("col2im")
def _col2im(b: Builder, shape: tuple[int, ...], x: Ref, size: Any, kernel: Sequence[int], *settings: Any) -> Ref:
    lead, places = "nc"[4 - len(shape) :], x.shape[-1]
    window = _window(b, b.source, [kernel, [places], shape[-2:]], settings)
    parts = b.reshape(x, (*shape[:-2], *kernel, places))
    return b.einsum([parts, window], [lead + "iju", "ijuop"], lead + "op")


@row("max_pool1d", "max_pool2d", "max_pool3d")
def _max_pool(b: Builder, shape: tuple[int, ...], x: Ref, *settings: Any) -> Ref:
    rank = _rank(b)
    lead = len(x.shape) - rank
    space, out = list(x.shape[-rank:]), list(shape[-rank:])
    # The maximum over a window is the maximum of x + penalty, with penalty 0 inside the window and -inf outside: no
    # polynomial; it is kept as one function along space of x alone, read at the window's place.
    parts = b.expand(b.reshape(x, (*x.shape, *(1,) * rank)), (*x.shape, *out))
    window = _window(b, b.source, [space, out], settings)
    axes = list(range(lead, lead + rank))
    return b.reshape(b.along("max_window", parts, axes, keep=False, data=[window]), shape)


@row(
    *(f"max_pool{rank}d_with_indices" for rank in (1, 2, 3)),
    *(f"adaptive_max_pool{rank}d" for rank in (1, 2, 3)),
)
def _max_pool_with_places(b: Builder, shape: Any, x: Ref, *settings: Any) -> Any:
    """The largest values, and their places, of which nothing is known."""
    if not isinstance(shape, list):
        return _max_pool(b, shape, x, *settings)
    return [_max_pool(b, shape[0], x, *settings), b.opaque(b.source, [x], shape[1])]
