"""Tangents of an action, by differentiating it at the identity."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import sympy

from gaugec.errors import GaugeError
from gaugec.groups import GROUPS
from gaugec.sites import Move, Site, Tangent


def _fraction(value: Any) -> Fraction:
    if not isinstance(value, sympy.Rational):
        raise GaugeError(f"not a rational number: {value}")
    return Fraction(int(value.p), int(value.q))


def _rational(value: Fraction) -> Any:
    return sympy.Rational(value.numerator, value.denominator)


def tangent(site: Site, move: Move) -> Tangent:
    """What the action of exp(t a) adds at t = 0, and by what power of the scale the canonicalising map stretches.

    Raises:
        GaugeError: an action that cannot be differentiated, or whose derivative is not what the runtime adds.
    """
    t, x, y, a = sympy.symbols("t x y a", real=True)
    one = Fraction(1)
    if move.kind == "scale":
        exponent = _rational(move.exponent)
        weight = sympy.diff(sympy.exp(t * a) ** exponent * x, t).subs(t, 0) / (a * x)
        s = sympy.Symbol("s", positive=True)
        power = sympy.log(1 / sympy.diff(s**exponent * (x + y), x)) / sympy.log(s)
        return Tangent("scale", _fraction(sympy.cancel(weight)), False, _fraction(sympy.expand_log(power)))
    if move.kind == "shift":
        shifted = x + _rational(move.exponent) * t * a
        return Tangent("shift", _fraction(sympy.diff(shifted, t).subs(t, 0) / a), False, Fraction(0))
    if move.kind == "still":
        return Tangent("still", Fraction(0), False, Fraction(0))
    if move.kind != "rotate":
        raise GaugeError(f"{site.gauge}: an action of the kind {move.kind!r} cannot be differentiated")
    point = sympy.Matrix([x, y])
    if GROUPS[site.group].paired:
        turn = sympy.Matrix([[sympy.cos(t), -sympy.sin(t)], [sympy.sin(t), sympy.cos(t)]])
        if (turn * point).diff(t).subs(t, 0) != sympy.Matrix([-y, x]):
            raise GaugeError(f"{site.gauge}: the tangent of a rotation is not what the runtime adds")
        return Tangent("plane", one, False, Fraction(0))
    generator = sympy.Matrix(2, 2, sympy.symbols("a:4", real=True))
    element = sympy.eye(2) + t * generator  # the derivative at 0 reads no more of exp(t A)
    moved = (element.inv().T if move.dual else element) * point
    derivative = moved.diff(t).subs(t, 0)
    for dual, expected in ((False, generator * point), (True, -generator.T * point)):
        if sympy.cancel(derivative - expected) == sympy.zeros(2, 1):
            return Tangent("matrix", one, dual, Fraction(0))
    raise GaugeError(f"{site.gauge}: the tangent {derivative} is not linear in the generator")
