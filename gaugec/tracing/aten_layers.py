"""Rows of the lowering table for layers: embedding, norms, attention and losses.

They are spelled out in the builder's few operations (a LayerNorm is means and a power, attention is two contractions
and a softmax), so that no law about them needs to be believed.  See `gaugec.tracing.aten` for what a row is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from gaugec.graph.builder import Builder, Ref
from gaugec.graph.layers import HALF, axes, centred, over_root
from gaugec.graph.layers import dropout as masked
from gaugec.tracing.aten import number, row


@row("embedding")
def _embedding(b: Builder, shape: tuple[int, ...], w: Ref, ids: Ref, *_: Any, **__: Any) -> Ref:
    return _lookup(b, w, ids)


def _lookup(b: Builder, table: Ref, ids: Ref) -> Ref:
    return _looked_up(b, table, {0: ids})


def _looked_up(b: Builder, x: Ref, ids: Mapping[int, Ref]) -> Ref:
    """x at the numbers that stand for some of its axes; tensors of numbers are broadcast against each other.

    Their axes stand where the axes were which they replace, or in front where these are not side by side.
    """
    letters = axes(len(x.shape))
    rank = max(len(ref.shape) for ref in ids.values())
    named = axes(rank, after=len(letters))
    chosen = [b.one_hot(ref, x.shape[axis]) for axis, ref in ids.items()]
    labels = [named[rank - len(ref.shape) :] + letters[axis] for axis, ref in ids.items()]
    places = sorted(ids)
    first = places[0] if places[-1] - places[0] == len(places) - 1 else 0
    kept = [letter for axis, letter in enumerate(letters) if axis not in ids]
    return b.einsum([*chosen, x], [*labels, letters], "".join((*kept[:first], *named, *kept[first:])))


def _picked(b: Builder, x: Ref, axis: int, ids: Ref) -> Ref:
    """x at numbers along one axis: a slice, where they are known."""
    known = b.picked(x, axis, ids)
    return _looked_up(b, x, {axis: ids}) if known is None else known


@row("index")
def _index(b: Builder, shape: tuple[int, ...], x: Ref, indices: Sequence[Any]) -> Ref:
    ids = {axis: ref for axis, ref in enumerate(indices) if ref is not None}
    if any(ref.node in b.boolean for ref in ids.values()):
        return b.opaque("aten.index", [x, *ids.values()], shape)
    made = _looked_up(b, x, ids) if len(ids) > 1 else _picked(b, x, *next(iter(ids.items())))
    return made if made.shape == shape else b.opaque("aten.index", [x, *ids.values()], shape)


@row("index_select")
def _index_select(b: Builder, shape: tuple[int, ...], x: Ref, dim: int, ids: Ref) -> Ref:
    return _looked_up(b, x, {dim % len(x.shape): b.reshape(ids, (shape[dim],))})


@row("gather")
def _gather(b: Builder, shape: tuple[int, ...], x: Ref, dim: int, ids: Ref, **_: Any) -> Ref:
    dim %= len(shape)
    letters, after = axes(len(shape)), axes(1, after=len(shape))
    for axis, length in enumerate(shape):
        x = x if axis == dim else b.slice(x, axis, 0, length)
    live = [axis for axis in range(len(shape)) if axis == dim or not b.spread(ids, axis)]
    numbers = Ref(ids.node, ids.index, tuple(ids.axes[i] for i in live), tuple(ids.shape[i] for i in live))
    rows = "".join(after if axis == dim else letters[axis] for axis in live)
    chosen = b.one_hot(numbers, x.shape[dim])
    return b.einsum([chosen, x], [rows + letters[dim], letters], letters.replace(letters[dim], after))


def _affine(b: Builder, x: Ref, gain: Any, bias: Any) -> Ref:
    if gain is not None:
        x = b.mul(x, gain)
    return x if bias is None else b.add(x, bias)


@row("layer_norm")
def _layer_norm(
    b: Builder,
    shape: tuple[int, ...],
    x: Ref,
    sizes: Sequence[int],
    gain: Any = None,
    bias: Any = None,
    eps: Any = 1e-5,
    *_: Any,
) -> Ref:
    positions = list(range(len(x.shape) - len(sizes), len(x.shape)))
    return _affine(b, over_root(b, centred(b, x, positions), positions, number(eps)), gain, bias)


@row("native_layer_norm")
def _native_layer_norm(b: Builder, shape: Any, x: Ref, sizes: Sequence[int], gain: Any, bias: Any, eps: Any) -> Any:
    y = _layer_norm(b, shape[0], x, sizes, gain, bias, eps)
    return (y, *(b.opaque("layer norm statistics", [x], s) for s in shape[1:]))


@row("rms_norm")
def _rms_norm(
    b: Builder, shape: tuple[int, ...], x: Ref, sizes: Sequence[int], gain: Any = None, eps: Any = None
) -> Ref:
    positions = list(range(len(x.shape) - len(sizes), len(x.shape)))
    # where none is given, torch's own of float32: no law reads how large it is
    epsilon = number(eps) if eps is not None else Fraction(2) ** -23
    return _affine(b, over_root(b, x, positions, epsilon), gain, None)


@row("_weight_norm", "_weight_norm_interface")
def _weight_norm(b: Builder, shape: Any, v: Ref, g: Ref, dim: int = 0) -> Any:
    """The direction of v times g: of every slice along `dim`, or of the whole of v where it is -1."""
    kept = () if dim == -1 else (dim % len(v.shape),)
    square = b.total(b.mul(v, v), [i for i in range(len(v.shape)) if i not in kept])
    weight = b.mul(v, b.mul(g, b.power(square, -HALF)))
    return [weight, b.power(b.reshape(square, shape[1]), HALF)] if isinstance(shape, list) else weight


@row("group_norm")
def _group_norm(
    b: Builder,
    shape: tuple[int, ...],
    x: Ref,
    groups: int,
    gain: Any = None,
    bias: Any = None,
    eps: Any = 1e-5,
    *_: Any,
) -> Ref:
    n, c, *space = x.shape
    parts = b.reshape(x, (n, groups, c // groups, *space))
    positions = list(range(2, len(parts.shape)))
    y = b.reshape(over_root(b, centred(b, parts, positions), positions, number(eps)), x.shape)
    column = (c, *(1,) * len(space))
    return _affine(b, y, *(None if p is None else b.reshape(p, column) for p in (gain, bias)))


@row("_native_batch_norm_legit_functional", "_native_batch_norm_legit")
def _batch_norm(
    b: Builder, shape: Any, x: Ref, gain: Any, bias: Any, mean: Ref, var: Ref, training: bool, momentum: Any, eps: Any
) -> Any:
    column = (x.shape[1], *(1,) * (len(x.shape) - 2))
    positions = [i for i in range(len(x.shape)) if i != 1]
    count = math.prod(x.shape[i] for i in positions)
    m = number(momentum)
    if training:
        average = b.reshape(b.total(x, positions, mean=True), (x.shape[1],))
        shifted = centred(b, x, positions)
        spread = b.reshape(b.total(b.mul(shifted, shifted), positions, mean=True), (x.shape[1],))
    else:
        average, spread = mean, var
        shifted = b.add(x, b.reshape(mean, column), coefficients=[Fraction(1), Fraction(-1)])
    root = b.power(b.add(b.reshape(spread, column), constant=number(eps)), -HALF)
    y = _affine(b, b.mul(shifted, root), *(None if p is None else b.reshape(p, column) for p in (gain, bias)))
    if not training:
        return (y, b.opaque("saved", [], shape[1]), b.opaque("saved", [], shape[2]), mean, var)
    new_mean = b.add(mean, average, coefficients=[1 - m, m])
    unbiased = b.mul(spread, coefficient=Fraction(count, max(count - 1, 1)))
    new_var = b.add(var, unbiased, coefficients=[1 - m, m])
    return y, average, b.opaque("saved", [spread], shape[2]), new_mean, new_var


@row("_native_batch_norm_legit_no_training")
def _batch_norm_eval(
    b: Builder, shape: Any, x: Ref, gain: Any, bias: Any, mean: Ref, var: Ref, momentum: Any, eps: Any
) -> Any:
    return _batch_norm(b, shape, x, gain, bias, mean, var, False, momentum, eps)[:3]


@row("batch_norm", "cudnn_batch_norm")
def _batch_norm_unknown(b: Builder, shape: Any, x: Ref, *rest: Any, **_: Any) -> Any:
    refs = [x, *(r for r in rest if isinstance(r, Ref))]
    shapes = shape if isinstance(shape, list) else [shape]
    made = tuple(b.opaque("batch norm", refs, s) for s in shapes)
    return made if isinstance(shape, list) else made[0]


# -- attention, losses ----------------------------------------------------------------------------------
@row("logsumexp")
def _logsumexp(b: Builder, shape: tuple[int, ...], x: Ref, dims: Any, keepdim: bool = False) -> Ref:
    positions = [d % len(x.shape) for d in ([dims] if isinstance(dims, int) else dims)]
    return b.reshape(b.map("log", b.total(b.map("exp", x), positions)), shape)


@row("scaled_dot_product_attention")
def _attention(
    b: Builder,
    shape: tuple[int, ...],
    q: Ref,
    k: Ref,
    v: Ref,
    mask: Any = None,
    dropout: float = 0.0,
    is_causal: bool = False,
    scale: Any = None,
    enable_gqa: bool = False,
) -> Ref:
    if enable_gqa and q.shape[-3] != k.shape[-3]:
        k = b.repeat_each(k, -3, q.shape[-3] // k.shape[-3])
        v = b.repeat_each(v, -3, q.shape[-3] // v.shape[-3])
    batch = axes(len(q.shape) - 2)
    factor = number(scale) if scale is not None else Fraction(1 / math.sqrt(q.shape[-1]))
    scores = b.einsum([q, k], [batch + "qe", batch + "ke"], batch + "qk", factor)
    if mask is not None:
        scores = b.add(scores, b.opaque("attention mask", [mask], mask.shape) if mask.node in b.boolean else mask)
    if is_causal:
        scores = b.add(scores, b.leaf("constant", f"causal{scores.shape[-2:]}", scores.shape[-2:]))
    weights = b.along("softmax", scores, [-1], keep=True)
    if dropout:
        weights = masked(b, weights)
    return b.einsum([weights, v], [batch + "qk", batch + "ke"], batch + "qe")


@row("cross_entropy_loss")
def _cross_entropy(b: Builder, shape: tuple[int, ...], logits: Ref, target: Ref, *rest: Any, **options: Any) -> Ref:
    axis = 1 if len(logits.shape) > 1 else 0
    extra = [r for r in (*rest, *options.values()) if isinstance(r, Ref)]
    out = [i for i in range(len(logits.shape)) if i != axis] if shape else []
    settings = (("settings", str([r for r in (*rest, *sorted(options.items())) if not isinstance(r, Ref)])),)
    return b.along("cross_entropy", logits, [axis], keep=False, data=[target, *extra], out=out, attributes=settings)
