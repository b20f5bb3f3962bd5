"""The prover's normal forms, computed back into numbers: a rewrite that is false shows in any formula, proved or not.

`disagreement(gauge, seed)` takes what the prover makes of every kept value, before and after the element has acted,
puts numbers in the places of its atoms, and compares with the judge, who computes the formula itself.  No gauge has to
be true for that, so every random one tests the rules.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from soundness.judge import POINTWISE, Interpreter, Sample

from gaugec.graph.ir import Leaf
from gaugec.graph.statement import Statement
from gaugec.language import tree as t
from gaugec.language.lower import lower
from gaugec.proof.algebra import Algebra, Rule
from gaugec.proof.element import Element, Pairing
from gaugec.proof.normal import STILL, Evaluator, World
from gaugec.proof.pieces import split
from gaugec.proof.rules import RULES
from gaugec.proof.terms import (
    DUMMY,
    Index,
    NeedSplit,
    Polynomial,
    Symbol,
    Undecided,
    substituted,
    variable,
)

CLOSE = 1e-6


@dataclass
class Reading:
    """Numbers for the atoms of one algebra: leaves by node, elements by part, functions by their meaning."""

    algebra: Algebra
    statement: Statement
    sample: Sample
    tables: Mapping[str, Any]
    budget: int = 60_000
    memo: dict[object, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keys = {number: key for key, number in self.algebra.table.items()}

    def polynomial(self, poly: Polynomial, env: Mapping[int, int]) -> float:
        """The number of a polynomial where its variables are the given ones."""
        total = 0.0
        for (factors, bound), coefficient in poly.items():
            part = 0.0
            for values in itertools.product(*map(range, bound)):
                here = {**env, **{-1 - k: value for k, value in enumerate(values)}}
                term = 1.0
                self.budget -= 1
                if self.budget < 0:
                    raise Undecided("too long a sum")
                for symbol, ixs, exponent in factors:
                    at = tuple(offset + sum(s * here[v] for s, v in terms) for offset, terms in ixs)
                    value = self.factor(symbol, at)
                    if value < 0 and exponent != int(exponent):
                        return math.nan
                    try:
                        term *= value ** (int(exponent) if exponent == int(exponent) else float(exponent))
                    except (ZeroDivisionError, OverflowError):
                        return math.nan
                part += term
            total += float(coefficient) * part
        return total

    def factor(self, number: int, at: tuple[int, ...]) -> float:
        key = (number, at)
        self.keys = self.keys if number in self.keys else {n: key for key, n in self.algebra.table.items()}
        if key not in self.memo:
            self.memo[key] = float(self._factor(self.algebra.symbols[number], self.keys[number], at))
        return self.memo[key]

    def _factor(self, row: Symbol, key: Any, at: tuple[int, ...]) -> float:
        if row.kind == "delta":
            return float(at[0] == at[1])
        if row.kind == "size":
            return float(key[1])
        if row.kind == "node":
            return self._leaf(self.statement.graph.leaf(key[1]), at)
        if row.kind == "element":
            return self._element(key[2], at)
        data, reads, rest = row.data, at[: row.reads], dict(enumerate(at[row.reads :]))
        if row.kind == "base":
            return self.polynomial(data[0], rest)
        extents = key[3]
        if not extents:
            return self._pointwise(row, [self.polynomial(part, rest) for part in data])
        return self._along(row, extents, reads, rest)

    def _leaf(self, node: Leaf, at: tuple[int, ...]) -> float:
        position = [0] * len(node.shape)
        for mode, value in zip(node.modes, at, strict=True):
            position[mode.axis] += mode.stride * value
        return float(self.tables[node.name][tuple(position)])

    def _element(self, part: str, at: tuple[int, ...]) -> float:
        g = self.sample.g
        if part in ("C", "S"):
            return float(g[at[0], at[0]] if part == "C" else g[at[0] + len(g) // 2, at[0]])
        return float((np.linalg.inv(g) if part == "Ri" else g)[at or 0])  # of one number: read nowhere in particular

    def _pointwise(self, row: Symbol, values: list[float]) -> float:
        if len(values) == 2:
            return max(values) if row.name == "max" else math.nan
        x = np.asarray(values[0])
        operator = self.sample.operators.get(row.name)
        if operator is not None:
            return float(Interpreter({}, {}, self.sample.chance, {operator.argument: x}).value(operator.expr))
        definition = dict(row.attributes).get("definition")  # type: ignore[call-overload]
        if definition is not None:
            return _defined(definition, values[0])
        return float(POINTWISE[row.name](x))

    def _along(self, row: Symbol, extents: tuple[int, ...], reads: tuple[int, ...], rest: dict[int, int]) -> float:
        def table(part: Polynomial, over: tuple[int, ...]) -> Any:
            made = np.empty(over)
            for place in np.ndindex(*over):
                made[place] = self.polynomial(part, {**rest, **{DUMMY + k: v for k, v in enumerate(place)}})
            return made

        whole = table(row.data[0], extents)
        if row.name == "inverse":
            return float(np.linalg.inv(whole)[reads])
        top = whole.max(axis=0, keepdims=True)
        logs = whole - top - np.log(np.exp(whole - top).sum(axis=0, keepdims=True))
        if row.name == "cross_entropy":  # the rows of the logits, then those of the targets
            count = (len(extents) - 1) // 2
            loss = []
            for place in np.ndindex(*extents[1 : 1 + count]):
                at = {**rest, **{DUMMY + 1 + count + k: v for k, v in enumerate(place)}}
                loss.append(-logs[(int(self.polynomial(row.data[1], at)), *place, *(0 for _ in place))])
            return float(np.mean(loss))
        return float(np.exp(logs[reads]) if row.name == "softmax" else logs[reads])


def _defined(term: Any, x: float) -> float:
    """A definition tree at a number; not a number where it has none."""
    if not isinstance(term, tuple):
        return x if term == "x" else math.pi if term == "pi" else float(term)
    head, *parts = term
    values = [_defined(part, x) for part in parts]
    try:
        if head in ("add", "mul"):
            return math.fsum(values) if head == "add" else math.prod(values)
        if head == "pow":
            made = values[0] ** values[1]
            return made if isinstance(made, float) else math.nan
        if head in ("max", "min", "abs"):
            return float({"max": max, "min": min, "abs": lambda v: abs(v[0])}[head](values))  # type: ignore[operator]
        return float(getattr(math, head)(values[0]))
    except (ArithmeticError, ValueError):
        return math.nan


def _worlds(statement: Statement, rules: Mapping[str, Rule]) -> tuple[Algebra, Evaluator, World]:
    """The algebra, the evaluator and the world in which the element has acted, as in a proof."""
    graph = statement.graph
    algebra = Algebra(rules, symbolic=True, ones=statement.group == "orthogonal_ones", seconds=1.0)
    algebra.allow("linearity")
    modes = graph[statement.element].modes
    size = modes[0].size if modes else 1  # of one number
    roles = {statement.params[role]: role for role in statement.actions}
    by = Element(algebra, statement.group, size, Pairing("halves", size), "")

    def leaf(evaluator: Evaluator, node: Leaf, ixs: tuple[Index, ...]) -> Polynomial | None:
        if node.id != statement.element:
            return None
        if len(ixs) == 2:
            return by.matrix((), *ixs)
        return by.shift(ixs) if statement.group == "translation" else by.scale((), ixs[0], 1)  # type: ignore[arg-type]

    def inverse(evaluator: Evaluator, node: Leaf, ixs: tuple[Index, ...]) -> Polynomial | None:
        return by.matrix((), *ixs, inverse=True) if node.id == statement.element and len(ixs) == 2 else None

    acting = World("g", leaf, inverse)

    def after(evaluator: Evaluator, node: Leaf, ixs: tuple[Index, ...]) -> Polynomial | None:
        role = roles.get(node.id)
        return None if role is None else evaluator.value(acting, statement.actions[role], ixs)

    evaluator = Evaluator(graph, algebra, frozenset(), frozenset({*roles, statement.element}))
    return algebra, evaluator, World("moved", after)


def _tables(statement: Statement, sample: Sample) -> dict[str, Any]:
    """What every leaf is, by its name; the rotary tables by the judge's angles, a dropout's mask is not known here."""
    tables: dict[str, Any] = {**sample.given, **sample.params}
    for node in statement.graph.leaves("input"):
        if node.name not in tables:
            kind, _, _ = node.name.partition(" over ")
            positions, half = node.shape
            angle = np.arange(positions)[:, None] * 50.0 ** (-np.arange(half) / half)
            tables[node.name] = np.cos(angle) if kind == "cos" else np.sin(angle)
    return tables


def disagreement(
    gauge: t.Gauge, seed: int = 0, entries: int = 3, rules: Mapping[str, Rule] = RULES
) -> tuple[str, int]:
    """The first entry whose normal form has another value than its formula, in words ("" for none), and how many were
    compared."""
    rng = np.random.default_rng(seed)
    sample = Sample(gauge, rng, 0, False)
    statement = lower(gauge, sample.sizes)
    if any(node.random for node in statement.graph.leaves("input")):
        return "", 0
    algebra, evaluator, moved = _worlds(statement, rules)
    # every eps is the number of the graph here
    sample.chance.eps = _Exact()
    with np.errstate(all="ignore"):
        params, _ = sample.acted(sample.params, sample.g)
        expected = {"moved": sample.kept(params)[0], "still": sample.kept(sample.params)[0]}
    compared = 0
    reading = Reading(algebra, statement, sample, _tables(statement, sample))
    for name, id in zip(gauge.keeps, statement.kept, strict=True):
        node = statement.graph[id]
        for world in (moved, STILL):
            todo = [tuple(variable(algebra.fresh(mode.size)) for mode in node.modes)]
            while todo:
                ixs = todo.pop()
                try:
                    poly = evaluator.value(world, id, ixs)
                except NeedSplit as need:
                    for value, _ in split(algebra, need):
                        todo.append(tuple(substituted(ix, {need.variable: value}) for ix in ixs))
                    continue
                except Undecided:
                    continue
                free = sorted({v for ix in ixs for _, v in ix[1]})
                places = list(itertools.product(*(range(algebra.sizes[v]) for v in free)))
                for k in rng.permutation(len(places))[:entries]:
                    env = dict(zip(free, places[k]))
                    modes = [offset + sum(s * env[v] for s, v in terms) for offset, terms in ixs]
                    position = [0] * len(node.shape)
                    for mode, value in zip(node.modes, modes, strict=True):
                        position[mode.axis] += mode.stride * value
                    true = float(expected[world.name][name][tuple(position)])
                    try:
                        with np.errstate(all="ignore"):
                            made = reading.polynomial(poly, env)
                    except Undecided:
                        break
                    if not math.isfinite(true):
                        continue
                    compared += 1
                    if not abs(made - true) <= CLOSE * (1 + abs(made) + abs(true)):
                        return f"{name}{position} is {true:.9g}, and {made:.9g} in normal form ({world.name})", compared
    return "", compared


class _Exact(dict):  # type: ignore[type-arg]
    """Every eps is itself."""

    def __contains__(self, eps: object) -> bool:
        return True

    def __missing__(self, eps: Any) -> float:
        return float(eps)
