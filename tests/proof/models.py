"""Small models as tensor graphs, built by hand, with the regions of their gauges."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from gaugec.graph.builder import Builder, Ref
from gaugec.graph.freeze import freeze
from gaugec.graph.ir import Graph
from gaugec.graph.statement import Digit, Region


class Model:
    """A builder with shorthands; `freeze` gives the graph, and `region` the digits of a leaf."""

    def __init__(self) -> None:
        self.b = Builder()
        self.graph = Graph(())
        self.numbers: dict[int, int] = {}

    def param(self, name: str, *shape: int) -> Ref:
        return self.b.leaf("param", name, shape)

    def input(self, name: str, *shape: int) -> Ref:
        return self.b.leaf("input", name, shape)

    def linear(self, x: Ref, w: Ref, bias: Ref | None = None) -> Ref:
        letters = "abcdefgh"[: len(x.shape) - 1]
        y = self.b.einsum([x, w], [letters + "y", "zy"], letters + "z")
        return y if bias is None else self.b.add(y, bias)

    def freeze(self, *outputs: Ref) -> tuple[int, ...]:
        self.graph, self.numbers = freeze(self.b, [*outputs])
        return tuple(self.numbers[ref.node] for ref in outputs)

    def node(self, ref: Ref) -> int:
        return self.numbers[ref.node]

    def region(
        self,
        leaf: Ref,
        axes: Sequence[Sequence[tuple[str, int]]],
        kind: str,
        exponent: int = 1,
        dual: bool = False,
        shift_by: int = 0,
    ) -> Region:
        """`axes`: for every axis its factors (part, length), outermost first; finer modes are digits of a factor.

        A factor ("skip", n) at the head of an axis leaves out what lies before; its length is an offset in elements.
        """
        node = self.graph[self.numbers[leaf.node]]
        digits: list[Digit] = []
        for mode in node.modes:
            factors = list(axes[mode.axis])
            offset = factors.pop(0)[1] if factors and factors[0][0] == "skip" else 0
            end = 1
            for _, length in factors:
                end *= length
            start, length = 0, mode.size
            inner = [(part, n, order) for order, (part, n) in enumerate(factors)]
            stride, found = 1, None
            for part, n, order in reversed(inner):
                if stride <= mode.stride < stride * n or (mode.stride == 1 and stride == 1 and n > 0):
                    found = found or (part, order)
                stride *= n
            assert found is not None
            if offset or end < node.shape[mode.axis]:
                if mode.stride * mode.size == node.shape[mode.axis]:
                    start, length = offset // mode.stride, max(1, end // mode.stride)
            digits.append(
                Digit(found[0], start, length, order=mode.axis * 10000 + found[1] * 100 + len(digits), mode=len(digits))
            )
        return Region(node.id, tuple(digits), kind, Fraction(exponent), dual, Fraction(shift_by))


def whole(part: str, *lengths: int) -> list[tuple[str, int]]:
    """An axis that is one factor."""
    return [(part, lengths[0] if lengths else 1 << 30)]
