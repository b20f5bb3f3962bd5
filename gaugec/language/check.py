"""Names and shapes: a parsed file in, the same file checked and typed out.

What is checked here needs no proof: every name is declared once and read, shapes fit, every action keeps its param's
shape, the group is known, `fix` stands where a frame has something to solve.  Whether the gauge is *true* is the
prover's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from gaugec.errors import Span, SpecError
from gaugec.groups import GROUPS, ONE, Group
from gaugec.language import tree as t
from gaugec.language.bounds import bounded
from gaugec.language.printer import show_shape
from gaugec.language.shapes import Scope, broadcast, constant, nearest, signature
from gaugec.operators import BY_NAME, SPELLINGS, TABLE

MAX_NAMES = 100  # dims, givens, params, model values and the element of one gauge
MAX_OPERATORS = 20  # op lines of a file: each one's laws are looked for
MAX_OPTIONAL = 6  # params of one gauge that a model may lack: the matcher looks for every choice of them
_POINTWISE = frozenset(name for name, rule in SPELLINGS.items() if rule == "pointwise") | {"max"}
_OP_CALLS = frozenset(name for name in _POINTWISE if not BY_NAME[name].draws)  # an operator is a function
_FIX_CALLS = frozenset(row.name for row in TABLE if row.norm)


def check(file: t.File) -> t.File:
    """Return the file with every expression typed, each gauge with the operators that it calls; raises SpecError."""
    operators: dict[str, t.Operator] = {}
    for operator in file.operators[MAX_OPERATORS:]:
        raise SpecError(f"a file has at most {MAX_OPERATORS} op lines", operator.marks[0], "split it into files")
    for operator in file.operators:
        if signature(operator.name) is not None:
            raise SpecError(f"'{operator.name}' is an operator already", operator.marks[0], "choose another name")
        if operator.name in operators:
            raise _twice(operator.name, operator.marks[0], operators[operator.name].marks[0])
        operators[operator.name] = check_operator(operator)
    places: dict[str, Span] = {}
    for item in (*file.gauges, *((file.architecture,) if file.architecture else ())):
        if item.name in places:
            raise _twice(item.name, item.marks[0], places[item.name])
        places[item.name] = item.marks[0]
    gauges = tuple(check_gauge(gauge, operators) for gauge in file.gauges)
    called = {operator.name for gauge in gauges for operator in gauge.operators}
    for operator in operators.values():
        if gauges and operator.name not in called:
            raise SpecError(f"the op '{operator.name}' is never used", operator.marks[0], "call it in a model line")
    return replace(file, gauges=gauges, operators=tuple(operators.values()))


def check_operator(operator: t.Operator) -> t.Operator:
    """Return an `op` line with its expression typed; it must be a pointwise function of its argument alone."""
    scope = Scope("an op line", {operator.argument: ()}, only=_OP_CALLS)
    expr = scope.typed(operator.expr)
    if operator.argument not in scope.used:
        message = f"the op '{operator.name}' does not read its argument '{operator.argument}'"
        raise SpecError(message, operator.marks[1], "an op is a function of its argument")
    operator = replace(operator, expr=expr)
    bounded(operator)
    return operator


def check_gauge(gauge: t.Gauge, operators: dict[str, t.Operator]) -> t.Gauge:
    """Return the gauge with every expression typed; `operators` are the file's, by name."""
    return _Checker(gauge, operators).run()


def _twice(name: str, span: Span | None, first: Span | None) -> SpecError:
    where = f"the first is on line {first.line}" if first else "it was declared before"
    return SpecError(f"'{name}' is declared twice", span, f"{where}; every name has one meaning")


@dataclass
class _Checker:
    gauge: t.Gauge
    operators: dict[str, t.Operator]
    places: dict[str, Span | None] = field(default_factory=dict)  # every name that was declared
    read: set[str] = field(default_factory=set)  # every name and dim that was read
    called: set[str] = field(default_factory=set)

    def run(self) -> t.Gauge:
        gauge = self.gauge
        self._dims()
        declarations: list[t.Given | t.Param] = [*gauge.givens, *gauge.params]
        for declared in declarations:
            self._declare(declared.name, declared.span)
            self._known_dims(declared.shape, declared.marks)
        for param in [param for param in gauge.params if param.optional][MAX_OPTIONAL:]:
            message = f"a gauge has at most {MAX_OPTIONAL} params that a model may lack"
            raise SpecError(message, param.span, "write it as several gauges")
        group = self._element()
        models = self._models()
        actions = self._actions(group)
        self._keeps()
        self._unread()
        fixes = self._fixes(group)
        for dim, span in zip(gauge.dims, gauge.marks[1:]):
            if dim not in self.read:
                raise SpecError(f"the dim '{dim}' is never used", span, "leave it out of the head")
        called = tuple(operator for name, operator in self.operators.items() if name in self.called)
        return replace(gauge, models=models, actions=actions, fixes=fixes, operators=called)

    # --- declarations

    def _declare(self, name: str, span: Span | None) -> None:
        if len(self.places) >= MAX_NAMES:
            raise SpecError(f"a gauge declares at most {MAX_NAMES} names", span, "write it as several gauges")
        if name in self.places:
            raise _twice(name, span, self.places[name])
        if signature(name) is not None or name in self.operators:
            raise SpecError(f"'{name}' is an operator and cannot be a value", span, "choose another name")
        self.places[name] = span

    def _dims(self) -> None:
        for dim, span in zip(self.gauge.dims, self.gauge.marks[1:]):
            if dim != dim.lower():
                message = f"the dim '{dim}' has capital letters"
                raise SpecError(message, span, f"dims are written small: `{dim.lower()}`")
            self._declare(dim, span)

    def _known_dims(self, dims: Sequence[str], spans: Sequence[Span]) -> None:
        for dim, span in zip(dims, spans):
            if dim.startswith("_"):
                continue
            if dim not in self.gauge.dims:
                help = f"{nearest(dim, self.gauge.dims, 'dims')}; dims are declared in `gauge {self.gauge.name}(…)`"
                raise SpecError(f"unknown dim '{dim}'", span, help)
            self.read.add(dim)

    def _element(self) -> Group:
        element = self.gauge.element
        name_span, group_span, *dim_spans = element.marks
        self._declare(element.name, name_span)
        group = GROUPS.get(element.group)
        if group is None:
            raise SpecError(f"unknown group '{element.group}'", group_span, nearest(element.group, GROUPS, "groups"))
        if len(element.dims) != 1:
            message = f"'{element.group}' takes one dim, not {len(element.dims)}"
            raise SpecError(message, group_span, f"write `{element.group}({element.dims[0]})`")
        if element.dims != (ONE,):
            number = element.dims[0].replace(".", "").isdigit()
            if number:
                message = f"'{element.group}' acts on a dim, or on 1, not on {element.dims[0]}"
                raise SpecError(message, dim_spans[0], f"write `translation({ONE})` for one number, added everywhere")
            self._known_dims(element.dims, dim_spans)
        elif group.kind != "shift":
            message = f"'{element.group}' cannot be of one number"
            help = "only a translation can: `translation(1)`, a number added everywhere"
            raise SpecError(message, dim_spans[0], help)
        return group

    # --- lines

    def _scope(self, what: str, shapes: dict[str, t.Shape], hidden: dict[str, str]) -> Scope:
        return Scope(what, shapes, hidden, self.gauge.dims, self.operators, used=self.read, called=self.called)

    def _models(self) -> tuple[t.Model, ...]:
        gauge = self.gauge
        shapes = {given.name: given.shape for given in gauge.givens} | {
            param.name: param.shape for param in gauge.params
        }
        hidden = {gauge.element.name: "the group element"}
        models = []
        for index, model in enumerate(gauge.models):
            self._declare(model.name, model.marks[0])
            later = {other.name: "which is computed later" for other in gauge.models[index:]}
            expr = self._scope("a model line", shapes, hidden | later).typed(model.expr)
            for param in gauge.params:
                if param.optional:
                    _only_added(expr, param.name)
            models.append(replace(model, expr=expr))
            shapes[model.name] = expr.shape
        return tuple(models)

    def _keeps(self) -> None:
        gauge = self.gauge
        spans = gauge.marks[1 + len(gauge.dims) :]
        names = [model.name for model in gauge.models]
        for index, (name, span) in enumerate(zip(gauge.keeps, spans)):
            if name not in names:
                message = f"'{name}' is not computed by a model line"
                raise SpecError(message, span, nearest(name, names, "names that can be kept"))
            if name in gauge.keeps[:index]:
                raise SpecError(f"'{name}' is kept twice", span, "leave one out")
        self.read.update(gauge.keeps)

    def _unread(self) -> None:
        kinds: Iterable[tuple[str, Iterable[t.Given | t.Param | t.Model]]] = (
            ("given", self.gauge.givens),
            ("param", self.gauge.params),
            ("model value", self.gauge.models),
        )
        for kind, items in kinds:
            for item in items:
                if item.name not in self.read:
                    span = item.marks[0] if isinstance(item, t.Model) else item.span
                    help = "use it in a model line, or leave it out"
                    raise SpecError(f"the {kind} '{item.name}' is never used", span, help)

    def _actions(self, group: Group) -> tuple[t.Action, ...]:
        gauge, element = self.gauge, self.gauge.element
        params = {param.name: param for param in gauge.params}
        hidden = {given.name: "which is data" for given in gauge.givens}
        hidden |= {model.name: "which is computed" for model in gauge.models}
        shapes = {param.name: param.shape for param in gauge.params}
        done: dict[str, t.Action] = {}
        for action in gauge.actions:
            name, where = action.param, action.marks[0]
            if name in done:
                line = done[name].marks[0].line
                help = f"the first action on it is on line {line}; write one"
                raise SpecError(f"'{name}' is moved twice", where, help)
            if name not in params:
                kind = _kind(gauge, name)
                message = f"'{name}' is {kind}, and only a param can move" if kind else f"unknown param '{name}'"
                raise SpecError(message, where, nearest(name, params, "params"))
            scope = self._scope("an action", shapes | {element.name: group.shape(element.dims[0])}, hidden)
            scope.used = set()
            expr = scope.typed(action.expr)
            if expr.shape != params[name].shape:
                old, new = show_shape(params[name].shape), show_shape(expr.shape)
                message = f"'{name}' has the shape {old}, but is moved to {new}"
                raise SpecError(message, action.expr.span, "an action keeps its param's shape")
            if element.name not in scope.used:
                message = f"the action on '{name}' does not use the group element '{element.name}'"
                raise SpecError(message, action.expr.span, "leave out what does not move")
            self.read |= scope.used - set(params)  # a param that only actions read is not used
            for param in gauge.params:
                if param.optional and _vanishes(expr, param.name) is (param.name != name):
                    message = f"a model may lack '{param.name}', and the action on '{name}' needs it"
                    help = f"an absent param is zero and must stay zero: write `param {param.name}[…]` without '?'"
                    raise SpecError(message, action.expr.span, help)
            done[name] = replace(action, expr=expr)
        return tuple(done.values())

    def _fixes(self, group: Group) -> tuple[t.Fix, ...]:
        gauge, element = self.gauge, self.gauge.element
        name = f"{element.group}({', '.join(element.dims)})"
        if not gauge.fixes:
            if group.fix == "required":
                help = "choose one with a fix line: `fix abs(g) == 1`, or `fix rownorm(W1) == colnorm(W2)`"
                message = f"a gauge of {name} needs a fix line: the frame has no representative"
                raise SpecError(message, element.span, help)
            return ()
        if group.fix == "forbidden":
            help = "leave the fix line out: a compact group needs no frame"
            raise SpecError(f"{name} is compact, so there is nothing to fix", gauge.fixes[0].span, help)
        if len(gauge.fixes) > 1:
            raise SpecError("a gauge has one fix line", gauge.fixes[1].span, "leave one out")
        (fix,) = gauge.fixes
        hidden = {given.name: "which is data" for given in gauge.givens}
        hidden |= {model.name: "which is computed" for model in gauge.models} | {element.name: "the group element"}
        scope = self._scope("a fix line", {param.name: param.shape for param in gauge.params}, hidden)
        scope.used, scope.only = set(), _FIX_CALLS
        left, right = scope.typed(fix.left), scope.typed(fix.right)
        wanted = group.shape(element.dims[0])
        shape = broadcast(left.shape, right.shape)
        if shape != wanted:
            found = f"{show_shape(left.shape)} == {show_shape(right.shape)}"
            message = f"a fix line of {name} has the shape {show_shape(wanted)}, not {found}"
            raise SpecError(message, fix.span, "write one equation for each entry of the group element")
        if not scope.used & {action.param for action in gauge.actions}:
            help = "fix the size of a moved param"
            raise SpecError("the fix line reads nothing that the gauge moves", fix.span, help)
        for param in gauge.params:
            if not param.optional or param.name not in scope.used:
                continue
            if _vanishes(left, param.name) or _vanishes(right, param.name):
                message = f"a model may lack '{param.name}', and then the fix line has nothing to solve"
                raise SpecError(message, fix.span, "an absent param is zero: fix another, or their sum")
        return (replace(fix, left=left, right=right),)


def _kind(gauge: t.Gauge, name: str) -> str:
    for kind, items in (("a given", gauge.givens), ("computed by a model line", gauge.models)):
        if any(item.name == name for item in items):
            return kind
    return "the group element" if name == gauge.element.name else "a dim" if name in gauge.dims else ""


def _only_added(expr: t.Expr, name: str, added: bool = False) -> None:
    """Refuse an optional param that is anything but a term of a sum: where a model lacks it, the term is left out."""
    match expr:
        case t.Name(id=found):
            if found == name and not added:
                message = f"a model may lack '{name}', so it can only be added"
                raise SpecError(message, expr.span, f"write `… + {name}`, or declare it without '?'")
        case t.Binary(op="+" | "-", left=left, right=right):
            for term, other in ((left, right), (right, left)):
                _only_added(term, name, other.shape == expr.shape)
        case t.Binary(left=left, right=right):
            _only_added(left, name)
            _only_added(right, name)
        case t.Negate(x=x) | t.Transpose(x=x):
            _only_added(x, name)
        case t.Call(args=args):
            for arg in args:
                _only_added(arg, name)


def _vanishes(expr: t.Expr, name: str) -> bool:
    """Whether the expression is zero where the param `name` is zero; refuses a division by it."""
    match expr:
        case t.Name(id=found):
            return found == name
        case t.Number(value=value):
            return value == 0
        case t.Negate(x=x) | t.Transpose(x=x):
            return _vanishes(x, name)
        case t.Binary(op="+" | "-", left=left, right=right):
            both = _vanishes(left, name), _vanishes(right, name)
            return all(both)
        case t.Binary(op="*" | "@", left=left, right=right):
            both = _vanishes(left, name), _vanishes(right, name)
            return any(both)
        case t.Binary(op="/", left=left, right=right):
            zero = _vanishes(left, name)
            if _vanishes(right, name):
                raise _divides(name, right)
            return zero
        case t.Binary(op="**", left=left, right=right):
            zero, exponent = _vanishes(left, name), constant(right)
            if zero and exponent is not None and exponent <= 0:
                raise _divides(name, expr)
            return zero
        case t.Call(op=op, args=args):
            zeros = [_vanishes(arg, name) for arg in args]
            if op == "inv" and zeros[0]:
                raise _divides(name, expr)
            return any(zeros) if op == "outer" else (op == "diag" or op in _FIX_CALLS) and zeros[0]
    return False


def _divides(name: str, expr: t.Expr) -> SpecError:
    help = f"an absent param is zero: declare `{name}` without '?'"
    return SpecError(f"a model may lack '{name}', and this divides by it", expr.span, help)
