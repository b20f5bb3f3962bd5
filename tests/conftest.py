"""What a test may ask for: golden files, double precision.  What it gets: limits that do not depend on the machine."""

from __future__ import annotations

import difflib
import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from clocks import TICK, Clock

from gaugec import limits
from gaugec.garbage import OBJECTS
from gaugec.graph.check import SWITCH

LONGEST = {
    "test_architectures", "test_docs", "test_end_to_end", "test_model_mutants", "test_recheck", "test_settings",
    "test_spec_mutants", "test_taken", "test_twin",
}  # fmt: skip
GOLDEN = Path(__file__).parent / "golden"
sys.path.append(str(Path(__file__).parents[1]))  # for `experiments`; last, since gaugec is the installed one
os.environ[SWITCH] = "1"  # every stage is checked, in child processes too
gc.set_threshold(OBJECTS)  # thousands of tests, beside all of torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden from what the code gives now")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first: what is begun last is then short, and no process waits for another."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture(scope="session", autouse=True)
def counted() -> Iterator[None]:
    """Limits are amounts of work: what is decided here is decided on every machine, and what is not is not."""
    with limits.clock(Clock(TICK)):
        yield


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden(name, text)` fails unless `text` is tests/golden/<name> to the byte; --update-golden writes it."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
            return
        if not path.exists():
            pytest.fail(f"no golden file {name}: look at the text, then run pytest --update-golden", pytrace=False)
        want = path.read_bytes().decode()
        if want != text:
            lines = difflib.unified_diff(want.splitlines(), text.splitlines(), f"golden/{name}", "now", lineterm="")
            shown = "\n".join(list(lines)[:80])
            pytest.fail(f"{name} differs from its golden file (--update-golden accepts):\n{shown}", pytrace=False)

    return check


@pytest.fixture
def double() -> Iterator[None]:
    """Models are made in double precision, so that a change of the function cannot hide in rounding."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
