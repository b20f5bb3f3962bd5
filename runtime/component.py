"""A component of a compiled gauge: gauges that share parameters, and everything that all components do alike.

A compiled file derives one class a component.  It declares the tensors, the gauges with the rows that they move, the
pools, where a step may cut, and the cross blocks of the Gram matrix; and it defines what is particular to its gauges:

    fix(point)           solve for the scales, in the order in which they depend on one another
    coefficients(gram)   solve for the vertical part of a step

Every tensor has a batch axis in front.

Not here: any gauge; how a step is chosen.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from gaugec.runtime import actions, frames, patterns, pooling, solvers
from gaugec.runtime.frames import Frame, Point
from gaugec.runtime.groups import (
    Action,
    Invertible,
    Orthogonal,
    OrthogonalOnes,
    Positive,
    Row,
    Strides,
    Torus,
    Translation,
)
from gaugec.runtime.held import Added, Gain, amounts, in_order, marked, one
from gaugec.runtime.layout import Axes, Slice, Tensors
from gaugec.runtime.pooling import Piece
from gaugec.runtime.ranges import expand
from gaugec.runtime.shifts import along

__all__ = [
    "Added", "Blur", "Component", "Gain", "Gram", "Invertible", "Orthogonal", "OrthogonalOnes", "Point", "Pool",
    "Positive", "Row",
    "Strides", "Tensors", "Torus", "Translation",
]  # fmt: skip


class Pool:
    """A part of a tensor whose squares are averaged over the axes k, because a compact group mixes them.

    pattern: in the order of the memory; or an offset and axes (size, stride, averaged).  The pools of a tensor cover it
    and are disjoint.
    """

    covers = True

    def __init__(self, tensor: str, pattern: str | tuple[int, tuple[tuple[int, int, bool], ...]], **sizes: int) -> None:
        self.tensor, self.pattern, self.sizes = tensor, pattern, sizes
        self.slot = patterns.slot(tensor)

    def piece(self, shape: Sequence[int]) -> Piece:
        """The axes of a tensor of this shape."""
        if not isinstance(self.pattern, str):
            return Piece(*self.pattern)
        offset, axes = patterns.read(self.tensor, self.pattern, shape, self.sizes)
        return Piece(offset, tuple((axis.size, axis.stride, axis.name[0] == "k") for axis in axes))


class Blur(Pool):
    """The same where the pools of a tensor overlap: they are averaged over in turn, and the average is written back."""

    covers = False


class Coupling:
    """A block of the Gram matrix between two gauges: weight times a field, the squares of a tensor or its values.

    pattern: axes of the tensor.  left, right: axes of the two coefficients, [copies, size] in one; letters that occur
    in neither are summed over.  Instead of patterns (offset, kept axes, summed axes) of the field with a letter a kept
    axis, and (offset, axes, letters) of the coefficients.
    """

    def __init__(
        self,
        gauges: tuple[str, str],
        tensor: str,
        pattern: str | tuple[int, Axes, Axes, str],
        left: str | tuple[int, Axes, str],
        right: str | tuple[int, Axes, str],
        *,
        squares: bool,
        weight: float,
        **sizes: int,
    ) -> None:
        self.gauges, self.tensor, self.pattern, self.left, self.right = gauges, tensor, pattern, left, right
        self.squares, self.weight, self.sizes = squares, float(weight), sizes
        self.slot = patterns.slot(tensor)

    def bind(self, shape: Sequence[int], sizes: Mapping[str, int]) -> None:
        """Find the axes; sizes: of the coefficients of the gauges, copies times size."""
        known: dict[str, int] = {}
        if isinstance(self.pattern, str):
            self.offset, axes = patterns.read(self.tensor, self.pattern, shape, self.sizes)
            letters = {*patterns.names(self.left), *patterns.names(self.right)}
            shown = sorted((axis for axis in axes if axis.name in letters), key=lambda axis: axis.name)
            self.letters = "".join(axis.name for axis in shown)
            self.kept: Axes = tuple((axis.size, axis.stride) for axis in shown)
            self.summed: Axes = tuple((axis.size, axis.stride) for axis in axes if axis.name not in letters)
            known = {axis.name: axis.size for axis in axes}
        else:
            self.offset, self.kept, self.summed, self.letters = self.pattern
        self._views = [_view(side, sizes[gauge], known) for gauge, side in zip(self.gauges, (self.left, self.right))]

    def block(self, measured: Tensor) -> solvers.Cross:
        """The block with its numbers."""
        (left, left_letters), (right, right_letters) = self._views
        letters = (self.letters, left_letters, right_letters)
        return solvers.Cross(*self.gauges, measured, letters, left, right, self.weight)


View = tuple[int, Axes, str]


def _view(side: str | View, size: int, known: Mapping[str, int]) -> tuple[solvers.View, str]:
    """The axes of a coefficient, flat, and a letter for each."""
    if not isinstance(side, str):
        return side[:2], side[2]
    offset, axes = patterns.read("coefficient", side, (size,), known)
    ordered = sorted(axes, key=lambda axis: axis.name)
    return (offset, tuple((axis.size, axis.stride) for axis in ordered)), "".join(axis.name for axis in ordered)


class Gram:
    """The joint normal equations of a step: the Gram matrix of the tangents, and inner products.

    right: inner products of the step with the tangents of every gauge.
    """

    def __init__(self, component: Component, measured: Tensors, point: Tensors, off: frozenset[str]) -> None:
        self.component, self.measured, self.point, self.off = component, measured, point, off
        self.tolerance = solvers.tolerance(point)
        rights = {name: measured[f"right {name}"] for name in component.by_name}
        self.right = {name: x.double() if name in component.coupled else x for name, x in rights.items()}

    def divide(self, gauge: str) -> Tensor:
        """Of a gauge whose tangents are orthogonal to one another and to all others: <step, X> / <X, X>."""
        return self._alone(gauge)

    def sylvester(self, gauge: str) -> Tensor:
        """Of a matrix that no other gauge meets, by the Gram matrices of what it moves.

        Of a rotation the skew A with skew(A S) = skew(step X^T), S = X X^T; see `Invertible.solve`.
        """
        return self._alone(gauge)

    def _alone(self, gauge: str) -> Tensor:
        gram = self.measured.get(f"gram {gauge}")
        return self.component.by_name[gauge].solve(self.right[gauge], gram, self.tolerance)

    def eliminate(self, *first: str, rest: Sequence[str]) -> Tensors:
        """Of gauges that meet one another.

        The first do not meet among themselves, so their blocks are inverted exactly; conjugate gradients see the rest.
        """
        names = {*first, *rest}
        together = {name: value for name, value in self.right.items() if name in names}
        diagonal, inverse = self._blocks(together)
        crosses = [cross.block(self.measured[f"cross {i}"]) for i, cross in enumerate(self.component.couplings)]
        size = self.measured["size"].sqrt()
        return solvers.solve_blocks(together, diagonal, inverse, crosses, first, size, self.tolerance, self.off)

    def iterate(self) -> Tensors:
        """Of all gauges, by conjugate gradients in which the Gram matrix is applied through the tangents themselves."""
        _, inverse = self._blocks(self.right)

        def gram(a: Tensors) -> Tensors:
            return self.component.covertical(self.component.vertical(self.point, a), self.point)

        def precondition(right: Tensors) -> Tensors:
            return {name: inverse[name](value) for name, value in right.items()}

        size = self.measured["size"].sqrt()
        return solvers.solve(gram, self.right, precondition, size, self.tolerance, self.off)

    def _blocks(self, names: Iterable[str]) -> tuple[solvers.Blocks, solvers.Blocks]:
        blocks = {name: self.component.by_name[name].block(self.measured.get(f"gram {name}")) for name in names}
        return {name: block for name, (block, _) in blocks.items()}, {name: inv for name, (_, inv) in blocks.items()}


class Component:
    """Gauges that share parameters, at every place of the model that looks the same.

    A class declares `shapes`, tensors by name; `offsets`, of a tensor that stores a gain as its distance from a number,
    that number; `gauges`, `pools`, `couplings`; `cuts`, tensors of which a step may take some rows at a time, and what
    the number has to be a multiple of; `whole`, where a step takes everything at once; `charts`, in which coordinates
    tensors are moved and stepped; `holds`, the tensors that charts read, which are not stepped, and for which gauges;
    `partly`, of those of which only a part is read, which (offset, axes);
    `idle`, gauges that move nothing else in these coordinates; `wide`, what gauges of the whole model move here.  An
    instance is told for every tensor which parameters it is, place after place, as a pattern of names or several.
    """

    shapes: ClassVar[dict[str, tuple[int, ...]]] = {}
    offsets: ClassVar[dict[str, float]] = {}
    gauges: ClassVar[tuple[Action, ...]] = ()
    pools: ClassVar[tuple[Pool, ...]] = ()
    couplings: ClassVar[tuple[Coupling, ...]] = ()
    cuts: ClassVar[dict[str, int]] = {}
    whole: ClassVar[bool] = False
    charts: ClassVar[tuple[Gain | Added, ...]] = ()
    holds: ClassVar[dict[str, tuple[str, ...]]] = {}
    partly: ClassVar[dict[str, tuple[tuple[int, Axes], ...]]] = {}
    idle: ClassVar[tuple[Action, ...]] = ()
    wide: ClassVar[tuple[Action, ...]] = ()

    # read off the declarations: where tensors are held; gains and sums, in order; all gauges, with what is held among
    # what they move; by gauge, (kind, copies, size), the tensors that it moves, of idle ones too; of those that are
    # stepped the powers of its scale; by tensor, what its canonical form and its gradient are multiplied by, and the
    # pieces that are averaged over; mixed: tensors whose frames have matrices, scaled: whose frames have scales
    held: ClassVar[dict[str, Tensor]]
    gains: ClassVar[tuple[Gain, ...]]
    sums: ClassVar[tuple[Added, ...]]
    shifts: ClassVar[tuple[Translation, ...]]
    unheld: ClassVar[tuple[Action, ...]]
    by_name: ClassVar[dict[str, Action]]
    elements: ClassVar[dict[str, tuple[str, int, int]]]
    moves: ClassVar[dict[str, tuple[str, ...]]]
    powers: ClassVar[dict[str, tuple[float, ...]]]
    canonical_powers: ClassVar[frames.Scaling]
    pull_powers: ClassVar[frames.Scaling]
    pieces: ClassVar[dict[str, tuple[Piece, ...]]]
    covered: ClassVar[frozenset[str]]
    pooled: ClassVar[tuple[str, ...]]
    coupled: ClassVar[frozenset[str]]
    mixed: ClassVar[tuple[str, ...]]
    scaled: ClassVar[tuple[str, ...]]
    squared: ClassVar[tuple[str, ...]]

    def __init_subclass__(
        cls,
        gauges: int = 0,
        rows: int = 0,
        pools: int = 0,
        couplings: int = 0,
        idle: int = 0,
        wide: int = 0,
        charts: int = 0,
    ) -> None:
        """Check the declarations and bind them to one another.

        Raises ValueError where one is missing or does not fit; the numbers say how many there have to be.
        """
        counts = {"gauges": gauges, "rows": rows, "pools": pools, "couplings": couplings, "idle": idle, "wide": wide}
        _complete(cls, {**counts, "charts": charts})
        cls.gains = tuple(each for each in cls.charts if isinstance(each, Gain))
        cls.pooled = tuple(dict.fromkeys(pool.slot for pool in cls.pools))
        try:
            cls._bind()
        except ValueError as error:
            raise ValueError(f"{cls.__name__}: {error}") from error
        framed = [gauge for gauge in cls.gauges if gauge.framed]
        cls.by_name = {gauge.name: gauge for gauge in cls.gauges}
        cls.shifts = tuple(gauge for gauge in cls.gauges if isinstance(gauge, Translation))
        cls.unheld = tuple(copy.copy(gauge) for gauge in (*cls.gauges, *cls.idle, *cls.wide))
        for gauge in cls.unheld:
            gauge.bind(cls.shapes)
        cls.elements = {gauge.name: (gauge.kind, gauge.copies, gauge.size) for gauge in (*cls.gauges, *cls.idle)}
        cls.moves = {gauge.name: _reached(cls, gauge) for gauge in (*cls.gauges, *cls.idle, *cls.wide)}
        cls.powers = {gauge.name: gauge.powers for gauge in framed}
        cls.canonical_powers, cls.pull_powers = _scaling(framed, 1), _scaling(framed, -1)
        cls.covered = frozenset(pool.slot for pool in cls.pools if pool.covers)
        cls.coupled = frozenset(
            cls.by_name if cls.whole else (name for cross in cls.couplings for name in cross.gauges)
        )
        cls.mixed = _in_order(cls.shapes, [gauge for gauge in framed if gauge.mixes])
        cls.scaled = _in_order(cls.shapes, [gauge for gauge in framed if not gauge.mixes])
        cls.squared = _in_order(cls.shapes, [gauge for gauge in cls.gauges if gauge.diagonal])

    @classmethod
    def _bind(cls) -> None:
        """Find the axes of rows, couplings and pools; ValueError where they do not fit the tensors."""
        whole = {slot: ((0, ((math.prod(cls.shapes[slot]), 1),)),) for slot in cls.holds}
        cls.held = {slot: marked(cls.shapes[slot], parts) for slot, parts in {**whole, **cls.partly}.items()}
        cls.sums = in_order([each for each in cls.charts if isinstance(each, Added)])
        for gauge in (*cls.gauges, *cls.idle, *cls.wide):
            gauge.bind(cls.shapes, cls.held)
        for coupling in cls.couplings:
            sizes = {gauge.name: gauge.copies * gauge.size for gauge in cls.gauges}
            coupling.bind(cls.shapes[coupling.slot], sizes)
        cls.pieces = {
            slot: tuple(pool.piece(cls.shapes[slot]) for pool in cls.pools if pool.slot == slot) for slot in cls.pooled
        }

    def __init__(self, places: Mapping[str, str | tuple[str, ...]]) -> None:
        if list(places) != list(self.shapes):
            given = ", ".join(places)
            raise ValueError(f"{type(self).__name__} stands at places of {given}, not of {', '.join(self.shapes)}")
        columns = [expand([names] if isinstance(names, str) else names) for names in places.values()]
        if len({len(column) for column in columns}) != 1:
            raise ValueError(f"{type(self).__name__}: its tensors are at different numbers of places")
        self.instances: tuple[tuple[str, ...], ...] = tuple(zip(*columns))

    @classmethod
    def complete(cls) -> None:
        """Raise ValueError unless the class defines what its gauges need."""
        for name in ("fix",) * any(gauge.framed for gauge in cls.gauges) + ("coefficients",) * bool(cls.gauges):
            if name not in vars(cls):
                raise ValueError(f"{cls.__name__} has no {name}")

    # --- what a compiled file defines

    def fix(self, point: Point) -> None:
        """Solve for the scales, in the order in which they depend on one another."""

    def coefficients(self, gram: Gram) -> Tensors:
        """The coefficients of the vertical part of a step, of all gauges."""
        return {}

    # --- frames

    def frame(
        self,
        params: Tensors,
        held: Tensors | None = None,
        was: Tensors | None = None,
        off: frozenset[str] = frozenset(),
        far: float = frames.FAR,
        gains: Tensors | None = None,
    ) -> Frame:
        """Solve for the scales that bring the parameters, with what sums add to them, to canonical form.

        held: the scales of units that have none now, 1 where nothing is given; was: where there was one; off: gauges
        whose scales stay 1; far: a scale beyond it, or below its inverse, is none; gains: what `gained` gives.
        """
        return self.solved(params, held, was, off, far, gains).ready(self.powers, next(iter(params.values())).dtype)

    def solved(
        self,
        params: Tensors,
        held: Tensors | None,
        was: Tensors | None,
        off: frozenset[str],
        far: float,
        gains: Tensors | None = None,
    ) -> Frame:
        """The same without the powers that steps need."""
        gains = self.gained(params) if gains is None else gains
        point = Point(self.by_name, self.offsets, params, held, was, off, far, gains, self.idle)
        self.fix(point)
        return Frame(point.found, off=off, live=point.live, gains=gains)

    def summed(self, params: Tensors, sums: Sequence[Added] | None = None) -> Tensors:
        """The parameters with what sums, all of them where none are given, add: new tensors where something is."""
        added = amounts(self.sums if sums is None else sums, params)
        return {slot: x + added[slot] if slot in added else x for slot, x in params.items()} if added else params

    def gained(self, params: Tensors, reading: Collection[str] | None = None, *, whole: bool = False) -> Tensors:
        """By tensor what gains multiply it by, [batch, ...], where that is not one.

        reading: the tensors that are held, all of `holds` where none are given; whole: factors of one, too.
        """
        reading = self.holds if reading is None else reading
        out: Tensors = {}
        for each in self.gains:
            if each.gain in reading:
                factor = each.factor(params, self.shapes[each.slot])
                out[each.slot] = out[each.slot] * factor if each.slot in out else factor
        return {slot: factor for slot, factor in out.items() if whole or not one(factor)}

    def canonical(self, params: Tensors, frame: Frame) -> Tensors:
        """The moved quantities in canonical coordinates, as new tensors."""
        return frames.scaled(params, frame, self.canonical_powers, self.offsets)

    def pull(self, gradient: Tensors, frame: Frame) -> Tensors:
        """A gradient in canonical coordinates, by the inverse transposed Jacobian of `canonical`, as new tensors."""
        return frames.scaled(gradient, frame, self.pull_powers, sign=-1)

    # --- pools

    def pool(self, squares: Tensors) -> Tensors:
        """Average squares over what compact elements mix."""
        out = dict(squares)
        for slot, pieces in self.pieces.items():
            if slot in out:
                out[slot] = (pooling.pool if slot in self.covered else pooling.blur)(out[slot], pieces)
        return out

    def unpool(self, pooled: Tensors, out: Tensors) -> Tensors:
        """Spread what `pool` gave over the parameters' shapes, in `out` where it was averaged."""
        spread = dict(pooled)
        for slot, pieces in self.pieces.items():
            if slot in spread and slot in self.covered:
                spread[slot] = pooling.unpool(spread[slot], pieces, out[slot])
        return spread

    # --- tangents

    def lift(self, values: Tensors, point: Tensors, coefficients: Tensors, alpha: float) -> Tensors:
        """Add alpha times the vertical vector with these coefficients at point, in place."""
        for gauge in self.gauges:
            gauge.lift(values, point, coefficients[gauge.name], alpha)
        return values

    def vertical(self, point: Tensors, coefficients: Tensors) -> Tensors:
        """The tangent vector of the orbit at point that the coefficients name."""
        zeros = {slot: torch.zeros_like(value) for slot, value in point.items()}
        return self.lift(zeros, point, coefficients, 1.0)

    def covertical(self, update: Tensors, point: Tensors) -> Tensors:
        """The transpose of `vertical`: inner products of an update with every tangent vector."""
        products = actions.products(update, point, self.scaled)
        return {gauge.name: gauge.covertical(update, point, products).double() for gauge in self.gauges}

    def tangents(self, params: Tensors) -> Tensors:
        """Every tangent vector of the orbit at the parameters, of what is held too: slot -> [number, batch, *shape]."""
        return self._tangents(params, self.elements)

    def wide_tangents(self, params: Tensors) -> dict[str, Tensors]:
        """The same of every gauge that runs through the whole model: what it moves here."""
        return {
            gauge.name: self._tangents(params, {gauge.name: (gauge.kind, gauge.copies, gauge.size)})
            for gauge in self.wide
        }

    def _tangents(self, params: Tensors, kinds: Mapping[str, tuple[str, int, int]]) -> Tensors:
        if not kinds:
            return {slot: x.new_zeros(0, *x.shape) for slot, x in params.items() if slot in self.shapes}
        point = self.charted(params, whole=True)

        def lift(there: Tensors, coefficients: Tensors) -> Tensors:
            out = {slot: torch.zeros_like(x) for slot, x in there.items()}
            for gauge in self.unheld:
                if gauge.name in coefficients:
                    gauge.lift(out, there, coefficients[gauge.name], 1.0)
            if not self.charts:
                return out
            back = torch.func.jvp(lambda x: self.uncharted(x, whole=True), (there,), (out,))
            return {slot: back[1][slot].detach() for slot in there}

        return actions.tangents(lift, point, kinds)

    # --- the vertical part of a step

    def measure(self, update: Tensors, point: Tensors, room: Tensors | None = None) -> Tensors:
        """The joint normal equations of an update: inner products of it, and of the tangents, with the tangents.

        room: tensors like the update's to work in; the equations hold until it is used again.
        """
        products = actions.products(update, point, self.scaled, room)
        out: Tensors = {}
        for gauge in sorted(self.gauges, key=lambda gauge: not gauge.framed):  # then the room that they need is free
            out[f"right {gauge.name}"] = gauge.covertical(update, point, products, room)
        squares = actions.products(point, point, self.squared, room)
        for gauge in self.gauges:
            if gauge.measured:
                out[f"gram {gauge.name}"] = gauge.gram(point, squares)
        for i, cross in enumerate(self.couplings):
            field = squares if cross.squares else point
            out[f"cross {i}"] = actions.block(field, cross.slot, cross.offset, cross.kept, cross.summed)
        if self.coupled:
            out["size"] = actions.least_size(update)
        return out

    def solve(self, measured: Tensors, point: Tensors, off: frozenset[str]) -> Tensors:
        """The coefficients of the vertical part, of all gauges jointly, in the dtype of point; 0 of those that are off.

        A NaN in a step reaches many, and must not reach all tensors through them.
        """
        gram = Gram(self, measured, point, off)
        found = solvers.without(self.coefficients(gram), off, gram.right)
        dtype = next(iter(point.values())).dtype
        return {name: x.to(dtype).nan_to_num(0.0, 0.0, 0.0) for name, x in found.items()}

    def project(self, update: Tensors, point: Tensors, off: frozenset[str], room: Tensors | None = None) -> Tensors:
        """Remove the vertical part of an update at the canonical point, in place; room: as `measure` has it."""
        return self.lift(update, point, self.solve(self.measure(update, point, room), point, off), -1.0)

    def recentred(self, update: Tensors, point: Tensors, decays: Mapping[str, Any], off: frozenset[str]) -> None:
        """Let parameters decay to what no shift moves, in place, where a shift moves several that may decay unlike.

        decays: by tensor, what part of the point the update takes away.  Of one tensor, or of several that decay alike,
        that part of the decay is vertical.
        """
        shifts = [gauge for gauge in self.shifts if gauge.name not in off]
        if not any(len(gauge.slots) > 1 for gauge in shifts):
            return
        for name, mean in along(shifts, point).items():
            for row, part in self.by_name[name].parts:
                actions.add_constant(update, part, mean * decays[row.slot], row.power)

    # --- elements

    def random_element(self, batch: int, generator: torch.Generator | None = None) -> Tensors:
        """A random element of every gauge, in float64."""
        return {
            name: actions.random_element(kind, copies, size, batch, generator)
            for name, (kind, copies, size) in self.elements.items()
        }

    def act(self, params: Tensors, element: Tensors) -> Tensors:
        """Move the parameters by an element, gauge after gauge, in the coordinates of charts; as new tensors.

        A gauge that the element does not have stands still.
        """
        point = self.charted(params)
        for gauge in (*self.gauges, *self.idle, *self.wide):
            if gauge.name in element:
                gauge.act(point, element[gauge.name])
        return self.uncharted(point)

    def charted(self, params: Tensors, *, whole: bool = False) -> Tensors:
        """The parameters in the coordinates of charts, with their offsets, as new tensors.

        whole: with factors of 1, too, which have a derivative.
        """
        point, gains = self._moved(params), self.gained(params, whole=whole)
        for slot, amount in amounts(self.sums, params).items():
            point[slot].add_(amount)
        return {slot: x * gains[slot] if slot in gains else x for slot, x in point.items()}

    def uncharted(self, point: Tensors, *, whole: bool = False) -> Tensors:
        """The inverse of `charted`; the held tensors of the point are those that its charts read."""
        out = {slot: x - self.offsets[slot] if slot in self.offsets else x for slot, x in point.items()}
        for slot, factor in self.gained(out, whole=whole).items():
            out[slot] = out[slot] / factor
        for each in reversed(self.sums):  # what reads a sum, before that is taken away
            amount = torch.zeros_like(out[each.slot], memory_format=torch.contiguous_format)
            each.add(amount, out[each.matrix] if each.matrix else None, out[each.bias])
            out[each.slot] = out[each.slot] - amount
        return out

    def _moved(self, params: Tensors) -> Tensors:
        """The quantities that the gauges move, as new tensors."""
        return {
            slot: params[slot] + self.offsets[slot] if slot in self.offsets else params[slot].clone()
            for slot in self.shapes
        }


def _complete(cls: type[Component], counts: Mapping[str, int]) -> None:
    """Raise ValueError where a component lacks a function, or its declarations do not go together."""
    every = (*cls.gauges, *cls.idle, *cls.wide)
    there = {
        "gauges": len(cls.gauges),
        "rows": sum(len(gauge.rows) for gauge in every),
        "pools": len(cls.pools),
        "couplings": len(cls.couplings),
        "idle": len(cls.idle),
        "wide": len(cls.wide),
        "charts": len(cls.charts),
    }
    for what, count in counts.items():
        if there[what] != count:
            raise ValueError(f"{cls.__name__} has {there[what]} {what} of {count}")
    cls.complete()
    charts: tuple[Gain | Added, ...] = cls.charts
    reads = {name for each in charts for name in each.reads}
    if reads != {*cls.holds}:
        raise ValueError(f"{cls.__name__} holds {', '.join(cls.holds)}, its charts read {', '.join(sorted(reads))}")
    moved = {slot for gauge in every for slot in gauge.slots} | reads | {each.slot for each in charts}
    moved |= {each.matrix for each in charts if isinstance(each, Added) and each.matrix}
    mixed = {slot for gauge in (*cls.gauges, *cls.wide) if gauge.mixes for slot in gauge.slots}
    mixed -= reads - {*cls.partly}
    others = {*cls.offsets, *cls.cuts, *(cross.slot for cross in cls.couplings)}
    for what, some, other in (
        ("no shape of", moved | others, {*cls.shapes}),
        ("no row that moves", {*cls.shapes}, moved),
        ("no pool of", mixed, {pool.slot for pool in cls.pools}),
        ("no rotation of the pool of", {pool.slot for pool in cls.pools}, mixed),
        ("no hold of a part of", {*cls.partly}, reads),
    ):
        if some - other:
            raise ValueError(f"{cls.__name__} has {what} {', '.join(sorted(some - other))}")


def _reached(cls: type[Component], gauge: Action) -> tuple[str, ...]:
    """The tensors that a gauge changes: those of its rows, and those whose charts read one of them."""
    out = dict.fromkeys(gauge.slots)
    charts: tuple[Gain | Added, ...] = (*cls.gains, *cls.sums)
    for each in charts:
        if not {*each.reads, each.matrix if isinstance(each, Added) else None}.isdisjoint(out):
            out[each.slot] = None
    return tuple(out)


def _scaling(framed: Sequence[Action], sign: int) -> frames.Scaling:
    """By tensor what it is multiplied by: (slice, gauge, power of its scale)."""
    out: dict[str, list[tuple[Slice, str, float]]] = {}
    for gauge in framed:
        for row, part in gauge.parts:
            out.setdefault(row.slot, []).append((part, gauge.name, sign * row.power))
    return out


def _in_order(shapes: Mapping[str, object], gauges: Sequence[Action]) -> tuple[str, ...]:
    """The tensors that gauges move, in the order of the component."""
    moved = {slot for gauge in gauges for slot in gauge.slots}
    return tuple(slot for slot in shapes if slot in moved)
