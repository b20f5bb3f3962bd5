"""Python source as text: literals, calls and sums laid out as a formatter would, and text that cannot break out.

Not here: what the source means.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from gaugec.literals import WIDTH


def words(text: str) -> str:
    """One line of plain text, safe inside a docstring or a comment: no quote, backslash or control character."""
    text = " ".join(text.split()).replace("\\", "/").replace('"', "'")
    return "".join(c if c.isprintable() else "?" for c in text)


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
