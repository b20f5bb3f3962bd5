"""Linear algebra of compiled gauges, as pure functions.

Every tensor has a batch axis in front: parameters of equal shape are stacked, and what is computed from them is
[batch, copies, size, ...].  A `Slice` says by strides which elements of a parameter an action moves, and how they are
laid out as copies, group axis and rest.  `Values` hold some slots only, or some rows of a slot: what fits in a cache.

Not here: any gauge, any parameter name, any state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from gaugec.runtime import solvers

Axes = tuple[tuple[int, int], ...]
Tensors = dict[str, Tensor]

CAP = 1e8  # a frame's scale stays between 1/CAP and CAP
LOST = 1e-12  # a scale outside LOST..1/LOST at construction is singular


@dataclass(frozen=True)
class Slice:
    """Elements of a parameter: slot, offset, and the axes (size, stride) of copies, group, rotary pair and rest.

    A coefficient has shape [batch, copies, group]; everything that follows is summed over or broadcast.
    dense: where the slice is one contiguous run, its length, the sizes in the order of the memory, and how to permute
    them; views and permutations are what a graph compiler can fuse, strides are not.
    """

    slot: str
    offset: int
    copies: Axes
    group: Axes
    pair: Axes
    rest: Axes
    dense: tuple[int, tuple[int, ...], tuple[int, ...]] | None = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Find out whether the slice is dense."""
        object.__setattr__(self, "dense", _dense(self.copies + self.group + self.pair + self.rest))


def _dense(axes: Axes) -> tuple[int, tuple[int, ...], tuple[int, ...]] | None:
    order = sorted(range(len(axes)), key=lambda i: -axes[i][1])
    run = 1
    for i in reversed(order):
        if axes[i][1] != run:
            return None
        run *= axes[i][0]
    return run, tuple(axes[i][0] for i in order), (0, *(order.index(i) + 1 for i in range(len(axes))))


class Values(dict[str, Tensor]):
    """Tensors of some slots; what goes slot by slot passes over the slots that are absent.

    span: for a slot of which only some rows are held, the elements from and to; the compiler says where to cut.
    """

    def __init__(self, values: Mapping[str, Tensor], span: Mapping[str, tuple[int, int]] | None = None) -> None:
        super().__init__(values)
        self.span: Mapping[str, tuple[int, int]] = span or {}


class Window(NamedTuple):
    """The part of a slice that is at hand, and which of the coefficient's entries belong to it.

    part: in the tensor at hand; whole: the slice; axis: the axis of copies and group that is cut, start: its first.
    """

    part: Slice
    whole: Slice
    axis: int | None
    start: int

    def narrow(self, coefficient: Tensor) -> Tensor:
        """View [batch, copies, group] as [batch, *copies, *group], the entries at hand."""
        x = coefficient.reshape(coefficient.shape[0], *[n for n, _ in self.whole.copies + self.whole.group])
        return self._cut(x)

    def matrices(self, coefficient: Tensor) -> Tensor:
        """View [batch, copies, group, group] as [batch * copies at hand, group, group]."""
        if self.axis is None:
            return coefficient.flatten(0, 1)
        x = coefficient.view(coefficient.shape[0], *[n for n, _ in self.whole.copies], *coefficient.shape[-2:])
        return self._cut(x).flatten(0, -3)

    def spread(self, coefficient: Tensor) -> Tensor:
        """Reshape a coefficient [batch, copies, group] so that it broadcasts against `cut`."""
        x = self.narrow(coefficient)
        return x.view(*x.shape, *[1 for _ in self.part.pair + self.part.rest])

    def _cut(self, x: Tensor) -> Tensor:
        if self.axis is None:
            return x
        return x.narrow(1 + self.axis, self.start, (self.part.copies + self.part.group)[self.axis][0])


def window(values: Mapping[str, Tensor], part: Slice) -> Window | None:
    """What values hold of a slice; None where that is nothing."""
    if part.slot not in values:
        return None
    span = values.span.get(part.slot) if isinstance(values, Values) else None
    return Window(part, part, None, 0) if span is None else _window(part, *span)


@lru_cache(maxsize=4096)
def _window(part: Slice, low: int, high: int) -> Window | None:
    if part.dense is None:
        raise ValueError(f"{part} is not contiguous: it cannot be cut into rows")
    first, last = max(low, part.offset), min(high, part.offset + part.dense[0])
    if first >= last:
        return None
    axes = list(part.copies + part.group + part.pair + part.rest)
    i = max(range(len(axes)), key=lambda i: axes[i][1])
    start, count = (first - part.offset) // axes[i][1], (last - first) // axes[i][1]
    axes[i] = (count, axes[i][1])
    ends = (len(part.copies), len(part.copies + part.group), len(part.copies + part.group + part.pair))
    pieces = (axes[: ends[0]], axes[ends[0] : ends[1]], axes[ends[1] : ends[2]], axes[ends[2] :])
    here = Slice(part.slot, first - low, *(tuple(piece) for piece in pieces))
    return Window(here, part, i if i < ends[1] else None, start)


@dataclass
class Frame:
    """What brings parameters to canonical coordinates.

    scales: gauge -> [batch, copies, size] float64, multiplies the moved quantity (to a power that the action tells).
    powers: gauge -> power -> the scale to that power, in the dtype of the steps.
    off: gauges that are not in force, because a parameter that they move is frozen.
    """

    scales: Tensors = field(default_factory=dict)
    powers: dict[str, dict[float, Tensor]] = field(default_factory=dict)
    off: frozenset[str] = frozenset()

    def ready(self, powers: Mapping[str, Sequence[float]], dtype: torch.dtype) -> Frame:
        """Compute the powers that the steps until the next frame will need."""
        self.powers = {name: {p: self.scales[name].pow(p).to(dtype) for p in each} for name, each in powers.items()}
        return self


def _product(axes: Axes) -> int:
    return math.prod([size for size, _ in axes])


def cut(values: Mapping[str, Tensor], part: Slice) -> Tensor:
    """Return the slice as a view [batch, *copies, *group, *pair, *rest] of the contiguous tensor values[part.slot]."""
    x = values[part.slot]
    if part.dense is not None:
        run, sizes, order = part.dense
        x = x.flatten(1)
        if run != x.shape[1]:
            x = x[:, part.offset : part.offset + run]
        return x.view(x.shape[0], *sizes).permute(order)
    axes = part.copies + part.group + part.pair + part.rest
    return x.as_strided(
        [x.shape[0], *[size for size, _ in axes]],
        [x.stride(0), *[stride for _, stride in axes]],
        x.storage_offset() + part.offset,
    )


def spread(coefficient: Tensor, part: Slice) -> Tensor:
    """Reshape a coefficient [batch, copies, group] so that it broadcasts against `cut`."""
    sizes = [size for size, _ in part.copies + part.group]
    return coefficient.reshape(coefficient.shape[0], *sizes, *[1 for _ in part.pair + part.rest])


def fold(x: Tensor, part: Slice, dtype: torch.dtype | None = torch.float64) -> Tensor:
    """Sum a view of `cut`'s shape over pair and rest: [batch, copies, group]."""
    inner = len(part.pair) + len(part.rest)
    if inner:
        x = x.sum(tuple(range(x.dim() - inner, x.dim())))
    return x.reshape(x.shape[0], _product(part.copies), _product(part.group)).to(dtype)


def squares(values: Mapping[str, Tensor], part: Slice) -> Tensor:
    """Sum of squares over pair and rest, [batch, copies, group] in float64."""
    return fold(cut(values, part).square(), part)


def norm(values: Mapping[str, Tensor], parts: Sequence[Slice]) -> Tensor:
    """Joint norm of the slices over everything but copies and group: [batch, copies, group] in float64."""
    return torch.stack([squares(values, part) for part in parts]).sum(0).sqrt()


def alive(scale: Tensor) -> Tensor:
    """Where a solved scale is finite and positive; elsewhere the orbit is singular."""
    return (scale > LOST) & (scale < 1 / LOST)


def settle(scale: Tensor, live: Tensor) -> Tensor:
    """Make a solved scale safe to use: 1 where not live, else kept between 1/CAP and CAP.

    The floor keeps a step finite when a unit dies in training; away from it nothing is changed.
    """
    scale = torch.nan_to_num(scale, nan=1.0, posinf=CAP).clamp(1 / CAP, CAP)
    return torch.where(live, scale, torch.ones_like(scale))


def rows(values: Mapping[str, Tensor], part: Slice) -> Tensor:
    """Return the slice as matrices [batch, copies, group, rest] (a copy where the strides ask for one)."""
    x = cut(values, part)
    return x.reshape(x.shape[0], _product(part.copies), _product(part.group), -1)


def add_rows(values: Mapping[str, Tensor], part: Slice, matrices: Tensor, alpha: float = 1.0) -> None:
    """Add alpha * matrices [batch, copies, group, rest] to the slice, in place."""
    x = cut(values, part)
    x.add_(matrices.reshape(x.shape), alpha=alpha)


def rotate(values: Mapping[str, Tensor], part: Slice, element: Tensor) -> None:
    """Multiply the slice by matrices [batch, copies, group, group] from the left, in place."""
    x = cut(values, part)
    x.copy_((element.to(x.dtype) @ rows(values, part)).reshape(x.shape))


def add_rotation(
    values: Mapping[str, Tensor], point: Mapping[str, Tensor], part: Slice, generator: Tensor, alpha: float
) -> None:
    """Add alpha * generator @ (the slice of point) to the slice of values, in place."""
    here = window(values, part)
    if here is None:
        return
    x, out = rows(point, here.part).flatten(0, 1), cut(values, here.part)
    matrices = here.matrices(generator.to(x.dtype))
    try:
        flat = None if _fusing else out.view(x.shape)
    except RuntimeError:  # the strides of copies or rest do not merge
        flat = None
    if flat is not None:
        flat.baddbmm_(matrices, x, alpha=alpha)
    else:
        out.add_((matrices @ x).reshape(out.shape), alpha=alpha)


def add_scaled(
    values: Mapping[str, Tensor], point: Mapping[str, Tensor], part: Slice, coefficient: Tensor, alpha: float
) -> None:
    """Add alpha * coefficient * (the slice of point) to the slice of values, in place."""
    here = window(values, part)
    if here is not None:
        x = cut(point, here.part)
        cut(values, here.part).addcmul_(x, here.spread(coefficient.to(x.dtype)), value=alpha)


def add_constant(values: Mapping[str, Tensor], part: Slice, coefficient: Tensor, alpha: float) -> None:
    """Add alpha * coefficient, constant along the rest, to the slice of values, in place."""
    here = window(values, part)
    if here is not None:
        x = cut(values, here.part)
        x.add_(here.spread(coefficient.to(x.dtype)), alpha=alpha)


def centre(values: Mapping[str, Tensor], part: Slice) -> None:
    """Subtract the mean along the rest from the slice of values, in place: what no shift can move."""
    x = cut(values, part)
    x.sub_(x.mean(tuple(range(x.ndim - len(part.rest), x.ndim)), keepdim=True))


Scaling = Mapping[str, Sequence[tuple[Slice, str, float]]]


def scaled(
    values: Mapping[str, Tensor],
    frame: Frame,
    table: Scaling,
    out: Mapping[str, Tensor] | None,
    offsets: Mapping[str, float] = MappingProxyType({}),
) -> Values:
    """Multiply slices by powers of the frame's scales: (slice, gauge, power) by slot, after an offset was added.

    In `out` where it is given, and then a slot that nothing scales is returned as it came; else as new tensors.
    """
    done = {}
    span = values.span if isinstance(values, Values) else None
    for slot, x in values.items():
        offset, factors = offsets.get(slot, 0.0), table.get(slot, ())
        if out is not None and not offset and not factors:
            done[slot] = x
            continue
        y = out[slot] if out is not None else x.clone(memory_format=torch.contiguous_format)
        source, target = Values({slot: x}, span), Values({slot: y}, span)
        written = out is None or y is x
        if offset:
            torch.add(x, offset, out=y)
            written = True
        for part, gauge, power in factors:
            here = window(target, part)
            if here is None:
                continue
            scale = here.spread(frame.powers[gauge][power])
            if written:
                cut(target, here.part).mul_(scale)
            elif here.part.dense is not None and here.part.dense[0] == x[0].numel():
                torch.mul(cut(source, here.part), scale, out=cut(target, here.part))
            else:
                y.copy_(x)
                cut(target, here.part).mul_(scale)
            written = True
        if not written:
            y.copy_(x)
        done[slot] = y
    return Values(done, span)


def products(
    left: Mapping[str, Tensor], right: Mapping[str, Tensor], slots: Sequence[str], out: Mapping[str, Tensor] | None
) -> Values:
    """Products of the tensors of some slots, in `out` where it is given."""
    span = left.span if isinstance(left, Values) else None
    if out is None:
        return Values({slot: left[slot] * right[slot] for slot in slots if slot in left}, span)
    return Values({slot: torch.mul(left[slot], right[slot], out=out[slot]) for slot in slots if slot in left}, span)


_fusing = False


@contextmanager
def fusing() -> Iterator[None]:
    """Inside, what is called is being traced for a compiler, which likes plain sums better than products with ones."""
    global _fusing
    before, _fusing = _fusing, True
    try:
        yield
    finally:
        _fusing = before


def _sum(values: Mapping[str, Tensor], part: Slice) -> Tensor:
    """Sum over everything but copies and group: [batch, *copies, *group]."""
    outer = _outer(part)
    if outer is None:
        x = cut(values, part)
        inner = len(part.pair) + len(part.rest)
        return x.sum(tuple(range(x.dim() - inner, x.dim()))) if inner else x
    run, count = outer
    x = values[part.slot].flatten(1)[:, part.offset : part.offset + run].view(values[part.slot].shape[0], count, -1)
    sizes = (x.shape[0], *[n for n, _ in part.copies + part.group])
    if _fusing:  # blocks of rows that stay in a cache while the compiler's loops go through their columns
        block = max(n for n in range(1, 65) if count % n == 0)
        return x.view(x.shape[0], -1, block, x.shape[2]).sum(2).sum(1).view(sizes)
    ones = torch.ones(x.shape[0], 1, count, dtype=x.dtype, device=x.device)
    return (ones @ x).view(sizes)


def total(values: Mapping[str, Tensor], part: Slice) -> Tensor:
    """Sum over everything but copies and group: [batch, copies, group] in float64; the transpose of `add_constant`."""
    return _sum(values, part).reshape(values[part.slot].shape[0], _product(part.copies), _product(part.group)).double()


def add_total(out: Tensor, values: Mapping[str, Tensor], part: Slice, weight: float) -> None:
    """Add weight times `total` to a coefficient, in place."""
    here = window(values, part)
    if here is not None:
        here.narrow(out).add_(_sum(values, here.part), alpha=weight)


def add_moment(
    out: Tensor, left: Mapping[str, Tensor], right: Mapping[str, Tensor], part: Slice, weight: float
) -> None:
    """Add weight times `moment` to matrices [batch, copies, group, group], in place."""
    here = window(left, part)
    if here is not None:
        x, y = rows(left, here.part).flatten(0, 1), rows(right, here.part).flatten(0, 1)
        here.matrices(out).baddbmm_(x, y.mT, alpha=weight)


def add_torque(
    out: Tensor,
    values: Mapping[str, Tensor],
    point: Mapping[str, Tensor],
    part: Slice,
    room: Mapping[str, Tensor] | None = None,
) -> None:
    """Add `torque` to a coefficient, in place; what `room` holds may be written over."""
    here = window(values, part)
    if here is None:
        return
    first, second = planes(point, here.part)
    left, right = planes(values, here.part)
    products = right * first if room is None else torch.mul(right, first, out=planes(room, here.part)[0])
    products.addcmul_(left, second, value=-1.0)
    x = here.narrow(out)
    x.add_(fold(products, plane(here.part), None).view(x.shape))


def add_block(out: Tensor, values: Mapping[str, Tensor], slot: str, offset: int, kept: Axes, summed: Axes) -> None:
    """Add a cross block of the Gram matrix, summed over some axes of a field, to out [batch, *kept], in place.

    Where nothing is summed the field is copied: `room_for` gives memory for either.
    """
    here = window(values, Slice(slot, offset, kept, (), (), summed))
    if here is None:
        return
    if summed:
        here.narrow(out).add_(_sum(values, here.part))
    else:
        here.narrow(out).copy_(cut(values, here.part))


def zeros(point: Mapping[str, Tensor], kind: str, copies: int, size: int) -> Tensor:
    """Room to add up a coefficient of a gauge; float64, or for rotations in the dtype of point."""
    like = next(iter(point.values()))
    x = coefficient(kind, copies, size, like.shape[0], like.device)
    return x.to(like.dtype) if kind.startswith("rotate") else x


def room_for(point: Mapping[str, Tensor], batch: int, kept: Axes) -> Tensor:
    """Zeros [batch, *kept] in the dtype of point; strides fall in the order of the field's."""
    like = next(iter(point.values()))
    order = sorted(range(len(kept)), key=lambda i: -kept[i][1])
    x = torch.zeros(batch, *[kept[i][0] for i in order], dtype=like.dtype, device=like.device)
    return x.permute(0, *[order.index(i) + 1 for i in range(len(kept))])


def add_size(out: Tensor, values: Mapping[str, Tensor], sample: int = 1 << 14) -> None:
    """Add squares of a part of every tensor to out [batch]: no more than the square of the norm, and quick."""
    for x in values.values():
        out.add_(x.flatten(1)[:, :sample].square().sum(1))


def planes(values: Mapping[str, Tensor], part: Slice) -> tuple[Tensor, Tensor]:
    """Return the first and second coordinates of every rotary pair, as views."""
    x = cut(values, part)
    axis = 1 + len(part.copies) + len(part.group)
    return x.select(axis, 0), x.select(axis, 1)


def plane(part: Slice) -> Slice:
    """The slice of one coordinate of every pair: `spread` and `fold` for what `planes` returns."""
    return replace(part, pair=())


def _outer(part: Slice) -> tuple[int, int] | None:
    """Length of the run and of what is summed, where that comes first in memory: a product with ones is faster then."""
    if part.dense is None or not part.rest or part.pair:
        return None
    run, _, order = part.dense
    kept = len(part.copies) + len(part.group)
    summed = len(order) - 1 - kept
    if order[1 : kept + 1] != tuple(range(summed + 1, summed + kept + 1)):
        return None
    return run, _product(part.rest)


def stretch(values: Mapping[str, Tensor], part: Slice, scale: Tensor) -> None:
    """Multiply the slice by scale [batch, copies, group], in place."""
    x = cut(values, part)
    x.mul_(spread(scale.to(x.dtype), part))


def turn(values: Mapping[str, Tensor], part: Slice, angle: Tensor) -> None:
    """Rotate every rotary pair by its angle [batch, copies, planes], in place."""
    first, second = planes(values, part)
    angle = spread(angle, plane(part))
    cosine, sine = angle.cos().to(first.dtype), angle.sin().to(first.dtype)
    turned = first * cosine - second * sine
    second.copy_(second * cosine + first * sine)
    first.copy_(turned)


def add_turn(
    values: Mapping[str, Tensor], point: Mapping[str, Tensor], part: Slice, angle: Tensor, alpha: float
) -> None:
    """Add alpha times the tangent of `turn` at point to the slice of values, in place."""
    here = window(values, part)
    if here is None:
        return
    first, second = planes(point, here.part)
    angle = spread(here.narrow(angle).to(first.dtype), plane(here.part))
    out_first, out_second = planes(values, here.part)
    out_first.addcmul_(second, angle, value=-alpha)
    out_second.addcmul_(first, angle, value=alpha)


def torque(values: Mapping[str, Tensor], point: Mapping[str, Tensor], part: Slice) -> Tensor:
    """The transpose of `add_turn`: [batch, copies, planes] in float64."""
    first, second = planes(point, part)
    left, right = planes(values, part)
    return fold(right * first, plane(part)) - fold(left * second, plane(part))


def moment(values: Mapping[str, Tensor], point: Mapping[str, Tensor], part: Slice) -> Tensor:
    """values point^T over the rest: [batch, copies, group, group] in float64."""
    return (rows(values, part) @ rows(point, part).mT).double()


def tangents(
    lift: Callable[[Tensors, Tensors], Tensors], point: Tensors, kinds: Mapping[str, tuple[str, int, int]]
) -> Tensors:
    """Every tangent vector of the orbit at point: slot -> [number, batch, *shape].

    lift(point, coefficients) is linear in the coefficients; kinds: gauge -> (kind, copies, size).
    """
    like = next(iter(point.values()))
    batch = like.shape[0]
    zero = {name: coefficient(kind, copies, size, batch, like.device) for name, (kind, copies, size) in kinds.items()}
    vectors = []
    for name, (kind, copies, size) in kinds.items():
        for copy in range(copies):
            for generator in _generators(kind, size):
                one = zero[name].clone()
                one[:, copy] = generator.to(one.device)
                vectors.append(lift(point, {**zero, name: one}))
    return {slot: torch.stack([vector[slot] for vector in vectors]) for slot in point}


def coefficient(kind: str, copies: int, size: int, batch: int, device: torch.device | None = None) -> Tensor:
    """A zero coefficient of a gauge: [batch, copies, size], and one more axis for rotations; float64."""
    shape = (batch, copies, size, size) if kind.startswith("rotate") else (batch, copies, size)
    return torch.zeros(shape, dtype=torch.float64, device=device)


def _generators(kind: str, size: int) -> list[Tensor]:
    if not kind.startswith("rotate"):
        return list(torch.eye(size, dtype=torch.float64))
    basis = torch.eye(size, dtype=torch.float64)
    if kind == "rotate ones":
        basis = solvers.ones_basis(size, basis)
    columns = basis.mT
    pairs = [(i, j) for i in range(len(columns)) for j in range(i)]
    return [torch.outer(columns[i], columns[j]) - torch.outer(columns[j], columns[i]) for i, j in pairs]


def random_element(kind: str, copies: int, size: int, batch: int, generator: torch.Generator | None) -> Tensor:
    """A random element in float64: scales e^(0.7 N), rotations of both determinants, angles and shifts."""
    if kind == "rotate":
        return random_rotation((batch, copies, size, size), generator)
    if kind == "rotate ones":
        inner = random_rotation((batch, copies, size - 1, size - 1), generator)
        basis = solvers.ones_basis(size, inner)
        return basis @ inner @ basis.mT + 1 / size
    normal = torch.randn(batch, copies, size, generator=generator, dtype=torch.float64)
    return {"scale": (0.7 * normal).exp(), "turn": math.pi * normal, "shift": normal}[kind]


class Piece(NamedTuple):
    """A slice of a parameter whose squares are averaged over some axes: axes are (size, stride, pooled)."""

    offset: int
    axes: tuple[tuple[int, int, bool], ...]


def _piece(x: Tensor, piece: Piece) -> Tensor:
    """View x [batch, *shape], or some of its rows, by a piece; rows are cut along the first axis only."""
    sizes = [n for n, _, _ in piece.axes]
    if sizes and not piece.offset:
        sizes[0] = min(sizes[0], max(1, x[0].numel() // piece.axes[0][1]))
    dense = _dense(tuple((n, stride) for n, (_, stride, _) in zip(sizes, piece.axes)))
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


def random_rotation(shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
    """Orthogonal matrices [*shape], float64, both determinants."""
    q, r = torch.linalg.qr(torch.randn(*shape, generator=generator, dtype=torch.float64))
    return q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
