"""Certificates: what a compiled file says of itself, and that every change of file, spec or model is named."""

from __future__ import annotations

import ast
import copy
import dataclasses
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from clocks import TICK, Clock
from thinned import thinned
from torch import nn
from torch.nn import functional as F
from unit_scale import unit_scale

import gaugec
from gaugec import limits
from gaugec.certificate import read as reading
from gaugec.certificate import write as certificate
from gaugec.cli import main
from gaugec.graph.ir import Along, Concatenation, Contraction, Graph, Leaf, Map, Node, Opaque, Sum
from gaugec.graph.statement import Digit, Region
from gaugec.pipeline.compile import stated
from gaugec.proof import prove
from gaugec.proof.theorem import Theorem
from gaugec.runtime import extent, load
from gaugec.runtime.certificate import unfolded
from gaugec.runtime.ranges import LENGTH, LIMIT
from gaugec.runtime.report import report as in_words
from gaugec.runtime.roles import Matrices, Role
from gaugec.runtime.seal import sealed
from gaugec.tracing.trace import trace

SPEC = unit_scale()

MODELS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, act=torch.relu, units=7, extra=False, name="down"):
        super().__init__()
        torch.manual_seed(0)
        self.act, self.extra, self.name = act, extra, name
        self.up = nn.Linear(5, units)
        setattr(self, name, nn.Linear(units, 3))
        self.side = nn.Linear(units, 2) if extra else None

    def forward(self, x):
        hidden = self.act(self.up(x))
        y = getattr(self, self.name)(hidden)
        return (y, self.side(hidden)) if self.extra else y

def shown(model, rows=4): return model, (torch.linspace(-1, 1, 5 * rows).reshape(rows, 5).sin(),)
def plain(): return shown(Net())
def trained():
    model, inputs = shown(Net())
    with torch.no_grad():
        model.up.weight.mul_(3.0)
    return model, inputs
"""
namespace: dict[str, Any] = {}
exec(MODELS, namespace)
Net, shown = namespace["Net"], namespace["shown"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a spec, a model and the gauge compiled from them."""
    folder = tmp_path_factory.mktemp("recheck")
    (folder / "unit.gauge").write_text(SPEC)
    (folder / "models_to_check.py").write_text(MODELS)
    model, args = shown(Net())
    gaugec.compile(folder / "unit.gauge", model, args).save(folder / "net.py")
    return folder


@pytest.fixture
def source(home: Path) -> str:
    return (home / "net.py").read_text()


def found(result: Any) -> dict[str, str]:
    return {check.name: check.verdict for check in result.checks}


def says(result: Any, name: str) -> str:
    return next(check.says for check in result.checks if check.name == name)


def call(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def again(home: Path, path: str | Path, *workload: Any, **words: Any) -> Any:
    """A recheck that is told where the spec is: the certificate is not believed."""
    return gaugec.recheck(home / path, *workload, spec=home / "unit.gauge", **words)


ALL = ["file", "spec", "proofs", "model", "assumed", "sites", "code"]


# --- unchanged


def test_nothing_has_changed(home: Path) -> None:
    model, args = shown(Net())
    before = prove.proofs_made()
    result = again(home, "net.py", model, args)
    assert result and result.ok, str(result)
    assert found(result) == dict.fromkeys(ALL, "ok") and not result.notes
    assert prove.proofs_made() - before == 2, "what an earlier compile proved is not believed, at no size"


def test_trained_weights_and_another_seed_are_no_change(home: Path) -> None:
    model, args = namespace["trained"]()
    assert again(home, "net.py", model, args)


def test_inputs_made_under_inference_mode_are_no_change(home: Path) -> None:
    model, args = shown(Net())
    with torch.inference_mode():
        inputs = tuple(x.clone() for x in args)
    assert inputs[0].is_inference()
    result = again(home, "net.py", model, inputs)
    assert result.ok, str(result)


def test_without_a_model_it_says_that_it_did_not_look(home: Path) -> None:
    result = again(home, "net.py")
    assert result and found(result) == dict.fromkeys(ALL[:3], "ok")
    assert "the model was not looked at" in " ".join(result.notes)


@pytest.mark.parametrize("seed", thinned(["1", "2"], 2))
def test_another_process_finds_the_same(home: Path, seed: str) -> None:
    words = [sys.executable, "-m", "gaugec", "report", "net.py", "--recheck", "models_to_check:plain"]
    words += ["--spec", "unit.gauge"]
    environment = os.environ | {"PYTHONHASHSEED": seed}
    done = subprocess.run(words, env=environment, cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("  ok  ") == 7 and "differs" not in done.stdout
    assert "\x1b" not in done.stdout and done.stderr == ""


# --- another model


def tied() -> tuple[nn.Module, tuple[Any, ...]]:
    model, args = shown(Net(units=3))
    model.down.bias = model.up.bias
    return model, args


CHANGED: list[tuple[str, Callable[[], Any], str, str]] = [
    ("activation", lambda: shown(Net(act=F.leaky_relu)), "differs", "where there is leaky_relu now"),
    ("unsound activation", lambda: shown(Net(act=F.gelu)), "differs", "where there is gelu now"),
    ("size", lambda: shown(Net(units=8)), "differs", "up.weight had the shape (7, 5), has (8, 5) now"),
    ("reader", lambda: shown(Net(extra=True)), "differs", "it has side.weight now"),
    ("name", lambda: shown(Net(name="last")), "ok", "it had down.weight, it has last.weight now"),
    ("input", lambda: shown(Net(), rows=6), "ok", "the input x had the shape (4, 5), has (6, 5) now"),
]


@pytest.mark.parametrize(("made", "sites", "words"), [case[1:] for case in CHANGED], ids=[case[0] for case in CHANGED])
def test_a_changed_model_is_named(home: Path, made: Callable[[], Any], sites: str, words: str) -> None:
    model, args = made()
    result = again(home, "net.py", model, args)
    assert not result
    assert found(result)["file"] == found(result)["spec"] == found(result)["proofs"] == "ok"
    assert found(result)["model"] == "differs" and words in says(result, "model"), str(result)
    if sites == "differs":
        assert found(result)["sites"] == "differs", str(result)


def test_a_weight_that_is_tied_now(tmp_path: Path) -> None:
    model, args = shown(Net(units=3))
    spec = SPEC.replace("gauge unit_scale", "gauge scale")
    (tmp_path / "unit.gauge").write_text(spec)
    gaugec.compile(tmp_path / "unit.gauge", model, args).save(tmp_path / "net.py")
    result = gaugec.recheck(tmp_path / "net.py", *tied(), spec=tmp_path / "unit.gauge")
    assert not result and "it had down.bias" in says(result, "model"), str(result)
    assert found(result)["sites"] == "differs", "the tied bias moves what it must not"


def test_a_model_that_cannot_be_traced(home: Path) -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x) if x.sum() > 0 else x

    result = again(home, "net.py", Branch(), shown(None)[1])
    assert not result and found(result)["model"] == "differs" and found(result)["code"] == "not done"


def test_the_word_on_the_loss_is_not_taken_from_the_file(home: Path, tmp_path: Path) -> None:
    model, args = shown(Net())
    path = tmp_path / "net.py"
    gaugec.compile(home / "unit.gauge", model, args, loss="cross_entropy").save(path)
    result = again(home, path, model, args)
    words = (
        'the certificate says cross_entropy, which only you can know: say loss="cross_entropy", on the command line '
        "--loss, if that is what is trained"
    )
    assert not result and found(result)["model"] == "not done" and says(result, "model") == words
    assert [found(result)[name] for name in ("assumed", "sites", "code")] == ["not done"] * 3
    assert again(home, path, model, args, loss="cross_entropy")


def test_another_word_on_the_loss(home: Path) -> None:
    model, args = shown(Net())
    result = again(home, "net.py", model, args, loss="cross_entropy")
    assert not result and 'this recheck says loss="cross_entropy"' in says(result, "model")


def test_another_setting_is_named(home: Path) -> None:
    """What the certificate says of a setting is held against the model, and against what its forward reads."""
    model, args = shown(Net())
    model.extra = 0
    result = again(home, "net.py", model, args)
    assert not result and says(result, "assumed") == "first difference: extra was False, is 0"
    assert found(result) == dict.fromkeys(ALL, "ok") | {"assumed": "differs"}


# --- another spec


@pytest.mark.parametrize(
    ("old", "new", "proofs", "words"),
    [
        ("gauge unit", "# a comment\ngauge unit", "ok", "changed since"),
        ("diag(1/c)", "diag(c)", "differs", "unit_scale is refused"),
        ("relu(x @ W1.T + b1)", "gelu(x @ W1.T + b1)", "differs", "unit_scale is refused"),
        ("unit_scale", "scale_of_units", "differs", "the certificate has unit_scale, there is scale_of_units now"),
        ("keeps  y", "keeps  z", "not done", "the spec cannot be read"),
    ],
    ids=["comment", "action", "formula", "name", "broken"],
)
def test_a_changed_spec_is_named(home: Path, tmp_path: Path, old: str, new: str, proofs: str, words: str) -> None:
    changed = tmp_path / "unit.gauge"
    changed.write_text(SPEC.replace(old, new))
    assert changed.read_text() != SPEC
    result = gaugec.recheck(home / "net.py", spec=changed)
    assert not result
    assert found(result) == {"file": "ok", "spec": "differs", "proofs": proofs}
    assert words in says(result, "spec") + says(result, "proofs"), str(result)


@pytest.mark.parametrize("named", ["unit.gauge", "gone.gauge", "secret.txt", "{folder}/secret.txt", "/dev/stdin"])
def test_a_path_that_the_certificate_names_is_not_opened(
    home: Path, tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("secret.txt").write_text("password hunter2\n")
    Path("unit.gauge").write_text(SPEC)
    named = named.format(folder=tmp_path)
    Path("net.py").write_text(sealed(source.replace(str(home / "unit.gauge"), named)))
    result = call("report", "net.py", "--recheck")
    words = f"the certificate names `{named}`, which is no spec that ships; say where it is with --spec"
    assert result.exit_code == 1 and words in result.stdout
    assert "password" not in result.output and "hunter2" not in result.output
    assert found(gaugec.recheck("net.py")) == {"file": "ok", "spec": "not done", "proofs": "not done"}
    result = call("report", "net.py", "--recheck", "--spec", str(home / "unit.gauge"))
    assert result.exit_code == 0, result.output


# --- another file


def edits() -> list[tuple[str, str, str, str, str]]:
    """(what, old, new, which check sees it by itself, what it says)."""
    return [
        ("coefficient", 'Row("W2", "down", "m k"', 'Row("W2", "down", "k m"', "code", "; the compiler writes `Row("),
        ("power", "power=-1", "power=1", "code", "the compiler writes"),
        ("verdict", '"gauge": "unit_scale", "verdict": "proved"', '"gauge": "unit_scale", "verdict": "believed"',
         "proofs", "unit_scale: verdict is `'believed'` in the certificate, `'proved'` now"),
        ("condition", '"conditions": ["c > 0"]', '"conditions": []', "proofs", "conditions[0] is"),
        ("site", '"up.weight", "up.bias", "down', '"up.bias", "up.bias", "down', "sites",
         "parameters[0] is `'up.bias'`"),
        ("role", '"exponent": "-1"', '"exponent": "2"', "sites", "layout, bindings[2], exponent is `'2'`"),
        ("ungauged", '"ungauged": {', '"ungauged": {"nothing": "no gauge", ', "code", "line"),
        ("comment", "# fix rownorm", "# fixes rownorm", "code", "line"),
        ("a line more", "\nCOMPONENTS = ", "\nprint(1)\nCOMPONENTS = ", "code", "is `print(1)`"),
    ]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "seen", "words"), [e[1:] for e in edits()], ids=[e[0] for e in edits()])
def test_an_edit_is_found_even_where_the_hash_was_made_again(
    home: Path, tmp_path: Path, source: str, old: str, new: str, seen: str, words: str
) -> None:
    edited = source.replace(old, new, 1)
    assert edited != source, f"the compiled file has no {old!r}"
    path = tmp_path / "net.py"
    path.write_text(edited)
    result = again(home, path)
    assert not result and found(result)["file"] == "differs"
    path.write_text(sealed(edited))
    model, args = shown(Net())
    result = again(home, path, model, args)
    assert not result and found(result)["file"] == "ok", "the forger's hash is right"
    assert found(result)[seen] == "differs" and words in says(result, seen), str(result)
    assert found(result)["code"] == "differs", "and the compiler writes another file"


def test_a_function_that_was_taken_out(home: Path, tmp_path: Path, source: str) -> None:
    start = source.index("    def fix(")
    path = tmp_path / "net.py"
    path.write_text(source[:start] + source[source.index("    def coefficients(") :])
    model, args = shown(Net())
    result = again(home, path, model, args)
    line = source[:start].count("\n") + 1
    assert found(result) == dict.fromkeys(ALL, "ok") | {"file": "differs", "code": "differs"}
    assert f"line {line} is `def coefficients(" in says(result, "code"), str(result)


def test_line_ends_are_no_change(home: Path, tmp_path: Path, source: str) -> None:
    (tmp_path / "net.py").write_bytes(source.replace("\n", "\r\n").encode())
    assert again(home, tmp_path / "net.py")


def test_another_machine_and_another_release_are_said_but_no_change(home: Path, tmp_path: Path, source: str) -> None:
    said = reading.read(home / "net.py").metadata
    witness = said["witness"] | {"error": "3.0e-16", "control": "9.9e-02"}
    other = certificate.restated(source, {"gaugec": "0.0.9", "torch": "2.99", "witness": witness})
    (tmp_path / "net.py").write_text(sealed(other))
    model, args = shown(Net())
    result = again(home, tmp_path / "net.py", model, args)
    assert result.ok, str(result)
    assert result.notes == (
        f"compiled by gaugec 0.0.9, this is {gaugec.__version__}",
        f"compiled with torch 2.99, this is {torch.__version__}",
    )


# --- report does not run what it reads


def test_report_does_not_run_the_file(home: Path, tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(source)
    result = call("report", "net.py")
    assert result.exit_code == 0, result.output
    assert "unit: 1 site, 1 structure, each proved once" in result.stdout
    assert "W2 = down.weight [1, 7, 3]" in result.stdout and "relu" not in result.stderr
    explained = call("report", "net.py", "--explain")
    assert "A unit's scale may move" in explained.stdout
    assert "linearity: products distribute over sums" in explained.stdout
    Path("net.py").write_text(source + '\nopen("harm", "w").close()\n')
    for words in (["report", "net.py"], ["report", "net.py", "--recheck"]):
        result = call(*words)
        assert result.exit_code == 1, result.output
        assert "changed after it was compiled" in result.output
    assert not Path("harm").exists()


@pytest.mark.parametrize("explain", [False, True])
def test_there_is_one_report(tmp_path: Path, explain: bool) -> None:
    """Of a file that is not run, of a gauge that was loaded, and of one that was compiled here."""
    (tmp_path / "deep.gauge").write_text(DEEP)
    model = nn.Sequential(*(Block() for _ in range(3)))
    model[1].up.weight.requires_grad_(False)
    compiled = gaugec.compile(tmp_path / "deep.gauge", model, (torch.randn(3, 10),))
    compiled.save(tmp_path / "deep.py")
    file = reading.read(tmp_path / "deep.py")
    read = call("report", str(tmp_path / "deep.py"), *["--explain"] * explain).stdout.rstrip("\n")
    assert read == load(tmp_path / "deep.py").report(explain=explain)
    assert read == in_words(file.metadata, file.components, explain=explain)
    known = compiled.report(explain=explain)
    if explain:
        assert "    site 1 1: positive(7), proved" in known and "      Wu = " not in known
        assert "W1 = 1.up.weight [1, 7, 10] (frozen: there the gauge is off)" in known
        assert known.count("moves by c along axis") >= 9 and "moves by c" not in read
        assert "linearity: products distribute over sums" in read
    else:
        assert "  sites {0..2} {0..2}: positive(7), proved" in known
        assert "W1 = {0..2}.up.weight [1, 7, 10] (1 of 3 frozen: there the gauge is off)" in known
        assert known.replace(" (1 of 3 frozen: there the gauge is off)", "") == read
        assert "linearity" not in read


def test_escapes_in_a_certificate_do_not_reach_the_terminal(tmp_path: Path, source: str) -> None:
    path = tmp_path / "net.py"
    path.write_text(sealed(certificate.restated(source, {"traced": "\x1b[2Jgone\rproved"})))
    result = call("report", str(path))
    assert result.exit_code == 0 and "\x1b" not in result.stdout and "\\x1b[2Jgone" in result.stdout


RECORD: dict[str, Any] = {
    "mode": "train", "settings": [], "globals": [], "tensors": [], "values": [], "frozen": [], "parts": [],
    "unknown": [],
    "everywhere": {},
}  # fmt: skip


ROLE = {"role": "bias", "matrices": [], "parameters": ["up.weight", "up.bias", "down.weight", "down.bias"]}


def forms() -> list[tuple[str, bytes, str]]:
    deep = 100_000
    return [
        ("empty", b"", "it has no METADATA and COMPONENTS"),
        ("other Python", b"import torch\n", "it has no METADATA and COMPONENTS"),
        ("binary", bytes(range(256)), "it is not UTF-8 text (byte 128, line 2)"),
        ("nul", b"METADATA = {}\nCOMPONENTS = ()\n\0", "it is not Python"),
        ("syntax", b"METADATA = {\n", "it is not Python: '{' was never closed (line 1)"),
        ("huge", b"#" * (extent.BYTES + 1), "it is larger than 4,000,000 bytes"),
        ("words", b"a;" * 300_000, "it has more than 500,000 words"),
        (
            "a prefix",
            b'METADATA = {}\nx = f"{a}"\n',
            "it has a string with a prefix, which the compiler writes none of (line 2)",
        ),
        ("quotes", b'"' + b'\\"' * 100_000, "is not a compiled gauge"),
        ("parentheses", b"METADATA = " + b"(" * deep + b")" * deep, "is not a compiled gauge"),
        ("minus", b"METADATA = " + b"-" * deep + b"1\nCOMPONENTS = ()\n", "is not a compiled gauge"),
        ("sums", b"METADATA = " + b"1+" * deep + b"1\nCOMPONENTS = ()\n", "is not a compiled gauge"),
        ("attributes", b"METADATA = x" + b".x" * deep + b"\nCOMPONENTS = ()\n", "is not a compiled gauge"),
        ("digits", b"METADATA = " + b"1" * deep + b"\nCOMPONENTS = ()\n", "is not a compiled gauge"),
        ("a call", b"METADATA = dict()\nCOMPONENTS = ()\n", "its METADATA is no literal (line 1)"),
        ("unhashable", b"METADATA = {[]: 1}\nCOMPONENTS = ()\n", "its METADATA is no literal (line 1)"),
        ("no dict", b"METADATA = 3\nCOMPONENTS = ()\n", "its METADATA is no dict (line 1)"),
        ("bare", b"METADATA: dict\nCOMPONENTS = ()\n", "its METADATA is no dict (line 1)"),
        ("twice", b"METADATA = {}\nMETADATA = {}\nCOMPONENTS = ()\n", "it assigns METADATA twice"),
        ("by hand", b'METADATA = {"spec": "by hand"}\nCOMPONENTS = ()\n', "carries no certificate"),
        ("newer", b'METADATA = {"certificate": 99}\nCOMPONENTS = ()\n', "has a certificate of version 99"),
        ("odd version", b'METADATA = {"certificate": True}\nCOMPONENTS = ()\n', "has a certificate of version True"),
        ("cut", b'METADATA = {"certificate": 4}\nCOMPONENTS = ()\n', "its certificate is damaged"),
    ]


@pytest.mark.parametrize(("content", "words"), [form[1:] for form in forms()], ids=[form[0] for form in forms()])
def test_what_is_no_compiled_gauge(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "odd.py"
    path.write_bytes(content)
    for more in ([], ["--recheck"]):
        result = call("report", str(path), *more)
        assert result.exit_code == 2, result.output
        assert words in result.stderr and "Traceback" not in result.output
    with pytest.raises(gaugec.GaugeError, match=re.escape(words)):
        gaugec.recheck(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sites": 3}, 'METADATA["sites"] is no list'),
        ({"loss": None}, 'METADATA["loss"] is no str'),
        ({"more": 1}, "METADATA: the field 'more' is not known"),
        ({"parameters": {"w": [2]}}, "METADATA[\"parameters\"]['w'] is no shape"),
        ({"structures": {}}, 'METADATA["sites"][0] is of a structure that is not there'),
        ({"layouts": []}, 'METADATA["sites"][0] is of a layout that is not there'),
        ({"inputs": [("x",)]}, 'METADATA["inputs"][0] has not 2 entries'),
        ({"steps": []}, 'METADATA["theorems"][0] has a step that is not there'),
        ({"theorems": []}, 'METADATA["sites"][0] is of a gauge that is not there'),
        ({"structures": {"x": {}}}, "METADATA[\"structures\"]['x']: the field 'conditions' is missing"),
        ({"graph_trail": [(10**12, "ab")]}, 'METADATA["graph_trail"] is no trail'),
        ({"graph_trail": [(-1, "ab")]}, 'METADATA["graph_trail"] is no trail'),
        ({"parameters": {"w.{0..}": (2,)}}, "'w.{0..}' is no pattern of names: a brace that is no range is written"),
        ({"parameters": {"w.{3..1}": (2,)}}, "'w.{3..1}' is no pattern of names: {3..1} counts down"),
        ({"parameters": {"{0..999999999}": (2,)}}, f"'{{0..999999999}}': more than {LIMIT} names"),
        ({"parameters": {"{0..999}" * 40: (2,)}}, f"more than {LIMIT} names"),
        ({"refused": ["{0..99999} " + "a" * 1000]}, f"stands for more than {LIMIT} names, or {LENGTH} characters"),
        ({"parameters": {f"{n}.{{0..900000}}": () for n in range(9)}}, f"stands for more than {LIMIT} names, or"),
        ({"tied": {"a.{0..2}": "b.{0..3}"}}, "'a.{0..2}' stands for 3 names, another beside it for 4"),
        ({"assumed": {}}, "METADATA[\"assumed\"]: the field 'everywhere' is missing"),
        ({"assumed": RECORD | {"mode": "both"}}, 'METADATA["assumed"]["mode"] is no mode'),
        ({"assumed": RECORD | {"everywhere": {"p": 0.1}}}, 'METADATA["assumed"]["everywhere"][\'p\'] is no str'),
        ({"assumed": RECORD | {"settings": [("p", "0.1", ["a"])]}}, '["settings"][0][2] is no tuple of names'),
        ({"assumed": RECORD | {"settings": [("p", "0.1", ("{0..",))]}}, "'{0..' is no pattern of names"),
        ({"assumed": RECORD | {"settings": [("p", "0.1", ("{0..999}" * 9,))]}}, f"more than {LIMIT} names"),
        ({"assumed": RECORD | {"tensors": [("x", "float32", (-2,), "")]}}, '["tensors"] has a size that is none'),
        ({"assumed": RECORD | {"frozen": ["{3..1}"]}}, "'{3..1}' is no pattern of names: {3..1} counts down"),
        ({"roles": []}, 'METADATA["roles"] is not of the parameters'),
        ({"roles": [ROLE | {"matrices": [(0, ())]}]}, 'METADATA["roles"][0]["matrices"][0] has not 4 entries'),
        ({"roles": [ROLE | {"role": "star"}]}, "METADATA[\"roles\"] has 'star', which is no role"),
        ({"roles": [ROLE, ROLE]}, "'up.weight' has two roles"),
        ({"witness": {}}, "METADATA[\"witness\"]: the field 'control' is missing"),
    ],
)
def test_a_damaged_certificate_is_told(tmp_path: Path, source: str, change: dict[str, Any], words: str) -> None:
    path = tmp_path / "net.py"
    path.write_text(sealed(certificate.restated(source, change)))
    with pytest.raises(reading.NotCompiled, match=re.escape(words)):
        gaugec.recheck(path)


def test_roles_are_those_of_the_model(home: Path, tmp_path: Path, source: str) -> None:
    """They are there by name, and found again in a recheck, which says what differs first."""
    gauge = load(home / "net.py")
    assert gauge.roles["up.weight"] == Role("stem", (Matrices(0, (), ((7, 5),), ((5, 1),)),))
    assert gauge.roles["up.weight"].matrices[0].shape == (1, 7, 5)
    assert {name: role.role for name, role in gauge.roles.items()} == {
        "up.weight": "stem", "up.bias": "bias", "down.weight": "head", "down.bias": "bias",
    }  # fmt: skip
    stem = {"role": "stem", "matrices": [(0, (), ((5, 1),), ((7, 5),))], "parameters": ["up.weight"]}
    rest = ROLE | {"parameters": ["up.bias", "down.weight", "down.bias"]}
    for roles, words in (
        ([ROLE], "first difference: up.weight: its role is bias in the certificate, stem now"),
        ([stem, rest], "first difference: up.weight: it holds other matrices now"),
    ):
        path = tmp_path / "net.py"
        path.write_text(sealed(certificate.restated(source, {"roles": roles})))
        result = again(home, path, *shown(Net()))
        assert found(result)["sites"] == "differs" and says(result, "sites") == words


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"index": "0"', '"index": "{0..1}"', 'METADATA["parameters"] is'),
        ('"index": "0"', '"index": "x"', "'x' is no number of a site"),
        ('"index": "0"', '"index": "-1"', "'-1' is no number of a site"),
        ('"index": "0", "place": ""', '"index": "{0..2}", "place": "{0..1}"', "'{0..1}' stands for 2 names, another"),
        ('"index": "0", "place": ""', '"index": "0", "place": "{0..1}"', "has the site 0 of unit_scale twice"),
    ],
)
def test_a_site_that_does_not_unfold_is_told(
    home: Path, tmp_path: Path, source: str, old: str, new: str, words: str
) -> None:
    path = tmp_path / "net.py"
    edited = source.replace(old, new)
    assert edited != source
    path.write_text(sealed(edited))
    result = call("report", str(path))
    if "{0..1}" in new and "place" not in new:  # a site more, of the same parameters: of good form, and not true
        assert result.exit_code == 0 and not again(home, path, *shown(Net()))
        return
    assert result.exit_code == 2 and words in result.stderr and "Traceback" not in result.output
    with pytest.raises(reading.NotCompiled, match=re.escape(words)):
        gaugec.recheck(path)


@pytest.mark.parametrize("version", [1, 3])
def test_a_file_of_an_older_release_is_refused_by_name(tmp_path: Path, source: str, version: int) -> None:
    path = tmp_path / "net.py"
    older = source.replace('"certificate": 4', f'"certificate": {version}')
    assert older != source
    path.write_text(sealed(older))
    words = f"{path} has a certificate of version {version}; this gaugec reads version 4"
    for more in ([], ["--recheck"]):
        result = call("report", str(path), *more)
        assert result.exit_code == 2
        assert result.stderr.splitlines() == [
            f"gaugec: {words}",
            "help: compile the model again, or use the gaugec that compiled it",
        ]
    with pytest.raises(reading.NotCompiled) as caught:
        gaugec.recheck(path)
    assert caught.value.message == words


def test_a_key_that_is_no_text_is_told(tmp_path: Path, source: str) -> None:
    path = tmp_path / "net.py"
    path.write_text(source.replace('"up.weight": (7, 5)', "7: (7, 5)"))
    with pytest.raises(reading.NotCompiled, match=re.escape('METADATA["parameters"] has a key that is no str')):
        gaugec.recheck(path)


@pytest.mark.parametrize(
    "words",
    [
        ["net.py", "models_to_check:plain"],
        ["net.py", "--spec", "unit.gauge"],
        ["net.py", "--recheck", "--loss", "cross_entropy"],
        ["net.py", "--recheck", "--spec", "no/such.gauge"],
        ["net.py", "--recheck", "nowhere:factory"],
        ["net.py", "--recheck", "--explain"],
    ],
)
def test_misuse(home: Path, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    result = call("report", *words)
    assert result.exit_code == 2 and "Traceback" not in result.output


# --- the certificate itself


def test_every_site_is_there_with_all_that_it_moves(home: Path, source: str) -> None:
    model, args = shown(Net())
    compiled = gaugec.compile(home / "unit.gauge", model, args)
    assert compiled.source == source, "a second compile gives the same bytes"
    said = compiled.metadata
    assert said == ast.literal_eval(source[source.index(certificate.HEAD) + len(certificate.HEAD) :])
    said = unfolded(said)
    (site,), (structure,) = said["sites"], said["structures"].items()
    assert site["structure"] == structure[0] and site["index"] == 0 and site["verdict"] == "proved"
    assert structure[1]["conditions"] == ["c > 0"] and "c > 0" not in structure[1]["steps"]
    bindings = said["layouts"][site["layout"]]["bindings"]
    assert [(name, b["role"], b["copies"], b["group"], b["rest"], b["move"], b["exponent"])
            for name, b in zip(site["parameters"], bindings)] == [
        ("up.weight", "W1", (), ((7, 5),), ((5, 1),), "scale", "1"),
        ("up.bias", "b1", (), ((7, 1),), (), "scale", "1"),
        ("down.weight", "W2", (), ((7, 1),), ((3, 7),), "scale", "-1"),
    ]  # fmt: skip


NODES = (
    Leaf(id=0, modes=(), shape=(), kind="input", name="x"),
    Contraction(id=0, modes=(), shape=()),
    Sum(id=0, modes=(), shape=()),
    Map(id=0, modes=(), shape=(), function="relu"),
    Along(id=0, modes=(), shape=(), function="softmax", bound=()),
    Concatenation(id=0, modes=(), shape=(), joined=0, pieces=()),
    Opaque(id=0, modes=(), shape=(), reason="aten.cumsum"),
)


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.word)
def test_every_field_of_a_node_is_in_the_hash_of_the_graph(node: Node) -> None:
    plain = certificate.fingerprint(Graph((node,)))
    for field in dataclasses.fields(node):
        other = dataclasses.replace(node, **{field.name: "other"})
        same = certificate.fingerprint(Graph((other,))) == plain
        assert same == (field.name in ("source", "line", "reason")) == (not field.compare), field.name
    assert len({certificate.fingerprint(Graph((other,))) for other in NODES}) == len(NODES)
    for more in ({"outputs": (0,)}, {"buffers": (0,)}, {"cuts": ((0, 1, 2),)}):
        assert certificate.fingerprint(Graph((node,), **more)) != plain


def test_no_name_of_an_operation_is_in_the_hash_of_the_graph() -> None:
    """Two releases of torch may call an operation without a row by two names: nothing is proved of it."""

    class Unknown(nn.Module):
        def __init__(self, operation: Callable[[torch.Tensor], torch.Tensor]) -> None:
            super().__init__()
            self.first, self.second, self.operation = nn.Linear(5, 7), nn.Linear(7, 3), operation

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.operation(torch.relu(self.first(x))))

    graphs = [trace(Unknown(operation), (torch.randn(4, 5),)).graph for operation in (torch.erfc, torch.special.ndtri)]
    names = [{node.source for node in graph} for graph in graphs]
    assert "aten.erfc" in names[0] - names[1], "it has no row"
    assert certificate.fingerprint(graphs[0]) == certificate.fingerprint(graphs[1])
    assert certificate.trail(graphs[0]) == certificate.trail(graphs[1])
    assert certificate.fingerprint(trace(Unknown(torch.relu), (torch.randn(4, 5),)).graph) not in (
        certificate.fingerprint(graph) for graph in graphs
    )


def test_a_trail_holds_a_layer_once_and_finds_what_differs() -> None:
    def graph(*acts: Callable[[torch.Tensor], torch.Tensor]) -> Graph:
        layers = [module for act in acts for module in (Block(), Act(act))]
        return trace(nn.Sequential(*layers), (torch.randn(3, 10),)).graph

    class Act(nn.Module):
        def __init__(self, act: Callable[[torch.Tensor], torch.Tensor]) -> None:
            super().__init__()
            self.act = act

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.act(x)

    six, twelve = graph(*[torch.tanh] * 6), graph(*[torch.tanh] * 12)
    short, long = certificate.trail(six), certificate.trail(twelve)
    assert sum(len(digits) for _, digits in long) <= sum(len(digits) for _, digits in short) < 2 * len(six.nodes)
    for known, trail in ((six, short), (twelve, long)):
        assert sum(count * len(digits) for count, digits in trail) == 2 * len(known.nodes)
        assert certificate.departure(known, trail) is None
    other = graph(*[torch.tanh] * 4, torch.sigmoid, torch.tanh)
    node = certificate.departure(other, short)
    assert isinstance(node, Map) and (node.function, node.place) == ("sigmoid", "9")


def test_how_busy_the_machine_was_is_not_in_the_certificate() -> None:
    few, many = (Theorem("a", "proved", sampled=n, seconds=float(n)) for n in (2, 6))
    assert stated([few]) == stated([many]) != stated([Theorem("a", "proved")])


# --- one proof a structure


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.randn(10))
        self.up, self.down = nn.Linear(10, 7, bias=False), nn.Linear(7, 10, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.relu(self.up(F.rms_norm(x, (10,), self.gain))))


DEEP = """architecture deep:
    "Pre-norm blocks."
    use norm_gain from norms
    use relu_rescale from mlp
"""


def test_a_deep_model_proves_each_structure_once(tmp_path: Path) -> None:
    (tmp_path / "deep.gauge").write_text(DEEP)
    made, lines, reported = {}, {}, {}
    for layers in (2, 12):
        prove.forget()
        before = prove.proofs_made()
        model = nn.Sequential(*(Block() for _ in range(layers)))
        compiled = gaugec.compile(tmp_path / "deep.gauge", model, (torch.randn(3, 10),))
        made[layers] = prove.proofs_made() - before
        said = unfolded(compiled.metadata)
        assert len(said["sites"]) == 2 * layers
        counts = Counter(site["structure"] for site in said["sites"])
        assert [counts[key] for key in said["structures"]] == [layers, layers]
        assert f"{2 * layers} sites, 2 structures, each proved once" in compiled.report()
        lines[layers] = certificate.laid_out(compiled.metadata).count("\n")
        reported[layers] = compiled.report().count("\n")
    assert made == {2: 4, 12: 4}, "each structure at the sizes of the example, and at others"
    assert lines[12] <= lines[2] + 4 and reported[12] <= reported[2], "it grows with the structures, not the layers"


def test_an_equal_model_in_one_process_is_not_proved_again(home: Path) -> None:
    model, args = shown(Net())
    gaugec.compile(home / "unit.gauge", model, args)
    before = prove.proofs_made()
    gaugec.compile(home / "unit.gauge", copy.deepcopy(model), args)
    assert prove.proofs_made() == before


def test_a_condition_names_no_layer() -> None:
    """A proof serves every place of its structure, so what it says must be true of all of them."""

    class Ratio(nn.Module):
        def __init__(self, *names: str) -> None:
            super().__init__()
            self.names = names
            for name in names:
                setattr(self, name, nn.Parameter(torch.rand(7)))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            above, below = (getattr(self, name) for name in self.names)
            return x * (above / below)

    texts = []
    for names in (("a", "b"), ("one", "two")):
        prove.forget()
        traced = trace(Ratio(*names), (torch.randn(4, 7),))
        digits = (Digit("group", 0, 7),)
        regions = tuple(Region(traced.leaves[name], digits, "scale") for name in names)
        theorem = prove.prove_invariance(traced.graph, traced.graph.outputs, regions, "positive")
        assert theorem, theorem.reason
        texts.append(theorem.conditions)
    assert texts[0] == texts[1] == ("c > 0", "a parameter ≠ 0")


# --- limits and misuse


def test_a_recheck_has_a_limit_for_each_proof(home: Path) -> None:
    model, args = shown(Net())
    with limits.clock(Clock(TICK)):
        result = again(home, "net.py", model, args, limit=1e-6)
    assert not result.ok and found(result)["proofs"] == "differs"
    assert "not decided in 1e-06 s" in says(result, "proofs")
    assert again(home, "net.py", model, args, limit=60).ok
    with pytest.raises(ValueError, match="a time limit is a positive number of seconds, not 0"):
        gaugec.recheck(home / "net.py", limit=0)
    with limits.clock(Clock(TICK)):
        words = ["--recheck", "--spec", str(home / "unit.gauge"), "--limit", "0.000001"]
        refused = call("report", str(home / "net.py"), *words)
    assert refused.exit_code == 1 and "not decided in" in refused.output
    misused = call("report", str(home / "net.py"), "--limit", "5")
    assert misused.exit_code == 2 and "--limit are for --recheck" in misused.output


@pytest.mark.parametrize("path", [None, 3, "", "nowhere.py", b"net.py"])
def test_what_is_no_path_is_refused_as_such(path: Any) -> None:
    with pytest.raises(gaugec.GaugeError):
        gaugec.recheck(path)
