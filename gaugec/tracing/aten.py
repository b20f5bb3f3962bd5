"""The lowering table: ONE row per structural ATen operation (views, arithmetic, contractions, reductions).

Functions, pointwise or along an axis, are not here: their rows are in `gaugec.operators.TABLE` and name their ATen
operations there.  Layers have rows of their own (`gaugec.tracing.aten_layers`).
A row is a function of (builder, shape of the output, arguments...) in which tensors are `Ref`s.  An operation without
a row becomes an opaque node, which blocks every gauge whose moved values meet it.

What this module does not do: it imports no torch; dtypes arrive as strings.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from typing import Any, TypeVar

from gaugec.graph.builder import Builder, Ref
from gaugec.graph.ir import Leaf, Opaque
from gaugec.graph.layers import HALF, axes, dropout, matmul
from gaugec.operators import ATEN

Row = Callable[..., "Ref | tuple[Ref, ...] | list[Ref]"]
F = TypeVar("F", bound=Row)
ROWS: dict[str, Row] = {}


def row(*names: str) -> Callable[[F], F]:
    """Registers a lowering under ATen packet names."""

    def register(function: F) -> F:
        for name in names:
            ROWS["aten." + name] = function
        return function

    return register


def number(value: Any) -> Fraction:
    """A Python scalar as an exact rational; a float is the number that it is written as: 0.01 is 1/100, 1 / 3 is 1/3.

    Raises:
        ValueError: infinity or not a number.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    if not isinstance(value, float):
        return Fraction(value)
    quotient = Fraction(value).limit_denominator(1000)
    return quotient if float(quotient) == value else Fraction(repr(float(value)))


# -- views -------------------------------------------------------------------------------------------------------
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


@row("roll")
def _roll(b: Builder, shape: tuple[int, ...], x: Ref, shifts: Any, dims: Any = ()) -> Ref:
    pairs = [(shifts, dims)] if isinstance(shifts, int) else list(zip(shifts, dims))
    if not dims and dims != 0:
        return b.opaque("aten.roll of all axes", [x], shape)
    for shift, dim in ((s, d[0] if isinstance(d, (list, tuple)) else d) for s, d in pairs):
        n = x.shape[dim]
        if shift % n:
            x = b.cat([b.slice(x, dim, n - shift % n, shift % n), b.slice(x, dim, 0, n - shift % n)], dim)
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


# -- arithmetic --------------------------------------------------------------------------------------------------
@row("add")
def _add(b: Builder, shape: tuple[int, ...], x: Any, y: Any, alpha: Any = 1) -> Ref:
    if b.truth:  # of two truth values it is their "or"
        return b.opaque("aten.add of truth values", [v for v in (x, y) if isinstance(v, Ref)], shape)
    if not isinstance(y, Ref):
        return b.add(x, constant=number(y) * number(alpha))
    if not isinstance(x, Ref):
        return b.add(y, coefficients=[number(alpha)], constant=number(x))
    return b.add(x, y, coefficients=[Fraction(1), number(alpha)])


@row("sub")
def _sub(b: Builder, shape: tuple[int, ...], x: Any, y: Any, alpha: Any = 1) -> Any:
    return _add(b, shape, x, y, -number(alpha))


@row("rsub")
def _rsub(b: Builder, shape: tuple[int, ...], x: Any, y: Any, alpha: Any = 1) -> Ref:
    if not isinstance(y, Ref):
        return b.add(x, coefficients=[-number(alpha)], constant=number(y))
    return b.add(y, x, coefficients=[Fraction(1), -number(alpha)])


@row("mul", "multiply")
def _mul(b: Builder, shape: tuple[int, ...], x: Any, y: Any) -> Ref:
    if not isinstance(y, Ref):
        return b.mul(x, coefficient=number(y))
    return b.mul(x, y) if isinstance(x, Ref) else b.mul(y, coefficient=number(x))


@row("div", "divide", "true_divide")
def _div(b: Builder, shape: tuple[int, ...], x: Any, y: Any, rounding_mode: Any = None) -> Ref:
    if rounding_mode is not None:
        return b.opaque("aten.div with rounding", [v for v in (x, y) if isinstance(v, Ref)], shape)
    if not isinstance(y, Ref):
        return b.mul(x, coefficient=1 / number(y))
    inverse = b.power(y, Fraction(-1))
    return b.mul(x, inverse) if isinstance(x, Ref) else b.mul(inverse, coefficient=number(x))


@row("neg")
def _neg(b: Builder, shape: tuple[int, ...], x: Ref) -> Ref:
    return b.mul(x, coefficient=Fraction(-1))


@row("pow")
def _pow(b: Builder, shape: tuple[int, ...], x: Any, exponent: Any) -> Ref:
    if isinstance(exponent, Ref) or not isinstance(x, Ref):
        return b.opaque("aten.pow with a tensor exponent", [v for v in (x, exponent) if isinstance(v, Ref)], shape)
    return b.power(x, number(exponent))


@row("square")
def _square(b: Builder, shape: tuple[int, ...], x: Ref) -> Ref:
    return b.mul(x, x)


@row("rsqrt")
def _rsqrt(b: Builder, shape: tuple[int, ...], x: Ref) -> Ref:
    return b.power(x, -HALF)


@row("sqrt")
def _sqrt(b: Builder, shape: tuple[int, ...], x: Ref) -> Ref:
    return b.power(x, HALF)


@row("reciprocal")
def _reciprocal(b: Builder, shape: tuple[int, ...], x: Ref) -> Ref:
    return b.power(x, Fraction(-1))


@row("gelu")
def _gelu(b: Builder, shape: tuple[int, ...], x: Ref, approximate: str = "none") -> Ref:
    return b.map("gelu" if approximate == "none" else "gelu_tanh", x)


@row("leaky_relu")
def _leaky(b: Builder, shape: tuple[int, ...], x: Ref, slope: Any = 0.01) -> Ref:
    definition = ("add", ("max", "x", 0), ("mul", number(slope), ("min", "x", 0)))
    return b.map("leaky_relu", x, attributes=(("definition", definition),))


@row("prelu", "_prelu_kernel")
def _prelu(b: Builder, shape: tuple[int, ...], x: Ref, slope: Ref) -> Ref:
    if len(slope.shape) == 1 and len(x.shape) > 1:  # of every channel, axis 1; the kernel's has the axes of x
        slope = b.reshape(slope, (slope.shape[0], *(1,) * (len(x.shape) - 2)))
    low = b.map("clamp", x, attributes=(("definition", ("min", "x", 0)),))
    return b.add(b.map("relu", x), b.mul(low, slope))


@row("threshold")
def _threshold(b: Builder, shape: tuple[int, ...], x: Ref, threshold: Any, value: Any) -> Ref:
    if number(threshold) == 0 and number(value) == 0:
        return b.map("relu", x)
    return b.opaque("aten.threshold", [x], shape)


@row("clamp_min")
def _clamp_min(b: Builder, shape: tuple[int, ...], x: Ref, low: Any) -> Any:
    return _clamp(b, shape, x, low)


@row("clamp_max")
def _clamp_max(b: Builder, shape: tuple[int, ...], x: Ref, high: Any) -> Any:
    return _clamp(b, shape, x, None, high)


@row("hardtanh")
def _hardtanh(b: Builder, shape: tuple[int, ...], x: Ref, low: Any = -1, high: Any = 1) -> Any:
    return _clamp(b, shape, x, low, high)


@row("clamp", "clip")
def _clamp(b: Builder, shape: tuple[int, ...], x: Ref, low: Any = None, high: Any = None) -> Ref:
    # an exported graph leaves out arguments that have their default: every row must know its own
    if isinstance(low, Ref) or isinstance(high, Ref):
        return b.opaque("aten.clamp with tensors", [v for v in (x, low, high) if isinstance(v, Ref)], shape)
    low, high = (None if bound in (-math.inf, math.inf) else bound for bound in (low, high))
    if low is not None and number(low) == 0 and high is None:
        return b.map("relu", x)
    definition: Any = "x"
    if low is not None:
        definition = ("max", definition, number(low))
    if high is not None:
        definition = ("min", definition, number(high))
    return b.map("clamp", x, attributes=(("definition", definition),))


@row("native_dropout", "dropout")
def _dropout(b: Builder, shape: Any, x: Ref, p: Any, train: Any = True) -> Any:
    several = isinstance(shape, list)
    if p == 0 or train is False:
        return (x, b.opaque("dropout mask", [], x.shape)) if several else x
    result = dropout(b, x)
    return (result, b.opaque("dropout mask", [], x.shape)) if several else result


# -- truth values, as 0 and 1 ------------------------------------------------------------------------------------
def _difference(b: Builder, x: Ref, y: Any, sign: int) -> Ref:
    """sign * (x - y)"""
    one = Fraction(sign)
    return b.add(x, y, coefficients=[one, -one]) if isinstance(y, Ref) else b.add(
        x, coefficients=[one], constant=-one * number(y)
    )


def _step(b: Builder, x: Ref, y: Any, sign: int) -> Ref:
    """1 where x > y (sign 1) or x < y (sign -1), else 0."""
    if not isinstance(y, Ref) and not number(y):
        return b.map("step", x if sign == 1 else b.mul(x, coefficient=Fraction(-1)))
    return b.map("step", _difference(b, x, y, sign))


def _not(b: Builder, x: Ref) -> Ref:
    return b.add(x, coefficients=[Fraction(-1)], constant=Fraction(1))


@row("gt", "greater")
def _greater(b: Builder, shape: tuple[int, ...], x: Ref, y: Any) -> Ref:
    return _step(b, x, y, 1)


@row("lt", "less")
def _less(b: Builder, shape: tuple[int, ...], x: Ref, y: Any) -> Ref:
    return _step(b, x, y, -1)


@row("le", "less_equal")
def _at_most(b: Builder, shape: tuple[int, ...], x: Ref, y: Any) -> Ref:
    return _not(b, _step(b, x, y, 1))


@row("ge", "greater_equal")
def _at_least(b: Builder, shape: tuple[int, ...], x: Ref, y: Any) -> Ref:
    return _not(b, _step(b, x, y, -1))


@row("ne", "not_equal")
def _unlike(b: Builder, shape: tuple[int, ...], x: Ref, y: Any) -> Ref:
    return b.add(_step(b, x, y, 1), _step(b, x, y, -1))


@row("eq")
def _alike(b: Builder, shape: tuple[int, ...], x: Ref, y: Any) -> Ref:
    return _not(b, _unlike(b, shape, x, y))


@row("logical_not", "bitwise_not")
def _negated(b: Builder, shape: tuple[int, ...], x: Ref) -> Ref:
    return _not(b, x) if _known(b, x) else b.opaque(b.source, [x], shape)


@row("logical_and", "bitwise_and")
def _both(b: Builder, shape: tuple[int, ...], x: Ref, y: Any) -> Ref:
    refs = [v for v in (x, y) if isinstance(v, Ref)]
    return b.mul(*refs) if len(refs) == 2 and all(_known(b, v) for v in refs) else b.opaque(b.source, refs, shape)


def _known(b: Builder, x: Ref) -> bool:
    """Is a value a truth value that is made of comparisons, and of nothing unknown?"""
    return b.truth and x.node in b.boolean and b.nodes[x.node].type not in (Leaf, Opaque)


# -- choosing ----------------------------------------------------------------------------------------------------
@row("where")
def _where(b: Builder, shape: tuple[int, ...], condition: Ref, x: Any, y: Any) -> Ref:
    if b.nodes[condition.node].type in (Leaf, Opaque):
        yes = b.opaque("condition", [condition], condition.shape)
        no = b.opaque("condition, negated", [condition], condition.shape)
    else:
        yes, no = condition, _not(b, condition)
    return b.add(_chosen(b, yes, x), _chosen(b, no, y))


def _chosen(b: Builder, mask: Ref, value: Any) -> Ref:
    if isinstance(value, Ref):
        return b.mul(value, mask)
    if isinstance(value, float) and not math.isfinite(value):
        return b.opaque(f"{value} where chosen", [mask], mask.shape)
    return b.mul(mask, coefficient=number(value))


@row("masked_fill")
def _masked_fill(b: Builder, shape: tuple[int, ...], x: Ref, mask: Ref, value: Any) -> Any:
    return _where(b, shape, mask, value, x)


# -- contractions ------------------------------------------------------------------------------------------------
@row("linear")
def _linear(b: Builder, shape: tuple[int, ...], x: Ref, w: Ref, bias: Any = None) -> Ref:
    batch = axes(len(x.shape) - 1)
    y = b.einsum([x, w], [batch + "k", "nk" if len(w.shape) == 2 else "k"], batch + ("n" if len(w.shape) == 2 else ""))
    return y if bias is None else b.add(y, bias)


@row("addmm")
def _addmm(b: Builder, shape: tuple[int, ...], bias: Ref, x: Ref, w: Ref, beta: Any = 1, alpha: Any = 1) -> Ref:
    y = b.einsum([x, w], ["mk", "kn"], "mn", number(alpha))
    return b.add(bias, y, coefficients=[number(beta), Fraction(1)])


@row("baddbmm")
def _baddbmm(b: Builder, shape: tuple[int, ...], bias: Ref, x: Ref, w: Ref, beta: Any = 1, alpha: Any = 1) -> Ref:
    y = b.einsum([x, w], ["zmk", "zkn"], "zmn", number(alpha))
    return b.add(bias, y, coefficients=[number(beta), Fraction(1)])


@row("matmul", "mm", "bmm", "mv", "dot")
def _matmul(b: Builder, shape: tuple[int, ...], x: Ref, y: Ref) -> Ref:
    return matmul(b, x, y)


@row("inner")
def _inner(b: Builder, shape: tuple[int, ...], x: Ref, y: Ref) -> Ref:
    if not x.shape or not y.shape:
        return b.mul(x, y)
    rows, columns = axes(len(x.shape) - 1), axes(len(y.shape) - 1, after=len(x.shape) - 1)
    return b.einsum([x, y], [rows + "k", columns + "k"], rows + columns)


@row("tensordot")
def _tensordot(b: Builder, shape: tuple[int, ...], x: Ref, y: Ref, dims: Any, others: Any) -> Ref:
    left = list(axes(len(x.shape)))
    right = list(axes(len(y.shape), after=len(x.shape)))
    for i, j in zip(dims, others, strict=True):
        right[j] = left[i]
    summed = {left[i] for i in dims}
    return b.einsum([x, y], ["".join(left), "".join(right)], "".join(a for a in (*left, *right) if a not in summed))


@row("einsum")
def _einsum(b: Builder, shape: tuple[int, ...], equation: str, xs: Sequence[Ref], **_: Any) -> Ref:
    left, arrow, out = equation.replace(" ", "").partition("->")
    labels = left.split(",")
    if "." in equation:
        # the ellipsis of each operand stands for the axes that its letters leave, the last of those of all
        more = [len(x.shape) - len(text.replace("...", "")) if "." in text else 0 for x, text in zip(xs, labels)]
        unused = "".join(letter for letter in string.ascii_letters if letter not in equation)
        rest = unused[: max(more)]
        labels = [text.replace("...", rest[len(rest) - n :]) for text, n in zip(labels, more)]
        if not arrow:
            out, arrow = rest + "".join(a for a in sorted(set(left) - set(",.")) if left.count(a) == 1), "->"
        else:
            out = out.replace("...", rest)
    if not arrow:
        letters = sorted(set(left) - {","})
        out = "".join(letter for letter in letters if left.count(letter) == 1)
    return b.einsum(xs, labels, out)


@row("mean")
def _mean(b: Builder, shape: tuple[int, ...], x: Ref, dims: Any = None, keepdim: bool = False, **_: Any) -> Ref:
    return b.reshape(b.total(x, _positions(x, dims), mean=True), shape)


@row("sum")
def _sum(b: Builder, shape: tuple[int, ...], x: Ref, dims: Any = None, keepdim: bool = False, **_: Any) -> Ref:
    if b.truth:
        return b.opaque("aten.sum to a truth value", [x], shape)
    return b.reshape(b.total(x, _positions(x, dims)), shape)


@row("linalg_vector_norm", "norm")
def _norm(
    b: Builder, shape: tuple[int, ...], x: Ref, p: Any = 2, dims: Any = None, keepdim: bool = False, dtype: Any = None
) -> Ref:
    if p is not None and number(p) not in (1, 2):
        return b.opaque(b.source, [x], shape)
    if p is not None and number(p) == 1:
        return b.reshape(b.total(b.map("abs", x), _positions(x, dims)), shape)
    return b.reshape(b.power(b.total(b.mul(x, x), _positions(x, dims)), HALF), shape)


def _positions(x: Ref, dims: Any) -> list[int]:
    if isinstance(dims, int):
        dims = [dims]
    return [d % len(x.shape) for d in dims] if dims else list(range(len(x.shape)))


@row("maximum", "fmax")
def _larger(b: Builder, shape: tuple[int, ...], x: Ref, y: Ref) -> Ref:
    return b.map("max", x, y)


@row("minimum", "fmin")
def _smaller(b: Builder, shape: tuple[int, ...], x: Ref, y: Ref) -> Ref:
    return b.map("min", x, y)


@row("max")
def _max(b: Builder, shape: Any, x: Ref, *rest: Any, **options: Any) -> Any:
    """Of two values, as torch also calls `maximum`; along an axis it returns places too, and is not known."""
    return _of_two(b, "max", shape, x, *rest, **options)


@row("min")
def _min(b: Builder, shape: Any, x: Ref, *rest: Any, **options: Any) -> Any:
    return _of_two(b, "min", shape, x, *rest, **options)


def _of_two(b: Builder, function: str, shape: Any, x: Ref, *rest: Any, **options: Any) -> Any:
    if len(rest) == 1 and isinstance(rest[0], Ref) and not options:
        return b.map(function, x, rest[0])
    made = [b.opaque(b.source, [x], s) for s in (shape if isinstance(shape, list) else [shape])]
    return made if isinstance(shape, list) else made[0]


@row("var_mean")
def _var_mean(b: Builder, shape: Any, x: Ref, dims: Any = None, correction: Any = None, keepdim: bool = False) -> Any:
    positions = _positions(x, dims)
    count = math.prod(x.shape[i] for i in positions)
    mean = b.total(x, positions, mean=True)
    shifted = b.add(x, mean, coefficients=[Fraction(1), Fraction(-1)])
    less = 1 if correction is None else int(correction)
    variance = b.mul(b.total(b.mul(shifted, shifted), positions), coefficient=Fraction(1, max(count - less, 1)))
    return b.reshape(variance, shape[0]), b.reshape(mean, shape[1])


# -- tensors of one number -----------------------------------------------------------------------------------------
# integers and masks stay opaque constants (see `gaugec.tracing.lower`)
@row("zeros", "zeros_like", "new_zeros")
def _zeros(b: Builder, shape: tuple[int, ...], *_: Any, **__: Any) -> Ref:
    return b.scalar(Fraction(0), shape)


@row("ones", "ones_like", "new_ones")
def _ones(b: Builder, shape: tuple[int, ...], *_: Any, **__: Any) -> Ref:
    return b.scalar(Fraction(1), shape)


@row("full", "full_like", "new_full", "scalar_tensor")
def _full(b: Builder, shape: tuple[int, ...], *arguments: Any, **_: Any) -> Ref:
    return b.scalar(number(arguments[-1]), shape)


# -- the operator table --------------------------------------------------------------------------------------------
def lowering(packet: str) -> Row | None:
    """The row of an ATen packet: its own here, or what its row of the operator table says; None without one."""
    operator = ATEN.get(packet)
    if packet in ROWS or operator is None:
        return ROWS.get(packet)
    if operator.kind == "map":
        return partial(_mapped, operator.name)
    if operator.kind == "along":
        return partial(_kept if operator.keeps else _reduced, operator.name)
    return None


def _mapped(function: str, b: Builder, shape: tuple[int, ...], x: Ref, **_: Any) -> Ref:
    return b.map(function, x)


def _kept(function: str, b: Builder, shape: tuple[int, ...], x: Ref, dim: int, *_: Any, **__: Any) -> Ref:
    return b.along(function, x, [dim], keep=True)


def _reduced(function: str, b: Builder, shape: tuple[int, ...], x: Ref, dims: Any = (), keepdim: bool = False) -> Ref:
    return b.reshape(b.along(function, x, _positions(x, dims), keep=False), shape)


__all__ = ["ROWS", "lowering", "number", "row"]
