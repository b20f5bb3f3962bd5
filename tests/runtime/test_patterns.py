"""Axis patterns: what is written is read back as the same elements in the same order; what does not fit is said."""

from __future__ import annotations

import itertools
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaugec.codegen.patterns import pattern
from gaugec.runtime.patterns import read

Axes = list[tuple[str, int, int]]


@st.composite
def boxes(draw: st.DrawFn) -> tuple[tuple[int, ...], int, Axes]:
    """A shape, and a box of it with its dimensions taken apart into axes of any kind."""
    shape, ranges, dimensions = [], [], []
    for _ in range(draw(st.integers(1, 3))):
        sizes = draw(st.lists(st.integers(2, 3), max_size=3))
        low, more = draw(st.sampled_from([(0, 0), (0, 0), (1, 0), (2, 3)]))
        shape.append(max(1, low + prod(sizes) + more))
        ranges.append(low if shape[-1] > prod(sizes) else 0)
        dimensions.append(sizes)
    axes: Axes = []
    offset = 0
    for i, (low, sizes) in enumerate(zip(ranges, dimensions)):
        stride = prod(shape[i + 1 :])
        offset += low * stride
        for j, size in enumerate(sizes):
            axes.append((draw(st.sampled_from("ckpr")), size, stride * prod(sizes[j + 1 :])))
    return tuple(shape), offset, sorted(axes, key=lambda axis: "ckpr".index(axis[0]))


@st.composite
def strides(draw: st.DrawFn) -> tuple[tuple[int, ...], int, Axes]:
    """Axes that may be no box at all, or run over several dimensions."""
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    axes = draw(st.lists(st.tuples(st.sampled_from("ckpr"), st.integers(1, 6), st.integers(1, 36)), max_size=4))
    return shape, draw(st.integers(0, 20)), sorted(axes, key=lambda axis: "ckpr".index(axis[0]))


def elements(offset: int, axes: Axes, kind: str) -> list[int]:
    """Where the entries of the axes of a kind lie, in the order of the coefficient."""
    own = [(size, stride) for name, size, stride in axes if name == kind]
    return [
        offset + sum(i * stride for i, (_, stride) in zip(index, own))
        for index in itertools.product(*(range(size) for size, _ in own))
    ]


def same(shape: tuple[int, ...], offset: int, axes: Axes) -> bool:
    """A pattern that is written is read as the same axes, as numbers; says whether one was written."""
    known = {kind: prod(n for name, n, _ in axes if name == kind) for kind in "ck"}
    written = pattern(shape, offset, axes, known)
    if written is None:
        return False
    start, there = read("tensor" + written.box, written.text, shape, {**known, **written.sizes})
    assert start == offset
    kinds: Axes = [(axis.name[0] if axis.name[0] in "ckp" else "r", axis.size, axis.stride) for axis in there]
    for kind in "ckpr":
        assert elements(offset, kinds, kind) == elements(offset, axes, kind)
    return True


@given(boxes())
def test_a_box_is_written_and_read(box: tuple[tuple[int, ...], int, Axes]) -> None:
    """Every box has a pattern: its axes of a kind stand in the order of the memory."""
    assert same(*box)


@given(strides())
def test_any_strides(case: tuple[tuple[int, ...], int, Axes]) -> None:
    """Whatever the strides: where a pattern is written it says the same."""
    same(*case)


def test_what_is_written() -> None:
    known = {"c": 2, "k": 10, "p": 2}
    heads = [("c", 2, 30), ("k", 10, 1), ("r", 48, 60), ("r", 3, 10)]
    assert pattern((48, 60), 0, heads, known) == ("", "m (c r k)", {})
    assert pattern((20, 48), 0, [("k", 48, 1), ("r", 2, 480), ("r", 10, 48)], {"k": 48}) == ("", "m k", {})
    fused = [("c", 6, 7), ("k", 7, 1), ("r", 42, 126)]
    assert pattern((42, 126), 84, fused, {"c": 6, "k": 7}) == ("[:, 84:126]", "m (c k)", {})
    assert pattern((4, 3, 9), 0, [("k", 4, 27), ("r", 27, 1)], {"k": 4}) == ("", "k m n", {})
    assert pattern((24, 6), 24, [("c", 2, 72), ("k", 4, 6), ("r", 6, 1)], {"c": 2, "k": 4}) is None  # interleaved
    assert pattern((4, 6), 0, [("r", 6, 1), ("r", 4, 6)], {}) is None  # not in the order of the memory


@pytest.mark.parametrize(
    ("tensor", "text", "message"),
    [
        ("q", "m", "'q', 'm': 1 dimensions are written, the tensor has 2"),
        ("q", "(c r k) m", "'q', '(c r k) m': the sizes {'c': 4, 'k': 2} do not fit dimension 0, of 12 entries"),
        ("q", "(r s) m", "'q', '(r s) m': the sizes {'c': 4, 'k': 2} do not fit dimension 0, of 12 entries"),
        ("q", "k m", "'q', 'k m': the sizes {'c': 4, 'k': 2} do not fit dimension 0, of 12 entries"),
        ("q[0:13, :]", "m n", "'q[0:13, :]': '0:13' is no range of the 12 entries of a dimension"),
        ("q[x, :]", "m n", "'q[x, :]': 'x' is no range of the 12 entries of a dimension"),
        ("q[0:4]", "m n", "'q[0:4]': q has 2 dimensions"),
    ],
)
def test_what_does_not_fit_is_said(tensor: str, text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        read(tensor, text, (12, 5), {"c": 4, "k": 2})
    assert str(error.value) == message
