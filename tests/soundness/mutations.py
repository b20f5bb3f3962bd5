"""The ways to change a gauge: each mutator yields what it changed, in words, and the changed tree.

A tree may be no gauge of the language any more (shapes that do not fit); whoever uses it asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction

from soundness.writing import children, everywhere, names, places, trimmed

from gaugec.groups import GROUPS
from gaugec.language import tree as t

Mutator = Callable[[t.Gauge], Iterator[tuple[str, t.Gauge]]]


# --- small parts ---------------------------------------------------------------------------------------------------
def _number(value: int | Fraction) -> t.Number:
    return t.Number(Fraction(value))


def _matmul(left: t.Expr, right: t.Expr) -> t.Expr:
    return t.Binary("@", left, right)


def _with(gauge: t.Gauge, role: str, expr: t.Expr) -> t.Gauge:
    actions = tuple(replace(a, expr=expr) if a.param == role else a for a in gauge.actions)
    return replace(gauge, actions=actions)


def _with_element(gauge: t.Gauge, new: t.Expr) -> t.Gauge:
    """The gauge with another expression wherever its actions name the element."""
    element = t.Name(gauge.element.name)
    actions = tuple(replace(a, expr=everywhere(a.expr, lambda e: new if e == element else None)) for a in gauge.actions)
    return replace(gauge, actions=actions)


def _elements(gauge: t.Gauge) -> Iterator[tuple[str, t.Expr, Callable[[t.Expr], t.Expr]]]:
    """Every mention of the element in the actions, with its transpose or inverse around it: role, part, place."""
    element = gauge.element.name
    for action in gauge.actions:
        inside = set()
        for part, put in places(action.expr):
            if id(part) in inside or names(part) != {element}:
                continue
            inside |= {id(child) for child, _ in places(part)}
            yield action.param, part, put


def _matrix(gauge: t.Gauge) -> bool:
    return GROUPS[gauge.element.group].element == "matrix"


def _inverse(gauge: t.Gauge, expr: t.Expr) -> t.Expr:
    """The inverse of a part that is the element, in the way of its group; of a diagonal, entry by entry."""
    if isinstance(expr, t.Call) and expr.op in ("diag", "inv"):
        return expr.args[0] if expr.op == "inv" else replace(expr, args=(_inverse(gauge, expr.args[0]),))
    if isinstance(expr, t.Call) and expr.op == "outer":
        return t.Negate(expr)
    if gauge.element.group == "translation":
        return expr.x if isinstance(expr, t.Negate) else t.Negate(expr)
    if _matrix(gauge):
        return t.Call("inv", (expr,))
    return expr.right if isinstance(expr, t.Binary) and expr.op == "/" else t.Binary("/", _number(1), expr)


def _power(gauge: t.Gauge, expr: t.Expr, power: Fraction) -> t.Expr:
    if gauge.element.group == "translation":
        return t.Binary("*", _number(power), expr)
    if _matrix(gauge):
        return _matmul(expr, expr) if power == 2 else t.Binary("**", expr, _number(power))
    element = t.Name(gauge.element.name)
    return everywhere(expr, lambda e: t.Binary("**", e, _number(power)) if e == element else None)


# --- the kinds -----------------------------------------------------------------------------------------------------
def drop_action(gauge: t.Gauge) -> Iterator[tuple[str, t.Gauge]]:
    for action in gauge.actions:
        yield f"{action.param} stays", replace(gauge, actions=tuple(a for a in gauge.actions if a != action))
    for action in gauge.actions[: len(gauge.actions) if len(gauge.actions) > 2 else 0]:
        yield f"only {action.param} moves", replace(gauge, actions=(action,))


def _left_out(expr: t.Expr, name: str) -> t.Expr:
    def change(e: t.Expr) -> t.Expr | None:
        if isinstance(e, t.Binary) and e.op in "+-":
            if e.right == t.Name(name):
                return _left_out(e.left, name)
            if e.left == t.Name(name) and e.op == "+":
                return _left_out(e.right, name)
        return None

    return everywhere(expr, change)


def drop_bias(gauge: t.Gauge) -> Iterator[tuple[str, t.Gauge]]:
    """A bias that is gone, one that is there for certain, one that the model has and no action moves."""
    for param in gauge.params:
        if len(param.shape) != 1 or not param.optional:
            continue
        models = tuple(replace(m, expr=_left_out(m.expr, param.name)) for m in gauge.models)
        yield f"no {param.name}", trimmed(replace(gauge, models=models))
        sure = tuple(replace(p, optional=False) if p == param else p for p in gauge.params)
        yield f"{param.name} is never absent", replace(gauge, params=sure)
        still = tuple(a for a in gauge.actions if a.param != param.name)
        if 0 < len(still) < len(gauge.actions):
            yield f"{param.name} is never absent and stays", replace(gauge, params=sure, actions=still)
    for model in gauge.models:
        for part, put in places(model.expr):
            if isinstance(part, t.Binary) and part.op == "@" and part.shape:
                bias = t.Param("more", part.shape[-1:])
                expr = put(t.Binary("+", part, t.Name("more")))
                models = tuple(replace(m, expr=expr) if m == model else m for m in gauge.models)
                yield f"one more bias of {part.shape[-1]}", replace(gauge, params=(*gauge.params, bias), models=models)


def inverse(gauge: t.Gauge) -> Iterator[tuple[str, t.Gauge]]:
    for role, part, put in _elements(gauge):
        yield f"of {role}", _with(gauge, role, put(_inverse(gauge, part)))
    element = t.Name(gauge.element.name)
    for group in (False, True):

        def change(e: t.Expr) -> t.Expr | None:
            return _inverse(gauge, e) if e == element else None

        actions = tuple(
            replace(a, expr=everywhere(a.expr, change)) if not group or len(a.expr.shape) == 1 else a
            for a in gauge.actions
        )
        yield "of every vector" if group else "of all", replace(gauge, actions=actions)


def transpose(gauge: t.Gauge) -> Iterator[tuple[str, t.Gauge]]:
    if not _matrix(gauge):
        return

    def turned(e: t.Expr) -> t.Expr:
        return e.x if isinstance(e, t.Transpose) else t.Transpose(e)

    for role, part, put in _elements(gauge):
        yield f"of {role}", _with(gauge, role, put(turned(part)))
    yield "of all", _with_element(gauge, t.Transpose(t.Name(gauge.element.name)))


def wrong_side(gauge: t.Gauge) -> Iterator[tuple[str, t.Gauge]]:
    """E @ W becomes (W.T @ E).T, c * b becomes b / c's other side, U + s becomes s - U."""
    for action in gauge.actions:
        for part, put in places(action.expr):
            if not isinstance(part, t.Binary):
                continue
            left, right = part.left, part.right
            if part.op == "@" and len(left.shape) == len(right.shape) == 2:
                yield (
                    f"of {action.param}",
                    _with(gauge, action.param, put(t.Transpose(_matmul(t.Transpose(right), left)))),
                )
                yield (
                    f"of {action.param}, back",
                    _with(gauge, action.param, put(t.Transpose(_matmul(right, t.Transpose(left))))),
                )
            elif part.op == "@":
                yield f"of {action.param}", _with(gauge, action.param, put(_matmul(right, left)))
            if part.op in "+*":
                yield f"of {action.param}", _with(gauge, action.param, put(replace(part, left=right, right=left)))
                other = "-" if part.op == "+" else "/"
                yield f"of {action.param} under {other}", _with(gauge, action.param, put(t.Binary(other, right, left)))


def _along(param: t.Param, axis: int, element: t.Expr, matrix: bool, dual: bool) -> t.Expr | None:
    """The param moved along one of its axes: by the matrix, or by the diagonal of the vector."""
    here = t.Name(param.name)
    by: t.Expr = element
    if dual:
        by = t.Call("inv", (element,)) if matrix else t.Binary("/", _number(1), element)
    if len(param.shape) == 1:
        return _matmul(by, here) if matrix else t.Binary("*", by, here)
    if len(param.shape) != 2:
        return None
    by = by if matrix else t.Call("diag", (by,))
    return _matmul(by, here) if axis == 0 else _matmul(here, by)


def wrong_axis(gauge: t.Gauge) -> Iterator[tuple[str, t.Gauge]]:
    """The group on every other dim, and on the same dim from the parameters' other axes; all parameters or one."""
    element, matrix = t.Name(gauge.element.name), _matrix(gauge)
    for dim in gauge.dims:
        moves = [(param, axis) for param in gauge.params for axis, own in enumerate(param.shape) if own == dim]
        moves = [(param, axis) for param, axis in moves if param.name not in {p.name for p, a in moves if a < axis}]
        if not moves:
            continue
        target = replace(gauge, element=replace(gauge.element, dims=(dim,)))
        if gauge.element.group == "translation":
            for param, axis in moves:
                ones = [t.Call("ones", (t.Name(other),)) for other in param.shape if not other.startswith("_")]
                if len(param.shape) == 1:
                    shift: t.Expr = element
                elif len(param.shape) == 2 and len(ones) == 2:
                    pair = (element, ones[1]) if axis == 0 else (ones[0], element)
                    shift = t.Call("outer", pair)
                else:
                    continue
                moved = t.Action(param.name, t.Binary("+", t.Name(param.name), shift))
                yield f"{param.name} along {dim}", replace(target, actions=(moved,))
            continue
        for choice, dual in (("contragredient", True), ("alike", False)):
            actions = [
                t.Action(param.name, expr)
                for param, axis in moves
                if (expr := _along(param, axis, element, matrix, dual and axis == 1)) is not None
            ]
            yield f"all along {dim}, {choice}", replace(target, actions=tuple(actions))
        for param, axis in moves:
            expr = _along(param, axis, element, matrix, False)
            if expr is not None:
                yield f"{param.name} along {dim}", replace(target, actions=(t.Action(param.name, expr),))


def wrong_power(gauge: t.Gauge) -> Iterator[tuple[str, t.Gauge]]:
    powers = (Fraction(2), Fraction(1, 2), Fraction(-1), Fraction(0))
    for power in powers:
        if _matrix(gauge) and power != 2 and power != 0:
            continue
        for role, part, put in _elements(gauge):
            yield f"{power} of {role}", _with(gauge, role, put(_power(gauge, part, power)))
        element = t.Name(gauge.element.name)
        yield f"{power} of all", _with_element(gauge, _power(gauge, element, power))


def another_group(gauge: t.Gauge) -> Iterator[tuple[str, t.Gauge]]:
    """Every other group whose element has the same shape; a group of the other shape by diag or by the whole matrix."""
    own = GROUPS[gauge.element.group]
    element = t.Name(gauge.element.name)
    for name, row in GROUPS.items():
        if name == own.name:
            continue
        new = replace(gauge, element=replace(gauge.element, group=name))
        if row.element != own.element:
            if row.element == "matrix":  # c -> the vector that the matrix makes of ones
                ones = t.Call("ones", (t.Name(gauge.element.dims[0]),))
                change: t.Expr = _matmul(element, ones)
            else:
                change = t.Call("diag", (element,))
            yield f"{name} in its place", _with_element(new, change)
            continue
        yield name, new
        if row.element == "matrix":
            actions = tuple(replace(a, expr=everywhere(a.expr, _as_inverse(element))) for a in gauge.actions)
            if actions != gauge.actions:
                yield f"{name}, inverses for transposes", replace(new, actions=actions)


def _as_inverse(element: t.Expr) -> Callable[[t.Expr], t.Expr | None]:
    return lambda e: t.Call("inv", (element,)) if e == t.Transpose(element) else None


_POINTWISE = ("relu", "silu", "gelu", "gelu_tanh", "sigmoid", "tanh", "exp", "abs", "dropout")
_ROWS = ("softmax", "log_softmax", "rms_norm", "layer_norm", "rope")


def another_operator(gauge: t.Gauge) -> Iterator[tuple[str, t.Gauge]]:
    """One operator for another in a formula or an `op` line, one put around a part, one left out."""

    def with_model(at: int, expr: t.Expr, more: tuple[t.Operator, ...] = ()) -> t.Gauge:
        models = tuple(replace(m, expr=expr) if k == at else m for k, m in enumerate(gauge.models))
        return trimmed(replace(gauge, models=models, operators=(*gauge.operators, *more)))

    for at, model in enumerate(gauge.models):
        for part, put in places(model.expr):
            moved = bool(names(part) & {action.param for action in gauge.actions})
            if isinstance(part, t.Call) and part.op != "ones":
                own = part.op in _POINTWISE or part.op in {op.name for op in gauge.operators}
                if own or part.op in _ROWS:
                    for other in (*_POINTWISE, *_ROWS):
                        if other != part.op:
                            yield f"{other} for {part.op}", with_model(at, put(t.Call(other, part.args[:1])))
                if part.op == "cross_entropy":
                    for other in (*_ROWS[:4], "relu"):
                        yield f"{other} for {part.op}", with_model(at, put(t.Call(other, part.args[:1])))
                yield f"no {part.op}", with_model(at, put(part.args[0]))
            elif isinstance(part, t.Binary):
                if part.op in "+-*/":
                    for other in "+-*/":
                        if other != part.op:
                            yield f"{other} for {part.op}", with_model(at, put(replace(part, op=other)))
                if moved and part.op in "@*+":
                    for other in (*_POINTWISE, *_ROWS):
                        yield f"{other} around {part.op}", with_model(at, put(t.Call(other, (part,))))
                    squared = t.Operator("own", "x", _own(2))
                    yield f"an op around {part.op}", with_model(at, put(t.Call("own", (part,))), (squared,))
                    for power in (Fraction(2), Fraction(1, 2)):
                        yield f"{power} around {part.op}", with_model(at, put(t.Binary("**", part, _number(power))))
    for operator in gauge.operators:
        for part, put in places(operator.expr):
            if isinstance(part, t.Number):
                for value in {part.value + 1, part.value - 1, Fraction(1, 2)} - {part.value}:
                    new = replace(operator, expr=put(t.Number(value)))
                    ops = tuple(new if op == operator else op for op in gauge.operators)
                    yield f"{value} for {part.value} in {operator.name}", replace(gauge, operators=ops)


def _own(power: int) -> t.Expr:
    return t.Binary("**", t.Call("max", (t.Name("x"), _number(0))), _number(power))


def another_keeps(gauge: t.Gauge) -> Iterator[tuple[str, t.Gauge]]:
    """Every part of the formula that reads a parameter, kept alone and beside what was kept."""
    moved = {action.param for action in gauge.actions}
    for at, model in enumerate(gauge.models):
        for number, (part, put) in enumerate(places(model.expr)):
            if part == model.expr or not names(part) & moved or not children(part):
                continue
            inner = t.Model("part", part)
            outer = replace(model, expr=put(t.Name("part")))
            models = (*gauge.models[:at], inner, outer, *gauge.models[at + 1 :])
            yield f"part {number} of {model.name}", trimmed(replace(gauge, models=models, keeps=("part",)))
            yield f"part {number} of {model.name} too", replace(gauge, models=models, keeps=(*gauge.keeps, "part"))


def replacement(gauge: t.Gauge) -> Iterator[tuple[str, t.Gauge]]:
    """A value in the place of an action: the element alone, the element on a constant, the element added or doubled."""
    element, dim = t.Name(gauge.element.name), gauge.element.dims[0]
    params = {param.name: param for param in gauge.params}
    for action in gauge.actions:
        param, role = params[action.param], action.param
        ones = [t.Call("ones", (t.Name(other),)) for other in param.shape if not other.startswith("_")]
        if len(ones) != len(param.shape):
            continue
        one: t.Expr = t.Call("outer", tuple(ones)) if len(ones) == 2 else ones[0]
        if _matrix(gauge):
            for axis, own in enumerate(param.shape):
                if own == dim:
                    made = _matmul(element, one) if axis == 0 else _matmul(one, element)
                    yield f"{role} is made of the element", _with(gauge, role, made)
                    yield (
                        f"the element is added to {role}",
                        _with(gauge, role, t.Binary("-", t.Binary("+", t.Name(role), made), one)),
                    )
            if param.shape == (dim, dim):
                yield f"{role} is the element", _with(gauge, role, element)
        else:
            alone: t.Expr = element
            if len(param.shape) == 2:
                other = [t.Call("ones", (t.Name(name),)) for name in param.shape if name != dim]
                if len(other) != 1:
                    continue
                alone = t.Call("outer", (element, other[0]) if param.shape[0] == dim else (other[0], element))
            yield f"{role} is the element", _with(gauge, role, alone)
            yield f"the element is added to {role}", _with(gauge, role, t.Binary("+", action.expr, alone))
        yield f"one is added to {role}", _with(gauge, role, t.Binary("+", action.expr, one))
        yield f"{role} twice", _with(gauge, role, t.Binary("+", action.expr, t.Name(role)))
        zero = t.Binary("*", _number(0), action.expr)
        yield f"{role} vanishes", _with(gauge, role, zero)


def another_param(gauge: t.Gauge) -> Iterator[tuple[str, t.Gauge]]:
    """An action that reads, or moves, another parameter of the same shape."""
    for action in gauge.actions:
        shape = action.expr.shape
        for param in gauge.params:
            if param.shape != shape or param.name == action.param:
                continue
            swapped = everywhere(
                action.expr,
                lambda e, old=action.param, new=param.name: t.Name(new) if e == t.Name(old) else None,  # type: ignore[misc]
            )
            yield f"{action.param} from {param.name}", _with(gauge, action.param, swapped)
            total = t.Binary("+", action.expr, t.Binary("-", t.Name(param.name), t.Name(param.name)))
            yield f"{action.param} and nothing of {param.name}", _with(gauge, action.param, total)


def cancelled_root(gauge: t.Gauge) -> Iterator[tuple[str, t.Gauge]]:
    """A moved parameter under roots and divisors that cancel: where there was no value, the formula forgets it."""

    def root(p: t.Expr) -> t.Expr:
        return t.Binary("**", p, _number(Fraction(1, 2)))

    ways: dict[str, Callable[[t.Expr], t.Expr]] = {
        "a root, squared": lambda p: t.Binary("**", root(p), _number(2)),
        "a root over itself": lambda p: t.Binary("/", t.Binary("*", p, root(p)), root(p)),
        "a root less itself": lambda p: t.Binary("-", t.Binary("+", p, root(p)), root(p)),
    }
    for action in gauge.actions[:2]:
        role = t.Name(action.param)
        for at, model in enumerate(gauge.models):
            if action.param in names(model.expr):
                for text, way in ways.items():
                    new = everywhere(model.expr, lambda e, way=way, role=role: way(e) if e == role else None)  # type: ignore[misc]
                    models = (*gauge.models[:at], replace(model, expr=new), *gauge.models[at + 1 :])
                    yield f"{action.param}: {text}", replace(gauge, models=models)
                break


KINDS: dict[str, Mutator] = {
    "drop an action": drop_action,
    "drop or add a bias": drop_bias,
    "drop or add an inverse": inverse,
    "drop or add a transpose": transpose,
    "wrong side": wrong_side,
    "wrong axis": wrong_axis,
    "wrong power": wrong_power,
    "another group": another_group,
    "another operator": another_operator,
    "another keeps": another_keeps,
    "replacement instead of action": replacement,
    "another parameter": another_param,
    "a root that cancels": cancelled_root,
}
