"""What travels from derive to plan to emit: shared data, no function of a stage."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from gaugec.groups import GROUPS
from gaugec.sites import Chart, Site, Tangent

Axes = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Formula:
    """A scale solved from norms: `text` reads n0, n1, ..., the joint norms of `roles`, in float64 tensor code.

    Of a polar frame, which the runtime solves for, `text` says of which side, and is empty where it is of both.
    """

    roles: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Derivation:
    """What derive found for one structure of a gauge.

    tangents: one for each binding of the site.
    frame: the scale that the `fix` line asks for, or a polar one; None where no frame is needed.
    sided: the scales of the one-sided forms, left == 1 and right == 1; where a cycle of frames has to be broken.
    equation: the `fix` line as text, for people.
    """

    tangents: tuple[Tangent, ...]
    frame: Formula | None
    sided: tuple[Formula | None, Formula | None]
    equation: str


Key = tuple[object, ...]


def structure(site: Site) -> Key:
    """What two sites share when one derivation serves both."""
    return (site.gauge, site.group, site.fix, tuple((binding.role, binding.move) for binding in site.bindings))


@dataclass(frozen=True)
class Derived:
    """Derivations by `structure(site)`."""

    derivations: dict[Key, Derivation]

    def of(self, site: Site) -> Derivation:
        """Return what was derived of a site that derive has seen."""
        return self.derivations[structure(site)]


@dataclass(frozen=True)
class Row:
    """One binding in a component, as the compiled file has it; `group` is the axis of the coefficient.

    What it says is said in the coordinates of the slot's chart.  held: a chart reads the slot, so it is not stepped;
    still: nothing moves there.
    """

    name: str
    role: str
    slot: str
    offset: int
    copies: Axes
    group: Axes
    pair: Axes
    rest: Axes
    power: Fraction
    tangent: Tangent
    shift_by: float
    held: bool = False
    still: bool = False


@dataclass(frozen=True)
class Actor:
    """One gauge in a component: `kind` is the generator of its group; coefficient [batch, copies, size, ...]."""

    name: str
    kind: str
    gauge: str
    group: str
    theorem: str
    verdict: str
    copies: int
    size: int
    equation: str
    rows: tuple[Row, ...]

    @property
    def stepped(self) -> tuple[Row, ...]:
        """The rows of what is stepped."""
        return tuple(row for row in self.rows if not row.held)

    @property
    def keeps_ones(self) -> bool:
        """Whether its generators send the vector of ones to 0."""
        return GROUPS[self.group].keeps_ones

    @property
    def pools(self) -> str:
        """Over what its elements mix squares are averaged: "axis", "pair" or "nothing"."""
        return GROUPS[self.group].pools


@dataclass(frozen=True)
class Solve:
    """One line of a frame: the scale of `actor` from norms, each the joint norm of the named rows."""

    actor: str
    formula: str
    norms: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class FrameStep:
    """Either one closed form, or a cycle: one-sided forms in order, then rounds of the full ones from there."""

    start: tuple[Solve, ...]
    rounds: tuple[Solve, ...] = ()


@dataclass(frozen=True)
class Coupling:
    """A block of the Gram matrix between two gauges: entries of `field` of a slot, by strides.

    field: "square" or "value" of the canonical parameter.
    kept, summed: axes of the field; left, right: offset and axes of the coefficients, aligned with the letters.
    """

    left: str
    right: str
    slot: str
    field: str
    weight: Fraction
    offset: int
    kept: Axes
    summed: Axes
    left_view: tuple[int, Axes, str]
    right_view: tuple[int, Axes, str]
    letters: str


@dataclass(frozen=True)
class Pool:
    """How the squares of a slot are averaged: pieces (offset, ((size, stride, pooled), ...)).

    cover: the pieces cover the slot and are disjoint; else they are averaged over one after the other.
    """

    slot: str
    pieces: tuple[tuple[int, tuple[tuple[int, int, bool], ...]], ...]
    cover: bool


@dataclass(frozen=True)
class Component:
    """Gauges that share parameters, and every place of the model that looks the same.

    slots: slot name and shape; instances: parameter names in the order of the slots; places: one text per instance.
    idle: gauges that move nothing of what is stepped; wide: those that run through the whole model.
    charts: by slot, over slots.  holds: the slots that charts read, which are held, and the gauges that it is for.
    partly: of the slots of which not all is held, what is: (offset, axes).
    gram: "closed" (no couplings), "blocks" or "free" (through the tangents themselves).
    eliminated: gauges that are solved for exactly once the rest is known: no coupling is between two of them.
    cuts: slots that a step may take a number of rows at a time, and the number that it has to be a multiple of.
    """

    slots: tuple[tuple[str, tuple[int, ...]], ...]
    instances: tuple[tuple[str, ...], ...]
    places: tuple[str, ...]
    actors: tuple[Actor, ...]
    frames: tuple[FrameStep, ...]
    couplings: tuple[Coupling, ...]
    eliminated: tuple[str, ...]
    cuts: tuple[tuple[str, int], ...]
    pools: tuple[Pool, ...]
    gram: str
    idle: tuple[Actor, ...] = ()
    wide: tuple[Actor, ...] = ()
    charts: tuple[tuple[str, Chart], ...] = ()
    holds: tuple[tuple[str, tuple[str, ...]], ...] = ()
    partly: tuple[tuple[str, tuple[tuple[int, Axes], ...]], ...] = ()


@dataclass(frozen=True)
class Plan:
    """Everything that emit needs."""

    components: tuple[Component, ...]
