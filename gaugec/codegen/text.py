"""Python source as text: literals, calls and sums laid out as a formatter would, and text that cannot break out.

Not here: what the source means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from gaugec.errors import GaugeError

WIDTH = 120


def words(text: str) -> str:
    """One line of plain text, safe inside a docstring or a comment: no quote, backslash or control character."""
    text = " ".join(text.split()).replace("\\", "/").replace('"', "'")
    return "".join(c if c.isprintable() else "?" for c in text)


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


def literal(value: Any, column: int = 0, indent: int = 0) -> str:
    """A literal as a formatter would lay it out: on one line if it fits, else one entry a line."""
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, str):
        return _long(value, column, indent)
    line = flat(value)
    if column + len(line) < WIDTH or not value:
        return line
    pad = " " * (indent + 4)
    lines = []
    if isinstance(value, Mapping):
        for key, entry in value.items():
            head = f"{quote(str(key))}: "
            lines.append(f"{pad}{head}{literal(entry, indent + 4 + len(head), indent + 4)},")
        opening, closing = "{", "}"
    else:
        lines = [f"{pad}{literal(entry, indent + 4, indent + 4)}," for entry in value]
        opening, closing = ("(", ")") if isinstance(value, tuple) else ("[", "]")
    return "\n".join([opening, *lines, " " * indent + closing])


def _long(text: str, column: int, indent: int) -> str:
    whole = quote(text)
    if column + len(whole) < WIDTH:
        return whole
    room = WIDTH - indent - 8
    pieces, piece = [], ""
    for c in text:
        if len(quote(piece + c)) > room:
            pieces.append(piece)
            piece = ""
        piece += c
    pad = " " * (indent + 4)
    return "\n".join(["(", *(pad + quote(each) for each in [*pieces, piece]), " " * indent + ")"])


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


def call(head: str, name: str, arguments: Sequence[str], indent: int = 0) -> str:
    """`head name(arguments)` on one line if it fits, else one argument a line."""
    line = f"{head}{name}({', '.join(arguments)})"
    if indent + len(line) <= WIDTH:
        return line
    pad = " " * (indent + 4)
    return "\n".join([f"{head}{name}(", *(f"{pad}{each}," for each in arguments), " " * indent + ")"])


def display(entries: Sequence[str], indent: int, column: int) -> str:
    """A dict display, on one line if it fits."""
    line = "{" + ", ".join(entries) + "}"
    if column + len(line) <= WIDTH:
        return line
    pad = " " * (indent + 4)
    return "\n".join(["{", *(f"{pad}{entry}," for entry in entries), " " * indent + "}"])


def signed_sum(terms: Sequence[tuple[Fraction, str]]) -> list[str]:
    """Terms of a signed sum, each with the operator in front."""
    out = []
    for i, (weight, text) in enumerate(terms):
        negative = weight < 0
        if text.startswith("-"):
            negative, text = not negative, text[1:]
        size = abs(weight)
        body = text if size == 1 else f"{number(size)} * {text}"
        sign = ("-" if negative else "") if i == 0 else ("- " if negative else "+ ")
        out.append(sign + body)
    return out


def spread(head: str, terms: Sequence[str], tail: str, indent: int = 12) -> list[str]:
    """`head terms tail` on one line if it fits (parentheses that only hold the sum are left out), else on more."""
    bare = head.endswith(("= (", ": ("))
    one = (head[:-1] + " ".join(terms) + tail[1:]) if bare else head + " ".join(terms) + tail
    if len(one) + indent <= WIDTH:
        return [one]
    return [head, *("    " + term for term in terms), tail]


def tuple_of(names: Sequence[str]) -> str:
    """A tuple of expressions."""
    return f"({names[0]},)" if len(names) == 1 else f"({', '.join(names)})"


def number(value: Fraction) -> str:
    """A number as a float literal."""
    return repr(float(value))


def listing(names: Sequence[str]) -> str:
    """The tuple of all components."""
    line = tuple_of(names) if names else "()"
    if len("COMPONENTS = ") + len(line) <= WIDTH:
        return line
    return "\n".join(["(", *(f"    {name}," for name in names), ")"])


def raised(scale: str, power: Fraction) -> str:
    """An expression to a power."""
    return scale if power == 1 else f"1 / {scale}" if power == -1 else f"{scale}.pow({number(power)})"
