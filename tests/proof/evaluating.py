"""A gauge evaluated with numpy, straight from its tree: it shares no code with the compiler but the tree."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from gaugec.language import tree as t
from gaugec.sampling.counterexample import Counterexample, Part

Values = dict[str, np.ndarray]
NAMED = {
    "relu": lambda x: np.maximum(x, 0),
    "abs": np.abs,
    "exp": np.exp,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": np.vectorize(lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2, otypes=[float]),
    "diag": np.diag,
    "outer": np.outer,
    "inv": np.linalg.inv,
}


class Numpy:
    """Evaluates expressions; `masks` are the dropouts' in the order in which they stand."""

    def __init__(self, gauge: t.Gauge, sizes: Mapping[str, int], values: Values) -> None:
        self.gauge, self.sizes, self.values = gauge, sizes, dict(values)
        self.operators = {operator.name: operator for operator in gauge.operators}

    def kept(self) -> Values:
        for model in self.gauge.models:
            self.values[model.name] = np.asarray(self.of(model.expr, self.values))
        return {name: self.values[name] for name in self.gauge.keeps}

    def moved(self, element: np.ndarray) -> Values:
        here = {**self.values, self.gauge.element.name: element}
        new = {action.param: np.asarray(self.of(action.expr, here)) for action in self.gauge.actions}
        return {**self.values, **new}

    def of(self, expr: t.Expr, env: Mapping[str, np.ndarray]) -> np.ndarray:
        match expr:
            case t.Name(id=name):
                return env[name]
            case t.Number(value=value):
                return np.asarray(float(value))
            case t.Negate(x=x):
                return -self.of(x, env)
            case t.Transpose(x=x):
                return np.swapaxes(self.of(x, env), -1, -2)
            case t.Binary(op=op, left=left, right=right):
                a, b = self.of(left, env), self.of(right, env)
                return {
                    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "@": np.matmul, "**": np.power,
                }[op](a, b)  # fmt: skip
            case t.Call(op="ones", args=(t.Name(id=dim),)):
                return np.ones(self.sizes[dim])
            case t.Call():
                return self.call(expr, [self.of(arg, env) for arg in expr.args])
        raise TypeError(type(expr))

    def call(self, expr: t.Call, args: list[np.ndarray]) -> np.ndarray:
        x = args[0]
        if expr.op in self.operators:
            operator = self.operators[expr.op]
            return self.of(operator.expr, {operator.argument: x})
        if expr.op in NAMED:
            return NAMED[expr.op](*args)
        if expr.op == "max":
            return np.maximum(*args)
        eps = float(dict(expr.options).get("eps", 1e-6))
        if expr.op == "softmax":
            e = np.exp(x - x.max(-1, keepdims=True))
            return e / e.sum(-1, keepdims=True)
        if expr.op in ("rms_norm", "layer_norm"):
            x = x - x.mean(-1, keepdims=True) if expr.op == "layer_norm" else x
            return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
        if expr.op == "cross_entropy":
            logits = x - x.max(-1, keepdims=True)
            logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
            return -np.take_along_axis(logs, args[1].astype(int)[..., None], -1).mean()
        if expr.op == "dropout":
            return x * self.values["dropout"]
        assert expr.op == "rope", expr.op
        over = expr.shape[-2]
        cos, sin = self.values[f"cos over {over}"], self.values[f"sin over {over}"]
        first, second = np.split(x, 2, axis=-1)
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


def array(part: Part) -> np.ndarray:
    made = np.zeros(part.shape)
    for at, value in part.values.items():
        made[at] = float(value)
    return made


def point(case: Counterexample) -> Values:
    """Every leaf of the case, by name."""
    return {part.name: array(part) for part in (*case.params, *case.givens)}


def identity(case: Counterexample, element: np.ndarray) -> np.ndarray:
    """The identity beside an element."""
    if case.group == "translation":
        return np.zeros_like(element)
    k = len(element)
    return np.ones(k) if case.group.startswith("positive") else np.eye(k)


def member(group: str, g: np.ndarray) -> bool:
    """Whether a matrix or vector is an element of the group."""
    if group == "translation":
        return True
    k = len(g)
    if group in ("positive", "positive_pairs"):
        return bool((g > 0).all()) and (group == "positive" or np.array_equal(g[: k // 2], g[k // 2 :]))
    if group == "invertible":
        return abs(np.linalg.det(g)) > 1e-9
    good = np.allclose(g @ g.T, np.eye(k))
    if group == "orthogonal_ones":
        good = good and np.allclose(g @ np.ones(k), 1)
    if group == "torus":
        h = k // 2
        blocks = [g[:h, :h], g[:h, h:], g[h:, :h], g[h:, h:]]
        good = good and all(np.array_equal(block, np.diag(np.diag(block))) for block in blocks)
        good = good and np.allclose(blocks[0], blocks[3]) and np.allclose(blocks[1], -blocks[2])
    return good


def change(gauge: t.Gauge, sizes: Mapping[str, int], values: Values, element: np.ndarray) -> tuple[Values, Values]:
    """What is kept, before and after the element has moved the parameters."""
    with np.errstate(all="ignore"):
        world = Numpy(gauge, sizes, values)
        before = world.kept()
        after = Numpy(gauge, sizes, world.moved(element)).kept()
    return before, after


def plainly(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether two values differ by more than the eps of a norm."""
    finite = np.isfinite(before) & np.isfinite(after)
    return bool((np.abs(before - after) > 1e-3 * (1 + np.abs(before) + np.abs(after)))[finite].any())
