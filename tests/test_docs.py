"""The documentation is true: every page is run from its top to its end, and every link leads somewhere.

A fenced block says what it is. `python` runs, with what the page ran before it and with `setting()`; `gauge` is loaded;
`console` is typed, and what stands under a command is what it prints, `…` for lines that are left out; a `title` makes
a file of a block; `text` is shown only.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.resources
import io
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import gaugec
from gaugec.cli import main
from gaugec.groups import GROUPS
from gaugec.operators import TABLE

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```', re.M | re.S)
LANGUAGES = {"python", "gauge", "console", "text"}
LONG = {"demo"}  # it has tests of its own
VARIES = re.compile(r"\d+\.\d+ s\b")
MODEL = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.up, self.down = torch.nn.LayerNorm(6), torch.nn.Linear(6, 10), torch.nn.Linear(10, 4)

    def forward(self, x):
        return self.down(torch.relu(self.up(self.norm(x))))

def factory(): return Net(), (torch.randn(5, 6),)
"""


def setting() -> dict[str, Any]:
    """What the pages call by these names: a small Llama, and inputs of it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = dict(vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=1)
    config = LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64)
    return {
        "model": LlamaForCausalLM(config),
        "input_ids": torch.randint(61, (2, 7)),
        "generator": torch.Generator().manual_seed(0),
    }


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """Language, title and text of every block of a page."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    known = set(sys.modules)
    (tmp_path / "mymodel.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    with torch.random.fork_rng():
        yield tmp_path
    for name in set(sys.modules) - known:  # what a page has written
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_runs(page: Path, folder: Path) -> None:
    space: dict[str, Any] = setting() if any(kind == "python" for kind, _, _ in blocks(page)) else {}
    space["__name__"] = "page"
    for number, (kind, title, text) in enumerate(blocks(page)):
        assert kind in LANGUAGES, f"block {number}: say what it is"
        if title:
            (folder / title).write_text(text, encoding="utf-8")
        if kind == "gauge" and re.search(r"^(gauge|architecture) ", text, re.M):
            path = folder / (title or "example.gauge")
            path.write_text(text, encoding="utf-8")
            assert gaugec.load(path).entries
        elif kind == "python" and not title:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(ast.parse(text), f"{page.name}, block {number}", "exec"), space)
        elif kind == "console":
            for line, shown in typed(text):
                told(line, shown)


def typed(text: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a console, and the lines under each."""
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        line, *shown = part.splitlines()
        yield line, shown


def told(line: str, shown: list[str]) -> None:
    """A command does what the page says of it: its exit code, and what it prints."""
    name, *words = shlex.split(line, comments=True)
    assert name == "gaugec", line
    if words[0] in LONG:
        known(words[0], words[1:])
        return
    result = CliRunner().invoke(main, words)
    assert result.exit_code == (1 if "exits with 1" in line else 0), result.output
    wanted = [re.escape(VARIES.sub("… s", shown_line)).replace("…", ".*") for shown_line in shown]
    pattern = "\n".join(r"(?:.*\n)*?.*" if each == ".*" else each for each in wanted)
    assert re.fullmatch(pattern, VARIES.sub("0.0 s", result.output.rstrip("\n"))) or not shown, result.output


def known(command: str, options: list[str]) -> None:
    """The command is there, and has these options."""
    assert command in main.commands, command
    has = {option for parameter in main.commands[command].params for option in parameter.opts} | {"--help", "-h"}
    assert [option for option in options if option.startswith("-") and option not in (*has, "-")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    code = "\n".join([*(part for _, _, part in blocks(page)), *re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)])
    for command, rest in re.findall(r"^(?:\$ )?gaugec ([a-z]+)((?:.|\n    )*)", code, re.M):
        known(command, re.findall(r"(?<![\w-])--?[a-z][a-z-]*", re.sub(r"ARGS=\S+|#.*", "", rest)))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert set(re.findall(r"^make ([a-z]+)", code, re.M)) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_language_has_an_example_of_everything() -> None:
    """Every word, sign, operator and group that the reference names is in a spec there that is proved."""
    page = ROOT / "docs" / "language.md"
    (spec,) = (text for _, title, text in blocks(page) if title)
    code = re.sub(r'"[^"\n]*"', "", spec)
    grammar = importlib.resources.files("gaugec.language").joinpath("grammar.lark").read_text(encoding="utf-8")
    words = set(re.findall(r"^_?[A-Z]+(?:\.2)?: /([a-z]+)\(\?!", grammar, re.M))
    operators = {operator.name for operator in TABLE if operator.rule}
    wanted = words | operators | set(GROUPS)
    assert sorted(word for word in wanted if not re.search(rf"\b{word}\b", code)) == []
    assert [sign for sign in ("->", "==", "**", "@", ".T", "?", "[_") if sign not in code] == []


def test_every_page_is_in_the_navigation() -> None:
    named = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(named) == sorted(str(page.relative_to(ROOT / "docs")) for page in PAGES[2:])


def test_every_row_of_the_optimizer_has_its_test() -> None:
    rows = (ROOT / "docs" / "training.md").read_text(encoding="utf-8").split("## What works as with")[1]
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "runtime").glob("test_*.py"))
    names = re.findall(r"`(test_\w+)`", rows)
    assert names and [name for name in names if f"def {name}(" not in text] == []
