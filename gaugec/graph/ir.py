"""The tensor graph: the one meaning that formulas and traced models share.

A graph is a tuple of nodes in topological order.  Every node is a function of named integer indices ("einsum normal
form"): views (reshape, permute, expand, slice, select, split, chunk) have vanished into the *index* with which an
operand is read, so a reader of the graph sees only arithmetic.  `Graph` is immutable; `gaugec.graph.builder` makes it.

What this module does not do: it knows no operator's laws, no gauge and no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction


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
        return tuple(variable for _, variable in self.terms)


@dataclass(frozen=True, slots=True)
class Access:
    """Reads one element of node `node`: one `Ix` for each of that node's modes."""

    node: int
    index: tuple[Ix, ...]

    @property
    def variables(self) -> tuple[int, ...]:
        """Every variable that occurs, in order, repeated where it repeats."""
        return tuple(variable for ix in self.index for variable in ix.variables)


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


@dataclass(frozen=True)
class Node:
    """One value.  Its element at `modes` is given by `op`:

    leaf    function is "param", "input", "constant" or "element"; `name` says which; no operands.
    einsum  coefficient[0] * sum over `summed` of the product of all operands.
    add     sum of coefficient[i] * operand[i]  (an operand may lack some of the modes: it is broadcast), plus
            `constant`, a rational number.
    map     function applied pointwise to the operand(s); `attributes` holds its numbers (for "pow": exponent).
    along   function applied along the variables `bound`: softmax keeps them among its modes ("softmax", "log_softmax"),
            "max", "min" reduce them away.  For the loss "cross_entropy" operand 0 is the logits (bound over the
            classes), further operands are data that it reads at any index.
    cat     piecewise along the mode with variable `bound[0]`: operand i is the value for
            pieces[i] = (start, length) and is read with that variable counted from `start`.
    opaque  an operation without a row, or a view that indices cannot express; every mode may depend on every element
            of every operand, whose accesses then have an index of fresh variables.

    `sizes[v]` is the length of local variable v (output, summed and bound ones).  `place` says for people where in the
    model or formula the value was made; `source` is the operation's own name there (an ATen name, a spelling); `line`
    is its line of source code, where that is known, and no part of what the node is.
    """

    id: int
    op: str
    modes: tuple[Mode, ...]
    shape: tuple[int, ...]
    operands: tuple[Access, ...] = ()
    sizes: tuple[int, ...] = ()
    summed: tuple[int, ...] = ()
    bound: tuple[int, ...] = ()
    coefficients: tuple[Fraction, ...] = ()
    constant: Fraction = Fraction(0)
    function: str = ""
    attributes: tuple[tuple[str, object], ...] = ()
    pieces: tuple[tuple[int, int], ...] = ()
    name: str = ""
    place: str = ""
    source: str = ""
    line: str = field(default="", compare=False, repr=False)

    def size(self, operand: int, variable: int) -> int:
        """How many values a variable takes where operand `operand` is read (a piece of a cat has its own length)."""
        if self.op == "cat" and variable == self.bound[0]:
            return self.pieces[operand][1]
        return self.sizes[variable]

    def span(self, operand: int, ix: Ix) -> tuple[int, int]:
        """The least and the greatest index that operand `operand` reads with `ix`."""
        ends = [stride * (self.size(operand, variable) - 1) for stride, variable in ix.terms]
        return ix.offset + sum(min(0, end) for end in ends), ix.offset + sum(max(0, end) for end in ends)


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order (node.id is the position), the nodes that leave the model, and symbolic sizes.

    `outputs`: node ids that a caller can see (user outputs and buffers that the forward writes).
    `loss`: the id of the scalar node that is the loss, or None.
    `cuts`: (space, start, length) of slices that were taken, also of those that only served a further slice.
    `symbolic`: True for a formula, whose sizes are labels: a proof must not use their values.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...] = ()
    buffers: tuple[int, ...] = ()
    symbolic: bool = False
    cuts: tuple[tuple[int, int, int], ...] = ()
    users_: dict[int, tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)

    def __getitem__(self, id: int) -> Node:
        return self.nodes[id]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    @property
    def users(self) -> dict[int, tuple[int, ...]]:
        """For every node id the ids of the nodes that read it, in order, without repeats."""
        if not self.users_ and self.nodes:
            found: dict[int, list[int]] = {node.id: [] for node in self.nodes}
            for node in self.nodes:
                for id in dict.fromkeys(access.node for access in node.operands):
                    found[id].append(node.id)
            self.users_.update({id: tuple(list_) for id, list_ in found.items()})
        return self.users_

    def leaves(self, function: str) -> tuple[Node, ...]:
        """The leaves of one kind, in order."""
        return tuple(node for node in self.nodes if node.op == "leaf" and node.function == function)








