"""Whatever the text, the answer is a checked file or a SpecError that can be printed: never another exception."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gaugec.errors import SpecError
from gaugec.language import shipped, shipped_text
from gaugec.language.check import check
from gaugec.language.parse import parse

TEXTS = [shipped_text(name) for name in shipped()]
PIECES = (
    "gauge given param each model for every in keeps fix op architecture use from optional approximate "
    "W x n d k R orthogonal positive torus relu max diag outer ones inv rope rms_norm cross_entropy eps "
    "( ) [ ] , : ? = == -> + - * / @ ** .T _ 0 1 2.5 1e9 1e999 \" ' # . ^ \\ \n \t \0 é \u2028"
).split(" ") + ["\n", '"doc"', "(n, d):", "x @ W.T", "**-1/2", "eps=0"]


def answers(text: str) -> None:
    try:
        check(parse(text, "fuzz.gauge"))
    except SpecError as error:
        assert error.message and error.help, error
        drawn = str(error)
        assert len(drawn.split("\n")[0]) < 400
        assert all(character.isprintable() for line in drawn.split("\n") for character in line)
        for word in ("Token", "lark", "Unexpected", "_ARROW", "RPAR", "LPAR", "$END", "ANON"):
            assert word not in error.message.replace(text, "")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
@example("\ud800")
@example("'" * 200)
def test_any_text(text: str):
    answers(text)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40))
def test_words_of_the_language_in_any_order(pieces: list[str]):
    answers(" ".join(pieces))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(TEXTS), st.data())
def test_valid_text_with_a_piece_changed(text: str, data: st.DataObject):
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 12)))
        text = text[:start] + data.draw(st.sampled_from(["", *PIECES]) | st.text(max_size=3)) + text[end:]
    answers(text)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(TEXTS), st.data())
def test_valid_text_with_words_exchanged(text: str, data: st.DataObject):
    words = text.split(" ")
    for _ in range(data.draw(st.integers(1, 4))):
        i, j = (data.draw(st.integers(0, len(words) - 1)) for _ in range(2))
        words[i], words[j] = words[j], words[i]
    answers(" ".join(words))
