"""What to tell a reader about a text that does not parse: lark's tokens in, words of the language out.

The parser knows only which tokens it would have taken; this module turns that into one sentence and an example.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Set
from typing import NamedTuple

from gaugec.errors import Span, SpecError, printable

RESERVED = frozenset(
    ("gauge", "given", "param", "each", "model", "for", "keeps", "fix", "op", "architecture", "use")
)  # as in grammar.lark: a name cannot be one of these

_TOKEN = re.compile(
    r'#[^\n]*|"[^"\n]*"|[A-Za-z_][A-Za-z0-9_]*|[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|->|==|\*\*|\.T\b|\S'
)
_LINE = {
    "": "a file holds `gauge name(n, d):`, `op name(x) = …` and `architecture name:`",
    "gauge": "a gauge is `gauge name(n, d):`, a text in quotes, and lines of given, param, model, for every, keeps",
    "given": "a given line looks like `given x[n, d], t[n]`",
    "param": "a param line looks like `param W[k, d], b[k]?, each V[_, d]`",
    "each": "a param line looks like `param W[k, d], b[k]?, each V[_, d]`",
    "model": "a model line looks like `model y = relu(x @ W.T + b)`",
    "for": "it looks like `for every R in orthogonal(k):`, and under it one action a line: `W -> R @ W`",
    "keeps": "a keeps line names what must not change: `keeps y`",
    "fix": "a fix line is an equation: `fix abs(g) == 1`",
    "op": "an op line looks like `op relu2(x) = max(x, 0)**2`",
    "architecture": "an architecture is `architecture name:`, a text in quotes, lines like `use norm_gain from norms`",
    "use": "a use line looks like `use norm_gain, unit_scale from norms optional`",
}
_EXPRESSION = frozenset(("NAME", "NUMBER", "LPAR"))
_SIGNS = frozenset(("PLUS", "MINUS", "STAR", "SLASH", "AT", "POWER", "_TRANSPOSE"))
_CLAUSES = frozenset(("_GIVEN", "_PARAM", "_MODEL", "_FOR", "_KEEPS", "_FIX"))
_ITEMS = frozenset(("_GAUGE", "_ARCHITECTURE", "_OP"))
_KEYWORDS = _CLAUSES | _ITEMS | {"_USE", "_EVERY", "_IN", "_FROM", "EACH", "OPTIONAL", "APPROXIMATE"}
_WORDS = {
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": "a text in double quotes",
    "LPAR": "'('",
    "RPAR": "')'",
    "LSQB": "'['",
    "RSQB": "']'",
    "COLON": "':'",
    "COMMA": "','",
    "_EQUAL": "'='",
    "_EQUALS": "'=='",
    "_ARROW": "'->'",
    "SLASH": "'/'",
    "MINUS": "'-'",
    "BLANK": "'_'",
    "OPTIONAL_MARK": "'?'",
}


class _Before(NamedTuple):
    """What stands before a place: the last token and where it ends, and the word that the last clause starts with."""

    token: str
    end: int
    clause: str


def place(text: str, file: str, start: int, end: int) -> Span:
    """Return the span of text[start:end]."""
    line = text.count("\n", 0, start) + 1
    column = start - text.rfind("\n", 0, start)
    end_line = line + text.count("\n", start, end)
    return Span(file, line, column, end_line, end - text.rfind("\n", 0, end))


def _before(text: str, position: int) -> _Before:
    token, end, clause = "", 0, ""
    for match in _TOKEN.finditer(text, 0, position):
        if match[0].startswith("#"):
            continue
        token, end = match[0], match.end()
        if token in RESERVED:
            clause = token
    return _Before(token, end, clause)


def count(text: str) -> int:
    """Return how many names, numbers and signs a text has."""
    return sum(not match[0].startswith("#") for match in _TOKEN.finditer(text))


def nth(text: str, number: int) -> tuple[int, int] | None:
    """Return where the name, number or sign of this number (from 1) stands in a text; None where it has fewer."""
    found = (match for match in _TOKEN.finditer(text) if not match[0].startswith("#"))
    match = next(itertools.islice(found, number - 1, None), None)
    return None if match is None else match.span()


def quote(text: str) -> str:
    """Return `text` in single quotes, printable and not too long."""
    return f"'{printable(text if len(text) <= 40 else text[:37] + '…')}'"


def any_of(words: list[str]) -> str:
    """Join words as "a, b or c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _expected(accepts: Set[str]) -> str:
    rest = set(accepts)
    words = []
    if rest >= _EXPRESSION:
        words.append("an expression")
        rest -= _EXPRESSION | {"MINUS"}
    if rest >= {"PLUS", "MINUS"}:  # the parser may have closed a product before it refused: then no "STAR" is left
        words.append("an operator")
        rest -= _SIGNS | {"LPAR", "_EQUAL"}  # what makes a call or an option of a name goes without saying
    tail = []
    if rest >= _CLAUSES:
        tail.append("the next line of the gauge")
        rest -= _CLAUSES | _ITEMS | {"$END"}
    elif rest >= _ITEMS:
        tail.append("a gauge, an op or an architecture")
        rest -= _ITEMS | {"$END"}
    words += sorted(_WORDS.get(word, f"'{word.lower().lstrip('_')}'") for word in rest)
    return any_of(words + tail) if words + tail else "nothing"


def unexpected_token(text: str, file: str, kind: str, start: int, end: int, accepts: Set[str]) -> SpecError:
    """Say what should have stood at text[start:end], a token of type `kind` ("$END" at the end of the text)."""
    at_end = kind == "$END"
    if at_end:
        start = end = len(text)
    found = text[start:end]
    before = _before(text, start)
    here = place(text, file, start, end)
    # Where the line before could have ended, what is wrong is the word that follows it.
    complete = bool(accepts & (_CLAUSES | _ITEMS)) and not at_end
    cut_short = bool(before.token) and not complete and (at_end or "\n" in text[before.end : start])
    help = _LINE[before.clause]
    if kind == "NAME" and "NAME" not in accepts:
        words = [word.lower().lstrip("_") for word in accepts & _KEYWORDS]
        close = difflib.get_close_matches(found, words, n=1, cutoff=0.6)
        if close:
            return SpecError(f"unknown word {quote(found)}", here, f"did you mean '{close[0]}'?")
    if accepts == {"_ARROW"}:  # a word under 'for every' that starts no line is taken for a param that moves
        close = difflib.get_close_matches(before.token, RESERVED, n=1, cutoff=0.6)
        if close and found != "=":
            at = place(text, file, before.end - len(before.token), before.end)
            return SpecError(f"unknown word {quote(before.token)}", at, f"did you mean '{close[0]}'?")
    if not cut_short:
        if found == ")" and "RPAR" not in accepts and "PLUS" in accepts:
            return SpecError("this ')' closes nothing", here, "leave it out, or open a bracket before it")
        if found in RESERVED and "NAME" in accepts:
            return SpecError(f"'{found}' is a word of the language and cannot be a name", here, "choose another name")
        if found == "=" and "_EQUALS" in accepts:
            return SpecError("a fix line compares with '=='", here, help)
        if found in ("=", "==") and "_ARROW" in accepts:
            return SpecError("an action is written with '->'", here, "write `W -> R @ W`")
        if found == "==" and "_EQUAL" in accepts:
            return SpecError("a name is given its meaning with one '='", here, help)
        if found == "[" and "PLUS" in accepts:
            message = "a value is used whole: a shape in brackets stands only where a name is declared"
            return SpecError(message, here, "leave the brackets out")
        if complete and kind == "NAME" and re.match(r"\s*->", text[end : end + 80]):
            return SpecError("an action stands outside of a 'for every' line", here, _LINE["for"])
        if before.clause == "model" and kind == "NAME" and "\n" in text[before.end : start]:
            if re.match(r"\s*=(?!=)", text[end : end + 80]):
                message = "every line of the model begins with the word 'model'"
                return SpecError(message, here, f"write `model {found} = …`")
        if "PLUS" in accepts and kind in ("NAME", "NUMBER", "LPAR") and "\n" not in text[before.end : start]:
            message = f"two values stand side by side: {quote(before.token)} and {quote(found)}"
            return SpecError(message, here, "write '*' or '@' between them")
    message = f"expected {_expected(accepts)}"
    if before.token:
        message += f" after {quote(before.token)}"
    if accepts == {"_ARROW"}:
        help = "an action looks like `W -> R @ W`; between two values stands '*' or '@'"
    if cut_short:
        # The reader looks at the line that stops short, not at the innocent word that follows it.
        return SpecError(message, place(text, file, before.end, before.end), help)
    return SpecError(f"{message}, found {quote(found)}" if found else message, here, help)


def unexpected_character(text: str, file: str, start: int) -> SpecError:
    """Say what is wrong with the character at `start`, which begins no token of the language."""
    character = text[start]
    here = place(text, file, start, start + 1)
    after = text[start + 1 : start + 2]
    if character == '"':
        return SpecError("the text that starts here has no closing quote", here, 'close it with " on the same line')
    if character == "'":
        return SpecError("a text stands in double quotes", here, 'write "…"')
    if character == "^":
        return SpecError("'^' is not a sign of the language", here, "a power is written `x**2`")
    if character == "." and after.isdigit():
        return SpecError("a number starts with a digit", here, "write 0 before the point")
    if character == ".":
        message = "only `.T`, the transpose, may follow a value"
        return SpecError(message, here, "a function is written `f(x)`, the transpose `x.T`")
    if character == "_":
        message = "a name starts with a letter; '_' alone is a dim without a name"
        return SpecError(message, here, "begin the name with a letter")
    if ord(character) > 127:
        kind = "letter" if character.isalpha() else "sign"
        return SpecError(
            f"{quote(character)} is not a {kind} of the language",
            here,
            "names are written with a-z, A-Z, 0-9 and _; only texts and comments may hold other characters",
        )
    help = "lines need no end mark" if character == ";" else _LINE[_before(text, start).clause]
    return SpecError(f"{quote(character)} is not a sign of the language", here, help)
