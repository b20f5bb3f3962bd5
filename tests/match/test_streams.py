"""The basis of a residual stream: every writer, every reader, and the gains in whose charts these turn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from match.training import apart
from torch import Tensor, nn

import gaugec


class Plus(nn.Module):
    """A norm that multiplies by 1 + w, as Gemma's does; `mean`: and takes a mean, as Nemotron's does."""

    def __init__(self, width: int, mean: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(width)) if mean else None

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is not None:
            return F.layer_norm(x, x.shape[-1:], 1 + self.weight, self.bias)
        return F.rms_norm(x, x.shape[-1:], eps=1e-6) * (1.0 + self.weight)


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


class Marked(Stream):
    """A token of its own in front, and positions, of which as many are read as there are tokens."""

    def __init__(self) -> None:
        super().__init__(nn.RMSNorm)
        self.mark, self.positions = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 12, 8))

    def forward(self, tokens: Tensor) -> Tensor:
        x = torch.cat([self.mark.expand(len(tokens), -1, -1), self.table(tokens)], 1)
        return self.head(self.norms[2](x + self.positions[:, : tokens.shape[1] + 1]))


def test_a_part_of_a_table_that_follows_the_length_is_no_writer(tmp_path) -> None:
    """Seven of twelve positions turn, where a longer text reads more."""
    with pytest.raises(gaugec.MatchError) as caught:
        compiled("stream_rotation", Marked(), tmp_path)
    assert "it holds at the sizes of the example alone; at others norms.2 changes: left over is" in str(caught.value)


def test_a_tied_head_is_one_weight_with_two_movements(tmp_path) -> None:
    gauge = compiled("stream_rotation", Stream(nn.RMSNorm, tied=True), tmp_path)
    assert not gauge.sites and "the gains of what meets do not cancel" in gauge.report()
    assert "table.weight and head.weight are one tied weight" in gauge.report()


STREAM_PLUS = """
gauge stream_plus(n, d, e, f):
    "A basis that is turned back behind 1 + g."
    given  x[n, e]
    param  each W[d, e], each c[d]?, g[d], each U[f, d]
    model  y = (rms_norm(x @ W.T + c) * (1 + g)) @ U.T
    for every R in orthogonal(d):
        W -> R @ W
        c -> R @ c
        U -> U @ diag(1 + g) @ R.T @ diag(1/(1 + g))
    keeps  y
"""
READER_PLUS = """
gauge reader_plus(n, d, e):
    "A reader that forgets what is added along the inverse of 1 + g."
    given  x[n, d]
    param  g[d], b[d], W[e, d], B[e]
    model  y = (layer_norm(x) * (1 + g) + b) @ W.T + B
    for every a in translation(e):
        W -> W + outer(a, 1/(1 + g))
        B -> B - outer(a, 1/(1 + g)) @ b
    keeps  y
"""


def factors(gauge: gaugec.pipeline.compiled.CompiledGauge) -> dict[str, set[float]]:
    """What is added to each gain that a chart reads."""
    found: dict[str, set[float]] = {}
    for factor in (f for site in gauge.sites for b in site.bindings for f in b.chart.factors):
        found.setdefault(factor.parameter, set()).add(factor.shift_by)
    return found


@pytest.mark.parametrize("orbit", ["pinned", "horizontal"])
def test_gains_of_1_plus_w_are_charts(orbit: str, tmp_path) -> None:
    """The shipped gauge says g: w + 1 plays it."""
    model = Stream(Plus).double()
    gauge = compiled("stream_rotation", model, tmp_path)
    assert factors(gauge) == {f"norms.{n}.weight": {1.0} for n in range(3)}
    assert [site.verdict for site in gauge.sites] == ["proved"]
    tokens = torch.randint(0, 11, (4, 6), generator=torch.Generator().manual_seed(5))
    assert apart(gauge, model, tokens, orbit=orbit) <= 1e-10


@pytest.mark.parametrize("norm", [Plus, nn.RMSNorm], ids=["1 + w", "w"])
def test_a_formula_with_1_plus_g_is_played_by_either(norm: type[nn.Module], tmp_path) -> None:
    path = tmp_path / "plus.gauge"
    path.write_text(STREAM_PLUS)
    torch.manual_seed(0)
    gauge = gaugec.compile(str(path), Stream(norm), (torch.randint(0, 11, (4, 6)),))
    assert factors(gauge) == {f"norms.{n}.weight": {float(norm is Plus)} for n in range(3)}


SHIPPED = 'architecture one:\n    "One gauge."\n    use reader_shift_bias from readers\n'


@pytest.mark.parametrize("text", [READER_PLUS, SHIPPED], ids=["1 + g", "g"])
def test_readers_shift_along_the_inverse_of_1_plus_w(text: str, tmp_path) -> None:
    path = tmp_path / "plus.gauge"
    path.write_text(text)
    torch.manual_seed(0)
    model = Stream(lambda width: Plus(width, mean=True)).double()  # type: ignore[arg-type]
    tokens = torch.randint(0, 11, (4, 6))
    gauge = gaugec.compile(str(path), model, (tokens,))
    assert factors(gauge) == {"norms.0.weight": {1.0}, "norms.1.weight": {1.0}}
    assert apart(gauge, model, tokens) <= 1e-10


class Twice(Stream):
    """A reader behind 1 + w, and another behind w."""

    def __init__(self) -> None:
        super().__init__(Plus)
        self.other = nn.Linear(8, 11, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        gained = F.rms_norm(self.table(tokens), (8,), eps=1e-6) * self.norms[0].weight
        return super().forward(tokens) + self.other(gained)


def test_a_gain_that_is_read_with_and_without_1_is_not_decided(tmp_path) -> None:
    with pytest.raises(gaugec.MatchError, match="a gain that is read plus several numbers"):
        compiled("stream_rotation", Twice(), tmp_path)
