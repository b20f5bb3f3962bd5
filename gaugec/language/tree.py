"""The tree of a spec: frozen dataclasses, a span on every node.

The parser builds it, the checker returns it with shapes filled in and names known to be good, and every later stage
only reads it.  Equality compares meaning: spans and shapes do not take part.

Shapes are tuples of dim names; a `_` of the text is a dim of its own, named after its place ("_W0").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from gaugec.errors import Span

Shape = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Node:
    """Anything that was written somewhere.

    span: where; None for a node that no text has.
    marks: the spans of its named parts, in the order that each class tells.
    """

    span: Span | None = field(default=None, compare=False, repr=False)
    marks: tuple[Span, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Expr(Node):
    """An expression; `shape` is () until the checker has filled it in."""

    shape: Shape = field(default=(), compare=False, repr=False)


@dataclass(frozen=True)
class Name(Expr):
    """A name; the argument of `ones` is the name of a dim, every other the name of a value."""

    id: str


@dataclass(frozen=True)
class Number(Expr):
    """An exact number of shape ()."""

    value: Fraction


@dataclass(frozen=True)
class Call(Expr):
    """An operator or function of the language, or one that an `op` line defines.  Marks: the operator's name."""

    op: str
    args: tuple[Expr, ...]
    options: tuple[tuple[str, Fraction], ...] = ()


@dataclass(frozen=True)
class Binary(Expr):
    """`left op right`, op one of + - * / @ **; once checked, the right of ** is a Number.  Marks: the sign."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True)
class Negate(Expr):
    """`-x`."""

    x: Expr


@dataclass(frozen=True)
class Transpose(Expr):
    """`x.T`: the last two axes change places."""

    x: Expr


@dataclass(frozen=True)
class Given(Node):
    """A value that the gauge does not move.  Marks: the dims."""

    name: str
    shape: Shape


@dataclass(frozen=True)
class Param(Node):
    """A parameter; `optional`: a model may lack it (it is zero then); `each`: every reader.  Marks: the dims."""

    name: str
    shape: Shape
    optional: bool = False
    each: bool = False


@dataclass(frozen=True)
class Model(Node):
    """`name = expr`.  Marks: the name."""

    name: str
    expr: Expr


@dataclass(frozen=True)
class Element(Node):
    """`for every name in group(dims)`; the dims are ("1",) for an element of one number.  Marks: all in order."""

    name: str
    group: str
    dims: tuple[str, ...]


@dataclass(frozen=True)
class Action(Node):
    """`param -> expr`.  Marks: the param."""

    param: str
    expr: Expr


@dataclass(frozen=True)
class Fix(Node):
    """`left == right`, the equation of the representative."""

    left: Expr
    right: Expr


@dataclass(frozen=True)
class Operator(Node):
    """`op name(argument) = expr`, a pointwise operator.  Marks: the name, the argument."""

    name: str
    argument: str
    expr: Expr


@dataclass(frozen=True)
class Gauge(Node):
    """One gauge.  `operators` are those `op` lines of the file that it calls.  Marks: the name, the dims, the keeps."""

    name: str
    dims: tuple[str, ...]
    doc: str
    givens: tuple[Given, ...]
    params: tuple[Param, ...]
    models: tuple[Model, ...]
    element: Element
    actions: tuple[Action, ...]
    keeps: tuple[str, ...]
    fixes: tuple[Fix, ...] = ()
    operators: tuple[Operator, ...] = ()


@dataclass(frozen=True)
class Use(Node):
    """`use gauges from source`; source is None for gauges of the same file.  Marks: the gauges, the source."""

    gauges: tuple[str, ...]
    source: str | None
    optional: bool = False
    approximate: bool = False


@dataclass(frozen=True)
class Architecture(Node):
    """The gauges that one family of models has.  Marks: the name."""

    name: str
    doc: str
    uses: tuple[Use, ...]


@dataclass(frozen=True)
class File(Node):
    """What one text holds, checked."""

    gauges: tuple[Gauge, ...]
    operators: tuple[Operator, ...]
    architecture: Architecture | None


@dataclass(frozen=True)
class Entry:
    """A gauge of a spec: whether it must find a site, and whether an approximate invariance is enough."""

    gauge: Gauge
    required: bool = True
    approximate: bool = False


@dataclass(frozen=True)
class Spec:
    """A loaded spec.

    name: the architecture's name, or the file's for a file without one; doc: its docstring.
    entries: its gauges in the order of the text.
    sha256: over every text that the spec was read from, line ends normalised, in order of first use.
    """

    name: str
    doc: str
    entries: tuple[Entry, ...]
    sha256: str
