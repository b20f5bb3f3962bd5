"""The group table: ONE row per group that a gauge may quantify over, with a column for everything that a stage asks.

No other module names a group: a stage looks its row up and goes by the columns.  What needs a library (exact elements,
laws, frames, tensors) is a small table in its stage, keyed by a column's value.  This module imports the standard
library only, and holds nothing that one of the two judges could take over from the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

ONE = "1"  # in the place of a dim: an element is one number, the same for all that it meets


@dataclass(frozen=True)
class Group:
    """One row.  Every group takes one argument, the length of the axis on which it acts, written k here.

    name: the word of the language.
    kind: what an element does to the axis, and so what it is, how two are composed and what undoes one.  "scale": a
        positive number for each coordinate, multiplied; "shift": a number for each, added; "rotate": a matrix.
    paired: whether it acts on rotary pairs: a scale is equal in both coordinates, a matrix is a turn of each plane.
    keeps_ones: whether every element (a matrix) leaves the vector of ones where it is.
    compact: whether the group is compact; only a group that is not has a frame (`fix`).
    abelian: whether elements commute (for the least k at which the group is not trivial, and beyond).
    dimension: k -> number of parameters of an element, the dead directions of one copy.
    inverse: how a spec writes the inverse of an element called R.
    transpose_inverts: whether R.T is the inverse of R.
    subgroups: the rows that are subgroups on the same axis, the nearest first: where both hold the larger is kept.
    fix: whether a gauge of this group must, may, or must not have a `fix` line.
    frame: what brings parameters to their representative.  "norms": a scale that the `fix` line gives as a function of
        norms; "polar": the symmetric matrix that balances the Gram matrices of what an element and its inverse move;
        "none": nothing, the Euclidean metric is invariant, or coefficients are constant.
    pools: over what squares of a gradient are averaged, because elements mix it: "axis", "pair" or "nothing".
    generator: what a coefficient of the vertical space is.  "scale", "shift": a number for each coordinate (pair);
        "turn": an angle for each pair; "rotate": a skew matrix, which sends the vector of ones to 0 where that is kept;
        "matrix": any matrix.
    sizes: the two smallest k to sample at, large enough that the group shows all that it can do.
    definition: the set, in the words of the mathematics.
    """

    name: str
    kind: Literal["scale", "shift", "rotate"]
    paired: bool
    keeps_ones: bool
    compact: bool
    abelian: bool
    dimension: Callable[[int], int]
    inverse: str
    transpose_inverts: bool
    subgroups: tuple[str, ...]
    fix: Literal["required", "optional", "forbidden"]
    frame: Literal["norms", "polar", "none"]
    pools: Literal["axis", "pair", "nothing"]
    generator: Literal["scale", "shift", "rotate", "turn", "matrix"]
    sizes: tuple[int, int]
    definition: str

    @property
    def element(self) -> Literal["vector", "matrix"]:
        """ "vector" for an element of shape [k], "matrix" for [k, k]."""
        return "matrix" if self.kind == "rotate" else "vector"

    def shape(self, dim: str) -> tuple[str, ...]:
        """Return the shape of an element of group(dim); of group(1) it is that of a number."""
        if dim == ONE:
            return ()
        return (dim,) if self.element == "vector" else (dim, dim)


TABLE: tuple[Group, ...] = (
    Group(
        name="positive",
        kind="scale",
        paired=False,
        keeps_ones=False,
        compact=False,
        abelian=True,
        dimension=lambda k: k,
        inverse="1/R",
        transpose_inverts=False,
        subgroups=("positive_pairs",),
        fix="required",
        frame="norms",
        pools="nothing",
        generator="scale",
        sizes=(2, 3),
        definition="{c ∈ ℝᵏ : cᵢ > 0}, multiplied entry by entry.",
    ),
    Group(
        name="positive_pairs",
        kind="scale",
        paired=True,
        keeps_ones=False,
        compact=False,
        abelian=True,
        dimension=lambda k: k // 2,
        inverse="1/R",
        transpose_inverts=False,
        subgroups=(),
        fix="required",
        frame="norms",
        pools="nothing",
        generator="scale",
        sizes=(4, 6),
        definition="{c ∈ ℝᵏ : cᵢ > 0, and both entries of every rotary pair are equal}, multiplied entry by entry.",
    ),
    Group(
        name="translation",
        kind="shift",
        paired=False,
        keeps_ones=False,
        compact=False,
        abelian=True,
        dimension=lambda k: k,
        inverse="-R",
        transpose_inverts=False,
        subgroups=(),
        fix="optional",
        frame="none",
        pools="nothing",
        generator="shift",
        sizes=(2, 3),
        definition="ℝᵏ under addition.",
    ),
    Group(
        name="orthogonal",
        kind="rotate",
        paired=False,
        keeps_ones=False,
        compact=True,
        abelian=False,
        dimension=lambda k: k * (k - 1) // 2,
        inverse="R.T",
        transpose_inverts=True,
        subgroups=("torus", "orthogonal_ones"),
        fix="forbidden",
        frame="none",
        pools="axis",
        generator="rotate",
        sizes=(3, 4),
        definition="O(k) = {R ∈ ℝᵏˣᵏ : Rᵀ R = 1}, both determinants.",
    ),
    Group(
        name="orthogonal_ones",
        kind="rotate",
        paired=False,
        keeps_ones=True,
        compact=True,
        abelian=False,
        dimension=lambda k: (k - 1) * (k - 2) // 2,
        inverse="R.T",
        transpose_inverts=True,
        subgroups=(),
        fix="forbidden",
        frame="none",
        pools="axis",
        generator="rotate",
        sizes=(4, 5),
        definition="{R ∈ O(k) : R 1 = 1}, the rotations that leave the vector of ones where it is.",
    ),
    Group(
        name="torus",
        kind="rotate",
        paired=True,
        keeps_ones=False,
        compact=True,
        abelian=True,
        dimension=lambda k: k // 2,
        inverse="R.T",
        transpose_inverts=True,
        subgroups=(),
        fix="forbidden",
        frame="none",
        pools="pair",
        generator="turn",
        sizes=(4, 6),
        definition="SO(2)^(k/2) ⊂ SO(k): one 2×2 rotation in the plane of every rotary pair; it commutes with RoPE.",
    ),
    Group(
        name="invertible",
        kind="rotate",
        paired=False,
        keeps_ones=False,
        compact=False,
        abelian=False,
        dimension=lambda k: k * k,
        inverse="inv(R)",
        transpose_inverts=False,
        subgroups=("orthogonal", "torus", "orthogonal_ones"),
        fix="optional",
        frame="polar",
        pools="axis",
        generator="matrix",
        sizes=(3, 4),
        definition="GL(k) = {T ∈ ℝᵏˣᵏ : det T ≠ 0}.",
    ),
)

GROUPS: dict[str, Group] = {row.name: row for row in TABLE}


def largest(kind: str, *, compact: bool = False, keeps_ones: bool = False) -> str:
    """The name of the largest group of a kind; of the compact ones, or of those that keep the vector of ones."""
    fitting = (row for row in TABLE if row.kind == kind and not row.paired)
    rows = [row for row in fitting if row.keeps_ones == keeps_ones and (row.compact or not compact)]
    return max(rows, key=lambda row: row.dimension(row.sizes[1])).name
