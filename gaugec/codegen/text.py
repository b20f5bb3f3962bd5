"""Python source as text: calls and comments laid out as a formatter would, and text that cannot break out.

Not here: what the source means; literals (see `gaugec.literals`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from fractions import Fraction

from gaugec.literals import WIDTH


def words(text: str) -> str:
    """One line of plain text, safe inside a docstring or a comment: no quote, backslash or control character."""
    text = " ".join(text.split()).replace("\\", "/").replace('"', "'")
    return "".join(c if c.isprintable() else "?" for c in text)


def paragraph(text: str, first: str = "", rest: str = "") -> list[str]:
    """A text in lines, with an indent for the first and one for the rest; three columns are left for quotes."""
    return textwrap.wrap(
        text, WIDTH - 3, initial_indent=first, subsequent_indent=rest, break_long_words=True, break_on_hyphens=False
    )


def comment(text: str, indent: int) -> list[str]:
    """A text as lines of a comment."""
    pad = " " * indent
    return paragraph(text, f"{pad}# ", f"{pad}#   ") or [f"{pad}#"]


def docstring(text: str, indent: int) -> list[str]:
    """A text as a docstring."""
    pad = " " * indent
    first, *more = paragraph(words(text), f'{pad}"""', pad)
    return [first, *more, f'{pad}"""'] if more else [f'{first}"""']


def call(head: str, name: str, arguments: Sequence[str], indent: int, tail: str = "") -> str:
    """`head name(arguments) tail`, indented, on one line if it fits, else one argument a line."""
    pad = " " * indent
    line = f"{pad}{head}{name}({', '.join(arguments)}){tail}"
    if len(line) <= WIDTH and "\n" not in line:
        return line
    return "\n".join([f"{pad}{head}{name}(", *(f"{pad}    {each}," for each in arguments), f"{pad}){tail}"])


def entries(name: str, lines: Sequence[str], indent: int) -> list[str]:
    """`name = (...)` of entries that end in commas, one a line; a single short one stands beside its name."""
    pad = " " * indent
    one = f"{pad}{name} = ({lines[0].strip()})"
    if len(lines) == 1 and "\n" not in one and len(one) <= WIDTH:
        return [one]
    return [f"{pad}{name} = (", *lines, f"{pad})"]


def number(value: Fraction | float) -> str:
    """A number as a literal: an integer where it is one."""
    return str(int(value)) if value == int(value) else repr(float(value))
