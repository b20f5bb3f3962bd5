"""Attention, norms and heads in which a gauge is broken: no site of it, and whatever else is found is true."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from match.models import (
    Attention,
    LibraryNorm,
    Net,
    RMSNorm,
    angles,
    audit,
    by_heads,
    counts,
    found,
    join_heads,
    outcome,
    rope_halves,
    rope_pairs,
    same,
)
from seeds import set_seed
from thinned import thinned
from torch import Tensor, nn
from torch.nn import functional as F

import gaugec

pytestmark = pytest.mark.usefixtures("double")
BOTH = {"value_rotation": 1, "qk_rotation_rope": 1}
VALUES, ROTARY = {"value_rotation": 1}, {"qk_rotation_rope": 1}


def tokens(*shape: int) -> tuple[Tensor, ...]:
    set_seed(4)
    return (torch.randn(shape or (3, 5, 13)),)


# --- rotary embedding


def turned(first: Tensor, second: Tensor, x: Tensor, sign: float = 1.0) -> Tensor:
    """Halves, each with its own table of angles."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * first.cos() - b * first.sin(), b * second.cos() + sign * a * second.sin()], -1)


def unequal(x: Tensor) -> Tensor:
    angle = angles(*x.shape[-2:])
    return turned(angle, 1.5 * angle, x)


def mirrored(x: Tensor) -> Tensor:
    angle = angles(*x.shape[-2:])
    return turned(angle, angle, x, -1.0)


def noisy(x: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    c = angles(*x.shape[-2:]).cos()
    return torch.cat([a * F.dropout(c, 0.5), b * F.dropout(c, 0.5)], -1)


def front(x: Tensor) -> Tensor:
    return torch.cat([rope_halves(x[..., :4]), x[..., 4:]], -1)


def back(x: Tensor) -> Tensor:
    return torch.cat([x[..., :2], rope_halves(x[..., 2:])], -1)


class HeadNorm(nn.Module):
    """A gain for each coordinate of a head, before `after`."""

    def __init__(self, after: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.gain, self.after = nn.Parameter(1 + 0.3 * torch.randn(6)), after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(F.rms_norm(x, (6,), self.gain))


QUERIES_AND_KEYS: dict[str, Callable[[], dict[str, Any]]] = {
    "queries alone are rotated": lambda: dict(on_k=same),
    "keys alone are rotated": lambda: dict(on_q=same),
    "two pairings": lambda: dict(on_q=rope_pairs),
    "unequal halves": lambda: dict(on_q=unequal, on_k=unequal),
    "mirrored planes": lambda: dict(on_q=mirrored, on_k=mirrored),
    "two dropouts of one table": lambda: dict(on_q=noisy, on_k=same),
    "a diagonal": lambda: dict(on_q=lambda x: x * angles(x.shape[-2], 12).cos(), on_k=same),
    "other coordinates": lambda: dict(on_q=front, on_k=back),
    "a gain on queries": lambda: dict(on_q=HeadNorm(rope_halves)),
    "a gain on keys": lambda: dict(on_k=HeadNorm(rope_halves)),
    "a gain on queries, none rotated": lambda: dict(on_q=HeadNorm(same), on_k=same),
    "dropout on queries": lambda: dict(on_q=lambda x: F.dropout(rope_halves(x), 0.3)),
}


@pytest.mark.parametrize("name", thinned(QUERIES_AND_KEYS, 3))
def test_queries_and_keys_that_may_not_turn(name: str, spec: str) -> None:
    assert counts(audit(spec, Attention(**QUERIES_AND_KEYS[name]()), tokens())) == VALUES


ROTARY_PARTS = {"front": (front, 4), "back": (back, 2), "scaled": (lambda x: 2.0 * rope_halves(x), 6)}


@pytest.mark.parametrize("name", thinned(ROTARY_PARTS, 2))
def test_queries_and_keys_that_may_turn_in_part(name: str, spec: str) -> None:
    rope, least = ROTARY_PARTS[name]
    compiled = audit(spec, Attention(on_q=rope, on_k=rope), tokens())
    assert counts(compiled)["value_rotation"] == 1
    assert sum(site.rotary for site in compiled.sites if site.gauge == "qk_rotation_rope") >= least


def test_without_rotary_embedding_the_whole_head_turns(spec: str) -> None:
    compiled = audit(spec, Attention(on_q=same, on_k=same, bias=True), tokens())
    assert counts(compiled) == {"value_rotation": 1, "qk_rotation": 1}
    assert {(s.group, s.copies, s.size) for s in compiled.sites} == {("orthogonal", 2, 6)}
    assert found(compiled, "qk_rotation") == [
        {"asks.weight": (2, 6, 26), "asks.bias": (2, 6, 2), "keys.weight": (2, 6, 13), "keys.bias": (2, 6, 1)}
    ]


# --- values

VALUE_PATHS: dict[str, dict[str, Any]] = {
    "dropout on the values": dict(on_v=lambda v: F.dropout(v, 0.3)),
    "dropout on the mixed values": dict(on_mixed=lambda v: F.dropout(v, 0.3)),
    "relu before": dict(on_v=torch.relu),
    "relu after": dict(on_mixed=torch.relu),
    "rotary values": dict(on_v=rope_halves),
    "flipped": dict(on_mixed=lambda v: v.flip(-1)),
    "a constant": dict(on_v=lambda v: v + 1),
    "weights for coordinates": dict(on_v=lambda v: v * torch.arange(1.0, 7)),
    "coordinates and tokens exchanged": dict(on_mixed=lambda v: v.transpose(-1, -2).reshape(v.shape)),
    "tokens viewed as coordinates": dict(on_mixed=lambda v: v.reshape(*v.shape[:2], 6, -1).transpose(-1, -2)),
}


@pytest.mark.parametrize("name", thinned(VALUE_PATHS, 3))
def test_values_that_may_not_turn(name: str, spec: str) -> None:
    found = outcome(spec, Attention(**VALUE_PATHS[name]), tokens())
    if isinstance(found, gaugec.MatchError):  # a view that cuts axes otherwise at another length is another function
        assert "depends on the shape of its input" in str(found)
        assert name in ("coordinates and tokens exchanged", "tokens viewed as coordinates")
    else:
        assert counts(found) == ROTARY


SOUND_PATHS: dict[str, dict[str, Any]] = {
    "a number": dict(on_v=lambda v: 3.0 * v),
    "a number for each head": dict(on_v=lambda v: v * torch.arange(1.0, 3)[:, None, None]),
    "heads that mix": dict(on_mixed=lambda v: torch.einsum("gh,bhnk->bgnk", torch.ones(4, 4).tril(), v)),
    "one KV head": dict(kv=1),
    "as many KV heads as queries": dict(kv=4),
}


@pytest.mark.parametrize("name", thinned(SOUND_PATHS, 2))
def test_values_that_may_turn(name: str, spec: str) -> None:
    compiled = audit(spec, Attention(**SOUND_PATHS[name]), tokens())
    assert counts(compiled) == BOTH
    copies = {"one KV head": 1, "as many KV heads as queries": 4, "heads that mix": 1}.get(name, 2)
    assert [s.copies for s in compiled.sites if s.gauge == "value_rotation"] == [copies]


# --- sizes that agree: heads = KV heads = head width = width = tokens = batch

EQUAL = dict(width=6, heads=6, kv=6, head=6)


def test_equal_sizes(spec: str) -> None:
    compiled = audit(spec, Attention(**EQUAL), tokens(6, 6, 6))
    assert counts(compiled) == BOTH
    assert {(s.copies, s.size) for s in compiled.sites} == {(6, 6)}


VIEWS: dict[str, dict[str, Any]] = {
    "no transpose before": dict(split=lambda x, h: x.view(*x.shape[:2], h, -1)),
    "no transpose after": dict(join=lambda x: x.flatten(-2)),
    "batch and heads exchanged": dict(split=lambda x, h: x.reshape(h, 6, 6, 6).transpose(0, 1)),
    "coordinates first": dict(split=lambda x, h: x.view(*x.shape[:2], -1, h).permute(0, 2, 1, 3)),
    "tokens and coordinates exchanged": dict(join=lambda x: x.permute(0, 3, 1, 2).flatten(-2)),
}


@pytest.mark.parametrize("name", thinned(VIEWS, 2))
def test_wrong_views_where_all_sizes_agree(name: str, spec: str) -> None:
    """Another model, which may have sites of its own: what is found must be true."""
    outcome(spec, Attention(**EQUAL, **VIEWS[name]), tokens(6, 6, 6))


# --- heads and layers that share


class Twice(nn.Module):
    """Two layers; the second reads the first's keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = Attention(on_q=same, on_k=same), Attention(on_q=same, on_k=same)
        del self.b.keys, self.b.says

    def forward(self, x: Tensor) -> Tensor:
        k, v = (self.a.spread(by_heads(part(x), 2)) for part in (self.a.keys, self.a.says))
        for layer in (self.a, self.b):
            q = by_heads(layer.asks(x), 4)
            x = x + layer.out(join_heads((q @ k.mT).softmax(-1) @ v))
        return x


def shared(part: str) -> nn.Module:
    a, b = Attention(), Attention()
    setattr(b, part, getattr(a, part))
    return nn.Sequential(a, b)


class Uneven(nn.Module):
    """Two heads of 4 and 6."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(*size) for size in ((13, 10), (13, 10), (13, 10), (10, 13)))

    def forward(self, x: Tensor) -> Tensor:
        heads = zip(*(part(x).split([4, 6], -1) for part in (self.q, self.k, self.v)))
        return self.o(torch.cat([(q @ k.mT).softmax(-1) @ v for q, k, v in heads], -1))


def rejoined(first: str, second: str, **options: Any) -> nn.Module:
    made = Attention(kv=4, **options)
    setattr(made, first, getattr(made, second))
    return made


def test_keys_and_values_shared_by_two_layers(spec: str) -> None:
    made = outcome(spec, Twice(), tokens())
    assert all("a.says" not in b.parameter for s in made.sites if s.copies * s.size > 6 for b in s.bindings[1:])


def test_a_value_projection_in_two_layers(spec: str) -> None:
    assert counts(audit(spec, shared("says"), tokens())) == {"qk_rotation_rope": 2}


def test_a_key_projection_in_two_layers(spec: str) -> None:
    assert counts(audit(spec, shared("keys"), tokens())) == {"value_rotation": 2}


def test_keys_that_are_the_values(spec: str) -> None:
    assert counts(audit(spec, rejoined("keys", "says"), tokens())) == Counter()


def test_heads_of_two_widths(spec: str) -> None:
    made = outcome(spec, Uneven(), tokens())
    assert all(site.size in (4, 6) for site in made.sites)


def test_heads_joined_one_by_one(spec: str) -> None:
    """Each head is read for itself; a site of one head inside the site of all would count a direction twice."""
    compiled = audit(spec, Attention(join=lambda v: torch.cat(v.unbind(1), -1)), tokens())
    assert sum(site.copies for site in compiled.sites if site.gauge == "qk_rotation_rope") == 2


# --- norms


def norm(run: Callable[..., Any], **parts: Any) -> Net:
    """n: an RMSNorm of 13, a and b: readers."""
    return Net(run, **{"n": RMSNorm(13), "a": nn.Linear(13, 9), "b": nn.Linear(13, 5), **parts})


BROKEN_NORMS: dict[str, Callable[[], nn.Module]] = {
    "a bias that stays": lambda: norm(lambda m, x: m.a(m.n(x) + m.c), c=torch.randn(13)),
    "returned": lambda: norm(lambda m, x: (m.a(m.n(x)), m.n(x))),
    "added to the residual": lambda: norm(lambda m, x: m.a(m.n(x) + m.c(m.n(x))), c=nn.Linear(13, 13)),
    "added to its input": lambda: norm(lambda m, x: m.a(x + m.n(x))),
    "its gain penalised": lambda: norm(lambda m, x: (m.a(m.n(x)), m.n.scale.square().sum())),
    "its gain used with and without one": lambda: norm(lambda m, x: m.a(x * m.n.scale) + m.a(x * (1 + m.n.scale))),
    "its gain squared": lambda: norm(lambda m, x: m.a(x * m.n.scale**2)),
    "one minus its gain": lambda: norm(lambda m, x: m.a(x * (1 - m.n.scale))),
    "a reader used elsewhere": lambda: norm(lambda m, x: m.a(m.n(x)) + m.a(x)),
    "a reader penalised": lambda: norm(lambda m, x: (m.a(m.n(x)), m.a.weight.square().sum())),
    "a reader's transpose after it": lambda: norm(lambda m, x: m.a(m.n(x)) @ m.a.weight),
    "two norms, one reader": lambda: norm(lambda m, x: m.a(m.n(x)) + m.a(m.c(x.sin())), c=LibraryNorm(13)),
    "flipped": lambda: norm(lambda m, x: m.a(m.n(x).flip(-1))),
    "read in part": lambda: norm(lambda m, x: (m.a(m.n(x)), m.c(m.n(x)[:, :5])), c=nn.Linear(5, 9)),
    "a gram matrix": lambda: norm(lambda m, x: m.n(x) @ m.n(x).T),
}


@pytest.mark.parametrize("name", thinned(BROKEN_NORMS, 3))
def test_gains_that_may_not_move(name: str, spec: str) -> None:
    assert counts(audit(spec, BROKEN_NORMS[name](), tokens(6, 13))) == Counter()


def test_gains_that_another_gauge_moves(spec: str) -> None:
    between = norm(lambda m, x: m.a(torch.relu(m.n(x))))
    assert counts(audit(spec, between, tokens(6, 13))) == {"gain_relu": 1}
    layer_scale = norm(lambda m, x: x + m.n.scale * m.c(x), c=nn.Linear(13, 13))
    assert counts(audit(spec, layer_scale, tokens(6, 13))) == {"layer_scale": 1}


GOOD_NORMS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "two readers": (lambda: norm(lambda m, x: (m.a(m.n(x)), m.b(m.n(x)))), 1),
    "layer norm": (lambda: norm(lambda m, x: m.a(m.n(x)), n=nn.LayerNorm(13)), 1),
    "one plus the gain": (lambda: norm(lambda m, x: m.a(m.n(x)), n=RMSNorm(13, 1.0)), 1),
    "two places": (lambda: norm(lambda m, x: (m.a(m.n(x)), m.b(m.n(x.sin())))), 1),
    "dropout": (lambda: norm(lambda m, x: m.a(F.dropout(m.n(x), 0.3, m.training))), 1),
    "halves with a reader each": (
        lambda: norm(lambda m, x: (m.c(m.n(x)[:, :5]), m.d(m.n(x)[:, 5:])), c=nn.Linear(5, 9), d=nn.Linear(8, 9)),
        2,
    ),
}


@pytest.mark.parametrize("name", thinned(GOOD_NORMS, 2))
def test_gains_that_may_move(name: str, spec: str) -> None:
    build, sites = GOOD_NORMS[name]
    assert counts(audit(spec, build(), tokens(6, 13))) == {"norm_gain": sites}


def test_a_norm_and_a_transpose_where_sizes_agree(spec: str) -> None:
    model = norm(lambda m, x: m.c(m.n(x).T), n=RMSNorm(6), c=nn.Linear(6, 6))
    assert counts(audit(spec, model, tokens(6, 6))) == Counter()


# --- logits

LABELS = torch.arange(6)


def head(run: Callable[..., Any], **parts: Any) -> Net:
    return Net(run, a=nn.Linear(13, 9), **parts)


BROKEN_HEADS: dict[str, tuple[Callable[..., Any], str | None]] = {
    "not said to be logits": (lambda m, x: m.a(x), None),
    "returned twice": (lambda m, x: (m.a(x), 2 * m.a(x)), "cross_entropy"),
    "capped": (lambda m, x: torch.tanh(m.a(x)), "cross_entropy"),
    "relu": (lambda m, x: torch.relu(m.a(x)), "cross_entropy"),
    "loss and logits": (lambda m, x: (F.cross_entropy(m.a(x), LABELS), m.a(x)), None),
    "a z-loss": (lambda m, x: F.cross_entropy(m.a(x), LABELS) + m.a(x).logsumexp(-1).square().mean(), None),
    "a square": (lambda m, x: F.cross_entropy(m.a(x), LABELS) + m.a(x).square().mean(), None),
    "over the batch": (lambda m, x: F.cross_entropy(m.a(x).T, torch.zeros(9, dtype=torch.long)), None),
    "over the tokens": (lambda m, x: F.cross_entropy(m.a(x).view(2, 3, 9), torch.zeros(2, 9, dtype=torch.long)), None),
    "sigmoids": (lambda m, x: F.binary_cross_entropy_with_logits(m.a(x), torch.ones(6, 9)), None),
    "weights of its own": (lambda m, x: F.cross_entropy(m.a(x), m.a(x).softmax(-1) + m.a(x)), None),
    "a tied embedding": (lambda m, x: m.a(x + m.a.weight[:6]), "cross_entropy"),
}


@pytest.mark.parametrize("name", thinned(BROKEN_HEADS, 3))
def test_logits_that_may_not_shift(name: str, spec: str) -> None:
    run, loss = BROKEN_HEADS[name]
    assert counts(audit(spec, head(run), tokens(6, 13), loss))["logit_shift"] == 0


GOOD_HEADS: dict[str, tuple[Callable[..., Any], str | None]] = {
    "a bias": (lambda m, x: m.a(x), "cross_entropy"),
    "a temperature": (lambda m, x: m.a(x) / 0.7, "cross_entropy"),
    "another output": (lambda m, x: (m.a(x), x.sum()), "cross_entropy"),
    "its own loss": (lambda m, x: F.cross_entropy(m.a(x), LABELS, label_smoothing=0.1, ignore_index=3), None),
    "classes second": (lambda m, x: F.cross_entropy(m.a(x).view(2, 3, 9).transpose(1, 2), LABELS.view(2, 3)), None),
}


@pytest.mark.parametrize("name", thinned(GOOD_HEADS, 2))
def test_logits_that_may_shift(name: str, spec: str) -> None:
    run, loss = GOOD_HEADS[name]
    assert found(audit(spec, head(run), tokens(6, 13), loss), "logit_shift") == [{"a.weight": (1, 9, 13)}]
