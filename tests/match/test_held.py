"""What a chart holds is dead: a gauge that would hold what an output sees is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from match.training import apart
from torch import Tensor, nn

import gaugec


class Layer(nn.Module):
    """A layer behind a norm, a head behind another; `forward` of some is another one."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm, self.last = nn.Linear(3, 6), nn.LayerNorm(6), nn.LayerNorm(6)
        self.up, self.down, self.head = nn.Linear(6, 5), nn.Linear(5, 6), nn.Linear(6, 4)
        self.bare = nn.Linear(6, 4, bias=False)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))

    def forward(self, x: Tensor) -> object:
        x = self.table(x)
        return self.head(self.last(x + self.down(F.gelu(self.up(self.norm(x))))))


class PostNorm(Layer):
    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.table(x))
        return self.head(self.last(x + self.down(F.gelu(self.up(x)))))


class BareReader(Layer):
    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.table(x))
        return self.head(self.last(self.down(F.gelu(self.up(x))))) + torch.tanh(self.bare(x))


class BiasAdded(Layer):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.norm.bias.sum()


class GainPenalty(Layer):
    def forward(self, x: Tensor) -> object:
        return super().forward(x), self.norm.weight.square().sum()


X = (torch.randn(4, 7, 3),)


@pytest.fixture
def use(tmp_path) -> Callable[..., str]:
    def some(*gauges: str, optional: str = "") -> str:
        path = tmp_path / f"{'_'.join(gauges)}.gauge"
        files = {"reader_shift_bias": "readers", "stream_rotation_ln": "stream", "bias_forward": "biases",
                 "norm_gain": "norms", "value_basis": "attention", "writer_shift": "stream"}  # fmt: skip
        lines = [f"    use {gauge} from {files[gauge]}{optional}" for gauge in gauges]
        path.write_text("\n".join(["architecture some:", '    "Some."', *lines]) + "\n")
        return str(path)

    return some


@pytest.mark.parametrize(
    ("model", "gauge", "alive"),
    [
        (PostNorm, "reader_shift_bias", "norm.weight"),
        (BareReader, "reader_shift_bias", "norm.bias"),
        (BiasAdded, "reader_shift_bias", "norm.bias"),
        (GainPenalty, "reader_shift_bias", "norm.weight"),
        (GainPenalty, "stream_rotation_ln", "norm.weight"),
    ],
    ids=["post-norm", "bare", "added", "penalty", "stream"],
)
def test_what_is_alive_is_not_held(use, model: type[nn.Module], gauge: str, alive: str) -> None:
    torch.manual_seed(0)
    compiled = gaugec.compile(use("norm_gain", gauge, optional=" optional"), model(), X)
    said = f"it would hold {alive}, which would learn no more, and which an output sees beside what it moves"
    assert any(said in str(refusal) and refusal.gauge == gauge for refusal in compiled.refusals)
    assert alive not in [name for site in compiled.sites for name in site.held]
    assert ("last.weight" in [n for site in compiled.sites for n in site.held]) == (gauge == "reader_shift_bias")


def test_a_gauge_that_is_required_and_would_hold_what_is_alive_ends_the_compile(use) -> None:
    class Alone(PostNorm):
        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.table(x))
            return x + self.down(F.gelu(self.up(x)))

    with pytest.raises(gaugec.MatchError, match=r"reader_shift_bias finds no site in the model:\n.*it would hold norm"):
        gaugec.compile(use("reader_shift_bias"), Alone(), X)


def test_what_is_dead_is_held_through_several_sums(use) -> None:
    """A norm's bias moves into that of the values, and that of the values into that of the output."""
    torch.manual_seed(0)
    gauges = ("norm_gain", "bias_forward", "reader_shift_bias", "stream_rotation_ln", "value_basis")
    model = nn.TransformerEncoderLayer(8, 2, 6, dropout=0.0, batch_first=True, norm_first=True)
    model = nn.Sequential(nn.Linear(3, 8), model, nn.LayerNorm(8), nn.Linear(8, 5)).double()
    compiled = gaugec.compile(use(*gauges), model, (X[0].double(),))
    assert not any("it would hold" in str(refusal) for refusal in compiled.refusals)
    held = {name for site in compiled.sites for name in site.held}
    assert held >= {"1.norm1.bias", "1.norm1.weight", "1.self_attn.in_proj_bias", "2.weight", "2.bias"}


class Attention(nn.Module):
    """Queries and values of one packed weight behind norms of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head(F.gelu(self.attention(x, self.norm(y), self.norm(y), need_weights=False)[0]))


def test_a_bias_of_which_all_that_turns_is_held_is_stepped_elsewhere(use) -> None:
    """The values' third turns, and is held; the rest of the packed bias is averaged over nothing."""
    torch.manual_seed(0)
    model, x = Attention().double(), (torch.randn(3, 5, 8).double(), torch.randn(3, 6, 8).double())
    compiled = gaugec.compile(use("value_basis", "bias_forward"), model, x)
    assert apart(compiled, model, *x) < 1e-12
