"""Masks of attention, however they are spelled: a softmax behind one forgets what is added to all of a row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from match.training import apart
from torch import Tensor, nn

import gaugec

pytestmark = pytest.mark.usefixtures("double")
Mask = Callable[[Tensor, Tensor], Tensor]
SEEN = torch.tril(torch.ones(5, 5)).bool()
SPEC = 'architecture one:\n    "Key biases."\n    use key_bias from biases\n'


class Causal(nn.Module):
    """Attention with two heads, a mask, and a map of what it says."""

    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self.asks, self.keys, self.says, self.back = (nn.Linear(8, 8) for _ in range(4))
        self.mask = mask
        self.register_buffer("seen", SEEN.clone())

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (2, 4)).transpose(1, 2) for f in (self.asks, self.keys, self.says))
        weights = torch.softmax(self.mask(q @ k.mT / 2, self.seen), -1)
        return self.back((weights @ v).transpose(1, 2).flatten(-2))


def least(s: Tensor) -> float:
    return torch.finfo(s.dtype).min


MASKS: dict[str, Mask] = {
    "filled with -inf": lambda s, seen: s.masked_fill(~seen, -torch.inf),
    "where, or -inf": lambda s, seen: torch.where(seen, s, -torch.inf),
    "-inf where, or": lambda s, seen: torch.where(~seen, -torch.inf, s),
    "where, or the least number": lambda s, seen: torch.where(seen, s, least(s)),
    "where, or a tensor of it": lambda s, seen: torch.where(seen, s, torch.full((), least(s), dtype=s.dtype)),
    "a comparison, or -inf": lambda s, seen: s.masked_fill(torch.arange(5)[:, None] < torch.arange(5), -torch.inf),
    "added": lambda s, seen: s + torch.zeros(5, 5).masked_fill(~seen, least(s)),
}
OTHERS: dict[str, Mask] = {
    "filled with a number": lambda s, seen: s.masked_fill(~seen, -3.0),
    "filled with 0": lambda s, seen: s.masked_fill(~seen, 0.0),
    "clamped and filled": lambda s, seen: s.clamp(max=9.0).masked_fill(~seen, 9.0),
    "multiplied": lambda s, seen: s * seen,
    "by value": lambda s, seen: s.masked_fill(s < 0, -torch.inf),
}


def compiled(mask: Mask, folder: Path) -> tuple[nn.Module, gaugec.pipeline.compiled.CompiledGauge]:
    path = folder / "one.gauge"
    path.write_text(SPEC)
    torch.manual_seed(0)
    model = Causal(mask)
    return model, gaugec.compile(str(path), model, (torch.randn(3, 5, 8),))


@pytest.mark.parametrize("name", MASKS)
def test_behind_a_mask_the_bias_of_the_keys_is_seen_by_nothing(name: str, tmp_path: Path) -> None:
    model, gauge = compiled(MASKS[name], tmp_path)
    ((binding,),) = (site.bindings for site in gauge.sites)
    assert (binding.parameter, gauge.sites[0].verdict) == ("keys.bias", "proved")
    assert apart(gauge, model, torch.randn(3, 5, 8)) <= 1e-10


@pytest.mark.parametrize("name", OTHERS)
def test_what_takes_the_place_of_a_score_is_no_mask(name: str, tmp_path: Path) -> None:
    with pytest.raises(gaugec.MatchError, match="key_bias finds no site"):
        compiled(OTHERS[name], tmp_path)
