"""Freezes a `Builder` into an immutable `gaugec.graph.ir.Graph`: digits become modes, views become indices.

Freezing may find that an access needs a digit to be split; it then splits the space and starts again, until nothing
changes.  An access that row-major digits cannot say makes its node opaque: sound, and said in the node's `reason`.

What this module does not do: it changes no meaning and knows no operators.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gaugec import limits
from gaugec.graph.builder import Builder, Lin, RawNode, Ref, spread
from gaugec.graph.check import checked
from gaugec.graph.ir import Access, Along, Concatenation, Contraction, Graph, Ix, Mode, Node
from gaugec.graph.spaces import Inexpressible, Space, Variable, leaves


class _Split(Exception):
    """A space must be split before the graph can be frozen."""

    def __init__(self, space: Space, inner: int) -> None:
        super().__init__()
        self.space, self.inner = space, inner


class _Unroll(Exception):
    """A piece of a joined axis must be joined digit by digit before the graph can be frozen."""

    def __init__(self, node: RawNode, piece: int) -> None:
        super().__init__()
        self.node, self.piece = node, piece


def freeze(
    builder: Builder, outputs: Sequence[Ref], buffers: Sequence[Ref] = (), *, symbolic: bool = False
) -> tuple[Graph, dict[int, int]]:
    """Freezes what the outputs need.

    `buffers` are values that the forward writes back.  Returns the graph and builder node id -> graph node id.
    """
    live = _live(builder, [ref.node for ref in (*outputs, *buffers)])
    while True:
        try:
            graph, numbers = _freeze(builder, live, outputs, buffers, symbolic)
            return checked(graph, "freezing"), numbers
        except _Split as request:
            request.space.split(request.inner)
        except _Unroll as request:
            _unroll(request.node, request.piece)


def _unroll(node: RawNode, piece: int) -> None:
    """Makes as many pieces of one as its outer digits count: a class token joined to 3 x 3 patches is joined to three
    rows of three."""
    start, _, counter = node.pieces[piece]
    assert counter is not None
    *outer, inner = counter.leaves()
    ref = node.operands[piece]
    refs: list[Ref] = []
    for values in itertools.product(*(range(v.size) for v in outer)):
        at = dict(zip(outer, values, strict=True))
        index: list[Lin] = []
        for offset, terms in ref.index:
            flat = [term for stride, v in terms for term in spread(stride, v.leaves())]
            offset += sum(stride * at[v] for stride, v in flat if v in at)
            index.append((offset, tuple((stride, v) for stride, v in flat if v not in at)))
        refs.append(replace(ref, index=tuple(index)))
    size = inner.size
    rows = tuple((start + n * size, size, inner) for n in range(len(refs)))
    node.operands[piece : piece + 1] = refs
    node.pieces = (*node.pieces[:piece], *rows, *node.pieces[piece + 1 :])


def _live(builder: Builder, roots: Sequence[int]) -> list[int]:
    seen: set[int] = set()
    pending = list(roots)
    while pending:
        id = pending.pop()
        if id not in seen:
            seen.add(id)
            pending.extend(ref.node for ref in builder.nodes[id].operands)
    return sorted(seen)


def _freeze(
    builder: Builder, live: list[int], outputs: Sequence[Ref], buffers: Sequence[Ref], symbolic: bool
) -> tuple[Graph, dict[int, int]]:
    numbers = {id: position for position, id in enumerate(live)}
    classes: dict[Space, int] = {}  # numbered as they come, so that a second run gives the same graph
    nodes: list[Node] = []
    for id in live:
        limits.check()
        raw = builder.nodes[id]
        try:
            nodes.append(_Frozen(builder, raw, numbers, numbers[id], classes).node())
        except Inexpressible as error:
            raw.obscure(f"{raw.source} ({error})", [builder.read(ref.node) for ref in raw.operands])
            nodes.append(_Frozen(builder, raw, numbers, numbers[id], classes).node())
    cuts = {(n, start, length) for space, n in classes.items() for start, length, step in space.cuts if step == 1}
    graph = Graph(
        tuple(nodes),
        tuple(numbers[ref.node] for ref in outputs),
        tuple(numbers[ref.node] for ref in buffers),
        symbolic,
        tuple(sorted(cuts)),
    )
    return graph, numbers


class _Frozen:
    """Freezes one node."""

    def __init__(
        self, builder: Builder, raw: RawNode, numbers: dict[int, int], id: int, classes: dict[Space, int]
    ) -> None:
        self.builder, self.raw, self.numbers, self.id, self.classes = builder, raw, numbers, id, classes
        self.local: dict[Variable, int] = {}
        self.sizes: list[int] = []

    def number(self, variable: Variable) -> int:
        if variable not in self.local:
            self.local[variable] = len(self.sizes)
            self.sizes.append(variable.size)
        return self.local[variable]

    def node(self) -> Node:
        raw = self.raw
        modes: list[Mode] = []
        for axis, variables in enumerate(raw.axes):
            stride = 1
            digits: list[Mode] = []
            for variable in reversed(leaves(variables)):
                space = self.classes.setdefault(variable.space.find(), len(self.classes))
                digits.insert(0, Mode(self.number(variable), variable.size, axis, stride, space))
                stride *= variable.size
            modes.extend(digits)
        if len({mode.variable for mode in modes}) != len(modes):
            raise Inexpressible("a diagonal written as an output")
        own = self.bound()
        operands = tuple(self.access(ref) for ref in raw.operands)
        if raw.type is Contraction:  # before the sizes are read: a summed variable may occur in no operand
            own["summed"] = tuple(self.number(v) for v in leaves(raw.bound))
        return raw.type(
            id=self.id,
            modes=tuple(modes),
            shape=raw.shape,
            operands=operands,
            sizes=tuple(self.sizes),
            place=raw.place,
            source=raw.source,
            line=raw.line,
            **own,
            **raw.own,
        )

    def bound(self) -> dict[str, Any]:
        """The fields of the node's type that name the variables along which it acts or joins."""
        if self.raw.type is Along:
            return {"bound": tuple(self.number(v) for v in leaves(self.raw.bound))}
        if self.raw.type is Concatenation:
            pieces, joined = self.pieces()
            return {"pieces": pieces, "joined": joined}
        return {}

    def pieces(self) -> tuple[tuple[tuple[int, int], ...], int]:
        """The pieces in units of the outermost digit of the joined axis; their counters become that digit."""
        digits = leaves(self.raw.bound)
        inner = 1
        for digit in digits[1:]:
            inner *= digit.size
        result: list[tuple[int, int]] = []
        for piece, (start, length, counter) in enumerate(self.raw.pieces):
            if len(digits) == 1 and counter is not None and len(counter.leaves()) > 1:
                self.demand(digits[0].space, counter.leaves()[-1].size, piece)
            if start % inner or length % inner:
                raise Inexpressible("pieces that end inside a digit of the joined axis")
            if counter is not None and inner > 1:
                wanted = [length // inner, *(d.size for d in digits[1:])]
                wanted = [n for n in wanted if n != 1]
                found = [d.size for d in counter.leaves()]
                if found != wanted:
                    self.match(counter, wanted)
            result.append((start // inner, length // inner))
        names = [self.number(digit) for digit in digits]
        for (_, length), (_, _, counter) in zip(result, self.raw.pieces, strict=True):
            if counter is None:
                continue
            mine = names if length > 1 else names[1:]
            for leaf, name in zip(counter.leaves(), mine, strict=True):
                self.local[leaf] = name
        return tuple(result), names[0]

    def demand(self, space: Space, inner: int, piece: int) -> None:
        """Splits the joined axis where a piece is split, or else joins the piece's digits one by one."""
        if any(start % inner or length % inner for start, length, _ in self.raw.pieces):
            raise _Unroll(self.raw, piece)
        raise _Split(space, inner)

    def match(self, counter: Variable, wanted: list[int]) -> None:
        """Splits a piece's counter as the joined axis is split, or gives up."""
        found = counter.leaves()
        for leaf, size in zip(reversed(found), reversed(wanted)):
            if leaf.size == size:
                continue
            if leaf.size > size and leaf.size % size == 0:
                raise _Split(leaf.space, size)
            break
        raise Inexpressible("a piece whose digits are not those of the joined axis")

    def access(self, ref: Ref) -> Access:
        source = self.builder.nodes[ref.node]
        index: list[Ix] = []
        raw_modes = [v for axis in source.axes for v in axis]
        for mode, lin in zip(raw_modes, ref.index, strict=True):
            digits = mode.leaves()
            index.extend(self.digits(lin, [digit.size for digit in digits]))
        return Access(self.numbers[ref.node], tuple(index))

    def digits(self, lin: Lin, sizes: list[int]) -> list[Ix]:
        """One index on a mode as indices on the mode's digits."""
        offset, terms = lin
        flat: list[tuple[int, Variable]] = []
        for stride, variable in terms:
            weight = stride
            for leaf in reversed(variable.leaves()):
                flat.append((weight, leaf))
                weight *= leaf.size
        if len(sizes) == 1:
            return [self.ix(offset, flat)]
        weights = [1]
        for size in reversed(sizes[1:]):
            weights.insert(0, weights[0] * size)
        result: list[Ix] = []
        taken: set[int] = set()
        for weight, size in zip(weights, sizes, strict=True):
            mine: list[tuple[int, Variable]] = []
            top = offset // weight % size
            for position, (stride, leaf) in enumerate(flat):
                if stride < 0:
                    raise Inexpressible("a flipped axis that is split into digits")
                if weight <= stride < weight * size:
                    if stride % weight:
                        raise Inexpressible("an index that does not follow the digits of the axis")
                    if stride * leaf.size > weight * size:
                        if (weight * size) % stride or leaf.size % (weight * size // stride):
                            raise Inexpressible("an index that runs across the digits of the axis")
                        raise _Split(leaf.space, weight * size // stride)
                    mine.append((stride // weight, leaf))
                    taken.add(position)
                    top += stride // weight * (leaf.size - 1)
            if top >= size:
                raise Inexpressible("an index that carries from digit to digit")
            result.append(self.ix(offset // weight % size, mine))
        if len(taken) != len(flat):
            raise Inexpressible("an index that lies outside the axis")
        return result

    def ix(self, offset: int, terms: list[tuple[int, Variable]]) -> Ix:
        ordered = sorted(((stride, self.number(v)) for stride, v in terms), key=lambda t: (-t[0], t[1]))
        return Ix(offset, tuple(ordered))


__all__ = ["freeze"]
