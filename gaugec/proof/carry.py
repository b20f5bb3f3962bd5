"""Sums that move as a whole: what keeps a proof linear in the depth of a model.

A residual stream is a sum that grows by two terms a layer; written out, its square has as many terms as there are pairs
of layers.  Where a sum's moved value is proved to be its old value, scaled or turned, the sum is from there on one
atom that moves so: its own terms are forgotten, in both worlds.  That proves the statement for any value of the sum,
which is more than is needed, so nothing false can be proved; what needs the terms is proved without this step.
"""

from __future__ import annotations

from dataclasses import dataclass

from gaugec.graph.ir import Sum
from gaugec.proof.algebra import Algebra
from gaugec.proof.normal import Evaluator, World
from gaugec.proof.terms import (
    Factors,
    Index,
    NeedSplit,
    Polynomial,
    Undecided,
    plain,
    substituted,
    variable,
)


@dataclass(frozen=True)
class Carried:
    """How one node moves, over the free variables `free` of its modes: times `factors`, or turned along a mode.

    A turn is the symbol of the element, its copies' indices, the mode, and whether the mode is its second index.
    """

    free: tuple[int, ...]
    factors: tuple[tuple[int, tuple[Index, ...], object], ...] = ()
    turn: tuple[int, tuple[Index, ...], int, bool] | None = None

    def moved(self, algebra: Algebra, own: Polynomial, ixs: tuple[Index, ...], sizes: tuple[int, ...]) -> Polynomial:
        """The moved value at an index; `own` is the value over `free`."""
        values = dict(zip(self.free, ixs, strict=True))
        if self.turn is None:
            factors: Factors = {
                (s, tuple(substituted(ix, values) for ix in at)): e  # type: ignore[misc]
                for s, at, e in self.factors
            }
            here = algebra.substitute(own, values)
            if not factors:
                return here
            scale: Polynomial = {}
            algebra.collect(scale, 1, factors, {})
            return algebra.product([scale, here])
        symbol, copies, mode, second = self.turn
        there = algebra.fresh(sizes[mode])
        ends = (variable(there), ixs[mode]) if second else (ixs[mode], variable(there))
        entry = algebra.atom(symbol, (*(substituted(ix, values) for ix in copies), *ends))
        source = algebra.substitute(own, {**values, self.free[mode]: variable(there)})
        return algebra.product([entry, source], summed=(there,))


def carry(evaluator: Evaluator, act: World, still: World, kept: tuple[int, ...]) -> bool:
    """Finds, in topological order, the sums below `kept` that move as a whole, and tells the evaluator.

    Returns whether there are any."""
    graph, algebra = evaluator.graph, evaluator.algebra
    evaluator.carrying = (act.name, still.name)
    below: set[int] = set()
    todo = list(kept)
    while todo:
        at = todo.pop()
        if at not in below and evaluator.touched(at) and (at in kept or at not in evaluator.atoms):
            below.add(at)
            todo.extend(access.node for access in graph[at].operands)
    for id in sorted(below - set(kept)):
        node = graph[id]
        if not isinstance(node, Sum) or len(node.operands) < 2:
            continue
        free = tuple(algebra.fresh(mode.size) for mode in node.modes)
        at_ = tuple(map(variable, free))
        try:
            after, before = evaluator.value(act, id, at_), evaluator.value(still, id, at_)
        except (NeedSplit, Undecided):
            continue
        if len(before) > 1:
            found = _how(algebra, after, before, free, tuple(mode.size for mode in node.modes))
            if found is not None:
                evaluator.carried[id] = found
    return bool(evaluator.carried)


def _how(
    algebra: Algebra, after: Polynomial, before: Polynomial, free: tuple[int, ...], sizes: tuple[int, ...]
) -> Carried | None:
    if after == before:
        return Carried(free)
    if not after:
        return None
    factors, _ = min(after)
    at = tuple(map(variable, free))
    scales = tuple(
        (s, ixs, e)
        for s, ixs, e in factors
        if algebra.symbols[s].tag == "c" and all(v >= 0 for _, terms in ixs for _, v in terms)
    )
    choices = [Carried(free, factors=scales)] if scales else []
    for s, ixs, e in factors:
        if algebra.symbols[s].tag not in ("R", "Ri") or e != 1:
            continue
        for second in (False, True):
            v = plain(ixs[-1] if second else ixs[-2])
            if v in free and not any(w == v for ix in ixs[:-2] for _, w in ix[1]):
                mode = free.index(v)
                if sizes[mode] == algebra.symbols[s].extent:
                    choices.append(Carried(free, turn=(s, ixs[:-2], mode, second)))
    return next((choice for choice in choices if choice.moved(algebra, before, at, sizes) == after), None)
