"""The language of `.gauge` files: text to tree to checked gauge.

`load` gives a `Spec`; the classes are those of `gaugec.language.tree`; `show` writes an expression back as text.
lark is used inside this package and nowhere else.
"""

from __future__ import annotations

from gaugec.language.load import AUTO, SUFFIX, load, shipped, shipped_text, topics
from gaugec.language.printer import (
    show,
    show_action,
    show_architecture,
    show_fix,
    show_number,
    show_shape,
    show_theorem,
)
from gaugec.language.template import commented, template, unfit
from gaugec.language.tree import (
    Action,
    Architecture,
    Binary,
    Call,
    Element,
    Entry,
    Expr,
    File,
    Fix,
    Gauge,
    Given,
    Model,
    Name,
    Negate,
    Node,
    Number,
    Operator,
    Param,
    Shape,
    Spec,
    Transpose,
    Use,
)

__all__ = [
    "AUTO",
    "SUFFIX",
    "load",
    "shipped",
    "shipped_text",
    "topics",
    "show",
    "show_action",
    "show_architecture",
    "show_fix",
    "show_number",
    "show_shape",
    "show_theorem",
    "commented",
    "template",
    "unfit",
    "Action",
    "Architecture",
    "Binary",
    "Call",
    "Element",
    "Entry",
    "Expr",
    "File",
    "Fix",
    "Gauge",
    "Given",
    "Model",
    "Name",
    "Negate",
    "Node",
    "Number",
    "Operator",
    "Param",
    "Shape",
    "Spec",
    "Transpose",
    "Use",
]
