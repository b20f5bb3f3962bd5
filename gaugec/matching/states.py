"""What the flow of moved values speaks of: digits and where they are, states, outcomes, demands, and what may end it.

A moved value has a `State`: along which of its modes the group acts, and which value of the formula it plays (`tag`).
How a node reads moved operands is said here too (`read`), because every rule begins with it.

What this module does not do: it knows no rule (see `gaugec.matching.flow`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from gaugec.graph.ir import Access, Ix, Node
from gaugec.graph.vectors import Vector

ORDER = "the element acts on the whole axis in one order; a part, a flip or a permutation of it is another axis"
LOOKED_UP = "(c x)[i] = c[i] x[i]: what meets it must be looked up by the same tensor i of indices, along the same axis"
ANOTHER_LOOKUP = "the moved axis is looked up by index, and what it meets is not, or by other indices"
Key = tuple[object, ...]
Gain = tuple[int, Fraction]  # a vector among the parameters, and the number that is added to it
Chart = tuple[tuple[Gain, Fraction], ...]  # gain and power, by gain
Number = tuple[int, ...]  # a digit of the moved axis; (2, 0) and (2, 1) are what (2,) was split into


def charted(chart: Chart, *more: tuple[Gain, Fraction]) -> Chart:
    """The product of powers of gains."""
    powers: dict[Gain, Fraction] = {}
    for gain, power in (*chart, *more):
        powers[gain] = powers.get(gain, Fraction(0)) + power
    return tuple(sorted((gain, power) for gain, power in powers.items() if power))


def inverse(chart: Chart) -> Chart:
    """Its inverse."""
    return tuple((gain, -power) for gain, power in chart)


class Blocked(Exception):
    """The moved value meets something that the gauge cannot pass: the message says what, `law` what would let it."""

    def __init__(self, message: str, node: Node | None = None, law: str = "") -> None:
        super().__init__(message)
        self.node, self.law = node, law
        self.near = self.stray = self.whole = False


class Demote(Exception):
    """A digit of the moved axis cannot be one on which the group acts as a whole."""

    def __init__(self, digit: Number, reason: str, node: Node | None = None, law: str = "") -> None:
        super().__init__(reason)
        self.digit, self.node, self.law = digit, node, law


class Refine(Exception):
    """A digit of the moved axis is read as several: it must be split into `sizes`, outermost first."""

    def __init__(self, digit: Number, sizes: Sequence[int]) -> None:
        super().__init__(f"a digit of the moved axis splits into {list(sizes)}")
        self.digit, self.sizes = digit, tuple(sizes)


@dataclass(frozen=True)
class Extent:
    """Where a digit of the moved axis is in a value: a share of mode `position`, whose index is the sum over the digits
    that it holds of start + step * t, 0 <= t < length."""

    position: int
    start: int
    length: int
    step: int = 1


@dataclass(frozen=True, order=True)
class Spot:
    """Where a node reads a digit: its local `variable` is start + step * t (summed over the digits in it)."""

    variable: int
    start: int = 0
    step: int = 1


@dataclass(frozen=True)
class State:
    """How a value moves.

    digits: digit number -> its place in this value.  tag: the value of the formula that it plays.
    exponent: of a scale.  dual: of a rotation.  zone: inside a rotary embedding that is spelled out.
    lookups: which digit was looked up by which indices, one after the other: entry j moves as entry index[j] did.
    squared: each entry of what moves so, squared by itself: of what turns only their sum along the axis is known.
    chart: it moves as D R D^-1 x, D the product of these gains to powers, along the axis.
    """

    digits: Mapping[Number, Extent]
    tag: object
    exponent: Fraction = Fraction(1)
    dual: bool = False
    zone: bool = False
    lookups: tuple[tuple[Number, int], ...] = ()
    squared: bool = False
    chart: Chart = ()


@dataclass(frozen=True)
class Demand:
    """Operand `operand` of the node must move too: as `partner` in the same step, along `variables`."""

    operand: int
    kind: str
    mine: State
    variables: Mapping[Number, Spot]


@dataclass(frozen=True)
class Outcome:
    """What a node does with moved operands: the state of its value (None: kept), the step it took (None: neutral).

    otherwise: what the step is for a formula that has none of this key, where such a formula lets it pass all the same.
    instead: what must move too for a formula that has not this step and multiplies two moved values.
    """

    state: State | None
    key: Key | None = None
    otherwise: tuple[Key | None, ...] = ()
    instead: Demand | None = None


@dataclass(frozen=True)
class Context:
    """What stays the same during one flow.

    kind: "scale" or "rotate"; shifts pass by other rules (`gaugec.matching.shifts`).
    paired: rotary pairs are allowed to be taken apart and put together.
    keeps_ones: rotations leave the vector of ones, so that sums along their axis are kept.
    group: digits along which the element acts.  copies: digits each value of which has an element of its own.
    depends: node id -> does it depend on any parameter.  noise: nodes that are dropout masks.
    chosen: one-hot node id -> the first node of the same value.  zeros: nodes whose every entry is 0.
    vectors: of every value that can be a gain its parameter, what is added to that, and its length.
    wide: what turns may do so behind gains, and what is joined with it turns too.
    """

    kind: str
    paired: bool
    keeps_ones: bool
    group: frozenset[Number]
    copies: frozenset[Number]
    depends: Mapping[int, bool]
    noise: frozenset[int] = frozenset()
    chosen: Mapping[int, int] = field(default_factory=dict)
    zeros: frozenset[int] = frozenset()
    vectors: Mapping[int, Vector] = field(default_factory=dict)
    wide: bool = False


@dataclass(frozen=True)
class Seen:
    """One operand as the node reads it: digit -> variable; `partial` when it reads a slice of a digit."""

    operand: int
    state: State
    variables: Mapping[Number, Spot]
    partial: bool


def read(node: Node, operand: int, access: Access, state: State, context: Context) -> Seen | None:
    """Reads a moved operand; None when the access misses the moved part.

    Raises:
        Blocked: it reads the moved axis in a way that no rule follows.  Refine: it reads a digit as several.
    """
    by_mode: dict[int, list[Number]] = {}
    for digit, extent in state.digits.items():
        by_mode.setdefault(extent.position, []).append(digit)
    variables: dict[Number, Spot] = {}
    partial = False
    owner: dict[int, int] = {}
    for position, digits in by_mode.items():
        found = _read_mode(node, operand, access.index[position], {d: state.digits[d] for d in digits}, context)
        if found is None:
            return None
        spots, part = found
        partial = partial or part
        for spot in spots.values():
            if owner.setdefault(spot.variable, position) != position:
                raise Blocked("it reads a diagonal of the moved axis", node, "(R x)[i, i] is no function of x[i, i]")
        variables.update(spots)
    return Seen(operand, state, variables, partial)


def _read_mode(
    node: Node, operand: int, ix: Ix, extents: Mapping[Number, Extent], context: Context
) -> tuple[dict[Number, Spot], bool] | None:
    """The digits of one mode as a node reads them, and whether it reads a part of a rotary axis."""
    if len(extents) == len(ix.terms) == 1:  # most reads by far: one digit, from its start to its end
        ((digit, extent),), ((stride, variable),) = extents.items(), ix.terms
        whole = extent.length > 1 and extent.length == node.size(operand, variable)
        if whole and ix.offset == extent.start and stride == extent.step:
            return {digit: Spot(variable)}, False
    low, high = node.span(operand, ix)
    base = sum(e.start for e in extents.values())
    top = base + sum(e.step * (e.length - 1) for e in extents.values())
    grid = math.gcd(*(e.step for e in extents.values() if e.length > 1), *(s for s, _ in ix.terms))
    if high < base or low > top or (grid > 1 and (ix.offset - base) % grid):
        return None
    spots = _in_order(node, operand, ix, base, extents)
    spots = spots if spots is not None else _in_one(ix, low <= base and top <= high, extents)
    if spots is not None:
        return spots, False
    live = {d: e for d, e in extents.items() if e.length > 1}
    if len(live) == 1 and len(ix.terms) > 1 and (context.paired or ix.offset == base):
        ((digit, extent),) = live.items()
        sizes = [node.size(operand, v) for _, v in ix.terms]
        strides = [extent.step * math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
        inner = math.prod(sizes[1:])
        if context.paired and digit in context.group and extent.length % inner == 0:
            sizes[0] = extent.length // inner  # a part of the outermost one may be read
        if math.prod(sizes) == extent.length and strides == [s for s, _ in ix.terms]:
            raise Refine(digit, sizes)
    pieces = _pieces(node, operand, ix, base, live, context) if context.paired else None
    if pieces is not None:
        return pieces, True
    raise Blocked("it reads the moved axis in another order or in part", node, ORDER)


def _in_order(
    node: Node, operand: int, ix: Ix, base: int, extents: Mapping[Number, Extent]
) -> dict[Number, Spot] | None:
    """A read with one variable for every digit, each of its length and stride."""
    live = {d: e for d, e in extents.items() if e.length > 1}
    terms = dict(ix.terms)
    digits = {e.step: (d, e) for d, e in live.items()}
    distinct = len(terms) == len(ix.terms) and len(digits) == len(live)
    if ix.offset != base or not distinct or set(terms) != set(digits):
        return None
    if any(node.size(operand, v) != digits[s][1].length for s, v in ix.terms):
        return None
    return {digits[s][0]: Spot(v) for s, v in ix.terms}


def _in_one(ix: Ix, covers: bool, extents: Mapping[Number, Extent]) -> dict[Number, Spot] | None:
    """A read of the mode itself by one variable, which `covers` all that moves: it holds every digit."""
    if not covers or len(ix.terms) != 1 or ix.terms[0][0] != 1:
        return None
    spots: dict[Number, Spot] = {}
    offset = ix.offset
    for digit, extent in extents.items():
        spots[digit] = Spot(ix.terms[0][1], extent.start - offset, extent.step)
        offset = 0
    return spots


def _pieces(
    node: Node, operand: int, ix: Ix, base: int, live: Mapping[Number, Extent], context: Context
) -> dict[Number, Spot] | None:
    """A read that takes pieces of rotary digits and the others whole; None where it is something else."""
    spots: dict[Number, Spot] = {}
    reach = dict.fromkeys(live, 1)  # of a digit: how far what is read of it goes
    for stride, variable in ix.terms:
        fitting = [d for d, e in live.items() if d not in spots and e.step <= stride < e.step * e.length]
        if len(fitting) != 1 or stride % live[fitting[0]].step:
            return None
        digit, e = fitting[0], live[fitting[0]]
        spots[digit] = Spot(variable)
        reach[digit] = 1 + stride // e.step * (node.size(operand, variable) - 1)
    rest = ix.offset - base
    for digit, e in sorted(live.items(), key=lambda item: -item[1].step):
        start = rest // e.step
        rest -= start * e.step
        if start < 0 or start + reach[digit] > e.length:
            return None
        whole = digit in spots and reach[digit] == e.length == node.size(operand, spots[digit].variable)
        if not whole and digit not in context.group:
            return None
    if rest:
        return None
    for stride, variable in ix.terms:
        ((digit, every),) = ((d, stride // live[d].step) for d, spot in spots.items() if spot.variable == variable)
        if every > 1 and live[digit].length % every == 0:
            raise Refine(digit, (live[digit].length // every, every))
    return spots
