"""What the tests of matching share: equal numbers, and a spec that asks for every gauge."""

from __future__ import annotations

import pytest
from match.models import spec_file
from seeds import set_seed


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    set_seed(0)


@pytest.fixture(scope="session")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a spec with every gauge that ships, none of them required."""
    return spec_file(tmp_path_factory.mktemp("spec"))
