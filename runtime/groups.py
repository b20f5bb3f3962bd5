"""The groups of a compiled file: what an element, a tangent and its transpose do to the rows that a gauge moves.

A gauge of a component is a group with a name, the number of copies, the size of an element, and rows: which slices of
which tensors it moves, and how.  Coefficients of tangents are [batch, copies, size], of matrices [..., size, size].

Not here: which gauges there are, and how they meet in one component.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from gaugec.runtime import actions, patterns, polar, solvers
from gaugec.runtime.layout import Axes, Slice, Tensors, cut, product
from gaugec.runtime.multipliers import raised


class Strides(NamedTuple):
    """A slice that is no box of its tensor: offset and axes (size, stride) in elements."""

    offset: int
    copies: Axes = ()
    group: Axes = ()
    pair: Axes = ()
    rest: Axes = ()


class Row:
    """One moved slice: its letter in the spec, its tensor, its axes, and what an element does there.

    pattern: c are copies, k the axis of the element, p the two coordinates of a rotary pair, the others are moved alike
    (see `gaugec.runtime.patterns`); or `Strides`.  power: of a scale, or the weight of a shift.  dual: of a matrix R,
    which stands for its inverse transposed there, power -1.  sizes: of letters that the shape leaves open.
    """

    def __init__(
        self, role: str, tensor: str, pattern: str | Strides, power: float = 1, dual: bool = False, **sizes: int
    ) -> None:
        self.role, self.tensor, self.pattern, self.dual, self.sizes = role, tensor, pattern, dual, sizes
        self.slot = patterns.slot(tensor)
        self.power = -1.0 if dual else float(power)
        self.square = float(Fraction(power).limit_denominator(1 << 16) ** 2)

    def slice(self, shape: Sequence[int], copies: int, size: int) -> Slice:
        """The slice of a tensor of this shape; ValueError where copies and size are not those of the gauge."""
        if isinstance(self.pattern, Strides):
            out = Slice(self.slot, *self.pattern)
        else:
            known = {"c": copies, "k": size, "p": 2, **self.sizes}
            offset, axes = patterns.read(self.tensor, self.pattern, shape, known)
            kinds: dict[str, list[tuple[int, int]]] = {"c": [], "k": [], "p": [], "r": []}
            for axis in axes:
                kinds[axis.name[0] if axis.name[0] in "ckp" else "r"].append((axis.size, axis.stride))
            out = Slice(self.slot, offset, *(tuple(each) for each in kinds.values()))
        if product(out.copies) != copies or product(out.group) != size:
            raise ValueError(f"{self.tensor!r}, {self.pattern!r}: not {copies} copies of an axis of {size}")
        return out


class Action:
    """A group that acts on the rows of one gauge; what it does to them is said by the classes below."""

    kind: ClassVar[str]
    framed: ClassVar[bool] = False  # is there a scale, or a matrix, to be solved for?
    mixes: ClassVar[bool] = False  # does it mix coordinates, so that squares are averaged?
    measured: ClassVar[bool] = True  # does its Gram block depend on the parameters?
    diagonal: ClassVar[bool] = False  # is that block a sum of squares?

    def __init__(self, name: str, *, copies: int, size: int) -> None:
        self.name, self.copies, self.size = name, copies, size
        self.rows: tuple[Row, ...] = ()
        self.slices: tuple[Slice, ...] = ()
        self.all: tuple[tuple[Row, Slice], ...] = ()
        self.parts: tuple[tuple[Row, Slice], ...] = ()

    def moves(self, *rows: Row) -> Action:
        """The same, with the rows that it moves."""
        self.rows = rows
        return self

    def bind(self, shapes: Mapping[str, tuple[int, ...]], held: Mapping[str, Tensor] = MappingProxyType({})) -> None:
        """Find the slices of the rows; held: where tensors are not stepped, bool [*shape].

        all: every row with its slice, which an element moves; parts: those of what is stepped, which a tangent has.
        """
        self.all = tuple((row, row.slice(shapes[row.slot], self.copies, self.size)) for row in self.rows)
        none = torch.zeros(1, dtype=torch.bool, device="cpu")
        marks = {slot: mark.unsqueeze(0) for slot, mark in held.items()}
        seen = [cut(marks, part) if part.slot in marks else none for _, part in self.all]
        self.parts = tuple(pair for pair, mark in zip(self.all, seen) if not bool(mark.any()))
        self.slices = tuple(part for _, part in self.parts)

    @property
    def slots(self) -> tuple[str, ...]:
        """The tensors that it moves."""
        return tuple(dict.fromkeys(row.slot for row in self.rows))

    @property
    def powers(self) -> tuple[float, ...]:
        """The powers of its scale by which parameters and gradients are multiplied."""
        return tuple(sorted({sign * row.power for row in self.rows for sign in (1, -1)}, reverse=True))

    def act(self, point: Tensors, element: Tensor) -> None:
        """Move the slices by an element, in place."""
        raise NotImplementedError

    def lift(self, values: Tensors, point: Tensors, a: Tensor, alpha: float) -> None:
        """Add alpha times the tangent vector at point that the coefficient names, in place."""
        raise NotImplementedError

    def covertical(self, update: Tensors, point: Tensors, products: Tensors, room: Tensors | None = None) -> Tensor:
        """The transpose of `lift`; products: of update and point, room: tensors like those, to be written over."""
        raise NotImplementedError

    def gram(self, point: Tensors, squares: Tensors) -> Tensor:
        """Inner products of the tangents with one another: a diagonal, or what `sylvester` asks for."""
        raise NotImplementedError

    def nearest(self, target: Tensors, point: Tensors, parts: Sequence[Slice] | None = None) -> Tensor:
        """The element that brings the slices of point nearest to those of target; of compact groups only.

        parts: which slices count, all where none are given.
        """
        raise NotImplementedError

    def sharpened(self, target: Tensors, point: Tensors, element: Tensor) -> Tensor:
        """What `nearest` gave, of all slices, to the last digits."""
        return element

    def solve(self, right: Tensor, gram: Tensor | None, tolerance: float) -> Tensor:
        """The coefficient from its right hand side where no other gauge meets this one in the Gram matrix."""
        raise NotImplementedError

    def block(self, gram: Tensor | None) -> tuple[Any, Any]:
        """The diagonal block of the Gram matrix and its inverse, as functions of a coefficient in float64."""
        raise NotImplementedError


def _signed(terms: Sequence[tuple[float, Tensor]]) -> Tensor:
    """The sum of weighted terms, from the first on."""
    out: Tensor | None = None
    for weight, term in terms:
        size = term if abs(weight) == 1 else abs(weight) * term
        if out is None:
            out = -size if weight < 0 else size
        else:
            out = out - size if weight < 0 else out + size
    assert out is not None
    return out


class _Diagonal(Action):
    """Groups whose tangents have different supports for every entry of the coefficient: the Gram block is diagonal."""

    diagonal = True

    def solve(self, right: Tensor, gram: Tensor | None, tolerance: float) -> Tensor:
        """right / <X, X>, entry by entry."""
        assert gram is not None
        return right * solvers.inverse(gram)

    def block(self, gram: Tensor | None) -> tuple[Any, Any]:
        """Products with <X, X> and with its inverse."""
        assert gram is not None
        inverse = solvers.inverse(gram)
        return (lambda x: x * gram), (lambda x: x * inverse)

    def gram(self, point: Tensors, squares: Tensors) -> Tensor:
        """<X, X> of every entry."""
        return _signed([(row.square, actions.total(squares, part)) for row, part in self.parts])


class Positive(_Diagonal):
    """Scales c > 0: X -> c**power X.  Their frame is what the `fix` line of the spec asks for."""

    kind = "scale"
    framed = True

    def act(self, point: Tensors, element: Tensor) -> None:
        """X -> c**power X."""
        for row, part in self.all:
            actions.stretch(point, part, raised(element, row.power))

    def lift(self, values: Tensors, point: Tensors, a: Tensor, alpha: float) -> None:
        """power a X."""
        for row, part in self.parts:
            actions.add_scaled(values, point, part, a, row.power * alpha)

    def covertical(self, update: Tensors, point: Tensors, products: Tensors, room: Tensors | None = None) -> Tensor:
        """The sum over rows of power <update, X>."""
        return _signed([(row.power, actions.total(products, part)) for row, part in self.parts])


class Torus(_Diagonal):
    """Angles, one for every rotary pair."""

    kind = "turn"
    mixes = True

    def act(self, point: Tensors, element: Tensor) -> None:
        """Every pair (x, y) -> (x cos a - y sin a, y cos a + x sin a)."""
        for _, part in self.all:
            actions.turn(point, part, element)

    def lift(self, values: Tensors, point: Tensors, a: Tensor, alpha: float) -> None:
        """a (-y, x) on every pair."""
        for part in self.slices:
            actions.add_turn(values, point, part, a, alpha)

    def covertical(self, update: Tensors, point: Tensors, products: Tensors, room: Tensors | None = None) -> Tensor:
        """<update, (-y, x)>."""
        return _signed([(1.0, actions.torque(update, point, part, room)) for part in self.slices])

    def nearest(self, target: Tensors, point: Tensors, parts: Sequence[Slice] | None = None) -> Tensor:
        """The angle of <target, (-y, x)> over <target, (x, y)>, pair by pair."""
        parts = self.slices if parts is None else parts
        across = _signed([(1.0, actions.torque(target, point, part)) for part in parts])
        along = _signed([(1.0, actions.overlap(target, point, part)) for part in parts])
        return torch.atan2(across, along)


class Translation(Action):
    """Shifts: X -> X + power a, constant along what is not its axis."""

    kind = "shift"
    measured = False

    def act(self, point: Tensors, element: Tensor) -> None:
        """X -> X + power a."""
        for row, part in self.all:
            actions.add_constant(point, part, element, row.power)

    def lift(self, values: Tensors, point: Tensors, a: Tensor, alpha: float) -> None:
        """power a, wherever X is."""
        for row, part in self.parts:
            actions.add_constant(values, part, a, row.power * alpha)

    def covertical(self, update: Tensors, point: Tensors, products: Tensors, room: Tensors | None = None) -> Tensor:
        """The sum of the update, by power."""
        return _signed([(row.power, actions.total(update, part)) for row, part in self.parts])

    @property
    def count(self) -> float:
        """The Gram block is this number: how many entries a shift moves, by the squares of the weights."""
        return float(sum(row.square * product(part.rest) for row, part in self.parts))

    def solve(self, right: Tensor, gram: Tensor | None, tolerance: float) -> Tensor:
        """right / count."""
        return right / self.count

    def block(self, gram: Tensor | None) -> tuple[Any, Any]:
        """Products with the count and with its inverse."""
        count = self.count
        return (lambda x: x * count), (lambda x: x / count)


class Orthogonal(Action):
    """Rotations of both determinants: X -> R X along the axis of the element."""

    kind = "rotate"
    mixes = True

    @staticmethod
    def skew(x: Tensor) -> Tensor:
        """The part of a matrix that is a generator."""
        return solvers.skew(x)

    @staticmethod
    def sylvester(gram: Tensor, right: Tensor, tolerance: float) -> Tensor:
        """The generator A with skew(A gram) = right."""
        return solvers.sylvester(gram, right, tolerance)

    @staticmethod
    def factor(gram: Tensor) -> tuple[Tensor, Tensor]:
        """What `solvers.unfactor` asks for."""
        return solvers.factor(gram)

    def act(self, point: Tensors, element: Tensor) -> None:
        """X -> R X."""
        for _, part in self.all:
            actions.rotate(point, part, element)

    def lift(self, values: Tensors, point: Tensors, a: Tensor, alpha: float) -> None:
        """A X, or -A^T X where the row is dual; A is skew."""
        for row, part in self.parts:
            actions.add_rotation(values, point, part, -a.mT if row.dual else a, alpha)

    def covertical(self, update: Tensors, point: Tensors, products: Tensors, room: Tensors | None = None) -> Tensor:
        """skew(update X^T)."""
        terms = []
        for row, part in self.parts:
            moment = actions.moment(update, point, part)
            terms.append((-1.0, moment.mT) if row.dual else (1.0, moment))
        return self.skew(_signed(terms))

    @staticmethod
    def polar(matrix: Tensor) -> Tensor:
        """The element that is nearest to a matrix."""
        return solvers.polar(matrix)

    def nearest(self, target: Tensors, point: Tensors, parts: Sequence[Slice] | None = None) -> Tensor:
        """Procrustes: the element nearest to target point^T; a dual row counts alike, R^-T being R."""
        parts = self.slices if parts is None else parts
        return self.polar(_signed([(1.0, actions.moment(target, point, part)) for part in parts]).double())

    def sharpened(self, target: Tensors, point: Tensors, element: Tensor) -> Tensor:
        """One step by what the element leaves: where numbers are small, the product has lost their digits."""
        turned = {slot: point[slot].clone() for slot in self.slots}
        self.act(turned, element)
        left = {slot: target[slot] - x for slot, x in turned.items()}
        gram = _signed([(1.0, actions.moment(turned, turned, part)) for part in self.slices])
        right = self.skew(_signed([(1.0, actions.moment(left, turned, part)) for part in self.slices]))
        return solvers.cayley(self.sylvester(gram, right, 0.0)) @ element

    def gram(self, point: Tensors, squares: Tensors) -> Tensor:
        """S = X X^T."""
        return _signed([(1.0, actions.moment(point, point, part)) for part in self.slices])

    def solve(self, right: Tensor, gram: Tensor | None, tolerance: float) -> Tensor:
        """The skew A with skew(A S) = right."""
        assert gram is not None
        return self.sylvester(gram, right, tolerance)

    def block(self, gram: Tensor | None) -> tuple[Any, Any]:
        """A -> skew(A S), and its inverse by the eigenvalues of S."""
        assert gram is not None
        whole = gram.double()
        factors = self.factor(whole)
        return (lambda x: self.skew(x @ whole)), (lambda x: solvers.unfactor(factors, x))


class OrthogonalOnes(Orthogonal):
    """Rotations that leave the vector of ones where it is."""

    kind = "rotate ones"

    @staticmethod
    def skew(x: Tensor) -> Tensor:
        """The part of a matrix that is a generator and sends ones to 0."""
        return solvers.skew_ones(x)

    @staticmethod
    def polar(matrix: Tensor) -> Tensor:
        """The element that is nearest to a matrix."""
        return solvers.polar_ones(matrix)

    @staticmethod
    def sylvester(gram: Tensor, right: Tensor, tolerance: float) -> Tensor:
        """Such a generator A with skew(A gram) = right."""
        return solvers.sylvester_ones(gram, right, tolerance)

    @staticmethod
    def factor(gram: Tensor) -> tuple[Tensor, Tensor]:
        """What `solvers.unfactor` asks for."""
        return solvers.factor_ones(gram)


class Invertible(Orthogonal):
    """Invertible matrices: X -> T X, or T^-T X where the row is dual.  Their frame is polar: see `polar`.

    What a frame leaves is a rotation: two canonical points are brought together as those of `Orthogonal` are.
    """

    kind = "matrix"
    framed = True

    def act(self, point: Tensors, element: Tensor) -> None:
        """X -> T X, or T^-T X."""
        for row, part in self.all:
            actions.stretch(point, part, raised(element, row.power))

    def covertical(self, update: Tensors, point: Tensors, products: Tensors, room: Tensors | None = None) -> Tensor:
        """update X^T, less X update^T of dual rows."""
        moments = [(row.power, actions.moment(update, point, part)) for row, part in self.parts]
        return _signed([(power, x if power > 0 else x.mT) for power, x in moments])

    def gram(self, point: Tensors, squares: Tensors) -> Tensor:
        """P = X X^T of the rows that are not dual, and Q of those that are: [batch, copies, 2, size, size]."""
        sides = [
            _signed([(1.0, actions.moment(point, point, part)) for row, part in self.parts if row.dual == dual])
            for dual in (False, True)
        ]
        return torch.stack(sides, 2)

    def solve(self, right: Tensor, gram: Tensor | None, tolerance: float) -> Tensor:
        """The A with A P + Q A = right."""
        assert gram is not None
        return polar.solve(polar.factor(gram.double()), right.double())

    def block(self, gram: Tensor | None) -> tuple[Any, Any]:
        """A -> A P + Q A, and its inverse by the eigenvalues of both."""
        assert gram is not None
        whole = gram.double()
        factors, (p, q) = polar.factor(whole), whole.unbind(2)
        return (lambda x: x @ p + q @ x), (lambda x: polar.solve(factors, x))
