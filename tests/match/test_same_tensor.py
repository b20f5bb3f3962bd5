"""A tensor that is given twice is one tensor at every size that is looked at, and two that are alike are two."""

from __future__ import annotations

import pytest
import torch
from match.models import BATCH, OUT, WIDTH, audit, counts, mlp
from match.training import apart
from torch import Tensor, nn
from torch.nn import functional as F

from gaugec.model.inputs import copied, resized

pytestmark = pytest.mark.usefixtures("double")


class Attends(nn.Module):
    """torch packs the three maps into one where queries, keys and values are one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(12, 3, batch_first=True)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mixed: Tensor = self.attend(q, k, v, need_weights=False)[0]
        return mixed


class Labelled(nn.Module):
    """Its labels may be its own tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.units, self.speak = nn.Embedding(13, WIDTH), mlp(), nn.Linear(OUT, 13)

    def forward(self, input_ids: Tensor, labels: Tensor) -> Tensor:
        logits = self.speak(self.units(self.words(input_ids)))
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


class Asks(nn.Module):
    """Another function where its two inputs are not one."""

    def __init__(self) -> None:
        super().__init__()
        self.units = mlp()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        y: Tensor = self.units(a)
        return y if a is b else y * torch.relu(self.units.up(b)).sum()


def test_self_attention(spec: str) -> None:
    x = torch.randn(3, 5, 12)
    model = Attends()
    compiled = audit(spec, model, (x, x, x))
    assert counts(compiled) == counts(audit(spec, model, (x, x.clone(), x.clone())))
    assert counts(compiled) == {"value_rotation": 1, "qk_rotation": 1}
    assert apart(compiled, model, x, x, x) <= 1e-10


def test_labels_that_are_the_tokens(spec: str) -> None:
    ids = torch.randint(13, (3, 7))
    model = Labelled()
    compiled = audit(spec, model, (ids, ids))
    assert counts(compiled)["relu_rescale"] == 1
    assert counts(compiled) == counts(audit(spec, model, (ids, ids.flip(0))))
    assert apart(compiled, model, ids, ids) <= 1e-10


def test_two_tensors_that_are_alike_are_not_one(spec: str) -> None:
    x = torch.randn(BATCH, WIDTH)
    assert counts(audit(spec, Asks(), (x, x))) == {"relu_rescale": 1}
    assert not audit(spec, Asks(), (x, x.clone())).sites


def test_copies_and_other_sizes() -> None:
    x, y = torch.randn(4, 5), torch.randn(4, 5)
    for made in (copied((x, [y, x]), {"z": x}), resized((x, [y, x]), {"z": x}, {(0, 0): 6, (1, 0): 6})):
        (one, (two, three)), named = made
        assert one is three and one is named["z"] and one is not two and one is not x
