"""The cases that a search for a counterexample looks at: points of a statement, their order, and the steps down it.

Angles of a rotary embedding are angles, targets of a loss are classes, and a dropout's mask is one that it draws.

What this module does not do: it does not ask whether anything fails at a case (see `gaugec.sampling.search`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from gaugec.graph.ir import Along, Concatenation
from gaugec.graph.statement import Statement
from gaugec.groups import GROUPS
from gaugec.operators import BY_NAME
from gaugec.sampling.elements import identity, simplest
from gaugec.sampling.evaluate import Table, Value, inverted
from gaugec.sampling.point import Lower, cost, leaves_of, length

ANGLES = ((1, 0), (0, 1), (-1, 0), (0, -1), (Fraction(3, 5), Fraction(4, 5)))


@dataclass(frozen=True)
class Case:
    """A point: the sizes, the entries of every leaf in the order of `leaves_of`, and one element or two."""

    sizes: Mapping[str, int]
    leaves: tuple[Table, ...]
    g: Table
    h: Table | None = None


@dataclass(frozen=True)
class At:
    """A statement at one choice of sizes: which leaves are special there, and what an evaluation costs."""

    statement: Statement
    angles: Mapping[int, int]  # position of a cosine -> of its sine
    classes: Mapping[int, int]  # id of a loss's targets -> how many classes there are
    masks: frozenset[int]  # positions of dropouts' masks
    price: int
    identity: Table


class Points:
    """The cases of one statement, at every choice of sizes."""

    def __init__(self, lower: Lower, dims: tuple[str, ...]) -> None:
        self.lower, self.dims = lower, dims
        self.known: dict[tuple[int, ...], At | None] = {}
        labels = {dim: 2 * (101 + 2 * k) for k, dim in enumerate(dims)}  # wholes are even, halves are odd
        trial = lower(labels)
        dim_of = {n: dim for dim, n in labels.items()} | {n // 2: dim for dim, n in labels.items()}
        self.axes = [tuple(dim_of[n] for n in node.shape) for node in leaves_of(trial)]
        even = {dim_of[node.sizes[node.joined]] for node in trial.graph if isinstance(node, Concatenation)}
        self.even = even | (set(trial.group_dims) if GROUPS[trial.group].paired else set())
        self.group, self.group_dims = trial.group, trial.group_dims
        self.optional = {trial.params[role] for role in trial.optional}
        self.order = sorted(
            range(len(self.axes)), key=lambda k: (leaves_of(trial)[k].id not in self.optional, k)
        )  # what a model may lack shrinks first

    def at(self, sizes: Mapping[str, int]) -> At | None:
        """The statement at these sizes; None where the formula does not exist."""
        key = tuple(sizes[dim] for dim in self.dims)
        if key not in self.known:
            try:
                self.known[key] = self._made(dict(sizes))
            except Exception:  # not every formula exists at every size
                self.known[key] = None
        return self.known[key]

    def _made(self, sizes: dict[str, int]) -> At:
        statement = self.lower(sizes)
        places = {node.id: k for k, node in enumerate(leaves_of(statement))}
        classes: dict[int, int] = {}
        for node in statement.graph:
            row = BY_NAME.get(node.function) if isinstance(node, Along) else None
            if isinstance(node, Along) and row is not None and row.kind == "loss":
                bound = 1
                for variable in node.bound:
                    bound *= node.sizes[variable]
                for access in node.operands[1:]:
                    classes[access.node] = min(bound, classes.get(access.node, bound))
        return At(
            statement,
            {places[cos]: places[sin] for cos, sin in statement.angles},
            classes,
            frozenset(k for k, node in enumerate(leaves_of(statement)) if node.random),
            2 * cost(statement),
            identity(statement.group, length(statement)),
        )

    # -- smaller ones -----------------------------------------------------------------------------------------
    def size(self, case: Case) -> tuple[Fraction, ...]:
        """The order of cases; see the module."""
        at = self.at(case.sizes)
        assert at is not None
        plain: list[Value] = []
        for k, table in enumerate(case.leaves):
            if k in at.angles:  # the turn by nothing is 1 + 0i
                plain += [value - 1 for value in table.values()]
            elif k in at.masks:
                plain += [value - 1 for value in table.values()]
            else:
                plain += list(table.values())
        for table in (case.g, case.h or at.identity):
            plain += [value - at.identity[i] for i, value in table.items()]
        numbers = [Fraction(value) for value in plain if value != 0]
        heights = sum(abs(x.numerator) + x.denominator - 1 for x in numbers)
        negative = sum(x < 0 for x in numbers)
        return Fraction(sum(case.sizes.values())), Fraction(len(numbers)), Fraction(heights), Fraction(negative)

    def steps(self, case: Case) -> Iterator[Case]:
        """Every case that is one step away: a shorter dim, a simpler element, a simpler entry; not all are smaller."""
        yield from self._fewer(case)
        at = self.at(case.sizes)
        assert at is not None
        for name, table in (("g", case.g), ("h", case.h)):
            if table is not None and not (name == "g" and case.h is None and case.g == at.identity):
                for simpler in self._elements(table, at.identity, length(at.statement)):
                    yield replace(case, g=simpler) if name == "g" else replace(case, h=simpler)
        if case.h is not None and case.h == case.g:
            for simpler in self._elements(case.g, at.identity, length(at.statement)):
                yield replace(case, g=simpler, h=simpler)
        sines = set(at.angles.values())
        for values in ((0,), (1, -1), (2,)):
            for k in self.order:
                if k in sines or k in at.masks:
                    continue
                for i in case.leaves[k]:
                    if k in at.angles:
                        for cos, sin in ANGLES[:4] if values != (0,) else ANGLES[:1]:
                            put = _put(case, k, {i: Fraction(cos)})
                            yield _put(put, at.angles[k], {i: Fraction(sin)})
                    else:
                        yield from (_put(case, k, {i: Fraction(value)}) for value in values)
        for k in sorted(at.masks):
            yield _put(case, k, {i: Fraction(1) for i in case.leaves[k]})

    def _elements(self, table: Table, one: Table, k: int) -> Iterator[Table]:
        """Simpler elements of the group: one entry less, or one of the simplest."""
        group = GROUPS[self.group]
        if group.paired:
            for p in range(k // 2):
                pair = (p, p + k // 2)
                yield {**table, **{at: one[at] for at in table if set(at) <= set(pair)}}
        elif group.element == "vector":
            yield from ({**table, i: one[i]} for i in table)
        elif not group.transpose_inverts:
            for i in table:
                made = {**table, i: one[i]}
                try:
                    inverted(made, k)
                except ZeroDivisionError:
                    continue
                yield made
        yield from simplest(self.group, k)

    def _fewer(self, case: Case) -> Iterator[Case]:
        """The case without one index of one dim (one plane of it, where indices come in pairs)."""
        for dim in reversed(self.dims):
            n = case.sizes[dim]
            paired = dim in self.even
            for i in reversed(range(n // 2 if paired else n)):
                drop = {i, i + n // 2} if paired else {i}
                if len(drop) >= n:
                    continue
                sizes = {**case.sizes, dim: n - len(drop)}
                at = self.at(sizes)
                elements = [self._less(table, drop) if dim in self.group_dims else table for table in (case.g, case.h)]
                if at is None or elements[0] is None or (case.h is not None and elements[1] is None):
                    continue
                leaves = []
                for table, axes, node in zip(case.leaves, self.axes, leaves_of(at.statement)):
                    for axis, own in enumerate(axes):
                        if own == dim:
                            gone = drop if max(table)[axis] == n - 1 else {i}  # a table of angles has half the axis
                            table = _without(table, axis, gone)
                    leaves.append(table)
                    if node.id in at.classes:  # the classes move up
                        leaves[-1] = {
                            j: Fraction(min(max(t - (t > i), 0), at.classes[node.id] - 1)) for j, t in table.items()
                        }
                yield Case(sizes, tuple(leaves), elements[0], elements[1])

    def _less(self, table: Table | None, drop: set[int]) -> Table | None:
        """An element without these indices; None where what is left need not be one."""
        if table is None:
            return None
        if GROUPS[self.group].element == "matrix":
            if any(value != (i == j) for (i, j), value in table.items() if i in drop or j in drop):
                return None
            return _without(_without(table, 0, drop), 1, drop)
        return _without(table, 0, drop)


def _put(case: Case, k: int, entries: Table) -> Case:
    leaves = list(case.leaves)
    leaves[k] = {**leaves[k], **entries}
    return replace(case, leaves=tuple(leaves))


def _without(table: Table, axis: int, drop: set[int]) -> Table:
    """A table without some indices along one axis."""

    def place(at: tuple[int, ...]) -> tuple[int, ...]:
        return (*at[:axis], at[axis] - sum(i < at[axis] for i in drop), *at[axis + 1 :])

    return {place(at): value for at, value in table.items() if at[axis] not in drop}
