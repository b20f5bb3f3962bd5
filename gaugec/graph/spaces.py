"""Index spaces and index variables, refined lazily while a graph is being built.

A tensor's axis is an ordered product of *variables*; every variable ranges over a *space*.  Operations that pair two
axes position by position unite their spaces; a view that cuts an axis in two splits its space, and with it every
variable over that space, wherever it is.  Two variables over one space are still two indices (`h @ h.T`).

What this module does not do: it knows no tensor operation.  A split that sizes do not allow raises `Inexpressible`,
which the builder turns into an opaque node.
"""

from __future__ import annotations

from collections.abc import Sequence


class Inexpressible(Exception):
    """An index map that row-major digits cannot say; the reason is the message."""


class Space:
    """A set of indices 0..size-1; perhaps split into row-major digits, perhaps united with another space."""

    __slots__ = ("children", "cuts", "number", "parent", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.parent: Space | None = None
        self.children: tuple[Space, ...] | None = None
        self.cuts: set[tuple[int, int, int]] = set()

    def find(self) -> Space:
        """The representative of the class."""
        space = self
        while space.parent is not None:
            space = space.parent
        while self.parent is not None and self.parent is not space:
            self.parent, self = space, self.parent
        return space

    def split(self, inner: int) -> None:
        """Splits the class into digits (size / inner, inner).

        Raises:
            Inexpressible: `inner` does not divide the size, or the class is split already.
        """
        space = self.find()
        if space.children is not None or space.size % inner or inner in (1, space.size):
            raise Inexpressible(f"an axis of {space.size} does not split into digits of {inner}")
        space.children = (Space(space.size // inner), Space(inner))


class Variable:
    """An index over a space; local to one use of a value, so that two uses never share an index by accident."""

    __slots__ = ("alias", "children", "space")

    def __init__(self, space: Space) -> None:
        self.space = space
        self.alias: Variable | None = None
        self.children: tuple[Variable, ...] | None = None

    @property
    def size(self) -> int:
        """The number of values."""
        return self.space.size

    def resolve(self) -> Variable:
        """Follows the aliases that alignment has made."""
        variable = self
        while variable.alias is not None:
            variable = variable.alias
        return variable

    def leaves(self) -> list[Variable]:
        """The digits that this variable consists of now, outermost first."""
        variable = self.resolve()
        space = variable.space.find()
        if space.children is None:
            return [variable]
        if variable.children is None:
            variable.children = tuple(Variable(child) for child in space.children)
        return [leaf for child in variable.children for leaf in child.leaves()]


def leaves(variables: Sequence[Variable]) -> list[Variable]:
    """The digits of a sequence of variables, outermost first."""
    return [leaf for variable in variables for leaf in variable.leaves()]


def align(left: Sequence[Variable], right: Sequence[Variable]) -> None:
    """Makes two axes one: splits and unites their spaces, and aliases the right variables to the left ones.

    Raises:
        Inexpressible: the digits do not line up (6 x 10 against 10 x 6).
    """
    a, b = leaves(left), leaves(right)
    while a and b:
        x, y = a[-1], b[-1]
        if x.size == y.size:
            first, second = x.space.find(), y.space.find()
            if first is not second:
                second.parent = first
                first.cuts |= second.cuts
            if x is not y:
                y.alias = x
            a.pop()
            b.pop()
        elif x.size > y.size and x.size % y.size == 0:
            x.space.split(y.size)
            a[-1:] = x.leaves()
            b[-1:] = y.leaves()
        elif y.size > x.size and y.size % x.size == 0:
            y.space.split(x.size)
            b[-1:] = y.leaves()
            a[-1:] = x.leaves()
        else:
            raise Inexpressible(f"digits of {x.size} do not line up with digits of {y.size}")
        a, b = leaves(a), leaves(b)
    if a or b:
        raise Inexpressible("the axes have different lengths")


def regroup(variables: Sequence[Variable], sizes: Sequence[int]) -> list[tuple[Variable, ...]]:
    """Reshapes: distributes row-major digits over axes of the given sizes, splitting digits where an axis ends.

    Raises:
        Inexpressible: an axis would end inside a digit that cannot be split there.
    """
    pending = leaves(variables)
    result: list[tuple[Variable, ...]] = []
    for size in reversed(sizes):
        axis: list[Variable] = []
        remaining = size
        while remaining != 1:
            if not pending:
                raise Inexpressible("a view to a different number of elements")
            last = pending[-1]
            if remaining % last.size == 0:
                axis.insert(0, last)
                remaining //= last.size
                pending.pop()
            elif last.size % remaining == 0:
                last.space.split(remaining)
                pending = leaves(pending)
                axis = leaves(axis)
            else:
                raise Inexpressible(f"a view that cuts an axis of {last.size} at {remaining}")
        result.insert(0, tuple(axis))
    if pending:
        raise Inexpressible("a view to a different number of elements")
    return result
