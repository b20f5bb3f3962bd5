"""A Pygments lexer of `.gauge` files: for the terminal, for the docs, and for whatever else uses Pygments.

What this module does not do: it checks nothing; see `gaugec.language`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pygments.lexer import RegexLexer, bygroups, words
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String, Whitespace

_CLAUSES = ("given", "param", "model", "keeps", "fix", "use")
_SMALL = ("for", "every", "in", "from", "each", "optional", "approximate")


class GaugeLexer(RegexLexer):
    """The language of gaugec's specs."""

    name = "gauge"
    aliases: ClassVar[list[str]] = ["gauge"]
    filenames: ClassVar[list[str]] = ["*.gauge"]

    tokens: ClassVar[dict[str, Any]] = {
        "root": [
            (r"\s+", Whitespace),
            (r"#[^\n]*", Comment.Single),
            (r'"[^"\n]*"', String.Doc),
            (r"(gauge|architecture|op)(\s+)([A-Za-z]\w*)", bygroups(Keyword.Declaration, Whitespace, Name.Class)),
            (words(_CLAUSES, prefix=r"\b", suffix=r"\b"), Keyword),
            (words(_SMALL, prefix=r"\b", suffix=r"\b"), Keyword.Pseudo),
            (r"[A-Za-z]\w*(?=\()", Name.Function),
            (r"[A-Za-z]\w*", Name),
            (r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", Number),
            (r"->|==|\*\*|[-+*/@=?]|\.T\b", Operator),
            (r"[()\[\]:,_]", Punctuation),
        ]
    }


__all__ = ["GaugeLexer"]
