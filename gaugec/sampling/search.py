"""The smallest concrete case in which a gauge fails: sizes, parameters, one element, data, and the two values.

The search goes by size (every dim 1, then the smallest sizes at which a group can show itself) and by values (0, 1 and
-1; then 2; then 1/2 and 3; then any); what it finds is made smaller step by step, until no single step leaves a case
that fails.  Smaller means: a lesser sum of sizes, then fewer entries that are not zero (of an element: not those of
the identity), then smaller numbers, then fewer signs.  What is kept is asked first; then the law of an action.

The effort is counted in products, not in seconds, so that every machine finds the same case.

What this module does not do: it imports no prover, and what it does not find may still exist.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath  # type: ignore[import-untyped]

from gaugec import limits
from gaugec.sampling.cases import ANGLES, At, Case, Points
from gaugec.sampling.counterexample import Counterexample, Part
from gaugec.sampling.elements import compose, element, simplest
from gaugec.sampling.evaluate import Evaluation, Table, as_float, table_of
from gaugec.sampling.point import (
    Failure,
    Lower,
    identity_failure,
    indices,
    kept_failure,
    leaves_of,
    length,
    moved,
    product_failure,
    sizes_for,
)

SEARCH, SHRINK = 80_000, 200_000  # products that a search may take, and that making a case smaller may take
DEAREST = 200_000  # products that one case may take
SAFETY = 20.0  # seconds; only a machine that is far too slow meets it
LEVELS: tuple[tuple[Any, ...], ...] = ((1,), (0, 1, -1), (0, 1, -1, 2), (0, 1, -1, 2, Fraction(1, 2), 3))
TURNS = (1, 12, 12, 12)
LOUD = Fraction(1, 1000)  # a difference that is no eps under a root


@dataclass(frozen=True)
class Search:
    """What a search has found, in how many tries, and whether any of them moved a parameter."""

    found: Counterexample | None
    tries: int
    moves: bool = True


def search(lower: Lower, dims: tuple[str, ...], effort: int = SEARCH, *, shrink: bool = True) -> Search:
    """Looks for the smallest case in which a gauge fails, or with `shrink=False` for any small one.

    `lower(sizes)` gives the statement.  Never raises.
    """
    finder: _Finder | None = None
    try:
        with mpmath.workdps(60):
            finder = _Finder(lower, dims)
            return finder.run(effort, SHRINK if shrink else 0)
    except Exception:  # a search that breaks has found nothing
        return Search(None, finder.tries if finder else 0)


@dataclass(frozen=True)
class _Outcome:
    """What failed at a case, and how plainly."""

    failures: tuple[Failure, ...]
    loud: bool


class _Finder(Points):
    """One search; it counts its tries and its effort."""

    def __init__(self, lower: Lower, dims: tuple[str, ...]) -> None:
        super().__init__(lower, dims)
        self.tries, self.spent, self.moves = 0, 0, False
        self.until = limits.now() + SAFETY

    # -- trying -----------------------------------------------------------------------------------------------
    def run(self, effort: int, shrinking: int) -> Search:
        """Searches in the order that the module tells, then makes smaller."""
        quiet: tuple[Case, _Outcome] | None = None
        for law in ("kept", "action"):
            limit = self.spent + effort
            for case in self._cases(law):
                if self.spent > limit or limits.now() > self.until:
                    break
                outcome = self.outcome(case, law)
                if outcome is None:
                    continue
                if outcome.loud:
                    return self._result(*self.shrunk(case, outcome, law, shrinking))
                quiet = quiet or (case, outcome)
            if quiet is not None:
                return self._result(*self.shrunk(*quiet, law, shrinking))
        return Search(None, self.tries, self.moves)

    def outcome(self, case: Case, law: str) -> _Outcome | None:
        """What fails at this case; None where nothing does, or where the formula has no value."""
        at = self.at(case.sizes)
        if at is None or at.price > DEAREST:
            return None
        self.tries += 1
        self.spent += at.price
        statement = at.statement
        leaves = {node.id: table for node, table in zip(leaves_of(statement), case.leaves)}
        try:
            if law == "kept":
                found, first, second = kept_failure(statement, leaves, case.g)
                if not self.moves:
                    self.moves = any(second.leaves[id] != leaves[id] for id in statement.params.values())
                if found is None or not all(self._classes(at, evaluation) for evaluation in (first, second)):
                    return None
                return _Outcome((found,), _loud(found))
            if case.h is None:
                still = identity_failure(statement, leaves)
                return None if still is None else _Outcome((still,), _loud(still))
            both = product_failure(statement, leaves, case.g, case.h)
            return None if both is None else _Outcome(both, all(map(_loud, both)))
        except (ZeroDivisionError, ValueError):
            return None  # a point at which the formula has no value

    def _classes(self, at: At, evaluation: Evaluation) -> bool:
        """Whether every target of a loss is a class."""
        for id, number in at.classes.items():
            for value in table_of(evaluation, id).values():
                if not (value == int(value) and 0 <= value < number):
                    return False
        return True

    def _cases(self, law: str) -> Iterator[Case]:
        """Cases, small ones first; always the same ones."""
        for sizes in self._sizes():
            at = self.at(sizes)
            if at is None:
                continue
            rng = random.Random(0)
            elements = simplest(self.group, length(at.statement))
            if not elements:
                continue  # a group that has only its identity at this size
            for level, turns in zip(LEVELS, TURNS):
                for turn in range(max(turns, len(elements))):
                    leaves = self._leaves(at, level, rng)
                    g = elements[turn % len(elements)]
                    yield from self._lawful(at, sizes, leaves, g, elements[-1], law)
        sizes = sizes_for(self.lower, self.dims)
        at = self.at(sizes)
        if at is not None:
            rng, k = random.Random(0), length(at.statement)
            values = tuple(Fraction(p, q) for p in (-5, -4, -3, -2, -1, 1, 2, 3, 4, 5) for q in (2, 3, 4))
            for turn in range(4):
                g, h = (element(self.group, k, rng, turn + extra) for extra in (0, 1))
                yield from self._lawful(at, sizes, self._leaves(at, values, rng), g, h, law)

    def _lawful(
        self, at: At, sizes: Mapping[str, int], leaves: tuple[Table, ...], g: Table, h: Table, law: str
    ) -> Iterator[Case]:
        if law == "kept":
            yield Case(sizes, leaves, g)
            return
        yield Case(sizes, leaves, at.identity)
        yield Case(sizes, leaves, g, g)
        if h != g:
            yield Case(sizes, leaves, g, h)

    def _sizes(self) -> Iterator[dict[str, int]]:
        seen: list[dict[str, int]] = []
        for rest, group in ((1, 1), (1, 2), (2, 2), (2, 3), (2, 4)):
            sizes = {dim: group if dim in self.group_dims else rest for dim in self.dims}
            sizes = {dim: n + n % 2 if dim in self.even else n for dim, n in sizes.items()}
            if sizes not in seen:
                seen.append(sizes)
                yield sizes

    def _leaves(self, at: At, values: tuple[Any, ...], rng: random.Random) -> tuple[Table, ...]:
        nodes = leaves_of(at.statement)
        made = [{i: Fraction(rng.choice(values)) for i in indices(node.shape)} for node in nodes]
        for k, node in enumerate(nodes):
            if node.id in at.classes:
                made[k] = {i: Fraction(rng.randrange(at.classes[node.id])) for i in made[k]}
            elif k in at.masks and values != (1,):
                made[k] = {i: Fraction(rng.choice((0, 2))) for i in made[k]}
        for cos, sin in at.angles.items():
            turns = {i: rng.choice(ANGLES[:1] if values == (1,) else ANGLES) for i in made[cos]}
            made[cos] = {i: Fraction(turn[0]) for i, turn in turns.items()}
            made[sin] = {i: Fraction(turn[1]) for i, turn in turns.items()}
        return tuple(made)

    # -- making smaller ---------------------------------------------------------------------------------------
    def shrunk(self, case: Case, outcome: _Outcome, law: str, effort: int) -> tuple[Case, _Outcome]:
        """The case after every single step that makes it smaller and leaves it failing as plainly."""
        limit = self.spent + effort
        again = effort > 0
        while again:
            again = False
            best = self.size(case)
            for step in self.steps(case):
                if self.spent > limit or limits.now() > self.until:
                    return case, outcome
                if not self.size(step) < best:
                    continue
                found = self.outcome(step, law)
                if found is not None and found.loud >= outcome.loud:
                    case, outcome, again = step, found, True
                    break
        return case, outcome

    # -- telling ----------------------------------------------------------------------------------------------
    def _result(self, case: Case, outcome: _Outcome) -> Search:
        at = self.at(case.sizes)
        assert at is not None
        statement, found = at.statement, outcome.failures
        nodes = leaves_of(statement)
        leaves = {node.id: table for node, table in zip(nodes, case.leaves)}
        after = moved(statement, leaves, case.g)
        roles = {statement.params[role] for role in statement.actions}

        def part(id: int) -> Part:
            node = statement.graph.leaf(id)
            absent = id in self.optional and not any(leaves[id].values())
            return Part(node.name, node.shape, leaves[id], after[id] if id in roles else None, absent)

        product = other = None
        if case.h is not None:
            product = compose(self.group, case.h, case.g, length(statement))
            if compose(self.group, case.g, case.h, length(statement)) != product:
                other = found[1]
        own = statement.graph.leaf(statement.element)
        return Search(
            Counterexample(
                dict(case.sizes),
                self.group,
                self.group_dims,
                Part(own.name, own.shape, case.g),
                tuple(part(node.id) for node in nodes if node.kind == "param"),
                tuple(part(node.id) for node in nodes if node.kind == "input"),
                found[0],
                case.h,
                product,
                other,
                self.size(case),
                outcome.loud,
            ),
            self.tries,
        )


def _loud(found: Failure) -> bool:
    if found.before is None or found.after is None:
        return True
    before, after = as_float(found.before), as_float(found.after)
    return bool(abs(before - after) > as_float(LOUD) * (1 + abs(before) + abs(after)))
