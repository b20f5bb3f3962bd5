"""Verdicts: the theorem that a proof returns, and the rule that nothing which breaks is a proof.

A proof runs within `gaugec.limits` and inside `guarded`, which turns whatever it raises into a refusal.  A scale that
holds but for an eps under a root is "approximate", with the exact bound, never "proved".
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from gaugec import limits
from gaugec.graph.ir import Graph
from gaugec.groups import GROUPS
from gaugec.proof.movements import Motion
from gaugec.proof.structure import eps_nodes
from gaugec.proof.terms import Undecided


@dataclass(frozen=True)
class Theorem:
    """What is known of one statement.

    verdict: "proved", "refused", "approximate" (proved but for eps, with the bound in `conditions`) or "not decided".
    reason: why it is not proved, in a reader's words.  steps: the rules and laws that were used.  movements: role ->
    how the action moves it.  Filled in by `gaugec.pipeline.verify`: counterexample, the smallest case found in which it
    fails (of an "approximate" one: deviates), of which a theorem knows the text alone; tried, how many cases were tried
    in vain; repair, what would make it hold; sampled, how often the component check has agreed.  structure: on a model,
    the hash of all that the proof read.
    """

    name: str
    verdict: str
    reason: str = ""
    steps: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    movements: Mapping[str, Motion] = field(default_factory=dict)
    counterexample: object | None = None
    tried: int = 0
    repair: str = ""
    sampled: int = 0
    seconds: float = 0.0
    structure: str = ""

    def __bool__(self) -> bool:
        return self.verdict == "proved"

    @property
    def evidence(self) -> tuple[str, ...]:
        """What a refusal shows besides its reason, as lines: a case, or that none was found, and a repair."""
        lines: list[str] = []
        if self.counterexample is not None:
            lines.append("it deviates, for example:" if self.verdict == "approximate" else "counterexample:")
            lines += ["  " + line for line in str(self.counterexample).splitlines()]
        elif self.tried:
            lines.append(
                f"no counterexample was found within {self.tried} tries: the gauge may hold, but it is not proved"
            )
        if self.repair:
            lines.append(f"help: {self.repair}")
        return tuple(lines)


class NotProved(Exception):
    """The statement is not proved; the message says why."""


def guarded(name: str, prove: Callable[[], Theorem]) -> Theorem:
    """Runs a proof; whatever it raises becomes a refusal."""
    try:
        with limits.deep():
            return prove()
    except NotProved as error:
        return Theorem(name, "refused", str(error))
    except Undecided as undecided:
        decided = str(undecided).startswith("not ")
        return Theorem(name, "not decided" if decided else "refused", str(undecided))
    except limits.Exceeded as exceeded:
        return Theorem(name, "not decided", str(exceeded))
    except MemoryError:
        return Theorem(name, "not decided", "not decided: there is not enough memory")
    except RecursionError:
        return Theorem(name, "not decided", "not decided: the graph is too deep")
    except Exception as error:  # a proof that breaks is not a proof
        return Theorem(name, "refused", f"the proof broke off: {type(error).__name__}: {error}")


@dataclass
class Effort:
    """One attempt: which eps nodes count as zero, whether sums are carried (and were), and how long it may take of the
    time that the proof has."""

    without: frozenset[int] = frozenset()
    carries: bool = True
    carried: bool = False
    seconds: float = math.inf


def with_eps(
    attempt: Callable[[Effort], Theorem],
    graph: Graph,
    kept: tuple[int, ...],
    group: str,
    start: float,
    seconds: float = math.inf,
) -> Theorem:
    """Proves; a scale that fails is tried again with every eps under a root taken to be zero."""

    def both(without: frozenset[int]) -> Theorem:
        """First with sums that move as a whole, then, where there were any, for a short time with all terms."""
        effort = Effort(without, seconds=seconds)
        theorem = attempt(effort)
        if theorem or not effort.carried:
            return theorem
        full = attempt(Effort(without, carries=False, seconds=2.0))
        return theorem if full.verdict == "not decided" else full

    theorem = both(frozenset())
    if not theorem and group in GROUPS and GROUPS[group].kind == "scale":
        eps = eps_nodes(graph, kept)
        if eps and (again := both(frozenset(eps))):
            values = ", ".join(sorted({f"{float(abs(value)):g}" for value in eps.values()}))
            bound = (
                f"exact at eps = 0; here eps = {values}: where the mean square ms beside it scales with c^2, "
                "the square deviates by eps(c^2 - 1)/(c^2 ms + eps)"
            )
            conditions = (*again.conditions, bound, "ms ≠ 0")
            theorem = replace(again, verdict="approximate", reason=bound, conditions=conditions)
    return finish(theorem, start)


def finish(theorem: Theorem, start: float) -> Theorem:
    """The theorem with the time it took."""
    return replace(theorem, seconds=time.monotonic() - start)
