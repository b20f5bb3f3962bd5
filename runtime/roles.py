"""What a parameter is in its model: a hidden matrix, an embedding, a gain, a bias; as the compiler saw it in the graph.

The standard library only.  Not here: what an optimizer makes of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

Axes = tuple[tuple[int, int], ...]


ROLES = ("matrix", "head", "stem", "table", "gain", "bias", "other", "unread")


class Matrices(NamedTuple):
    """Equal matrices inside a parameter: axes as (size, stride) in elements of the contiguous parameter, row-major.

    offset: of the first entry of the first one.  copies: of how many matrices.  rows: the axis that stays, the output's
    features.  columns: the axis that is summed with the data.
    """

    offset: int
    copies: Axes
    rows: Axes
    columns: Axes

    @property
    def shape(self) -> tuple[int, int, int]:
        """How many matrices, and the rows and columns of each."""
        copies, rows, columns = (math.prod(size for size, _ in axes) for axes in self[1:])
        return copies, rows, columns


class Role(NamedTuple):
    """What a parameter is, and the matrices that it holds: together they hold each of its entries once.

    role: "matrix" (hidden), "head" (no later matrix reads what it makes), "stem" (what it is multiplied with depends on
    no parameter), "table" (looked up by number), "gain", "bias", "other" or "unread".
    """

    role: str
    matrices: tuple[Matrices, ...]


def played(roles: Mapping[str, tuple[str, Any]]) -> dict[str, Role]:
    """Every parameter's role, from the certificate's `roles`, unfolded."""
    return {name: Role(role, tuple(Matrices(*one) for one in matrices)) for name, (role, matrices) in roles.items()}
