"""The tensor graph: the one meaning that formulas and traced models share.

A graph is a tuple of nodes in topological order.  Every node is a function of named integer indices ("einsum normal
form"): views (reshape, permute, expand, slice, select, split, chunk) have vanished into the *index* with which an
operand is read, so a reader of the graph sees only arithmetic.  `Graph` is immutable; `gaugec.graph.builder` makes it.

A node is one of eight types.  Each says beside its indices only what makes it one of its type: what it computes
(`own`), which variables it binds (`binds`) and how it reads on paper (`formula`).  What compares is what a node is; its
`source`, its `line` and an opaque node's `reason` are there for people and take no part in equality, hashing or keys.

What this module does not do: it knows no operator's laws, no gauge and no torch, and it does not check what it is given
(see `gaugec.graph.check`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from gaugec.operators import Attributes


@dataclass(frozen=True, slots=True)
class Ix:
    """One index expression: `offset + sum(stride * variable)`; variables are integers local to a node.

    `Ix(0, ((1, v),))` is the plain variable v.  Terms are sorted by descending stride; a constant has no terms.
    """

    offset: int = 0
    terms: tuple[tuple[int, int], ...] = ()

    @property
    def plain(self) -> int | None:
        """The variable, when the index is a bare variable; else None."""
        if self.offset == 0 and len(self.terms) == 1 and self.terms[0][0] == 1:
            return self.terms[0][1]
        return None

    @property
    def variables(self) -> tuple[int, ...]:
        """The variables that occur, in the order of the terms."""
        return tuple([variable for _, variable in self.terms])

    def __str__(self) -> str:
        parts = [f"v{v}" if stride == 1 else f"{stride}*v{v}" for stride, v in self.terms]
        return " + ".join([*parts, str(self.offset)] if self.offset or not parts else parts)


@dataclass(frozen=True, slots=True)
class Access:
    """Reads one element of node `node`: one `Ix` for each of that node's modes."""

    node: int
    index: tuple[Ix, ...]

    @property
    def variables(self) -> tuple[int, ...]:
        """Every variable that occurs, in order, repeated where it repeats."""
        return tuple([variable for ix in self.index for _, variable in ix.terms])

    def __str__(self) -> str:
        return f"%{self.node}[{', '.join(map(str, self.index))}]"


@dataclass(frozen=True, slots=True)
class Mode:
    """One index of a node's output.

    `variable` is its local variable, `size` its length.  `axis` is the axis of the tensor that it is a digit of and
    `stride` its stride in elements within that axis (row-major digits).  `space` is the class of index spaces it
    belongs to: equal numbers mean that some operation paired the two positionally, and *not* that they are one index.
    """

    variable: int
    size: int
    axis: int
    stride: int
    space: int


T = TypeVar("T", bound="Node")


@dataclass(frozen=True, kw_only=True)
class Node:
    """One value: what every type of node has.

    `id` is its position in the graph, `modes` its indices, `shape` its lengths along the tensor's axes, `operands` what
    it reads; `sizes[v]` is the length of local variable v (of a mode, bound by the node, or free in an operand).
    `place` says where in the model or formula the value was made, `source` is the operation's own name there (an ATen
    name, a spelling), `line` its line of source code, where that is known.
    """

    word: ClassVar[str]

    id: int
    modes: tuple[Mode, ...]
    shape: tuple[int, ...]
    operands: tuple[Access, ...] = ()
    sizes: tuple[int, ...] = ()
    place: str = ""
    source: str = field(default="", compare=False)
    line: str = field(default="", compare=False, repr=False)

    @property
    def own(self) -> tuple[object, ...]:
        """What makes the value, beside its type and the indices: what its type adds, but for a name."""
        return tuple(getattr(self, f.name) for f in fields(self)[len(fields(Node)) :] if f.compare and f.name != "name")

    @property
    def binds(self) -> tuple[int, ...]:
        """The variables that the node runs over by itself: summed, acted along, or joined."""
        return ()

    @property
    def title(self) -> str:
        """What people call such a node: its function, where it has one, or the word for its type."""
        return self.word

    @property
    def formula(self) -> str:
        """What the element at `modes` is, on paper."""
        return f"{self.title}({', '.join(map(str, self.operands))})"

    def __str__(self) -> str:
        return f"%{self.id}[{', '.join(f'v{mode.variable} < {mode.size}' for mode in self.modes)}] = {self.formula}"

    def ranges(self, variables: Sequence[int]) -> str:
        """The variables with their sizes, on paper; a variable without one is shown all the same."""
        return ", ".join(f"v{v} < {self.sizes[v] if 0 <= v < len(self.sizes) else '?'}" for v in variables)

    def key(self, operands: Sequence[object]) -> tuple[object, ...]:
        """What the value is where `operands` stand for what is read: nodes of equal keys compute the same.

        Neither the node's number nor its place, its axes' layout or a name is in it.
        """
        modes = tuple((mode.variable, mode.size) for mode in self.modes)
        reads = tuple((operand, access.index) for operand, access in zip(operands, self.operands, strict=True))
        return (self.word, self.own, modes, reads, self.sizes)

    @property
    def identity(self) -> tuple[object, ...]:
        """Everything that compares: the type, and the fields that are not only for people."""
        return (self.word, *(getattr(self, f.name) for f in fields(self) if f.compare))

    def become(self, kind: type[T], **own: Any) -> T:
        """The same value at the same place as a node of another type, with that type's own fields."""
        return kind(**{f.name: getattr(self, f.name) for f in fields(Node)} | own)

    def size(self, operand: int, variable: int) -> int:
        """How many values a variable takes where operand `operand` is read."""
        return self.sizes[variable]

    def span(self, operand: int, ix: Ix) -> tuple[int, int]:
        """The least and the greatest index that operand `operand` reads with `ix`."""
        ends = [stride * (self.size(operand, variable) - 1) for stride, variable in ix.terms]
        return ix.offset + sum(min(0, end) for end in ends), ix.offset + sum(max(0, end) for end in ends)


@dataclass(frozen=True, kw_only=True)
class Leaf(Node):
    """What is given: `kind` is "param", "input", "constant", "element" (of the group) or "delta" (1 on the diagonal).

    `name` is what the model or the spec calls it.  `random`: drawn anew in every forward (a dropout's mask).
    """

    word: ClassVar[str] = "leaf"

    kind: str
    name: str
    random: bool = False

    @property
    def title(self) -> str:
        """Its kind."""
        return self.kind

    @property
    def formula(self) -> str:
        """Such as param w."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, kw_only=True)
class Contraction(Node):
    """coefficient * the sum over `summed` of the product of all operands (without operands: a constant)."""

    word: ClassVar[str] = "einsum"

    summed: tuple[int, ...] = ()
    coefficient: Fraction = Fraction(1)

    @property
    def binds(self) -> tuple[int, ...]:
        """The summed variables."""
        return self.summed

    @property
    def formula(self) -> str:
        """Such as sum over v2 < 4 of %0[v0, v2] * %1[v1, v2]."""
        sums = f"sum over {self.ranges(self.summed)} of " if self.summed else ""
        scale = [str(self.coefficient)] if self.coefficient != 1 or not self.operands else []
        return sums + " * ".join([*scale, *map(str, self.operands)])


@dataclass(frozen=True, kw_only=True)
class Sum(Node):
    """The sum of coefficients[i] * operands[i], plus `constant`; an operand that lacks modes is broadcast."""

    word: ClassVar[str] = "add"

    coefficients: tuple[Fraction, ...] = ()
    constant: Fraction = Fraction(0)

    @property
    def formula(self) -> str:
        """Such as %0[v0] + -1 * %1[v0] + 1."""
        terms = [f"{c} * {a}" if c != 1 else str(a) for c, a in zip(self.coefficients, self.operands)]
        return " + ".join([*terms, str(self.constant)] if self.constant or not terms else terms)


@dataclass(frozen=True, kw_only=True)
class Map(Node):
    """`function` applied to the operands, element by element; `attributes` holds its numbers (of "pow": exponent)."""

    word: ClassVar[str] = "map"

    function: str
    attributes: Attributes = ()

    @property
    def title(self) -> str:
        """The function."""
        return self.function


@dataclass(frozen=True, kw_only=True)
class Along(Node):
    """`function` applied along the variables `bound` of operand 0.

    "softmax", "log_softmax" and "inverse" keep these among the modes; "max" and "min" reduce them away.  The loss
    "cross_entropy" is bound over the classes of its logits, operand 0; further operands are data, read at any index.
    """

    word: ClassVar[str] = "along"

    function: str
    bound: tuple[int, ...]
    attributes: Attributes = ()

    @property
    def binds(self) -> tuple[int, ...]:
        """The variables along which the function acts."""
        return self.bound

    @property
    def title(self) -> str:
        """The function."""
        return self.function

    @property
    def formula(self) -> str:
        """Such as softmax(%0[v0, v1]) along v1 < 4."""
        return f"{super().formula} along {self.ranges(self.bound)}"


@dataclass(frozen=True, kw_only=True)
class Concatenation(Node):
    """Piecewise along the mode of variable `joined`: operand i is the value where pieces[i] = (start, length) says.

    Operand i is read with that variable counted from its start.
    """

    word: ClassVar[str] = "cat"

    joined: int
    pieces: tuple[tuple[int, int], ...]

    @property
    def binds(self) -> tuple[int, ...]:
        """The joined variable."""
        return (self.joined,)

    @property
    def formula(self) -> str:
        """Such as %0[v0] for 0 <= v0 < 2, %1[v0] for 2 <= v0 < 4."""
        parts = (
            f"{access} for {start} <= v{self.joined} < {start + length}"
            for access, (start, length) in zip(self.operands, self.pieces)
        )
        return ", ".join(parts)

    def size(self, operand: int, variable: int) -> int:
        """How many values a variable takes where operand `operand` is read: a piece has its own length."""
        return self.pieces[operand][1] if variable == self.joined else self.sizes[variable]


@dataclass(frozen=True, kw_only=True)
class OneHot(Node):
    """1 where the last axis is at the number that operand 0 holds, else 0: a lookup by index is a sum with it.

    Operand 0 is read at the modes of the other axes.  What the numbers are is not known: they are data.
    """

    word: ClassVar[str] = "one-hot"

    @property
    def rows(self) -> int:
        """How many of the modes, the first ones, say which number is meant; the others are digits of the last axis."""
        return sum(mode.axis < len(self.shape) - 1 for mode in self.modes)


@dataclass(frozen=True, kw_only=True)
class Opaque(Node):
    """Of this value nothing is known: every element may depend on every element of every operand.

    Operands are read at fresh variables.  `reason` says for people what it is, an operation without a row or a view
    that indices cannot express; two opaque nodes are never one value, whatever their reasons.
    """

    word: ClassVar[str] = "opaque"

    reason: str = field(default="", compare=False)

    @property
    def title(self) -> str:
        """The reason."""
        return self.reason or self.word


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order (node.id is the position), the nodes that leave the model, and symbolic sizes.

    `outputs`: node ids that a caller can see; `buffers`: those that the forward writes into a buffer.
    `cuts`: (space, start, length) of slices that were taken, also of those that only served a further slice.
    `symbolic`: True for a formula, whose sizes are labels: a proof must not use their values.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...] = ()
    buffers: tuple[int, ...] = ()
    symbolic: bool = False
    cuts: tuple[tuple[int, int, int], ...] = ()

    def __getitem__(self, id: int) -> Node:
        return self.nodes[id]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def leaf(self, id: int) -> Leaf:
        """The node, which is a leaf; raises TypeError where it is none."""
        node = self.nodes[id]
        if not isinstance(node, Leaf):
            raise TypeError(f"{node} is no leaf")
        return node

    @cached_property
    def users(self) -> dict[int, tuple[int, ...]]:
        """For every node id the ids of the nodes that read it, in order, without repeats."""
        found: dict[int, list[int]] = {node.id: [] for node in self.nodes}
        for node in self.nodes:
            for id in dict.fromkeys(access.node for access in node.operands):
                found[id].append(node.id)
        return {id: tuple(list_) for id, list_ in found.items()}

    @cached_property
    def firsts(self) -> tuple[int, ...]:
        """For every node the first one of the graph that computes the same (leaves and opaque nodes: themselves)."""
        known: dict[object, int] = {}
        firsts: list[int] = []
        for node in self.nodes:
            alone = isinstance(node, Leaf | Opaque)
            key = node.id if alone else node.key([firsts[access.node] for access in node.operands])
            firsts.append(known.setdefault(key, node.id))
        return tuple(firsts)

    @cached_property
    def piecewise(self) -> tuple[bool, ...]:
        """For every node whether its entries are known to be those of others: of the parts that a concatenation joins,
        or of one value that is spread along an axis; or whether it is made of such a node element by element."""
        made: list[bool] = []
        for node in self.nodes:
            passes = isinstance(node, Map | Sum) or (isinstance(node, Contraction) and not node.summed)
            read = {v for a in node.operands for v in a.variables}
            spread = any(mode.variable not in read for mode in node.modes)
            made.append(
                isinstance(node, Concatenation) or (passes and (spread or any(made[a.node] for a in node.operands)))
            )
        return tuple(made)

    def leaves(self, kind: str) -> tuple[Leaf, ...]:
        """The leaves of one kind, in order."""
        return tuple(node for node in self.nodes if isinstance(node, Leaf) and node.kind == kind)
