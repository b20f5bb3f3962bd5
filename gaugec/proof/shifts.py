"""What shifted parameters add to the values of a model, value by value: the matcher's eyes for shifts.

A value that stays is an atom from there on, as is one that no shift reaches; but what is known of such a value is
looked into: that a softmax sums to 1, that what a mean was taken from sums to 0, which gain and which bias stand there.
What is found so is a candidate: it is proved once more, by itself (see `gaugec.proof.prove`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from gaugec import limits
from gaugec.graph.ir import Access, Along, Contraction, Graph, Leaf, Node, Sum
from gaugec.graph.statement import Region
from gaugec.operators import BY_NAME
from gaugec.proof.algebra import Algebra
from gaugec.proof.normal import STILL, Evaluator, at_index
from gaugec.proof.pieces import split
from gaugec.proof.prove import worlds
from gaugec.proof.terms import Index, NeedSplit, Polynomial, Undecided, substituted, variable
from gaugec.proof.theorem import Effort, NotProved

_DEPTH = 8  # how far below what is read its facts are looked for: gain, bias, root, mean, and what they are taken of


@dataclass(frozen=True)
class Constant:
    """A term of a value that parameters alone make: coefficient * the sum over `sizes` of the product of `reads`.

    reads: leaf and where it is read; the variables 0, 1, ... are the modes of the value, those behind them the summed.
    """

    coefficient: Fraction
    reads: tuple[tuple[int, tuple[Index, ...]], ...]
    sizes: tuple[int, ...]


@dataclass
class Closed:
    """The nodes that are atoms: none that was opened, unless it is kept."""

    graph: Graph
    opened: set[int] = field(default_factory=set)
    kept: set[int] = field(default_factory=set)

    def __contains__(self, id: object) -> bool:
        return id in self.kept or (id not in self.opened and not isinstance(self.graph[id], Leaf))  # type: ignore[index]


@dataclass(frozen=True)
class Drift:
    """A changed value as an atom to which a shift has added something: the carrier of a step that was looked at."""

    free: tuple[int, ...]
    added: Polynomial

    def moved(self, algebra: Algebra, own: Polynomial, ixs: tuple[Index, ...], sizes: tuple[int, ...]) -> Polynomial:
        """The moved value at an index."""
        values = dict(zip(self.free, ixs, strict=True))
        return algebra.add((1, algebra.substitute(own, values)), (1, algebra.substitute(self.added, values)))


def sight(graph: Graph, group: str, regions: tuple[Region, ...]) -> Shifts | None:
    """The values where regions are shifted; None where they do not agree on what moves them."""
    try:
        return Shifts(graph, group, regions)
    except (NotProved, Undecided):
        return None


class Shifts:
    """The values of a graph where an element of the group has shifted the regions of its leaves.

    Values have to be asked for in the order of the graph.
    """

    def __init__(self, graph: Graph, group: str, regions: tuple[Region, ...]) -> None:
        self.graph = graph
        self.closed = Closed(graph)
        self.evaluator, self.act, _ = worlds(graph, (), regions, group, frozenset(), ("", 0), Effort())
        self.evaluator.touched(0)  # found once, where nothing is an atom yet: all that a shift could ever reach
        self.evaluator.atoms = self.closed
        self.evaluator.carrying = (self.act.name, STILL.name)
        self.whole = Evaluator(graph, self.evaluator.algebra, self.closed, self.evaluator.moved)  # without steps

    def stays(self, id: int) -> bool:
        """Whether a value is the same after the shift; what is not decided is not."""
        self._open(id)
        evaluator, algebra = self.evaluator, self.evaluator.algebra
        evaluator.root = id
        free = tuple(algebra.fresh(mode.size) for mode in self.graph[id].modes)
        seen = self._seen(id, tuple(map(variable, free)))
        if seen is None:
            return False
        if len(seen) == 1 and seen[0][0] != seen[0][1]:
            evaluator.carried[id] = Drift(free, algebra.minus(*seen[0]))
        return all(after == before for after, before in seen)

    def changed(self, id: int) -> tuple[int, ...]:
        """Which operands of a node are not what they were, as it reads them; what is not decided is one of them."""
        node = self.graph[id]
        self._open(id)
        return tuple(
            n
            for n, access in enumerate(node.operands)
            if self.evaluator.touched(access.node) and not self._same(node, access, n)
        )

    def _same(self, node: Node, access: Access, operand: int) -> bool:
        env = {v: variable(self.evaluator.algebra.fresh(node.size(operand, v))) for v in access.variables}
        return self._agree(access.node, tuple(at_index(ix, env) for ix in access.index))

    def _agree(self, id: int, ixs: tuple[Index, ...]) -> bool:
        """Whether a value is the same at an index."""
        seen = self._seen(id, ixs)
        return seen is not None and all(after == before for after, before in seen)

    def _seen(self, id: int, ixs: tuple[Index, ...]) -> list[tuple[Polynomial, Polynomial]] | None:
        """The value at every part of an index, after and before; None where it is not decided."""
        try:
            with limits.deep():
                return list(self._values(id, ixs))
        except (Undecided, NotProved, RecursionError):
            return None

    def keep(self, id: int) -> None:
        """From here on a value that stays is an atom."""
        self.closed.kept.add(id)

    def constants(self, id: int) -> tuple[Constant, ...]:
        """The terms of a value that parameters alone make; none where it is made of pieces."""
        graph, algebra = self.graph, self.evaluator.algebra
        free = [algebra.fresh(mode.size) for mode in graph[id].modes]
        self.whole.root = id
        try:
            with limits.deep():
                value = self.whole.value(STILL, id, tuple(map(variable, free)))
        except (NeedSplit, Undecided, RecursionError):
            return ()
        own = {algebra.table.get(("node", leaf.id)): leaf.id for leaf in graph.leaves("param")}
        found: list[Constant] = []
        for (factors, bound), coefficient in value.items():
            if factors and all(s in own and e == 1 for s, _, e in factors):
                numbers = {v: n for n, v in enumerate(free)}
                numbers |= {-1 - n: len(free) + n for n in range(len(bound))}
                env = {v: variable(n) for v, n in numbers.items()}
                reads = [(own[s], tuple(substituted(ix, env) for ix in ixs)) for s, ixs, _ in factors]
                found.append(Constant(Fraction(coefficient), tuple(reads), bound))
        return tuple(found)

    def cut(self) -> frozenset[int]:
        """The atoms that what is kept was found from, but for what is kept itself."""
        seen: set[int] = set()
        cut: set[int] = set()
        todo = list(self.closed.kept)
        while todo:
            id = todo.pop()
            if id in seen:
                continue
            seen.add(id)
            node = self.graph[id]
            if id in self.closed.opened:
                todo.extend(access.node for access in node.operands)
            elif node.operands:
                cut.add(id)
        return frozenset(cut)

    def _values(self, id: int, ixs: tuple[Index, ...]) -> Iterator[tuple[Polynomial, Polynomial]]:
        """The value at every part of an index, after and before."""
        algebra = self.evaluator.algebra
        todo = [ixs]
        while todo:
            ixs = todo.pop()
            try:
                after, before = (self.evaluator.value(world, id, ixs) for world in (self.act, STILL))
            except NeedSplit as need:
                if all(v != need.variable for ix in ixs for _, v in ix[1]):
                    raise Undecided("not supported: an axis inside a function is made of pieces") from None
                todo += [
                    tuple(substituted(ix, {need.variable: value}) for ix in ixs) for value, _ in split(algebra, need)
                ]
                continue
            yield after, before

    def _open(self, id: int) -> None:
        """Opens a value that a shift may reach, and what is known of the others that it reads."""
        self.closed.opened.add(id)
        for access in self.graph[id].operands:
            self._look(self.graph[access.node], _DEPTH)

    def _look(self, node: Node, depth: int) -> None:
        if isinstance(node, Leaf) or node.id in self.closed.opened or node.id in self.closed.kept:
            return
        number = all(not self.graph[access.node].operands for access in node.operands)  # a size, or its inverse
        number &= not any(isinstance(self.graph[access.node], Leaf) for access in node.operands)
        sums = isinstance(node, Sum) or (isinstance(node, Contraction) and (not node.summed or len(node.operands) == 1))
        sums |= number
        if node.operands and not sums:
            if isinstance(node, Along) and node.function in BY_NAME and BY_NAME[node.function].unit:
                self.closed.opened.add(node.id)
            return
        if depth:
            self.closed.opened.add(node.id)
            for access in node.operands:
                self._look(self.graph[access.node], depth - 1)


__all__ = ["Constant", "Shifts", "sight"]
