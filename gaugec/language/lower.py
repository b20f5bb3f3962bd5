"""Formulas enter here: a checked gauge -> the same tensor graph that a traced model becomes, a `fix` or `op` line -> a
definition tree.  No syntax tree goes further than this.

Sizes are given per dim: large distinct labels for the dimension-generic proof, small ones for sampling.  The graph of a
formula is marked `symbolic`: a proof must not use the labels' values.

What this module does not do: it proves nothing and evaluates nothing; norms, products and losses are spelled out by
`gaugec.graph.layers`, for models too, so that no law about them needs to be believed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

from gaugec.errors import GaugeError, SpecError
from gaugec.graph import layers
from gaugec.graph.builder import Builder, Ref
from gaugec.graph.check import check
from gaugec.graph.freeze import freeze
from gaugec.graph.fuse import fuse, put
from gaugec.graph.statement import Statement
from gaugec.groups import GROUPS
from gaugec.language import tree
from gaugec.language.printer import show_fix
from gaugec.language.tree import Binary, Call, Expr, Gauge, Name, Negate, Number, Transpose
from gaugec.laws.functions import recognise
from gaugec.operators import BY_NAME, HEADS, Term
from gaugec.sites import Equation

_PRIMES = (101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167, 173, 179, 181, 191, 193, 197, 199, 211)


def all_dims(gauge: Gauge) -> tuple[str, ...]:
    """Every dim of a gauge: those of its head, then the fresh ones that `_` made."""
    shapes = [given.shape for given in gauge.givens] + [param.shape for param in gauge.params]
    return tuple(dict.fromkeys([*gauge.dims, *(dim for shape in shapes for dim in shape)]))


def labels(gauge: Gauge) -> dict[str, int]:
    """Distinct even label sizes, one a dim."""
    dims = all_dims(gauge)
    primes = list(_PRIMES)
    while len(primes) < len(dims):
        primes.append(
            next(n for n in range(primes[-1] + 2, 10**6, 2) if all(n % p for p in range(3, int(n**0.5) + 1, 2)))
        )
    return {dim: 2 * prime for dim, prime in zip(dims, primes)}


def lower(gauge: Gauge, sizes: Mapping[str, int] | None = None) -> Statement:
    """Lowers a gauge at the given sizes (the labels by default).

    Raises:
        SpecError: an expression that the tensor graph cannot say.
    """
    return _Lowering(gauge, dict(sizes or labels(gauge))).statement()


def term(expr: Expr, argument: str) -> Term:
    """An `op` line's expression as a definition tree in "x"."""
    if isinstance(expr, Name):
        return "x"
    made = _arithmetic(expr, lambda part: term(part, argument))
    if made is not None:
        return made
    if isinstance(expr, Binary) and expr.op == "**" and isinstance(expr.right, Number):
        return ("pow", term(expr.left, argument), expr.right.value)
    if isinstance(expr, Call):
        args = tuple(term(arg, argument) for arg in expr.args)
        if expr.op in HEADS:
            return (expr.op, *args)
        known = BY_NAME.get(expr.op)
        if known is not None and known.definition is not None and len(args) == 1:
            return put(known.definition, args[0])
    raise SpecError("an `op` line may use only pointwise operators", expr.span)


def _arithmetic(expr: Expr, lowered: Callable[[Expr], Term]) -> Term | None:
    """A number, a minus or one of + - * / as a tree, its operands `lowered`; None where it is something else."""
    if isinstance(expr, Number):
        return expr.value
    if isinstance(expr, Negate):
        return ("mul", -1, lowered(expr.x))
    if not isinstance(expr, Binary) or expr.op not in ("+", "-", "*", "/"):
        return None
    left, right = lowered(expr.left), lowered(expr.right)
    match expr.op:
        case "+":
            return ("add", left, right)
        case "-":
            return ("add", left, ("mul", -1, right))
        case "*":
            return ("mul", left, right)
    return ("mul", left, ("pow", right, -1))


def lower_fixes(gauge: Gauge) -> tuple[Equation, ...]:
    """The `fix` lines of a gauge as equations between norms of its parameters.

    Raises:
        GaugeError: a line that no scale can satisfy, or that is not made of norms.
    """
    return tuple(lower_fix(fix, gauge.name) for fix in gauge.fixes)


def lower_fix(fix: tree.Fix, gauge: str) -> Equation:
    """One `fix` line of the gauge of that name; see `lower_fixes`."""
    return Equation(_side(fix.left, gauge), _side(fix.right, gauge), show_fix(fix), fix.span)


def _side(expr: Expr, gauge: str) -> Term:
    """One side of a `fix`, over the norms of the parameters."""
    made = _arithmetic(expr, lambda part: _side(part, gauge))
    if made is not None:
        return made
    if isinstance(expr, Binary) and expr.op == "**" and isinstance(expr.right, Number):
        if not isinstance(expr.left, Name):
            return ("pow", _side(expr.left, gauge), expr.right.value)
        if (expr.right.value / 2).denominator != 1:
            message = f"{gauge}: a fix cannot tell the sign of {expr.left.id}"
            raise GaugeError(message, expr.span, help=f"write abs({expr.left.id})")
        return ("pow", ("norm", expr.left.id), expr.right.value)
    if isinstance(expr, Call) and len(expr.args) == 1 and expr.op in BY_NAME and BY_NAME[expr.op].norm:
        (arg,) = expr.args
        inner = arg.x if isinstance(arg, Transpose) else arg
        if not isinstance(inner, Name):
            raise GaugeError(f"{gauge}: a norm in a fix is taken of one parameter", arg.span)
        return ("norm", inner.id)
    if isinstance(expr, Name):
        message = f"{gauge}: a positive scale cannot change the sign of {expr.id}"
        raise GaugeError(message, expr.span, help="write abs()")
    raise GaugeError(f"{gauge}: a fix is made of norms, abs, numbers and + - * / **", expr.span)


class _Lowering:
    """Lowers the expressions of one gauge into one builder."""

    def __init__(self, gauge: Gauge, sizes: dict[str, int]) -> None:
        self.gauge, self.sizes, self.b = gauge, sizes, Builder(symbolic=True)
        self.operators = {operator.name: operator for operator in gauge.operators}
        self.env: dict[str, Ref] = {}
        self.tables: dict[tuple[str, str], Ref] = {}

    def shape(self, dims: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(self.sizes[dim] for dim in dims)

    def statement(self) -> Statement:
        gauge, b = self.gauge, self.b
        for given in gauge.givens:
            self.env[given.name] = b.leaf("input", given.name, self.shape(given.shape))
        for param in gauge.params:
            self.env[param.name] = b.leaf("param", param.name, self.shape(param.shape))
        element = gauge.element
        shape = GROUPS[element.group].shape(element.dims[0])
        self.env[element.name] = b.leaf("element", element.name, self.shape(shape))
        for model in gauge.models:
            b.place = model.name
            self.env[model.name] = self.expr(model.expr)
        moved: dict[str, Ref] = {}
        for action in gauge.actions:
            b.place = f"{action.param} ->"
            moved[action.param] = b.expand(self.expr(action.expr), self.env[action.param].shape)
        kept = [self._node(self.env[name]) for name in gauge.keeps]
        roots = [self.env[param.name] for param in gauge.params]
        roots += [*kept, self.env[element.name]]
        whole = [self._node(ref) for ref in moved.values()]
        graph, numbers = fuse(*freeze(b, [*roots, *whole], symbolic=True), recognise)
        check(graph, "lowering")
        return Statement(
            name=gauge.name,
            graph=graph,
            group=element.group,
            group_dims=element.dims,
            params={param.name: numbers[self.env[param.name].node] for param in gauge.params},
            actions={name: numbers[ref.node] for name, ref in zip(moved, whole)},
            kept=tuple(numbers[ref.node] for ref in kept),
            element=numbers[self.env[element.name].node],
            optional=frozenset(param.name for param in gauge.params if param.optional),
            each=frozenset(param.name for param in gauge.params if param.each),
            axes={param.name: param.shape for param in gauge.params},
            angles=self._angles(numbers),
        )

    def _angles(self, numbers: Mapping[int, int]) -> tuple[tuple[int, int], ...]:
        """The tables of rotary embeddings that the graph has kept: (cosine, sine)."""
        over = dict.fromkeys(over for _, over in self.tables)
        pairs = [(self.tables["cos", name].node, self.tables["sin", name].node) for name in over]
        return tuple((numbers[cos], numbers[sin]) for cos, sin in pairs if cos in numbers and sin in numbers)

    def _node(self, ref: Ref) -> Ref:
        """The value as a node of its own, where it is only a view of one."""
        own = self.b.nodes[ref.node]
        plain = [v for axis in own.axes for v in axis]
        seen = [v.resolve() for axis in ref.axes for v in axis]
        straight = len(ref.index) == len(plain) and all(o == 0 and len(t) == 1 for o, t in ref.index)
        if straight and [t[0][1].resolve() for _, t in ref.index] == seen and ref.shape == own.shape:
            return ref
        return self.b.add(ref)

    # -- expressions ------------------------------------------------------------------------------------------
    def expr(self, expr: Expr) -> Ref:
        b = self.b
        b.source = ""
        if isinstance(expr, Name):
            return self.env[expr.id]
        if isinstance(expr, Number):
            return b.scalar(expr.value)
        if isinstance(expr, Negate):
            return b.mul(self.expr(expr.x), coefficient=Fraction(-1))
        if isinstance(expr, Transpose):
            return b.transpose(self.expr(expr.x), -1, -2)
        if isinstance(expr, Binary):
            return self.binary(expr)
        if isinstance(expr, Call):
            return self.call(expr)
        raise SpecError("this expression has no meaning here", expr.span)

    def binary(self, expr: Binary) -> Ref:
        b = self.b
        left = self.expr(expr.left)
        if expr.op == "**":
            assert isinstance(expr.right, Number)
            return b.power(left, expr.right.value)
        right = self.expr(expr.right)
        b.source = expr.op
        if expr.op == "+":
            return b.add(left, right)
        if expr.op == "-":
            return b.add(left, right, coefficients=[Fraction(1), Fraction(-1)])
        if expr.op == "*":
            return b.mul(left, right)
        if expr.op == "/":
            return b.mul(left, b.power(right, Fraction(-1)))
        return layers.matmul(b, left, right)

    def call(self, expr: Call) -> Ref:
        b, name = self.b, expr.op
        if name == "ones":
            (dim,) = expr.args
            assert isinstance(dim, Name)
            return b.scalar(Fraction(1), [self.sizes[dim.id]])
        args = [self.expr(arg) for arg in expr.args]
        b.source = name
        if name in self.operators:
            # spelled out as its definition says: what it is then is found as it is found in a model
            operator = self.operators[name]
            outer, self.env = self.env, {operator.argument: args[0]}
            made = self.expr(operator.expr)
            self.env = outer
            return made
        if name in ("max", "min") and len(args) == 2:
            if name == "max" and isinstance(expr.args[1], Number) and expr.args[1].value == 0:
                return b.map("relu", args[0])
            return b.map(name, *args)
        row = BY_NAME.get(name)
        if row is not None and row.kind == "map":
            return b.map(name, args[0])
        if row is not None and row.kind == "along":
            return b.along(name, args[0], [-1], keep=row.keeps)
        method = getattr(self, "_" + name, None) if row is not None else None
        if method is None:
            raise SpecError(f"{name} cannot be used here", expr.span)
        made = method(expr, *args)
        assert isinstance(made, Ref)
        return made

    def _cross_entropy(self, expr: Call, logits: Ref, target: Ref) -> Ref:
        return layers.cross_entropy(self.b, logits, target)

    def _eps(self, expr: Call) -> Fraction:
        # "some positive number": its value takes no part in a proof, that it is there does
        return dict(expr.options).get("eps", Fraction(1, 10**6))

    def _rms_norm(self, expr: Call, x: Ref) -> Ref:
        return layers.over_root(self.b, x, [len(x.shape) - 1], self._eps(expr))

    def _layer_norm(self, expr: Call, x: Ref) -> Ref:
        return self._rms_norm(expr, layers.centred(self.b, x, [len(x.shape) - 1]))

    def _dropout(self, expr: Call, x: Ref) -> Ref:
        return layers.dropout(self.b, x)

    def _rope(self, expr: Call, q: Ref) -> Ref:
        b, half = self.b, q.shape[-1] // 2
        dims = expr.shape[-2:] if len(expr.shape) > 1 else ("", *expr.shape)
        cos, sin = (self._table(kind, dims, (*q.shape[-2:-1], half)) for kind in ("cos", "sin"))
        first, second = b.slice(q, -1, 0, half), b.slice(q, -1, half, half)
        minus = [Fraction(1), Fraction(-1)]
        turned = [
            b.add(b.mul(first, cos), b.mul(second, sin), coefficients=minus),
            b.add(b.mul(second, cos), b.mul(first, sin)),
        ]
        return b.cat(turned, -1)

    def _table(self, kind: str, dims: tuple[str, ...], shape: tuple[int, ...]) -> Ref:
        key = (kind, " ".join(dims))
        if key not in self.tables:
            self.tables[key] = self.b.leaf("input", f"{kind} over {dims[0]}", shape)
        return self.tables[key]

    def _diag(self, expr: Call, v: Ref) -> Ref:
        delta = self.b.leaf("delta", "delta", (v.shape[0], v.shape[0]))
        return self.b.einsum([v, delta], ["i", "ij"], "ij")

    def _outer(self, expr: Call, u: Ref, v: Ref) -> Ref:
        return self.b.einsum([u, v], ["i", "j"], "ij")

    def _inv(self, expr: Call, t: Ref) -> Ref:
        (inside,) = expr.args
        if isinstance(inside, Call) and inside.op == "diag":
            return self._diag(inside, self.b.power(self.expr(inside.args[0]), Fraction(-1)))
        return self.b.along("inverse", t, [0, 1], keep=True)
