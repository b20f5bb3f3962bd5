"""Errors that name a place, show it, and say how to mend it.

Every error of the compiler is a `GaugeError`.  One that comes from a spec carries a `Span`; its text is drawn from a
registry of source texts that the loader fills, so that a stage that never saw the file can still show the line.  The
registry forgets the oldest texts: an error in one of them is told without its line.

Non-goals: colour, several spans in one error, warnings.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

_WIDTH = 100  # columns of source that an error shows at most
_BEFORE = 60  # of which so many may stand before the caret
_TAB = 4
KEPT = 50_000_000  # characters of source that are remembered at most
_sources: dict[str, str] = {}


@dataclass(frozen=True, order=True)
class Span:
    """A stretch of a source text.

    file: the key under which the text was registered, shown to the reader.
    line, column: where it starts, both counted from 1 (columns count characters, a tab is one).
    end_line, end_column: where it ends; end_column is the first column after the stretch.
    """

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def to(self, other: Span) -> Span:
        """Return the span from the start of this one to the end of `other`."""
        return Span(self.file, self.line, self.column, other.end_line, other.end_column)


def register_source(file: str, text: str) -> None:
    """Remember the text of `file`, so that errors in it can show their line; a later text replaces an earlier one.

    Of more than `KEPT` characters the oldest texts are forgotten, however long the process runs.
    """
    _sources.pop(file, None)
    _sources[file] = text
    total = sum(map(len, _sources.values()))
    while total > KEPT and len(_sources) > 1:
        total -= len(_sources.pop(next(iter(_sources))))


def source_line(file: str, line: int) -> str | None:
    """Return line number `line` (from 1) of a registered text without its line end, or None where there is none."""
    text = _sources.get(file)
    if text is None or line < 1:
        return None
    lines = text.split("\n", line)  # not splitlines: lark counts "\n" only
    return lines[line - 1].rstrip("\r") if len(lines) >= line else None


def printable(text: str) -> str:
    """Return `text` on one line: control, formatting and surrogate characters are written as escapes."""
    return "".join(_show(character) for character in text)


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, "no message" where it says nothing."""
    try:
        text = str(error)
    except Exception:  # its own __str__ may be what is wrong
        text = ""
    return (text.strip().splitlines() or ["no message"])[0]


def _show(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _columns(text: str) -> int:
    """How many terminal columns `text` (printable) takes: wide characters take two, combining marks none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _cells(line: str, first: int) -> list[str]:
    """What each character of `line` looks like on the screen; `first` is the column on which the line starts."""
    cells = []
    column = first
    for character in line:
        cell = " " * (_TAB - column % _TAB) if character == "\t" else _show(character)
        cells.append(cell)
        column += _columns(cell)
    return cells


def draw(span: Span) -> str | None:
    """Draw the line of a span with carets under it, or return None where the text is not registered.

    A long line is cropped around the caret; a span that goes on for several lines is marked to the end of its first.
    """
    line = source_line(span.file, span.line)
    if line is None:
        return None
    start = min(max(span.column - 1, 0), len(line))
    end = span.end_column - 1 if span.end_line == span.line else len(line)
    end = min(max(end, start + 1), max(len(line), start + 1))
    low = 0 if len(line) <= _WIDTH else max(0, min(start - _BEFORE, len(line) - _WIDTH))
    high = min(len(line), low + _WIDTH)
    shown = _cells(line[low:high], 0)
    lead, tail = ("… " if low else ""), (" …" if high < len(line) else "")
    before = lead + "".join(shown[: start - low])
    marked = "".join(shown[start - low : end - low])
    carets = "^" * max(1, _columns(marked))
    gutter = f"{span.line:4} | "
    margin = " " * (len(gutter) - 2) + "| "
    return f"{gutter}{lead}{''.join(shown)}{tail}".rstrip() + f"\n{margin}{' ' * _columns(before)}{carets}"


class GaugeError(Exception):
    """Something that the user can mend: what is wrong, where, and how to mend it.

    message: what is wrong, in the reader's words.
    span: where; None where there is no source.
    help: how to mend it, one sentence or more; None where there is nothing to advise.
    """

    def __init__(self, message: str, span: Span | None = None, help: str | None = None) -> None:
        super().__init__(message, span, help)
        self.message = message
        self.span = span
        self.help = help
        # Drawn now: the registry may hold another text for the file by the time that the error is printed.
        self._picture = draw(span) if span is not None else None

    def __str__(self) -> str:
        """`file:line:column: message`, the source line, the caret, and `help: …`, each where there is one."""
        parts = [self.message]
        if self.span is not None:
            parts[0] = f"{printable(self.span.file)}:{self.span.line}:{self.span.column}: {self.message}"
        if self._picture is not None:
            parts.append(self._picture)
        if self.help is not None:
            parts.append(f"help: {self.help}")
        return "\n".join(parts)


class SpecError(GaugeError):
    """A spec that cannot be read: its text, names, shapes or files are wrong."""


class ProofError(GaugeError):
    """A gauge that is not proved: the reason and, where one was found, a counterexample."""


class MatchError(GaugeError):
    """A gauge that a model refuses, or a model that cannot be read."""
