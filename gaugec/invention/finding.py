"""What was found in a graph: which parameters may move together, and how every value that they reach moves.

Shared data: no function of a stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

Place = tuple[int, int]  # a node and the position of one of its modes


@dataclass(frozen=True)
class Moved:
    """How a value moves: along its mode `position`, by the element to the power of `exponent`.

    dual: by its inverse, transposed.  squared: it is each entry of what turns, squared.
    """

    position: int
    exponent: Fraction = Fraction(1)
    dual: bool = False
    squared: bool = False


@dataclass(frozen=True)
class Finding:
    """A conjecture: the parameters `bound` may move by one element of `group`, which has `size` as its argument.

    bound: leaf -> how it moves.  values: every moved node, leaves too.  kept: nodes that read moved values and do not
    move.
    """

    group: str
    size: int
    bound: Mapping[int, Moved]
    values: Mapping[int, Moved]
    kept: tuple[int, ...]

    @property
    def places(self) -> dict[Place, Fraction]:
        """Where each parameter moves, and the exponent."""
        return {(leaf, moved.position): moved.exponent for leaf, moved in self.bound.items()}


class Unsaid(Exception):
    """A finding that the language has no words for yet: the message says which."""
