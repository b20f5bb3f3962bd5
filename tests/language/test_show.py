"""The printer writes what the parser reads back."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaugec.language import Binary, Call, Expr, Name, Negate, Number, Transpose, show, show_number, show_shape
from gaugec.language.parse import parse

names = st.sampled_from(["x", "W1", "g", "rms", "in"]).map(Name)
digits = st.integers(0, 10**20)
numbers = st.builds(lambda m, e: Number(m * Fraction(10) ** e), digits, st.integers(-25, 25))


def deeper(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    return st.one_of(
        st.builds(Binary, st.sampled_from(["+", "-", "*", "/", "@", "**"]), inner, inner),
        st.builds(Negate, inner),
        st.builds(Transpose, inner),
        st.builds(lambda arg, eps: Call("f", (arg,), (("eps", eps.value),)), inner, numbers),
        st.builds(lambda a, b: Call("outer", (a, b)), inner, inner),
    )


def reparse(text: str) -> Expr:
    source = f"gauge a(): model y = {text} for every R in torus(k): W -> R keeps y"
    return parse(source, "shown.gauge").gauges[0].models[0].expr


@settings(max_examples=200, deadline=None)
@given(st.recursive(names | numbers, deeper, max_leaves=20))
def test_round_trip(expr: Expr):
    assert reparse(show(expr)) == expr


@pytest.mark.parametrize(
    "text",
    [
        "A @ (x @ Wv.T + bv) @ Wo.T",
        "a - (b - c)",
        "a - b - c",
        "a / (b * c)",
        "(a * b).T",
        "-x**2",
        "(-x)**2",
        "x**-1",
        "(a**2)**3",
        "a**2**3",
        "--x",
        "-(a * b)",
        "W @ diag(1/c)",
        "f(x, eps=-0.5)",
    ],
)
def test_brackets_only_where_needed(text: str):
    assert show(reparse(text)) == text


def test_numbers_and_shapes():
    assert [show_number(Fraction(text)) for text in ("3", "-2", "0.25", "1/3", "-1e-20", "1e30")] == [
        "3",
        "-2",
        "0.25",
        "1/3",
        "-1e-20",
        "1e30",
    ]
    assert show(Binary("**", Name("x"), Number(Fraction(1, 3)))) == "x**(1/3)"
    assert show(Binary("**", Name("x"), Number(Fraction(-1)))) == "x**-1"
    assert show_shape(("_W0", "d")) == "[_, d]" and show_shape(()) == "[]"
