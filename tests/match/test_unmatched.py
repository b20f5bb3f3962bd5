"""Gauges that are proved and that the matcher can follow in no model yet: told, and no end of what does without."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import gaugec
from gaugec.cli import main

GAUGES = """
gauge both_axes(n, d, f):
    "The basis of a square weight, scaled on both sides."
    given  x[n, d]
    param  V[f, d], W[f, f], U[d, f]
    model  y = x @ V.T @ W.T @ U.T
    for every c in positive(f):
        V -> diag(c) @ V
        W -> diag(c) @ W @ diag(1/c)
        U -> U @ diag(1/c)
    keeps  y
    fix    rownorm(V) == colnorm(U)

gauge unit_scale(n, d, f):
    "A ReLU unit's scale."
    given  x[n, d]
    param  W1[f, d], W2[d, f]
    model  y = relu(x @ W1.T) @ W2.T
    for every c in positive(f):
        W1 -> diag(c) @ W1
        W2 -> W2 @ diag(1/c)
    keeps  y
    fix    rownorm(W1) == colnorm(W2)

architecture both:
    use both_axes
    use unit_scale
"""
WHY = "not matched yet: its action is not yet supported: the matcher follows scales, rotations and shifts of whole axes"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "both.gauge").write_text(GAUGES)
    some = GAUGES.replace("use both_axes", "use both_axes optional")
    (tmp_path / "some.gauge").write_text(some)
    return tmp_path


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7, bias=False), nn.ReLU(), nn.Linear(7, 3, bias=False))


def test_verify_says_what_no_compile_can_match(folder: Path) -> None:
    result = CliRunner().invoke(main, ["verify", "both.gauge"])
    assert result.exit_code == 0, result.output
    assert f"           {WHY}".strip() in result.stdout
    verified = gaugec.verify("both.gauge")
    assert verified.unmatched == (WHY.removeprefix("not matched yet: "), "")
    assert f"    {WHY}" in str(verified)


def test_a_required_one_is_refused(folder: Path) -> None:
    with pytest.raises(gaugec.MatchError, match=f"both_axes is proved, but {WHY}"):
        gaugec.compile("both.gauge", model(), (torch.randn(4, 5),))


def test_an_optional_one_is_a_line(folder: Path) -> None:
    gauge = gaugec.compile("some.gauge", model(), (torch.randn(4, 5),))
    assert [site.gauge for site in gauge.sites] == ["unit_scale"]
    assert [str(refusal) for refusal in gauge.refusals] == [f"both_axes: proved, {WHY}"]
    assert f"refused: both_axes: proved, {WHY}" in gauge.report()
