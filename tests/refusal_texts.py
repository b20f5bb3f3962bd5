"""Every text with which the compiler refuses a gauge or a model, read off its sources; a hole in one is "…"."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

GAUGEC = Path(__file__).parents[1] / "gaugec"
# what is raised or made of a text, and which argument the text is
MADE = {
    "Blocked": 0,
    "Demote": 1,
    "Miss": 2,
    "MatchError": 0,
    "ProofError": 0,
    "GaugeError": 0,
    "NotProved": 0,
    "Undecided": 0,
    "Inexpressible": 0,
    "Theorem": 2,
    "Refusal": 2,
    "_refused": 1,
}
BLOCKING = "blocked"  # a table of parameters that may not move, and why
APART = {"errors.py", "language"}  # what is wrong with the text of a spec is drawn at its line, with its cure


def texts() -> dict[str, str]:
    """Every text, and where it is made."""
    found: dict[str, str] = {}
    paths = [path for path in sorted(GAUGEC.rglob("*.py")) if not APART & set(path.relative_to(GAUGEC).parts)]
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    known = {path: _assigned(tree) for path, tree in trees.items()}
    constants = {name: values for own in known.values() for name, values in own.items() if name.isupper()}
    for path, tree in trees.items():
        for line, text in _of(tree, constants | known[path]):
            found.setdefault(text, f"{path.relative_to(GAUGEC)}:{line}")
    return found


def _of(tree: ast.Module, known: Mapping[str, list[ast.expr]]) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MADE:
            at = MADE[node.func.id]
            given = [*node.args[at : at + 1], *(word.value for word in node.keywords if word.arg == "reason")]
            yield from ((node.lineno, text) for e in given for text in _read(e, known) if _says(text))
        if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Subscript):
            if isinstance(target.value, ast.Name) and target.value.id == BLOCKING:
                yield from ((node.lineno, text) for text in _read(node.value, known))


def _says(text: str) -> bool:
    """Are there words in it, not holes alone?"""
    return bool(re.search(r"[a-z]{2}", text))


def _assigned(tree: ast.Module) -> dict[str, list[ast.expr]]:
    """What names stand for: what is assigned to them, what functions return, and the texts of their tables."""
    known: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            known.setdefault(node.targets[0].id, []).append(node.value)
        elif isinstance(node, ast.FunctionDef):
            inside = list(ast.walk(node))
            returned = [part.value for part in inside if isinstance(part, ast.Return) and part.value is not None]
            tables = [value for part in inside if isinstance(part, ast.Dict) for value in part.values]
            known.setdefault(node.name, []).extend([*returned, *tables])
    return known


def _read(expression: ast.expr, known: Mapping[str, list[ast.expr]], deep: int = 0) -> Iterator[str]:
    """The texts that an expression may be."""
    match expression:
        case ast.Constant(value=str(text)):
            yield re.sub(r"{\w*}", "…", text)
        case ast.JoinedStr(values=parts):
            yield re.sub("…+", "…", "".join(p.value if isinstance(p, ast.Constant) else "…" for p in parts))
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="format")) if name in known:
            yield from (text for value in known[name] for text in _read(value, known, deep + 1))
        case ast.IfExp(body=one, orelse=other):
            yield from _read(one, known, deep)
            yield from _read(other, known, deep)
        case ast.Name(id=name) | ast.Call(func=ast.Name(id=name)) if name in known and deep < 3:
            for value in known[name]:
                yield from _read(value, known, deep + 1)
