"""What the tests of matching share: one proof of the specs for all models, and a spec that asks for every gauge."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
from match.models import spec_file
from seeds import set_seed

from gaugec.pipeline import compile as driver

VERIFY = functools.cache(driver.verify)


@pytest.fixture(scope="module", autouse=True)
def proved_once() -> Iterator[None]:
    """A spec's own proof does not depend on the model: it is made once, not for every model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "verify", VERIFY)
        yield


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    set_seed(0)


@pytest.fixture(scope="session")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a spec with every gauge that ships, none of them required."""
    return spec_file(tmp_path_factory.mktemp("spec"))
