"""The page of an audit: the same to the byte, whole in itself, escaped; and as a browser shows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import browser
import pytest
import torch
from torch import Tensor, nn

import gaugec
from gaugec.pipeline.page import MARK

HOSTILE = "</style><script>document.title='owned'</script><img src=x onerror=alert(1)>\"'&\u202e\x00"


class Layer(nn.Module):
    """Units with a scale each, and a factor that no gauge of the spec knows."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 7), nn.Linear(7, 4)
        self.factor = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.down(torch.relu(self.up(x)))


class Deep(nn.Module):
    """Six layers, of which the page folds two; biases that could do each other's work; entries that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(6))
        self.extra = nn.Parameter(torch.randn(2, 5))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return x * self.extra[0, 0]


@pytest.fixture(scope="module")
def audit() -> gaugec.Audit:
    torch.manual_seed(0)
    return gaugec.audit("relu_mlp", Deep(), (torch.randn(6, 4),))


@pytest.fixture(scope="module")
def screen() -> Iterator[browser.Page]:
    with browser.page() as page:
        yield page


def shown(screen: browser.Page, audit: gaugec.Audit, folder: Path) -> browser.Page:
    audit.save_html(folder / "audit.html")
    screen.open(folder / "audit.html")
    return screen


def test_the_same_audit_is_the_same_page(audit: gaugec.Audit) -> None:
    torch.manual_seed(0)
    again = gaugec.audit("relu_mlp", Deep(), (torch.randn(6, 4),))
    assert audit.html() == again.html() and audit.html().startswith(MARK)


def test_nothing_is_fetched_and_nothing_runs(audit: gaugec.Audit) -> None:
    text = audit.html()
    assert "default-src &#x27;none&#x27;" in text
    assert not re.search(r"https?:|<script|<link|<img|<iframe|@import|url\(|\son\w+=", text)


def hostile(audit: gaugec.Audit) -> gaugec.Audit:
    """The same with text that would be markup wherever a spec or a model has its say."""
    share = replace(audit.shares[0], parameter=f"a.0.{HOSTILE}.{HOSTILE}")
    gauges = [replace(g, doc=HOSTILE, theorem=HOSTILE, group=HOSTILE) for g in audit.gauges]
    certificate = {**audit.certificate, "refused": [HOSTILE], "ungauged": {HOSTILE: HOSTILE}}
    return replace(
        audit,
        spec=HOSTILE,
        model=HOSTILE,
        notes=(HOSTILE,),
        shares=(share, *audit.shares[1:]),
        gauges=tuple(gauges),
        carriers=tuple(replace(c, parameters=(HOSTILE,)) for c in audit.carriers),
        certificate=certificate,
    )


def test_what_others_wrote_is_text(audit: gaugec.Audit) -> None:
    text = hostile(audit).html()
    assert "<script" not in text and "<img" not in text and text.count("</style>") == 1
    assert "\u202e" not in text and "\x00" not in text and "&lt;/style&gt;" in text
    text.encode()
    replace(audit, model="\ud800").html().encode()  # a lone surrogate is no reason to fail


def test_the_numbers_are_in_the_page(audit: gaugec.Audit, screen: browser.Page, tmp_path: Path) -> None:
    page = shown(screen, audit, tmp_path)
    counts = dict(dead=77, explained=42, unexplained=26, approximate=0, unread=9)
    assert (audit.nullity, audit.orbit, audit.unexplained, audit.unread) == (77, 42, 26, 9)
    assert {key: int(page.text(f"#count-{key}")) for key in counts} == counts
    assert audit.data is None and page.text("#count-data") == "–"
    assert page.text("h1") == "audit of Deep against the gauges of relu_mlp"
    assert page.value("document.title") == "Deep: 77 dead directions"
    assert page.value("document.querySelectorAll('.tile').length") == len(audit.shares)
    parts = page.value("[...document.querySelectorAll('.tile p:nth-child(2)')].map(p => p.textContent)")
    told = [float(re.search(r"([\d.]+) dead", part)[1]) for part in parts]  # type: ignore[index]
    assert sum(told) == pytest.approx(77, abs=0.05 * len(told))
    assert page.value("document.querySelectorAll('.stack .fold .block').length") == 2
    assert page.text("#unexplained ~ p").startswith("Small sets")
    assert not [url for url in page.requests if not url.startswith("file:")]


def test_hostile_text_does_nothing(audit: gaugec.Audit, screen: browser.Page, tmp_path: Path) -> None:
    page = shown(screen, hostile(audit), tmp_path)
    assert page.value("[document.scripts.length, document.images.length]") == [0, 0]
    assert page.value("document.title").startswith("</style><script>") and "owned'" in page.value("document.title")


def test_proofs_unfold_by_keyboard(audit: gaugec.Audit, screen: browser.Page, tmp_path: Path) -> None:
    page = shown(screen, audit, tmp_path)
    page.press("Tab")
    assert page.value("document.activeElement.className") == "skip"
    seen = set()
    for _ in range(200):
        page.press("Tab")
        seen.add(page.value("document.activeElement.parentElement.className.split(' ')[0]"))
        if page.value("document.activeElement.parentElement.id").startswith("proof-"):
            break
    assert {"tile", "fold"} <= seen
    assert page.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    proof = "document.activeElement.parentElement"
    assert page.value(f"{proof}.open") is False
    page.press("Enter")
    assert page.value(f"{proof}.open") is True
    inside = page.value(f"{proof}.innerText")
    assert "relu_rescale" in inside and "for every c in positive(" in inside and "proved" in inside
    assert page.value(f"{proof}.querySelectorAll('.steps li').length") > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_scheme_can_be_read(audit: gaugec.Audit, screen: browser.Page, tmp_path: Path, scheme: str) -> None:
    """WCAG's contrast of what is written, against what is behind it."""
    screen.scheme(scheme)
    page = shown(screen, audit, tmp_path)
    paper = page.value("getComputedStyle(document.body).backgroundColor")
    for selector in ("body", ".lead", ".counts dd", ".tile .name", "#count-unexplained", "a"):
        ink = page.value(f"getComputedStyle(document.querySelector({selector!r})).color")
        assert contrast(ink, paper) > 4.5, selector
    assert (luminance(paper) < 0.1) == (scheme == "dark")
    screen.scheme("light")


def luminance(colour: str) -> float:
    parts = [int(x) / 255 for x in re.findall(r"\d+", colour)[:3]]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("width", [320, 380, 1200])
def test_nothing_is_cut_off(audit: gaugec.Audit, screen: browser.Page, tmp_path: Path, width: int) -> None:
    screen.resize(width)
    page = shown(screen, hostile(audit), tmp_path)
    page.value("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.value("document.querySelector('.tile').getBoundingClientRect().width") > 150
