"""A judge of gauges that shares nothing with the prover: it reads the checked tree and computes in float64.

`judge(gauge)` evaluates the model lines before and after random finite elements of the group and says whether the gauge
is sound: what is kept does not change, the map is an action of the group, and it moves a parameter.  It knows the
language only: an interpreter of its own over `gaugec.language.tree`, samplers of its own for every group, its own
tables of rotary angles.  It believes no law, so it can be wrong only by chance; several sizes, scales and elements, and
tolerances far from both rounding errors and real changes, make that unlikely.

Every `eps` of a norm is read as *some* positive number: a random one of order 1 here, the same for equal eps, so that
what holds only up to it is seen.  What fails with it and holds without is "approximate".  Where a formula has no value
before or after (a root of a negative number) nothing is compared; that it has one on one side alone is a change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from soundness.drawing import Array, Unjudged, compose, element, identity

from gaugec.language import tree as t

TOLERANCE = 1e-9  # of the largest intermediate value: rounding stays far below, real changes are far above
SAMPLES = 9
NO_VALUE = "no point has a value"


@dataclass(frozen=True)
class Judgement:
    """verdict: "sound", "approximate" (sound where every eps is zero), "unsound", or "unjudged" (nothing has value)."""

    verdict: str
    reason: str = ""

    @property
    def sound(self) -> bool:
        return self.verdict == "sound"


# --- the interpreter -----------------------------------------------------------------------------------------------
_ERF = np.vectorize(math.erf, otypes=[float])


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * x))


POINTWISE: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.where(x > 0, x, 0.0),
    "silu": lambda x: x * _sigmoid(x),
    "gelu": lambda x: 0.5 * x * (1 + _ERF(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "exp": np.exp,
    "abs": np.abs,
}


@dataclass
class Chance:
    """What is drawn once for a sample and read by every evaluation: dropout's masks, the values of eps."""

    rng: np.random.Generator
    without: bool = False  # every eps is zero
    masks: dict[object, Array] = field(default_factory=dict)
    eps: dict[Fraction, float] = field(default_factory=dict)

    def mask(self, key: object, shape: tuple[int, ...]) -> Array:
        if key not in self.masks:
            self.masks[key] = rng_mask(self.rng, shape)
        return self.masks[key]

    def some(self, eps: Fraction) -> float:
        if self.without or eps == 0:
            return 0.0
        if eps not in self.eps:
            self.eps[eps] = float(self.rng.uniform(0.2, 0.9))
        return self.eps[eps]


def rng_mask(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    mask = np.where(rng.uniform(size=shape) < 0.7, 1 / 0.7, 0.0)
    if mask.size > 1:  # a mask that keeps or drops everything is no dropout
        mask.flat[0], mask.flat[-1] = 0.0, 1 / 0.7
    return mask


class Interpreter:
    """Values of expressions where names are the given arrays; remembers the largest number that it met."""

    def __init__(
        self, operators: Mapping[str, t.Operator], sizes: Mapping[str, int], chance: Chance, values: dict[str, Array]
    ) -> None:
        self.operators, self.sizes, self.chance, self.values = operators, sizes, chance, values
        self.largest = 1.0
        self.line, self.draws = "", 0

    def run(self, line: str, expr: t.Expr) -> Array:
        """The value of one line; its dropouts are told apart by their order in it."""
        self.line, self.draws = line, 0
        return self.value(expr)

    def value(self, expr: t.Expr) -> Array:
        made = np.asarray(self._value(expr), dtype=float)
        if isinstance(expr, t.Number):  # exact, however large
            return made
        finite = made[np.isfinite(made)]
        if finite.size:
            self.largest = max(self.largest, float(np.abs(finite).max()))
        return made

    def _value(self, expr: t.Expr) -> Array:
        match expr:
            case t.Name(id=name):
                return self.values[name]
            case t.Number(value=value):
                return float(value)
            case t.Negate(x=x):
                return -self.value(x)
            case t.Transpose(x=x):
                return np.swapaxes(self.value(x), -1, -2)
            case t.Binary(op="**", left=left, right=t.Number(value=power)):
                base = self.value(left)
                return base ** int(power) if power.denominator == 1 else np.power(base, float(power))
            case t.Binary(op=op, left=left, right=right):
                a, b = self.value(left), self.value(right)
                if op == "@":
                    return np.matmul(a, b)
                return a + b if op == "+" else a - b if op == "-" else a * b if op == "*" else a / b
            case t.Call():
                return self._call(expr)
        raise Unjudged(f"an expression of the class {type(expr).__name__}")

    def _call(self, expr: t.Call) -> Array:
        name = expr.op
        if name == "ones":
            (dim,) = expr.args
            assert isinstance(dim, t.Name)
            return np.ones(self.sizes[dim.id])
        args = [self.value(arg) for arg in expr.args]
        x = args[0]
        if name in self.operators:
            operator = self.operators[name]
            inner = Interpreter({}, {}, self.chance, {operator.argument: x})
            made = np.broadcast_to(inner.value(operator.expr), x.shape)
            self.largest = max(self.largest, inner.largest)
            return made
        if name in POINTWISE:
            return POINTWISE[name](x)
        if name == "max":
            return np.maximum(x, args[1])
        if name == "dropout":
            self.draws += 1
            return x * self.chance.mask((self.line, self.draws), x.shape)
        if name == "diag":
            return np.diag(x)
        if name == "outer":
            return np.multiply.outer(x, args[1])
        if name == "inv":
            return np.linalg.inv(x)
        if name in ("softmax", "log_softmax", "cross_entropy"):
            top = x.max(axis=-1, keepdims=True)
            logs = x - top - np.log(np.exp(x - top).sum(axis=-1, keepdims=True))
            if name == "cross_entropy":
                targets = args[1].astype(int)
                return -np.take_along_axis(logs, targets[..., None], axis=-1).mean()
            return np.exp(logs) if name == "softmax" else logs
        if name in ("rms_norm", "layer_norm"):
            eps = self.chance.some(dict(expr.options).get("eps", Fraction(1, 10**6)))
            if name == "layer_norm":
                x = x - x.mean(axis=-1, keepdims=True)
            return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
        if name == "rope":
            return rope(x)
        raise Unjudged(f"the operator {name}")


def rope(q: Array) -> Array:
    """Rotary embedding by the definition: plane j of position p turns by p / 50^(2j/width)."""
    positions, half = np.arange(q.shape[-2])[:, None], q.shape[-1] // 2
    angle = positions * 50.0 ** (-np.arange(half) / half)
    one, two = q[..., :half], q[..., half:]
    return np.concatenate(
        [one * np.cos(angle) - two * np.sin(angle), two * np.cos(angle) + one * np.sin(angle)], axis=-1
    )


# --- one sample ----------------------------------------------------------------------------------------------------
def calls(expr: t.Expr, name: str) -> list[t.Call]:
    """Every call of an operator in an expression."""
    match expr:
        case t.Call(op=op, args=args):
            inside = [call for arg in args for call in calls(arg, name)]
            return [expr, *inside] if op == name else inside
        case t.Binary(left=left, right=right):
            return calls(left, name) + calls(right, name)
        case t.Negate(x=x) | t.Transpose(x=x):
            return calls(x, name)
    return []


def _every(gauge: t.Gauge, name: str) -> list[t.Call]:
    exprs = [model.expr for model in gauge.models] + [action.expr for action in gauge.actions]
    return [call for expr in exprs for call in calls(expr, name)]


def sizes_of(gauge: t.Gauge, turn: int) -> dict[str, int]:
    """A different size for every dim: even and at least 4 where coordinates form pairs, at least 3 under a group."""
    shapes = [given.shape for given in gauge.givens] + [param.shape for param in gauge.params]
    dims = list(dict.fromkeys([*gauge.dims, *(dim for shape in shapes for dim in shape)]))
    paired = {call.shape[-1] for call in _every(gauge, "rope")}
    if gauge.element.group in ("torus", "positive_pairs"):
        paired.update(gauge.element.dims)
    sizes: dict[str, int] = {}
    evens, others = iter((4, 6, 8, 10, 12, 14)), iter((3, 5, 2, 7, 9, 11, 13, 15, 17, 19, 21, 23))
    if turn % 2:
        evens, others = iter((6, 4, 8, 12, 10, 14)), iter((5, 3, 2, 9, 7, 11, 13, 15, 17, 19, 21, 23))
    group = [dim for dim in dims if dim in gauge.element.dims]
    for dim in [*group, *(dim for dim in dims if dim not in group)]:
        sizes[dim] = next(evens) if dim in paired else next(others, 25 + len(sizes))
    return sizes


def _draw(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> Array:
    return scale * rng.choice((-1, 1), shape) * rng.uniform(0.25, 1.75, shape)


@dataclass
class Sample:
    """One point: sizes, data, parameters, two elements."""

    gauge: t.Gauge
    rng: np.random.Generator
    turn: int
    without: bool
    positive: bool = False

    def __post_init__(self) -> None:
        gauge, rng, turn = self.gauge, self.rng, self.turn
        self.sizes = sizes_of(gauge, turn)
        self.chance = Chance(rng, self.without)
        self.operators = {operator.name: operator for operator in gauge.operators}
        self.group = gauge.element.group
        dim = gauge.element.dims[0]
        self.k = 1 if dim == "1" else self.sizes[dim]  # of one number
        scale = (1.0, 0.3, 4.0, 1.0, 12.0, 0.05)[turn % 6]
        targets = {}
        for call in _every(gauge, "cross_entropy"):
            target = call.args[1]
            if not isinstance(target, t.Name) or target.id not in {given.name for given in gauge.givens}:
                raise Unjudged("a target that is no given value")
            targets[target.id] = self.sizes[call.args[0].shape[-1]]
        self.given: dict[str, Array] = {}
        for given in gauge.givens:
            shape = tuple(self.sizes[dim] for dim in given.shape)
            if given.name in targets:
                self.given[given.name] = rng.integers(0, targets[given.name], shape).astype(float)
            else:
                self.given[given.name] = _draw(rng, shape, 1.0)
        absent = [param.name for param in gauge.params if param.optional and (turn % 3 == 1 or rng.uniform() < 0.25)]
        self.absent = frozenset(absent if turn else ())
        self.params = {
            param.name: self._drawn(param.shape, scale) * (0.0 if param.name in self.absent else 1.0)
            for param in gauge.params
        }
        far = (0.7, 0.2, 1.4)[turn % 3]
        self.g = element(self.group, self.k, far, turn % 2 == 1, rng)
        self.h = element(self.group, self.k, 0.9, turn % 4 > 1, rng)

    def _drawn(self, dims: tuple[str, ...], scale: float) -> Array:
        drawn = _draw(self.rng, tuple(self.sizes[dim] for dim in dims), scale)
        return np.abs(drawn) if self.positive else drawn

    def acted(self, params: dict[str, Array], by: Array) -> tuple[dict[str, Array], float]:
        """The parameters after an element has acted on all of them at once, and the largest number met."""
        interpreter = Interpreter(self.operators, self.sizes, self.chance, {**params, self.gauge.element.name: by})
        new = dict(params)
        for action in self.gauge.actions:
            new[action.param] = interpreter.run(f"{action.param} ->", action.expr)
        return new, interpreter.largest

    def kept(self, params: dict[str, Array]) -> tuple[dict[str, Array], float]:
        interpreter = Interpreter(self.operators, self.sizes, self.chance, {**self.given, **params})
        for model in self.gauge.models:
            interpreter.values[model.name] = interpreter.run(model.name, model.expr)
        return {name: interpreter.values[name] for name in self.gauge.keeps}, interpreter.largest


def apart(before: Array, after: Array, scale: float) -> float:
    """How far two values are apart, in units of the tolerance; 0 where they have no value in common."""
    both = np.isfinite(before) & np.isfinite(after)
    if not both.any():
        return 0.0
    return float((np.abs(before - after)[both] / (TOLERANCE * scale)).max())


# --- the verdict ---------------------------------------------------------------------------------------------------
def judge(gauge: t.Gauge, *, seed: int = 0, samples: int = SAMPLES) -> Judgement:
    """Whether a checked gauge is sound, by numbers alone."""
    try:
        with np.errstate(all="ignore"):
            first = _judged(gauge, seed, samples, without=False)
            if first.verdict == "unsound" and (_every(gauge, "rms_norm") or _every(gauge, "layer_norm")):
                again = _judged(gauge, seed, samples, without=True)
                if again.verdict == "sound":
                    return Judgement("approximate", first.reason)
            return first
    except Unjudged as what:
        return Judgement("unjudged", str(what))


def _judged(gauge: t.Gauge, seed: int, samples: int, *, without: bool) -> Judgement:
    rng = np.random.default_rng(seed)
    orders = {"h g", "g h"}
    moves = False
    compared = dict.fromkeys(gauge.keeps, 0)
    undefined = False
    for turn in range(2 * samples):
        if turn >= samples and not undefined:
            break
        # where a root has no value, it may have one at positive numbers
        sample = Sample(gauge, rng, turn, without, turn >= samples)
        try:
            moved, large = sample.acted(sample.params, sample.g)
            before, one = sample.kept(sample.params)
            after, two = sample.kept(moved)
            still, _ = sample.acted(sample.params, identity(sample.group, sample.k))
            twice, three = sample.acted(moved, sample.h)
        except np.linalg.LinAlgError:
            continue
        scale = max(one, two)
        for name in gauge.keeps:
            undefined = undefined or bool(np.isnan(before[name]).any())
            compared[name] += int((np.isfinite(before[name]) & np.isfinite(after[name])).sum())
            if apart(before[name], after[name], scale) > 1 or (np.isnan(before[name]) != np.isnan(after[name])).any():
                return Judgement("unsound", f"{name} changes at {_sized(sample)}")
        for action in gauge.actions:
            role = action.param
            if apart(sample.params[role], still[role], large) > 1:
                return Judgement("unsound", f"the identity moves {role}")
            moves = moves or apart(sample.params[role], moved[role], 1.0) > 1
        for order in sorted(orders):
            left, right = (sample.h, sample.g) if order == "h g" else (sample.g, sample.h)
            once, four = sample.acted(sample.params, compose(sample.group, left, right))
            if any(
                apart(once[action.param], twice[action.param], max(large, three, four)) > 1 for action in gauge.actions
            ):
                orders.discard(order)
        if not orders:
            return Judgement("unsound", "acting twice is not acting by the product")
    if not all(compared.values()):
        return Judgement("unjudged", NO_VALUE)
    return Judgement("sound") if moves else Judgement("unsound", "nothing moves")


def _sized(sample: Sample) -> str:
    sizes = ", ".join(f"{dim} = {size}" for dim, size in sample.sizes.items())
    without = f", without {', '.join(sorted(sample.absent))}" if sample.absent else ""
    return sizes + without
