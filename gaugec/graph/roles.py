"""What part every parameter plays in a graph: a matrix between two feature axes, an embedding, a gain, a bias.

By what the graph does with it, never by name.  A parameter that is multiplied with data and summed is a matrix: its
columns are what is summed with the data, its rows what stays, and what stays and runs through the data too (experts,
groups of a convolution) numbers copies of it.  What one tensor holds of several matrices is told apart by what is
done with the rows afterwards (see `gaugec.graph.uses`).

What this module does not do: it knows no gauge (see `gaugec.pipeline.matrices`) and no optimizer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from gaugec.graph.digits import Digits, along, apart, count, factored, merged, numbers, without
from gaugec.graph.ir import Access, Contraction, Graph, Ix, Leaf, Node, OneHot, Opaque, Sum
from gaugec.graph.uses import Usage, passes, put, uses


class Block(NamedTuple):
    """Equal matrices inside a parameter: copies, rows and columns as (size, stride) in elements, from `offset` on."""

    offset: int
    copies: Digits
    rows: Digits
    columns: Digits

    @property
    def entries(self) -> int:
        """How many entries of the parameter it has."""
        return count((*self.copies, *self.rows, *self.columns))


    @property
    def transposed(self) -> Block:
        """The same matrices the other way round: what makes one orthogonal makes the other so."""
        return self._replace(rows=self.columns, columns=self.rows)


Played = tuple[str, tuple[Block, ...]]


@dataclass(frozen=True)
class _Factor:
    """One variable of a read: how many entries it runs over, at which stride, and the space of its axis."""

    variable: int
    size: int
    stride: int
    space: int


@dataclass(frozen=True)
class _Read:
    """One way in which a parameter meets data, at one node.

    kind: "product" with data, "lookup" of rows by number, "gain", "bias", or "other".  box: the first and the last
    index that is read along every mode of the leaf.  data: what it is multiplied with.
    """

    kind: str
    node: int
    start: int = 0
    box: tuple[tuple[int, int], ...] = ()
    copies: tuple[_Factor, ...] = ()
    rows: tuple[_Factor, ...] = ()
    columns: tuple[_Factor, ...] = ()
    data: tuple[int, ...] = ()

    @property
    def entries(self) -> int:
        """How many entries of the parameter are read."""
        return math.prod(factor.size for factor in (*self.copies, *self.rows, *self.columns))


@dataclass(frozen=True)
class _Rows:
    """Rows of one matrix: the first one's offset, the digits of the copies and of the rows, spaces of the copies."""

    start: int
    copies: Digits
    rows: Digits
    spaces: frozenset[int]


def roles(graph: Graph, leaves: Mapping[str, int], names: Iterable[str]) -> dict[str, Played]:
    """The role of every parameter, and the matrices that it holds; docs/certificates.md says what the roles are.

    names: of all parameters.  leaves: the node of every one that the graph has.  The blocks of a parameter hold each of
    its entries once; "gain", "bias", "other" and "unread" have none, nor has what would be a matrix of one row or one
    column.
    """
    found = _Roles(graph).all(leaves)
    return {name: found.get(name, ("unread", ())) for name in names}


def whole(blocks: Sequence[Block], shape: Sequence[int]) -> tuple[Block, ...]:
    """One matrix for each index along the axes with no rows and no columns; none where an axis has both."""
    rows, columns = set[int](), set[int]()
    for block in blocks:
        for part, digits in ((rows, block.rows), (columns, block.columns)):
            found = along(digits, shape)
            if found is None:
                return ()
            part.update(axis for axis, within in enumerate(found) if within)
    copies = set(range(len(shape))) - rows - columns
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    made = Block(0, *(merged((shape[a], strides[a]) for a in part) for part in (copies, rows, columns)))
    return (made,) if not rows & columns and _proper(made) else ()


class _Roles:
    """The roles of one graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.touched, self.given, self.live = _touched(graph), _given(graph), _live(graph)
        weights = [touched and not given for touched, given in zip(self.touched, self.given)]
        self.uses = uses(graph, self.touched, self.given, weights)

    def all(self, leaves: Mapping[str, int]) -> dict[str, Played]:
        """Every parameter's role and blocks."""
        reads = {name: tuple(self.reads(id)) for name, id in leaves.items()}
        kinds = {name: _kind(found) for name, found in reads.items()}
        products = {name: [r for r in reads[name] if r.kind == "product"] for name in leaves}
        rows = {name: [self.rows(read) for read in found] for name, found in products.items()}
        spaces = frozenset(s for found in rows.values() for parts in found for part in parts for s in part.spaces)
        met = {read.node for found in reads.values() for read in found if read.kind in ("product", "lookup")}
        followed = self.reaching(met)
        hidden = {
            name: {factor.space for read in found for factor in read.columns} - {-1}
            for name, found in products.items()
            if kinds[name] == "product" and not self.first(found)
        }
        out: dict[str, Played] = {}
        for name, id in leaves.items():
            kind = kinds[name]
            if kind not in ("product", "lookup"):
                out[name] = kind, ()
                continue
            blocks = self.blocks(id, reads[name], rows[name], spaces)
            if kind == "lookup":
                out[name] = "table", blocks
                continue
            last = not any(followed[read.node] for read in products[name])
            made = {factor.space for read in products[name] for factor in read.rows} if last else set()
            if last and not any(made & columns for other, columns in hidden.items() if other != name):
                out[name] = "head", blocks
            elif self.first(products[name]):
                out[name] = "stem", blocks
            else:
                out[name] = ("matrix", blocks) if blocks else ("other", ())
        return out

    def first(self, found: Sequence[_Read]) -> bool:
        """Does what a parameter is multiplied with depend on no parameter?"""
        return all(not self.touched[id] for read in found for id in read.data)

    def reaching(self, met: set[int]) -> list[bool]:
        """For every node whether what it computes comes to another one of these."""
        reaches = [False] * len(self.graph.nodes)
        for node in reversed(self.graph.nodes):
            if node.id in met or reaches[node.id]:
                for access in node.operands:
                    reaches[access.node] = True
        return reaches

    # --- reads
    def reads(self, id: int) -> Iterator[_Read]:
        """Where a parameter meets data."""
        leaf = self.graph[id]
        yield from self.after(leaf, leaf, tuple(Ix(0, ((1, mode.variable),)) for mode in leaf.modes), True)

    def after(self, leaf: Node, node: Node, index: tuple[Ix, ...], exact: bool) -> Iterator[_Read]:
        """The same from a node on that is the parameter itself, read at `index`; exact: and nothing was added to it."""
        for user in (self.graph[id] for id in self.graph.users[node.id] if self.live[id]):
            for number, access in enumerate(user.operands):
                if access.node == node.id:
                    put_in = {mode.variable: ix for mode, ix in zip(node.modes, access.index)}
                    yield from self.at(leaf, user, number, tuple(put(ix, put_in) for ix in index), exact)

    def at(self, leaf: Node, user: Node, number: int, index: tuple[Ix, ...], exact: bool) -> Iterator[_Read]:
        """What one reader makes of it."""
        others = [access for i, access in enumerate(user.operands) if i != number]
        if isinstance(user, Contraction) and any(_zero(self.graph[other.node]) for other in others):
            return  # nothing comes of it: the state in which a recurrence begins
        weights = any(self.touched[other.node] and not self.given[other.node] for other in others)
        data = [other for other in others if self.given[other.node]]
        if data and isinstance(user, Sum):
            yield _Read("bias", user.id)
        elif data and isinstance(user, Contraction):
            yield from self.product(leaf, user, number, index, data, exact)
        elif not weights and passes(user) and isinstance(user, Sum | Contraction):
            plain = not (isinstance(user, Sum) and (user.constant or others))
            yield from self.after(leaf, user, index, exact and plain)
        else:
            yield _Read("other", user.id)

    def product(
        self,
        leaf: Node,
        user: Contraction,
        number: int,
        index: tuple[Ix, ...],
        data: Sequence[Access],
        exact: bool,
    ) -> Iterator[_Read]:
        """A contraction with data: its variables told apart."""
        within = {v for access in data for v in access.variables}
        beside = {v for i, access in enumerate(user.operands) if i != number for v in access.variables}
        numbered = {v for a in data if isinstance(self.graph[a.node], OneHot) for v in a.variables}
        numbered -= {v for a in data if not isinstance(self.graph[a.node], OneHot) for v in a.variables}
        parts: dict[str, list[_Factor]] = {"rows": [], "columns": [], "copies": [], "picked": [], "lost": []}
        for factor in self.factors(leaf, user, index):
            v = factor.variable
            if v in user.summed:
                part = "picked" if v in numbered else "columns" if v in beside else "lost"
            else:
                part = "copies" if v in within else "rows"
            parts[part].append(factor)
        rows, columns, copies, picked = (tuple(parts[part]) for part in ("rows", "columns", "copies", "picked"))
        places = _element(leaf, index)
        box = tuple(user.span(number, ix) for ix in index)
        read = _Read("product", user.id, places.offset, box, copies, rows, columns, tuple(a.node for a in data))
        if parts["lost"] or not apart((f.size, f.stride) for part in parts.values() for f in part):
            yield _Read("other", user.id)
        elif picked and columns:
            yield replace(read, kind="other")
        elif picked:
            chosen = {factor.variable for factor in picked}
            left = tuple(Ix(ix.offset, tuple(t for t in ix.terms if t[1] not in chosen)) for ix in index)
            again = [replace(r, box=box, copies=(*picked, *r.copies)) for r in self.matrices(leaf, user, left, exact)]
            yield from again or [replace(read, kind="lookup", rows=(*copies, *rows), columns=picked, copies=())]
        elif not rows and not columns:  # by as many numbers as it has, it may be a matrix that is masked
            masked = len(copies) == len(user.modes) > 1
            again = list(self.matrices(leaf, user, index, exact)) if masked else []
            yield from again or [replace(read, kind="gain")]
        else:
            yield read if exact else replace(read, kind="other")

    def matrices(self, leaf: Node, node: Node, index: tuple[Ix, ...], exact: bool) -> Iterator[_Read]:
        """The products with data in which a value that is made of a parameter and of numbers is a matrix."""
        found = self.after(leaf, node, index, exact)
        yield from (read for read in found if read.kind == "product" and read.rows and read.columns)

    def factors(self, leaf: Node, user: Node, index: Sequence[Ix]) -> Iterator[_Factor]:
        """The variables with which a parameter is read; a summed one has the space of what it runs along."""
        spaces = {mode.variable: mode.space for mode in user.modes}
        for access in user.operands:
            for mode, ix in zip(self.graph[access.node].modes, access.index):
                if ix.plain is not None:
                    spaces.setdefault(ix.plain, mode.space)
        for stride, variable in _element(leaf, index).terms:
            if user.sizes[variable] > 1:
                yield _Factor(variable, user.sizes[variable], stride, spaces.get(variable, -1))

    # --- rows
    def rows(self, read: _Read) -> list[_Rows]:
        """The rows of a product, by the matrices that they belong to."""
        modes = self.graph[read.node].modes
        strides = {factor.variable: factor.stride for factor in read.rows}
        by = [strides.get(mode.variable, 0) for mode in modes]
        all_rows = merged((factor.size, factor.stride) for factor in read.rows)
        found = [_Taken.of(use, by) for use in self.uses[read.node]]
        components = _components(found, all_rows) or [(0, all_rows, found)]
        out = []
        for start, digits, taken in components:
            copies, spaces = _copies(taken, digits)
            rest: Digits | None = digits
            for part in copies:
                rest = without(rest, part) if rest else None
            if rest is None or count(rest) < 2:
                copies, rest, spaces = (), digits, frozenset()
            out.append(_Rows(start, copies, rest, spaces))
        return out

    # --- blocks
    def blocks(
        self, id: int, reads: Sequence[_Read], rows: Sequence[Sequence[_Rows]], spaces: frozenset[int]
    ) -> tuple[Block, ...]:
        """The matrices of a parameter, or none where its reads do not agree on them."""
        leaf = self.graph[id]
        products = [read for read in reads if read.kind == "product"]
        found: dict[tuple[tuple[int, int], ...], tuple[Block, ...]] = {}
        for read, parts in zip(products, rows):
            blocks = tuple(_block(read, part, spaces) for part in parts)
            if found.setdefault(read.box, blocks) not in (blocks, tuple(block.transposed for block in blocks)):
                return whole([*found[read.box], *blocks], leaf.shape)
        if not products:
            found = {read.box: (_looked_up(read),) for read in reads}
        together = tuple(block for blocks in found.values() for block in blocks)
        if not _disjoint(list(found)) or sum(block.entries for block in together) != math.prod(leaf.shape):
            return whole(together, leaf.shape)
        return _coalesced(together) if all(_proper(block) for block in together) else ()


@dataclass(frozen=True)
class _Taken:
    """The rows that one use takes: start + the sum of the runs (size, stride, way, space)."""

    start: int
    runs: tuple[tuple[int, int, str, int], ...]
    joined: int

    @classmethod
    def of(cls, use: Usage, by: Sequence[int]) -> _Taken:
        start = sum(stride * first for stride, first in zip(by, use.starts))
        runs = []
        for run in use.runs:
            stride = sum(s * r for s, r in zip(by, run.strides))
            if stride < 0:
                start, stride = start + (run.size - 1) * stride, -stride
            if stride:
                runs.append((run.size, stride, run.way, run.space))
        return cls(start, tuple(runs), use.joined)

    @property
    def digits(self) -> list[tuple[int, int]]:
        return [run[:2] for run in self.runs]


def _components(found: Sequence[_Taken], rows: Digits) -> list[tuple[int, Digits, list[_Taken]]] | None:
    """The rows by uses that overlap, with these uses; None for all rows together."""
    total = count(rows)
    if not found or any(taken.joined < 0 and count(taken.digits) == total and apart(taken.digits) for taken in found):
        return None
    sets: dict[object, set[int]] = {}
    for i, taken in enumerate(found):
        sets.setdefault(taken.joined if taken.joined >= 0 else (i,), set()).update(numbers(taken.start, taken.digits))
    together: list[set[int]] = []
    for each in sets.values():
        touching = [other for other in together if other & each]
        together = [other for other in together if not other & each] + [each.union(*touching)]
    if len(together) < 2 or sum(map(len, together)) != total:
        return None
    out = []
    for each in sorted(together, key=min):
        ordered = sorted(each)
        digits = factored(ordered)
        if digits is None:
            return None
        out.append((ordered[0], digits, [taken for taken in found if taken.start in each]))
    return out


def _copies(found: Sequence[_Taken], digits: Digits) -> tuple[Digits, frozenset[int]]:
    """The digits of rows that number copies (heads), by what products of two values do with them; their spaces."""
    parts: dict[tuple[int, int], None] = {}
    spaces: set[int] = set()
    for taken in found:
        summed = any(way == "summed" for _, _, way, _ in taken.runs)
        for size, stride, way, space in taken.runs:
            if way == "shared" or (way == "kept" and summed):
                parts[size, stride] = None
                spaces.add(space)
    return merged(parts), frozenset(spaces)


def _block(read: _Read, part: _Rows, spaces: frozenset[int]) -> Block:
    headed = [(f.size, f.stride) for f in read.columns if f.space in spaces]
    plain = [(f.size, f.stride) for f in read.columns if f.space not in spaces]
    if count(plain) < 2:
        headed, plain = [], [*headed, *plain]
    copies = [*((f.size, f.stride) for f in read.copies), *part.copies, *headed]
    return Block(read.start + part.start, merged(copies), part.rows, merged(plain))


def _looked_up(read: _Read) -> Block:
    rows, columns = (merged((f.size, f.stride) for f in factors) for factors in (read.rows, read.columns))
    return Block(read.start, (), rows, columns)


def _proper(block: Block) -> bool:
    return count(block.rows) > 1 and count(block.columns) > 1


def _coalesced(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Blocks of one form whose offsets count up evenly, as one with one more digit of copies."""
    alike: dict[tuple[Digits, Digits, Digits], list[int]] = {}
    for block in blocks:
        alike.setdefault(block[1:], []).append(block.offset)
    out = []
    for (copies, rows, columns), offsets in alike.items():
        offsets.sort()
        steps = {b - a for a, b in itertools.pairwise(offsets)}
        if len(steps) == 1:
            out.append(Block(offsets[0], merged([*copies, (len(offsets), min(steps))]), rows, columns))
        else:
            out += [Block(offset, copies, rows, columns) for offset in offsets]
    return tuple(sorted(out))


def _disjoint(boxes: Sequence[tuple[tuple[int, int], ...]]) -> bool:
    """Has no entry a place in two boxes?"""
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            if not any(a[1] < b[0] or b[1] < a[0] for a, b in zip(one, other)):
                return False
    return True


# --- reading a graph -----------------------------------------------------------------------------------------------
def _kind(found: Iterable[_Read]) -> str:
    """What the reads of a parameter agree on; a table that is a matrix elsewhere too is a table."""
    kinds = {read.kind for read in found}
    if kinds == {"lookup", "product"}:
        return "lookup"
    return kinds.pop() if len(kinds) == 1 else "other" if kinds else "unread"


def _touched(graph: Graph) -> list[bool]:
    """For every node whether it depends on a parameter."""
    out: list[bool] = []
    for node in graph:
        out.append((isinstance(node, Leaf) and node.kind == "param") or any(out[a.node] for a in node.operands))
    return out


def _given(graph: Graph) -> list[bool]:
    """For every node whether it is data: an input, a lookup, or of unknown origin, or made of such a value."""
    out: list[bool] = []
    for node in graph:
        own = isinstance(node, OneHot | Opaque) or (isinstance(node, Leaf) and node.kind == "input" and not node.random)
        out.append(own or any(out[access.node] for access in node.operands))
    return out


def _live(graph: Graph) -> list[bool]:
    """For every node whether the model gives it out, or something that is made of it."""
    out = [False] * len(graph.nodes)
    for id in (*graph.outputs, *graph.buffers):
        out[id] = True
    for node in reversed(graph.nodes):
        if out[node.id]:
            for access in node.operands:
                out[access.node] = True
    return out


def _zero(node: Node) -> bool:
    """Is it a zero that the model wrote?"""
    return isinstance(node, Contraction) and not node.operands and not node.coefficient


def _element(leaf: Node, index: Sequence[Ix]) -> Ix:
    """The number of the entry in the contiguous parameter, from an index along every mode of its leaf."""
    strides = [mode.stride * math.prod(leaf.shape[mode.axis + 1 :]) for mode in leaf.modes]
    whole = Ix(0, tuple((stride, number) for number, stride in enumerate(strides)))
    return put(whole, dict(enumerate(index)))


__all__ = ["Block", "Played", "roles", "whole"]
