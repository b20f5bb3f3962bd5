"""Random formulas grown from what is kept down to the leaves, each part with how it is to move; slips on the way."""

from __future__ import annotations

from fractions import Fraction

from soundness.drafts import ANY, DIMS, OPS, ROWS, Draft


# --- scales: every part moves by c^charge along the group's axis ---------------------------------------------------
def _power(q: str) -> str:
    """c^q in a spec's words; q is a number as text."""
    return {"1": "R", "-1": "1/R", "2": "R**2", "-2": "1/R**2"}.get(q, f"R**({q})")


def _times(q: str, by: str) -> str:
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


def scaled(d: Draft, shape: tuple[str, ...], q: str, depth: int) -> str:
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
            a, b = scaled(d, left, charge, depth - 1), scaled(d, right, _times(charge, "-1"), depth - 1)
        else:
            a = scaled(d, left, q if d.dim in left else "0", depth - 1)
            b = scaled(d, right, q if d.dim in right else "0", depth - 1)
        return d.pick(f"({a} @ {b})", f"({b}.T @ {a}.T).T")
    if len(shape) == 1 and way < 0.15 and d.dim not in shape:
        a = scaled(d, (shape[0], d.dim), "1", depth - 1)
        return f"({a} @ {scaled(d, (d.dim,), '-1', depth - 1)})"
    if way < 0.5:
        b = scaled(d, shape[-1:] if rng.random() < 0.4 else shape, q, depth - 1)
        if not (len(shape) == 2 and q != "0" and d.dim == shape[0] and b in d.params and len(d.params[b]) == 1):
            return f"({scaled(d, shape, q, depth - 1)} {d.pick('+', '-')} {b})"
    if way < 0.6:
        charge = d.pick("1", "-1", "0")
        rest = str(Fraction(q) - Fraction(charge))
        sign = d.pick("*", "/")
        other = rest if sign == "*" else _times(rest, "-1")
        return f"({scaled(d, shape, charge, depth - 1)} {sign} {scaled(d, shape, other, depth - 1)})"
    if way < 0.75 and not free:
        expr, degree = rng.choice([op for op in OPS if op[1]] if not d.slips() else OPS)
        inside = _times(q, f"1/{degree}") if degree and "/" not in degree else _times(q, "2") if degree else q
        kind = rng.random()
        if kind < 0.35:
            return f"{d.pick('relu', 'abs')}({scaled(d, shape, q, depth - 1)})"
        if kind < 0.5:
            return f"max({scaled(d, shape, q, depth - 1)}, {'0' if not d.slips() else '1'})"
        if kind < 0.65:
            power = d.pick("2", "1/2", "-1", "3", "-2", "1/3", "5")
            return f"({scaled(d, shape, str(Fraction(q) / Fraction(power)), depth - 1)})**({power})"
        return f"{d.op(expr)}({scaled(d, shape, inside, depth - 1)})"
    if way < 0.8 and free:
        return f"{d.pick(*ANY)}({scaled(d, shape, q, depth - 1)})"
    if way < 0.86 and (free or d.slips()):
        name = d.pick(*ROWS[:4]) if len(shape) == 1 or shape[-1] == d.dim else d.pick(*ROWS)
        return f"{name}({scaled(d, shape, q, depth - 1)})"
    if way < 0.9 and len(shape) == 2 and shape[0] == d.dim:
        eps = d.pick(", eps=0", ", eps=0", "")
        return f"{d.pick('rms_norm', 'layer_norm')}({scaled(d, shape, d.pick('1', '-1', '2'), depth - 1)}{eps})"
    if way < 0.93:
        number = d.pick("2", "-1", "1/3", "0.5")
        return f"({number}) * {scaled(d, shape, q, depth - 1)}"
    if way < 0.95:
        return f"dropout({scaled(d, shape, q, depth - 1)})"
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


def turned(d: Draft, shape: tuple[str, ...], depth: int, dual: bool = False) -> str:
    rng = d.rng
    if depth <= 0:
        return _turned_leaf(d, shape, dual)
    free = d.dim not in shape
    way = rng.random()
    if len(shape) == 2 and way < 0.4:
        inner = d.dim if free and rng.random() < 0.8 else d.pick(*(x for x in DIMS if x not in shape))
        left = turned(d, (shape[0], inner), depth - 1, dual)
        other = not dual if inner == d.dim else dual
        right = (
            f"{turned(d, (shape[1], inner), depth - 1, other)}.T"
            if rng.random() < 0.5
            else turned(d, (inner, shape[1]), depth - 1, other)
        )
        if d.group == "torus" and inner == d.dim and rng.random() < 0.3 and right.endswith(".T"):
            return f"(rope({left}) @ rope({right[:-2]}).T)"
        return f"({left} @ {right})"
    if len(shape) == 1 and way < 0.3 and free:
        a = turned(d, (shape[0], d.dim), depth - 1, dual)
        return f"({a} @ {turned(d, (d.dim,), depth - 1, not dual)})"
    if way < 0.55:
        short = shape[-1:] if rng.random() < 0.3 and (free or shape[-1] == d.dim) else shape
        return f"({turned(d, shape, depth - 1, dual)} {d.pick('+', '-')} {turned(d, short, depth - 1, dual)})"
    if way < 0.7 and not free and shape[-1] == d.dim and d.group != "invertible":
        norm = "rms_norm" if d.group != "orthogonal_ones" or rng.random() < 0.3 else "layer_norm"
        return f"{d.pick(norm, norm, norm, 'layer_norm')}({turned(d, shape, depth - 1, dual)}{d.pick('', ', eps=0')})"
    if way < 0.8 and (free or d.slips()):
        return f"{d.pick(*ANY)}({turned(d, shape, depth - 1, dual)})"
    if way < 0.85 and (free or d.slips()):
        name = d.pick(*ROWS[:4]) if len(shape) == 1 or shape[-1] == d.dim else d.pick(*ROWS)
        return f"{name}({turned(d, shape, depth - 1, dual)})"
    if way < 0.88 and (free or d.slips()):
        return f"({turned(d, shape, depth - 1, dual)})**({d.pick('2', '1/2', '-1', '3', '-1/2')})"
    if way < 0.91 and (free or d.slips()):
        return f"({turned(d, shape, depth - 1, dual)} * {turned(d, shape, depth - 1, dual)})"
    if way < 0.93 and not free and len(shape) == 2 and shape[0] == d.dim:
        scale = d.given((shape[1],)) if rng.random() < 0.7 else d.param((shape[1],))
        return f"({turned(d, shape, depth - 1, dual)} * {scale})"
    if way < 0.95 and not free and len(shape) == 2 and shape == (d.dim, d.dim):
        return f"({turned(d, shape, depth - 1, dual)}).T"
    if way < 0.97:
        return f"({d.pick('2', '-1', '1/3')}) * {turned(d, shape, depth - 1, dual)}"
    return _turned_leaf(d, shape, dual)
