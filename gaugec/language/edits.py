"""Near edits of a gauge: what its writer may have meant, the nearest first.

One action spelled otherwise (the inverse, the other side, another power, the other sign, the other axis), an action
more or less, a smaller group; then the few that are two edits at once.  An edit is a gauge again and the words for it.

What this module does not do: it does not ask whether an edit has the right shapes, or is true (see
`gaugec.pipeline.repair`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from gaugec.groups import GROUPS, ONE
from gaugec.language import tree as t
from gaugec.language.printer import show_action

POWERS = tuple(Fraction(p) for p in ("1", "-1", "2", "-2", "1/2", "-1/2", "3", "-3"))
_WORDS = {  # an element as it stood -> as it stands, where it is a matrix: (transposed, inverted)
    ((0, 0), (1, 0)): "a transpose was missing",
    ((1, 0), (0, 0)): "a transpose too many",
    ((0, 1), (1, 1)): "a transpose was missing",
    ((1, 1), (0, 1)): "a transpose too many",
    ((1, 0), (0, 1)): "a transpose is an inverse for orthogonal matrices only",
    ((1, 0), (1, 1)): "an inverse was missing",
    ((0, 1), (0, 0)): "an inverse too many",
    ((1, 1), (1, 0)): "an inverse too many",
    ((1, 1), (0, 0)): "an inverse too many",
}
Variant = tuple[int, int] | Fraction  # of a matrix (transposed, inverted); of a scale its power; of a shift its sign


@dataclass(frozen=True)
class Edit:
    """An edited gauge, how the edit is written ("`W -> W @ R.T`"), what had been wrong, and whether it is two edits."""

    gauge: t.Gauge
    text: str
    why: str
    many: bool = False

    def __str__(self) -> str:
        return f"{self.text} {'make' if self.many else 'makes'} it hold: {self.why}"


@dataclass(frozen=True)
class Form:
    """A usual action on one parameter: along which axes, by which variants of the element."""

    expr: t.Expr
    axes: tuple[int, ...]
    variants: tuple[Variant, ...]


def edits(gauge: t.Gauge, lawless: bool = False) -> Iterator[Edit]:
    """Every near edit, nearest first; `lawless`: what the gauge has is no action of its group.

    Of several actions the last of the text comes first, for it is the one that makes up for the others.
    """
    seen: set[tuple[t.Element, tuple[t.Action, ...]]] = {(gauge.element, gauge.actions)}
    editor = _Editor(gauge, lawless)
    one = (editor.changed(), editor.added(), editor.left_out())
    for edit in itertools.chain(*one, editor.twice(), editor.grouped(), editor.odd(), editor.both_added()):
        key = (edit.gauge.element, edit.gauge.actions)
        if edit.gauge.actions and key not in seen:
            seen.add(key)
            yield edit


def forms(gauge: t.Gauge, param: t.Param, element: t.Element) -> Iterator[Form]:
    """The usual actions of an element on a parameter that has its axis."""
    dim, shape, own = element.dims[0], param.shape, t.Name(param.name)
    axes = [axis for axis in range(max(0, len(shape) - 2), len(shape)) if shape[axis] == dim]
    group = GROUPS[element.group]
    name = t.Name(element.name)
    if dim == ONE:
        for sign in "+-":
            yield Form(t.Binary(sign, own, name), (), (Fraction(f"{sign}1"),))
        return
    if group.kind == "shift":
        for sign, axis in itertools.product("+-", axes):
            term: t.Expr = name
            if len(shape) > 2 or any(other.startswith("_") for other in shape):
                continue
            if len(shape) == 2:
                rest = t.Call("ones", (t.Name(shape[1 - axis]),))
                term = t.Call("outer", (name, rest) if axis == 0 else (rest, name))
            yield Form(t.Binary(sign, own, term), (axis,), (Fraction(f"{sign}1"),))
        return
    variants = _variants(element)
    for axis, variant in itertools.product(axes, variants):
        yield Form(_acting(own, len(shape), axis, variants[variant], group.element), (axis,), (variant,))
    if len(axes) == 2:
        for left, right in itertools.product(variants, variants):
            inner = _acting(own, 2, 0, variants[left], group.element)
            yield Form(_acting(inner, 2, 1, variants[right], group.element), (0, 1), (left, right))


def _variants(element: t.Element) -> dict[Variant, t.Expr]:
    """The element, its inverse and so on, as a spec writes them."""
    name = t.Name(element.name)
    if GROUPS[element.group].element == "vector":
        return {power: _power(name, power) for power in POWERS}
    if GROUPS[element.group].transpose_inverts:
        return {(0, 0): name, (1, 0): t.Transpose(name)}
    inverse = t.Call("inv", (name,))
    return {(0, 0): name, (0, 1): inverse, (1, 1): t.Transpose(inverse), (1, 0): t.Transpose(name)}


def _power(name: t.Expr, power: Fraction) -> t.Expr:
    size = abs(power)
    raised = name if size == 1 else t.Binary("**", name, t.Number(size))
    return raised if power > 0 else t.Binary("/", t.Number(Fraction(1)), raised)


def _acting(value: t.Expr, axes: int, axis: int, by: t.Expr, kind: str) -> t.Expr:
    if axes == 1:
        return t.Binary("*" if kind == "vector" else "@", by, value)
    matrix = t.Call("diag", (by,)) if kind == "vector" else by
    return t.Binary("@", value, matrix) if axis == axes - 1 else t.Binary("@", matrix, value)


class _Editor:
    """Makes the edits of one gauge."""

    def __init__(self, gauge: t.Gauge, lawless: bool) -> None:
        self.gauge = gauge
        self.other = "it was no action of the group" if lawless else "it moved otherwise"
        self.params = {param.name: param for param in gauge.params}
        self.still = [param for param in gauge.params if param.name not in {a.param for a in gauge.actions}]
        self.forms = {name: list(forms(gauge, param, gauge.element)) for name, param in self.params.items()}

    def action(self, param: str, expr: t.Expr) -> t.Action:
        """A new action; an error in it would point at the gauge."""
        return t.Action(param, expr, span=self.gauge.span, marks=self.gauge.marks[:1])

    def put(self, *new: t.Action) -> t.Gauge:
        """The gauge with these actions in the place of those on the same parameters, or behind all."""
        by = {action.param: action for action in new}
        kept = tuple(by.pop(action.param, action) for action in self.gauge.actions)
        return replace(self.gauge, actions=(*kept, *by.values()))

    # -- one edit ---------------------------------------------------------------------------------------------
    def spelled(self, action: t.Action) -> Iterator[tuple[t.Action, str, object]]:
        """One action spelled otherwise: the action, what was wrong, and a mark of how (equal marks go together)."""
        was = next((form for form in self.forms[action.param] if form.expr == action.expr), None)
        for expr, old, new in _respelled(action.expr, self.gauge.element):
            yield self.action(action.param, expr), self.why(old, new), new
        rest = [form for form in self.forms[action.param] if form.expr != action.expr]
        for form in sorted(rest, key=lambda form: (len(form.axes), was is not None and form.axes != was.axes)):
            why = self.other if was is None else self.moved(was, form)
            yield self.action(action.param, form.expr), why, form.variants[0]

    def moved(self, was: Form, form: Form) -> str:
        """What was wrong with an action of one form that has to be of another."""
        if len(form.axes) != len(was.axes):
            more = len(form.axes) > len(was.axes)
            return "both of its axes have to move" if more else "only one of its axes has to move"
        if form.axes != was.axes:
            shift = GROUPS[self.gauge.element.group].kind == "shift"
            return "it ran along the wrong axis" if shift else "it stood on the wrong side"
        return self.why(*next((a, b) for a, b in zip(was.variants, form.variants) if a != b))

    def why(self, old: Variant, new: Variant) -> str:
        """What was wrong with an element that stood in one variant and has to stand in another."""
        if isinstance(old, Fraction) and isinstance(new, Fraction):
            if GROUPS[self.gauge.element.group].kind == "shift":
                return "the sign was wrong"
            if old != -new:
                return "the power was wrong"
            return "an inverse was missing" if new < 0 else "an inverse too many"
        assert isinstance(old, tuple) and isinstance(new, tuple)
        if GROUPS[self.gauge.element.group].transpose_inverts:
            return "an inverse was missing" if new[0] else "an inverse too many"
        return _WORDS.get((old, new), "an inverse was missing")

    def changed(self) -> Iterator[Edit]:
        """One action spelled otherwise."""
        for action in reversed(self.gauge.actions):
            for new, why, _ in self.spelled(action):
                yield Edit(self.put(new), f"`{show_action(new)}`", why)

    def added(self) -> Iterator[Edit]:
        """A parameter with the group's axis that does not move, and should."""
        for param in self.still:
            for form in self.forms[param.name]:
                new = self.action(param.name, form.expr)
                yield Edit(self.put(new), f"adding `{show_action(new)}`", self.forgotten(param))

    def forgotten(self, param: t.Param) -> str:
        """In words, that a parameter was forgotten."""
        bias = len(param.shape) == 1 and any(_is_added(model.expr, param.name) for model in self.gauge.models)
        return f"the {'bias' if bias else 'reader' if param.each else 'param'} {param.name} was forgotten"

    def left_out(self) -> Iterator[Edit]:
        """An action that should not be there."""
        for action in reversed(self.gauge.actions):
            rest = tuple(other for other in self.gauge.actions if other is not action)
            text = f"leaving out `{show_action(action)}`"
            yield Edit(replace(self.gauge, actions=rest), text, f"{action.param} must not move")

    def grouped(self) -> Iterator[Edit]:
        """A smaller group; a compact one has no fix line."""
        element = self.gauge.element
        for name in GROUPS[element.group].subgroups:
            new = replace(element, group=name)
            fixes = () if GROUPS[name].fix == "forbidden" else self.gauge.fixes
            more = ", without a fix line," if fixes != self.gauge.fixes else ""
            text = f"`for every {element.name} in {name}({element.dims[0]})`{more}"
            yield Edit(replace(self.gauge, element=new, fixes=fixes), text, "the group was too large")
        if GROUPS[element.group].kind == "shift" and element.dims != (ONE,):
            new = replace(element, dims=(ONE,))
            text = f"`for every {element.name} in {element.group}({ONE})`"
            yield Edit(replace(self.gauge, element=new), text, "all entries take one number")

    # -- odd ones ---------------------------------------------------------------------------------------------
    def odd(self) -> Iterator[Edit]:
        """A gain that is read as 1 + g, a gain between two rotations, another parameter, another dim."""
        for action in reversed(self.gauge.actions):
            yield from self.offset(action)
            yield from self.conjugated(action)
        if len(self.gauge.actions) == 1:
            yield from self.instead(*self.gauge.actions)
            yield from self.elsewhere(*self.gauge.actions)

    def offset(self, action: t.Action) -> Iterator[Edit]:
        """What is scaled is the parameter plus a number that the model adds to it."""
        name = t.Name(self.gauge.element.name)
        for number in sorted(set(self._offsets(action.param))):
            whole = t.Binary("+", t.Number(number), t.Name(action.param))
            for power in POWERS[:2]:
                scaled = t.Binary("*", _power(name, power), whole)
                new = self.action(action.param, t.Binary("-", scaled, t.Number(number)))
                why = f"the model reads {show_action(replace(new, expr=whole)).partition(' -> ')[2]}"
                yield Edit(self.put(new), f"`{show_action(new)}`", why)

    def conjugated(self, action: t.Action) -> Iterator[Edit]:
        """A gain that does not move stands between the element and the parameter."""
        for gain in self.still:
            if gain.shape == self.gauge.element.dims:
                for expr in _between(action.expr, self.gauge.element, t.Name(gain.name)):
                    new = self.action(action.param, expr)
                    yield Edit(self.put(new), f"`{show_action(new)}`", f"{gain.name} stands between")

    def instead(self, only: t.Action) -> Iterator[Edit]:
        """Another parameter moves in the place of the only one that does."""
        for param in self.still:
            for form in self.forms[param.name]:
                new = self.action(param.name, form.expr)
                text = f"`{show_action(new)}` in the place of `{show_action(only)}`"
                yield Edit(replace(self.gauge, actions=(new,)), text, f"it is {param.name} that may move")

    def elsewhere(self, only: t.Action) -> Iterator[Edit]:
        """The group acts along another dim."""
        element = self.gauge.element
        for dim in self.gauge.dims:
            if dim == element.dims[0]:
                continue
            moved = replace(element, dims=(dim,))
            for form in forms(self.gauge, self.params[only.param], moved):
                new = self.action(only.param, form.expr)
                text = f"`for every {element.name} in {element.group}({dim})` with `{show_action(new)}`"
                yield Edit(replace(self.gauge, element=moved, actions=(new,)), text, "it ran along the wrong axis")

    def _offsets(self, param: str) -> Iterator[Fraction]:
        """The numbers to which a model line adds a parameter."""
        for model in self.gauge.models:
            for node in _parts(model.expr):
                if isinstance(node, t.Binary) and node.op == "+":
                    for one, other in ((node.left, node.right), (node.right, node.left)):
                        if one == t.Name(param) and isinstance(other, t.Number):
                            yield other.value

    # -- two edits --------------------------------------------------------------------------------------------
    def twice(self) -> Iterator[Edit]:
        """Two actions that are wrong in the same way: a weight and its bias."""
        for right, left in itertools.combinations(reversed(self.gauge.actions), 2):
            others = list(self.spelled(right))
            for first, why, mark in self.spelled(left):
                for second, reason, same in others:
                    if (reason, same) == (why, mark):
                        text = f"`{show_action(first)}` and `{show_action(second)}`"
                        yield Edit(self.put(first, second), text, f"{why}, twice", True)

    def both_added(self) -> Iterator[Edit]:
        """Two parameters that were forgotten."""
        for one, other in itertools.combinations(self.still, 2):
            both = itertools.product(self.forms[one.name][:4], self.forms[other.name][:4])
            for first, second in sorted(both, key=lambda pair: pair[0].variants != pair[1].variants):
                new = self.action(one.name, first.expr), self.action(other.name, second.expr)
                text = f"adding `{show_action(new[0])}` and `{show_action(new[1])}`"
                yield Edit(self.put(*new), text, f"{one.name} and {other.name} were forgotten")


# --- expressions -----------------------------------------------------------------------------------------------------
def _parts(expr: t.Expr) -> Iterator[t.Expr]:
    yield expr
    for child in _children(expr):
        yield from _parts(child)


def _children(expr: t.Expr) -> tuple[t.Expr, ...]:
    match expr:
        case t.Binary(left=left, right=right):
            return left, right
        case t.Negate(x=x) | t.Transpose(x=x):
            return (x,)
        case t.Call(args=args):
            return args
    return ()


def _with(expr: t.Expr, children: tuple[t.Expr, ...]) -> t.Expr:
    match expr:
        case t.Binary():
            return replace(expr, left=children[0], right=children[1])
        case t.Negate() | t.Transpose():
            return replace(expr, x=children[0])
        case t.Call():
            return replace(expr, args=children)
    return expr


def _is_added(expr: t.Expr, name: str) -> bool:
    return any(
        isinstance(part, t.Binary) and part.op in ("+", "-") and t.Name(name) in (part.left, part.right)
        for part in _parts(expr)
    )


def _respelled(expr: t.Expr, element: t.Element) -> Iterator[tuple[t.Expr, Variant, Variant]]:
    """The expression with one occurrence of the element in another variant: the expression, the old and the new one."""
    if GROUPS[element.group].kind == "shift":
        if isinstance(expr, t.Binary) and expr.op in "+-":
            other = "-" if expr.op == "+" else "+"
            yield replace(expr, op=other), Fraction(f"{expr.op}1"), Fraction(f"{other}1")
        return
    variants = _variants(element)
    was = next((variant for variant, spelled in variants.items() if spelled == expr), None)
    if was is not None:
        yield from ((spelled, was, variant) for variant, spelled in variants.items() if variant != was)
        return
    children = _children(expr)
    for k, child in enumerate(children):
        for new, old, variant in _respelled(child, element):
            yield _with(expr, (*children[:k], new, *children[k + 1 :])), old, variant


def _between(expr: t.Expr, element: t.Element, gain: t.Expr) -> Iterator[t.Expr]:
    """The expression with the element conjugated by a gain."""
    if GROUPS[element.group].element != "matrix":
        return
    into, out = t.Call("diag", (gain,)), t.Call("diag", (t.Binary("/", t.Number(Fraction(1)), gain),))
    turned = list(_variants(element).values())
    if isinstance(expr, t.Binary) and expr.op == "@":
        if expr.right in turned:
            for first, last in ((into, out), (out, into)):
                yield t.Binary("@", t.Binary("@", t.Binary("@", expr.left, first), expr.right), last)
        elif expr.left in turned:
            for first, last in ((into, out), (out, into)):
                yield t.Binary("@", t.Binary("@", t.Binary("@", first, expr.left), last), expr.right)
