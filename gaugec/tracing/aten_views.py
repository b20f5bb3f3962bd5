"""Rows of the lowering table for views: operations that arrange entries, and make none.

What this module does not do: whether an axis may be taken apart is for the builder (`gaugec.graph.builder`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gaugec.graph.builder import Builder, Ref
from gaugec.tracing.aten import number, row


@row("view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "ravel", "view_as")
def _view(b: Builder, shape: tuple[int, ...], x: Ref, *_: Any, **__: Any) -> Ref:
    return b.reshape(x, shape)


@row("alias", "clone", "contiguous", "lift_fresh_copy", "lift_fresh", "_assert_tensor_metadata")
def _same(b: Builder, shape: tuple[int, ...], x: Ref, *_: Any, **__: Any) -> Ref:
    return x


@row("permute")
def _permute(b: Builder, shape: tuple[int, ...], x: Ref, order: Sequence[int]) -> Ref:
    return b.permute(x, order)


@row("transpose", "swapaxes", "swapdims")
def _transpose(b: Builder, shape: tuple[int, ...], x: Ref, i: int, j: int) -> Ref:
    return b.transpose(x, i, j)


@row("t", "numpy_T", "mT", "adjoint")
def _t(b: Builder, shape: tuple[int, ...], x: Ref) -> Ref:
    return b.transpose(x, -1, -2) if len(x.shape) > 1 else x


@row("movedim", "moveaxis")
def _movedim(b: Builder, shape: tuple[int, ...], x: Ref, source: Any, target: Any) -> Ref:
    rank = len(x.shape)
    sources = [i % rank for i in ([source] if isinstance(source, int) else source)]
    targets = [i % rank for i in ([target] if isinstance(target, int) else target)]
    order: list[int | None] = [None] * rank
    for s, t in zip(sources, targets, strict=True):
        order[t] = s
    rest = iter(i for i in range(rank) if i not in sources)
    return b.permute(x, [next(rest) if i is None else i for i in order])


@row("expand", "broadcast_to", "expand_as")
def _expand(b: Builder, shape: tuple[int, ...], x: Ref, *_: Any, **__: Any) -> Ref:
    return b.expand(x, shape)


@row("slice")
def _slice(
    b: Builder, shape: tuple[int, ...], x: Ref, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Ref:
    size = x.shape[dim]
    first, last, stride = slice(start, end, step).indices(size)
    return b.slice(x, dim, first, max(0, -(-(last - first) // stride)), stride)


@row("copy")
def _copy(b: Builder, shape: tuple[int, ...], x: Ref, source: Any, non_blocking: bool = False) -> Ref:
    """What is copied into x stands there then, and nothing of x is left."""
    return b.expand(source, shape) if isinstance(source, Ref) else b.scalar(number(source), shape)


@row("slice_scatter")
def _slice_scatter(
    b: Builder,
    shape: tuple[int, ...],
    x: Ref,
    new: Ref,
    dim: int = 0,
    start: Any = None,
    end: Any = None,
    step: int = 1,
) -> Ref:
    first, _, stride = slice(start, end, step).indices(shape[dim])
    return b.written(x, dim % len(shape), first, new) if stride == 1 else b.opaque(b.source, [x, new], shape)


@row("select_scatter")
def _select_scatter(b: Builder, shape: tuple[int, ...], x: Ref, new: Ref, dim: int, index: int) -> Ref:
    axis = dim % len(shape)
    return b.written(x, axis, index % shape[axis], b.unsqueeze(new, axis))


@row("unfold")
def _unfold(b: Builder, shape: tuple[int, ...], x: Ref, dim: int, size: int, step: int) -> Ref:
    return b.windows(x, dim, size, step)


@row("pixel_shuffle")
def _pixel_shuffle(b: Builder, shape: tuple[int, ...], x: Ref, times: int) -> Ref:
    *lead, c, h, w = x.shape
    n = len(lead)
    parts = b.reshape(x, (*lead, c // times**2, times, times, h, w))
    return b.reshape(b.permute(parts, [*range(n), n, n + 3, n + 1, n + 4, n + 2]), shape)


@row("pixel_unshuffle")
def _pixel_unshuffle(b: Builder, shape: tuple[int, ...], x: Ref, times: int) -> Ref:
    *lead, c, h, w = x.shape
    n = len(lead)
    parts = b.reshape(x, (*lead, c, h // times, times, w // times, times))
    return b.reshape(b.permute(parts, [*range(n), n, n + 2, n + 4, n + 1, n + 3]), shape)


@row("narrow")
def _narrow(b: Builder, shape: tuple[int, ...], x: Ref, dim: int, start: int, length: int) -> Ref:
    return b.slice(x, dim, start % x.shape[dim], length)


@row("select")
def _select(b: Builder, shape: tuple[int, ...], x: Ref, dim: int, index: int) -> Ref:
    return b.select(x, dim, index)


@row("unbind")
def _unbind(b: Builder, shape: Any, x: Ref, dim: int = 0) -> list[Ref]:
    return [b.select(x, dim, i) for i in range(x.shape[dim])]


@row("split", "split_with_sizes", "chunk", "tensor_split")
def _split(b: Builder, shape: Any, x: Ref, sizes: Any, dim: int = 0) -> list[Ref]:
    lengths = [s[dim % len(x.shape)] for s in shape]
    return b.split(x, dim, lengths)


@row("flip")
def _flip(b: Builder, shape: tuple[int, ...], x: Ref, dims: Sequence[int]) -> Ref:
    for dim in dims:
        n = x.shape[dim]
        if n > 1:
            x = b.slice(x, dim, n - 1, n, -1)
    return x


@row("repeat")
def _repeat(b: Builder, shape: tuple[int, ...], x: Ref, times: Sequence[int]) -> Ref:
    return b.repeat(x, times)


@row("repeat_interleave")
def _repeat_interleave(b: Builder, shape: tuple[int, ...], x: Ref, times: Any, dim: Any = None, **_: Any) -> Ref:
    if not isinstance(times, int) or dim is None:
        return b.opaque("aten.repeat_interleave with a tensor", [x], shape)
    return b.repeat_each(x, dim, times)


@row("cat", "concat", "concatenate")
def _cat(b: Builder, shape: tuple[int, ...], xs: Sequence[Ref], dim: int = 0) -> Ref:
    parts = [x for x in xs if not (len(x.shape) == 1 and x.shape[0] == 0)]
    return b.cat(parts, dim) if len(parts) > 1 else parts[0]


@row("stack")
def _stack(b: Builder, shape: tuple[int, ...], xs: Sequence[Ref], dim: int = 0) -> Ref:
    axis = dim % (len(xs[0].shape) + 1)
    parts = [b.unsqueeze(x, axis) for x in xs]
    return b.cat(parts, axis) if len(parts) > 1 else parts[0]
