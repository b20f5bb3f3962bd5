"""What the commands say and leave: -q, -v, --json, --spec, --force, stdout, files of models, factories that fail."""

from __future__ import annotations

import importlib
import importlib.resources
import io
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pygments.token import Error, Keyword
from rich.console import Console

from gaugec import screen
from gaugec.cli import main
from gaugec.language import load, shipped, shipped_text
from gaugec.lexer import GaugeLexer
from gaugec.progress import Progress, counted, heard, stage
from gaugec.runtime.seal import intact

ROOT = Path(__file__).parents[1]
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

class Cubic(Net):
    def forward(self, x):
        return (self.up(x) ** 3 + 1).sum()

def cubic(): return Cubic(), (torch.randn(4, 5),)
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
        'architecture found:\n    "The gauges of Net."\n    use unit_scale from unit\n'
    )


@pytest.mark.parametrize("words", [("-o", "-", "--json"), ("-o", "-", "--spec", "-"), ("--spec", "-", "--json")])
def test_one_thing_goes_to_stdout(words: tuple[str, ...]) -> None:
    result = call(*COMPILE, *words)
    assert result.exit_code == 2
    assert last(result.stderr) == "Error: -o -, --spec - and --json are for stdout: one of them can have it."


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


@pytest.mark.parametrize(
    ("option", "path", "says"),
    [
        ("-o", "no/such/net.py", "Error: cannot write no/such/net.py: there is no folder no/such"),
        ("--spec", "my-own.gauge", "Error: Invalid value for '--spec': 'my-own' is no name of the language: a letter, "
         "then letters, digits and _"),
        ("--spec", "norms.gauge", "Error: Invalid value for '--spec': 'norms' is a file of gauges that ships: "
         "`use … from norms` would find this one in its place"),
    ],
)
def test_a_target_is_looked_at_before_the_work(option: str, path: str, says: str) -> None:
    result = call("compile", "unit.gauge", "nets_of_test.py:broken", option, path)
    assert result.exit_code == 2
    assert last(result.stderr) == says


# --- factories
def test_a_factory_that_raises_is_told_with_its_line() -> None:
    result = call("compile", "unit.gauge", "nets_of_test.py:broken")
    assert result.exit_code == 2
    assert last(result.stderr) == (
        "Error: nets_of_test.py:broken raised ValueError: no weights here (nets_of_test.py:26: "
        'def inner(): raise ValueError("no weights here\\nnor there"))'
    )
    assert "Traceback" not in result.output


def test_debug_shows_the_traceback_of_a_factory() -> None:
    result = call("compile", "unit.gauge", "nets_of_test.py:broken", "--debug")
    assert result.exit_code == 2
    assert "Traceback (most recent call last):" in result.stderr
    assert "line 28, in broken" in result.stderr


def test_a_factory_that_exits_is_told() -> None:
    result = call("compile", "unit.gauge", "nets_of_test.py:leaves")
    assert last(result.stderr).startswith("Error: nets_of_test.py:leaves raised SystemExit: 3 (nets_of_test.py:30")


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
    assert last(call("new", "mine").stderr) == (
        "Error: mine.gauge is there already, and not of gaugec's making: --force replaces it"
    )
    assert call("new", "mine", "--force").exit_code == 0


@pytest.mark.parametrize("name", ["mine", "llama", "norm_gain", "unit_scale", "rescale", "x"])
def test_a_new_spec_can_be_read_whatever_it_is_called(name: str) -> None:
    assert call("new", name).exit_code == 0
    assert [entry.gauge.name for entry in load(f"{name}.gauge").entries] == [f"{name}_rescale", "norm_gain"]


def test_a_new_spec_of_a_model(folder: Path) -> None:
    assert call("new", "mine", MODEL).exit_code == 0
    assert (folder / "mine.gauge").read_text() == (
        "# The gauges that ship and that were found in nets_of_test.py:relu.\n"
        "# Each is required; `optional` at the end of a line lets a model lack what the line names.\n"
        "#   gaugec compile mine.gauge nets_of_test.py:relu -o mine_gauge.py\n"
        "# Gauges of your own may stand above the architecture: docs/language.md, `gaugec new`.\n\n"
        'architecture mine:\n    "The gauges of Net."\n    use relu_rescale from mlp\n'
    )
    assert call("compile", "mine.gauge", MODEL).exit_code == 0


def test_a_new_spec_of_a_model_without_a_gauge(folder: Path) -> None:
    result = call("new", "mine", "nets_of_test.py:cubic")
    assert result.exit_code == 1
    assert last(result.stderr) == "gaugec: no gauge has a site: there is nothing that an architecture could use"
    assert not (folder / "mine.gauge").exists()


@pytest.mark.parametrize("name", ["2nd", "a-b", "../up", "a.gauge", "", "a\nb"])
def test_a_name_that_is_none(name: str) -> None:
    result = call("new", name)
    assert result.exit_code == 2
    shown = name.replace("\n", "\\x0a")
    says = f"'{shown}' is no name of the language: a letter, then letters, digits and _"
    assert last(result.stderr) == f"Error: Invalid value for 'NAME': {says}"


def test_a_name_that_is_a_word_or_taken() -> None:
    says = "Error: Invalid value for 'NAME': 'model' is a word of the language and cannot be a name"
    assert last(call("new", "model").stderr) == says
    assert call("new", "norms").exit_code == 2


def test_a_new_spec_is_looked_at_before_the_work(folder: Path) -> None:
    (folder / "mine.gauge").mkdir()
    result = call("new", "mine", "nets_of_test.py:broken")
    assert result.exit_code == 2
    assert last(result.stderr) == "Error: cannot write mine.gauge: it is a folder"
    says = "Error: --loss, --outputs, --fixed and --debug are for a MODEL."
    assert last(call("new", "other", "--outputs", "loss").stderr) == says


def test_a_factory_that_fails_for_a_new_spec(folder: Path) -> None:
    result = call("new", "mine", "nets_of_test.py:broken", "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr and "ValueError: no weights here" in last(result.stderr)
    assert not (folder / "mine.gauge").exists()


@pytest.mark.parametrize("name", ["llama", "mlp", "auto"])
def test_show_prints_what_ships(name: str) -> None:
    result = call("show", name)
    assert (result.exit_code, result.stdout) == (0, shipped_text(name))


def test_auto_is_shown_as_the_spec_that_it_is(folder: Path) -> None:
    (folder / "all.gauge").write_text(call("show", "auto").stdout.replace("architecture auto", "architecture all"))
    entries, wanted = load("all.gauge").entries, load("auto").entries
    assert [(e.gauge.name, e.required) for e in entries] == [(e.gauge.name, e.required) for e in wanted]


def test_show_knows_only_what_ships() -> None:
    result = call("show", "lllama")
    assert result.exit_code == 2
    assert last(result.stderr) == "Error: there is no shipped spec 'lllama'; did you mean 'llama'?"
    result = call("show", "unit.gauge")
    assert result.exit_code == 2
    assert "Error: there is no shipped spec 'unit.gauge'; shipped specs here: attention, auto, " in result.stderr


@pytest.mark.parametrize("width", [20, 200])
def test_a_terminal_gets_colour_and_the_same_text(width: int) -> None:
    shown = io.StringIO()
    screen.show_spec(
        Console(file=shown, force_terminal=True, color_system="standard", width=width, soft_wrap=True),
        shipped_text("mlp"),
    )
    assert "\x1b[" in shown.getvalue()
    assert re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue()) == shipped_text("mlp")


def words_of_the_grammar() -> set[str]:
    grammar = importlib.resources.files("gaugec.language").joinpath("grammar.lark").read_text(encoding="utf-8")
    return set(re.findall(r"^_?[A-Z]+(?:\.2)?: /([a-z]+)\(\?!", grammar, re.M))


def test_the_lexer_knows_every_shipped_text_and_every_word() -> None:
    for name in shipped():
        tokens = list(GaugeLexer(stripnl=False, ensurenl=False).get_tokens(shipped_text(name)))
        assert "".join(text for _, text in tokens) == shipped_text(name)
        assert [text for kind, text in tokens if kind is Error] == []
    assert len(words_of_the_grammar()) == 16
    for word in words_of_the_grammar():
        (kind, text), *_ = GaugeLexer().get_tokens(f"{word} a")
        assert (text, kind in Keyword) == (word, True)


def test_pygments_finds_the_lexer() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    module, _, name = declared["pygments.lexers"]["gauge"].partition(":")
    assert getattr(importlib.import_module(module), name) is GaugeLexer
    assert "*.gauge" in GaugeLexer.filenames


def test_the_grammar_of_the_editor_has_the_words_of_the_language() -> None:
    folder = ROOT / "docs" / "editors"
    grammar = json.loads((folder / "gauge.tmLanguage.json").read_text(encoding="utf-8"))
    kinds = [pattern for pattern in grammar["patterns"] if "|" in pattern["match"]]
    for word in words_of_the_grammar():
        assert any(re.match(pattern["match"], f"{word} a") for pattern in kinds), word
    (package,) = json.loads((folder / "package.json").read_text(encoding="utf-8"))["contributes"]["grammars"]
    assert package["scopeName"] == grammar["scopeName"]
    assert (folder / package["path"]).is_file()
