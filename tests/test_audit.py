"""Counting dead directions: models whose number is known by hand, what the gauges explain of it, and doubt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import gaugec
from gaugec.cli import main
from gaugec.tracing.trace import trace
from gaugec.witness.jacobian import looked_up, replaced_eps
from gaugec.witness.rank import FLOOR, cut


class Net(nn.Module):
    """Seven units with biases: seven scales are dead; and a table of which half is read."""

    def __init__(self, more: bool = False) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 7), nn.Linear(7, 3)
        self.extra = nn.Parameter(torch.randn(2, 5)) if more else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(torch.relu(self.up(x)))
        return y if self.extra is None else y * self.extra[0, 0]


def counted(model: nn.Module, spec: str = "relu_mlp") -> gaugec.Audit:
    return gaugec.audit(spec, model, (torch.randn(6, 4),))


def test_a_complete_list() -> None:
    found = counted(Net())
    assert (found.parameters, found.nullity, found.orbit, found.unread, found.unexplained) == (59, 7, 7, 0, 0)
    assert found.clear and found.approximate == 0 and found.least < 1e-14 < found.alive and found.error < 1e-14
    shares = {share.parameter: share for share in found.shares}
    assert sum(share.dead for share in found.shares) == pytest.approx(7)
    assert all(share.explained == pytest.approx(share.dead, abs=1e-9) for share in found.shares)
    assert shares["down.bias"].dead == pytest.approx(0, abs=1e-12)


def test_what_is_not_read_and_what_no_gauge_explains() -> None:
    """Nine entries that nothing reads; and the factor's scale against the reader's, of which the spec knows nothing."""
    found = counted(Net(more=True))
    assert (found.nullity, found.orbit, found.unread, found.unexplained) == (17, 7, 9, 1)
    assert "17 dead directions: the gauges explain 7, 9 are entries that nothing reads, 1 are not" in found.text()


def test_singular_values_are_cut_at_the_gap() -> None:
    assert cut(torch.tensor([1.0, 1e-3, 1e-6, 1e-15, 1e-16], dtype=torch.float64)) == (3, 1e-15, 1e-6)
    assert cut(torch.tensor([1.0, 1e-3], dtype=torch.float64)) == (2, 0.0, 1e-3)
    rank, least, alive = cut(torch.logspace(0, -16, 17, dtype=torch.float64))  # no gap anywhere
    assert alive / least < 1e3 and least <= FLOOR * 10 and rank < 17


class Norms(nn.Module):
    """An eps of each kind, one number that is none, and a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm, self.rms = nn.Embedding(9, 6), nn.LayerNorm(6), nn.RMSNorm(6)

    def forward(self, tokens: Tensor, x: Tensor) -> Tensor:
        y = self.rms(self.norm(self.table(tokens))) + x
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-6)
        return (y + 1e-6).exp()


def test_every_eps_is_replaced_and_nothing_else() -> None:
    traced = trace(Norms(), (torch.tensor([[1, 2], [3, 4]]), torch.randn(2, 2, 6)))
    assert looked_up(traced.graph) == {"tokens": 9}
    before = str(traced.program.graph)
    with replaced_eps(traced.program.graph_module, 0.1) as count:
        text = str(traced.program.graph)
    assert count == 3 == text.count("0.1") and text.count("1e-06") == 1
    assert str(traced.program.graph) == before


def test_a_large_model_is_refused() -> None:
    large = nn.Sequential(nn.Linear(160, 62), nn.ReLU(), nn.Linear(62, 3))
    with pytest.raises(gaugec.MatchError, match=r"the model has 10,171 parameters, and 10,000 are counted at most"):
        gaugec.audit("relu_mlp", large, (torch.randn(2, 160),))


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_text(
        "import torch\nfrom torch import nn\n\ndef net():\n"
        "    return nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 3)), (torch.randn(6, 4),)\n",
        encoding="utf-8",
    )
    result = CliRunner().invoke(main, ["audit", "relu_mlp", f"{path}:net"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("59 parameters have 7 dead directions: the gauges explain 7, 0 are entries that")
    told = json.loads(CliRunner().invoke(main, ["audit", "relu_mlp", f"{path}:net", "--json"]).stdout)
    assert (told["nullity"], told["orbit"], told["unexplained"], told["clear"]) == (7, 7, 0, True)
