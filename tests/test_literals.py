"""Literals as source: what is written is read back, in lines of a bounded length, and filled where that is asked."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaugec.errors import GaugeError
from gaugec.literals import WIDTH, literal

LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=130))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=20), inner, max_size=5),
    ),
    max_leaves=20,
)


@given(VALUES, st.integers(0, 60), st.booleans())
def test_what_is_written_is_read_back(value: Any, column: int, filled: bool) -> None:
    text = literal(value, column, filled=filled)
    assert ast.literal_eval(text) == value
    assert text.isascii()


def test_the_filled_layout() -> None:
    site = {"gauge": "norm_gain", "index": "0", "parameters": ["model.layers.{0..2}.input_layernorm.weight"] * 3}
    value = {"short": 1, "other": 2, "sites": [site], "shapes": {f"parameter_{i}": (60, 48) for i in range(6)}}
    assert literal(value, filled=True) == """\
{
    "short": 1, "other": 2,
    "sites": [
        {"gauge": "norm_gain", "index": "0", "parameters": [
            "model.layers.{0..2}.input_layernorm.weight", "model.layers.{0..2}.input_layernorm.weight",
            "model.layers.{0..2}.input_layernorm.weight",
        ]},
    ],
    "shapes": {
        "parameter_0": (60, 48), "parameter_1": (60, 48), "parameter_2": (60, 48), "parameter_3": (60, 48),
        "parameter_4": (60, 48), "parameter_5": (60, 48),
    },
}"""
    assert max(map(len, literal(value).split("\n"))) <= WIDTH


def test_what_is_no_literal_is_refused() -> None:
    with pytest.raises(GaugeError, match=r"^a set cannot be written into a compiled gauge$"):
        literal({"a": {1, 2}})
