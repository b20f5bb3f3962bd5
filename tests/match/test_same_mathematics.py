"""The same mathematics in other words: another class, other spellings of rotary embedding, attention and norms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from match.models import (
    BATCH,
    OUT,
    UNITS,
    WIDTH,
    Net,
    Storyteller,
    audit,
    by_heads,
    counts,
    found,
    ids,
    mlp,
    rope_halves,
    rope_pairs,
)
from seeds import set_seed
from thinned import thinned
from torch import nn
from torch.nn import functional as F

pytestmark = pytest.mark.usefixtures("double")
LEAST = {"norm_gain": 5, "swiglu_rescale": 2, "value_rotation": 2, "qk_rotation_rope": 2, "logit_shift": 1}


def heads_major(x: torch.Tensor, heads: int) -> torch.Tensor:
    """Heads by unflatten and movedim."""
    return torch.movedim(x.unflatten(-1, (heads, -1)), 2, 1)


STORIES: dict[str, tuple[str, dict[str, Any]]] = {
    "halves": ("halves", dict()),
    "neighbours": ("interleaved", dict(rope=rope_pairs)),
    "tiled": ("halves", dict(tile=True)),
    "other views": ("halves", dict(split=heads_major, join=lambda x: torch.cat(x.unbind(1), -1))),
    "biases": ("halves", dict(bias=True)),
}


@pytest.mark.parametrize("name", thinned([n for n in STORIES if n != "other views"], 2))
def test_a_llama_under_another_name(name: str) -> None:
    pairing, options = STORIES[name]
    set_seed(0)
    compiled = audit("llama", Storyteller(**options), (ids(),), "cross_entropy")
    assert counts(compiled) == LEAST
    for site in compiled.sites:
        if site.gauge == "qk_rotation_rope":
            assert (site.pairing, site.rotary, site.copies, site.size) == (pairing, 6, 2, 6)
        if site.gauge == "value_rotation":
            assert (site.copies, site.size) == (2, 6)
    # the gain that is stored as w and used as 1 + w
    shifted = [b for site in compiled.sites for b in site.bindings if b.shift_by]
    assert [(b.parameter, b.shift_by) for b in shifted] == [("floors.1.0.scale", 1.0)]


def test_tiled_heads_have_their_own_strides() -> None:
    """`repeat` gives query head h the KV head h % kv, `repeat_interleave` h // (heads / kv)."""
    strides = {}
    for tile in (False, True):
        compiled = audit("llama", Storyteller(layers=1, tile=tile), (ids(),), "cross_entropy")
        (out,) = [b for s in compiled.sites for b in s.bindings if s.gauge == "value_rotation" and "out" in b.parameter]
        strides[tile] = out.copies
    assert strides == {False: ((2, 12),), True: ((2, 6),)}


def test_heads_by_other_views(spec: str) -> None:
    _, options = STORIES["other views"]
    compiled = audit(spec, Storyteller(layers=1, **options), (ids(),), "cross_entropy")
    least = {"norm_gain": 3, "swiglu_rescale": 1, "qk_rotation_rope": 1, "logit_shift": 1}
    assert counts(compiled) in (least, {**least, "value_rotation": 1}, {**least, "value_rotation": 2})


def test_scaled_dot_product_attention_with_grouped_queries(spec: str) -> None:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (by_heads(part(x), heads) for part, heads in ((m.q, 4), (m.k, 2), (m.v, 2)))
        y = F.scaled_dot_product_attention(rope_halves(q), rope_halves(k), v, is_causal=True, enable_gqa=True)
        return m.o(y.transpose(1, 2).reshape(*x.shape[:2], -1))

    parts = dict(q=nn.Linear(13, 24), k=nn.Linear(13, 12), v=nn.Linear(13, 12), o=nn.Linear(24, 13))
    compiled = audit(spec, Net(run, **parts), (torch.randn(3, 5, 13),))
    assert counts(compiled) == {"value_rotation": 1, "qk_rotation_rope": 1}
    assert found(compiled, "value_rotation") == [{"v.weight": (2, 6, 13), "v.bias": (2, 6, 1), "o.weight": (2, 6, 26)}]
    assert found(compiled, "qk_rotation_rope") == [
        {"q.weight": (2, 6, 26), "q.bias": (2, 6, 2), "k.weight": (2, 6, 13), "k.bias": (2, 6, 1)}
    ]


# --- ReLU


def three_layers(between: Any = lambda h: h) -> Net:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.c(between(torch.relu(m.b(between(torch.relu(m.a(x)))))))

    return Net(run, a=nn.Linear(WIDTH, UNITS), b=nn.Linear(UNITS, 17), c=nn.Linear(17, OUT))


@pytest.mark.parametrize("between", [lambda h: h, lambda h: F.dropout(h, 0.4)], ids=["plain", "dropout"])
def test_a_relu_network(between: Any) -> None:
    compiled = audit("relu_mlp", three_layers(between), (torch.randn(BATCH, WIDTH),), "cross_entropy")
    assert found(compiled, "relu_rescale") == [
        {"a.weight": (1, UNITS, WIDTH), "a.bias": (1, UNITS, 1), "b.weight": (1, UNITS, 17)},
        {"b.weight": (1, 17, UNITS), "b.bias": (1, 17, 1), "c.weight": (1, 17, OUT)},
    ]
    assert found(compiled, "logit_shift") == [{"c.weight": (1, OUT, 17)}]
    assert {site.verdict for site in compiled.sites} == {"proved"}


def test_a_relu_network_whose_output_is_no_logits() -> None:
    compiled = audit("relu_mlp", three_layers(), (torch.randn(BATCH, WIDTH),))
    assert counts(compiled) == {"relu_rescale": 2}


def test_a_convolution_network() -> None:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.c(torch.relu(m.b(torch.relu(m.a(x)))).mean((-1, -2)))

    net = Net(run, a=nn.Conv2d(3, 7, 3, padding=1), b=nn.Conv2d(7, 8, 3), c=nn.Linear(8, 5))
    compiled = audit("relu_mlp", net, (torch.randn(2, 3, 9, 9),))
    assert found(compiled, "relu_rescale") == [
        {"a.weight": (1, 7, 27), "a.bias": (1, 7, 1), "b.weight": (1, 7, 72)},
        {"b.weight": (1, 8, 63), "b.bias": (1, 8, 1), "c.weight": (1, 8, 5)},
    ]


@pytest.mark.parametrize(
    "model",
    [
        lambda: mlp(act=lambda h: h.clamp(min=0)),
        lambda: mlp(act=lambda h: h.relu_()),
        lambda: mlp(act=lambda h: -0.25 * torch.relu(h)),
        lambda: mlp(lambda m, h: h.flip(-1).flip(-1)),
        lambda: mlp(lambda m, h: h.view(-1, 2, 7).transpose(1, 2).reshape(-1, UNITS)),
        lambda: mlp(after=lambda m, y, h: (y, {"twice": 2 * y}, 3, None)),
        lambda: mlp(bias=False),
    ],
    ids=["clamp", "in place", "negative factor", "flipped twice", "digits exchanged", "many outputs", "no bias"],
)
def test_units_that_may_be_scaled(model: Any) -> None:
    set_seed(1)
    assert counts(audit("relu_mlp", model(), (torch.randn(BATCH, WIDTH),))) == {"relu_rescale": 1}
