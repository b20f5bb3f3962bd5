"""Addition modulo a prime: a small decoder in float64, trained on some of all pairs at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Layer(nn.Module):
    """Attention over all tokens and SiLU units, each behind a norm of its own and beside the stream."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_units = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, stream: Tensor) -> Tensor:
        """[batch, tokens, width] to the same."""
        x = self.before_attention(stream)
        queries, keys, values = (
            each(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (self.query, self.key, self.value)
        )
        scores = queries @ keys.mT * queries.shape[-1] ** -0.5
        stream = stream + self.out((scores.softmax(-1) @ values).transpose(1, 2).flatten(-2))
        return stream + self.down(F.silu(self.up(self.before_units(stream))))


class Adder(nn.Module):
    """The logits [batch, prime] of a + b, read at the last of the tokens a, b and =."""

    def __init__(self, prime: int, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(prime + 1, width), nn.Parameter(0.02 * torch.randn(3, width))
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(depth))
        self.norm, self.head = nn.RMSNorm(width, eps=1e-6), nn.Linear(width, prime, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """ids: int64 [batch, 3]."""
        stream = self.tokens(ids) + self.positions
        for layer in self.layers:
            stream = layer(stream)
        logits: Tensor = self.head(self.norm(stream)[:, -1])
        return logits


class Addition:
    """All pairs below a prime, some to train on and the others to look at; the same pairs for every seed.

    settings: "prime", "width", "heads", "depth", "share" (of the pairs, that is trained on).
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        prime: int = settings["prime"]
        pairs = torch.cartesian_prod(torch.arange(prime), torch.arange(prime))
        pairs = pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))]
        self.ids, self.sums = F.pad(pairs, (0, 1), value=prime), pairs.sum(-1) % prime
        self.split = round(settings["share"] * len(pairs))

    def model(self, seed: int) -> nn.Module:
        """A fresh model in float64."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Adder(*(self.settings[key] for key in ("prime", "width", "heads", "depth"))).double()

    def example(self) -> dict[str, Any]:
        """Example inputs, and the loss, as keywords of gaugec.compile."""
        return {"args": (self.ids[:5],), "loss": "cross_entropy"}

    def loss(self, model: nn.Module) -> Tensor:
        """The mean cross-entropy of all that is trained on."""
        return F.cross_entropy(model(self.ids[: self.split]), self.sums[: self.split])

    @torch.no_grad()
    def logits(self, model: nn.Module) -> Tensor:
        """What a model says of the other pairs, with mean 0: a constant beside all logits says nothing."""
        made: Tensor = model(self.ids[self.split :])
        return made - made.mean(-1, keepdim=True)

    def accuracy(self, logits: Tensor) -> float:
        """The share of the other pairs that is right."""
        return (logits.argmax(-1) == self.sums[self.split :]).double().mean().item()
