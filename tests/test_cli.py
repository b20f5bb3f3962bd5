"""The command line: exit codes, what is printed where, no traceback, nothing fancy in a pipe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import gaugec
from gaugec.cli import main

SOUND = """
gauge unit_scale(n, d, f):
    "A ReLU unit's scale may move from what writes it to what reads it."
    given  x[n, d]
    param  W1[f, d], W2[d, f]
    model  y = relu(x @ W1.T) @ W2.T
    for every c in positive(f):
        W1 -> diag(c) @ W1
        W2 -> W2 @ diag(1/c)
    keeps  y
    fix    rownorm(W1) == colnorm(W2)
"""

MODELS = """
import torch

class Net(torch.nn.Module):
    def __init__(self, act):
        super().__init__()
        self.up, self.down, self.act = torch.nn.Linear(5, 7, bias=False), torch.nn.Linear(7, 3, bias=False), act

    def forward(self, x):
        return self.down(self.act(self.up(x)))

def relu(): return Net(torch.relu), (torch.randn(4, 5),)
def gelu(): return Net(torch.nn.functional.gelu), (torch.randn(4, 5),)
def with_kwargs(): return Net(torch.relu), (), {"x": torch.randn(4, 5)}
def on_meta(): return Net(torch.relu).to("meta"), (torch.randn(4, 5, device="meta"),)
def broken(): raise ValueError("no weights here\\nnor there")
def wrong(): return Net(torch.relu)
def shuffled(): return (torch.randn(4, 5),), Net(torch.relu)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sound.gauge").write_text(SOUND)
    (tmp_path / "unsound.gauge").write_text(SOUND.replace("relu(", "gelu("))
    (tmp_path / "typo.gauge").write_text(SOUND.replace("W1.T) @", "W3.T) @"))
    (tmp_path / "models_of_test.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop("models_of_test", None)
    return tmp_path


def call(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def test_list_names_the_shipped_architectures() -> None:
    result = call("list")
    assert result.exit_code == 0, result.output
    assert {"llama", "relu_mlp"} <= set(result.stdout.split())


def test_verify_a_sound_spec() -> None:
    result = call("verify", "sound.gauge")
    assert result.exit_code == 0, result.output
    assert "unit_scale" in result.stdout
    assert "1 of 1 gauge proved" in result.stdout


def test_verify_an_unsound_spec_shows_a_counterexample() -> None:
    result = call("verify", "unsound.gauge", "sound.gauge")
    assert result.exit_code == 1
    assert "refused" in result.stdout
    assert "counterexample:" in result.stdout
    assert "y[0, 0] = 0.841345 before, 0.97725 after" in result.stdout
    assert "help:" not in result.stdout, "nothing near it holds"
    assert "1 of 1 gauge proved" in result.stdout, "the second spec is still proved"


def test_verify_says_what_would_mend_a_spec(folder: Path) -> None:
    (folder / "near.gauge").write_text(SOUND.replace("diag(1/c)", "diag(c)"))
    result = call("verify", "near.gauge")
    assert result.exit_code == 1
    assert "y[0, 0] = 1 before, 4 after" in result.stdout
    assert "help: `W2 -> W2 @ diag(1/c)` makes it hold: an inverse was missing" in result.stdout


def test_compile_shows_the_case_and_what_would_mend_it(folder: Path) -> None:
    (folder / "near.gauge").write_text(SOUND.replace("diag(1/c)", "diag(c)"))
    result = call("compile", "near.gauge", "models_of_test:relu", "-o", "net.py")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "near.gauge:2:1: unit_scale is refused: y changes: left over is sum over s of c[s]^2 * relu[i, s] * W2[j, s]"
        " and 1 more",
        "counterexample:",
        "  sizes n = 1, d = 1, f = 1",
        "  c = [2], of positive(f)",
        "  W1 = [[1]], moved to [[2]]",
        "  W2 = [[1]], moved to [[2]]",
        "  x = [[1]]",
        "  y[0, 0] = 1 before, 4 after",
        "   2 | gauge unit_scale(n, d, f):",
        "     | ^^^^^^^^^^^^^^^^^^^^^^^^^^",
        "help: `W2 -> W2 @ diag(1/c)` makes it hold: an inverse was missing",
    ]
    assert not (folder / "net.py").exists()


def test_a_wrong_spec_is_drawn_not_thrown() -> None:
    result = call("verify", "typo.gauge")
    assert result.exit_code == 1
    assert "typo.gauge:6:" in result.stderr
    assert "^" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["verify", "no/such.gauge"], "there is no file 'no/such.gauge'"),
        (["verify", "lllama"], "did you mean 'llama'?"),
        (["verify"], "SPEC"),
        (["compile", "sound.gauge", "models_of_test", "-o", "x.py"], "should read package.module:factory"),
        (["compile", "sound.gauge", "nowhere:f", "-o", "x.py"], "ModuleNotFoundError: No module named 'nowhere'"),
        (["compile", "sound.gauge", "models_of_test:none", "-o", "x.py"], "AttributeError"),
        (["compile", "sound.gauge", "models_of_test:broken", "-o", "x.py"], "ValueError: no weights here (models_of"),
        (["compile", "sound.gauge", "models_of_test:wrong", "-o", "x.py"], "returns (model, args)"),
        (["compile", "sound.gauge", "models_of_test:shuffled", "-o", "x.py"], "where the model should be"),
        (["compile", "sound.gauge", "models_of_test:relu", "-o", "no/such/x.py"], "cannot write no/such/x.py"),
        (["report", "models_of_test.py"], "is not a compiled gauge"),
        (["report", "missing.py"], "missing.py"),
    ],
)
def test_misuse_is_exit_code_2_and_one_plain_message(words: list[str], says: str) -> None:
    result = call(*words)
    assert result.exit_code == 2, result.output
    assert says in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("factory", ["relu", "with_kwargs"])
def test_compile_then_report(folder: Path, factory: str) -> None:
    result = call("compile", "sound.gauge", f"models_of_test:{factory}", "-o", "net.py", "--explain")
    assert result.exit_code == 0, result.output
    assert "unit_scale" in result.stdout
    assert (folder / "net.py").is_file()
    result = call("report", "net.py")
    assert result.exit_code == 0, result.output
    assert "unit_scale" in result.stdout
    result = call("report", "net.py", "--recheck", "--spec", "sound.gauge")
    assert result.exit_code == 0, result.output


def test_a_twin_is_looked_at_in_place_of_a_large_model(folder: Path) -> None:
    large, says = "models_of_test:on_meta", "witnessed and gradient checked on a twin of 56 parameters"
    result = call("compile", "sound.gauge", large, "-o", "net.py", "--twin", "models_of_test:relu")
    assert result.exit_code == 0, result.output
    assert says in call("report", "net.py").stdout
    again = ("report", "net.py", "--recheck", "--spec", "sound.gauge", large)
    assert call(*again, "--twin", "models_of_test:relu").exit_code == 0
    assert call(*again).exit_code == 1, "a file that was compiled with a twin is checked again with one"


def test_what_is_no_twin_is_refused(folder: Path) -> None:
    result = call("compile", "sound.gauge", "models_of_test:on_meta", "-o", "net.py", "--twin", "models_of_test:gelu")
    assert result.exit_code == 1
    assert "the twin is another structure: a value is" in result.stderr
    assert not (folder / "net.py").exists()
    result = call("report", "models_of_test.py", "--recheck", "--twin", "models_of_test:relu")
    assert result.exit_code == 2, result.output
    assert "--loss, --outputs, --fixed and --twin are for a MODEL." in result.stderr


def test_recheck_refuses_a_file_made_from_another_spec(folder: Path) -> None:
    assert call("compile", "sound.gauge", "models_of_test:relu", "-o", "net.py").exit_code == 0
    source = (folder / "net.py").read_text()
    changed = source.replace(gaugec.load("sound.gauge").sha256, "0" * 64)
    assert changed != source, "the file holds the hash of its spec"
    (folder / "net.py").write_text(changed)
    result = call("report", "net.py", "--recheck", "--spec", "sound.gauge")
    assert result.exit_code == 1
    assert "Traceback" not in result.output


def test_a_model_without_a_site_is_refused(folder: Path) -> None:
    result = call("compile", "sound.gauge", "models_of_test:gelu", "-o", "net.py")
    assert result.exit_code == 1
    assert "unit_scale" in result.stderr
    assert not (folder / "net.py").exists()


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}])
def test_a_pipe_gets_plain_text(variables: dict[str, str]) -> None:
    command = [sys.executable, "-m", "gaugec", "verify", "sound.gauge"]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stderr == ""
