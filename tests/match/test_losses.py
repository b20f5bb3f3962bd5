"""The losses that people write: cut by one token, flattened, taken apart into logarithm and pick; and near misses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gaugec

CLASSES = 23
Loss = Callable[[Tensor, Tensor], Tensor]


class Tagger(nn.Module):
    """Embedding, head, and a loss of logits and labels."""

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.table, self.head, self.loss = nn.Embedding(CLASSES, 10), nn.Linear(10, CLASSES), loss

    def forward(self, tokens: Tensor) -> Tensor:
        return self.loss(self.head(self.table(tokens)), tokens)


def flat(z: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(z[:, :-1].reshape(-1, CLASSES), y[:, 1:].reshape(-1))


def ignored(z: Tensor, y: Tensor) -> Tensor:
    labels = F.pad(y, (0, 1), value=-100)[..., 1:].flatten()
    return F.cross_entropy(z.flatten(0, 1), labels, ignore_index=-100, label_smoothing=0.1)


def picked(z: Tensor, y: Tensor) -> Tensor:
    return -F.log_softmax(z[:, :-1], -1).gather(-1, y[:, 1:, None]).mean()


def indexed(z: Tensor, y: Tensor) -> Tensor:
    rows, places = torch.arange(z.shape[0])[:, None], torch.arange(z.shape[1] - 1)[None]
    return -F.log_softmax(z[:, :-1], -1)[rows, places, y[:, 1:]].mean()


def likelihood(z: Tensor, y: Tensor) -> Tensor:
    return F.nll_loss(F.log_softmax(z[:, :-1].reshape(-1, CLASSES), -1), y[:, 1:].reshape(-1))


def divergence(z: Tensor, y: Tensor) -> Tensor:
    return F.kl_div(F.log_softmax(z, -1), F.one_hot(y, CLASSES).to(z.dtype), reduction="batchmean")


def probability(z: Tensor, y: Tensor) -> Tensor:
    return -torch.log(F.softmax(z[:, :-1], -1).gather(-1, y[:, 1:, None])).mean()


def classes_first(z: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(z[:, :-1].transpose(1, 2), y[:, 1:])


def compiled(loss: Loss) -> gaugec.pipeline.compiled.CompiledGauge:
    torch.manual_seed(0)
    return gaugec.compile("head", Tagger(loss), (torch.randint(0, CLASSES, (4, 8)),))


LOSSES = [flat, ignored, picked, indexed, likelihood, divergence, probability, classes_first]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
def test_logits_may_shift_under_every_spelling_of_the_loss(loss: Loss) -> None:
    (site,) = compiled(loss).sites
    assert (site.gauge, site.verdict, site.width) == ("logit_shift", "proved", 10)


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        (lambda z, y: flat(z, y) + F.log_softmax(z, 1).mean(), "log_softmax does not forget the shift"),
        (lambda z, y: flat(z, y) + z.square().mean(), "two shifted values are multiplied"),
    ],
    ids=["along tokens", "with a penalty on the logits"],
)
def test_a_shift_that_is_seen_is_refused(loss: Loss, reason: str) -> None:
    with pytest.raises(gaugec.MatchError) as caught:
        compiled(loss)
    assert f"logit_shift at head.weight: {reason}" in str(caught.value)


def test_what_is_added_to_every_token_is_forgotten_along_the_tokens() -> None:
    """A shift passes what is linear: here it is the table that may move, and the head may not."""
    gauge = compiled(lambda z, y: F.log_softmax(z, 1).mean())
    assert [binding.parameter for site in gauge.sites for binding in site.bindings] == ["table.weight"]
    assert "log_softmax does not forget the shift" in gauge.report()
