"""The independent check of a gauge: a statement's graph evaluated with numbers, before and after, entry by entry.

Other code than the proof, sharing only the graph: exact fractions where the operators are rational, 60 digits
otherwise.  `sample` draws group elements of both determinants and parameters of both signs at small, different sizes;
the result is called *sampled*, never proved.  `counterexample` looks for the smallest case in which
a refused gauge fails.

What this module does not do: it imports no prover, and it knows no law.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

import mpmath  # type: ignore[import-untyped]

from gaugec.exact import compose, element, identity, simplest
from gaugec.numbers import Evaluation, Table, Value, along, as_float, table_of
from gaugec.tensor import Node, Statement

LEAST = {"orthogonal": 3, "orthogonal_ones": 4, "torus": 4, "positive_pairs": 4, "invertible": 3}
Lower = Callable[[dict[str, int]], Statement]


@dataclass(frozen=True)
class Agreement:
    """The outcome of a check; false where a sample failed or none could be drawn.

    samples: how many were compared.  reason: the first failure, in words.  counterexample: the smallest failing case
    that was found, as text.  sizes: at which sizes.  both: whether every maximum met both of its sides.
    """

    samples: int
    reason: str = ""
    counterexample: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    both: bool = True

    @property
    def agrees(self) -> bool:
        """Whether at least one sample was compared and none failed."""
        return self.samples > 0 and not self.reason

    def __bool__(self) -> bool:
        return self.agrees


# --- comparing -----------------------------------------------------------------------------------------------------
def _length(statement: Statement) -> int:
    return statement.graph[statement.element].shape[0]


def _moved(statement: Statement, leaves: dict[int, Table], by: Table) -> dict[int, Table]:
    """The leaves after one element has acted on all parameters at once."""
    evaluation = Evaluation(statement.graph, {**leaves, statement.element: by})
    new = {statement.params[role]: table_of(evaluation, id) for role, id in statement.actions.items()}
    return {**leaves, **new}


def _differ(a: Value, b: Value) -> bool:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a != b
    x, y = mpmath.mpf(as_float(a)), mpmath.mpf(as_float(b))
    return bool(abs(x - y) > mpmath.mpf(10) ** -40 * (1 + abs(x) + abs(y)))


@dataclass(frozen=True)
class Failure:
    """Where two values of a statement differ: what, at which index, before and after."""

    what: str
    at: tuple[int, ...]
    before: Value
    after: Value


def _compare(what: str, before: Table, after: Table) -> Failure | None:
    for at, value in before.items():
        if _differ(value, after[at]):
            return Failure(what, at, value, after[at])
    return None


def _compare_values(what: str, id: int, before: Evaluation, after: Evaluation) -> Failure | None:
    """Compares a node entry by entry, where both have a value (a root of a negative number has none).

    Raises ValueError where no entry has one.
    """
    node, compared = before.graph[id], 0
    for index in _indices(tuple(mode.size for mode in node.modes)):
        try:
            value, other = before.at(id, index), after.at(id, index)
        except (ZeroDivisionError, ValueError):
            continue
        compared += 1
        if _differ(value, other):
            return Failure(what, along(node, index), value, other)
    if not compared:
        raise ValueError(f"{what} has no value")
    return None


def failure(
    statement: Statement, leaves: dict[int, Table], g: Table, h: Table | None = None
) -> tuple[Failure | None, Evaluation]:
    """The first thing that an element breaks: what is kept, or (with a second element) the law of an action.

    Raises ZeroDivisionError or ValueError where a value has no meaning (a logarithm of a negative number).
    """
    first = Evaluation(statement.graph, leaves)
    moved = _moved(statement, leaves, g)
    second = Evaluation(statement.graph, moved)
    for id in statement.kept:
        name = statement.graph[id].place or statement.name
        found = _compare_values(name, id, first, second)
        if found is not None:
            return found, first
    k = _length(statement)
    still = _moved(statement, leaves, identity(statement.group, k))
    names = {statement.params[role]: role for role in statement.actions}
    for id, role in names.items():
        found = _compare(f"{role} under the identity", leaves[id], still[id])
        if found is not None:
            return found, first
    if h is None:
        return None, first
    twice = _moved(statement, moved, h)
    wrong = None
    for order in ((h, g), (g, h)):
        once = _moved(statement, leaves, compose(statement.group, *order, k))
        found = next(
            (
                f
                for id, role in names.items()
                if (f := _compare(f"{role}, moved by the product and moved twice,", once[id], twice[id]))
            ),
            None,
        )
        if found is None:
            return None, first
        wrong = wrong or found
    return wrong, first


def _leaves(statement: Statement) -> list[Node]:
    return [*statement.graph.leaves("param"), *statement.graph.leaves("input")]


def _indices(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*map(range, shape))


# --- sampling ------------------------------------------------------------------------------------------------------
def sizes_for(lower: Lower, dims: tuple[str, ...]) -> dict[str, int]:
    """A different small size for every dim, large enough that the group shows what it can do."""
    labels = {dim: 202 + 2 * k for k, dim in enumerate(dims)}
    trial = lower(labels)
    joined = {node.sizes[node.bound[0]] for node in trial.graph if node.op == "cat"}
    halved = {dim for dim, label in labels.items() if label in joined}  # an axis made of two halves is even
    if trial.group in ("torus", "positive_pairs"):
        halved.update(trial.group_dims)
    free = list(range(2, 4 + 2 * len(dims) + 2))
    sizes: dict[str, int] = {}
    for dim in sorted(dims, key=lambda dim: (dim not in trial.group_dims, dim not in halved)):  # the sort is stable
        least = LEAST.get(trial.group, 2) if dim in trial.group_dims else 2
        sizes[dim] = next(n for n in free if (n >= 4 and n % 2 == 0 if dim in halved else n >= least))
        free.remove(sizes[dim])
    return sizes


def sample(
    lower: Lower,
    dims: tuple[str, ...],
    group: str = "",
    *,
    refused: bool = False,
    samples: int = 6,
    seed: int = 0,
    seconds: float = 2.0,
) -> Agreement:
    """Compares what is kept before and after, and the law of an action, at `samples` random points.

    `lower(sizes)` gives the statement at sizes for all `dims`.  `refused`: also look for the smallest counterexample.
    At least two samples run; more stop at the time limit.  Never raises: what cannot be evaluated is a reason.
    """
    agreement = _sample(lower, dims, samples, seed, seconds)
    if refused or agreement.reason:
        return replace(agreement, counterexample=counterexample(lower, dims))
    return agreement


def _sample(lower: Lower, dims: tuple[str, ...], samples: int, seed: int, seconds: float) -> Agreement:
    rng = random.Random(seed)
    sizes: dict[str, int] = {}
    sides: dict[int, set[bool]] = {}
    done, until = 0, time.monotonic() + seconds
    try:
        sizes = sizes_for(lower, dims)
        statement = lower(sizes)
        k = _length(statement)
        with mpmath.workdps(60):
            for turn in range(4 * samples):
                if done >= samples and all(len(s) == 2 for s in sides.values()):
                    break
                if done >= 2 and time.monotonic() > until:
                    break
                leaves = {node.id: _random(node, rng) for node in _leaves(statement)}
                g, h = (element(statement.group, k, rng, turn + extra) for extra in (0, 1))
                try:
                    found, evaluation = failure(statement, leaves, g, h if turn < 3 else None)
                except (ZeroDivisionError, ValueError):
                    continue  # a point at which the formula has no value
                done += 1
                for id, seen in evaluation.sides.items():
                    sides.setdefault(id, set()).update(seen)
                if found is not None:
                    return Agreement(done, _sentence(found), sizes=sizes)
    except Exception as error:  # a check that breaks is no agreement
        return Agreement(done, f"cannot be evaluated: {type(error).__name__}: {error}", sizes=sizes)
    both = all(len(s) == 2 for s in sides.values())
    return Agreement(done, "" if done else "no sample could be evaluated", sizes=sizes, both=both)


def _random(node: Node, rng: random.Random) -> Table:
    def draw() -> Fraction:
        return Fraction(rng.choice((-5, -4, -3, -2, -1, 1, 2, 3, 4, 5)), rng.choice((2, 3, 4)))

    return {at: draw() for at in _indices(node.shape)}


def _sentence(found: Failure) -> str:
    at = f"[{', '.join(map(str, found.at))}]" if found.at else ""
    before, after = _apart(found)
    return f"{found.what}{at} is {before}, and {after} after"


def _apart(found: Failure) -> tuple[str, str]:
    """Both values, with as many digits as it takes to tell them apart."""
    for digits in (6, 12, 24, 50):
        both = _shown(found.before, digits), _shown(found.after, digits)
        if both[0] != both[1]:
            break
    return both


# --- counterexamples -----------------------------------------------------------------------------------------------
_LEVELS = ((0, 1, -1), (0, 1, -1, 2), (0, 1, -1, 2, Fraction(1, 2), 3))


def counterexample(lower: Lower, dims: tuple[str, ...], *, tries: int = 400, seconds: float = 0.4) -> str:
    """The smallest concrete case in which the gauge fails, as text; "" where none was found within the limits."""
    start = time.monotonic()
    try:
        with mpmath.workdps(60):
            cases = list(_small(lower, dims))
            # what is kept first: that a map is no action of the group is harder to read
            for law, (statement, sizes) in itertools.product((False, True), cases):
                until = start + (seconds if law else seconds / 2)
                found = _search(statement, sizes, law, max(8, tries // 20), until)
                if found:
                    return found
    except Exception:  # a search that breaks has found nothing
        return ""
    return ""


def _search(statement: Statement, sizes: Mapping[str, int], law: bool, turns: int, until: float) -> str:
    rng = random.Random(0)
    simple = simplest(statement.group, _length(statement))
    for level in _LEVELS:
        for turn in range(turns):
            if time.monotonic() > until:
                return ""
            values = (1,) if turn == 0 else level
            leaves = {
                node.id: {at: Fraction(rng.choice(values)) for at in _indices(node.shape)}
                for node in _leaves(statement)
            }
            g = simple[turn % len(simple)]
            try:
                found, _ = failure(statement, leaves, g, simple[-1] if law else None)
            except (ZeroDivisionError, ValueError):
                continue
            if found is not None:
                return _text(statement, sizes, leaves, g, found)
    return ""


def _small(lower: Lower, dims: tuple[str, ...]) -> Iterator[tuple[Statement, dict[str, int]]]:
    trial = lower(dict.fromkeys(dims, 4))
    halved = any(node.op == "cat" for node in trial.graph)
    for rest, group in ((1, 1), (1, 2), (2, 2), (2, 3), (2, 4)):
        if group % 2 and (halved or trial.group in ("torus", "positive_pairs")):
            continue
        if group < 2 and trial.group == "orthogonal_ones":
            continue
        sizes = {dim: group if dim in trial.group_dims or (halved and rest > 1) else rest for dim in dims}
        try:
            yield lower(sizes), sizes
        except Exception:  # not every formula exists at every size
            continue


def _text(statement: Statement, sizes: Mapping[str, int], leaves: dict[int, Table], g: Table, found: Failure) -> str:
    lines = ["sizes " + ", ".join(f"{dim} = {n}" for dim, n in sizes.items())]
    for node in [
        *statement.graph.leaves("param"),
        statement.graph[statement.element],
        *statement.graph.leaves("input"),
    ]:
        values = g if node.id == statement.element else leaves[node.id]
        lines.append(f"{node.name} = {_nested(values, node.shape)}")
    at = f"[{', '.join(map(str, found.at))}]" if found.at else ""
    before, after = _apart(found)
    lines.append(f"{found.what}{at}: {before} before, {after} after")
    return "\n".join(lines)


def _nested(values: Table, shape: tuple[int, ...], at: tuple[int, ...] = ()) -> str:
    if len(at) == len(shape):
        return _shown(values[at])
    return "[" + ", ".join(_nested(values, shape, (*at, i)) for i in range(shape[len(at)])) + "]"


def _shown(value: Value, digits: int = 6) -> str:
    return str(value) if isinstance(value, Fraction | int) else str(mpmath.nstr(value, digits))
