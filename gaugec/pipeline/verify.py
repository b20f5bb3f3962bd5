"""The theorems of a spec: every gauge proved for all sizes, and checked entry by entry by code that shares nothing.

What is not accepted gets the smallest case in which it fails, and the nearest repair where there is one.

What this module does not do: it looks at no model (see `gaugec.pipeline.compile`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from gaugec import limits
from gaugec.graph.ir import Sum
from gaugec.graph.statement import Statement
from gaugec.language import load
from gaugec.language.lower import all_dims, lower, term
from gaugec.language.tree import Entry, Gauge, Operator, Spec
from gaugec.laws import functions
from gaugec.pipeline.followed import unmatched
from gaugec.pipeline.repair import repair
from gaugec.progress import counted
from gaugec.proof.prove import Theorem, prove_statement
from gaugec.proof.structure import eps_nodes
from gaugec.sampling.sample import sample
from gaugec.sampling.search import search


@dataclass(frozen=True)
class Verification:
    """Every theorem of a spec, in the order of its gauges.  `ok`: all of them may be used as the spec says.

    unmatched: of every gauge, why no compile can have a site of it yet, or "".
    operators: of every operator that the spec defines, its name and the laws that were found and proved, in words.
    """

    spec: str
    theorems: tuple[Theorem, ...]
    accepted: tuple[bool, ...]
    operators: tuple[tuple[str, tuple[str, ...]], ...] = ()
    unmatched: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Is every gauge proved, or approximate where the spec allows that?"""
        return all(self.accepted)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        lines = [f"{self.spec}:", *(f"  op {name}: {'; '.join(laws)}" for name, laws in self.operators)]
        for theorem, why in zip(self.theorems, self.unmatched, strict=True):
            lines.append(f"  {theorem.name}: {theorem.verdict}" + (f" ({theorem.reason})" if theorem.reason else ""))
            lines += [f"    not matched yet: {why}"] if why else []
            lines += [f"    if {condition}" for condition in theorem.conditions]
            lines += [f"    {line}" for line in theorem.evidence]
        return "\n".join(lines)


def verify(spec: str | Path | Spec, *, limit: float | None = None) -> Verification:
    """Proves every gauge of a spec (a shipped name, a path, or what `load` returned); needs no model.

    `limit`: the seconds that each gauge may take, 20 unless given.  A gauge that takes longer is "not decided", and
    not accepted.

    Raises:
        SpecError: the spec cannot be read.
        ValueError: the limit is not a positive number.
    """
    with limits.each(limit):
        return _verified(spec if isinstance(spec, Spec) else load(str(spec)), _theorem)


def accepted(spec: Spec) -> Verification:
    """As `verify`, but a gauge that was accepted before in this process is not proved again."""
    return _verified(spec, _theorem_once)


_ACCEPTED: dict[tuple[Gauge, bool], Theorem] = {}
"""By the meaning of a gauge, and by whether it may be approximate."""


def _theorem_once(entry: Entry) -> Theorem:
    key = (entry.gauge, entry.approximate)
    if key in _ACCEPTED:
        return _ACCEPTED[key]
    theorem = _theorem(entry)
    if _accepted(entry, theorem):
        _ACCEPTED[key] = theorem
    return theorem


def _verified(loaded: Spec, proof: Callable[[Entry], Theorem]) -> Verification:
    operators = dict.fromkeys(operator for entry in loaded.entries for operator in entry.gauge.operators)
    theorems = tuple(proof(entry) for entry in counted(loaded.entries))
    laws = tuple((operator.name, _laws(operator)) for operator in operators)
    good = tuple(_accepted(entry, theorem) for entry, theorem in zip(loaded.entries, theorems))
    whys = (unmatched(e.gauge, t) if so else "" for e, t, so in zip(loaded.entries, theorems, good))
    return Verification(loaded.name, theorems, good, laws, tuple(whys))


def _accepted(entry: Entry, theorem: Theorem) -> bool:
    """Is it proved, or approximate where the spec allows that?"""
    return theorem.verdict == "proved" or (theorem.verdict == "approximate" and entry.approximate)


def _laws(operator: Operator) -> tuple[str, ...]:
    """The laws of an `op` line, found and proved from what it says."""
    with limits.proof():
        try:
            return functions.found(term(operator.expr, operator.argument)).sentences(operator.name)
        except limits.Exceeded as exceeded:
            return (f"laws {exceeded}",)


def _theorem(entry: Entry) -> Theorem:
    """Prover and component check, within the time that one proof has."""
    start = time.monotonic()
    with limits.proof(), limits.deep():
        try:
            theorem = _checked(entry)
        except limits.Exceeded as exceeded:
            theorem = Theorem(entry.gauge.name, "not decided", str(exceeded))
    if not _accepted(entry, theorem):
        with limits.proof(), limits.deep():
            try:
                theorem = _with_evidence(entry, theorem)
            except limits.Exceeded:
                pass  # the verdict stands without
    return replace(theorem, seconds=time.monotonic() - start)


def _checked(entry: Entry) -> Theorem:
    """Prover and component check, which share no code; both must agree before anything is accepted.

    What is proved but for eps is checked with every such eps taken to be zero, as it was proved.
    """
    gauge = entry.gauge
    theorem = prove_statement(lower(gauge))
    if theorem.verdict in ("proved", "approximate"):
        made = _without_eps if theorem.verdict == "approximate" else lower
        checked = sample(lambda sizes: made(gauge, sizes), all_dims(gauge))
        if not checked:
            reason = f"the component check disagrees with the proof: {checked.reason}"
            theorem = replace(theorem, verdict="refused", reason=reason)
        elif theorem.verdict == "proved" or entry.approximate:
            return replace(theorem, sampled=checked.samples)
    return theorem


def _without_eps(gauge: Gauge, sizes: Mapping[str, int]) -> Statement:
    """The statement with every eps under a root taken to be zero."""
    statement = lower(gauge, sizes)
    eps = eps_nodes(statement.graph, statement.kept)
    nodes = tuple(
        replace(node, constant=Fraction(0)) if isinstance(node, Sum) and node.id in eps else node
        for node in statement.graph
    )
    return replace(statement, graph=replace(statement.graph, nodes=nodes))


def _with_evidence(entry: Entry, theorem: Theorem) -> Theorem:
    """A theorem that is not accepted, with a case against it and a repair; a case decides what the proof could not."""
    gauge = entry.gauge
    looked = search(lambda sizes: lower(gauge, sizes), all_dims(gauge))
    case = looked.found
    if case is None:
        return replace(theorem, tried=looked.tries if looked.moves else 0)
    theorem = replace(theorem, counterexample=case)
    if theorem.verdict == "approximate":
        return replace(theorem, repair="mark its `use` line `approximate` to accept the deviation")
    if theorem.verdict == "not decided":
        reason = f"a counterexample was found; the proof was {theorem.reason}"
        theorem = replace(theorem, verdict="refused", reason=reason)
    near = repair(gauge, case)
    return replace(theorem, repair=str(near) if near else "")
