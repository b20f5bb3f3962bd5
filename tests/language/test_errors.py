"""Every way to be wrong has its own words: place, message and help, to the letter."""

from __future__ import annotations

import pickle

import pytest

from gaugec import errors
from gaugec.errors import GaugeError, MatchError, ProofError, Span, SpecError, draw, register_source, source_line
from gaugec.language.check import check
from gaugec.language.parse import parse

GOOD = """\
gauge g1(n, d):
    "Doc."
    given  x[n, d]
    param  g[d], b[d]?, each W[_, d]
    model  y = (x * g + b) @ W.T
    for every c in positive(d):
        g -> c * g
        b -> c * b
        W -> W @ diag(1/c)
    keeps  y
    fix    abs(g) == 1
"""

# What is replaced in GOOD, by what, then line and column, message and help of the error.
CASES = [
    ("@ W.T", "@", 5, 29, "expected an expression after '@'", "a model line looks like `model y = relu(x @ W.T + b)`"),
    ("@ W.T", "@ W.T)", 5, 33, "this ')' closes nothing", "leave it out, or open a bracket before it"),
    ("(x * g", "(x g", 5, 19, "two values stand side by side: 'x' and 'g'", "write '*' or '@' between them"),
    (
        "g -> c * g",
        "g -> c g",
        7,
        17,
        "expected '->' after 'g'",
        "an action looks like `W -> R @ W`; between two values stands '*' or '@'",
    ),
    ("g -> c * g", "g = c * g", 7, 11, "an action is written with '->'", "write `W -> R @ W`"),
    (
        "abs(g) == 1",
        "abs(g) = 1",
        11,
        19,
        "a fix line compares with '=='",
        "a fix line is an equation: `fix abs(g) == 1`",
    ),
    (
        "y = (x",
        "y == (x",
        5,
        14,
        "a name is given its meaning with one '='",
        "a model line looks like `model y = relu(x @ W.T + b)`",
    ),
    ("given  x[n, d]", "given x", 3, 12, "expected '[' after 'x'", "a given line looks like `given x[n, d], t[n]`"),
    (
        "param  g[d]",
        "param for[d]",
        4,
        11,
        "'for' is a word of the language and cannot be a name",
        "choose another name",
    ),
    (
        "W.T",
        "W.H",
        5,
        31,
        "only `.T`, the transpose, may follow a value",
        "a function is written `f(x)`, the transpose `x.T`",
    ),
    ("W.T", "W^2", 5, 31, "'^' is not a sign of the language", "a power is written `x**2`"),
    ('"Doc."', '"Doc.', 2, 5, "the text that starts here has no closing quote", 'close it with " on the same line'),
    ('"Doc."', "'Doc.'", 2, 5, "a text stands in double quotes", 'write "…"'),
    ("keeps  y", "", 1, 7, "gauge 'g1' does not say what it keeps", "end it with `keeps y`"),
    ("keeps  y", "keeps z", 10, 11, "'z' is not computed by a model line", "names that can be kept here: y"),
    ("keeps  y", "keeps x", 10, 11, "'x' is not computed by a model line", "names that can be kept here: y"),
    ("model  y", "# ", 1, 7, "gauge 'g1' has no model line", "say what is computed: `model y = x @ W.T`"),
    ("x * g", "x * gg", 5, 21, "unknown name 'gg'", "did you mean 'g'?"),
    ("x * g", "x * c", 5, 21, "a model line cannot read 'c', the group element", "it may read W, b, g, x"),
    (
        "x * g",
        "x[0] * g",
        5,
        18,
        "a value is used whole: a shape in brackets stands only where a name is declared",
        "leave the brackets out",
    ),
    (
        "@ W.T",
        "@ W",
        5,
        28,
        "'@' cannot join [n, d] and [_, d]: 'd' is not '_'",
        "torch keeps weights as [out, in]: `(x * g + b) @ W.T` fits",
    ),
    ("x[n, d]", "x[n, e]", 3, 17, "unknown dim 'e'", "dims here: d, n; dims are declared in `gauge g1(…)`"),
    ("gauge g1(n, d):", "gauge g1(n, d, q):", 1, 16, "the dim 'q' is never used", "leave it out of the head"),
    ("gauge g1(n, d):", "gauge g1(n, D):", 1, 13, "the dim 'D' has capital letters", "dims are written small: `d`"),
    (
        "gauge g1(n, d):",
        "gauge g1(n, d)",
        1,
        15,
        "expected ':' after ')'",
        "a gauge is `gauge name(n, d):`, a text in quotes, and lines of given, param, model, for every, keeps",
    ),
    (
        "gauge g1(n, d):",
        "gauge g1:",
        1,
        9,
        "expected '(' after 'g1', found ':'",
        "a gauge is `gauge name(n, d):`, a text in quotes, and lines of given, param, model, for every, keeps",
    ),
    ("x[n, d]", "x[n, d], g[d]", 4, 12, "'g' is declared twice", "the first is on line 3; every name has one meaning"),
    ("x[n, d]", "x[n, d], q[d]", 3, 21, "the given 'q' is never used", "use it in a model line, or leave it out"),
    ("b[d]?,", "b[d]?, q[d],", 4, 25, "the param 'q' is never used", "use it in a model line, or leave it out"),
    ("x[n, d]", "x[n, d], relu[d]", 3, 21, "'relu' is an operator and cannot be a value", "choose another name"),
    ("g -> c * g", "x -> c * x", 7, 9, "'x' is a given, and only a param can move", "params here: W, b, g"),
    ("g -> c * g", "gg -> c * g", 7, 9, "unknown param 'gg'", "did you mean 'g'?"),
    (
        "g -> c * g",
        "b -> c * g",
        7,
        14,
        "a model may lack 'b', and the action on 'b' needs it",
        "an absent param is zero and must stay zero: write `param b[…]` without '?'",
    ),
    (
        "g -> c * g",
        "g -> g",
        7,
        14,
        "the action on 'g' does not use the group element 'c'",
        "leave out what does not move",
    ),
    (
        "g -> c * g",
        "g -> diag(c)",
        7,
        14,
        "'g' has the shape [d], but is moved to [d, d]",
        "an action keeps its param's shape",
    ),
    ("g -> c * g", "g -> c * x", 7, 18, "an action cannot read 'x', which is data", "it may read W, b, c, g"),
    ("positive(d)", "positve(d)", 6, 20, "unknown group 'positve'", "did you mean 'positive'?"),
    ("positive(d)", "positive(n, d)", 6, 20, "'positive' takes one dim, not 2", "write `positive(n)`"),
    (
        "positive(d)",
        "positive(1)",
        6,
        29,
        "'positive' cannot be of one number",
        "only a translation can: `translation(1)`, a number added everywhere",
    ),
    (
        "positive(d)",
        "translation(2)",
        6,
        32,
        "'translation' acts on a dim, or on 1, not on 2",
        "write `translation(1)` for one number, added everywhere",
    ),
    ("positive(d)", "positive(e)", 6, 29, "unknown dim 'e'", "dims here: d, n; dims are declared in `gauge g1(…)`"),
    ("every c", "every g", 6, 15, "'g' is declared twice", "the first is on line 4; every name has one meaning"),
    (
        "every c",
        "c",
        6,
        9,
        "expected 'every' after 'for', found 'c'",
        "it looks like `for every R in orthogonal(k):`, and under it one action a line: `W -> R @ W`",
    ),
    (
        "positive(d)",
        "orthogonal(d)",
        7,
        14,
        "'g' has the shape [d], but is moved to [d, d]",
        "an action keeps its param's shape",
    ),
    (
        "    fix    abs(g) == 1\n",
        "",
        6,
        15,
        "a gauge of positive(d) needs a fix line: the frame has no representative",
        "choose one with a fix line: `fix abs(g) == 1`, or `fix rownorm(W1) == colnorm(W2)`",
    ),
    ("abs(g) == 1", "abs(x) == 1", 11, 16, "a fix line cannot read 'x', which is data", "it may read W, b, g"),
    (
        "abs(g) == 1",
        "abs(b) == 1",
        11,
        5,
        "a model may lack 'b', and then the fix line has nothing to solve",
        "an absent param is zero: fix another, or their sum",
    ),
    ("abs(g) == 1", "abs(c) == 1", 11, 16, "a fix line cannot read 'c', the group element", "it may read W, b, g"),
    ("abs(g) == 1", "relu(g) == 1", 11, 12, "'relu' cannot stand in a fix line", "it knows abs, colnorm, rownorm"),
    (
        "abs(g) == 1",
        "colnorm(g) == 1",
        11,
        20,
        "'colnorm' takes a matrix, but `g` has the shape [d]",
        "the size of a vector's entries is `abs(g)`",
    ),
    (
        "abs(g) == 1",
        "rownorm(W) == 1",
        11,
        5,
        "a fix line of positive(d) has the shape [d], not [_] == []",
        "write one equation for each entry of the group element",
    ),
    (
        "abs(g) == 1",
        "1 == 1",
        11,
        5,
        "a fix line of positive(d) has the shape [d], not [] == []",
        "write one equation for each entry of the group element",
    ),
    ("abs(g) == 1", "colnorm(W) == 1\n fix abs(g) == 1", 12, 2, "a gauge has one fix line", "leave one out"),
    (
        "+ b)",
        "* b)",
        5,
        25,
        "a model may lack 'b', so it can only be added",
        "write `… + b`, or declare it without '?'",
    ),
    (
        "+ b)",
        "+ relu(b))",
        5,
        30,
        "a model may lack 'b', so it can only be added",
        "write `… + b`, or declare it without '?'",
    ),
    (
        "b -> c * b",
        "b -> c + b",
        8,
        14,
        "a model may lack 'b', and the action on 'b' needs it",
        "an absent param is zero and must stay zero: write `param b[…]` without '?'",
    ),
    ("x * g", "rleu(x)", 5, 17, "unknown operator 'rleu'", "did you mean 'relu'?"),
    ("x * g", "Relu(x)", 5, 17, "unknown operator 'Relu'", "did you mean 'relu'?"),
    ("x * g", "relu(x, 0)", 5, 17, "'relu' takes one argument, not 2", "write `relu(x)`"),
    ("x * g", "relu(x, eps=0)", 5, 17, "'relu' has no option 'eps'", "rms_norm and layer_norm have `eps`"),
    ("x * g", "x * g / 0", 5, 25, "division by zero", "write another number"),
    ("x * g", "x**g", 5, 20, "an exponent is a number", "write `x**2` or `x**(1/2)`; e to the x is `exp(x)`"),
    ("x * g", "x**100", 5, 20, "an exponent is at most 64", "write a smaller one"),
    ("x * g", "x * 1e99", 5, 21, "an exponent is at most 64", "write a smaller one"),
    (
        "x * g",
        "x*111111111111111111111111111111111111111111111111111",
        5,
        19,
        "a number has at most 50 digits",
        "write it shorter",
    ),
    (
        "x * g",
        "((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((x))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))",
        5,
        114,
        "the expression is nested more than 100 deep",
        "name a part of it with a model line of its own",
    ),
    (
        "x * g",
        "--------------------------------------------------------------------------------------------------------------------------------------------------------------------------------------------------------x",
        5,
        114,
        "the expression is nested more than 100 deep",
        "name a part of it with a model line of its own",
    ),
    (
        "x * g",
        "x * ü",
        5,
        21,
        "'ü' is not a letter of the language",
        "names are written with a-z, A-Z, 0-9 and _; only texts and comments may hold other characters",
    ),
    (
        "x * g",
        "x * é.5",
        5,
        21,
        "'é' is not a letter of the language",
        "names are written with a-z, A-Z, 0-9 and _; only texts and comments may hold other characters",
    ),
    ("x * g", "x * .5", 5, 21, "a number starts with a digit", "write 0 before the point"),
    ("x * g", "x ; g", 5, 19, "';' is not a sign of the language", "lines need no end mark"),
    (
        "x * g",
        "x * _g",
        5,
        21,
        "a name starts with a letter; '_' alone is a dim without a name",
        "begin the name with a letter",
    ),
    ("x * g", "x * \x00", 5, 21, "the text holds an invisible control character, U+0000", "remove it"),
    ("x * g", "x\t\t* gg", 5, 22, "unknown name 'gg'", "did you mean 'g'?"),
    ("x * g", "x.T @ g", 5, 21, "'@' cannot join [d, n] and [d]: 'n' is not 'd'", "`x @ g` fits"),
    (
        "x * g",
        "g.T * x",
        5,
        17,
        "'.T' swaps the last two axes, but `g` has the shape [d]",
        "leave .T out; `outer` and `diag` make matrices of vectors",
    ),
    (
        "diag(1/c)",
        "diag(1/c) @ ones(d)",
        9,
        14,
        "'W' has the shape [_, d], but is moved to [_]",
        "an action keeps its param's shape",
    ),
    (
        "W @ diag(1/c)",
        "W @ inv(c)",
        9,
        22,
        "'inv' takes a square matrix, but `c` has the shape [d]",
        "the inverse of a vector's entries is `1/c`",
    ),
    ("x * g", "ones(x)", 5, 22, "'ones' takes a dim", "dims here: d, n"),
    ("x * g", "ones(m)", 5, 22, "'ones' takes a dim", "dims here: d, n"),
    (
        "x * g",
        "x * rownorm(W)",
        5,
        21,
        "'rownorm' can stand only in a fix line",
        "it is a norm to solve the representative from",
    ),
    ("x * g", "d * g", 5, 17, "'d' is a dim, not a value", "`ones(d)` is a vector of ones"),
    ("x * g", "relu * g", 5, 17, "'relu' is an operator", "give it an argument: `relu(…)`"),
    ("x * g", "y * g", 5, 17, "a model line cannot read 'y', which is computed later", "it may read W, b, g, x"),
    ("x * g", "max(x, g)", 5, 24, "the second argument of 'max' is a number", "write `max(x, 0)`"),
    ("x * g", "x(g)", 5, 17, "'x' is a value, not an operator", "write '*' or '@' for a product"),
    (
        "each W[_, d]",
        "each W[d, _]",
        5,
        28,
        "'@' cannot join [n, d] and [_, d]: 'd' is not '_'",
        "torch keeps weights as [out, in]: `(x * g + b) @ W` fits",
    ),
    (
        "W @ diag(1/c)",
        "W * c / b",
        9,
        22,
        "a model may lack 'b', and this divides by it",
        "an absent param is zero: declare `b` without '?'",
    ),
    (
        "x * g",
        "x * g +",
        5,
        25,
        "expected an expression after '+', found '+'",
        "a model line looks like `model y = relu(x @ W.T + b)`",
    ),
    ("fix ", "fixx ", 11, 5, "unknown word 'fixx'", "did you mean 'fix'?"),
    ("given ", "givn ", 3, 5, "unknown word 'givn'", "did you mean 'given'?"),
    (
        "for every c in positive(d):",
        "for every c in positive(d)",
        6,
        31,
        "expected ':' after ')'",
        "it looks like `for every R in orthogonal(k):`, and under it one action a line: `W -> R @ W`",
    ),
    (
        "for every c in positive(d):",
        "",
        7,
        9,
        "an action stands outside of a 'for every' line",
        "it looks like `for every R in orthogonal(k):`, and under it one action a line: `W -> R @ W`",
    ),
    (
        "(1/c)",
        "(1/c",
        9,
        26,
        "expected an operator, ')' or ',' after 'c'",
        "it looks like `for every R in orthogonal(k):`, and under it one action a line: `W -> R @ W`",
    ),
    (
        "model  y",
        "model h = x\n model y",
        5,
        11,
        "the model value 'h' is never used",
        "use it in a model line, or leave it out",
    ),
    ("keeps  y", "keeps y, y", 10, 14, "'y' is kept twice", "leave one out"),
    ("gauge g1", "guage g1", 1, 1, "unknown word 'guage'", "did you mean 'gauge'?"),
    (
        "x * g",
        "cross_entropy(x, g)",
        5,
        34,
        "'cross_entropy' takes targets of shape [n], but `g` has the shape [d]",
        "one target for each row of the logits",
    ),
    (
        "x * g",
        "x @ g",
        5,
        23,
        "'+' cannot join [n] and [d]",
        "axes are lined up from the last, and every pair of them must be the same dim",
    ),
    (
        "y = (x",
        "y = g * W + (x",
        5,
        22,
        "'+' cannot join [_, d] and [n, _]",
        "axes are lined up from the last, and every pair of them must be the same dim",
    ),
    (
        "y = (x",
        "y = W * outer(ones(d), ones(d)) + (x",
        5,
        18,
        "'*' cannot join [_, d] and [d, d]",
        "'*' multiplies entry by entry; `W @ outer(ones(d), ones(d))` is the product of matrices",
    ),
    (
        "g -> c * g",
        "g -> c * g\n        g -> g * c",
        8,
        9,
        "'g' is moved twice",
        "the first action on it is on line 7; write one",
    ),
    (
        "every c in positive(d):",
        "every c in positive(d):\n        keeps",
        8,
        11,
        "expected ',' or the next line of the gauge after 'g', found '->'",
        "a keeps line names what must not change: `keeps y`",
    ),
    (
        "    for every c in positive(d):\n",
        "",
        6,
        9,
        "an action stands outside of a 'for every' line",
        "it looks like `for every R in orthogonal(k):`, and under it one action a line: `W -> R @ W`",
    ),
    ("keeps  y", "keps  y", 10, 5, "unknown word 'keps'", "did you mean 'keeps'?"),
    ("every c", "evry c", 6, 9, "unknown word 'evry'", "did you mean 'every'?"),
    ("model  y", "model  max", 5, 12, "'max' is an operator and cannot be a value", "choose another name"),
    (
        "keeps  y",
        "keeps y\n    for every a in torus(n): g -> a @ g",
        11,
        15,
        "gauge 'g1' has two 'for every' lines",
        "write a gauge for each group",
    ),
    (
        "x * g",
        "x * (g",
        5,
        34,
        "expected an operator or ')' after '.T'",
        "a model line looks like `model y = relu(x @ W.T + b)`",
    ),
    (
        "x * g",
        "x * g[",
        5,
        22,
        "a value is used whole: a shape in brackets stands only where a name is declared",
        "leave the brackets out",
    ),
    ("x * g", "rms_norm(eps=0, x)", 5, 33, "a value stands behind an option", "options come last: `f(x, eps=0)`"),
    ("x * g", "rms_norm(x, eps=0, eps=0)", 5, 36, "the option 'eps' is given twice", "leave one out"),
    ("x * g", "rms_norm(x, eps=-1)", 5, 17, "the option 'eps' is negative", "write 0 or more"),
    ("x * g", "x * g**(1/0)", 5, 24, "an exponent is a number", "write `x**2` or `x**(1/2)`; e to the x is `exp(x)`"),
    (
        "x * g",
        "rope(g) * x",
        5,
        22,
        "'rope' takes a value with a position and a width, but `g` has the shape [d]",
        "write `rope(x @ W.T)`",
    ),
    (
        "x * g",
        "outer(x, g)",
        5,
        23,
        "'outer' takes two vectors, but `x` has the shape [n, d]",
        "`outer(u, v)` has the rows u[i] * v",
    ),
    (
        "x * g",
        "diag(x)",
        5,
        22,
        "'diag' takes a vector, but `x` has the shape [n, d]",
        "it makes the matrix with the vector on its diagonal",
    ),
    (
        "x * g",
        "x * ggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggg",
        5,
        21,
        "a name has at most 64 characters",
        "choose a shorter name",
    ),
    (
        "x * g",
        "diag(g) @ x",
        5,
        25,
        "'@' cannot join [d, d] and [n, d]: 'd' is not 'n'",
        "torch keeps weights as [out, in]: `diag(g) @ x.T` fits",
    ),
    (
        "W @ diag(1/c)",
        "c * W.T",
        9,
        16,
        "'*' cannot join [d] and [d, _]",
        "axes are lined up from the last; to scale the rows write `diag(c) @ W.T`",
    ),
    (
        "W @ diag(1/c)",
        "diag(c) * W",
        9,
        22,
        "'*' cannot join [d, d] and [_, d]",
        "axes are lined up from the last, and every pair of them must be the same dim",
    ),
    ("x * g", "z * g", 5, 17, "unknown name 'z'", "names here: W, b, g, x"),
    (
        "x * g",
        "x & g",
        5,
        19,
        "'&' is not a sign of the language",
        "a model line looks like `model y = relu(x @ W.T + b)`",
    ),
    (
        "x[n, d]",
        "x[n d]",
        3,
        16,
        "expected ',' or ']' after 'n', found 'd'",
        "a given line looks like `given x[n, d], t[n]`",
    ),
    (
        "x[n, d]",
        "x[n, 3]",
        3,
        17,
        "expected '_' or a name after ',', found '3'",
        "a given line looks like `given x[n, d], t[n]`",
    ),
    (
        "abs(g) == 1",
        "abs(g) == 1 == 1",
        11,
        24,
        "expected an operator or the next line of the gauge after '1', found '=='",
        "a fix line is an equation: `fix abs(g) == 1`",
    ),
    (
        "abs(g) == 1",
        "abs(g)",
        11,
        18,
        "expected an operator or '==' after ')'",
        "a fix line is an equation: `fix abs(g) == 1`",
    ),
]

FILES = [
    ("gauge", 1, 6, "expected a name after 'gauge'", None),
    ('"a"', 1, 1, "expected a gauge, an op or an architecture, found '\"a\"'", None),
    ("use a from b", 1, 1, "expected a gauge, an op or an architecture, found 'use'", None),
    ("architecture q:\n use a form b", 2, 8, "unknown word 'form'", "did you mean 'from'?"),
    ("architecture q: use a from b optional optional", 1, 39, "'optional' stands twice behind this line", None),
    ("architecture a: use a\narchitecture b: use c", 2, 14, "a file holds at most one architecture", None),
    ("op f(x) = x\nop f(x) = x", 2, 4, "'f' is declared twice", "the first is on line 1; every name has one meaning"),
    ("op relu(x) = x", 1, 4, "'relu' is an operator already", None),
    ("op f(x) = y", 1, 11, "unknown name 'y'", "names here: x"),
    ("op f(x) = 1", 1, 6, "the op 'f' does not read its argument 'x'", None),
    ("op f(x) = softmax(x)", 1, 11, "'softmax' cannot stand in an op line", None),
    ("op f(x) = dropout(x)", 1, 11, "'dropout' cannot stand in an op line", None),
    ("op f(x) = f(x)", 1, 11, "unknown operator 'f'", None),
    (GOOD + GOOD, 12, 7, "'g1' is declared twice", "the first is on line 1; every name has one meaning"),
    (GOOD + "op square(x) = x**2", 12, 4, "the op 'square' is never used", "call it in a model line"),
    (GOOD + "op g(x) = x", 4, 12, "'g' is an operator and cannot be a value", None),
]


def failure(text: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        check(parse(text, "t.gauge"))
    assert caught.value.span is not None
    return caught.value


def test_good_is_good():
    check(parse(GOOD, "t.gauge"))


@pytest.mark.parametrize(("old", "new", "line", "column", "message", "help"), CASES)
def test_gauges(old: str, new: str, line: int, column: int, message: str, help: str):
    assert old in GOOD
    error = failure(GOOD.replace(old, new, 1))
    assert (error.message, error.help) == (message, help)
    assert (error.span.line, error.span.column) == (line, column)


@pytest.mark.parametrize(("text", "line", "column", "message", "help"), FILES)
def test_files(text: str, line: int, column: int, message: str, help: str | None):
    error = failure(text)
    assert error.message == message
    assert error.help if help is None else error.help == help
    assert (error.span.line, error.span.column) == (line, column)


def test_compact_groups_have_nothing_to_fix():
    error = failure(
        "gauge q(k, d): param W[k, d] model y = W.T @ W for every R in torus(k): W -> R @ W keeps y fix W == 1"
    )
    assert error.message == "torus(k) is compact, so there is nothing to fix"


def test_long_texts_are_refused():
    with pytest.raises(SpecError, match="longer than 1,000,000 characters"):
        parse("#" * 1_000_001, "t.gauge")


@pytest.mark.parametrize("deep", ["(" * 6_000, "-" * 6_000, "x + " * 6_000, "f(" * 6_000, "x**" * 6_000])
def test_deep_nesting_is_no_recursion_error(deep: str):
    closing = "x" + ")" * deep.count("(")
    assert failure(GOOD.replace("x * g", deep + closing)).message == "the expression is nested more than 100 deep"
    failure(GOOD.replace("x * g", deep))


def test_other_bounds():
    wide = f"f({', '.join(['x'] * 2000)})"
    assert failure(GOOD.replace("x * g", wide)).message == "the expression has more than 2,000 parts"
    many = ", ".join(f"x{i}[d]" for i in range(200))
    assert failure(GOOD.replace("x[n, d]", many)).message == "a gauge declares at most 100 names"


def test_fresh_dims():
    error = failure(GOOD.replace("x[n, d]", "x[_, d], z[_, d]").replace("x * g", "x * g + z").replace("(n, d)", "(d)"))
    assert error.message == "'+' cannot join [_, d] and [_, d]"
    assert error.help == "every '_' is a dim of its own: declare a name for one that is shared"
    error = failure(GOOD.replace("x[n, d]", "x[n, d, d, d, d, d, d, d, d]"))
    assert error.message == "a value has at most 8 axes"


def test_the_nesting_allowed_is_enough():
    check(parse(GOOD.replace("x * g", "x" + " * g" * 96), "t.gauge"))


def test_what_an_error_looks_like():
    error = failure(GOOD.replace("@ W.T", "@ W"))
    assert (
        str(error)
        == """\
t.gauge:5:28: '@' cannot join [n, d] and [_, d]: 'd' is not '_'
   5 |     model  y = (x * g + b) @ W
     |                            ^
help: torch keeps weights as [out, in]: `(x * g + b) @ W.T` fits"""
    )
    assert error.__context__ is None and error.__cause__ is None


def picture(line: str, column: int, end: int) -> str:
    register_source("p", line)
    drawn = draw(Span("p", 1, column, 1, end))
    assert drawn is not None
    return drawn


def test_carets_stand_under_what_they_mean():
    assert picture("a\tb", 3, 4) == "   1 | a   b\n     |     ^"
    assert picture("ab\tc\td", 4, 7) == "   1 | ab  c   d\n     |     ^^^^^"
    assert picture("日本 x", 4, 5) == "   1 | 日本 x\n     |      ^"
    assert picture("e\u0301 x", 4, 5) == "   1 | e\u0301 x\n     |   ^"
    assert picture("a\0b", 2, 3) == "   1 | a\\x00b\n     |  ^^^^"
    assert picture("a\u202eb\ud800", 4, 4) == "   1 | a\\u202eb\\ud800\n     |         ^^^^^^"
    assert picture("abc", 4, 4) == "   1 | abc\n     |    ^"
    assert picture("", 1, 1) == "   1 |\n     | ^"
    assert picture("abc\r", 9, 12) == "   1 | abc\n     |    ^"


def test_long_lines_are_cropped_around_the_caret():
    top, bottom = picture("a" * 500 + "!" + "b" * 500, 501, 502).split("\n")
    assert len(top) < 120 and top.index("!") == bottom.index("^")
    assert top.count("…") == 2
    top, bottom = picture("!" + "b" * 500, 1, 400).split("\n")
    assert len(bottom) < 120 and top.index("!") == bottom.index("^")
    top, bottom = picture("a" * 500 + "!", 501, 502).split("\n")
    assert top.endswith("!") and top.index("!") == bottom.index("^")


def test_spans_of_several_lines_and_of_none():
    register_source("p", "ab\ncd")
    assert draw(Span("p", 1, 2, 2, 2)) == "   1 | ab\n     |  ^"
    assert draw(Span("p", 9, 1, 9, 1)) is None
    assert draw(Span("unknown", 1, 1, 1, 1)) is None
    assert str(GaugeError("bad", Span("unknown", 1, 2, 1, 3), "mend it")) == "unknown:1:2: bad\nhelp: mend it"
    assert str(GaugeError("bad")) == "bad"


def test_old_sources_are_forgotten_and_the_newest_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "KEPT", 100)
    for number in range(1000):
        register_source(f"s{number % 500}", "a" * 30)
    assert [n for n in range(500) if source_line(f"s{n}", 1) is not None] == [497, 498, 499]
    register_source("s498", "b" * 30)  # which is now the newest
    register_source("s0", "a" * 60)
    assert source_line("s497", 1) is None and source_line("s498", 1) == "b" * 30
    register_source("large", "a" * 200)
    assert source_line("large", 1) == "a" * 200 and source_line("s0", 1) is None
    assert str(GaugeError("bad", Span("s0", 1, 1, 1, 2))) == "s0:1:1: bad"


def test_errors_keep_their_picture_and_travel():
    register_source("p", "old")
    error = MatchError("bad", Span("p", 1, 1, 1, 4))
    register_source("p", "new")
    assert str(error) == "p:1:1: bad\n   1 | old\n     | ^^^"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert issubclass(ProofError, GaugeError) and not issubclass(ProofError, SpecError)
