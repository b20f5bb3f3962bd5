"""The house is in order: what the rules of CONTRIBUTING say of the sources, read off the sources."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import gaugec

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for top in ("gaugec", "runtime") for path in (ROOT / top).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in (*SOURCES, *TESTS)}
CLOCKS = {"monotonic", "perf_counter", "process_time", "thread_time", "time"}


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def reached(tree: ast.Module) -> Iterator[str]:
    """The underscore names of other modules of gaugec that a module imports, or reads off one."""
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "gaugec"):
            modules |= {alias.asname or alias.name for alias in node.names}
            yield from (f"line {node.lineno}: {alias.name}" for alias in node.names if private(alias.name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            if private(node.attr) and node.value.id[0].islower():
                yield f"line {node.lineno}: {node.value.id}.{node.attr}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_reaches_into_another_and_each_says_what_it_is(path: Path) -> None:
    assert list(reached(TREES[path])) == []
    assert ast.get_docstring(TREES[path])


def test_reaching_is_seen() -> None:
    text = "from gaugec.a import _b, c\nfrom os import _exit\nc._d()\nself._e()"
    assert list(reached(ast.parse(text))) == ["line 1: _b", "line 3: c._d"]


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    for top in ("gaugec", "runtime"):
        for init in (ROOT / top).rglob("__init__.py"):
            name = ".".join(init.parent.relative_to(ROOT).parts)
            assert (name if top == "gaugec" else f"gaugec.{name}") in listed


def test_no_module_beside_the_package_is_named_like_a_public_function() -> None:
    assert not {path.stem for path in (ROOT / "gaugec").iterdir()} & set(gaugec.__all__)


def test_one_name_is_one_thing() -> None:
    """No public class is defined twice; syntax, and the plan of what is written, go by what they name."""
    apart = {ROOT / "gaugec" / "language" / "tree.py", ROOT / "gaugec" / "codegen" / "ir.py"}
    classes = [
        node.name
        for path in set(SOURCES) - apart
        for node in TREES[path].body
        if isinstance(node, ast.ClassDef) and not private(node.name)
    ]
    assert len(classes) > 100
    assert [name for name in classes if classes.count(name) > 1] == []


def test_no_test_asserts_on_a_clock() -> None:
    assert len(TESTS) > 60
    for path in TESTS:
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.Assert):
                for call in ast.walk(node.test):
                    clock = isinstance(call, ast.Attribute) and call.attr in CLOCKS
                    assert not (clock and getattr(call.value, "id", "") == "time"), f"{path}:{node.lineno}"


def test_the_map_is_true() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`((?:gaugec|runtime|specs|docs|tests)/[\w./-]*)`", text))
    assert {"gaugec/operators.py", "gaugec/groups.py", "specs/"} <= paths
    for path in sorted(paths):
        assert (ROOT / path).exists(), path
    way, _, _ = text.partition("## One idea, one place")
    stages = {path.name for path in (ROOT / "gaugec").iterdir() if (path / "__init__.py").exists()}
    named = set(re.findall(r"`(\w+)`", way))
    assert stages - named <= {"demo"}
