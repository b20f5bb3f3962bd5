"""The laws of the functions in a graph, as those ask who meet a function by its name and attributes.

A function means what its own attribute "definition" says, else what its row of the operator table does.  What is
answered has been proved; "no such law" is None or False.

What this module does not do: it finds no law (see `gaugec.laws.pointwise` and `gaugec.laws.table`).
"""

from __future__ import annotations

from fractions import Fraction

from gaugec.laws import pointwise, table
from gaugec.laws.functions import proportional
from gaugec.operators import BY_NAME, Attributes, Meant, Term


def definition(function: str, attributes: Attributes) -> Term | None:
    """What a pointwise function of the graph is; None where it has no definition."""
    numbers = dict(attributes)
    if function == "pow" and isinstance(exponent := numbers.get("exponent"), Fraction):
        return ("pow", "x", exponent)
    return pointwise.definition(function, numbers)


def degree(function: str, attributes: Attributes) -> Fraction | None:
    """The n with f(c x) = c^n f(x) for every c > 0, or None; of a function along an axis too."""
    if function == "pow":
        exponent = dict(attributes)["exponent"]
        return exponent if isinstance(exponent, Fraction) else None
    row = BY_NAME.get(function)
    if row is not None and row.scale == "passes":
        return Fraction(1) if table.holds(f"{function} scale") else None
    return pointwise.degree(definition(function, attributes))


def forgets_shift(function: str) -> bool:
    """Does a function along an axis forget what is added to every entry?"""
    row = BY_NAME.get(function)
    return row is not None and row.shift == "forgets" and table.holds(f"{function} shift")


def alike(one: Meant, two: Meant) -> bool:
    """Are two functions of the graph one, by their definitions and up to a number, which passes every action?"""
    a, b = definition(*one), definition(*two)
    return a is not None and b is not None and proportional(a, b)
