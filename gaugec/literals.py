"""Literals as Python source: quoted so that no text can break out, and laid out in lines of at most `WIDTH` columns.

Shared by what is generated and by the certificate under it.  Not here: what a literal means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gaugec.errors import GaugeError

WIDTH = 120
_SHORT = 56  # columns of an entry that may share its line with others


def quote(text: str) -> str:
    """A Python string literal in double quotes, printable ASCII only."""
    out = []
    for c in text:
        if c in '"\\':
            out.append("\\" + c)
        elif " " <= c <= "~":
            out.append(c)
        else:
            code = ord(c)
            out.append(f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return '"' + "".join(out) + '"'


def literal(value: Any, column: int = 0, indent: int = 0, *, filled: bool = False) -> str:
    """A literal that starts in a column: one line if it fits, else one entry a line, as a formatter has it.

    filled: short entries share lines, and what precedes the last entry of a dict stands on its first line.
    """
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, str):
        return _long(value, column, indent)
    line = flat(value)
    if column + len(line) < WIDTH or not value:
        return line
    if isinstance(value, Mapping):
        entries = [(f"{quote(str(key))}: ", entry) for key, entry in value.items()]
        opening, closing = "{", "}"
    else:
        entries = [("", entry) for entry in value]
        opening, closing = ("(", ")") if isinstance(value, tuple) else ("[", "]")
    if filled and isinstance(value, Mapping) and (hugged := _hugged(entries, column, indent)):
        return hugged
    inner = indent + 4
    room = WIDTH - inner
    lines: list[str] = []
    joins = False  # the line before holds short entries only
    for head, entry in entries:
        text = f"{head}{literal(entry, inner + len(head), inner, filled=filled)},"
        short = filled and len(text) <= _SHORT and "\n" not in text
        if short and joins and len(lines[-1]) + 1 + len(text) <= room:
            lines[-1] += f" {text}"
        else:
            lines.append(text)
        joins = short
    return "\n".join([opening, *(" " * inner + line for line in lines), " " * indent + closing])


def _hugged(entries: Sequence[tuple[str, Any]], column: int, indent: int) -> str:
    """A dict with all but its last entry, a list or a dict, on its first line; "" where that has no room for them."""
    *first, (head, last) = entries
    start = "{" + "".join(f"{key}{flat(entry)}, " for key, entry in first) + head
    if not first or not last or not isinstance(last, Mapping | list) or column + len(start) >= WIDTH - 1:
        return ""
    rest = literal(last, WIDTH, indent, filled=True)
    return f"{start}{rest}}}" if rest[1] == "\n" else ""


def _long(text: str, column: int, indent: int) -> str:
    whole = quote(text)
    if column + len(whole) < WIDTH:
        return whole
    room = WIDTH - indent - 10  # between the quotes
    pieces, wide = [""], 0
    for c in text:
        columns = len(quote(c)) - 2
        if wide + columns > room:
            pieces.append("")
            wide = 0
        pieces[-1] += c
        wide += columns
    pad = " " * (indent + 4)
    return "\n".join(["(", *(pad + quote(each) for each in pieces), " " * indent + ")"])


def flat(value: Any) -> str:
    """A literal on one line; GaugeError where it is none."""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{quote(str(key))}: {flat(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, tuple):
        inner = ", ".join(flat(entry) for entry in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, list):
        return "[" + ", ".join(flat(entry) for entry in value) + "]"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    raise GaugeError(f"a {type(value).__name__} cannot be written into a compiled gauge")
