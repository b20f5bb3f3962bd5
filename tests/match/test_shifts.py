"""Shifts that pass what is linear, until a bias takes them up, another gives them back, or a function forgets them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from match.training import apart
from torch import Tensor, nn

import gaugec
from gaugec.sites import Site


class Block(nn.Module):
    """Tokens, positions, and one layer of pre-norm attention and units, as the big ones have them."""

    def __init__(self, *, bias: bool = True, dropout: float = 0.0, fused: bool = True) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(19, 12), nn.Embedding(9, 12)
        self.first, self.second, self.last = nn.LayerNorm(12), nn.LayerNorm(12), nn.LayerNorm(12)
        self.inside, self.back = nn.Linear(12, 36, bias=bias), nn.Linear(12, 12)
        self.up, self.down, self.head = nn.Linear(12, 17), nn.Linear(17, 12), nn.Linear(12, 19, bias=False)
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        q, k, v = (part.unflatten(-1, (3, 4)).transpose(1, 2) for part in self.inside(self.first(x)).split(12, -1))
        mixed = torch.softmax(q @ k.mT / 2, -1) @ v
        x = x + self.dropout(self.back(mixed.transpose(1, 2).flatten(-2)))
        x = x + self.down(F.silu(self.up(self.second(x))))
        return self.head(self.last(x))


def sites(spec: str, model: nn.Module | None = None) -> list[Site]:
    torch.manual_seed(0)
    made = Block() if model is None else model
    return gaugec.compile(spec, made, (torch.randint(0, 19, (4, 7)),), loss="cross_entropy").sites


def moved(found: list[Site]) -> list[dict[str, str]]:
    return [{binding.parameter: binding.move.kind for binding in site.bindings} for site in found]


@pytest.fixture
def use(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("specs")

    def one(gauge: str, file: str) -> str:
        path = folder / f"{gauge}.gauge"
        path.write_text(f'architecture one:\n    "One gauge."\n    use {gauge} from {file}\n')
        return str(path)

    return one


def test_a_bias_moves_into_those_of_its_readers(use) -> None:
    """Of a norm, and of the values: a third of a fused bias, behind weights that sum to 1, and head by head."""
    found = sites(use("bias_forward", "biases"))
    assert moved(found) == [
        {"first.bias": "shift", "inside.bias": "still"},
        {"second.bias": "shift", "up.bias": "still"},
        {"inside.bias": "shift", "back.bias": "still"},
    ]
    values, taken = found[2].bindings
    assert (values.offset, values.rest) == (24, ((12, 1),))
    (summand,) = taken.chart.summands
    assert (summand.weight, summand.bias, summand.bias_offset) == ("back.weight", "inside.bias", 24)
    assert summand.kept == ((12, 1, 12, 0),) and summand.summed == ((3, 4, 4), (4, 1, 1))
    assert found[0].held == ("first.bias",)


def test_a_reader_without_a_bias_takes_nothing_up(use) -> None:
    found = sites(use("bias_forward", "biases"), Block(bias=False))
    assert moved(found) == [{"second.bias": "shift", "up.bias": "still"}]


def test_the_keys_bias_is_seen_by_nothing(use) -> None:
    (site,) = sites(use("key_bias", "biases"))
    (binding,) = site.bindings
    assert (binding.parameter, binding.offset, binding.rest, site.verdict) == ("inside.bias", 12, ((12, 1),), "proved")


def test_readers_of_a_layer_norm_shift_along_its_gains(use) -> None:
    found = sites(use("reader_shift_bias", "readers"))
    assert moved(found) == [
        {"inside.weight": "shift", "inside.bias": "still"},
        {"up.weight": "shift", "up.bias": "still"},
    ]
    (factor,) = found[0].bindings[0].chart.factors
    assert (factor.parameter, factor.axes, factor.power) == ("first.weight", ((12, 1, 1),), 1)


def test_what_is_written_to_layer_norms_forgets_its_mean(use) -> None:
    found = sites(use("writer_shift", "stream"))
    assert [name for site in moved(found) for name in site] == [
        "tokens.weight", "positions.weight", "back.weight", "down.weight",
    ]  # fmt: skip
    assert {site.group for site in found} == {"translation"}


def test_a_dropout_on_the_stream_is_named(use) -> None:
    torch.manual_seed(0)
    gauge = gaugec.compile(use("writer_shift", "stream"), Block(dropout=0.2), (torch.randint(0, 19, (4, 7)),))
    assert "back.weight" not in [b.parameter for site in gauge.sites for b in site.bindings]
    assert "behind the dropout at" in gauge.report()


def test_tokens_and_positions_trade(use) -> None:
    (site,) = sites(use("token_position", "biases"))
    one, two = site.bindings
    assert {one.parameter: one.move.exponent, two.parameter: two.move.exponent} == {
        "tokens.weight": 1,
        "positions.weight": -1,
    }


class Normed(nn.Module):
    """A norm and a reader, and what may stand in between."""

    def __init__(self, norm: nn.Module, between: nn.Module) -> None:
        super().__init__()
        self.norm, self.between, self.reader = norm, between, nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.reader(self.between(self.norm(x)))


@pytest.mark.parametrize(
    ("norm", "between", "reason"),
    [
        (nn.LayerNorm(6), nn.GELU(), "does not forget the shift"),
        (nn.LayerNorm(6), nn.Softmax(-1), "softmax does not forget the shift"),
        (nn.LayerNorm(6), nn.Dropout(0.5), "no site"),
        (nn.LayerNorm(6, bias=False), nn.Identity(), "no site"),
    ],
)
def test_near_misses_of_a_bias_are_refused(use, norm: nn.Module, between: nn.Module, reason: str) -> None:
    with pytest.raises(gaugec.MatchError) as caught:
        gaugec.compile(use("bias_forward", "biases"), Normed(norm, between), (torch.randn(3, 6),))
    assert "bias_forward finds no site" in str(caught.value) and (reason in str(caught.value) or reason == "no site")


def test_a_root_mean_square_norm_has_no_reader_shift(use) -> None:
    """It subtracts no mean, so what it makes does not sum to 0."""
    with pytest.raises(gaugec.MatchError, match="reader_shift finds no site"):
        gaugec.compile(use("reader_shift", "readers"), Normed(nn.RMSNorm(6), nn.Identity()), (torch.randn(3, 6),))


def test_a_layer_norm_without_bias_has_one(use) -> None:
    model = Normed(nn.LayerNorm(6, bias=False), nn.Identity())
    (site,) = gaugec.compile(use("reader_shift", "readers"), model, (torch.randn(3, 6),)).sites
    assert [binding.parameter for binding in site.bindings] == ["reader.weight"] and site.width == 5


class Thirds(nn.Module):
    """A norm whose readers are thirds of one weight and one bias, the last of which nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.weight, self.bias = nn.Parameter(torch.randn(15, 6)), nn.Parameter(torch.randn(15))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        one = F.linear(h, self.weight[:5], self.bias[:5])
        return one * torch.tanh(F.linear(h, self.weight[5:10], self.bias[5:10]))


def test_every_part_of_a_bias_takes_up_its_own(use) -> None:
    (site,) = gaugec.compile(use("bias_forward", "biases"), Thirds(), (torch.randn(4, 6),)).sites
    parts = [(b.offset, b.rest, b.chart.summands[0].weight_offset) for b in site.bindings if b.chart]
    assert parts == [(0, ((5, 1),), 0), (5, ((5, 1),), 30)]


class Pooled(nn.Module):
    """What a norm makes of tokens, pooled over them in some way, and a reader."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.norm, self.reader, self.how = nn.LayerNorm(6), nn.Linear(6, 5), how

    def forward(self, x: Tensor) -> Tensor:
        return self.reader(getattr(self.norm(x), self.how)(1))


def test_what_a_sum_counts_is_another_number_at_other_sizes(use) -> None:
    """Seven times a bias, of a sum over seven tokens: no shift of a model that takes eight."""
    spec, x = use("bias_forward", "biases"), (torch.randn(3, 7, 6),)
    with pytest.raises(gaugec.MatchError) as caught:
        gaugec.compile(spec, Pooled("sum"), x)
    said = "refused on the model: it holds at the sizes of the example alone; at others reader changes: left over is"
    assert said in str(caught.value)
    (site,) = gaugec.compile(spec, Pooled("sum"), x, fixed="all").sites
    assert [b.chart.summands[0].coefficient for b in site.bindings if b.chart] == [7]
    assert len(gaugec.compile(spec, Pooled("mean"), x).sites) == 1


class Backwards(Pooled):
    """A norm that is read from its end."""

    def forward(self, x: Tensor) -> Tensor:
        return self.reader(self.norm(x).flip(-1))


def test_a_bias_that_is_read_backwards_is_refused(use) -> None:
    with pytest.raises(gaugec.MatchError) as caught:
        gaugec.compile(use("bias_forward", "biases"), Backwards(""), (torch.randn(3, 6),))
    assert "bias_forward at norm.bias: the moved value is an output of the model" in str(caught.value)


@pytest.mark.parametrize("frozen", ["reader.bias", "reader.weight", "norm.bias", "norm.weight"])
def test_what_is_frozen_is_matched_and_has_no_gradient_to_compare(use, frozen: str) -> None:
    """In a chart the gradient of one parameter is a part of another's."""
    model = Normed(nn.LayerNorm(6), nn.Identity())
    model.get_parameter(frozen).requires_grad_(False)
    for gauge, file in (("bias_forward", "biases"), ("reader_shift_bias", "readers")):
        assert len(gaugec.compile(use(gauge, file), model, (torch.randn(3, 6),)).sites) == 1


class Crossed(nn.Module):
    """Queries and values of one packed weight, each behind a norm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.LayerNorm(8), nn.LayerNorm(8)
        self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 5)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        y = self.two(y)
        return self.head(self.attention(self.one(x), y, y, need_weights=False)[0])


def test_a_part_of_a_bias_that_takes_a_shift_up_is_stepped_as_that_part(use) -> None:
    torch.manual_seed(0)
    model, x = Crossed().double(), (torch.randn(3, 5, 8).double(), torch.randn(3, 6, 8).double())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    gauge = gaugec.compile(use("bias_forward", "biases"), model, x)
    summands = {s.bias: (s.offset, s.weight_offset) for site in gauge.sites for b in site.bindings
                for s in b.chart.summands}  # fmt: skip
    assert (summands["one.bias"], summands["two.bias"]) == ((0, 0), (8, 64))
    assert apart(gauge, model, *x) < 1e-12


class Apart(nn.Module):
    """Attention behind a norm, with maps of their own for queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.asks, self.keys, self.says = (nn.Linear(8, 8) for _ in range(3))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return torch.softmax(self.asks(x) @ self.keys(x).mT, -1) @ self.says(x)


def test_keys_are_readers_though_each_of_their_parts_may_move_alone(use) -> None:
    """Softmax forgets what the weight adds to a key, and what the bias takes from it: that makes neither dead."""
    torch.manual_seed(0)
    gauge = gaugec.compile(use("reader_shift_bias", "readers"), Apart(), (torch.randn(3, 5, 8),))
    assert [name for site in moved(gauge.sites) for name in site if name.endswith("weight")] == [
        "asks.weight", "keys.weight", "says.weight",
    ]  # fmt: skip
