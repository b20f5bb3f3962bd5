"""The lowering table: ONE row per structural ATen operation; here arithmetic, contractions, reductions.

Functions, pointwise or along an axis, are not here: their rows are in `gaugec.operators.TABLE` and name their ATen
operations there.  Views, what is chosen by a truth value, layers, what recurs, and what moves along space have files of
their own beside this one (`aten_views`, `aten_choices`, `aten_layers`, `aten_recurrent`, `aten_windows`).
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


@row("max", "min")
def _extreme(b: Builder, shape: Any, x: Ref, dim: Any = None, keepdim: bool = False) -> Any:
    """Of two values, as torch also calls `maximum`, or along an axis, with places of which nothing is known."""
    function = b.source.removeprefix("aten.")
    if isinstance(dim, Ref):
        return b.map(function, x, dim)
    values = b.along(function, x, _positions(x, dim if dim is None else [dim]), keep=False)
    if not isinstance(shape, list):
        return b.reshape(values, shape)
    return [b.reshape(values, shape[0]), b.opaque(b.source, [x], shape[1])]


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
