"""Random translations with formulas that forget some of them, and formulas and actions with no plan at all."""

from __future__ import annotations

import random

from soundness.drafts import ANY, DIMS, OPS, ROWS, SCALES, TURNS, Draft


# --- translations --------------------------------------------------------------------------------------------------
def shifted(rng: random.Random) -> tuple[Draft, tuple[str, ...]]:
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
        last = "rms_norm" if slip else "softmax"
        kill = d.pick("softmax", "log_softmax", "layer_norm", "cross_entropy", "layer_norm", last)
        if kill == "cross_entropy":
            d.givens["t0"] = ("n",)
            kept = f"cross_entropy({logits}, t0)"
        else:
            kept = f"{kill}({logits})"
    elif way == 1:  # what one bias gains another loses
        a = d.param(("k",), d.pick("@@ + R", "R + @@"))
        b = d.param(("k",), d.pick("@@ - R", "@@ - R", "@@ + R", "-R + @@"))
        sign = "+" if d.actions[b] in (f"{b} - R", f"-R + {b}") or slip else "-"
        kept = f"{d.pick('tanh', 'relu', 'exp', 'abs')}({d.given(('n', 'k'))} + ({a} {sign} {b}))"
    elif way == 2:  # exponentials turn shifts into scales
        a = d.param(("k", "d"), "diag(exp(R)) @ @@")
        last = "@@ * exp(R)" if slip else "@@ / exp(R)"
        b = d.param(("e", "k"), d.pick("@@ @ diag(exp(-R))", "@@ * exp(-R)", "@@ / exp(R)", last))
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
        total = "@@ + outer(ones(k), R) @ ones(k)"
        a, x = d.param(("k",), d.pick("@@ + R", "@@ + R * R", "@@ + R**2", "@@ + 2 * R", total)), d.given(("k", "n"))
        kept = f"softmax(outer({a}, ones(n)) + {x})"
        if rng.random() < 0.4:
            kept = f"{d.pick('softmax', 'layer_norm')}({x}.T + {a})"
    else:
        a = d.param(("k", "d"), d.pick("@@ + outer(R, ones(d))", "@@ - outer(R, ones(d))"))
        b = d.param(("k",), d.pick("@@ - R", "@@ + R", "@@ + R / 2"))
        x = d.given(("n", "d"))
        kept = f"{x} @ {a}.T + ({x} @ ones(d) * {d.given(('n',))}) @ outer(ones(n), {b})"
        if rng.random() < 0.7:
            kept = f"{a} + outer({b}, ones(d))" if rng.random() < 0.7 else f"{x} @ {a}.T + outer({x} @ ones(d), {b})"
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

    def spell() -> str:
        if matrix:
            return d.pick("R", "R", "R.T", "inv(R)", "inv(R).T", "R @ R", "R**2")
        return d.pick("R", "R", "1/R" if d.group != "translation" else "-R", "R**2", "abs(R)", "R * R", "exp(R)")

    others = [n for n in d.params if n != name]
    if shape.count(d.dim) == 2 and rng.random() < 0.5:
        return f"{spell()} @ {name} @ {spell()}" if matrix else f"diag({spell()}) @ {name} @ diag({spell()})"
    if d.dim not in shape:
        if len(shape) == 0:
            return f"{name} * (R @ ones({d.dim})) @ ones({d.dim})" if matrix else f"{name} + ones({d.dim}) @ R"
        if len(shape) == 2 and rng.random() < 0.3 and not matrix:
            return f"{name} + outer(ones({shape[0]}), ones({shape[1]})) * (ones({d.dim}) @ R)"
        return f"{name} * (ones({d.dim}) @ {spell()}{f' @ ones({d.dim})' if matrix else ''})"
    conjugated = [n for n in others if d.params[n] == (d.dim,)]
    if conjugated and matrix and rng.random() < 0.25:
        other = rng.choice(conjugated)
        by = f"diag({other}) @ {spell()} @ diag(1/{other})"
    else:
        by = spell() if matrix else f"diag({spell()})"
    if d.group == "translation" and rng.random() < 0.8:
        if len(shape) == 1:
            return f"{name} + {spell()}"
        pair = (spell(), f"ones({shape[1]})") if shape[0] == d.dim else (f"ones({shape[0]})", spell())
        return f"{name} + outer({', '.join(pair)})"
    if len(shape) == 1:
        return f"{by} @ {name}" if rng.random() < 0.7 else f"{name} @ {by}"
    return f"{by} @ {name}" if shape[0] == d.dim else f"{name} @ {by}"


def wild(rng: random.Random) -> tuple[Draft, tuple[str, ...]]:
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
