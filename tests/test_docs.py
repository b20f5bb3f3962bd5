"""The documentation is true: every spec in it loads, every Python example parses, every link leads somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import gaugec

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
