"""The rows of the group table agree with the mathematics."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from gaugec import groups
from gaugec.groups import GROUPS, TABLE


def test_one_row_a_group():
    assert list(GROUPS) == [
        "positive",
        "positive_pairs",
        "translation",
        "orthogonal",
        "orthogonal_ones",
        "torus",
        "invertible",
    ]
    assert len(TABLE) == len(GROUPS)


@pytest.mark.parametrize(
    ("name", "dimensions"),
    [
        ("positive", (4, 6)),
        ("positive_pairs", (2, 3)),
        ("translation", (4, 6)),
        ("orthogonal", (6, 15)),
        ("orthogonal_ones", (3, 10)),
        ("torus", (2, 3)),
        ("invertible", (16, 36)),
    ],
)
def test_dimensions(name: str, dimensions: tuple[int, int]):
    assert (GROUPS[name].dimension(4), GROUPS[name].dimension(6)) == dimensions


@pytest.mark.parametrize("group", TABLE, ids=lambda group: group.name)
def test_rows_are_consistent(group: groups.Group):
    assert group.shape(groups.ONE) == ()
    assert group.shape("k") == (("k",) if group.element == "vector" else ("k", "k"))
    assert (group.fix == "forbidden") == group.compact == group.transpose_inverts
    assert (group.inverse == "R.T") == group.transpose_inverts
    small, large = group.sizes
    assert small < large and group.dimension(small) > 0
    assert group.abelian or small >= 3
    assert group.name not in ("torus", "positive_pairs") or small % 2 == large % 2 == 0


def test_only_the_standard_library():
    tree = ast.parse(Path(groups.__file__).read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules == {"__future__", "collections.abc", "dataclasses", "typing"}
