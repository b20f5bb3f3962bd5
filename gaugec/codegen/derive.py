"""From a gauge's action to what an optimizer needs: tangents, frames.  Once per structure, not once per site.

What sympy finds (`gaugec.laws.tangents`, `gaugec.laws.roots`) are exact numbers and short Terms; here they become the
rules of a structure, and the Terms tensor code.

Not here: layouts, overlaps, order.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction

from gaugec import limits
from gaugec.codegen.ir import Derivation, Derived, Formula, Key, structure
from gaugec.errors import GaugeError
from gaugec.groups import GROUPS
from gaugec.laws.roots import Unsolved, root
from gaugec.laws.tangents import tangent
from gaugec.operators import Term
from gaugec.sites import Equation, Site, Tangent

FAR = 3  # powers of ten by which a frame may move parameters whose norms are 1
EXACT = 1 << 53  # integers up to here are floats too

Norms = Mapping[str, tuple[str, Fraction]]  # role -> the symbol of its norm, and the power of the scale on it


def derive(sites: Sequence[Site]) -> Derived:
    """Return the rules of every structure among the sites; a GaugeError says which `fix` has no solution, and why."""
    rules: dict[Key, Derivation] = {}
    for site in sites:
        key = structure(site)
        if key not in rules:
            rules[key] = _rule(site)
    return Derived(rules)


def _rule(site: Site) -> Derivation:
    group = GROUPS[site.group]
    tangents = tuple(tangent(site, binding.move) for binding in site.bindings)
    if group.frame != "norms":
        if site.fix:
            span = site.fix[0].span
            raise GaugeError(f"{site.gauge}: a gauge of {site.group} has no frame to solve a fix for", span)
        frame, sides = _polar(site, tangents) if group.frame == "polar" else (None, (None, None))
        return Derivation(tangents, frame, sides, "")
    if len(site.fix) != 1:
        raise GaugeError(
            f"{site.gauge}: {len(site.fix)} fix lines where one is needed: the scale has one number a unit",
            help="write one fix line, for example `fix rownorm(W1) == colnorm(W2)`",
        )
    fix = site.fix[0]
    norms = _norms(site)
    left, right = _scaled(fix.left, norms), _scaled(fix.right, norms)
    with limits.proof():
        frame = _solved(site, fix, norms, left, right, near=True)
        sided = (_one_sided(site, fix, norms, left), _one_sided(site, fix, norms, right))
    return Derivation(tangents, frame, sided, fix.text)


def _polar(site: Site, tangents: Sequence[Tangent]) -> tuple[Formula, tuple[Formula, Formula]]:
    """The frame that balances what an element and its inverse move, which reads all of it, and those of one side."""
    if len({tangent.dual for tangent in tangents}) == 1:
        raise GaugeError(
            f"{site.gauge}: all that it moves here goes the same way, and a basis is balanced between what an element "
            "moves and what its inverse moves",
            help=f"gauge it by {GROUPS[site.group].subgroups[0]}, which needs no balance",
        )
    up, down = (
        {binding.role for binding, tangent in zip(site.bindings, tangents) if tangent.dual == dual}
        for dual in (False, True)
    )
    sides = Formula(tuple(sorted(up)), "dual=False"), Formula(tuple(sorted(down)), "dual=True")
    return Formula(tuple(sorted(up | down)), ""), sides


def _norms(site: Site) -> Norms:
    exponents: dict[str, Fraction] = {}
    for binding in site.bindings:
        exponent = Fraction(0) if binding.move.kind == "still" else binding.move.exponent
        if exponents.setdefault(binding.role, exponent) != exponent:
            raise GaugeError(f"{site.gauge}: {binding.role} is scaled in two ways")
    return {role: (f"n{i}", exponents[role]) for i, role in enumerate(sorted(exponents))}


def _scaled(side: Term, norms: Norms) -> Term:
    """A side of a `fix` after the scale s has acted, over s and the norms before it."""
    if not isinstance(side, tuple):
        return side
    head, *operands = side
    if head == "pow" and Fraction(operands[1]) > 0 and (base := _scaled(operands[0], norms)) == 0:
        return base
    if head == "norm":
        if operands[0] not in norms:
            return 0  # an optional parameter that this model lacks
        symbol, exponent = norms[operands[0]]
        return ("mul", symbol, ("pow", "s", exponent))
    return (head, *(_scaled(operand, norms) for operand in operands))


def _solved(site: Site, fix: Equation, norms: Norms, left: Term, right: Term, *, near: bool = False) -> Formula:
    try:
        solution, symbols = root(left, right)
    except Unsolved as unsolved:
        help = "fix something that the gauge scales, for example `fix rownorm(W1) == colnorm(W2)`"
        raise GaugeError(f"{site.gauge}: {unsolved}", fix.span, help) from unsolved
    names = {symbol: role for role, (symbol, _) in norms.items()}
    try:
        if near:
            _check_near(site, fix, _at_ones(solution), max(abs(exponent) for _, exponent in norms.values()))
        return Formula(tuple(names[symbol] for symbol in symbols), _code(solution, 0))
    except (OverflowError, ZeroDivisionError) as error:
        message = f"{site.gauge}: a constant of this fix, or of its solution, is no number of float64"
        raise GaugeError(message, fix.span, "write a smaller one") from error


def _at_ones(term: Term) -> float:
    """A solution where every norm is 1; OverflowError and ZeroDivisionError where that is no number of float64."""
    if isinstance(term, str):
        return 1.0
    if not isinstance(term, tuple):
        return _float(Fraction(term))
    head, *parts = term
    values = [_at_ones(part) for part in parts]
    if head == "add":
        return math.fsum(values)
    value = math.prod(values) if head == "mul" else values[0] ** values[1]
    if isinstance(value, complex) or not math.isfinite(value):
        raise OverflowError
    return value


def _check_near(site: Site, fix: Equation, scale: float, power: Fraction) -> None:
    """Refuses a frame that takes parameters of ordinary size far from where they are.

    A step there is as large as the learning rate, and comes back multiplied by the scale.
    """
    moved = abs(math.log10(scale)) * float(power) if scale > 0 else math.inf
    if moved > FAR:
        raise GaugeError(
            f"{site.gauge}: this fix takes the parameters far from where they are: where all norms are 1, they are "
            f"multiplied or divided by {scale ** float(power):.3g}, and a step would be thrown back as far",
            fix.span,
            f"choose a constant that keeps that between {10**-FAR:g} and {10**FAR:g}",
        )


def _one_sided(site: Site, fix: Equation, norms: Norms, side: Term) -> Formula | None:
    """The scale that makes one side 1."""
    try:
        return _solved(site, fix, norms, side, 1)
    except GaugeError:
        return None


def _float(number: Fraction) -> float:
    """The nearest float; OverflowError where it is too large, or so small that it would be zero or lose digits."""
    value = float(number)
    if number and abs(value) < sys.float_info.min:
        raise OverflowError
    return value


def _number(value: Fraction) -> str:
    """A number as Python that is exact, or the nearest float where its integers are long."""
    if max(abs(value.numerator), value.denominator) > EXACT:
        return repr(_float(value))
    return str(value.numerator) if value.denominator == 1 else f"{value.numerator} / {value.denominator}"


def _read(term: Term) -> bool:
    """Does a solution, or a part of one, read a norm?"""
    return any(map(_read, term[1:])) if isinstance(term, tuple) else isinstance(term, str)


def _code(term: Term, level: int) -> str:
    """A solution as tensor code; level 0 takes sums, 1 products, 2 factors."""
    if isinstance(term, str):
        return term
    if not isinstance(term, tuple):
        text = _number(Fraction(term))
        return text if level == 0 or not ("/" in text or text.startswith("-")) else f"({text})"
    head, *parts = term
    if head == "add":
        text = " + ".join(_code(part, 1) for part in parts)
        return f"({text})" if level > 0 else text
    if head == "mul":
        match parts:
            case [up, ("pow", down, -1)]:
                text = f"{_code(up, 1)} / {_code(down, 2)}"
            case _:
                text = " * ".join(_code(part, 2) for part in parts)
        return f"({text})" if level > 1 else text
    base, exponent = parts
    if not _read(base):  # a number of Python, which has no methods for this
        return f"({_code(base, 2)} ** {_code(exponent, 2)})"
    return f"{_code(base, 2)}.sqrt()" if exponent == Fraction(1, 2) else f"{_code(base, 2)}.pow({_code(exponent, 0)})"
