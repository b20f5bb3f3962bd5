"""Finding specs, following `use` lines, and refusing files that cannot be read."""

from __future__ import annotations

import importlib.resources
import sys
from pathlib import Path

import pytest

from gaugec.errors import SpecError
from gaugec.language import load, shipped

GAUGE = """\
gauge {name}(n, d):
    "Doc of {name}."
    given  x[n, d]
    param  W[_, d], V[_, d]
    model  y = (x @ W.T) @ (x @ W.T).T + (x @ V.T) @ (x @ V.T).T
    for every R in orthogonal(d):
        W -> W @ R
        V -> V @ R
    keeps  y
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.gauge"
    path.write_text(text, encoding="utf-8")
    return path


def failure(spec: object) -> SpecError:
    with pytest.raises(SpecError) as caught:
        load(spec)  # type: ignore[arg-type]
    assert caught.value.__cause__ is None
    return caught.value


def test_a_file_without_architecture_requires_every_gauge(tmp_path: Path):
    path = write(tmp_path, "two", GAUGE.format(name="a") + GAUGE.format(name="b"))
    for spec in (load(path), load(str(path))):
        assert (spec.name, spec.doc) == ("two", "")
        assert [(entry.gauge.name, entry.required, entry.approximate) for entry in spec.entries] == [
            ("a", True, False),
            ("b", True, False),
        ]


def test_use_looks_beside_the_file_first_and_then_at_what_ships(tmp_path: Path):
    write(tmp_path, "norms", GAUGE.format(name="mine"))
    lines = "use mine from norms optional\n use relu_rescale from mlp approximate\n use own"
    spec = load(write(tmp_path, "arch", f'architecture arch: "Doc." {lines}\n' + GAUGE.format(name="own")))
    assert spec.doc == "Doc."
    assert [(entry.gauge.name, entry.required, entry.approximate) for entry in spec.entries] == [
        ("mine", False, False),
        ("relu_rescale", True, True),
        ("own", True, False),
    ]
    error = failure(write(tmp_path, "other", "architecture other: use norm_gain from norms"))
    assert (error.message, error.help) == ("'norms' defines no gauge 'norm_gain'", "gauges in 'norms' here: mine")


def test_an_architecture_may_use_another(tmp_path: Path):
    write(tmp_path, "base", "architecture base: use norm_gain from norms use logit_shift from head optional")
    spec = load(write(tmp_path, "more", "architecture more: use base from base use relu_rescale from mlp"))
    assert [(entry.gauge.name, entry.required) for entry in spec.entries] == [
        ("norm_gain", True),
        ("logit_shift", False),
        ("relu_rescale", True),
    ]
    error = failure(write(tmp_path, "twice", "architecture twice: use base from base, norm_gain from norms"))
    assert error.message.startswith("expected")
    error = failure(write(tmp_path, "twice", "architecture twice: use base from base use norm_gain from norms"))
    assert error.message == "the gauge 'norm_gain' is used twice"


def test_circles(tmp_path: Path):
    write(tmp_path, "a", "architecture a: use b from b")
    path = write(tmp_path, "b", "architecture b: use a from a")
    error = failure(path)
    assert error.message.startswith("architecture 'b' uses itself: ")
    assert error.help == "break the circle"
    assert failure(write(tmp_path, "c", "architecture c: use c")).message.startswith("architecture 'c' uses itself")
    for index in range(40):
        write(tmp_path, f"n{index}", f"architecture n{index}: use n{index + 1} from n{index + 1}")
    assert failure(tmp_path / "n0.gauge").message == "more than 20 architectures use each other"


@pytest.mark.parametrize(
    ("text", "message", "help"),
    [
        (
            "architecture q: use nothing from norms",
            "'norms' defines no gauge 'nothing'",
            "gauges in 'norms' here: gain_relu, norm_gain",
        ),
        (
            "architecture q: use norm_gian from norms",
            "'norms' defines no gauge 'norm_gian'",
            "did you mean 'norm_gain'?",
        ),
        (
            "architecture q: use norm_gain",
            "this file defines no gauge 'norm_gain'",
            "say where it is: `use norm_gain from …`",
        ),
        ('architecture q: "Doc."', "architecture 'q' uses no gauge", "add lines like `use norm_gain from norms`"),
        (
            "architecture q: use norm_gain from nrms",
            "there is no spec 'nrms'",
            "there is no nrms.gauge beside this file; did you mean 'norms'?",
        ),
        (
            "architecture q: use norm_gain from norms use norm_gain from norms",
            "the gauge 'norm_gain' is used twice",
            "leave one out",
        ),
        (
            "architecture q: use norm_gain from norms\n" + GAUGE.format(name="idle"),
            "architecture 'q' does not use the gauge 'idle' of its own file",
            "add `use idle`, or leave the gauge out",
        ),
    ],
)
def test_use_errors(tmp_path: Path, text: str, message: str, help: str):
    error = failure(write(tmp_path, "q", text))
    assert (error.message, error.help) == (message, help)
    assert error.span is not None and str(error.span.file).endswith("q.gauge")


def test_an_error_in_a_used_file_is_shown_there(tmp_path: Path):
    write(tmp_path, "bad", GAUGE.format(name="a").replace("keeps  y", "keeps  z"))
    error = failure(write(tmp_path, "q", "architecture q: use a from bad"))
    assert error.span is not None and error.span.file == str(tmp_path / "bad.gauge") and error.span.line == 9


def test_files_that_cannot_be_read(tmp_path: Path):
    path = tmp_path / "x.gauge"
    assert failure(path).message == f"there is no file '{path}'"
    assert failure(tmp_path).message == f"'{tmp_path}' is a folder, not a spec"
    path.write_bytes(b"# \n\xff")
    assert failure(path).message == f"{path}: the file is not UTF-8 text (byte 3, line 2)"
    path.write_bytes(b"gauge \0")
    assert failure(path).message == "the text holds an invisible control character, U+0000"
    path.write_bytes(b"#" * 1_000_001)
    assert failure(path).message == f"{path}: the file is larger than 1,000,000 bytes"
    for empty in (b"", b"# nothing\n", b"op f(x) = x"):
        path.write_bytes(empty)
        assert failure(path).message == f"{path}: there is no gauge in this file"


def test_names_that_are_not_there():
    error = failure("lama")
    assert (error.message, error.help) == ("there is no shipped spec 'lama'", "did you mean 'llama'?")
    for name in ("", "../norms", "a\0b", "\ud800", "x" * 10_000, "/dev/null", "norms.gauge"):
        assert failure(name).help
    with pytest.raises(TypeError):
        load(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        load(b"llama")  # type: ignore[arg-type]


def test_a_source_tree_that_is_not_installed(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    expected = load("llama")
    tree = Path(__file__).parents[2]  # the tests may run against an installed package
    monkeypatch.setattr(sys.modules[load.__module__], "__file__", str(tree / "gaugec" / "language" / "load.py"))
    monkeypatch.setattr(importlib.resources, "files", missing)
    assert "llama" in shipped()
    load("norms")  # the grammar is cached by now: only the specs are looked up again
    assert load("llama") == expected


def test_the_hash_follows_every_text_and_not_the_place(tmp_path: Path):
    def made(folder: str, used: str, ends: str = "\n") -> str:
        home = tmp_path / folder
        home.mkdir()
        (home / "used.gauge").write_bytes(used.replace("\n", ends).encode())
        return load(write(home, "q", "architecture q: use a from used")).sha256

    text = GAUGE.format(name="a")
    first = made("one", text)
    assert first == made("two", text) == made("three", text, "\r\n") == made("four", "\ufeff" + text)
    assert first != made("five", text + "# more\n")
