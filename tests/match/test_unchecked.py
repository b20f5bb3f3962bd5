"""What was not checked is said: in every site's verdict, the certificate, the report, and on the command line."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import gaugec
import gaugec.model.preserve
import gaugec.witness.finite
from gaugec.runtime.report import overview


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.a, self.b = nn.Embedding(13, 7), nn.Linear(7, 11), nn.Linear(11, 5)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + torch.arange(ids.shape[1], device=ids.device).unsqueeze(-1)
        return self.b(torch.relu(self.a(x)))


IDS = torch.tensor([[0, 1, 2], [3, 0, 4]])
GRADIENT = "gradient not checked: the parameters have no values"


def test_on_the_meta_device_the_graph_is_witnessed_and_the_gradient_not_checked() -> None:
    gauge = gaugec.compile("relu_mlp", Net().to("meta"), (IDS.to("meta"),))
    assert [site.verdict for site in gauge.sites] == ["proved (gradient not checked)"]
    assert gauge.measured.ok and not gauge.measured.note
    assert gauge.metadata["unchecked"] == {"what": "gradient not checked", "why": [GRADIENT]}
    assert f"\n  {GRADIENT}\n" in gauge.report()
    assert ": positive(11), proved (gradient not checked)" in gauge.report()
    assert overview(gauge.metadata)[0] == "  relu_rescale  1 site of positive(11), proved (gradient not checked)"


def test_a_large_model_is_neither_witnessed_nor_its_gradient_checked(monkeypatch: Any) -> None:
    monkeypatch.setattr(gaugec.model.preserve, "SMALL", 10)
    monkeypatch.setattr(gaugec.witness.finite, "SMALL", 10)
    gauge = gaugec.compile("relu_mlp", Net(), (IDS,))
    assert [site.verdict for site in gauge.sites] == ["proved (not witnessed, gradient not checked)"]
    reason = "the model has more than 3e8 parameters"
    assert gauge.metadata["unchecked"]["why"] == [f"not witnessed: {reason}", f"gradient not checked: {reason}"]
    assert gauge.report().endswith(f"\nnot witnessed: {reason}")


def test_a_recheck_says_the_same(tmp_path: Any) -> None:
    path = tmp_path / "gauge.py"
    gaugec.compile("relu_mlp", Net().to("meta"), (IDS.to("meta"),)).save(path)
    assert gaugec.recheck(path, Net().to("meta"), (IDS.to("meta"),))
    result = gaugec.recheck(path, Net(), (IDS,))
    assert not result
    assert "verdict is `'proved (gradient not checked)'` in the certificate, `'proved'` now" in str(result)


def test_what_is_checked_says_nothing() -> None:
    gauge = gaugec.compile("relu_mlp", Net(), (IDS,))
    assert [site.verdict for site in gauge.sites] == ["proved"]
    assert gauge.metadata["unchecked"] == {"what": "", "why": []}


class Rooted(nn.Module):
    """Its gradient has no number where it is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(7, 11), nn.Linear(11, 5)

    def forward(self, x: Tensor) -> Tensor:
        made = self.b(torch.relu(self.a(x)))
        return made + (made * 0).square().sqrt()


def test_a_gradient_without_numbers_is_not_checked() -> None:
    gauge = gaugec.compile("relu_mlp", Rooted(), (torch.randn(3, 7),))
    assert [site.verdict for site in gauge.sites] == ["proved (gradient not checked)"]


class Labelled(nn.Module):
    """Returns its loss, and its logits beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(7, 11), nn.Linear(11, 5)

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.b(torch.relu(self.a(x)))
        return nn.functional.cross_entropy(logits, labels), logits


def test_logits_beside_the_loss_and_the_cure() -> None:
    given = (torch.randn(3, 7), torch.tensor([0, 1, 4]))
    (refusal,) = (r for r in gaugec.compile("relu_mlp", Labelled(), given).refusals if r.gauge == "logit_shift")
    assert str(refusal).startswith("logit_shift at b.weight: the moved value is an output of the model")
    assert str(refusal).endswith("; it would hold if the loss alone counted: outputs=0")
