"""What travels from matching to codegen: sites, every binding in one canonical form, their equations, refusals.

A binding is brought to three axes [C, K, M] = copies, group axis, the rest, by strides on the contiguous parameter.
Each of the C copies has its own element of the group.  A movement is chart⁻¹ ∘ representation ∘ chart: what a chart
reads is held, for in its coordinates the function does not see it.  Shared data: no function of a stage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

from gaugec.errors import Span
from gaugec.operators import Term

Axes = tuple[tuple[int, int], ...]  # (size, stride) in elements, row-major


@dataclass(frozen=True)
class Move:
    """What an element does to one binding X[c, k, m], in the coordinates of its chart.

    kind: "scale": X -> s[c, k]**exponent * X; "rotate": X[c] -> R[c] X; "shift": X -> X + exponent * a[c, m], constant
    along k; "still": X -> X, so that all that moves it is its chart.
    exponent: of a scale; of a shift its coefficient.
    dual: of a rotation: X[c] -> R[c]^{-T} X (the same for orthogonal groups).
    """

    kind: str
    exponent: Fraction = Fraction(1)
    dual: bool = False


@dataclass(frozen=True)
class Tangent:
    """The derivative at the identity of what an element does to one binding.

    kind: "scale": weight * a * X; "matrix": A X, or -A^T X when dual; "plane": a * (-x2, x1) on every pair;
    "shift": weight * a; "still": 0.
    pull: the power of the scale that brings a gradient to canonical coordinates.
    """

    kind: str
    weight: Fraction
    dual: bool
    pull: Fraction


@dataclass(frozen=True)
class Equation:
    """One `fix` line, left == right: the equation of the representative.

    left, right: Terms over ("norm", role), the norms of the roles along the axis of the group: what a scale multiplies.
    text: the line as a person would write it.  span: where it was written.
    """

    left: Term
    right: Term
    text: str
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Factor:
    """What a chart multiplies a binding by: X^ = X * (g + shift_by) ** power.

    parameter, offset: where g stands.  axes: (size, stride in X, stride in g), every axis of X along which g varies;
    along all others it is constant.
    """

    parameter: str
    offset: int
    axes: tuple[tuple[int, int, int], ...]
    power: Fraction = Fraction(1)
    shift_by: float = 0.0


@dataclass(frozen=True)
class Summand:
    """What a chart adds to a binding: X^ = X + coefficient * (the sum over `summed` of W * b).

    weight, weight_offset: where W stands; "" for W = 1.  bias, bias_offset: where b stands.  offset: where in X that
    is added.
    kept: (size, stride in X, stride in W, stride in b), the axes of the binding; summed: (size, stride in W, in b).
    A stride of 0: constant along that axis.
    """

    weight: str
    weight_offset: int
    bias: str
    bias_offset: int
    kept: tuple[tuple[int, int, int, int], ...]
    summed: tuple[tuple[int, int, int], ...] = ()
    coefficient: Fraction = Fraction(1)
    offset: int = 0


@dataclass(frozen=True)
class Chart:
    """The coordinates in which a binding moves by constant coefficients: X^ = X * factors, or X + summands."""

    factors: tuple[Factor, ...] = ()
    summands: tuple[Summand, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """The parameters that are held because the chart reads them: gains, and biases that are summed."""
        return (*(f.parameter for f in self.factors), *(s.bias for s in self.summands))

    def __bool__(self) -> bool:
        return bool(self.factors or self.summands)


@dataclass(frozen=True)
class Binding:
    """One moved slice of a parameter.

    role: the formula's parameter name (for docs only).
    parameter: canonical name in `model.named_parameters()`.
    offset: where the slice starts, in elements.
    copies, group, rest: axes as (size, stride), row-major; the products of the sizes are C, K and M.
    move: what the element does here.
    shift_by: affine gains: the moved quantity is parameter + shift_by (w -> c(w + 1) - 1 has 1.0).
    chart: the coordinates in which the element does that.
    """

    role: str
    parameter: str
    offset: int
    copies: Axes
    group: Axes
    rest: Axes
    move: Move
    shift_by: float = 0.0
    chart: Chart = Chart()


@dataclass(frozen=True)
class Site:
    """One instance of a gauge.

    gauge, index: the gauge's name and the number of the site among its sites.
    group: row name in groups.py.
    copies, size: C and K (of a shift a has shape [C, M]).
    pairing: of a group that acts on pairs: "halves" (j, j + r/2) or "interleaved" (2j, 2j + 1); else "".
    rotary: of such a group: how many leading coordinates of K are in pairs; else 0.
    bindings: all moved parameters of the site.
    fix: the spec's equations of the representative.
    outcome: of the proof: "proved" or "approximate".
    place: module path, for people.
    theorem: the gauge's docstring.
    certificate: pairs: the "structure" that was proved (a hash), then every "condition" and every "step" of its proof.
    way: every moved value from its writer to its readers, a line each, for people.
    unchecked: what the site was not checked by, or was in place of it, in words; "" where all checks were made.
    wide: whether it runs through the whole model, as the basis of a residual stream does: it makes no component of
        what it moves.
    """

    gauge: str
    index: int
    group: str
    copies: int
    size: int
    pairing: str
    rotary: int
    bindings: tuple[Binding, ...]
    fix: tuple[Equation, ...]
    outcome: str
    place: str
    theorem: str
    certificate: tuple[tuple[str, str], ...]
    way: tuple[str, ...] = ()
    unchecked: str = ""
    wide: bool = False

    @property
    def verdict(self) -> str:
        """The outcome of the proof, and what was not checked beside it."""
        return f"{self.outcome} ({self.unchecked})" if self.unchecked else self.outcome

    @property
    def held(self) -> tuple[str, ...]:
        """The parameters that charts of its bindings read: they are not stepped."""
        return tuple(dict.fromkeys(name for binding in self.bindings for name in binding.chart.reads))

    @property
    def width(self) -> int:
        """The argument k of its group(k): the length of an element, for a shift what it adds and not along what."""
        shifted = self.bindings[0].move.kind == "shift"
        return math.prod(n for n, _ in self.bindings[0].rest) if shifted else self.size


@dataclass(frozen=True)
class Refusal:
    """A place where a gauge nearly held: falsy.

    parameter: from which the search began, and what else would have moved; parameters: their names alone.
    reason, operation, place: what ended it and where.  outputs: a moved value would have left the model.
    near: some readers of the moved value were found, so that this is a site but for one obstacle.
    tied: a weight that two modules share would have moved.  dead: nothing depends on it, at these inputs.
    axis: which axis of which parameter was followed.  law: what would have to hold.  line: of source code, if known.
    """

    gauge: str
    parameter: str
    reason: str
    operation: str
    place: str
    outputs: bool
    near: bool = True
    parameters: tuple[str, ...] = ()
    note: str = ""
    axis: str = ""
    law: str = ""
    line: str = ""
    tied: bool = False
    dead: bool = False

    def __bool__(self) -> bool:
        return False

    def explained(self) -> str:
        """The refusal with the axis that was followed, the line of source code, and the law that is missing."""
        more = (("followed", self.axis), ("source", self.line), ("missing", self.law))
        return "\n".join([str(self), *(f"  {what}: {text}" for what, text in more if text)])

    def __str__(self) -> str:
        where = " at " + self.operation if self.operation and f"at {self.operation}" not in self.reason else ""
        where += f" in {self.place}" if self.place else ""
        at = f" at {self.parameter}" if self.parameter else ""
        return f"{self.gauge}{at}: {self.reason}{where}{self.note}"
