"""A counterexample as data, and as the text that a person reads.

What this module does not do: it finds none (see `gaugec.sampling.search`) and evaluates nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from gaugec.sampling.evaluate import Table
from gaugec.sampling.point import Failure, apart, digits_apart, shown


@dataclass(frozen=True)
class Part:
    """A leaf of the case: its name, shape and entries, and what became of it (None where it does not move).

    absent: a model may lack it, and here it is zero.
    """

    name: str
    shape: tuple[int, ...]
    values: Table
    after: Table | None = None
    absent: bool = False


@dataclass(frozen=True)
class Counterexample:
    """One case in which a gauge fails.

    law: "kept" (a kept value changes), "identity" (the identity moves a parameter) or "product" (moving by `element`
    and then by `second` is moving by neither of their products).  what, at, before, after: where two values differ; for
    "product" they are the parameter moved by `product`, and moved twice.  other: the same for the product in the other
    order, where that is another element.  size: the order in which this is the smallest.  loud: the difference is more
    than a thousandth, so that it is not the eps of a norm.
    """

    sizes: Mapping[str, int]
    group: str
    group_dims: tuple[str, ...]
    element: Part
    params: tuple[Part, ...]
    givens: tuple[Part, ...]
    failure: Failure
    second: Table | None = None
    product: Table | None = None
    other: Failure | None = None
    size: tuple[Fraction, ...] = ()
    loud: bool = True

    def __str__(self) -> str:
        law, what = self.failure.law, self.failure
        lines = ["sizes " + ", ".join(f"{_dim(dim)} = {n}" for dim, n in self.sizes.items())]
        of = f"{self.group}({', '.join(self.group_dims)})"
        name, shape = self.element.name, self.element.shape
        first = _nested(self.element.values, shape)
        if law == "kept":
            lines.append(f"{name} = {first}, of {of}")
        elif law == "identity":
            lines.append(f"{name} = {first}, the identity of {of}")
        else:
            assert self.second is not None and self.product is not None
            then = "once more" if self.second == self.element.values else f"{_nested(self.second, shape)}"
            lines.append(f"{name} = {first}, then {then}, of {of}; their product is {_nested(self.product, shape)}")
        lines += [_line(part, law) for part in self.params]
        if law == "kept":
            lines += [f"{part.name} = {_nested(part.values, part.shape)}" for part in self.givens]
        lines.append(_sentence(what, "the product"))
        if not self.loud:
            lines[-1] += f": they differ by {apart(what.before, what.after)}"
        if self.other is not None:
            lines.append(_sentence(self.other, "the product in the other order"))
        return "\n".join(lines)


# --- text ----------------------------------------------------------------------------------------------------------
def _dim(dim: str) -> str:
    """A dim as the reader knows it; one that `_` made is called after its owner."""
    return f"_ of {dim[1:-1]}" if dim.startswith("_") else dim


def _line(part: Part, law: str) -> str:
    if part.absent and (part.after is None or part.after == part.values):
        return f"{part.name} = 0, as in a model without it"
    text = f"{part.name} = {_nested(part.values, part.shape)}"
    if part.after is None:
        return f"{text}, does not move"
    return f"{text}, moved to {_nested(part.after, part.shape)}"


def _sentence(found: Failure, product: str) -> str:
    at = f"[{', '.join(map(str, found.at))}]" if found.at else ""
    before, after = digits_apart(found.before, found.after)
    if found.law == "kept":
        return f"{found.what}{at} = {before} before, {after} after"
    if found.law == "identity":
        return f"{found.what}{at} = {before} before, {after} after: the identity must move nothing"
    return f"{found.what}{at} = {after} moved twice, {before} moved by {product}: this is no action of the group"


def _nested(values: Table, shape: tuple[int, ...], at: tuple[int, ...] = ()) -> str:
    if len(at) == len(shape):
        return shown(values[at])
    return "[" + ", ".join(_nested(values, shape, (*at, i)) for i in range(shape[len(at)])) + "]"
