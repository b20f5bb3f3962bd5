"""The group's element inside a proof: its entries as atoms, the identity, products, and what it does to a region.

One class serves every group.  Orthogonal and invertible elements are atoms R[copies; i, j] (and the inverse); scales
are positive atoms c; shifts are atoms a; turns of planes are written in pair coordinates, C and S with C^2 + S^2 = 1,
where an index that is not known to lie in one half of a pair is split first.

What this module does not do: it compares nothing and proves nothing (see `gaugec.proof.prove`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from math import gcd

from gaugec.graph.statement import Digit, Region, Summed
from gaugec.groups import GROUPS, Group
from gaugec.proof.algebra import Algebra
from gaugec.proof.apply import power
from gaugec.proof.normal import STILL, Evaluator, at_index
from gaugec.proof.pieces import cut_at, summed
from gaugec.proof.terms import (
    Index,
    NeedSplit,
    Polynomial,
    Symbol,
    Undecided,
    index,
    joined,
    number,
    scaled,
    shifted,
    variable,
)


@dataclass(frozen=True)
class Pairing:
    """Which coordinates of the axis form pairs: "halves" (j, j + rotary/2) or "interleaved" (2j, 2j + 1)."""

    style: str
    rotary: int

    def part(self, algebra: Algebra, ix: Index) -> tuple[Index, int] | None:
        """(pair, 0 or 1) of a coordinate, None where it does not rotate; raises `NeedSplit` until that is known."""
        low, high = algebra.span(ix)
        if low >= self.rotary:
            return None
        half = self.rotary // 2
        if high >= self.rotary:
            cuts = (half, self.rotary) if self.style == "halves" else (self.rotary,)
            raise cut_at(algebra, ix, cuts, "the rotary part of an axis")
        if self.style == "halves":
            if high < half:
                return ix, 0
            if low >= half:
                return shifted(ix, -half), 1
            raise cut_at(algebra, ix, (half,), "the halves of a rotary axis")
        odd = [(s, v) for s, v in ix[1] if s % 2]
        if odd:
            size = algebra.sizes[odd[0][1]]
            if algebra.symbolic and size % 2:
                raise Undecided("not supported: interleaved pairs on an axis of odd size")
            raise NeedSplit(odd[0][1], ((0, (size + 1) // 2, 2), (1, size // 2, 2)))
        return index(ix[0] // 2, ((s // 2, v) for s, v in ix[1])), ix[0] % 2

    def other(self, ix: Index, part: int) -> int:
        """What to add to a coordinate to reach the other one of its pair."""
        step = self.rotary // 2 if self.style == "halves" else 1
        return step if part == 0 else -step


@dataclass(frozen=True)
class Element:
    """One element of the group.  `kind`: "free", "identity" or "product" (of `factors`: the left one acts last).

    `extent`: the length of the axis it acts along.  `whole`: an element that acts on pairs is written R or c, not in
    pairs (to classify, or where pairs have been told apart already).
    """

    algebra: Algebra
    group: str
    extent: int
    pairing: Pairing
    tag: str = ""
    kind: str = "free"
    factors: tuple[Element, ...] = ()
    whole: bool = False

    @property
    def row(self) -> Group:
        """The group's row."""
        return GROUPS[self.group]

    @property
    def orthogonal(self) -> bool:
        """Whether the transpose is the inverse (of what is no matrix it is never asked)."""
        return self.row.element == "vector" or self.row.transpose_inverts

    def _symbol(self, part: str) -> int:
        name = {"Ri": "inv(R)"}.get(part, part)
        attributes = (self.orthogonal, self.tag) if part in ("R", "Ri") else ()
        row = Symbol("element", name + self.tag, part, attributes=attributes, extent=self.extent, positive=part == "c")
        return self.algebra.symbol(("element", self.tag, part), row)

    def scale(self, copies: tuple[Index, ...], at: Index, exponent: Fraction) -> Polynomial:
        """c[copies, at] ** exponent; of a pair's scale where the group acts on pairs."""
        if self.row.paired and not self.whole:
            pair = self.pairing.part(self.algebra, at)
            if pair is None:
                return self.algebra.constant(1)
            at = pair[0]
        if self.kind == "identity":
            return self.algebra.constant(1)
        if self.kind == "product":
            return self.algebra.product([replace(f, whole=True).scale(copies, at, exponent) for f in self.factors])
        return self.algebra.atom(self._symbol("c"), (*copies, at), number(exponent))

    def shift(self, at: tuple[Index, ...]) -> Polynomial:
        """a[at]."""
        if self.kind == "identity":
            return {}
        if self.kind == "product":
            return self.algebra.add(*((1, f.shift(at)) for f in self.factors))
        return self.algebra.atom(self._symbol("a"), at)

    def matrix(self, copies: tuple[Index, ...], i: Index, j: Index, *, inverse: bool = False) -> Polynomial:
        """The entry [i, j] of the element or of its inverse."""
        algebra = self.algebra
        if inverse and self.orthogonal:
            return self.matrix(copies, j, i)
        if self.row.paired and not self.whole:
            left, right = self.pairing.part(algebra, i), self.pairing.part(algebra, j)
            if left is None and right is None:
                return algebra.delta(i, j)
            if left is None or right is None:
                return {}
            cosine, sine = self.angle(copies, left[0])
            entry = cosine if left[1] == right[1] else algebra.add((-1 if left[1] == 0 else 1, sine))
            return algebra.product([algebra.delta(left[0], right[0]), entry])
        if self.kind == "identity":
            return algebra.delta(i, j)
        if self.kind == "product":
            first, second = reversed(self.factors) if inverse else self.factors
            middle = algebra.fresh(self.extent)
            at = variable(middle)
            return algebra.product(
                [first.matrix(copies, i, at, inverse=inverse), second.matrix(copies, at, j, inverse=inverse)],
                summed=(middle,),
            )
        return algebra.atom(self._symbol("Ri" if inverse else "R"), (*copies, i, j))

    def angle(self, copies: tuple[Index, ...], pair: Index) -> tuple[Polynomial, Polynomial]:
        """Cosine and sine of the angle of one pair."""
        algebra = self.algebra
        if self.kind == "identity":
            return algebra.constant(1), {}
        if self.kind == "product":
            (c, s), (d, t) = (f.angle(copies, pair) for f in self.factors)
            return (
                algebra.minus(algebra.product([c, d]), algebra.product([s, t])),
                algebra.add((1, algebra.product([s, d])), (1, algebra.product([c, t]))),
            )
        at = (*copies, pair)
        return algebra.atom(self._symbol("C"), at), algebra.atom(self._symbol("S"), at)


def flattened(digits: tuple[Digit, ...], values: tuple[Index, ...], part: str) -> tuple[Index, list[tuple[int, int]]]:
    """The row-major position of the digits of one part, and (mode, stride) of each digit."""
    modes = sorted((m for m, d in enumerate(digits) if d.part == part), key=lambda m: digits[m].order)
    strides: list[tuple[int, int]] = []
    stride = 1
    for m in reversed(modes):
        strides.append((m, stride))
        stride *= digits[m].length
    return joined(scaled(values[m], s) for m, s in strides), strides


def extent(region: Region, part: str) -> int:
    """The product of the lengths of the digits of one part."""
    size = 1
    for digit in region.digits:
        if digit.part == part:
            size *= digit.length
    return size


def located(algebra: Algebra, region: Region, ixs: tuple[Index, ...], name: str) -> tuple[Index, ...] | None:
    """The value of every digit of a region where its leaf is read at an index; None where the index lies outside.

    Raises `NeedSplit` where a variable runs partly inside, `Undecided` where that cannot be split or told.
    """
    values: list[Index | None] = [None] * len(region.digits)
    straddles: NeedSplit | None = None
    for mode, ix in enumerate(ixs):
        mine = [m for m, digit in enumerate(region.digits) if digit.mode == mode]
        digits = [region.digits[m] for m in mine]
        base = sum(d.start for d in digits)
        end = base + sum(d.step * (d.length - 1) for d in digits)
        low, high = algebra.span(ix)
        if high < base or low > end:
            return None
        grid = gcd(*(d.step for d in digits if d.length > 1))
        if grid > 1 and any(s % grid for s, _ in ix[1]):
            raise Undecided(f"not supported: {name} is read across the stride of its slice")
        if grid > 1 and (ix[0] - base) % grid:
            return None
        if low < base or high > end:
            try:
                straddles = cut_at(algebra, ix, (base, end + 1), name)
            except Undecided:
                raise Undecided(f"not supported: {name} is read partly inside and partly outside the slice") from None
            continue
        offset, terms, taken = ix[0] - base, list(ix[1]), 0
        for m in sorted(mine, key=lambda m: -region.digits[m].step):
            d = region.digits[m]
            own = [(s, v) for s, v in terms if len(mine) == 1 or d.step <= s < d.step * d.length]
            first = offset // d.step
            if any(s % d.step for s, _ in own):
                raise Undecided(f"not supported: {name} is read across the digits of its slice")
            value = index(first, ((s // d.step, v) for s, v in own))
            bottom, top = algebra.span(value)
            if bottom < 0 or top >= d.length:
                raise Undecided(f"not supported: {name} is read across the digits of its slice")
            offset -= first * d.step
            taken += len(own)
            values[m] = value
        if offset or taken != len(terms):
            raise Undecided(f"not supported: {name} is read across the digits of its slice")
    if straddles is not None:
        raise straddles
    return tuple(value for value in values if value is not None)


def moved(
    evaluator: Evaluator,
    region: Region,
    element: Element,
    ixs: tuple[Index, ...],
    read: Callable[[tuple[Index, ...]], Polynomial],
    name: str,
    after: Callable[[int, tuple[Index, ...]], Polynomial] | None = None,
) -> Polynomial | None:
    """What the element makes of the region's leaf at an index; None where the index lies outside the region.

    `read` reads the leaf as it was, `after` another one as the element has left it.  Raises `NeedSplit` where a
    variable runs partly inside, `Undecided` where that cannot be split.
    """
    algebra = evaluator.algebra
    at = located(algebra, region, ixs, name)
    if at is None:
        return None
    copies = (flattened(region.digits, at, "copy")[0],)
    group, strides = flattened(region.digits, at, "group")
    if region.kind == "still":
        return _stays(evaluator, region, ixs, read, after)
    if region.summands:
        raise Undecided("not supported: a chart that adds to what moves in it")
    if region.kind == "scale":
        scale = element.scale(copies, group, region.exponent)
        whole = algebra.add((1, read(ixs)), (1, algebra.constant(region.shift_by)))
        return algebra.add((1, algebra.product([scale, whole])), (-1, algebra.constant(region.shift_by)))
    if region.shift_by:
        raise Undecided("not supported: an affine part under a rotation or a shift")
    if region.kind == "shift":
        rest = flattened(region.digits, at, "rest")[0]
        added = algebra.product([element.shift((*copies, rest)), *_factors(evaluator, region, ixs, -1)])
        return algebra.add((1, read(ixs)), (number(region.exponent), added))
    if region.kind != "rotate":
        raise Undecided(f"not supported: a movement of kind {region.kind}")
    if element.row.paired:
        if region.factors:
            raise Undecided("not supported: a chart under a turn of pairs")
        return _turned(algebra, region, element, (ixs, at), read, copies, (group, strides))
    lengths = {m: region.digits[m].length for m, _ in strides}

    def build(where: dict[int, Index]) -> list[Polynomial]:
        there = joined(scaled(where[m], s) for m, s in strides)
        source = list(ixs)
        for mode in {region.digits[m].mode for m in where}:
            parts = [(m, d) for m, d in enumerate(region.digits) if d.mode == mode]
            source[mode] = joined(shifted(scaled(where.get(m, at[m]), d.step), d.start) for m, d in parts)
        chart = [*_factors(evaluator, region, ixs, -1), *_factors(evaluator, region, tuple(source), 1)]
        if region.dual:
            return [element.matrix(copies, there, group, inverse=True), read(tuple(source)), *chart]
        return [element.matrix(copies, group, there), read(tuple(source)), *chart]

    return summed(algebra, lengths, build)


def _factors(evaluator: Evaluator, region: Region, ixs: tuple[Index, ...], sign: int) -> list[Polynomial]:
    """What a chart multiplies by at an index (sign 1), or divides by (-1)."""
    env = dict(enumerate(ixs))
    out: list[Polynomial] = []
    for factor in region.factors:
        assert evaluator.plus.get(factor.leaf, 0) == factor.shift_by  # the leaf's symbol is that of the gain
        own = evaluator.atom(evaluator.graph[factor.leaf], tuple(at_index(ix, env) for ix in factor.index))
        out.append(power(evaluator.algebra, own, sign * factor.power))
    return out


def _stays(
    evaluator: Evaluator,
    region: Region,
    ixs: tuple[Index, ...],
    own: Callable[[tuple[Index, ...]], Polynomial],
    after: Callable[[int, tuple[Index, ...]], Polynomial] | None,
) -> Polynomial:
    """x of which x + W b is the same: x + W b - W' b'."""
    algebra = evaluator.algebra
    out = own(ixs)
    if after is None:
        raise Undecided("not supported: a chart that adds, at a value")

    def still(leaf: int, at: tuple[Index, ...]) -> Polynomial:
        return evaluator.value(STILL, leaf, at)

    for each in region.summands:
        for sign, read in ((1, still), (-1, after)):

            def build(
                where: dict[int, Index],
                each: Summed = each,
                read: Callable[[int, tuple[Index, ...]], Polynomial] = read,
            ) -> list[Polynomial]:
                env = {**dict(enumerate(ixs)), **where}
                pairs = ((each.weight, each.weight_index), (each.bias, each.bias_index))
                return [read(x, tuple(at_index(ix, env) for ix in index)) for x, index in pairs if x is not None]

            sizes = {len(ixs) + n: size for n, size in enumerate(each.sizes)}
            out = algebra.add((1, out), (sign, summed(algebra, sizes, build, number(each.coefficient))))
    return out


def _turned(
    algebra: Algebra,
    region: Region,
    element: Element,
    where: tuple[tuple[Index, ...], tuple[Index, ...]],
    read: Callable[[tuple[Index, ...]], Polynomial],
    copies: tuple[Index, ...],
    group: tuple[Index, list[tuple[int, int]]],
) -> Polynomial:
    """The rotation of one coordinate of a pair: C x0 - S x1, or S x0 + C x1."""
    (ixs, values), (at, strides) = where, group
    pair = element.pairing.part(algebra, at)
    if pair is None:
        return read(ixs)
    by = element.pairing.other(at, pair[1])
    for m, stride in sorted(strides, key=lambda t: -t[1]):
        digit = region.digits[m]
        if by % stride:
            continue
        other = list(ixs)
        other[digit.mode] = shifted(ixs[digit.mode], by // stride * digit.step)
        low, high = algebra.span(shifted(values[m], by // stride))
        if low >= 0 and high < digit.length:
            cosine, sine = element.angle(copies, pair[0])
            return algebra.add(
                (1, algebra.product([cosine, read(ixs)])),
                (-1 if pair[1] == 0 else 1, algebra.product([sine, read(tuple(other))])),
            )
    raise Undecided("not supported: the pairs do not align with the axes of the parameter")
