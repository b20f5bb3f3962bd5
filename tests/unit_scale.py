"""The spec that many tests are about: a unit's scale moves from what writes the unit to what reads it."""

from __future__ import annotations

UNIT_SCALE = """{op}gauge {name}(n, d, e, f):
    "A unit's scale may move from what writes it to what reads it."
    given  {given}
    param  W1[f, d], {bias}, W2[e, f]
    model  y = {unit} @ W2.T
    for every c in positive(f):
        W1 -> diag({write}) @ W1
        b1 -> {write} * b1
        W2 -> W2 @ diag({read})
    keeps  y
    fix    {fix}
"""


def unit_scale(
    name: str = "unit_scale",
    *,
    op: str = "",
    given: str = "x[n, d]",
    bias: str = "b1[f]?",
    unit: str = "relu(x @ W1.T + b1)",
    write: str = "c",
    read: str = "1/c",
    fix: str = "rownorm(W1) == colnorm(W2)",
) -> str:
    """The text of a spec; op: the definition of an operator that `unit` applies."""
    op = f"op {op}\n\n" if op else ""
    return UNIT_SCALE.format(op=op, name=name, given=given, bias=bias, unit=unit, write=write, read=read, fix=fix)
