"""A tensor graph's values as numbers: exact fractions, or 60-digit floats where an operator is not rational.

Written from the meaning of the nodes alone (see `gaugec.graph.ir`) and from the operators' definitions; it shares
nothing with the prover, so that it can contradict it.  Slow and simple: one entry at a time, each remembered.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from operator import itemgetter
from typing import Any

import mpmath  # type: ignore[import-untyped]

from gaugec.graph.ir import Access, Along, Concatenation, Contraction, Graph, Ix, Leaf, Map, Node, Sum
from gaugec.limits import BITS, bounded, bounded_power, check
from gaugec.operators import BY_NAME, Term

Value = Any  # Fraction or mpmath.mpf
Table = dict[tuple[int, ...], Value]


class NoValue(ValueError):
    """A formula has no value at a point: a root or a logarithm of a negative number, a division by zero."""


def as_float(value: Value) -> Value:
    """The value as a 60-digit float."""
    return mpmath.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def multiplied(a: Value, b: Value) -> Value:
    """a * b, exact where both are fractions."""
    exact = type(a) is Fraction, type(b) is Fraction  # asking for a subclass of it is dear
    if all(exact):
        return bounded(a * b)
    if not any(exact):
        return a * b
    return as_float(a) * as_float(b)


def added(a: Value, b: Value) -> Value:
    """a + b, exact where both are fractions."""
    exact = type(a) is Fraction, type(b) is Fraction
    if all(exact):
        return bounded(a + b)
    if not any(exact):
        return a + b
    return as_float(a) + as_float(b)


def divided(a: Value, b: Value) -> Value:
    """a / b, exact where both are fractions."""
    return multiplied(a, power(b, Fraction(-1)))


def power(x: Value, exponent: Fraction) -> Value:
    """x ** exponent; raises NoValue for a root of a negative number and ZeroDivisionError for 1 / 0."""
    if exponent.denominator == 1 and isinstance(x, Fraction):
        return bounded_power(x, exponent.numerator)
    if x == 0 and exponent < 0:
        raise ZeroDivisionError
    if exponent.denominator != 1 and x < 0:
        raise NoValue("a root of a negative number")
    return mpmath.power(as_float(x), as_float(exponent))


def inverted(a: Table, k: int) -> Table:
    """The inverse of a k by k table; raises ZeroDivisionError where there is none."""
    rows: list[list[Value]] = []
    for i in range(k):
        rows.append([a[i, j] for j in range(k)] + [Fraction(int(i == j)) for j in range(k)])
    for c in range(k):
        pivot = next((r for r in range(c, k) if rows[r][c] != 0), None)
        if pivot is None:
            raise ZeroDivisionError
        rows[c], rows[pivot] = rows[pivot], rows[c]
        check()
        rows[c] = [divided(x, rows[c][c]) for x in rows[c]]
        for r in range(k):
            if r != c and rows[r][c] != 0:
                minus = multiplied(Fraction(-1), rows[r][c])
                rows[r] = [added(x, multiplied(minus, y)) for x, y in zip(rows[r], rows[c])]
    return {(i, j): rows[i][k + j] for i in range(k) for j in range(k)}


def _bounded(x: Value) -> mpmath.mpf:
    """An exponent or an angle that can be evaluated in bounded time."""
    value = as_float(x)
    if abs(value) > 10_000:
        raise ValueError("an exponent or an angle beyond ten thousand")
    return value


def _logarithm(x: Value) -> mpmath.mpf:
    if x <= 0:
        raise NoValue("a logarithm of no positive number")
    return mpmath.log(as_float(x))


_FUNCTIONS: dict[str, Callable[[Value], Value]] = {
    "exp": lambda x: mpmath.exp(_bounded(x)),
    "log": _logarithm,
    "tanh": lambda x: mpmath.tanh(as_float(x)),
    "erf": lambda x: mpmath.erf(as_float(x)),
    "sin": lambda x: mpmath.sin(_bounded(x)),
    "cos": lambda x: mpmath.cos(_bounded(x)),
    "abs": abs,
    "step": lambda x: Fraction(as_float(x) > 0),
}


class _Total:
    """A sum of products, exact as far as they are: whole numbers beside each other cost a tenth of fractions."""

    def __init__(self) -> None:
        self.numerator, self.denominator = 0, 1
        self.rounded: Value | None = None

    def add(self, factors: Sequence[Value]) -> None:
        """Adds the product of some values."""
        n, d = 1, 1
        rounded: Value | None = None
        for factor in factors:
            if type(factor) is Fraction:
                own = factor.as_integer_ratio()
                n, d = n * own[0], d * own[1]
            else:
                rounded = factor if rounded is None else rounded * factor
        if rounded is not None:
            term = rounded * as_float(Fraction(n, d))
            self.rounded = term if self.rounded is None else self.rounded + term
        elif d == self.denominator:
            self.numerator += n
        elif n:
            top, bottom = self.numerator * d + n * self.denominator, self.denominator * d
            shared = math.gcd(top, bottom)
            self.numerator, self.denominator = top // shared, bottom // shared
            if self.denominator.bit_length() > BITS:
                self.value()

    def value(self) -> Value:
        """The sum of all that was added."""
        exact = bounded(Fraction(self.numerator, self.denominator))
        return exact if self.rounded is None else as_float(exact) + self.rounded


Read = tuple[int, Callable[[Mapping[int, int]], tuple[int, ...]]]


class Evaluation:
    """The values of a graph's nodes where its leaves are the given tables (index along the axes -> value).

    `sides`: node id and place in its definition -> which sides of a maximum or a modulus its arguments have met.
    """

    def __init__(self, graph: Graph, leaves: Mapping[int, Table]) -> None:
        self.graph, self.leaves = graph, leaves
        self.memo: dict[tuple[int, tuple[int, ...]], Value] = {}
        self.tables: dict[tuple[int, tuple[int, ...]], Table] = {}
        self.reads: dict[int, tuple[Read, ...]] = {}
        self.sides: dict[tuple[int, ...], set[bool]] = {}

    def at(self, id: int, index: tuple[int, ...]) -> Value:
        """The entry of a node at one index a mode."""
        key = (id, index)
        value = self.memo.get(key)
        if value is None:
            check()
            value = self.memo[key] = self._at(self.graph[id], index)
        return value

    def _reads(self, node: Node) -> tuple[Read, ...]:
        """Of every operand which node is read, and how its index comes from the variables."""
        found = self.reads.get(node.id)
        if found is None:
            found = self.reads[node.id] = tuple((access.node, _indexed(access)) for access in node.operands)
        return found

    def _read(self, node: Node, operand: int, env: Mapping[int, int]) -> Value:
        id, index = self._reads(node)[operand]
        return self.at(id, index(env))

    def _at(self, node: Node, index: tuple[int, ...]) -> Value:
        env = {mode.variable: value for mode, value in zip(node.modes, index)}
        match node:
            case Leaf():
                place = along(node, index)
                return Fraction(int(len(set(place)) == 1)) if node.kind == "delta" else self.leaves[node.id][place]
            case Contraction():
                return self._contraction(node, env)
            case Sum():
                total = _Total()
                total.add([Fraction(node.constant)])
                for scale, (id, at) in zip(node.coefficients, self._reads(node)):
                    total.add([Fraction(scale), self.at(id, at(env))])
                return total.value()
            case Map():
                return self._map(node, [self._read(node, k, env) for k in range(len(node.operands))])
            case Along():
                return self._along(node, env)
            case Concatenation():
                where = env[node.joined]
                for operand, (start, length) in enumerate(node.pieces):
                    if start <= where < start + length:
                        return self._read(node, operand, {**env, node.joined: where - start})
        raise ValueError(f"{node.word} {node.title} has no value")

    def _contraction(self, node: Contraction, env: Mapping[int, int]) -> Value:
        total, here, reads = _Total(), dict(env), self._reads(node)
        coefficient = Fraction(node.coefficient)
        for values in itertools.product(*(range(node.sizes[v]) for v in node.summed)):
            check()
            here.update(zip(node.summed, values))
            total.add([coefficient, *(self.at(id, index(here)) for id, index in reads)])
        return total.value()

    def _map(self, node: Map, values: list[Value]) -> Value:
        attributes = dict(node.attributes)
        if node.function == "pow" and "definition" not in attributes:
            return power(values[0], Fraction(str(attributes["exponent"])))
        if node.function in ("max", "min") and len(values) == 2:
            self._side((node.id,), as_float(values[0]) > as_float(values[1]))
            return (max if node.function == "max" else min)(values, key=as_float)
        row = BY_NAME.get(node.function)
        definition = attributes.get("definition", row.definition if row else None)
        if definition is None or len(values) != 1:
            raise ValueError(f"{node.function} has no definition")
        return self._term(definition, values[0], (node.id,))  # type: ignore[arg-type]

    def _side(self, place: tuple[int, ...], side: Any) -> None:
        self.sides.setdefault(place, set()).add(bool(side))

    def _term(self, term: Term, x: Value, place: tuple[int, ...]) -> Value:
        if not isinstance(term, tuple):
            return x if term == "x" else +mpmath.pi if term == "pi" else Fraction(term)
        head, *operands = term
        if head == "pow":
            return power(self._term(operands[0], x, (*place, 0)), Fraction(operands[1]))
        values = [self._term(operand, x, (*place, k)) for k, operand in enumerate(operands)]
        if head in ("max", "min"):
            self._side(place, as_float(values[0]) > as_float(values[1]))
        if head in ("abs", "step"):
            self._side(place, as_float(values[0]) > 0)
        return self._applied(head, values)

    def _applied(self, head: str, values: list[Value]) -> Value:
        """An operation of a definition at its operands' values."""
        if head == "add":
            return functools.reduce(added, values, Fraction(0))
        if head == "mul":
            return functools.reduce(multiplied, values, Fraction(1))
        if head == "pow":
            return power(values[0], values[1])
        if head in ("max", "min"):
            return (max if head == "max" else min)(values, key=as_float)
        return _FUNCTIONS[head](values[0])

    def _along(self, node: Along, env: dict[int, int]) -> Value:
        if node.function == "inverse":
            row, column = node.bound
            k = node.sizes[row]
            key = (node.id, ())
            if key not in self.tables:
                entries: Table = {
                    (i, j): self._read(node, 0, {**env, row: i, column: j}) for i in range(k) for j in range(k)
                }
                self.tables[key] = inverted(entries, k)
            return self.tables[key][env[row], env[column]]
        operator = BY_NAME.get(node.function)
        if operator is None or operator.along is None:
            raise ValueError(f"{node.function} has no value")
        if operator.kind == "loss":
            return self._loss(node, env, operator.along)
        if len(node.operands) > 1:
            raise ValueError(f"what {node.function} makes of its data is not known")
        own = self._read(node, 0, env) if operator.keeps else None
        return self._reduced(operator.along, own, self._line(node, env))

    def _line(self, node: Along, env: Mapping[int, int]) -> list[Value]:
        """The entries of the first operand along the bound axes."""
        places = itertools.product(*(range(node.sizes[v]) for v in node.bound))
        return [self._read(node, 0, {**env, **dict(zip(node.bound, place))}) for place in places]

    def _reduced(self, term: Term, x: Value, line: Sequence[Value]) -> Value:
        """A definition along an axis, at the entry x of it."""
        if not isinstance(term, tuple):
            return x if term == "x" else self._term(term, x, ())
        head, *operands = term
        if head in ("sum", "largest", "smallest"):
            values = [self._reduced(operands[0], entry, line) for entry in line]
            if head != "sum":
                return (max if head == "largest" else min)(values, key=as_float)
            return functools.reduce(added, values, Fraction(0))
        return self._applied(head, [self._reduced(operand, x, line) for operand in operands])

    def _loss(self, node: Along, env: dict[int, int], term: Term) -> Value:
        """The mean over rows; the target of a row is read from the data, one integer a row."""
        first = [v for v in dict.fromkeys(node.operands[0].variables) if v not in node.bound and v not in env]
        total: Value = mpmath.mpf(0)
        rows = list(itertools.product(*(range(node.sizes[v]) for v in first)))
        for row in rows:
            logits = [_bounded(x) for x in self._line(node, {**env, **dict(zip(first, row))})]
            target = 0
            for operand in range(1, len(node.operands)):
                free = [v for v in dict.fromkeys(node.operands[operand].variables) if v not in env]
                value = self._read(node, operand, {**env, **dict(zip(free, row))})
                # a class, where the value is one; else any function of it will do
                value = _bounded(value)
                target += int(value) if value == int(value) >= 0 else int(abs(value) * 12)
            total += self._reduced(term, logits[target % len(logits)], logits)
        return total / len(rows)


def along(node: Node, index: tuple[int, ...]) -> tuple[int, ...]:
    """One index an axis from one index a mode."""
    position = [0] * len(node.shape)
    for mode, value in zip(node.modes, index):
        position[mode.axis] += mode.stride * value
    return tuple(position)


def table_of(evaluation: Evaluation, id: int) -> Table:
    """All entries of a node, by their index along the axes."""
    node = evaluation.graph[id]
    return {along(node, at): evaluation.at(id, at) for at in itertools.product(*(range(m.size) for m in node.modes))}


def _indexed(access: Access) -> Callable[[Mapping[int, int]], tuple[int, ...]]:
    """How the index at which an operand is read comes from the values of the variables."""
    plain = [ix.plain for ix in access.index]
    if None in plain:
        return lambda env: tuple(_number(ix, env) for ix in access.index)
    if len(plain) > 1:
        return itemgetter(*plain)
    return (lambda env: (env[plain[0]],)) if plain else lambda env: ()  # type: ignore[index]


def _number(ix: Ix, env: Mapping[int, int]) -> int:
    return ix.offset + sum(stride * env[v] for stride, v in ix.terms)
