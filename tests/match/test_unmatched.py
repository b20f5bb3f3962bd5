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
gauge bias_against_bias(n, d, f):
    "A bias against a shift of what is read."
    given  x[n, d]
    param  W1[f, d], b1[f], W2[d, f], b2[d]
    model  y = (x @ W1.T + b1) @ W2.T + b2
    for every a in translation(f):
        b1 -> b1 + a
        b2 -> b2 - W2 @ a
    keeps  y

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
    use bias_against_bias
    use unit_scale
"""
WHY = "not matched yet: its action is not yet supported: the matcher follows scales, rotations and shifts of whole axes"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "both.gauge").write_text(GAUGES)
    some = GAUGES.replace("use bias_against_bias", "use bias_against_bias optional")
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
    with pytest.raises(gaugec.MatchError, match=f"bias_against_bias is proved, but {WHY}"):
        gaugec.compile("both.gauge", model(), (torch.randn(4, 5),))


def test_an_optional_one_is_a_line(folder: Path) -> None:
    gauge = gaugec.compile("some.gauge", model(), (torch.randn(4, 5),))
    assert [site.gauge for site in gauge.sites] == ["unit_scale"]
    assert [str(refusal) for refusal in gauge.refusals] == [f"bias_against_bias: proved, {WHY}"]
    assert f"refused: bias_against_bias: proved, {WHY}" in gauge.report()
