"""A statement at one point: its leaves as numbers, and what one element of the group breaks there.

Three things can break: what is kept, that the identity moves nothing, and that moving twice is moving by the product.
The component check (`gaugec.sampling.sample`) asks at random points, the search for a counterexample at the smallest
ones.

What this module does not do: it draws no points, and it knows neither the prover nor a law.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import prod

import mpmath  # type: ignore[import-untyped]

from gaugec.graph.ir import Concatenation, Contraction, Leaf
from gaugec.graph.statement import Statement
from gaugec.groups import GROUPS
from gaugec.sampling.elements import compose, identity
from gaugec.sampling.evaluate import Evaluation, NoValue, Table, Value, along, as_float, table_of

Lower = Callable[[dict[str, int]], Statement]
ENTRIES = 20_000  # of the largest table of the component check
LONG = 10**12  # a numerator or denominator that is too long to read


@dataclass(frozen=True)
class Failure:
    """Where two values of a statement differ: which law, of what, at which index, and the two values.

    law "kept": before and after the move.  "identity": a parameter before and after the identity has moved it.
    "product": a parameter moved by the product of two elements, and moved twice.  None is no value.
    """

    law: str
    what: str
    at: tuple[int, ...]
    before: Value
    after: Value


def length(statement: Statement) -> int:
    """The length of the axis on which the group acts; 0 where an element is one number."""
    return next(iter(statement.graph[statement.element].shape), 0)


def leaves_of(statement: Statement) -> list[Leaf]:
    """The parameters, then what is given (and the tables of a rotary embedding, and the masks of a dropout)."""
    return [*statement.graph.leaves("param"), *statement.graph.leaves("input")]


def indices(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Every index of a shape, in order."""
    return itertools.product(*map(range, shape))


def cost(statement: Statement) -> int:
    """About how many products one evaluation takes: a measure of effort that is the same on every machine."""
    return sum(prod(node.sizes) for node in statement.graph)


def moved(statement: Statement, leaves: Mapping[int, Table], by: Table) -> dict[int, Table]:
    """The leaves after one element has acted on all parameters at once."""
    evaluation = Evaluation(statement.graph, {**leaves, statement.element: by})
    new = {statement.params[role]: table_of(evaluation, id) for role, id in statement.actions.items()}
    return {**leaves, **new}


def differ(a: Value, b: Value) -> bool:
    """Whether two values differ by more than the sixtieth digit may."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a != b
    x, y = mpmath.mpf(as_float(a)), mpmath.mpf(as_float(b))
    return bool(abs(x - y) > mpmath.mpf(10) ** -40 * (1 + abs(x) + abs(y)))


def _compare(law: str, what: str, before: Table, after: Table) -> Failure | None:
    for at, value in before.items():
        if differ(value, after[at]):
            return Failure(law, what, at, value, after[at])
    return None


def kept_failure(
    statement: Statement, leaves: Mapping[int, Table], g: Table
) -> tuple[Failure | None, Evaluation, Evaluation]:
    """The first kept value that an element changes, with both evaluations.

    Raises ZeroDivisionError or ValueError where a value has no meaning (a logarithm of a negative number).
    """
    first = Evaluation(statement.graph, leaves)
    second = Evaluation(statement.graph, moved(statement, leaves, g))
    for id in statement.kept:
        name = statement.graph[id].place or statement.name
        found = _compare_values(name, id, first, second)
        if found is not None:
            return found, first, second
    return None, first, second


def fails_at(statement: Statement, leaves: Mapping[int, Table], g: Table) -> bool:
    """Whether an element changes a kept value at these leaves; raises as `kept_failure` does."""
    with mpmath.workdps(60):
        return kept_failure(statement, leaves, g)[0] is not None


def _compare_values(what: str, id: int, before: Evaluation, after: Evaluation) -> Failure | None:
    """Compares a node entry by entry: one that has a value on one side alone (a root of a negative number has none)
    differs.

    Raises ValueError where no entry has one, and where one cannot be computed.
    """
    node, compared = before.graph[id], 0
    for index in indices(tuple(mode.size for mode in node.modes)):
        value, other = _value(before, id, index), _value(after, id, index)
        if value is None and other is None:
            continue
        compared += 1
        if value is None or other is None or differ(value, other):
            return Failure("kept", what, along(node, index), value, other)
    if not compared:
        raise ValueError(f"{what} has no value")
    return None


def _value(evaluation: Evaluation, id: int, index: tuple[int, ...]) -> Value | None:
    """An entry of a node, None where it has no value."""
    try:
        return evaluation.at(id, index)
    except (ZeroDivisionError, NoValue):
        return None


def identity_failure(statement: Statement, leaves: Mapping[int, Table]) -> Failure | None:
    """The first parameter that the group's identity changes.  Raises as `kept_failure` does."""
    still = moved(statement, leaves, identity(statement.group, length(statement)))
    for role in statement.actions:
        id = statement.params[role]
        found = _compare("identity", role, leaves[id], still[id])
        if found is not None:
            return found
    return None


def product_failure(
    statement: Statement, leaves: Mapping[int, Table], g: Table, h: Table
) -> tuple[Failure, Failure] | None:
    """What shows that moving by g and then by h is moving neither by hg nor by gh; one failure for each of the two."""
    twice = moved(statement, moved(statement, leaves, g), h)
    wrong: list[Failure] = []
    for order in ((h, g), (g, h)):
        once = moved(statement, leaves, compose(statement.group, *order, length(statement)))
        for role in statement.actions:
            id = statement.params[role]
            found = _compare("product", role, once[id], twice[id])
            if found is not None:
                wrong.append(found)
                break
        else:
            return None
    return wrong[0], wrong[1]


def sizes_for(lower: Lower, dims: tuple[str, ...]) -> dict[str, int]:
    """A different small size for every dim, large enough that the group shows what it can do.

    Where there are so many dims that the tables would become large, sizes repeat: 2 and 3 in turn.
    """
    labels = {dim: 202 + 2 * k for k, dim in enumerate(dims)}
    trial = lower(labels)
    joined = {node.sizes[node.joined] for node in trial.graph if isinstance(node, Concatenation)}
    halved = {dim for dim, label in labels.items() if label in joined}  # an axis made of two halves is even
    if GROUPS[trial.group].paired:
        halved.update(trial.group_dims)
    free = list(range(2, 4 + 2 * len(dims) + 2))
    sizes: dict[str, int] = {}
    order = sorted(dims, key=lambda dim: (dim not in trial.group_dims, dim not in halved))  # the sort is stable
    for dim in order:
        least = GROUPS[trial.group].sizes[0] if dim in trial.group_dims else 2
        sizes[dim] = next(n for n in free if (n >= 4 and n % 2 == 0 if dim in halved else n >= least))
        free.remove(sizes[dim])
    rest = [dim for dim in dims if dim not in trial.group_dims and dim not in halved]
    if _entries(lower(sizes)) <= ENTRIES:
        return sizes
    return {**sizes, **dict.fromkeys(halved - {*trial.group_dims}, 4), **{d: 2 + n % 2 for n, d in enumerate(rest)}}


def _entries(statement: Statement) -> int:
    """How many products the largest value of a statement is made of."""
    return max(
        prod(mode.size for mode in node.modes)
        * prod(node.sizes[v] for v in (node.summed if isinstance(node, Contraction) else ()))
        for node in statement.graph
    )


def digits_apart(a: Value, b: Value) -> tuple[str, str]:
    """Both values as text: six digits, or as many more as it takes to see by how much they differ."""
    if a is None or b is None:
        return shown(a), shown(b)
    with mpmath.workdps(60):
        x, y = as_float(a), as_float(b)
        digits = 6
        while digits < 50 and abs(x - y) * 10 ** (digits - 2) < max(abs(x), abs(y)):
            digits += 1
    return shown(a, digits), shown(b, digits)


def apart(a: Value, b: Value) -> str:
    """By how much two values differ, as text."""
    with mpmath.workdps(60):
        return str(mpmath.nstr(abs(as_float(a) - as_float(b)), 3))


def shown(value: Value, digits: int = 6) -> str:
    """A value as text: a fraction as it is, unless it is a long one; any other with so many digits."""
    if value is None:
        return "no value"
    if isinstance(value, Fraction | int) and max(abs(value.numerator), value.denominator) < LONG:
        return str(value)
    with mpmath.workdps(60):
        return str(mpmath.nstr(as_float(value), digits))
