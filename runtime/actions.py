"""How elements and generators of a group act on slices of parameters, and the transposes of that.

See `layout` for slices.  Not here: any gauge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor

from gaugec.runtime import solvers
from gaugec.runtime.layout import Axes, Slice, Tensors, cut, fold, plane, planes, product, rows, spread
from gaugec.runtime.multipliers import matrices


def rotate(values: Mapping[str, Tensor], part: Slice, element: Tensor) -> None:
    """Multiply the slice by matrices [batch, copies, group, group] from the left, in place."""
    x = cut(values, part)
    x.copy_((element.to(x.dtype) @ rows(values, part)).reshape(x.shape))


def add_rotation(
    values: Mapping[str, Tensor], point: Mapping[str, Tensor], part: Slice, generator: Tensor, alpha: float
) -> None:
    """Add alpha * generator @ (the slice of point) to the slice of values, in place."""
    x, out, matrices = rows(point, part), cut(values, part), generator.to(point[part.slot].dtype)
    try:
        flat = None if _fusing else out.view(x.shape)
    except RuntimeError:  # the strides of copies or rest do not merge
        flat = None
    if flat is None:
        out.add_((matrices @ x).reshape(out.shape), alpha=alpha)
        return
    for place, matrix, column in zip(flat, matrices, x):
        place.baddbmm_(matrix, column, alpha=alpha)


def add_scaled(
    values: Mapping[str, Tensor], point: Mapping[str, Tensor], part: Slice, coefficient: Tensor, alpha: float
) -> None:
    """Add alpha * coefficient * (the slice of point) to the slice of values, in place."""
    x = cut(point, part)
    cut(values, part).addcmul_(x, spread(coefficient.to(x.dtype), part), value=alpha)


def add_constant(values: Mapping[str, Tensor], part: Slice, coefficient: Tensor, alpha: float) -> None:
    """Add alpha * coefficient, constant along the rest, to the slice of values, in place."""
    x = cut(values, part)
    x.add_(spread(coefficient.to(x.dtype), part), alpha=alpha)


def products(left: Tensors, right: Tensors, slots: Sequence[str], out: Tensors | None = None) -> Tensors:
    """Products of the tensors of some slots, in `out` where it is given."""
    if out is None:
        return {slot: left[slot] * right[slot] for slot in slots}
    for slot in slots:
        torch.mul(left[slot], right[slot], out=out[slot])
    return out


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
    return (_ones(x.shape[0], count, x.dtype, x.device) @ x).view(sizes)


@lru_cache(maxsize=64)
def _ones(batch: int, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.ones(batch, 1, count, dtype=dtype, device=device)


def total(values: Mapping[str, Tensor], part: Slice) -> Tensor:
    """Sum over everything but copies and group: [batch, copies, group] in float64; the transpose of `add_constant`."""
    return _sum(values, part).reshape(values[part.slot].shape[0], product(part.copies), product(part.group)).double()


def block(values: Tensors, slot: str, offset: int, kept: Axes, summed: Axes) -> Tensor:
    """A cross block of the Gram matrix, a field summed over some axes: [batch, *kept]; a view where none is summed."""
    return _sum(values, Slice(slot, offset, kept, (), (), summed))


def least_size(values: Tensors, sample: int = 1 << 14) -> Tensor:
    """Squares of a part of every tensor, added up: [batch] in float64; no more than that of the norm, and quick."""
    return torch.stack([x.flatten(1)[:, :sample].square().sum(1).double() for x in values.values()]).sum(0)


def _outer(part: Slice) -> tuple[int, int] | None:
    """Length of the run and of what is summed, where that comes first in memory: a product with ones is faster then."""
    if part.dense is None or not part.rest or part.pair:
        return None
    run, _, order = part.dense
    kept = len(part.copies) + len(part.group)
    summed = len(order) - 1 - kept
    if order[1 : kept + 1] != tuple(range(summed + 1, summed + kept + 1)):
        return None
    return run, product(part.rest)


def stretch(values: Mapping[str, Tensor], part: Slice, scale: Tensor) -> None:
    """Multiply the slice by scale [batch, copies, group], or by matrices as `rotate` does, in place."""
    if matrices(scale):
        rotate(values, part, scale)
        return
    x = cut(values, part)
    x.mul_(spread(scale.to(x.dtype), part))


def stretched(values: Mapping[str, Tensor], part: Slice, scale: Tensor) -> Tensor:
    """A new tensor like the whole one of the slice, with the slice multiplied by scale; in one pass where it is all."""
    x = values[part.slot]
    if matrices(scale) or part.dense is None or part.dense[0] != x[0].numel():
        out = {part.slot: x.clone()}
        stretch(out, part, scale)
    else:
        out = {part.slot: torch.empty_like(x, memory_format=torch.contiguous_format)}
        torch.mul(cut(values, part), spread(scale.to(x.dtype), part), out=cut(out, part))
    return out[part.slot]


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
    first, second = planes(point, part)
    angle = spread(angle.to(first.dtype), plane(part))
    out_first, out_second = planes(values, part)
    out_first.addcmul_(second, angle, value=-alpha)
    out_second.addcmul_(first, angle, value=alpha)


def torque(
    values: Mapping[str, Tensor], point: Mapping[str, Tensor], part: Slice, room: Mapping[str, Tensor] | None = None
) -> Tensor:
    """The transpose of `add_turn`: [batch, copies, planes] in float64; what `room` holds may be written over."""
    first, second = planes(point, part)
    left, right = planes(values, part)
    products = torch.mul(right, first, out=None if room is None else planes(room, part)[0])
    return fold(products.addcmul_(left, second, value=-1.0), plane(part))


def overlap(values: Mapping[str, Tensor], point: Mapping[str, Tensor], part: Slice) -> Tensor:
    """<values, point> of every rotary pair: [batch, copies, planes] in float64."""
    return fold(cut(values, part) * cut(point, part), part)


def moment(values: Mapping[str, Tensor], point: Mapping[str, Tensor], part: Slice) -> Tensor:
    """values point^T over the rest: [batch, copies, group, group]; place by place, whose strides seldom merge."""
    return torch.stack([x @ y.mT for x, y in zip(rows(values, part), rows(point, part))])


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
    """A zero coefficient of a gauge: [batch, copies, size], and one more axis for matrices; float64."""
    shape = (batch, copies, size, size) if of_matrices(kind) else (batch, copies, size)
    return torch.zeros(shape, dtype=torch.float64, device=device)


def of_matrices(kind: str) -> bool:
    """Whether the elements of a kind are matrices."""
    return kind == "matrix" or kind.startswith("rotate")


def _generators(kind: str, size: int) -> list[Tensor]:
    if not of_matrices(kind):
        return list(torch.eye(size, dtype=torch.float64, device="cpu"))
    if kind == "matrix":
        return list(torch.eye(size * size, dtype=torch.float64, device="cpu").view(-1, size, size))
    basis = torch.eye(size, dtype=torch.float64, device="cpu")
    if kind == "rotate ones":
        basis = solvers.ones_basis(size, basis)
    columns = basis.mT
    pairs = [(i, j) for i in range(len(columns)) for j in range(i)]
    return [torch.outer(columns[i], columns[j]) - torch.outer(columns[j], columns[i]) for i, j in pairs]


def random_element(kind: str, copies: int, size: int, batch: int, generator: torch.Generator | None) -> Tensor:
    """A random element in float64: scales e^(0.7 N), rotations of both determinants, angles and shifts.

    Of invertible matrices, scales between two rotations.
    """
    if kind == "matrix":
        left, right = (random_rotation((batch, copies, size, size), generator) for _ in range(2))
        return left * random_element("scale", copies, size, batch, generator).unsqueeze(-2) @ right
    if kind == "rotate":
        return random_rotation((batch, copies, size, size), generator)
    if kind == "rotate ones":
        inner = random_rotation((batch, copies, size - 1, size - 1), generator)
        basis = solvers.ones_basis(size, inner)
        return basis @ inner @ basis.mT + 1 / size
    normal = torch.randn(batch, copies, size, generator=generator, dtype=torch.float64)
    return {"scale": (0.7 * normal).exp(), "turn": math.pi * normal, "shift": normal}[kind]


def random_rotation(shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
    """Orthogonal matrices [*shape], float64, both determinants."""
    q, r = torch.linalg.qr(torch.randn(*shape, generator=generator, dtype=torch.float64))
    return q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
