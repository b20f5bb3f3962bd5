"""An operator is one row: no stage names one, a new row goes the whole way, and its laws are found, not believed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gaugec
from gaugec.errors import GaugeError
from gaugec.model.interfaces import TRIED, private
from gaugec.operators import BY_NAME, HEADS

ROOT = Path(gaugec.__file__).parent
STAGES = ("matching", "proof", "sampling", "witness", "codegen", "certificate")
FUNCTIONS = {row.name for row in BY_NAME.values() if row.kind in ("map", "along", "loss") or row.draws} - HEADS


def literals(path: Path) -> list[tuple[int, str]]:
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [(n.lineno, n.value) for n in tree if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def test_no_stage_names_an_operator() -> None:
    paths = [path for stage in STAGES for path in sorted((ROOT / stage).rglob("*.py"))]
    assert len(paths) > 30 and len(FUNCTIONS) > 8
    for path in paths:
        for line, text in literals(path):
            assert text not in FUNCTIONS, f"{path}:{line} names the operator {text}"


def test_names_of_aten_stand_in_the_tables() -> None:
    for path in sorted(p for p in ROOT.rglob("*.py") if p.name != "operators.py" and not p.name.startswith("aten")):
        for line, text in literals(path):
            assert not re.fullmatch(r"aten\.\w+", text), f"{path}:{line} names {text}"


ROWS = """
    Operator(
        "softmin",
        "last_axis",
        "along",
        along=(
            "mul",
            ("exp", ("mul", -1, "x")),
            ("pow", ("sum", ("exp", ("mul", -1, "x"))), -1),
        ),
        keeps=True,
        shift="forgets",
        unit=True,
    ),
    Operator("expm1", "pointwise", "map", ("add", ("exp", "x"), -1), _aten("expm1")),
    Operator(
        "halves",
        "last_axis",
        "along",
        along=("mul", Fraction(1, 2), "x"),
        keeps=True,
        shift="forgets",
    ),
"""

WITH_ROWS = """
import importlib.util, pathlib, sys
spec = importlib.util.find_spec("gaugec.operators")
text, head = pathlib.Path(spec.origin).read_text(), "TABLE: tuple[Operator, ...] = (\\n"
assert head in text
module = importlib.util.module_from_spec(spec)
sys.modules["gaugec.operators"] = module
exec(compile(text.replace(head, head + ROWS), spec.origin, "exec"), module.__dict__)
"""

SHIFTED = """
gauge shifted(n, v):
    "Forgets what is added to every entry of a row."

    given  x[n, v]
    param  U[n, v]
    model  y = {f}(x + U)

    for every a in translation(n):
        U -> U + outer(a, ones(v))

    keeps  y
"""


def run(script: str) -> str:
    text = f"ROWS = {ROWS!r}\n{WITH_ROWS}\n{script}"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_new_row_is_spelled_proved_and_sampled(tmp_path: Path) -> None:
    (tmp_path / "softmin.gauge").write_text(SHIFTED.format(f="softmin"))
    (tmp_path / "halves.gauge").write_text(SHIFTED.format(f="halves"))
    said = run(
        "import gaugec\n"
        f"for name in ('softmin', 'halves'):\n"
        f"    made = gaugec.verify({str(tmp_path)!r} + f'/{{name}}.gauge').theorems[0]\n"
        "    print(made.verdict, made.sampled > 0)\n"
        "from gaugec.laws import table\n"
        "print(table.holds('softmin shift'), table.holds('softmin sum'), table.holds('halves shift'))\n"
    )
    # what a row says is asked for, and not believed: x / 2 forgets nothing
    assert said.splitlines() == ["proved True", "refused False", "True True False"]


def test_a_new_row_is_met_in_a_model() -> None:
    said = run(
        "import torch\n"
        "from torch import nn\n"
        "from gaugec.tracing.trace import trace\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.w = nn.Parameter(torch.randn(5))\n"
        "    def forward(self, x):\n"
        "        return torch.expm1(x * self.w)\n"
        "print([getattr(node, 'function', '') for node in trace(Net(), (torch.randn(3, 5),)).graph])\n"
    )
    assert "expm1" in said and "opaque" not in said


@pytest.mark.parametrize("name", gaugec.__all__)
def test_no_module_is_named_like_a_public_function(name: str) -> None:
    assert not (ROOT / f"{name}.py").exists() and not (ROOT / name).exists()
    done = subprocess.run([sys.executable, "-c", f"import gaugec.{name}"], capture_output=True, text=True)
    assert "ModuleNotFoundError" in done.stderr


def test_an_interface_that_torch_has_lost_is_named() -> None:
    with pytest.raises(GaugeError, match=r"torch \S+ has no torch\.utils\._pytree\.no_such_thing") as error:
        private("torch.utils._pytree", "no_such_thing")
    assert error.value.help == f"use a torch that was tried: {', '.join(TRIED)}"
    with pytest.raises(GaugeError, match=r"has no torch\._no_such_module\.thing, which gaugec needs"):
        private("torch._no_such_module", "thing")
