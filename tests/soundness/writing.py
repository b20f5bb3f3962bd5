"""Gauges back to text: what the mutators change is a tree, what the compiler is given is always a text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from gaugec.errors import SpecError
from gaugec.groups import GROUPS
from gaugec.language import shipped, shipped_text, show, show_action, show_shape
from gaugec.language import tree as t
from gaugec.language.check import check
from gaugec.language.parse import parse

ROOT = Path(__file__).resolve().parents[2]


def text_of(gauge: t.Gauge) -> str:
    """The text of a gauge and the `op` lines that it calls; its fix line, where it needs one, is written anew."""
    lines = [f"op {op.name}({op.argument}) = {show(op.expr)}" for op in gauge.operators]
    lines.append(f"gauge {gauge.name}({', '.join(gauge.dims)}):")
    if gauge.givens:
        lines.append("    given  " + ", ".join(given.name + show_shape(given.shape) for given in gauge.givens))
    params = [
        ("each " if param.each else "") + param.name + show_shape(param.shape) + ("?" if param.optional else "")
        for param in gauge.params
    ]
    lines.append("    param  " + ", ".join(params))
    lines += [f"    model  {model.name} = {show(model.expr)}" for model in gauge.models]
    element = gauge.element
    lines.append(f"    for every {element.name} in {element.group}({', '.join(element.dims)}):")
    lines += [f"        {show_action(action)}" for action in gauge.actions]
    lines.append(f"    keeps  {', '.join(gauge.keeps)}")
    row = GROUPS.get(element.group)
    if row is not None and row.fix == "required":
        lines.append(f"    fix    {_fix(gauge)} == 1")
    return "\n".join(lines) + "\n"


def _fix(gauge: t.Gauge) -> str:
    """The size of a moved parameter along the group's axis, of whichever has one."""
    params = {param.name: param for param in gauge.params}
    dim = gauge.element.dims[0]
    for action in gauge.actions:
        param = params.get(action.param)
        if param is None or param.optional or dim not in param.shape:
            continue
        if len(param.shape) == 1:
            return f"abs({param.name})"
        if len(param.shape) == 2:
            return f"{'rownorm' if param.shape[0] == dim else 'colnorm'}({param.name})"
    return f"rownorm({gauge.actions[0].param})"


def checked(text: str) -> t.Gauge | None:
    """The one gauge of a text, or None where the language refuses it."""
    try:
        return check(parse(text, "mutant.gauge")).gauges[0]
    except SpecError:
        return None


def trimmed(gauge: t.Gauge) -> t.Gauge:
    """The gauge without what nothing reads any more: givens, params, dims, operators, model lines."""
    while True:
        keep, exprs = set(gauge.keeps), []
        models = []
        for model in reversed(gauge.models):
            if model.name in keep:
                models.insert(0, model)
                keep |= names(model.expr)
        exprs = [model.expr for model in models]
        read = set().union(*(names(expr) for expr in exprs)) if exprs else set()
        params = tuple(param for param in gauge.params if param.name in read)
        here = {param.name for param in params}
        actions = tuple(action for action in gauge.actions if action.param in here)
        givens = tuple(given for given in gauge.givens if given.name in read)
        called = {op for expr in [*exprs, *(a.expr for a in actions)] for op in operators(expr)}
        used = {dim for item in (*params, *givens) for dim in item.shape} | set(gauge.element.dims)
        used |= {arg.id for e in [*exprs, *(a.expr for a in actions)] for arg in _ones(e)}
        new = replace(
            gauge,
            models=tuple(models),
            params=params,
            actions=actions,
            givens=givens,
            dims=tuple(dim for dim in gauge.dims if dim in used),
            operators=tuple(op for op in gauge.operators if op.name in called),
        )
        if new == gauge:
            return gauge
        gauge = new


# --- walking trees -------------------------------------------------------------------------------------------------
def children(expr: t.Expr) -> tuple[t.Expr, ...]:
    match expr:
        case t.Call(args=args):
            return args
        case t.Binary(left=left, right=right):
            return left, right
        case t.Negate(x=x) | t.Transpose(x=x):
            return (x,)
    return ()


def rebuilt(expr: t.Expr, parts: tuple[t.Expr, ...]) -> t.Expr:
    match expr:
        case t.Call():
            return replace(expr, args=parts)
        case t.Binary():
            return replace(expr, left=parts[0], right=parts[1])
        case t.Negate() | t.Transpose():
            return replace(expr, x=parts[0])
    return expr


Place = Callable[[t.Expr], t.Expr]


def places(expr: t.Expr) -> Iterator[tuple[t.Expr, Place]]:
    """Every part of an expression, outermost first, with what puts another in its place."""
    yield expr, lambda new: new
    for k, child in enumerate(children(expr)):
        for part, put in places(child):

            def inside(new: t.Expr, k: int = k, put: Place = put) -> t.Expr:
                parts = list(children(expr))
                parts[k] = put(new)
                return rebuilt(expr, tuple(parts))

            yield part, inside


def everywhere(expr: t.Expr, change: Callable[[t.Expr], t.Expr | None]) -> t.Expr:
    """The expression with every part that `change` returns another for replaced (not looking inside what is new)."""
    new = change(expr)
    if new is not None:
        return new
    return rebuilt(expr, tuple(everywhere(child, change) for child in children(expr)))


def names(expr: t.Expr) -> set[str]:
    """The values that an expression reads."""
    if isinstance(expr, t.Call) and expr.op == "ones":
        return set()
    found = {expr.id} if isinstance(expr, t.Name) else set()
    return found.union(*(names(child) for child in children(expr))) if children(expr) else found


def operators(expr: t.Expr) -> set[str]:
    found = {expr.op} if isinstance(expr, t.Call) else set()
    return found.union(*(operators(child) for child in children(expr))) if children(expr) else found


def _ones(expr: t.Expr) -> list[t.Name]:
    if isinstance(expr, t.Call) and expr.op == "ones":
        return [arg for arg in expr.args if isinstance(arg, t.Name)]
    return [arg for child in children(expr) for arg in _ones(child)]


# --- where gauges come from ----------------------------------------------------------------------------------------
def shipped_gauges() -> dict[str, t.Gauge]:
    """Every gauge of every shipped spec, and those that the documents show, by name; equal ones once.

    Where a document shows a gauge again, mended, the last one counts.
    """
    texts = {f"{name}.gauge": shipped_text(name) for name in shipped()}
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for number, block in enumerate(path.read_text(encoding="utf-8").split("```")[1::2]):
            if re.search(r"^gauge \w+\(.*\):", block, re.MULTILINE):
                texts[f"{path.name}, block {number + 1}"] = block.partition("\n")[2]
    shown: dict[tuple[str, str], tuple[str, t.Gauge]] = {}
    for source, text in texts.items():
        for gauge in check(parse(text, source)).gauges:
            shown[source.partition(",")[0], gauge.name] = source, gauge
    found: dict[str, t.Gauge] = {}
    for source, gauge in shown.values():
        if text_of(gauge) not in {text_of(other) for other in found.values()}:
            found[gauge.name if gauge.name not in found else f"{gauge.name} of {source}"] = gauge
    return found
