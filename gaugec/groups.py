"""The group table: ONE row per group that a gauge may quantify over.

A row says what an element looks like, how it is inverted, and how large the group is.  Drawing elements, frames and
projections belong elsewhere: this module imports only the standard library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Group:
    """One row.  Every group takes one argument, the length of the axis on which it acts, written k here.

    name: the word of the language.
    element: "vector" for an element of shape [k], "matrix" for [k, k].
    compact: whether the group is compact; only a group that is not has a frame (`fix`).
    abelian: whether elements commute (for the least k at which the group is not trivial, and beyond).
    dimension: k -> number of parameters of an element, the dead directions of one copy.
    inverse: how a spec writes the inverse of an element called R.
    transpose_inverts: whether R.T is the inverse of R.
    fix: whether a gauge of this group must, may, or must not have a `fix` line.
    sizes: the two smallest k to sample at, large enough that the group shows all that it can do.
    definition: the set, in the words of the mathematics.
    """

    name: str
    element: Literal["vector", "matrix"]
    compact: bool
    abelian: bool
    dimension: Callable[[int], int]
    inverse: str
    transpose_inverts: bool
    fix: Literal["required", "optional", "forbidden"]
    sizes: tuple[int, int]
    definition: str

    def shape(self, dim: str) -> tuple[str, ...]:
        """Return the shape of an element of group(dim)."""
        return (dim,) if self.element == "vector" else (dim, dim)


TABLE: tuple[Group, ...] = (
    Group(
        name="positive",
        element="vector",
        compact=False,
        abelian=True,
        dimension=lambda k: k,
        inverse="1/R",
        transpose_inverts=False,
        fix="required",
        sizes=(2, 3),
        definition="{c ∈ ℝᵏ : cᵢ > 0}, multiplied entry by entry.",
    ),
    Group(
        name="positive_pairs",
        element="vector",
        compact=False,
        abelian=True,
        dimension=lambda k: k // 2,
        inverse="1/R",
        transpose_inverts=False,
        fix="required",
        sizes=(4, 6),
        definition="{c ∈ ℝᵏ : cᵢ > 0, and both entries of every rotary pair are equal}, multiplied entry by entry.",
    ),
    Group(
        name="translation",
        element="vector",
        compact=False,
        abelian=True,
        dimension=lambda k: k,
        inverse="-R",
        transpose_inverts=False,
        fix="optional",
        sizes=(2, 3),
        definition="ℝᵏ under addition.",
    ),
    Group(
        name="orthogonal",
        element="matrix",
        compact=True,
        abelian=False,
        dimension=lambda k: k * (k - 1) // 2,
        inverse="R.T",
        transpose_inverts=True,
        fix="forbidden",
        sizes=(3, 4),
        definition="O(k) = {R ∈ ℝᵏˣᵏ : Rᵀ R = 1}, both determinants.",
    ),
    Group(
        name="orthogonal_ones",
        element="matrix",
        compact=True,
        abelian=False,
        dimension=lambda k: (k - 1) * (k - 2) // 2,
        inverse="R.T",
        transpose_inverts=True,
        fix="forbidden",
        sizes=(4, 5),
        definition="{R ∈ O(k) : R 1 = 1}, the rotations that leave the vector of ones where it is.",
    ),
    Group(
        name="torus",
        element="matrix",
        compact=True,
        abelian=True,
        dimension=lambda k: k // 2,
        inverse="R.T",
        transpose_inverts=True,
        fix="forbidden",
        sizes=(4, 6),
        definition="SO(2)^(k/2) ⊂ SO(k): one 2×2 rotation in the plane of every rotary pair; it commutes with RoPE.",
    ),
    Group(
        name="invertible",
        element="matrix",
        compact=False,
        abelian=False,
        dimension=lambda k: k * k,
        inverse="inv(R)",
        transpose_inverts=False,
        fix="optional",
        sizes=(3, 4),
        definition="GL(k) = {T ∈ ℝᵏˣᵏ : det T ≠ 0}.",
    ),
)

GROUPS: dict[str, Group] = {row.name: row for row in TABLE}
