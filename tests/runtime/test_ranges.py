"""Names as ranges: folding and expanding are inverse to each other, and a list grows with its structure alone."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gaugec.runtime.ranges import LENGTH, LIMIT, expand, expand_row, fold, fold_rows

PIECES = st.sampled_from(
    [".", "..", "{", "}", "{{", "{0..2}", "a", "w", "0", "1", "2", "3", "01", "10", "\n", "é", "٣"]
)
NAMES = st.lists(st.one_of(st.lists(PIECES, max_size=5).map("".join), st.text(max_size=8)), max_size=12)


@given(NAMES)
@example(["a.{0..2}", "a.{0..2}", "a.{0..3}"])
@example(["9" * 5000, "8" * 5000])
@example(["\ud800.1", "\ud800.2"])
def test_any_list_of_names(names: list[str]) -> None:
    assert expand(fold(names)) == names


@given(st.integers(0, 4), st.integers(1, 5), st.integers(1, 3), st.integers(1, 4))
def test_layers_and_experts(start: int, layers: int, step: int, experts: int) -> None:
    counted = range(start, start + layers * step, step)
    names = [f"h.{i}.expert.{j}.w" for i in counted for j in range(experts)]
    assert expand(fold(names)) == names
    assert len(fold(names)) == (1 if step == 1 else min(layers, 1 if layers > 2 else layers))


def test_what_folding_writes() -> None:
    assert fold([f"model.layers.{i}.q.weight" for i in range(3)]) == ["model.layers.{0..2}.q.weight"]
    assert fold([f"h.{i}.w{j}" for i in (0, 2, 4) for j in (1, 2)]) == ["h.{0..4..2}.w{1..2}"]
    assert fold(["a.0", "a.1", "b", "a.5", "a.7", "a.2", "a.1"]) == ["a.{0..1}", "b", "a.5", "a.7", "a.2", "a.1"]
    assert fold(["{0..1}", "{1..1}", "x{"]) == ["{{{0..1}..1}}", "x{{"]
    assert fold(["a.01", "a.02", "a.1234567890", "a.1234567891"]) == ["a.01", "a.02", "a.1234567890", "a.1234567891"]
    assert fold(["a", "a"]) == ["a", "a"]
    assert fold([]) == []


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a.{b}", "'a.{b}' is no pattern of names: a brace that is no range is written twice"),
        ("a.{0..}", "'a.{0..}' is no pattern of names: a brace that is no range is written twice"),
        ("a}", "'a}' is no pattern of names: a brace that is no range is written twice"),
        ("a.{3..1}", "'a.{3..1}' is no pattern of names: {3..1} counts down"),
        ("{0..999999}{0..999999}", f"'{{0..999999}}{{0..999999}}': more than {LIMIT} names"),
    ],
)
def test_what_is_no_pattern(pattern: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        expand([pattern])
    assert str(error.value) == message


def test_ranges_and_seal_need_no_torch() -> None:
    code = "import sys, gaugec.runtime.ranges, gaugec.runtime.seal; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


# --- rows


ROWS = st.integers(1, 3).flatmap(
    lambda width: st.lists(st.tuples(*[st.lists(PIECES, max_size=4).map("".join)] * width), max_size=8)
)


@given(ROWS, st.integers(0, 4), st.integers(1, 3))
@example([("1", "a.1.1"), ("2", "a.2.2")], 0, 1)
def test_any_rows_of_names(rows: list[tuple[str, ...]], layers: int, step: int) -> None:
    width = len(rows[0]) if rows else 2
    rows = [*rows, *(tuple(f"{at}.h.{i * step}" for at in "abc"[:width]) for i in range(layers))]
    assert sorted(row for patterns in fold_rows(rows) for row in expand_row(patterns)) == sorted(rows)


def test_what_folding_rows_writes() -> None:
    layers = [(str(2 * i), f"h.{i}", f"h.{i}.w", "shared.7") for i in range(3)]
    assert fold_rows([*layers, ("9", "head", "head.w", "shared.7")]) == [
        ("{0..4..2}", "h.{0..2}", "h.{0..2}.w", "shared.7"),
        ("9", "head", "head.w", "shared.7"),
    ]
    assert fold_rows(layers[:2]) == [("{0..2..2}", "h.{0..1}", "h.{0..1}.w", "shared.7")]
    assert fold_rows([layers[0], layers[2], layers[1]]) == [
        ("{0..4..4}", "h.{0..2..2}", "h.{0..2..2}.w", "shared.7"), ("2", "h.1", "h.1.w", "shared.7"),
    ]  # fmt: skip
    assert fold_rows([("a.0", "b.0.0"), ("a.1", "b.1.1")]) == [("a.0", "b.0.0"), ("a.1", "b.1.1")]
    assert fold_rows([("0", "", "a.0"), ("1", "", "a.1")]) == [("{0..1}", "", "a.{0..1}")]
    assert fold_rows([("a{0}",), ("b",), ("a{1}",)]) == [("a{{{0..1}}}",), ("b",)]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (("a.{0..2}", "b.{0..3}"), "'a.{0..2}' stands for 3 names, another beside it for 4"),
        (("{0..99999}", *"abcdefghijklmnop"), f"'{{0..99999}}': more than {LIMIT} names"),
        (("x" * 1000 + "{0..99999}",), f"'{'x' * 80}': names of more than {LENGTH} characters"),
    ],
)
def test_rows_that_do_not_expand(patterns: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError) as error:
        expand_row(patterns)
    assert str(error.value) == message
