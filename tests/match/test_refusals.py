"""What a refusal at a site tells: the node, its module, the line of source, the axis that was followed, the law."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from match.models import BATCH, OUT, UNITS, WIDTH, Attention, Net, mlp
from torch import Tensor, nn
from torch.nn import functional as F

import gaugec
from gaugec.cli import main
from gaugec.matching import flow
from gaugec.sites import Refusal

pytestmark = pytest.mark.usefixtures("double")


class Silent(nn.Module):
    """A module of its own with an activation that has no degree."""

    def forward(self, h: Tensor) -> Tensor:
        return F.silu(h)


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.bend, self.down = nn.Linear(WIDTH, UNITS), Silent(), nn.Linear(UNITS, OUT)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.bend(self.up(x)))


def refused(spec: str, model: nn.Module, *inputs: Tensor) -> tuple[Refusal, ...]:
    compiled = gaugec.compile(spec, model, inputs)
    return compiled.refusals


def line_of(function: Any, text: str) -> int:
    lines, start = inspect.getsourcelines(function)
    (number,) = [start + n for n, line in enumerate(lines) if text in line]
    return number


def test_everything_that_a_reader_needs(spec: str) -> None:
    (found,) = [
        r
        for r in refused(spec, Deep(), torch.randn(BATCH, WIDTH))
        if r.gauge == "relu_rescale" and r.law and "silu" in r.law
    ]
    where = line_of(Silent.forward, "F.silu")
    assert found.operation == "aten.silu" and found.place == "bend"
    assert found.explained() == (
        "relu_rescale at up.weight, with up.bias: silu has no law that lets a positive scale through "
        "at aten.silu in bend\n"
        f"  followed: axis 0 of up.weight, of length {UNITS}\n"
        f"  source: test_refusals.py:{where}: return F.silu(h)\n"
        "  missing: silu(c x) = c**n silu(x) for c > 0, and some n"
    )
    assert not found


CASES = {
    "a constant is added": (lambda: mlp(lambda m, h: h + 1), "aten.add", "g x + g y = g (x + y)"),
    "summed away": (lambda: mlp(lambda m, h: h + h.sum(-1, keepdim=True)), "aten.sum", "holds for c = 1 only"),
    "rolled": (lambda: mlp(lambda m, h: h + h.roll(1, -1)), "", "what is added must move in the same way"),
    "returned": (lambda: mlp(after=lambda m, y, h: (y, h)), "aten.relu", "what leaves the site"),
    "unknown": (lambda: mlp(lambda m, h: h.cumsum(-1)), "aten.cumsum", "a row of the operator table for aten.cumsum"),
    "another step": (lambda: mlp(act=torch.abs), "aten.abs", "the formula of the gauge has no such step"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_law_that_is_missing(name: str, spec: str) -> None:
    model, operation, law = CASES[name]
    found = [r for r in refused(spec, model(), torch.randn(BATCH, WIDTH)) if r.gauge == "relu_rescale"]
    assert found
    assert any(law in r.law and operation in (r.operation, r.reason, "") for r in found), [r.explained() for r in found]
    for r in found:
        assert r.axis and r.law and re.match(r"^[\w.]+\.py:\d+: \S", r.line), r


def test_a_rotation_says_what_it_followed(spec: str) -> None:
    model = Attention(on_mixed=torch.tanh)
    found = [r for r in refused(spec, model, torch.randn(3, 5, 13)) if r.gauge == "value_rotation"]
    assert any(
        "tanh acts on each coordinate by itself" in r.reason
        and r.law == "tanh(R x) = R tanh(x): what acts on coordinates commutes with no rotation that mixes them"
        and r.axis == "axis 0 of says.weight, of length 12"
        for r in found
    ), [r.explained() for r in found]


def test_every_refusal_of_the_flow_names_a_law() -> None:
    """No rule refuses without saying what would have let the value through."""
    source = inspect.getsource(flow)
    calls = [m.start() for m in re.finditer(r"raise (Blocked|Demote)\(", source)]
    assert len(calls) > 25
    for start in calls:
        depth, end = 0, start
        for end in range(source.index("(", start), len(source)):
            depth += {"(": 1, ")": -1}.get(source[end], 0)
            if depth == 0:
                break
        text = source[start : end + 1]
        assert re.search(r"node,\s*\S", text), f"no law: {text}"


def small() -> tuple[nn.Module, tuple[Tensor]]:
    """A factory for the command line."""
    return mlp(), (torch.randn(BATCH, WIDTH),)


def test_explain_prints_the_way_of_every_moved_value(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = CliRunner().invoke(
        main,
        ["compile", "relu_mlp", f"{__name__}:small", "-o", str(tmp_path / "o.py"), "--explain"],
        catch_exceptions=False,
    )
    assert ran.exit_code == 0, ran.output
    ways = [re.sub(r"    \[.*\]", "", line).strip() for line in ran.output.splitlines()]
    start = ways.index("up.weight, as W1, moves by c along axis 0")
    assert ways[start : start + 7] == [
        "up.weight, as W1, moves by c along axis 0",
        "up.bias, as b1, moves by c along axis 0",
        "down.weight, as W2, moves by c**(-1) along axis 1",
        "aten.linear in up moves by c along axis 1",
        "aten.linear in up moves by c along axis 1",
        "aten.relu moves by c along axis 1",
        "aten.linear in down is kept",
    ]
    assert "[models.py:" in ran.output  # the line of source


def test_the_way_covers_what_moves_and_what_is_kept(spec: str) -> None:
    compiled = gaugec.compile(spec, Attention(), (torch.randn(3, 5, 13),))
    for site in compiled.sites:
        moved = [line for line in site.way if ", as " in line]
        assert {line.split(", as ")[0] for line in moved} == {b.parameter for b in site.bindings}
        assert any(line.split("    [")[0].endswith("is kept") for line in site.way)
    turns = next(site.way for site in compiled.sites if site.group == "orthogonal")
    assert any("turns by R along axis" in line for line in turns)


def test_the_line_is_no_part_of_the_graph() -> None:
    """Two copies of a module on other lines are the same model."""
    one = gaugec.compile("relu_mlp", mlp(act=lambda h: torch.relu(h)), (torch.randn(BATCH, WIDTH),))
    two = gaugec.compile(
        "relu_mlp",
        mlp(act=lambda h: torch.relu(h)),
        (torch.randn(BATCH, WIDTH),),
    )
    assert one.metadata["graph_sha256"] == two.metadata["graph_sha256"]
    assert "models.py" not in one.source


assert Net  # the models are made of it


# --- which refusals are shown
def test_the_operation_that_blocks_comes_before_what_leaves_the_model(spec: str) -> None:
    found = [r for r in refused(spec, mlp(act=F.gelu), torch.randn(BATCH, WIDTH)) if r.gauge == "relu_rescale"]
    assert found[0].operation == "aten.gelu"


def test_the_step_that_the_formula_has_there_is_said(spec: str) -> None:
    every = refused(spec, mlp(act=torch.abs), torch.randn(BATCH, WIDTH))
    (found,) = [r for r in every if r.operation == "aten.abs" and r.gauge == "relu_rescale"]
    assert found.law == "the formula of the gauge has no such step: there it has relu of it"
