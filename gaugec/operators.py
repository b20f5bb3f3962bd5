"""The operator table: ONE row per operator, read by the language, the prover, the sampling and the tracer.

A row says how a spec spells the operator, how its shape follows, what it means (a definition from which every law is
*proved*, see `gaugec.laws.pointwise`), which ATen operations are it, and which law is worth asking for.  Nothing here
states a law: laws are found and proved.  ATen operations that compute nothing, and that a stage must tell apart all the
same (they cut a gradient, they cast), have rows too: a stage knows kinds, never names.

Definitions are trees of our own (`Term`), never text: numbers, the argument "x", and (head, operand, ...) with heads
add, mul, pow, max, min, exp, log, tanh, erf, abs, sin, cos and step (1 where x > 0, else 0); along an axis also sum,
largest and smallest.

What this module does not do: it imports neither sympy nor torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

Term = str | int | Fraction | tuple[Any, ...]
Attributes = tuple[tuple[str, object], ...]
Meant = tuple[str, Attributes]  # a function of the graph and its attributes


@dataclass(frozen=True)
class Operator:
    """One row.

    name: the name in the tensor graph (Node.function) and in reports.
    rule: the shape rule of the spelling in a spec; "" when a spec cannot spell it.
    kind: "map" (pointwise), "along" (acts along bound axes), "loss" (along the classes, read at a target and averaged),
        "form" (of the language: diag, outer...).  Of ATen alone: "cut" (what it returns has no gradient), "item" (takes
        a number out of a tensor), "cast", "layout" (says only how a value lies in memory), "part" (cuts a part out;
        Python takes the whole as it is), "new" (makes a tensor from numbers), "like" (the same, of the type and shape
        of its first argument), "truth" (compares numbers), "check" (computes nothing).
    definition: of a pointwise operator, a Term in "x"; None where the prover has a definition of its own (see laws).
    aten: overload packets ("aten.relu") that are this operator with the tensor as their first argument.
    along: of "along" and "loss", a Term in the entry "x", in which ("sum", t), ("largest", t) and ("smallest", t) are
        those of t over the axis.
    keeps: of "along": is the axis kept, or reduced away?
    shift: what the law of f(x + a 1) that may be asked for says: f "forgets" a, or a "passes" (f(x) + a); "": none.
    scale: likewise of f(c x) for c > 0: c "passes" (c f(x)); "": none.
    unit: may the law be asked for that the values along the axis sum to 1?
    draws: does it multiply by a mask that is drawn anew in every forward?
    norm: may a `fix` line take it of a parameter: a size that a positive scale multiplies?
    """

    name: str
    rule: str
    kind: str
    definition: Term | None = None
    aten: tuple[str, ...] = ()
    along: Term | None = None
    keeps: bool = False
    shift: str = ""
    scale: str = ""
    unit: bool = False
    draws: bool = False
    norm: bool = False


HEADS = frozenset(("max", "min", "exp", "log", "tanh", "erf", "abs", "sin", "cos", "step"))
"""The functions of which definitions are made; `add`, `mul` and `pow` have signs of their own in a spec."""


def _aten(names: str) -> tuple[str, ...]:
    return tuple(f"aten.{name}" for name in names.split())


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

_SUM_EXP = ("sum", ("exp", "x"))

TABLE: tuple[Operator, ...] = (
    Operator("relu", "pointwise", "map", ("max", "x", 0), _aten("relu")),
    Operator("silu", "pointwise", "map", ("mul", "x", _sigmoid("x")), _aten("silu")),
    Operator("gelu", "pointwise", "map", _GELU),
    Operator("gelu_tanh", "pointwise", "map", _GELU_TANH),
    Operator("sigmoid", "pointwise", "map", _sigmoid("x"), _aten("sigmoid")),
    Operator("tanh", "pointwise", "map", ("tanh", "x"), _aten("tanh")),
    Operator("exp", "pointwise", "map", ("exp", "x"), _aten("exp")),
    Operator("log", "", "map", ("log", "x"), _aten("log")),
    Operator("sin", "", "map", ("sin", "x"), _aten("sin")),
    Operator("cos", "", "map", ("cos", "x"), _aten("cos")),
    Operator("erf", "", "map", ("erf", "x"), _aten("erf")),
    Operator("abs", "pointwise", "map", ("abs", "x"), _aten("abs"), norm=True),
    Operator("step", "", "map", ("step", "x")),
    Operator("sign", "", "map", ("add", ("step", "x"), ("mul", -1, ("step", ("mul", -1, "x")))), _aten("sign sgn")),
    Operator("relu6", "", "map", ("min", ("max", "x", 0), 6), _aten("relu6")),
    Operator("softplus", "", "map", ("log", ("add", 1, ("exp", "x")))),
    Operator(
        "softmax",
        "last_axis",
        "along",
        along=("mul", ("exp", "x"), ("pow", _SUM_EXP, -1)),
        aten=_aten("softmax _softmax _safe_softmax"),
        keeps=True,
        shift="forgets",
        unit=True,
    ),
    Operator(
        "log_softmax",
        "last_axis",
        "along",
        along=("add", "x", ("mul", -1, ("log", _SUM_EXP))),
        aten=_aten("log_softmax _log_softmax"),
        keeps=True,
        shift="forgets",
    ),
    Operator("max", "", "along", along=("largest", "x"), aten=_aten("amax"), shift="passes", scale="passes"),
    Operator("min", "", "along", along=("smallest", "x"), aten=_aten("amin"), shift="passes", scale="passes"),
    Operator("max_window", "", "along", along=("largest", "x"), scale="passes"),  # of those that its data leave in
    Operator("cross_entropy", "loss", "loss", along=("add", ("log", _SUM_EXP), ("mul", -1, "x")), shift="forgets"),
    Operator("rms_norm", "last_axis", "form"),
    Operator("layer_norm", "last_axis", "form"),
    Operator("dropout", "pointwise", "form", draws=True),
    Operator("rope", "even_last_axis", "form"),
    Operator("diag", "diag", "form"),
    Operator("outer", "outer", "form"),
    Operator("ones", "ones", "form"),
    Operator("inv", "inverse", "form"),
    Operator("rownorm", "norm_rows", "form", norm=True),
    Operator("colnorm", "norm_cols", "form", norm=True),
    Operator("detach", "", "cut", aten=_aten("detach detach_ detach_copy")),
    Operator("item", "", "item", aten=_aten("item _local_scalar_dense")),
    Operator("cast", "", "cast", aten=_aten("_to_copy to type_as")),
    Operator("view", "", "layout", aten=_aten("view _unsafe_view clone alias contiguous reshape")),
    Operator("slice", "", "part", aten=_aten("slice")),
    Operator("new", "", "new", aten=_aten("arange full zeros ones empty scalar_tensor rand randn")),
    Operator(
        "like",
        "",
        "like",
        aten=_aten(
            "zeros_like ones_like full_like empty_like rand_like randn_like new_ones new_zeros new_full new_empty"
        ),
    ),
    Operator("truth", "", "truth", aten=_aten("gt ge lt le eq ne greater greater_equal less less_equal not_equal")),
    Operator("metadata", "", "check", aten=_aten("_assert_tensor_metadata")),
)

FUSED = "pointwise"  # the function of a node that was fused and has no row: it carries its definition


def written(term: Term) -> str:
    """A definition as a spec would write it."""
    return _written(term, 0)


def spelled(function: str, attributes: Attributes) -> str:
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
ATEN: dict[str, Operator] = {packet: row for row in TABLE for packet in row.aten}


def aten_kind(packet: str) -> str:
    """The kind of the row of an ATen packet; "" where it has none."""
    row = ATEN.get(packet)
    return row.kind if row is not None else ""
