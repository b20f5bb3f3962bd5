"""A gauge as a statement about a graph: its roles, how they are moved, and what must stay."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from gaugec.graph.ir import Graph, Ix


@dataclass(frozen=True)
class Digit:
    """How (a part of) one mode of a parameter takes part in a site.

    `part`: "copy" (each value has its own group element), "group" (the element acts along it), "rest" (bystander).
    A mode may hold several digits: its index is the sum over them of start + step * t, 0 <= t < length.  `order` sorts
    the digits of one part (the same order number means the same digit of the site's element in every binding).
    """

    part: str
    start: int
    length: int
    step: int = 1
    order: int = 0
    mode: int = 0


@dataclass(frozen=True)
class Multiplied:
    """A factor of a chart, x^ = x * (g + shift_by) ** power: the leaf g and where it is read, its variables being x's
    modes."""

    leaf: int
    index: tuple[Ix, ...]
    power: Fraction = Fraction(1)
    shift_by: Fraction = Fraction(0)


@dataclass(frozen=True)
class Summed:
    """A summand of a chart, x^ = x + coefficient * sum of W * b.

    weight: the leaf W, None for 1; bias: the leaf b.  The variables of their indices are x's modes and, from there on,
    those that are summed, whose lengths are `sizes`.
    """

    weight: int | None
    weight_index: tuple[Ix, ...]
    bias: int
    bias_index: tuple[Ix, ...]
    sizes: tuple[int, ...]
    coefficient: Fraction


@dataclass(frozen=True)
class Region:
    """A moved parameter: a sub-box of a leaf, and how the group's element moves it.

    kind "scale":  x -> s[copy, group] ** exponent * x, plus the affine part: the moved quantity is x + shift_by.
    kind "rotate": x -> sum over g' of R[copy; g, g'] x[g'] along the group digits; `dual` uses inv(R) transposed.
    kind "shift":  x -> x + exponent * a[copy, rest], constant along the group digits.
    kind "still":  x -> x.
    x is what the chart makes of the leaf: its product with `factors`, and `summands` added to it.
    """

    leaf: int
    digits: tuple[Digit, ...]
    kind: str
    exponent: Fraction = Fraction(1)
    dual: bool = False
    shift_by: Fraction = Fraction(0)
    factors: tuple[Multiplied, ...] = ()
    summands: tuple[Summed, ...] = ()


@dataclass(frozen=True)
class Statement:
    """A gauge lowered to a graph: what is to be proved.

    `params`: role name -> leaf id.  `actions`: role name -> id of the node that holds the moved parameter (it reads
    the leaf `element` and parameters).  `kept`: ids of the nodes that must not change.  `optional`, `each`: role names.
    `composed`: role name -> node with the action applied twice, first by `element` then by `second`; `product` is the
    node of the group product element*second substituted into the action (used to prove that the action is one).
    `angles`: the leaves (cosine, sine) of every table of a rotary embedding.
    """

    name: str
    graph: Graph
    group: str
    group_dims: tuple[str, ...]
    params: dict[str, int]
    actions: dict[str, int]
    kept: tuple[int, ...]
    element: int
    optional: frozenset[str] = frozenset()
    each: frozenset[str] = frozenset()
    axes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    angles: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Movement:
    """What an action does to one role, classified from its normal form.

    kind "scale": x -> c[axis] ** exponent * x; "rotate": x -> R x along `axis` (`dual`: inv(R) transposed);
    "shift": x -> x + exponent * a, constant along the axes `constant`; "still": x -> x; "general": an action that the
    matcher cannot follow yet.  `shift_by`: the moved quantity is x + shift_by.

    x is what the chart makes of the parameter.  factors: (role, axis, shift_by, power), it is multiplied by the role's
    vector plus shift_by to the power along the axis.  summands: (role of W, role of b), W b is added to it; "": W = 1.
    """

    kind: str
    axis: int = 0
    exponent: Fraction = Fraction(1)
    dual: bool = False
    shift_by: Fraction = Fraction(0)
    constant: tuple[int, ...] = ()
    factors: tuple[tuple[str, int, Fraction, Fraction], ...] = ()
    summands: tuple[tuple[str, str], ...] = ()
