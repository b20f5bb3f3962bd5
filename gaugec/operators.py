"""The operator table: ONE row per operator, read by the language, the prover and the tracer.

A row says how a spec spells the operator, how its shape follows, what it means (a definition from which every law is
*proved*, see `gaugec.laws.pointwise`), and which ATen operations are it.  Nothing here states a law: laws are found and
proved.

Definitions are trees of our own (`Term`), never text: numbers, the argument "x", and (head, operand, ...) with heads
add, mul, pow, max, min, exp, log, tanh, erf, abs, sin and cos.

What this module does not do: it imports neither sympy nor torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

Term = str | int | Fraction | tuple[Any, ...]


@dataclass(frozen=True)
class Operator:
    """One row.

    name: the name in the tensor graph (Node.function) and in reports.
    rule: the shape rule of the spelling in a spec; "" when a spec cannot spell it.
    kind: "map" (pointwise), "along" (acts along bound axes), "loss", or "form" (of the language: diag, outer...).
    definition: of a pointwise operator, a Term in "x"; None where the prover has a definition of its own (see laws).
    aten: overload packets ("aten.relu") that are this operator with the tensor as their first argument.
    """

    name: str
    rule: str
    kind: str
    definition: Term | None = None
    aten: tuple[str, ...] = ()


def _sigmoid(x: Term) -> Term:
    return ("pow", ("add", 1, ("exp", ("mul", -1, x))), -1)


_SQRT_2_OVER_PI = ("pow", ("mul", 2, ("pow", "pi", -1)), Fraction(1, 2))
_GELU = ("mul", Fraction(1, 2), "x", ("add", 1, ("erf", ("mul", "x", ("pow", 2, Fraction(-1, 2))))))
_GELU_TANH = (
    "mul",
    Fraction(1, 2),
    "x",
    ("add", 1, ("tanh", ("mul", _SQRT_2_OVER_PI, ("add", "x", ("mul", Fraction(44715, 1000000), ("pow", "x", 3)))))),
)

TABLE: tuple[Operator, ...] = (
    Operator("relu", "pointwise", "map", ("max", "x", 0), ("aten.relu",)),
    Operator("silu", "pointwise", "map", ("mul", "x", _sigmoid("x")), ("aten.silu",)),
    Operator("gelu", "pointwise", "map", _GELU),
    Operator("gelu_tanh", "pointwise", "map", _GELU_TANH),
    Operator("sigmoid", "pointwise", "map", _sigmoid("x"), ("aten.sigmoid",)),
    Operator("tanh", "pointwise", "map", ("tanh", "x"), ("aten.tanh",)),
    Operator("exp", "pointwise", "map", ("exp", "x"), ("aten.exp",)),
    Operator("log", "", "map", ("log", "x"), ("aten.log",)),
    Operator("sin", "", "map", ("sin", "x"), ("aten.sin",)),
    Operator("cos", "", "map", ("cos", "x"), ("aten.cos",)),
    Operator("erf", "", "map", ("erf", "x"), ("aten.erf",)),
    Operator("abs", "pointwise", "map", ("abs", "x"), ("aten.abs",)),
    Operator("relu6", "", "map", ("min", ("max", "x", 0), 6), ("aten.relu6",)),
    Operator("softplus", "", "map", ("log", ("add", 1, ("exp", "x")))),
    Operator("softmax", "last_axis", "along"),
    Operator("log_softmax", "last_axis", "along"),
    Operator("max", "", "along"),
    Operator("min", "", "along"),
    Operator("cross_entropy", "loss", "loss"),
    Operator("rms_norm", "last_axis", "form"),
    Operator("layer_norm", "last_axis", "form"),
    Operator("dropout", "pointwise", "form"),
    Operator("rope", "even_last_axis", "form"),
    Operator("diag", "diag", "form"),
    Operator("outer", "outer", "form"),
    Operator("ones", "ones", "form"),
    Operator("inv", "inverse", "form"),
    Operator("rownorm", "norm_rows", "form"),
    Operator("colnorm", "norm_cols", "form"),
)

FUSED = "pointwise"  # the function of a node that was fused and has no row: it carries its definition


def written(term: Term) -> str:
    """A definition as a spec would write it."""
    return _written(term, 0)


def spelled(function: str, attributes: tuple[tuple[str, object], ...]) -> str:
    """What people call a function of the graph: its name, or its definition where it has no name of its own."""
    definition = dict(attributes).get("definition")
    return written(definition) if function == FUSED and definition is not None else function  # type: ignore[arg-type]


def _written(term: Term, outer: int) -> str:
    """`outer`: how tightly what stands around binds (1 a sum, 2 a product, 3 a power)."""
    if not isinstance(term, tuple):
        text = str(term)
        return f"({text})" if outer > 1 and (text.startswith("-") or "/" in text) else text
    head, *parts = term
    if head == "add":
        text, level = " + ".join(_written(part, 1) for part in parts).replace("+ -", "- "), 1
    elif head == "mul" and len(parts) == 2 and parts[0] == -1:
        text, level = "-" + _written(parts[1], 2), 1
    elif head == "mul":
        text, level = " * ".join(_written(part, 2) for part in parts), 2
    elif head == "pow":
        text, level = f"{_written(parts[0], 4)}**{_written(parts[1], 3)}", 3
    else:
        return f"{head}({', '.join(_written(part, 0) for part in parts)})"
    return f"({text})" if level < outer or (level == outer == 3) else text


BY_NAME: dict[str, Operator] = {row.name: row for row in TABLE}
SPELLINGS: dict[str, str] = {row.name: row.rule for row in TABLE if row.rule}
