"""The documentation is true: every spec in it loads, every Python example parses, every link leads somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import gaugec
from gaugec.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


def blocks() -> list[pytest.param]:
    found = []
    for page in PAGES:
        for number, (language, text) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8"))):
            found.append(pytest.param(language, text, id=f"{page.name}-{number}"))
    return found


@pytest.mark.parametrize(("language", "text"), blocks())
def test_examples(language: str, text: str, tmp_path: Path) -> None:
    if language == "python":
        ast.parse(text)
    elif re.search(r"^(gauge|architecture) ", text, re.M):
        (tmp_path / "example.gauge").write_text(text, encoding="utf-8")
        assert gaugec.load(tmp_path / "example.gauge").entries


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_refusal_shown_is_what_the_tool_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the seconds may differ."""
    texts = [text for _, text in BLOCK.findall((ROOT / "docs" / "writing-specs.md").read_text(encoding="utf-8"))]
    spec = next(text for text in texts if text.startswith("op relu2"))
    shown = next(text for text in texts if text.startswith("my.gauge\n"))
    monkeypatch.chdir(tmp_path)
    wrong = spec.replace("diag(1/c**2)", "diag(1/c)")
    assert wrong != spec
    Path("my.gauge").write_text(wrong, encoding="utf-8")
    result = CliRunner().invoke(main, ["verify", "my.gauge"])
    seconds = re.compile(r"\d+\.\d+ s$", re.M)
    assert seconds.sub("… s", result.stdout) == seconds.sub("… s", shown)
    Path("my.gauge").write_text(spec, encoding="utf-8")
    assert CliRunner().invoke(main, ["verify", "my.gauge"]).exit_code == 0
