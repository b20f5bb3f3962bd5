"""From a gauge's action to what an optimizer needs: tangents, frames, the transposed Jacobian, pools.

sympy differentiates the action at the identity and solves the `fix` equation; what leaves this module are exact numbers
and short formulas of our own, printed over a whitelist of nodes.  Once per structure of a gauge, not once per site.
An equation that is not of the plain kind is solved in a process that can be killed (see `gaugec.laws.oracle`).

Not here: layouts, overlaps, order.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from gaugec import limits
from gaugec.codegen.ir import Derived, Formula, Key, Rule, structure
from gaugec.errors import GaugeError
from gaugec.groups import GROUPS
from gaugec.language.tree import Binary, Call, Expr, Fix, Name, Negate, Number, Transpose
from gaugec.laws import oracle
from gaugec.laws.roots import frame
from gaugec.laws.tangents import _tangent
from gaugec.operators import Term
from gaugec.sites import Site


def derive(sites: Sequence[Site]) -> Derived:
    """Return the rules of every structure among the sites; a GaugeError says which `fix` has no solution, and why."""
    rules: dict[Key, Rule] = {}
    for site in sites:
        key = structure(site)
        if key not in rules:
            rules[key] = _rule(site)
    return Derived(rules)


def _rule(site: Site) -> Rule:
    group = GROUPS[site.group]
    if group.missing:
        raise GaugeError(f"{site.gauge}: no optimizer is compiled for the group {group.name} yet: {group.missing}")
    tangents = tuple(_tangent(site, binding.move) for binding in site.bindings)
    if group.frame == "none":
        if site.fix:
            span = site.fix[0].span
            raise GaugeError(f"{site.gauge}: a gauge of {site.group} has no frame to solve a fix for", span)
        return Rule(tangents, None, (None, None), "", group.pools)
    if len(site.fix) != 1:
        raise GaugeError(
            f"{site.gauge}: {len(site.fix)} fix lines where one is needed: the scale has one number a unit",
            help="write one fix line, for example `fix rownorm(W1) == colnorm(W2)`",
        )
    fix = site.fix[0]
    left, right = _Reader(site).read(fix.left), _Reader(site).read(fix.right)
    with limits.proof():
        frame = _solve(site, fix, left, right)
        sided = (_try(site, fix, left), _try(site, fix, right))
    return Rule(tangents, frame, sided, f"{_text(fix.left)} == {_text(fix.right)}", group.pools)


# --- tangents








# --- frames


class _Reader:
    """Reads one side of a `fix` into a term: norms are symbols n0, n1, ... that a power of the scale s multiplies."""

    def __init__(self, site: Site) -> None:
        self.site = site
        roles = sorted({binding.role for binding in site.bindings})
        self.symbols = {role: f"n{i}" for i, role in enumerate(roles)}
        self.exponents: dict[str, Fraction] = {}
        for binding in site.bindings:
            exponent = binding.move.exponent
            if self.exponents.setdefault(binding.role, exponent) != exponent:
                raise GaugeError(f"{site.gauge}: {binding.role} is scaled in two ways")

    def read(self, expr: Expr) -> Term:
        """Return `expr` as a function of the scale s and the norms before it."""
        if isinstance(expr, Number):
            return expr.value
        if isinstance(expr, Negate):
            return ("mul", -1, self.read(expr.x))
        if isinstance(expr, Binary) and expr.op in ("+", "-", "*", "/"):
            left, right = self.read(expr.left), self.read(expr.right)
            match expr.op:
                case "+":
                    return ("add", left, right)
                case "-":
                    return ("add", left, ("mul", -1, right))
                case "*":
                    return ("mul", left, right)
                case _:
                    return ("mul", left, ("pow", right, -1))
        if isinstance(expr, Binary) and expr.op == "**" and isinstance(expr.right, Number):
            if isinstance(expr.left, Name) and (expr.right.value / 2).denominator != 1:
                raise GaugeError(
                    f"{self.site.gauge}: a fix cannot tell the sign of {expr.left.id}",
                    expr.span,
                    help=f"write abs({expr.left.id})",
                )
            return ("pow", self._base(expr.left), expr.right.value)
        if isinstance(expr, Call) and expr.op in ("abs", "rownorm", "colnorm") and len(expr.args) == 1:
            return self._norm(expr.args[0])
        if isinstance(expr, Name):
            raise GaugeError(
                f"{self.site.gauge}: a positive scale cannot change the sign of {expr.id}",
                expr.span,
                help="write abs()",
            )
        raise GaugeError(f"{self.site.gauge}: a fix is made of norms, abs, numbers and + - * / **", expr.span)

    def _base(self, expr: Expr) -> Term:
        return self._norm(expr) if isinstance(expr, Name) else self.read(expr)

    def _norm(self, expr: Expr) -> Term:
        inner = expr.x if isinstance(expr, Transpose) else expr
        if not isinstance(inner, Name):
            raise GaugeError(f"{self.site.gauge}: a norm in a fix is taken of one parameter", expr.span)
        if inner.id not in self.symbols:
            return 0  # an optional parameter that this model lacks
        return ("mul", self.symbols[inner.id], ("pow", "s", self.exponents[inner.id]))




def _solve(site: Site, fix: Fix, left: Term, right: Term) -> Formula:
    plain = _size(left) + _size(right) <= _PLAIN and _power(left) is not None and _power(right) is not None
    try:
        text, *more = frame(left, right) if plain else (oracle.ask("frame", left, right) or ("", "sympy broke off"))
    except limits.Exceeded as exceeded:
        text, more = "", [f"this fix is not solved: {exceeded}"]
    if text:
        names = {symbol: role for role, symbol in _Reader(site).symbols.items()}
        return Formula(tuple(names[symbol] for symbol in more), text)
    help = "fix something that the gauge scales, for example `fix rownorm(W1) == colnorm(W2)`"
    raise GaugeError(f"{site.gauge}: {more[0]}", fix.span, help)


_PLAIN = 40  # operations of an equation A s^a = B s^b that is solved right here
_DEGREE = 8


def _size(term: Term) -> int:
    return 1 + sum(map(_size, term[1:])) if isinstance(term, tuple) else 1


def _power(term: Term) -> Fraction | None:
    """The power of s that a side is a multiple of; None where it is a sum of several, or has a large exponent."""
    if not isinstance(term, tuple):
        return Fraction(int(term == "s"))
    head, *operands = term
    if head == "pow":
        inner, exponent = _power(operands[0]), Fraction(operands[1])
        small = abs(exponent) <= _DEGREE and exponent.denominator <= _DEGREE
        power = inner * exponent if inner is not None and small else None
    else:
        powers = [_power(operand) for operand in operands if head == "mul" or operand != 0]
        if None in powers or (head == "add" and len(set(powers)) > 1):
            return None
        known = [power for power in powers if power is not None] or [Fraction(0)]
        power = sum(known, Fraction(0)) if head == "mul" else known[0]
    return power if power is not None and abs(power) <= _DEGREE else None


def _try(site: Site, fix: Fix, side: Term) -> Formula | None:
    try:
        return _solve(site, fix, side, 1)
    except GaugeError:
        return None










def _text(expr: Expr) -> str:
    """A `fix` as a person would write it, for docstrings."""
    match expr:
        case Name():
            return expr.id
        case Number():
            return str(expr.value)
        case Call():
            return f"{expr.op}({', '.join(_text(arg) for arg in expr.args)})"
        case Binary(op="**"):
            return f"{_text(expr.left)}**{_text(expr.right)}"
        case Binary():
            return f"{_text(expr.left)} {expr.op} {_text(expr.right)}"
        case Negate():
            return f"-{_text(expr.x)}"
        case Transpose():
            return f"{_text(expr.x)}.T"
    return "..."
