"""The basis of a residual stream: every writer, every reader, and the gains in whose charts these turn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gaugec


class Stream(nn.Module):
    """Two layers behind norms, with a head of its own or tied to the table."""

    def __init__(self, norm: type[nn.Module], *, tied: bool = False, gated: bool = False) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(11, 8), nn.Linear(8, 11, bias=False)
        self.norms = nn.ModuleList([norm(8) for _ in range(3)])
        self.ups = nn.ModuleList([nn.Linear(8, 9) for _ in range(2)])
        self.downs = nn.ModuleList([nn.Linear(9, 8) for _ in range(2)])
        self.gate = nn.Parameter(torch.randn(8)) if gated else None
        if tied:
            self.head.weight = self.table.weight
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        for norm, up, down in zip(self.norms, self.ups, self.downs):
            written = down(F.silu(up(norm(x))))
            x = x + (written if self.gate is None else self.gate * written)
        return self.head(self.norms[2](x))


def compiled(gauge: str, model: nn.Module, tmp_path) -> gaugec.pipeline.compiled.CompiledGauge:
    path = tmp_path / "one.gauge"
    path.write_text(f'architecture one:\n    "One gauge."\n    use {gauge} from stream\n')
    torch.manual_seed(0)
    return gaugec.compile(str(path), model, (torch.randint(0, 11, (4, 6)),))


def test_a_stream_turns_as_a_whole(tmp_path) -> None:
    (site,) = compiled("stream_rotation", Stream(nn.RMSNorm), tmp_path).sites
    charts = {b.parameter: [(f.parameter, f.power) for f in b.chart.factors] for b in site.bindings}
    assert charts == {
        "table.weight": [],
        "downs.0.weight": [],
        "downs.1.weight": [],
        "downs.0.bias": [],
        "downs.1.bias": [],
        "ups.0.weight": [("norms.0.weight", 1)],
        "ups.1.weight": [("norms.1.weight", 1)],
        "head.weight": [("norms.2.weight", 1)],
    }
    assert (site.group, site.size, site.copies, site.wide, site.verdict) == ("orthogonal", 8, 1, True, "proved")
    assert sorted(site.held) == ["norms.0.weight", "norms.1.weight", "norms.2.weight"]


def test_under_layer_norms_the_biases_turn_behind_their_gains(tmp_path) -> None:
    (site,) = compiled("stream_rotation_ln", Stream(nn.LayerNorm), tmp_path).sites
    charts = {b.parameter: [(f.parameter, f.power) for f in b.chart.factors] for b in site.bindings}
    assert charts["norms.1.bias"] == [("norms.1.weight", -1)] and charts["ups.1.weight"] == [("norms.1.weight", 1)]
    assert len(charts) == 11 and site.group == "orthogonal_ones" and site.verdict == "proved"


@pytest.mark.parametrize(
    ("gauge", "model"),
    [
        ("stream_rotation", Stream(nn.LayerNorm)),  # a mean is taken
        ("stream_rotation", Stream(nn.RMSNorm, gated=True)),  # coordinates that are weighted on the way in
    ],
    ids=["mean", "gated"],
)
def test_what_holds_the_coordinates_fast_is_refused(gauge: str, model: nn.Module, tmp_path) -> None:
    with pytest.raises(gaugec.MatchError, match=f"{gauge} finds no site"):
        compiled(gauge, model, tmp_path)


def test_a_tied_head_is_one_weight_with_two_movements(tmp_path) -> None:
    gauge = compiled("stream_rotation", Stream(nn.RMSNorm, tied=True), tmp_path)
    assert not gauge.sites and "the gains of what meets do not cancel" in gauge.report()
    assert "table.weight and head.weight are one tied weight" in gauge.report()
