"""The independent check of a gauge: a statement's graph evaluated with numbers, before and after, entry by entry.

Other code than the proof, sharing only the graph: exact fractions where the operators are rational, 60 digits
otherwise.  `sample` draws group elements of both determinants and parameters of both signs at small, different sizes;
the result is called *sampled*, never proved.

What this module does not do: it imports no prover, it knows no law, and it looks for no small case
(see `gaugec.sampling.search`).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import mpmath  # type: ignore[import-untyped]

from gaugec import limits
from gaugec.graph.ir import Leaf
from gaugec.graph.statement import Statement
from gaugec.sampling.elements import element
from gaugec.sampling.evaluate import Evaluation, Table
from gaugec.sampling.point import (
    Failure,
    Lower,
    digits_apart,
    identity_failure,
    indices,
    kept_failure,
    leaves_of,
    length,
    product_failure,
    sizes_for,
)


@dataclass(frozen=True)
class Agreement:
    """The outcome of a check; false where a sample failed or none could be drawn.

    samples: how many were compared.  reason: the first failure, in words.  sizes: at which sizes.
    both: whether every maximum and every modulus met both of its sides.
    """

    samples: int
    reason: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    both: bool = True

    @property
    def agrees(self) -> bool:
        """Whether at least one sample was compared and none failed."""
        return self.samples > 0 and not self.reason

    def __bool__(self) -> bool:
        return self.agrees


def sample(lower: Lower, dims: tuple[str, ...], *, samples: int = 6, seed: int = 0, seconds: float = 2.0) -> Agreement:
    """Compares what is kept before and after, and the law of an action, at `samples` random points.

    `lower(sizes)` gives the statement at sizes for all `dims`.
    At least two samples run; more stop at the time limit.  What cannot be evaluated is a reason; nothing is raised
    but `gaugec.limits.Exceeded`.
    """
    rng = random.Random(seed)
    sizes: dict[str, int] = {}
    sides: dict[tuple[int, ...], set[bool]] = {}
    done, until = 0, limits.now() + seconds
    try:
        sizes = sizes_for(lower, dims)
        statement = lower(sizes)
        k = length(statement)
        with mpmath.workdps(60):
            for turn in range(4 * samples):
                if done >= samples and _both(sides):
                    break
                if done >= 2 and limits.now() > until:
                    break
                stretch = 3 ** (turn % 7) if done >= min(samples, 3) and not _both(sides) else 1
                positive = turn >= samples and not done  # as roots may need them
                leaves = {node.id: _random(node, rng, stretch, positive) for node in leaves_of(statement)}
                g, h = (element(statement.group, k, rng, turn + extra) for extra in (0, 1))
                try:
                    found, evaluation = _failure(statement, leaves, g, h if turn < 3 else None)
                except (ZeroDivisionError, ValueError):
                    continue  # a point at which the formula has no value
                done += 1
                for place, seen in evaluation.sides.items():
                    sides.setdefault(place, set()).update(seen)
                if found is not None:
                    return Agreement(done, _sentence(found), sizes=sizes)
    except limits.Exceeded:
        raise
    except (RecursionError, MemoryError) as error:
        raise limits.Exceeded(f"not decided: the numeric check met a {type(error).__name__}") from None
    except Exception as error:  # a check that breaks is no agreement
        return Agreement(done, f"cannot be evaluated: {type(error).__name__}: {error}", sizes=sizes)
    return Agreement(done, "" if done else "no sample could be evaluated", sizes=sizes, both=_both(sides))


def _both(sides: Mapping[tuple[int, ...], set[bool]]) -> bool:
    return all(len(seen) == 2 for seen in sides.values())


def _failure(
    statement: Statement, leaves: dict[int, Table], g: Table, h: Table | None
) -> tuple[Failure | None, Evaluation]:
    """The first thing that an element breaks: what is kept, the identity or (with a second element) the product."""
    found, evaluation, _ = kept_failure(statement, leaves, g)
    found = found or identity_failure(statement, leaves)
    if found is None and h is not None:
        broken = product_failure(statement, leaves, g, h)
        found = broken[0] if broken else None
    return found, evaluation


def _random(node: Leaf, rng: random.Random, stretch: int, positive: bool) -> Table:
    """Numbers of both signs, or positive ones.

    With a stretch above one they reach what lies further from zero, such as relu6's bend.
    """

    def draw() -> Fraction:
        drawn = rng.choice((1, stretch)) * rng.choice((-5, -4, -3, -2, -1, 1, 2, 3, 4, 5))
        numerator = abs(drawn) if positive else drawn
        return Fraction(numerator, rng.choice((2, 3, 4)))

    return {at: draw() for at in indices(node.shape)}


def _sentence(found: Failure) -> str:
    at = f"[{', '.join(map(str, found.at))}]" if found.at else ""
    before, after = digits_apart(found.before, found.after)
    if found.law == "kept":
        return f"{found.what}{at} is {before}, and {after} after"
    if found.law == "identity":
        return f"{found.what}{at} is {before}, and {after} under the identity"
    return f"{found.what}{at} is {before} moved by the product, and {after} moved twice"
