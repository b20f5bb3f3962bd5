"""Expr -> text, with as few brackets as the grammar needs; what theorems and reports print.

For every expression that the parser made, parsing what is shown gives an equal tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import PurePath

from gaugec.language import tree as t

_SUM, _PRODUCT, _NEGATION, _POWER, _ATOM = range(5)
_LEVEL = {"+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "@": _PRODUCT, "**": _POWER}


def show(expr: t.Expr) -> str:
    """Return the canonical text of an expression."""
    return _show(expr)[0]


def show_shape(shape: t.Shape) -> str:
    """Return a shape as a spec writes it: ("_W0", "d") is "[_, d]"."""
    return f"[{', '.join('_' if dim.startswith('_') else dim for dim in shape)}]"


def show_action(action: t.Action) -> str:
    """Return `W -> expression`."""
    return f"{action.param} -> {show(action.expr)}"


def show_fix(fix: t.Fix) -> str:
    """Return `left == right`."""
    return f"{show(fix.left)} == {show(fix.right)}"


def show_theorem(gauge: t.Gauge) -> str:
    """Return what a gauge claims, without its name: shapes, formula, element, actions, and what is kept."""
    params = [f"{'each ' * p.each}{p.name}{show_shape(p.shape)}{'?' * p.optional}" for p in gauge.params]
    given = [f"{g.name}{show_shape(g.shape)}" for g in gauge.givens]
    lines = [f"given  {', '.join(given)}"] if given else []
    lines += [f"param  {', '.join(params)}", *(f"model  {m.name} = {show(m.expr)}" for m in gauge.models)]
    lines += [f"for every {gauge.element.name} in {gauge.element.group}({', '.join(gauge.element.dims)}):"]
    lines += [f"    {show_action(action)}" for action in gauge.actions]
    return "\n".join([*lines, f"keeps  {', '.join(gauge.keeps)}"])


def show_architecture(name: str, doc: str, entries: Sequence[t.Entry]) -> str:
    """Return the file of an architecture that uses these gauges, each from the file that its text stands in."""
    sources: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        file = entry.gauge.span.file if entry.gauge.span else ""
        allowed = ("" if entry.required else " optional") + (" approximate" if entry.approximate else "")
        sources.setdefault((PurePath(file).stem, allowed), []).append(entry.gauge.name)
    lines = [f"architecture {name}:", f'    "{doc}"']
    for (source, allowed), gauges in sources.items():
        lines.append(f"    use {', '.join(gauges)} from {source}{allowed}")
    return "\n".join(lines) + "\n"


def show_number(value: Fraction) -> str:
    """Return an exact number: 3, 0.25, 1e-30, -2 or, where no decimal is exact, 1/3."""
    if value < 0:
        return "-" + show_number(-value)
    places = 0
    rest = value.denominator
    for prime in (2, 5):
        count = 0
        while rest % prime == 0:
            rest //= prime
            count += 1
        places = max(places, count)
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    digits = str(value.numerator * 10**places // value.denominator)
    if places == 0:
        zeros = len(digits) - len(digits.rstrip("0"))
        return f"{digits[: len(digits) - zeros]}e{zeros}" if zeros > 12 else digits
    if places > 12:
        return f"{digits}e-{places}"
    digits = digits.rjust(places + 1, "0")
    return f"{digits[:-places]}.{digits[-places:]}"


def _number(value: Fraction) -> tuple[str, int]:
    text = show_number(value)
    return text, _NEGATION if value < 0 else _PRODUCT if "/" in text else _ATOM


def _show(expr: t.Expr) -> tuple[str, int]:
    """Return the text and how tightly its outermost sign binds."""
    match expr:
        case t.Name(id=name):
            return name, _ATOM
        case t.Number(value=value):
            return _number(value)
        case t.Call(op=op, args=args, options=options):
            inside = [show(arg) for arg in args] + [f"{key}={show_number(value)}" for key, value in options]
            return f"{op}({', '.join(inside)})", _ATOM
        case t.Transpose(x=x):
            return f"{_wrap(x, _ATOM)}.T", _ATOM
        case t.Negate(x=x):
            return f"-{_wrap(x, _NEGATION)}", _NEGATION
        case t.Binary(op="**", left=left, right=right):
            return f"{_wrap(left, _ATOM)}**{_wrap(right, _NEGATION)}", _POWER
        case t.Binary(op=op, left=left, right=right):
            level = _LEVEL[op]
            space = "" if op == "/" and isinstance(left, t.Number) else " "
            return f"{_wrap(left, level)}{space}{op}{space}{_wrap(right, level + 1)}", level
    raise TypeError(f"not an expression: {type(expr).__name__}")


def _wrap(expr: t.Expr, least: int) -> str:
    text, level = _show(expr)
    return text if level >= least else f"({text})"
