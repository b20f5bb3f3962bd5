"""What is installed, and what importing it brings along."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import subprocess
import sys

import pytest

import gaugec


def test_nothing_but_gaugec_at_the_top_of_site_packages() -> None:
    files = importlib.metadata.files("gaugec") or []
    tops = {file.parts[0] for file in files} - {"..", "__pycache__"}
    tops = {top for top in tops if not top.endswith(".dist-info") and not top.startswith("__editable__")}
    assert tops <= {"gaugec"}


def test_data_files_are_there() -> None:
    assert (importlib.resources.files("gaugec.specs") / "architectures" / "llama.gauge").is_file()
    assert (importlib.resources.files("gaugec.language") / "grammar.lark").is_file()
    assert (importlib.resources.files("gaugec.pipeline") / "page.css").is_file()
    assert (importlib.resources.files("gaugec") / "py.typed").is_file()


def test_version_is_the_one_installed() -> None:
    assert gaugec.__version__ == importlib.metadata.version("gaugec")


@pytest.mark.parametrize("name", gaugec.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert callable(getattr(gaugec, name))


@pytest.mark.parametrize(
    ("module", "strangers"),
    [
        ("gaugec", {"torch", "sympy", "lark", "networkx"}),
        ("gaugec.cli", {"torch", "sympy", "lark", "networkx"}),
        ("gaugec.runtime", {"sympy", "lark", "networkx", "gaugec.pipeline", "gaugec.graph"}),
    ],
)
def test_an_import_brings_no_more_than_it_needs(module: str, strangers: set[str]) -> None:
    script = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & strangers


def test_a_spec_is_proved_without_torch() -> None:
    script = "import sys, gaugec; assert gaugec.verify('mlp'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "networkx"}
