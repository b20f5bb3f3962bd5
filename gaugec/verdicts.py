"""Verdicts: the theorem that a proof returns, and the rule that nothing which breaks is a proof.

A proof runs under a budget and inside `guarded`, which turns whatever it raises into a refusal.  A scale that holds but
for an eps under a root is "approximate", with the exact bound, never "proved".
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from gaugec.elements import SCALES
from gaugec.movements import Motion
from gaugec.structure import eps_nodes
from gaugec.tensor import Graph
from gaugec.terms import Undecided

DEPTH = 30_000


@dataclass(frozen=True)
class Theorem:
    """What is known of one statement.

    verdict: "proved", "refused", "approximate" (proved but for eps, with the bound in `conditions`) or "not decided".
    reason: why it is not proved, in a reader's words.  steps: the rules and laws that were used.  movements: role ->
    how the action moves it.  counterexample, sampled: filled in by whoever runs `gaugec.sample`.
    structure: on a model, the hash of all that the proof read.
    """

    name: str
    verdict: str
    reason: str = ""
    steps: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    movements: Mapping[str, Motion] = field(default_factory=dict)
    counterexample: str = ""
    sampled: int = 0
    seconds: float = 0.0
    structure: str = ""

    def __bool__(self) -> bool:
        return self.verdict == "proved"


class Refused(Exception):
    """The statement is not proved; the message says why."""


@contextmanager
def _deep() -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, DEPTH))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def guarded(name: str, prove: Callable[[], Theorem]) -> Theorem:
    """Runs a proof; whatever it raises becomes a refusal."""
    try:
        with _deep():
            return prove()
    except Refused as refusal:
        return Theorem(name, "refused", str(refusal))
    except Undecided as undecided:
        decided = str(undecided).startswith("not ")
        return Theorem(name, "not decided" if decided else "refused", str(undecided))
    except RecursionError:
        return Theorem(name, "not decided", "not decided: the graph is too deep")
    except Exception as error:  # a proof that breaks is not a proof
        return Theorem(name, "refused", f"the proof broke off: {type(error).__name__}: {error}")


@dataclass
class Effort:
    """One attempt: which eps nodes count as zero, whether sums are carried (and were), and the time it may take."""

    without: frozenset[int] = frozenset()
    carries: bool = True
    carried: bool = False
    seconds: float = 20.0


def with_eps(
    attempt: Callable[[Effort], Theorem], graph: Graph, kept: tuple[int, ...], group: str, start: float
) -> Theorem:
    """Proves; a scale that fails is tried again with every eps under a root taken to be zero."""

    def both(without: frozenset[int]) -> Theorem:
        """First with sums that move as a whole, then, where there were any, for a short time with all terms."""
        effort = Effort(without)
        theorem = attempt(effort)
        if theorem or not effort.carried:
            return theorem
        full = attempt(Effort(without, carries=False, seconds=2.0))
        return theorem if full.verdict == "not decided" else full

    theorem = both(frozenset())
    if not theorem and group in SCALES:
        eps = {id: graph[id].constant for id in eps_nodes(graph, kept)}
        if eps and (again := both(frozenset(eps))):
            values = ", ".join(sorted({f"{float(abs(value)):g}" for value in eps.values()}))
            bound = f"exact at eps = 0; here eps = {values}: the square deviates by eps(c^2 - 1)/(c^2 ms + eps)"
            conditions = (*again.conditions, bound, "ms ≠ 0")
            theorem = replace(again, verdict="approximate", reason=bound, conditions=conditions)
    return finish(theorem, start)


def finish(theorem: Theorem, start: float) -> Theorem:
    """The theorem with the time it took."""
    return replace(theorem, seconds=time.monotonic() - start)
