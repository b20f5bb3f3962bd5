"""Every text of a refusal stands on a page of `docs/refusals`, once, and every text there is one that may be said."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

from refusal_texts import texts

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "refusals").glob("*.md"))


def rows(page: Path) -> list[str]:
    """The first cells of the tables of a page that say what may be said."""
    found: list[str] = []
    for table in re.findall(r"^\| it says .*\n\|[-|]+\n((?:\|.*\n)*)", page.read_text(encoding="utf-8"), re.M):
        found += [line[2:].partition(" |")[0] for line in table.splitlines()]
    return found


SAID = {page.name: rows(page) for page in PAGES}


def test_every_refusal_has_an_entry() -> None:
    entries = Counter(row for said in SAID.values() for row in said)
    where = texts()
    assert len(where) > 150
    lacking = [f"{where[text]} says {text!r}" for text in sorted(where) if entries[text] != 1]
    assert not lacking, f"each of these needs one row on a page of docs/refusals: {lacking}"


def test_every_entry_may_be_said() -> None:
    sources = [*(ROOT / "gaugec").rglob("*.py"), *(ROOT / "runtime").rglob("*.py")]
    nodes = (node for path in sources for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    written = "\n".join(n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str))
    said = [row for page in SAID.values() for row in page]
    assert [row for row in said if not all(part.strip() in written for part in row.split("…"))] == []


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "refusals" / "index.md").read_text(encoding="utf-8")
    linked = re.findall(r"^\| \[[^]]+\]\(([\w-]+\.md)\)", index, re.M)
    assert sorted(linked) == sorted(page.name for page in PAGES if page.name != "index.md")
