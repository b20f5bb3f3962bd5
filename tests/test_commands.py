"""What the commands say and leave: -q, -v, --json, --spec, --force, stdout, files of models, factories that fail."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pygments.token import Error
from rich.console import Console

from gaugec import screen
from gaugec.cli import main
from gaugec.language import shipped, shipped_text
from gaugec.language.messages import RESERVED
from gaugec.lexer import GaugeLexer
from gaugec.progress import Progress, counted, heard, stage
from gaugec.runtime.seal import intact

SPEC = """
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
    def __init__(self):
        super().__init__()
        self.up, self.down = torch.nn.Linear(5, 7, bias=False), torch.nn.Linear(7, 3, bias=False)

    def forward(self, x):
        hidden = torch.relu(self.up(x))
        return self.down(hidden)

class Both(Net):
    def forward(self, x):
        hidden = torch.relu(self.up(x))
        return {"loss": self.down(hidden).sum(), "hidden": hidden}

def relu(): return Net(), (torch.randn(4, 5),)
def batch(): return Net(), {"x": torch.randn(4, 5)}
def both(): return Both(), (torch.randn(4, 5),)
def inner(): raise ValueError("no weights here\\nnor there")
def broken():
    inner()
def leaves():
    raise SystemExit(3)
"""

MODEL = "nets_of_test.py:relu"
COMPILE = ("compile", "unit.gauge", MODEL)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "unit.gauge").write_text(SPEC)
    (tmp_path / "wrong.gauge").write_text(SPEC.replace("relu(", "gelu("))
    (tmp_path / "nets_of_test.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop("nets_of_test", None)
    return tmp_path


def call(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def last(text: str) -> str:
    return text.strip().splitlines()[-1]


# --- how much is said
def test_quiet_says_nothing_of_what_is_well(folder: Path) -> None:
    assert (call("verify", "unit.gauge", "-q").output, call(*COMPILE, "-q", "-o", "net.py").output) == ("", "")
    assert call("report", "net.py", "-q").output == ""
    assert call("report", "net.py", "-q", "--recheck", "--spec", "unit.gauge").output == ""


def test_quiet_still_says_what_is_wrong() -> None:
    result = call("verify", "wrong.gauge", "-q")
    assert result.exit_code == 1
    assert "counterexample:" in result.stdout


def test_verbose_says_the_time_of_every_stage() -> None:
    result = call(*COMPILE, "-v")
    assert result.exit_code == 0, result.output
    stages = re.findall(r"^  (\S.*?) +\d+\.\d s$", result.stdout, re.MULTILINE)
    assert stages == ["proving the spec", "tracing", "finding sites", "looking at them in numbers", "writing"]


def test_json_of_a_verification() -> None:
    result = call("verify", "unit.gauge", "wrong.gauge", "--json")
    assert result.exit_code == 1
    first, second = json.loads(result.stdout)
    assert (first["spec"], first["ok"], second["ok"]) == ("unit.gauge", True, False)
    (gauge,) = first["gauges"]
    assert (gauge["name"], gauge["verdict"], gauge["conditions"]) == ("unit_scale", "proved", ["c > 0"])


def test_json_of_a_compile_a_report_and_a_recheck() -> None:
    told = json.loads(call(*COMPILE, "-o", "net.py", "--json").stdout)
    assert told["file"] == "net.py"
    assert [site["gauge"] for site in told["sites"]] == ["unit_scale"]
    assert set(told["seconds"]) >= {"tracing", "writing"}
    told = json.loads(call("report", "net.py", "--json").stdout)
    assert told["intact"] and told["spec"] == "unit"
    told = json.loads(call("report", "net.py", MODEL, "--recheck", "--spec", "unit.gauge", "--json").stdout)
    assert told["ok"] and {check["verdict"] for check in told["checks"]} == {"ok"}


# --- what is written, and where
def test_without_a_file_nothing_is_written(folder: Path) -> None:
    before = sorted(folder.iterdir())
    result = call(*COMPILE)
    assert last(result.stdout).startswith("nothing written, as there is no -o: 1 site, 1 structure, each proved once, ")
    assert [path for path in sorted(folder.iterdir()) if path.name != "__pycache__"] == before


def test_a_dash_is_stdout(folder: Path) -> None:
    result = call(*COMPILE, "-o", "-")
    assert intact(result.stdout) and result.stdout.startswith('"""')
    assert call(*COMPILE, "--spec", "-").stdout == (
        'architecture model:\n    "The gauges of Net."\n    use unit_scale from unit\n'
    )


def test_the_architecture_is_written_and_can_be_verified(folder: Path) -> None:
    assert call(*COMPILE, "--spec", "mine.gauge").exit_code == 0
    assert (folder / "mine.gauge").read_text() == (
        'architecture mine:\n    "The gauges of Net."\n    use unit_scale from unit\n'
    )
    assert call("verify", "mine.gauge").exit_code == 0
    assert call("compile", "mine.gauge", MODEL).exit_code == 0


def test_auto_finds_what_ships(folder: Path) -> None:
    result = call("compile", "auto", MODEL, "-o", "net.py", "--spec", "mine.gauge")
    assert result.exit_code == 0, result.output
    assert "relu_rescale" in (folder / "mine.gauge").read_text()


@pytest.mark.parametrize("option", ["-o", "--spec"])
def test_a_file_of_somebody_else_is_replaced_only_by_force(folder: Path, option: str) -> None:
    (folder / "mine.txt").write_text("a diary")
    result = call(*COMPILE, option, "mine.txt")
    assert result.exit_code == 2
    assert last(result.stderr) == (
        "Error: mine.txt is there already, and not of gaugec's making: --force replaces it"
    )
    assert (folder / "mine.txt").read_text() == "a diary"
    assert call(*COMPILE, option, "mine.txt", "--force").exit_code == 0
    assert (folder / "mine.txt").read_text() != "a diary"


def test_a_file_of_its_own_is_replaced(folder: Path) -> None:
    assert call(*COMPILE, "-o", "net.py").exit_code == 0
    assert call(*COMPILE, "-o", "net.py").exit_code == 0
    with (folder / "net.py").open("a") as file:
        file.write("# mine\n")
    assert call(*COMPILE, "-o", "net.py").exit_code == 2, "it was changed by hand"
    assert call(*COMPILE, "-o", "net.py", "--force").exit_code == 0


def test_a_target_is_looked_at_before_the_work() -> None:
    result = call("compile", "unit.gauge", "nets_of_test.py:broken", "-o", "no/such/net.py")
    assert result.exit_code == 2
    assert last(result.stderr) == "Error: cannot write no/such/net.py: there is no folder no/such"


# --- factories
def test_a_factory_that_raises_is_told_with_its_line() -> None:
    result = call("compile", "unit.gauge", "nets_of_test.py:broken")
    assert result.exit_code == 2
    assert last(result.stderr) == (
        "Error: nets_of_test.py:broken raised ValueError: no weights here (nets_of_test.py:21: "
        'def inner(): raise ValueError("no weights here\\nnor there"))'
    )
    assert "Traceback" not in result.output


def test_debug_shows_the_traceback_of_a_factory() -> None:
    result = call("compile", "unit.gauge", "nets_of_test.py:broken", "--debug")
    assert result.exit_code == 2
    assert "Traceback (most recent call last):" in result.stderr
    assert "line 23, in broken" in result.stderr


def test_a_factory_that_exits_is_told() -> None:
    result = call("compile", "unit.gauge", "nets_of_test.py:leaves")
    assert last(result.stderr).startswith("Error: nets_of_test.py:leaves raised SystemExit: 3 (nets_of_test.py:25")


def test_a_file_that_is_not_there() -> None:
    result = call("compile", "unit.gauge", "no_net.py:relu")
    assert result.exit_code == 2
    assert "Error: no_net.py:relu raised FileNotFoundError: there is no file no_net.py" in result.stderr


def test_a_factory_may_give_a_batch() -> None:
    assert call("compile", "unit.gauge", "nets_of_test.py:batch").exit_code == 0


def test_which_outputs_count(folder: Path) -> None:
    both = ("compile", "unit.gauge", "nets_of_test.py:both", "-o", "net.py")
    assert call(*both).exit_code == 1
    assert call(*both, "--outputs", "loss").exit_code == 0
    again = ("report", "net.py", "nets_of_test.py:both", "--recheck", "--spec", "unit.gauge")
    assert call(*again).exit_code == 1
    assert call(*again, "--outputs", "loss").exit_code == 0
    assert call("report", "net.py", "--recheck", "--outputs", "loss").exit_code == 2


# --- a terminal
def test_a_terminal_is_shown_stage_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, color_system=None, width=100)
    monkeypatch.setattr(screen, "console", lambda **_: terminal)
    with screen.working("compiling unit.gauge"), stage("finding sites"):
        list(counted([1, 2, 3]))
    text = shown.getvalue()
    assert "compiling unit.gauge" in text
    assert " 0 s of 0 s" in text


def test_stages_inside_stages_count_for_themselves() -> None:
    progress = Progress()
    with heard(progress), stage("outer"):
        assert progress.now == "outer"
        with stage("inner"):
            seen = [progress.now for _ in counted("ab")]
        assert progress.now == "outer"
    assert seen == ["inner, 1 of 2", "inner, 2 of 2"]
    assert list(progress.seconds) == ["outer", "inner"]
    assert progress.now == ""


def test_nobody_listens() -> None:
    with stage("alone"):
        assert list(counted([1, 2])) == [1, 2]


def test_no_color_is_no_escape_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in call("verify", "unit.gauge").output


# --- new and show
def test_a_new_spec_is_proved_as_it_stands(folder: Path) -> None:
    result = call("new", "mine")
    assert (result.exit_code, result.stdout) == (0, "mine.gauge is written: gaugec verify mine.gauge\n")
    result = call("verify", "mine.gauge")
    assert result.exit_code == 0, result.output
    assert "2 of 2 gauges proved" in result.stdout
    assert call("new", "mine").exit_code == 2, "it is there already"
    assert call("new", "mine", "--force").exit_code == 0


def test_a_new_spec_of_a_model(folder: Path) -> None:
    assert call("new", "mine", MODEL).exit_code == 0
    text = (folder / "mine.gauge").read_text()
    assert text.startswith("# What `gaugec compile auto nets_of_test.py:relu` found; ")
    assert text.endswith('architecture mine:\n    "The gauges of Net."\n    use relu_rescale from mlp\n')
    assert call("compile", "mine.gauge", MODEL).exit_code == 0


@pytest.mark.parametrize("name", ["2nd", "a-b", "../up", "a.gauge", ""])
def test_a_name_that_is_none(name: str) -> None:
    result = call("new", name)
    assert result.exit_code == 2
    assert last(result.stderr) == f"Error: {name} is no name of the language: a letter, then letters, digits and _"


@pytest.mark.parametrize("name", ["llama", "mlp"])
def test_show_prints_what_ships(name: str) -> None:

    assert call("show", name).stdout == shipped_text(name)


def test_show_knows_only_what_ships() -> None:
    result = call("show", "unit.gauge")
    assert result.exit_code == 2
    assert last(result.stderr) == "Error: no spec that ships is called unit.gauge: see `gaugec list`"


def test_a_terminal_gets_colour_and_the_same_text() -> None:

    shown = io.StringIO()
    screen.show_spec(Console(file=shown, force_terminal=True, color_system="standard", width=200), shipped_text("mlp"))
    text = shown.getvalue()
    assert "\x1b[" in text
    plain = "\n".join(line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines())
    assert plain.strip() == shipped_text("mlp").strip()


def test_the_lexer_knows_every_shipped_text() -> None:


    for name in shipped():
        tokens = list(GaugeLexer(stripnl=False, ensurenl=False).get_tokens(shipped_text(name)))
        assert "".join(text for _, text in tokens) == shipped_text(name)
        assert [text for kind, text in tokens if kind is Error] == []


def test_the_grammar_of_the_editor_has_the_words_of_the_language() -> None:

    grammar = json.loads((Path(__file__).parents[1] / "docs/editors/gauge.tmLanguage.json").read_text())
    text = json.dumps(grammar)
    assert [word for word in RESERVED if word not in text] == []
