"""A group is one row: no stage names one, and every row goes the whole way, or says in one place why it does not."""

from __future__ import annotations

import ast
from pathlib import Path

import gaugec
from gaugec.groups import GROUPS

SOURCES = sorted(p for p in Path(gaugec.__file__).parent.rglob("*.py") if "specs" not in p.parts)


def test_no_stage_names_a_group() -> None:
    assert len(SOURCES) > 80
    for path in SOURCES:
        if path.name == "groups.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in GROUPS, f"{path}:{node.lineno} names the group {node.value}"
