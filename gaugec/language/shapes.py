"""Shapes of expressions: numpy's broadcasting for signs, torch.matmul's rule for `@`, one rule an operator.

`Scope.typed` returns the expression with every `.shape` filled in and every exponent folded to a Number, or raises a
SpecError that shows both shapes.  Dims are symbols: two of them are equal only when they are the same name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from gaugec.errors import Span, SpecError
from gaugec.language import tree as t
from gaugec.language.parse import MAX_EXPONENT
from gaugec.language.printer import show, show_shape
from gaugec.operators import SPELLINGS

_FIX_RULES = ("norm_rows", "norm_cols")
_OPTIONS = {"rms_norm": ("eps",), "layer_norm": ("eps",)}
MAX_BITS = 3_322  # of a number that is computed: a thousand digits
_MAX = "max"  # of two arguments, the second a number; the language's own, so not in the table


def signature(op: str) -> str | None:
    """Return the shape rule of an operator's spelling in the operator table, or None for an unknown one."""
    return "maximum" if op == _MAX else SPELLINGS.get(op)


def nearest(name: str, known: Iterable[str], kind: str) -> str:
    """Return help for an unknown name: the nearest known one, else all of them."""
    names = sorted(set(known))
    lowered = {other.lower(): other for other in reversed(names)}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{lowered[close[0]]}'?"
    if not names:
        return f"there are no {kind} here"
    return f"{kind} here: {', '.join(names[:16])}{', …' if len(names) > 16 else ''}"


def constant(expr: t.Expr) -> Fraction | None:
    """Return the value of an expression of numbers and + - * /, or None for any other."""
    match expr:
        case t.Number(value=value):
            return value
        case t.Negate(x=x):
            inner = constant(x)
            return None if inner is None else -inner
        case t.Binary(op="+" | "-" | "*" | "/" as op, left=left, right=right):
            a, b = constant(left), constant(right)
            if a is None or b is None or (op == "/" and b == 0):
                return None
            value = a + b if op == "+" else a - b if op == "-" else a * b if op == "*" else a / b
            if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
                raise SpecError("this number has more than 1,000 digits", expr.span, "write a smaller one")
            return value
    return None


def broadcast(a: t.Shape, b: t.Shape) -> t.Shape | None:
    """Return the shape of a sum: the shorter shape must be the end of the longer; None where it is not."""
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    return longer if longer[len(longer) - len(shorter) :] == shorter else None


@dataclass
class Scope:
    """What an expression may read.

    what: the kind of line, for messages ("a model line").
    values: shape by name; hidden: names that exist but not for this line, with the reason; dims: for `ones`.
    operators: names of the file's `op` lines.  only: the operators that the line may call, None for all of the table.
    used: filled with the names and dims that were read; called: with the `op`s.
    """

    what: str
    values: Mapping[str, t.Shape]
    hidden: Mapping[str, str] = field(default_factory=dict)
    dims: Iterable[str] = ()
    operators: Iterable[str] = ()
    only: frozenset[str] | None = None
    used: set[str] = field(default_factory=set)
    called: set[str] = field(default_factory=set)

    def typed(self, expr: t.Expr) -> t.Expr:
        """Return the expression with its shapes; raises SpecError."""
        match expr:
            case t.Number():
                return expr
            case t.Name(id=name):
                return replace(expr, shape=self._value(expr, name))
            case t.Negate(x=x):
                inner = self.typed(x)
                return replace(expr, x=inner, shape=inner.shape)
            case t.Transpose(x=x):
                inner = self.typed(x)
                if len(inner.shape) < 2:
                    message = f"'.T' swaps the last two axes, but {_is(inner)}"
                    raise SpecError(message, expr.span, "leave .T out; `outer` and `diag` make matrices of vectors")
                *batch, rows, columns = inner.shape
                return replace(expr, x=inner, shape=(*batch, columns, rows))
            case t.Binary(op="**"):
                return self._power(expr)
            case t.Binary(op="@"):
                return self._matmul(expr)
            case t.Binary():
                return self._arithmetic(expr)
            case t.Call():
                return self._call(expr)
        raise TypeError(f"not an expression: {type(expr).__name__}")

    def _value(self, expr: t.Expr, name: str) -> t.Shape:
        if name in self.values:
            self.used.add(name)
            return self.values[name]
        if name in self.hidden:
            raise SpecError(f"{self.what} cannot read '{name}', {self.hidden[name]}", expr.span, self._readable())
        if name in self.dims:
            raise SpecError(f"'{name}' is a dim, not a value", expr.span, f"`ones({name})` is a vector of ones")
        if self._is_operator(name):
            raise SpecError(f"'{name}' is an operator", expr.span, f"give it an argument: `{name}(…)`")
        raise SpecError(f"unknown name '{name}'", expr.span, nearest(name, self.values, "names"))

    def _readable(self) -> str:
        return f"it may read {', '.join(sorted(self.values)) or 'nothing'}"

    def _is_operator(self, name: str) -> bool:
        return signature(name) is not None or name in self.operators

    def _power(self, expr: t.Binary) -> t.Expr:
        left = self.typed(expr.left)
        exponent = constant(expr.right)
        if exponent is None:
            help = "write `x**2` or `x**(1/2)`; e to the x is `exp(x)`"
            raise SpecError("an exponent is a number", expr.right.span, help)
        if abs(exponent) > MAX_EXPONENT or exponent.denominator > MAX_EXPONENT:
            raise SpecError(f"an exponent is at most {MAX_EXPONENT}", expr.right.span, "write a smaller one")
        if exponent <= 0 and constant(left) == 0:
            raise SpecError("division by zero", expr.span, "write another number")
        return replace(expr, left=left, right=t.Number(exponent, span=expr.right.span), shape=left.shape)

    def _arithmetic(self, expr: t.Binary) -> t.Expr:
        left, right = self.typed(expr.left), self.typed(expr.right)
        shape = broadcast(left.shape, right.shape)
        if shape is None:
            message = f"'{expr.op}' cannot join {show_shape(left.shape)} and {show_shape(right.shape)}"
            raise SpecError(message, _sign(expr), _advise(expr.op, left, right))
        if expr.op == "/" and constant(right) == 0:
            raise SpecError("division by zero", right.span, "write another number")
        return replace(expr, left=left, right=right, shape=shape)

    def _matmul(self, expr: t.Binary) -> t.Expr:
        left, right = self.typed(expr.left), self.typed(expr.right)
        a, b = left.shape, right.shape
        if not a or not b:
            side = left if not a else right
            raise SpecError(f"'@' needs axes on both sides, but {_is(side)}", _sign(expr), "write '*' for a number")
        inner = b[0] if len(b) == 1 else b[-2]
        if a[-1] != inner:
            message = f"'@' cannot join {show_shape(a)} and {show_shape(b)}: '{_dim(a[-1])}' is not '{_dim(inner)}'"
            raise SpecError(message, _sign(expr), _advise("@", left, right))
        batch = broadcast(a[:-2], b[:-2])
        if batch is None:
            message = f"'@' cannot join {show_shape(a)} and {show_shape(b)}: the axes before the last two differ"
            raise SpecError(message, _sign(expr), "the shorter list of them must be the end of the longer")
        return replace(expr, left=left, right=right, shape=batch + a[-2:-1] + (b[-1:] if len(b) > 1 else ()))

    def _call(self, expr: t.Call) -> t.Expr:
        name, where = expr.op, expr.marks[0] if expr.marks else expr.span
        own = name in self.operators
        rule = "pointwise" if own else signature(name)
        if rule is None:
            if name in self.values or name in self.hidden:
                raise SpecError(f"'{name}' is a value, not an operator", where, "write '*' or '@' for a product")
            known = [*SPELLINGS, _MAX, *self.operators]
            raise SpecError(f"unknown operator '{name}'", where, nearest(name, known, "operators"))
        if self.only is not None and name not in self.only:
            help = f"it knows {', '.join(sorted(self.only))}"
            raise SpecError(f"'{name}' cannot stand in {self.what}", where, help)
        if self.only is None and rule in _FIX_RULES:
            message = f"'{name}' can stand only in a fix line"
            raise SpecError(message, where, "it is a norm to solve the representative from")
        for key, value in expr.options:
            if key not in _OPTIONS.get(name, ()):
                raise SpecError(f"'{name}' has no option '{key}'", where, "rms_norm and layer_norm have `eps`")
            if value < 0:
                raise SpecError(f"the option '{key}' is negative", where, "write 0 or more")
        wanted = 2 if rule in ("outer", "loss", "maximum") else 1
        if len(expr.args) != wanted:
            message = f"'{name}' takes {_count(wanted)}, not {len(expr.args)}"
            raise SpecError(message, expr.span, f"write `{name}({_EXAMPLES.get(rule, 'x')})`")
        if rule == "ones":
            return self._ones(expr)
        if own:
            self.called.add(name)
        args = tuple(self.typed(arg) for arg in expr.args)
        return replace(expr, args=args, shape=self._shape(expr, rule, args))

    def _ones(self, expr: t.Call) -> t.Expr:
        (arg,) = expr.args
        if not isinstance(arg, t.Name) or arg.id not in self.dims:
            known = nearest(arg.id, self.dims, "dims") if isinstance(arg, t.Name) else "write `ones(n)`"
            raise SpecError("'ones' takes a dim", arg.span, known)
        self.used.add(arg.id)
        return replace(expr, shape=(arg.id,))

    def _shape(self, expr: t.Call, rule: str, args: tuple[t.Expr, ...]) -> t.Shape:
        first = args[0]
        shape = first.shape

        def need(good: bool, words: str, help: str, arg: t.Expr = first) -> None:
            if not good:
                raise SpecError(f"'{expr.op}' takes {words}, but {_is(arg)}", arg.span, help)

        match rule:
            case "pointwise":
                return shape
            case "maximum":
                if constant(expr.args[1]) is None:
                    raise SpecError("the second argument of 'max' is a number", expr.args[1].span, "write `max(x, 0)`")
                return shape
            case "last_axis":
                need(len(shape) >= 1, "a value with an axis", "it acts along the last axis")
                return shape
            case "even_last_axis":
                need(len(shape) >= 2, "a value with a position and a width", "write `rope(x @ W.T)`")
                return shape
            case "diag":
                need(len(shape) == 1, "a vector", "it makes the matrix with the vector on its diagonal")
                return shape * 2
            case "outer":
                for arg in args:
                    need(len(arg.shape) == 1, "two vectors", "`outer(u, v)` has the rows u[i] * v", arg)
                return shape + args[1].shape
            case "inverse":
                square = len(shape) == 2 and shape[0] == shape[1]
                need(square, "a square matrix", "the inverse of a vector's entries is `1/c`")
                return shape
            case "norm_rows" | "norm_cols":
                need(isinstance(first, t.Name), "a param", "write the name of a matrix")
                need(len(shape) == 2, "a matrix", "the size of a vector's entries is `abs(g)`")
                return shape[:1] if rule == "norm_rows" else shape[1:]
            case "loss":
                need(len(shape) >= 1, "logits with an axis of classes", "write `cross_entropy(h @ U.T, t)`")
                words = f"targets of shape {show_shape(shape[:-1])}"
                need(args[1].shape == shape[:-1], words, "one target for each row of the logits", args[1])
                return ()
        raise SpecError(f"'{expr.op}' cannot be written in a spec", expr.span, f"the shape rule '{rule}' is unknown")


_EXAMPLES = {"outer": "u, v", "loss": "logits, t", "maximum": "x, 0", "ones": "n", "inverse": "T", "diag": "v"}


def _count(number: int) -> str:
    return "one argument" if number == 1 else "two arguments"


def _dim(dim: str) -> str:
    return "_" if dim.startswith("_") else dim


def _is(expr: t.Expr) -> str:
    text = show(expr)
    return f"`{text if len(text) <= 40 else text[:37] + '…'}` has the shape {show_shape(expr.shape)}"


def _sign(expr: t.Binary) -> Span | None:
    return expr.marks[0] if expr.marks else expr.span


def _advise(op: str, left: t.Expr, right: t.Expr) -> str:
    """Say what the reader may have meant by a product or sum that does not fit."""
    a, b = left.shape, right.shape
    if len({dim for dim in a + b if dim.startswith("_")}) > 1:
        return "every '_' is a dim of its own: declare a name for one that is shared"
    if op == "@":
        if len(b) >= 2 and a[-1] == b[-1]:
            return f"torch keeps weights as [out, in]: `{_short(left)} @ {_short(right, '.T')}` fits"
        if len(a) >= 2 and a[-2] == (b[0] if len(b) == 1 else b[-2]):
            return f"`{_short(left, '.T')} @ {_short(right)}` fits"
        return "the last axis of the left is summed with the second to last of the right"
    if op in "*/" and len(a) == 2 and len(b) == 1 and a[0] == b[0]:
        inverse = "1/" if op == "/" else ""
        scaled = f"diag({inverse}{_short(right)}) @ {_short(left)}"
        return f"axes are lined up from the last; to scale the rows write `{scaled}`"
    if op == "*" and len(b) == 2 and len(a) == 1 and b[0] == a[0]:
        return f"axes are lined up from the last; to scale the rows write `diag({_short(left)}) @ {_short(right)}`"
    if op == "*" and len(a) >= 2 and len(b) >= 2 and a[-1] == b[-2]:
        return f"'*' multiplies entry by entry; `{_short(left)} @ {_short(right)}` is the product of matrices"
    return "axes are lined up from the last, and every pair of them must be the same dim"


def _short(expr: t.Expr, suffix: str = "") -> str:
    text = show(expr)
    if suffix and isinstance(expr, t.Transpose):
        return show(expr.x)
    loose = isinstance(expr, t.Binary) and (suffix or expr.op in "+-")
    if loose or (isinstance(expr, t.Negate) and suffix):
        text = f"({text})"
    return text + suffix if len(text) <= 40 else "…" + suffix
