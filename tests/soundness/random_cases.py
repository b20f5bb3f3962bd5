"""Random gauges: formulas, operators, groups and actions drawn by chance, a part of them true on purpose.

`case(seed)` is a text.  Three ways to make one, so that the mix is healthy:
- *typed*: a formula is grown from what is kept down to its leaves, each part carrying how it is to move (times c^q along
  the group's axis, turned on its left or right), and every leaf's action follows from that.  A slip on the way, with a
  small probability at each step (an operator without the law, a wrong exponent or side, a forgotten action), makes a
  false gauge that looks true;
- *shifted*: translations, and formulas that forget some of them;
- *wild*: any formula of the right shapes, and any actions.

Nothing here knows which are true.  Shapes are mostly right; what the language refuses is drawn again.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from soundness.writing import checked

from gaugec.language import tree as t

DIMS = ("n", "d", "e", "f")
SCALES = ("positive", "positive", "positive", "positive_pairs")
TURNS = ("orthogonal", "orthogonal", "orthogonal_ones", "torus", "invertible")
OPS = (
    ("max(x, 0)**2", "2"),
    ("x * abs(x)", "2"),
    ("max(x, 0) - max(-x, 0) / 10", "1"),
    ("abs(x)**(1/2)", "1/2"),
    ("x**2 - x * abs(x) / 2", "2"),
    ("max(x, 0)**3 + max(-x, 0)**3", "3"),
    ("max(x, -x)", "1"),
    ("(x**2)**(1/2)", "1"),
    ("x**3 / (1 + 0 * x)", "3"),
    ("x / abs(x)**(1/2)", "1/2"),
    # without a degree
    ("max(x, 0) + max(x, 0)**2", ""),
    ("max(x, 0) - max(x - 6, 0)", ""),
    ("x * sigmoid(1.7 * x)", ""),
    ("max(x, 1)", ""),
    ("x**2 + 1", ""),
    ("max(x, 0)**2 - max(-x, 0)", ""),
    ("exp(-x**2)", ""),
    ("tanh(x)**2", ""),
    ("abs(x) / x", ""),
)
EVEN = ("abs", "x**2")
ANY = ("relu", "silu", "gelu", "sigmoid", "tanh", "exp", "abs", "gelu_tanh", "dropout")
ROWS = ("softmax", "log_softmax", "rms_norm", "layer_norm", "rope")
SLIP = 0.18


@dataclass
class Draft:
    """A gauge in the making: its names with shapes and actions."""

    rng: random.Random
    group: str
    dim: str = "k"
    givens: dict[str, tuple[str, ...]] = field(default_factory=dict)
    params: dict[str, tuple[str, ...]] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)
    actions: dict[str, str] = field(default_factory=dict)
    models: list[tuple[str, str]] = field(default_factory=list)
    ops: list[str] = field(default_factory=list)
    slip: float = SLIP

    def slips(self) -> bool:
        return self.rng.random() < self.slip

    def pick(self, *choices: str) -> str:
        return self.rng.choice(choices)

    def given(self, shape: tuple[str, ...], reuse: float = 0.3) -> str:
        known = [name for name, own in self.givens.items() if own == shape and not name.startswith("t")]
        if known and self.rng.random() < reuse:
            return self.rng.choice(known)
        name = f"x{len(self.givens)}"
        self.givens[name] = shape
        return name

    def param(self, shape: tuple[str, ...], action: str = "") -> str:
        name = f"W{len(self.params)}"
        self.params[name] = shape
        if action:
            self.actions[name] = action.replace("@@", name)
        return name

    def op(self, expr: str) -> str:
        name = f"own{len(self.ops)}"
        self.ops.append(f"op {name}(x) = {expr}")
        return name

    def text(self, keeps: tuple[str, ...]) -> str:
        lines = list(self.ops)
        used = {dim for shape in (*self.givens.values(), *self.params.values()) for dim in shape} | {self.dim}
        body = " ".join(expr for _, expr in self.models) + " ".join(self.actions.values())
        used |= {dim for dim in (*DIMS, "k") if f"ones({dim})" in body}
        lines.append(f"gauge g({', '.join(dim for dim in (*DIMS, 'k') if dim in used)}):")
        if self.givens:
            lines.append("    given  " + ", ".join(f"{n}[{', '.join(s)}]" for n, s in self.givens.items()))
        lines.append(
            "    param  "
            + ", ".join(f"{n}[{', '.join(s)}]{self.marks.get(n, '')}" for n, s in self.params.items())
        )
        lines += [f"    model  {name} = {expr}" for name, expr in self.models]
        lines.append(f"    for every R in {self.group}({self.dim}):")
        lines += [f"        {name} -> {expr}" for name, expr in self.actions.items()]
        lines.append(f"    keeps  {', '.join(keeps)}")
        if self.group in SCALES:
            name = next(
                (n for n in self.actions if self.dim in self.params[n] and n not in self.marks), next(iter(self.actions))
            )
            shape = self.params[name]
            norm = "abs" if len(shape) == 1 else "rownorm" if shape[0] == self.dim else "colnorm"
            lines.append(f"    fix    {norm}({name}) == 1")
        return "\n".join(lines) + "\n"


# --- scales: every part moves by c^charge along the group's axis ---------------------------------------------------
def _power(q: str) -> str:
    """c^q in a spec's words; q is a number as text."""
    return {"1": "R", "-1": "1/R", "2": "R**2", "-2": "1/R**2"}.get(q, f"R**({q})")


def _times(q: str, by: str) -> str:
    from fractions import Fraction

    return str(Fraction(q) * Fraction(by))


def _scaled_leaf(d: Draft, shape: tuple[str, ...], q: str) -> str:
    if d.dim not in shape or q == "0":
        return d.given(shape) if d.rng.random() < 0.6 else d.param(shape)
    if d.slips():
        q = d.rng.choice(("0", "1", "-1", "2", "1/2"))
        if q == "0":
            return d.param(shape)
    if len(shape) == 1:
        return d.param(shape, d.pick(f"{_power(q)} * @@", f"@@ * {_power(q)}", f"@@ / {_power(_times(q, '-1'))}"))
    if shape[0] == d.dim:
        return d.param(shape, d.pick(f"diag({_power(q)}) @ @@", f"(@@.T * {_power(q)}).T"))
    return d.param(shape, d.pick(f"@@ @ diag({_power(q)})", f"@@ * {_power(q)}"))


def _scaled(d: Draft, shape: tuple[str, ...], q: str, depth: int) -> str:
    """A part of the shape that moves by c^q along the group's axis (q is "0" where the shape lacks it)."""
    rng = d.rng
    if d.dim not in shape:
        q = "0"
    if depth <= 0:
        return _scaled_leaf(d, shape, q)
    if d.slips():
        q = rng.choice(("0", "1", "-1", "2"))
    free = d.dim not in shape or q == "0"
    way = rng.random()
    if len(shape) == 2 and way < 0.4:
        inner = d.dim if d.dim not in shape and rng.random() < 0.75 else d.pick(*(x for x in DIMS if x not in shape))
        charge = d.pick("1", "1", "2", "-1", "1/2")
        left, right = ((shape[0], inner), (inner, shape[1]))
        if inner == d.dim:
            a, b = _scaled(d, left, charge, depth - 1), _scaled(d, right, _times(charge, "-1"), depth - 1)
        else:
            a = _scaled(d, left, q if d.dim in left else "0", depth - 1)
            b = _scaled(d, right, q if d.dim in right else "0", depth - 1)
        return d.pick(f"({a} @ {b})", f"({b}.T @ {a}.T).T")
    if len(shape) == 1 and way < 0.15 and d.dim not in shape:
        a = _scaled(d, (shape[0], d.dim), "1", depth - 1)
        return f"({a} @ {_scaled(d, (d.dim,), '-1', depth - 1)})"
    if way < 0.5:
        b = _scaled(d, shape[-1:] if rng.random() < 0.4 else shape, q, depth - 1)
        if not (len(shape) == 2 and q != "0" and d.dim == shape[0] and b in d.params and len(d.params[b]) == 1):
            return f"({_scaled(d, shape, q, depth - 1)} {d.pick('+', '-')} {b})"
    if way < 0.6:
        charge = d.pick("1", "-1", "0")
        from fractions import Fraction

        rest = str(Fraction(q) - Fraction(charge))
        sign = d.pick("*", "/")
        other = rest if sign == "*" else _times(rest, "-1")
        return f"({_scaled(d, shape, charge, depth - 1)} {sign} {_scaled(d, shape, other, depth - 1)})"
    if way < 0.75 and not free:
        expr, degree = rng.choice([op for op in OPS if op[1]] if not d.slips() else OPS)
        inside = _times(q, f"1/{degree}") if degree and "/" not in degree else _times(q, "2") if degree else q
        kind = rng.random()
        if kind < 0.35:
            return f"{d.pick('relu', 'abs')}({_scaled(d, shape, q, depth - 1)})"
        if kind < 0.5:
            return f"max({_scaled(d, shape, q, depth - 1)}, {'0' if not d.slips() else '1'})"
        if kind < 0.65:
            power = d.pick("2", "1/2", "-1", "3", "-2", "1/3", "5")
            from fractions import Fraction

            return f"({_scaled(d, shape, str(Fraction(q) / Fraction(power)), depth - 1)})**({power})"
        return f"{d.op(expr)}({_scaled(d, shape, inside, depth - 1)})"
    if way < 0.8 and free:
        return f"{d.pick(*ANY)}({_scaled(d, shape, q, depth - 1)})"
    if way < 0.86 and (free or d.slips()):
        name = d.pick(*ROWS[:4]) if len(shape) == 1 or shape[-1] == d.dim else d.pick(*ROWS)
        return f"{name}({_scaled(d, shape, q, depth - 1)})"
    if way < 0.9 and len(shape) == 2 and shape[0] == d.dim:
        eps = d.pick(", eps=0", ", eps=0", "")
        return f"{d.pick('rms_norm', 'layer_norm')}({_scaled(d, shape, d.pick('1', '-1', '2'), depth - 1)}{eps})"
    if way < 0.93:
        number = d.pick("2", "-1", "1/3", "0.5")
        return f"({number}) * {_scaled(d, shape, q, depth - 1)}"
    if way < 0.95:
        return f"dropout({_scaled(d, shape, q, depth - 1)})"
    return _scaled_leaf(d, shape, q)


# --- rotations: the group's axis of every part turns ---------------------------------------------------------------
def _turned_leaf(d: Draft, shape: tuple[str, ...], dual: bool) -> str:
    if d.dim not in shape:
        return d.given(shape) if d.rng.random() < 0.6 else d.param(shape)
    if d.slips():
        return d.given(shape) if d.rng.random() < 0.3 else d.param(shape)
    if d.slips():
        dual = not dual
    by, turned = ("R", "R.T")
    if dual:
        by = d.pick("inv(R).T", "inv(R.T)") if d.group == "invertible" or d.rng.random() < 0.1 else "R"
        turned = "inv(R)" if d.group == "invertible" else "R.T"
    if d.slips():
        by, turned = turned, by
    if shape.count(d.dim) == 2:
        return d.param(shape, d.pick(f"{by} @ @@ @ {turned}", f"{by} @ @@", f"@@ @ {turned}", "R @ @@ @ inv(R)"))
    if len(shape) == 1:
        return d.param(shape, d.pick(f"{by} @ @@", f"@@ @ {turned}"))
    if shape[0] == d.dim:
        return d.param(shape, d.pick(f"{by} @ @@", f"(@@.T @ {turned}).T"))
    return d.param(shape, d.pick(f"@@ @ {turned}", f"({by} @ @@.T).T"))


def _turned(d: Draft, shape: tuple[str, ...], depth: int, dual: bool = False) -> str:
    rng = d.rng
    if depth <= 0:
        return _turned_leaf(d, shape, dual)
    free = d.dim not in shape
    way = rng.random()
    if len(shape) == 2 and way < 0.4:
        inner = d.dim if free and rng.random() < 0.8 else d.pick(*(x for x in DIMS if x not in shape))
        left = _turned(d, (shape[0], inner), depth - 1, dual)
        other = not dual if inner == d.dim else dual
        right = (
            f"{_turned(d, (shape[1], inner), depth - 1, other)}.T"
            if rng.random() < 0.5
            else _turned(d, (inner, shape[1]), depth - 1, other)
        )
        if d.group == "torus" and inner == d.dim and rng.random() < 0.3 and right.endswith(".T"):
            return f"(rope({left}) @ rope({right[:-2]}).T)"
        return f"({left} @ {right})"
    if len(shape) == 1 and way < 0.3 and free:
        a = _turned(d, (shape[0], d.dim), depth - 1, dual)
        return f"({a} @ {_turned(d, (d.dim,), depth - 1, not dual)})"
    if way < 0.55:
        short = shape[-1:] if rng.random() < 0.3 and (free or shape[-1] == d.dim) else shape
        return f"({_turned(d, shape, depth - 1, dual)} {d.pick('+', '-')} {_turned(d, short, depth - 1, dual)})"
    if way < 0.7 and not free and shape[-1] == d.dim and d.group != "invertible":
        norm = "rms_norm" if d.group != "orthogonal_ones" or rng.random() < 0.3 else "layer_norm"
        return f"{d.pick(norm, norm, norm, 'layer_norm')}({_turned(d, shape, depth - 1, dual)}{d.pick('', ', eps=0')})"
    if way < 0.8 and (free or d.slips()):
        return f"{d.pick(*ANY)}({_turned(d, shape, depth - 1, dual)})"
    if way < 0.85 and (free or d.slips()):
        name = d.pick(*ROWS[:4]) if len(shape) == 1 or shape[-1] == d.dim else d.pick(*ROWS)
        return f"{name}({_turned(d, shape, depth - 1, dual)})"
    if way < 0.88 and (free or d.slips()):
        return f"({_turned(d, shape, depth - 1, dual)})**({d.pick('2', '1/2', '-1', '3', '-1/2')})"
    if way < 0.91 and (free or d.slips()):
        return f"({_turned(d, shape, depth - 1, dual)} * {_turned(d, shape, depth - 1, dual)})"
    if way < 0.93 and not free and len(shape) == 2 and shape[0] == d.dim:
        scale = d.given((shape[1],)) if rng.random() < 0.7 else d.param((shape[1],))
        return f"({_turned(d, shape, depth - 1, dual)} * {scale})"
    if way < 0.95 and not free and len(shape) == 2 and shape == (d.dim, d.dim):
        return f"({_turned(d, shape, depth - 1, dual)}).T"
    if way < 0.97:
        return f"({d.pick('2', '-1', '1/3')}) * {_turned(d, shape, depth - 1, dual)}"
    return _turned_leaf(d, shape, dual)


# --- translations --------------------------------------------------------------------------------------------------
def _shifted(rng: random.Random) -> tuple[Draft, tuple[str, ...]]:
    d = Draft(rng, "translation", "k")
    slip = rng.random() < 0.5
    way = rng.randrange(7)
    if way == 0:  # every logit of a row moves alike
        x = d.given(("n", "k"))
        w = d.param(("d", "k"), f"@@ + outer(ones(d), {d.pick('R', '-R', 'R / 2', '3 * R')})")
        logits = f"{x} @ {w}.T"
        if rng.random() < 0.5:
            logits = f"({logits} + {d.param(('d',)) if rng.random() < 0.7 else d.given(('n', 'd'))})"
        if slip and rng.random() < 0.5:
            logits = f"{d.pick('relu', 'abs', 'tanh', '2 *')}({logits})"
        kill = d.pick("softmax", "log_softmax", "layer_norm", "cross_entropy", "layer_norm", "rms_norm" if slip else "softmax")
        if kill == "cross_entropy":
            d.givens["t0"] = ("n",)
            kept = f"cross_entropy({logits}, t0)"
        else:
            kept = f"{kill}({logits})"
    elif way == 1:  # what one bias gains another loses
        a, b = d.param(("k",), d.pick("@@ + R", "R + @@")), d.param(("k",), d.pick("@@ - R", "@@ - R", "@@ + R", "-R + @@"))
        sign = "+" if d.actions[b] in (f"{b} - R", f"-R + {b}") or slip else "-"
        kept = f"{d.pick('tanh', 'relu', 'exp', 'abs')}({d.given(('n', 'k'))} + ({a} {sign} {b}))"
    elif way == 2:  # exponentials turn shifts into scales
        a, b = d.param(("k", "d"), "diag(exp(R)) @ @@"), d.param(("e", "k"), d.pick("@@ @ diag(exp(-R))", "@@ * exp(-R)", "@@ / exp(R)", "@@ * exp(R)" if slip else "@@ / exp(R)"))
        h = f"({d.given(('n', 'd'))} @ {a}.T)"
        kept = f"{d.pick('relu', 'abs', 'tanh' if slip else 'relu')}({h}) @ {b}.T"
    elif way == 3:
        a = d.param(("k",), "@@ + R")
        b = d.param(("k",), d.pick("@@ * exp(-R)", "@@ / exp(R)", "@@ * exp(R)" if slip else "exp(-R) * @@"))
        more = d.given(("k",))
        product = d.pick(f"exp({a}) * {b}", f"{b} * exp({a})", f"exp({a} + {more}) * {b}")
        kept = f"({d.given(('n', 'k'))} + {more}) * ({product})"
    elif way == 4:  # keys
        q, kk = d.param(("k", "d")), d.param(("k", "e"))
        b, c = d.param(("k",), "@@ + R"), d.param(("k",))
        if slip:
            b, c = c, b
        s = f"({d.given(('n', 'd'))} @ {q}.T + {c}) @ ({d.given(('f', 'e'))} @ {kk}.T + {b}).T"
        kept = f"{d.pick('softmax', 'log_softmax', 'softmax', 'layer_norm')}({s})"
    elif way == 5:  # a shift along the axis of a softmax
        a = d.param(("k",), d.pick("@@ + R", "@@ + R * R", "@@ + R**2", "@@ + 2 * R", "@@ + outer(ones(k), R) @ ones(k)"))
        kept = f"{d.pick('softmax', 'layer_norm')}({d.given(('k', 'n'))}.T + {a})" if rng.random() < 0.4 else f"softmax(outer({a}, ones(n)) + {d.given(('k', 'n'))})"
    else:
        a = d.param(("k", "d"), d.pick("@@ + outer(R, ones(d))", "@@ - outer(R, ones(d))"))
        b = d.param(("k",), d.pick("@@ - R", "@@ + R", "@@ + R / 2"))
        kept = f"{d.given(('n', 'd'))} @ {a}.T + ({d.given(('n', 'd'))} @ ones(d) * {d.given(('n',))}) @ outer(ones(n), {b})"
        if rng.random() < 0.7:
            kept = f"{a} + {d.pick('outer', 'outer')}({b}, ones(d))"
    d.models.append(("y", kept))
    return d, ("y",)


# --- anything ------------------------------------------------------------------------------------------------------
def _wild_value(d: Draft, shape: tuple[str, ...], depth: int) -> str:
    rng = d.rng
    if depth <= 0 or rng.random() < 0.1:
        known = [n for n, s in d.params.items() if s == shape]
        if known and rng.random() < 0.4:
            return rng.choice(known)
        return d.param(shape) if rng.random() < 0.65 else d.given(shape)
    way = rng.random()
    if way < 0.3 and len(shape) == 2:
        inner = d.pick(*DIMS[:3], "k", "k")
        return f"({_wild_value(d, (shape[0], inner), depth - 1)} @ {_wild_value(d, (inner, shape[1]), depth - 1)})"
    if way < 0.4 and len(shape) <= 1:
        inner = d.pick(*DIMS[:3], "k")
        if shape:
            return f"({_wild_value(d, (shape[0], inner), depth - 1)} @ {_wild_value(d, (inner,), depth - 1)})"
        return f"({_wild_value(d, (inner,), depth - 1)} @ {_wild_value(d, (inner,), depth - 1)})"
    if way < 0.55:
        other = shape[-1:] if rng.random() < 0.3 else shape
        return f"({_wild_value(d, shape, depth - 1)} {d.pick('+', '-', '*', '/')} {_wild_value(d, other, depth - 1)})"
    if way < 0.65:
        return f"{d.pick(*ANY)}({_wild_value(d, shape, depth - 1)})"
    if way < 0.75 and shape:
        name = d.pick(*ROWS) if len(shape) == 2 else d.pick(*ROWS[:4])
        return f"{name}({_wild_value(d, shape, depth - 1)})"
    if way < 0.8:
        return f"({_wild_value(d, shape, depth - 1)})**({d.pick('2', '1/2', '-1', '3', '-2', '0', '5')})"
    if way < 0.85:
        return f"{d.op(rng.choice(OPS)[0])}({_wild_value(d, shape, depth - 1)})"
    if way < 0.9 and len(shape) == 2:
        if shape[0] == shape[1] and rng.random() < 0.5:
            return f"diag({_wild_value(d, shape[:1], depth - 1)})"
        return f"outer({_wild_value(d, shape[:1], depth - 1)}, {_wild_value(d, shape[1:], depth - 1)})"
    if way < 0.95 and len(shape) == 2:
        return f"({_wild_value(d, shape[::-1], depth - 1)}).T"
    if len(shape) == 1 and rng.random() < 0.5:
        return f"ones({shape[0]})"
    return f"max({_wild_value(d, shape, depth - 1)}, {d.pick('0', '1', '-1')})"


def _wild_action(d: Draft, name: str) -> str:
    rng, shape = d.rng, d.params[name]
    matrix = d.group in TURNS
    spell = (
        lambda: d.pick("R", "R", "R.T", "inv(R)", "inv(R).T", "R @ R", "R**2")
        if matrix
        else d.pick("R", "R", "1/R" if d.group != "translation" else "-R", "R**2", "abs(R)", "R * R", "exp(R)")
    )
    others = [n for n in d.params if n != name]
    if shape.count(d.dim) == 2 and rng.random() < 0.5:
        return f"{spell()} @ {name} @ {spell()}" if matrix else f"diag({spell()}) @ {name} @ diag({spell()})"
    if d.dim not in shape:
        if len(shape) == 0:
            return f"{name} * (R @ ones({d.dim})) @ ones({d.dim})" if matrix else f"{name} + ones({d.dim}) @ R"
        if len(shape) == 2 and rng.random() < 0.3 and not matrix:
            return f"{name} + outer(ones({shape[0]}), ones({shape[1]})) * (ones({d.dim}) @ R)"
        return f"{name} * (ones({d.dim}) @ {spell()} @ ones({d.dim}))" if matrix else f"{name} * (ones({d.dim}) @ {spell()})"
    conjugated = [n for n in others if d.params[n] == (d.dim,)]
    if conjugated and matrix and rng.random() < 0.25:
        other = rng.choice(conjugated)
        by = f"diag({other}) @ {spell()} @ diag(1/{other})"
    else:
        by = spell() if matrix else f"diag({spell()})"
    if d.group == "translation" and rng.random() < 0.8:
        if len(shape) == 1:
            return f"{name} + {spell()}"
        first = shape[0] == d.dim
        return f"{name} + outer({spell() if first else f'ones({shape[0]})'}, {f'ones({shape[1]})' if first else spell()})"
    if len(shape) == 1:
        return f"{by} @ {name}" if rng.random() < 0.7 else f"{name} @ {by}"
    return f"{by} @ {name}" if shape[0] == d.dim else f"{name} @ {by}"


def _wild(rng: random.Random) -> tuple[Draft, tuple[str, ...]]:
    d = Draft(rng, rng.choice((*SCALES, *TURNS, "translation")))
    shape = rng.choice((("n", "e"), ("n", "k"), ("n",), ("n", "d"), ()))
    first = _wild_value(d, shape, rng.choice((1, 2, 2, 3)))
    d.models.append(("y", first))
    keeps = ["y"]
    if rng.random() < 0.25:
        d.models.append(("z", f"{d.pick('softmax', 'relu', 'layer_norm', '2 *')}(y)" if shape else "y * y"))
        keeps = rng.choice((["z"], ["y", "z"]))
    for name in list(d.params):
        moved = d.dim in d.params[name]
        if rng.random() < (0.85 if moved else 0.05):
            d.actions[name] = _wild_action(d, name)
    return d, tuple(keeps)


def draft(seed: int) -> tuple[str, str]:
    """One text, perhaps malformed, and the way in which it was made."""
    rng = random.Random(seed)
    way = rng.random()
    if way < 0.27:
        d = Draft(rng, rng.choice(SCALES))
        shape = rng.choice((("n", "e"), ("n", "e"), ("n", "d"), ("n",), ("n", "k")))
        keeps, made = ("y",), "typed scale"
        d.models.append(("y", _scaled(d, shape, "0", rng.choice((2, 2, 2, 3)))))
    elif way < 0.54:
        d = Draft(rng, rng.choice(TURNS))
        shape = rng.choice((("n", "e"), ("n", "e"), ("n", "d"), ("n",)))
        keeps, made = ("y",), "typed rotation"
        d.models.append(("y", _turned(d, shape, rng.choice((2, 2, 2, 3)))))
    elif way < 0.62:
        (d, keeps), made = _shifted(rng), "shift"
    else:
        (d, keeps), made = _wild(rng), "wild"
    if made.startswith("typed"):
        if rng.random() < 0.25:
            d.models.append(("z", f"{d.pick('softmax', 'relu', 'tanh', '2 *', 'layer_norm')}(y)"))
            keeps = rng.choice((("z",), ("y", "z")))
        if d.actions and rng.random() < 0.12:
            d.actions.pop(rng.choice(sorted(d.actions)))
        for name in d.params:
            if rng.random() < 0.1 and len(d.params[name]) == 1:
                d.marks[name] = "?"
    return (d.text(keeps) if d.actions else ""), made


def case(seed: int) -> tuple[str, str, t.Gauge, int]:
    """The first well-formed draft of a seed: its text, how it was made, the checked gauge, how many were drawn."""
    tries = 0
    while True:
        tries += 1
        text, made = draft(seed * 1000 + tries)
        gauge = checked(text) if text else None
        if gauge is not None:
            return text, made, gauge, tries
