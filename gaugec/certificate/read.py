"""Reads a compiled file without running it: its text, its certificate, the words of its components.

The text is parsed, never executed; what is read out of it is literals.  A file that is no compiled gauge, whatever it
is, ends in `NotCompiled`, which says why.

What this module does not do: it believes nothing that it reads (see `gaugec.pipeline.recheck`), and it is not how a
gauge is loaded (see `gaugec.runtime.load`, which runs the file).
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gaugec.certificate.form import complaint
from gaugec.errors import GaugeError, printable
from gaugec.runtime import extent
from gaugec.runtime.certificate import unfolded
from gaugec.runtime.seal import VERSION, intact, unified


class NotCompiled(GaugeError):
    """A file that is no compiled gauge, or none that this release can read."""


@dataclass(frozen=True)
class Compiled:
    """A compiled file as text.

    text: with plain line ends.  metadata: its certificate, of a known form.  whole: the same, unfolded.  components:
    name and docstring of each.  intact: is the text the one that the compiler wrote, by the hash in it?
    """

    path: str
    text: str
    metadata: dict[str, Any]
    whole: dict[str, Any]
    components: tuple[tuple[str, str], ...]
    intact: bool


def read(path: str | Path) -> Compiled:
    """What a compiled file says; it is not run.

    Raises:
        NotCompiled: it cannot be read, or is no compiled gauge with a certificate.
    """
    shown = printable(str(path))
    text = _text(path, shown)
    tree = _tree(text, shown)
    found = [node for node in tree.body if _target(node) == "METADATA"]
    if len(found) != 1 or not any(_target(node) == "COMPONENTS" for node in tree.body):
        raise _none(shown, "it has no METADATA and COMPONENTS" if len(found) < 2 else "it assigns METADATA twice")
    metadata = _literal(found[0], shown)
    version = metadata.get("certificate")
    if version is None:
        raise NotCompiled(f"{shown} carries no certificate", help="compile the model again")
    if type(version) is not int or version != VERSION:
        other = printable(repr(version))[:40]
        message = f"{shown} has a certificate of version {other}; this gaugec reads version {VERSION}"
        raise NotCompiled(message, help="compile the model again, or use the gaugec that compiled it")
    wrong = complaint(metadata)
    if wrong:
        raise NotCompiled(f"{shown}: its certificate is damaged: {printable(wrong)[:200]}", help="compile it again")
    return Compiled(str(path), unified(text), metadata, unfolded(metadata), tuple(_components(tree)), intact(text))


def _none(shown: str, why: str) -> NotCompiled:
    return NotCompiled(f"{shown} is not a compiled gauge: {why}")


def _text(path: str | Path, shown: str) -> str:
    try:
        with Path(path).open("rb") as stream:
            raw = stream.read(extent.BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise NotCompiled(f"{shown} cannot be read: {printable(why).lower()}") from None
    if len(raw) > extent.BYTES:
        raise _none(shown, f"it is larger than {extent.BYTES:,} bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _none(shown, f"it is not UTF-8 text (byte {error.start}, line {line})") from None
    excess = extent.excess(text)
    if excess:
        raise _none(shown, excess)
    return text


def _tree(text: str, shown: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except SyntaxError as error:
        where = f" (line {error.lineno})" if error.lineno else ""
        raise _none(shown, f"it is not Python: {printable(error.msg)[:100]}{where}") from None
    except ValueError as error:  # a NUL, or a number with too many digits
        raise _none(shown, f"it is not Python: {printable(str(error))[:100]}") from None
    except (RecursionError, MemoryError):
        raise _none(shown, "it is nested too deeply to be read") from None


def _target(node: ast.stmt) -> str:
    """The name that a statement assigns to, or ""."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return next((target.id for target in targets if isinstance(target, ast.Name)), "")


def _literal(node: ast.stmt, shown: str) -> dict[str, Any]:
    assert isinstance(node, ast.Assign | ast.AnnAssign)
    try:
        value = ast.literal_eval(node.value) if node.value is not None else None
    except (ValueError, TypeError, SyntaxError):
        raise _none(shown, f"its METADATA is no literal (line {node.lineno})") from None
    except (RecursionError, MemoryError):
        raise _none(shown, "it is nested too deeply to be read") from None
    if not isinstance(value, dict):
        raise _none(shown, f"its METADATA is no dict (line {node.lineno})")
    return value


def _components(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Name and docstring of the classes that `COMPONENTS` names."""
    listed = next(node for node in tree.body if _target(node) == "COMPONENTS")
    names = dict.fromkeys(node.id for node in ast.walk(listed) if isinstance(node, ast.Name))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for name in names:
        if name in classes:
            yield name, ast.get_docstring(classes[name]) or ""
