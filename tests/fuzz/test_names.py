"""Names, docstrings and parameters that try to break out of the source that is written with them.

A tiny model is really compiled: the source must have the very shape of the one with plain names (its tree, strings and
comments apart), load, and act as it should.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import gaugec
import gaugec.runtime
from fuzz.gauges import NAMES
from gaugec.codegen.text import words
from gaugec.literals import flat, literal, quote
from runtime import handmade

SPEC = '''gauge {gauge}({n}, {d}, {f}):
    {doc}
    given  {x}[{n}, {d}]
    param  {up}[{f}, {d}], {down}[{d}, {f}]
    model  {y} = relu({x} @ {up}.T) @ {down}.T
    for every {c} in positive({f}):
        {up} -> diag({c}) @ {up}
        {down} -> {down} @ diag(1/{c})
    keeps  {y}
    fix    rownorm({up}) == colnorm({down})
'''
PLAIN = dict(gauge="g", n="n", d="d", f="f", x="x", up="W1", down="W2", y="y", c="c", doc='"Doc."')
BREAKOUTS = (
    '"', "'", '"""', "'''", "\\", '\\"', '\\"""', "\n", "\r\nimport os\n", "\t", "\0", "{{ 1 }}", "{% x %}", "{0}",
    "%s", "#",
    "):\n    pass", '"; import os #', '")\nopen("/tmp/x")',
    "\u202e", "\u2028", "é漢", "\ufeff", " ", "x" * 300, "class",
    "__class__",
    "N\\{DIGIT ONE}", "\\x41", "\\u0041", "f'{1}'", "\x1b[2J", "\x85",
)  # fmt: skip


class Net(torch.nn.Module):
    """relu between two matrices, whose names are the caller's."""

    def __init__(self, up: str, down: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.names = (up, down)
        self.register_parameter(up, torch.nn.Parameter(torch.randn(7, 5)))
        self.register_parameter(down, torch.nn.Parameter(torch.randn(3, 7)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        up, down = (self._parameters[name] for name in self.names)
        assert up is not None and down is not None
        return torch.relu(x @ up.T) @ down.T


class Blank(ast.NodeTransformer):
    """Makes all strings alike, and names nothing else."""

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.copy_location(ast.Constant("" if isinstance(node.value, str) else node.value), node)

    def visit_Assign(self, node: ast.Assign) -> ast.Assign:
        return self.generic_visit(node)  # type: ignore[return-value]


def shape(source: str) -> str:
    """The tree of a source without the text of its strings, and without the literal METADATA, which is data."""
    tree = ast.parse(source)
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "METADATA":
            ast.literal_eval(node.value)  # type: ignore[arg-type]
            node.value = ast.Constant("")
    return ast.dump(Blank().visit(tree))


def compiled(folder: Path, names: dict[str, str], up: str = "first", down: str = "second") -> gaugec.runtime.Gauge:
    path = folder / "spec.gauge"
    path.write_text(SPEC.format(**{**PLAIN, **names}), encoding="utf-8")
    model = Net(up, down)
    x = torch.randn(4, 5)
    made = gaugec.compile(path, model, (x,))
    made.save(folder / "made.py")
    again = gaugec.runtime.load(folder / "made.py")
    assert again.source == made.source
    params = dict(model.named_parameters())
    moved = again.act(params, again.random_element(torch.Generator().manual_seed(1)))
    after = torch.relu(x.double() @ moved[up].T.double()) @ moved[down].T.double()
    before = torch.relu(x.double() @ params[up].T.double()) @ params[down].T.double()
    assert torch.allclose(before, after, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(params[up], moved[up])
    assert set(again.parameters) == {up, down}
    return again


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    return shape(compiled(tmp_path_factory.mktemp("plain"), {}).source)


def test_names_of_a_spec(plain: str, tmp_path: Path) -> None:
    pool = [name for name in NAMES if name not in ("in", "from", "for", "not", "is")]
    keys = [key for key in PLAIN if key != "doc"]
    for turn in range(0, len(pool) - len(keys), 3 * len(keys)):
        names = dict(zip(keys, pool[turn:]))
        for dim in "ndf":
            names[dim] = names[dim].lower()
        names["up"], names["down"] = sorted((names["up"], names["down"]))  # what is sorted by name stays in order
        if len(set(names.values())) == len(names):
            assert shape(compiled(tmp_path, names).source) == plain, names


@pytest.mark.parametrize("names", [("COMPONENTS", "METADATA"), ("print", "torch"), ("x", "x_")])
def test_names_of_parameters_that_the_source_has(plain: str, tmp_path: Path, names: tuple[str, str]) -> None:
    assert shape(compiled(tmp_path, {}, *names).source) == plain


def test_keywords_as_names_of_parameters(plain: str, tmp_path: Path) -> None:
    assert shape(compiled(tmp_path, {}, "class", "lambda").source) == plain


DOCS = [text for text in BREAKOUTS if not set(text) & set('"\n\r\0\u202e\u2028\x1b\x85\ufeff')]
STRANGE = [text for text in BREAKOUTS if not set(text) & set('"\n\r\0\\')]
TAKEN_FOR_CODE = [text for text in BREAKOUTS if set(text) & set('"\n\r\0')]


def test_docstrings_and_names_of_parameters_that_break_out(plain: str, tmp_path: Path) -> None:
    for turn, text in enumerate(DOCS[::3]):
        names = {"doc": f'"{text}"'}
        strange = STRANGE[turn % len(STRANGE)]
        assert shape(compiled(tmp_path, names, f"a{strange}", f"b{strange}").source) == plain, (text, strange)


@pytest.mark.parametrize("text", TAKEN_FOR_CODE)
def test_names_of_parameters_that_torch_would_run_are_refused(tmp_path: Path, text: str) -> None:
    """torch.fx writes parameter names into source text as they are, and runs it."""
    with pytest.raises(gaugec.MatchError, match="holds a double quote or a line break") as caught:
        compiled(tmp_path, {}, f"a{text}", "b")
    assert str(caught.value).isprintable() or "\n" in str(caught.value)


def test_a_name_of_a_module_does_not_run(tmp_path: Path) -> None:
    class Outer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module(f'a", open({str(tmp_path / "run")!r}, "w"), "', Net("first", "second"))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return next(self.children())(x)

    (tmp_path / "spec.gauge").write_text(SPEC.format(**PLAIN))
    with pytest.raises(gaugec.MatchError, match="holds a double quote"):
        gaugec.compile(tmp_path / "spec.gauge", Outer(), (torch.randn(4, 5),))
    assert not (tmp_path / "run").exists()


TEXTS = st.text(max_size=12) | st.lists(st.sampled_from(BREAKOUTS), max_size=4).map("".join)


@settings(max_examples=80, deadline=None)
@given(TEXTS)
@example('\\"')
@example("\ud800")
def test_a_string_literal_is_that_string(text: str) -> None:
    assert ast.literal_eval(quote(text)) == text
    assert quote(text).isascii() and quote(text).isprintable()
    for column in (0, 110):
        assert ast.literal_eval(literal(text * 20, column, 8)) == text * 20
    assert ast.literal_eval(flat({text: (text, [text])})) == {text: (text, [text])}


@settings(max_examples=80, deadline=None)
@given(TEXTS)
def test_words_stay_in_comments_and_docstrings(text: str) -> None:
    assert ast.literal_eval(f'"""{words(text)}"""').split() == words(text).split()
    tree = ast.parse(f"x = 1  # {words(text)}\n")
    assert len(tree.body) == 1


def emitted(gauge: str, up: str, down: str, first: str, second: str, theorem: str, metadata: dict[str, str]) -> str:
    bindings = [
        handmade.linear(up, first, 7, 5, handmade.UP, 0),
        handmade.linear(down, second, 3, 7, handmade.DOWN, 1),
    ]
    fix = handmade.equation(handmade.norm("rownorm", up), handmade.norm("colnorm", down))
    sites = [handmade.site(gauge, 0, "positive", 1, 7, bindings, fix, theorem=theorem, place=theorem)]
    return handmade.written(sites, {first: (7, 5), second: (3, 7)}, metadata)


@settings(max_examples=15, deadline=None)
@given(st.lists(TEXTS, min_size=6, max_size=6), st.dictionaries(TEXTS, TEXTS, max_size=3))
def test_an_emitted_module_keeps_its_shape(texts: list[str], metadata: dict[str, str]) -> None:
    """Any gauge name, role, parameter, place and theorem: only strings differ from the module with plain ones."""
    gauge, up, down, first, second, theorem = texts
    down, second = down + (up + "'") * (down == up), second + (first + "'") * (second == first)
    # what is sorted by name is in the order of the plain names
    (up, down), (first, second) = sorted((up, down)), sorted((first, second))
    made = emitted(gauge, up, down, first, second, theorem, metadata)
    assert shape(made) == shape(emitted("g", "a", "b", "p", "q", "Doc.", {}))
    assert gaugec.runtime.Gauge(made).parameters == (first, second)
