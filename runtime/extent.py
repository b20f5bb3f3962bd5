"""How large the text of a compiled file may be, looked at before it is parsed.

A syntax tree takes up to a thousand times the memory of its text, and a string with a prefix (f"{a}{a}...") time that
grows with its square.  A certificate of 80 layers is half a megabyte and a hundred thousand words.  The standard
library only.

Not here: whether the text is a compiled file.
"""

from __future__ import annotations

import re

BYTES = 4_000_000
WORDS = 500_000  # names, numbers, strings and signs: with all that the parser makes of them, half a gigabyte

# one match a word, each in time linear in its length: a string that does not end, ends with the text
_WORD = re.compile(
    r"#[^\n]*+"
    r"|(?:\"\"\"(?:[^\"\\]|\\.|\"(?!\"\"))*+|'''(?:[^'\\]|\\.|'(?!''))*+)(?:\"\"\"|'''|\\?\Z)"
    r"|\"(?:[^\"\\\n]|\\.)*+[\"\n\\]?+"
    r"|'(?:[^'\\\n]|\\.)*+['\n\\]?+"
    r"|\w++(?P<prefixed>[\"'])?+"
    r"|[^\w\s]",
    re.DOTALL,
)


def excess(text: str) -> str:
    """Why a text is not parsed, in words; "" where it may be."""
    if len(text) > BYTES:  # of letters no more than of bytes
        return f"it is larger than {BYTES:,} bytes"
    for count, word in enumerate(_WORD.finditer(text), 1):
        if word["prefixed"]:
            line = text.count("\n", 0, word.start()) + 1
            return f"it has a string with a prefix, which the compiler writes none of (line {line})"
        if count > WORDS:
            return f"it has more than {WORDS:,} words"
    return ""
