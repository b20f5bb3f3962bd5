"""Groups of one number: a constant that is added to all entries of a bias, or of a head's table, and forgotten."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel

import gaugec
from gaugec.runtime import DDCAdamW
from gaugec.witness.elements import element, moved

STEPS = 40
BIASES = "use bias_constant from biases\n    use writer_constant from stream"


class Routed(nn.Module):
    """A table of tokens, two units that a router with a bias mixes, and a head with a bias; norms between."""

    def __init__(self, norm: type[nn.Module] = nn.LayerNorm) -> None:
        super().__init__()
        self.table, self.norm, self.last = nn.Embedding(11, 8), norm(8), norm(8)
        self.router, self.units = nn.Linear(8, 2), nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])
        self.head = nn.Linear(8, 11)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        inside = self.norm(x)
        parts = torch.softmax(self.router(inside), -1)
        x = x + sum(parts[..., n : n + 1] * unit(inside) for n, unit in enumerate(self.units))
        return self.head(self.last(x))


def compiled(uses: str, model: nn.Module, batch: tuple | dict, tmp_path, **words: str):
    path = tmp_path / "one.gauge"
    path.write_text(f'architecture one:\n    "Constants."\n    {uses}\n')
    return gaugec.compile(str(path), model, batch, **words)


def path(model: nn.Module, gauge, orbit: str, loss) -> list[float]:
    generator, losses = torch.Generator().manual_seed(1), list[float]()
    optimizer = DDCAdamW(model.named_parameters(), gauge, lr=3e-3, weight_decay=0.1, orbit=orbit)
    for _ in range(STEPS):
        optimizer.zero_grad()
        value = loss(model, torch.randint(0, 11, (4, 6), generator=generator))
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def apart(model: nn.Module, gauge, orbit: str, loss) -> float:
    """How far two runs come apart, one from the parameters and one from a copy of them."""
    generator, there = torch.Generator().manual_seed(2), copy.deepcopy(model)
    values = moved(
        {name: p.detach() for name, p in model.named_parameters()},
        [(site, element(site, generator)) for site in gauge.sites],
    )
    with torch.no_grad():
        for name, parameter in there.named_parameters():
            parameter.copy_(values[name])
    assert max((a - b).abs().max().item() for a, b in zip(model.parameters(), there.parameters())) > 0.1
    one, two = (path(each, gauge, orbit, loss) for each in (copy.deepcopy(model), there))
    assert one[-1] < one[0]
    return max(abs(a - b) for a, b in zip(one, two))


def entropy(model: nn.Module, tokens: Tensor) -> Tensor:
    return F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())


@pytest.fixture
def routed(tmp_path):
    torch.manual_seed(0)
    model = Routed().double()
    return model, compiled(BIASES, model, (torch.randint(0, 11, (4, 6)),), tmp_path, loss="cross_entropy")


def test_a_constant_of_a_bias_is_forgotten_by_a_router_a_loss_and_a_norm(routed) -> None:
    """A unit's bias comes to the norm weighted by the router: another number for every token, and no other mean."""
    _, gauge = routed
    found = {(site.gauge, b.parameter): (site.group, site.width, b.rest) for site in gauge.sites for b in site.bindings}
    assert found == {
        ("bias_constant", "router.bias"): ("translation", 1, ()),
        ("bias_constant", "head.bias"): ("translation", 1, ()),
        ("writer_constant", "units.0.bias"): ("translation", 1, ()),
        ("writer_constant", "units.1.bias"): ("translation", 1, ()),
    }
    assert {site.verdict for site in gauge.sites} == {"proved"}


@pytest.mark.parametrize("orbit", ["pinned", "horizontal"])
def test_copies_by_constants_stay_copies(routed, orbit: str) -> None:
    model, gauge = routed
    assert apart(model, gauge, orbit, entropy) <= 1e-10


def test_a_norm_without_a_mean_forgets_no_constant(tmp_path) -> None:
    torch.manual_seed(0)
    with pytest.raises(gaugec.MatchError, match="writer_constant finds no site") as error:
        compiled(BIASES, Routed(nn.RMSNorm), (torch.randint(0, 11, (4, 6)),), tmp_path, loss="cross_entropy")
    assert "(x + a)(y + a) = x y + …: a product does not forget a" in str(error.value)


def test_without_a_loss_the_heads_bias_moves_the_logits(tmp_path) -> None:
    torch.manual_seed(0)
    gauge = compiled(BIASES, Routed(), (torch.randint(0, 11, (4, 6)),), tmp_path)
    assert [b.parameter for site in gauge.sites for b in site.bindings if site.gauge == "bias_constant"] == [
        "router.bias"
    ]


@pytest.mark.parametrize("orbit", ["pinned", "horizontal"])
def test_every_head_of_a_t5_forgets_what_its_distances_share(tmp_path, orbit: str) -> None:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=11, d_model=8, d_kv=4, d_ff=7, num_layers=1, num_heads=2, relative_attention_num_buckets=8,
        relative_attention_max_distance=10, dropout_rate=0.0, use_cache=False, attn_implementation="eager",
    )  # fmt: skip
    model = T5EncoderModel(config).double()
    gauge = compiled("use distance_bias from biases", model, {"input_ids": torch.randint(0, 11, (3, 6))}, tmp_path)
    ((binding,),) = (site.bindings for site in gauge.sites)
    assert (binding.parameter.split(".")[-2], binding.group, binding.rest) == (
        "relative_attention_bias", ((8, 2),), ((2, 1),),
    )  # fmt: skip

    def loss(model: nn.Module, tokens: Tensor) -> Tensor:
        return model(input_ids=tokens).last_hidden_state.tanh().sum()

    assert apart(model, gauge, orbit, loss) <= 1e-10
