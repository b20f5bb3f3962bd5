"""Mutants of hand-written attention."""

from __future__ import annotations

from typing import Any

import torch
from match.models import angles, by_heads, join_heads, rope_halves, rope_pairs
from soundness.model_bases import after, around, replace
from soundness.mutant_registry import Change, add, method
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

A = "attention"
PLAIN, FUSED = "plain attention", "fused attention"


def sets(**attributes: Any) -> Change:
    """Other functions on queries, keys, values or what is mixed."""

    def change(model: nn.Module) -> None:
        for name, value in attributes.items():
            setattr(model, name, value)

    return change


def _full(x: Tensor, sign: float = -1.0, tile: bool = False) -> Tensor:
    """Neighbours turned by tables of full length."""
    a = angles(*x.shape[-2:])
    a = a.repeat(1, 2) if tile else a.repeat_interleave(2, -1)
    return x * a.cos() + torch.stack((sign * x[..., 1::2], x[..., ::2]), -1).flatten(-2) * a.sin()


def _tiled(x: Tensor) -> Tensor:
    return _full(x, tile=True)


def _mirrored(x: Tensor) -> Tensor:
    return _full(x, 1.0)


def _part(x: Tensor) -> Tensor:
    return torch.cat([_full(x[..., :4]), x[..., 4:]], -1)


def kept(path: str, start: int, stop: int) -> Change:
    """A buffer that is a view of a parameter and is added to the model's output."""

    def change(model: nn.Module) -> nn.Module:
        model.register_buffer("kept", model.get_parameter(path).data[start:stop])
        return around(lambda m, x: m(x) + m.kept.sum())(model)

    return change


# --- heads
add("tie", A, "keys are the values", lambda m: replace(m, "keys", m.says))
add(
    "tie",
    PLAIN,
    "queries' weight is the output's",
    lambda m: (
        replace(m, "out.weight", nn.Parameter(torch.randn(13, 24)))
        or setattr(m.asks, "weight", nn.Parameter(m.out.weight.data.T))
    ),
)
add("reuse", A, "called twice", around(lambda m, x: m(m(x))), "mixed")
add("reuse", A, "values read again", around(lambda m, x: m(x) + m.says(x).sum(-1, keepdim=True)))
add("reuse", PLAIN, "keys read again, transposed", around(lambda m, x: m(x) @ m.keys.weight.T @ m.keys.weight))
add(
    "extra reader",
    A,
    "a second output projection",
    around(lambda m, x: (m(x), m.out(m.says(x).repeat(1, 1, 2)))),
    "mixed",
)
add("returned hidden state", PLAIN, "the scores", around(lambda m, x: (m(x), m.asks(x) @ m.asks(x).mT)), "mixed")
add("returned hidden state", A, "the values", around(lambda m, x: (m(x), m.says(x))))
for name, how in {
    "a ReLU on the values": ("activation exchanged", dict(on_v=torch.relu)),
    "tanh on the mixed values": ("activation exchanged", dict(on_mixed=torch.tanh)),
    "a constant on the values": ("additive constant", dict(on_v=lambda v: v + 1.0)),
    "a constant on one coordinate": ("additive constant", dict(on_v=lambda v: v + F.one_hot(torch.tensor(2), 6))),
    "values flipped": ("flip", dict(on_v=lambda v: v.flip(-1))),
    "heads of the mixed values flipped": ("flip", dict(on_mixed=lambda v: v.flip(1))),
    "values rolled": ("roll", dict(on_v=lambda v: v.roll(1, -1))),
    "queries rolled before the rotary embedding": ("roll", dict(on_q=lambda q: rope_halves(q.roll(1, -1)))),
    "queries rolled by half": ("roll", dict(on_q=lambda q: rope_halves(q.roll(3, -1)))),
    "values permuted": ("permute", dict(on_v=lambda v: v[..., [2, 0, 1, 5, 4, 3]])),
    "queries and keys permuted alike": ("permute", dict(on_q=lambda q: rope_halves(q)[..., [2, 0, 1, 5, 4, 3]],
                                                      on_k=lambda k: rope_halves(k)[..., [2, 0, 1, 5, 4, 3]])),
    "queries by neighbours, keys by halves": ("permute", dict(on_q=rope_pairs)),
    "neighbours, each with an angle of its own": ("permute", dict(on_q=_tiled, on_k=_tiled)),
    "neighbours by full tables, mirrored": ("permute", dict(on_q=_mirrored, on_k=_mirrored)),
    "neighbours on a part, and the part exchanged": (
        "permute", dict(on_q=_part, on_k=lambda k: _part(k.roll(2, -1)).roll(-2, -1))
    ),
    "neighbours on a part of both": ("sound rewrite", dict(on_q=_part, on_k=_part)),
    "every second coordinate of the values": (
        "strided slice", dict(on_v=lambda v: torch.cat([v[..., ::2], v[..., 1::2]], -1))
    ),
    "half of the keys": ("strided slice", dict(on_q=lambda q: q[..., :3], on_k=lambda k: k[..., :3])),
    "half of the keys, doubled queries": ("strided slice", dict(on_k=lambda k: torch.cat([k[..., :3]] * 2, -1))),
    "dropout on the values": ("dropout on the axis", dict(on_v=lambda v: F.dropout(v, 0.3))),
    "dropout on heads": ("dropout on the axis", dict(on_v=lambda v: F.dropout2d(v, 0.3))),
    "dropout on the queries": ("dropout on the axis", dict(on_q=lambda q: F.dropout(rope_halves(q), 0.3))),
    "values rounded": ("cast on the axis", dict(on_v=torch.round)),
    "values to fp8": ("cast on the axis", dict(on_v=lambda v: v.to(torch.float8_e4m3fn).double())),
    "values detached": ("detach on the axis", dict(on_v=lambda v: v.detach())),
    "tokens viewed as coordinates": ("re-view across batch",
                                     dict(on_mixed=lambda v: v.reshape(*v.shape[:2], 6, -1).transpose(-1, -2))),
    "batch and heads merged": ("re-view across batch", dict(on_v=lambda v: v.flatten(0, 1).view(v.shape))),
    "heads viewed across the batch": ("re-view across batch", dict(on_v=lambda v: v.transpose(0, 1).reshape(v.shape))),
    "queries times keys in place of their product": ("h @ h.T", dict(on_v=lambda v: v @ v.mT @ v)),
    "values normalised": ("choice by value", dict(on_v=lambda v: F.normalize(v, dim=-1))),
    "the larger half of the values": ("choice by value", dict(on_v=lambda v: v * (v > v.mean(-1, keepdim=True)))),
    "values by their norm": (
        "choice by value", dict(on_v=lambda v: torch.where(v.norm(dim=-1, keepdim=True) > 1.5, v, 0))
    ),
    "values of unit length in the four-norm": ("choice by value", dict(on_v=lambda v: v / v.norm(4, -1, keepdim=True))),
    "values by their weighed length": (
        "choice by value", dict(on_v=lambda v: v * (v * v * torch.arange(1.0, 7)).sum(-1, keepdim=True).rsqrt())
    ),
    "values of unit length over the tokens": ("choice by value", dict(on_v=lambda v: F.normalize(v, dim=-2))),
    "queries of unit length": ("sound rewrite", dict(on_q=lambda q: F.normalize(rope_halves(q), dim=-1))),
    "queries scaled by position": (
        "sound rewrite", dict(on_q=lambda q: rope_halves(q) * torch.arange(1.0, 1 + q.shape[-2])[:, None])
    ),
    "complex rotary on both": ("sound rewrite", dict(on_q=lambda q: _complex(q), on_k=lambda k: _complex(k))),
}.items():  # fmt: skip
    add(how[0], A, name, sets(**how[1]), "mixed")
add("another input added", A, "the input added to the values", after("says", lambda y, x: y + x[..., :12]))
add("another input added", A, "a learned offset on the values", after("says", lambda y, x: y + 0.1 * y.shape[-1]))
add("aliasing buffer", A, "a view of the values' weight", kept("says.weight", 0, 5))
add("aliasing buffer", A, "a view of the output's weight", kept("out.weight", 0, 5))
add("in-place write", A, "one coordinate of the values", sets(on_v=lambda v: (v[..., 0].mul_(2.0), v)[1]))
add("in-place write", A, "values doubled", sets(on_v=lambda v: v.mul_(2.0)), "sound")
add("requires_grad=False", A, "frozen values", lambda m: (m.says.requires_grad_(False), None)[1], "sound")
add("requires_grad=False", A, "frozen output", lambda m: (m.out.requires_grad_(False), None)[1], "sound")
add("parametrised weights", A, "weight norm on the values", lambda m: (parametrizations.weight_norm(m.says), None)[1])
add(
    "parametrised weights",
    A,
    "spectral norm on the output",
    lambda m: (parametrizations.spectral_norm(m.out), None)[1],
    "mixed",
)
add("parametrised weights", PLAIN, "orthogonal keys", lambda m: (parametrizations.orthogonal(m.keys), None)[1])
add(
    "weight penalty",
    PLAIN,
    "of queries and keys, which rotations keep",
    around(lambda m, x: (m(x), m.asks.weight.square().sum() + m.keys.weight.square().sum())),
    "mixed",
)
add("weight penalty", PLAIN, "a one-norm of the keys", around(lambda m, x: (m(x), m.keys.weight.abs().sum())))
add(
    "branch on the length",
    A,
    "values bent over 30 tokens",
    sets(on_v=lambda v: v if v.shape[-2] < 10 else torch.relu(v)),
)
add("softmax axis", PLAIN, "over the queries", method("forward", lambda m, x: _over_queries(m, x)), "mixed")
add("softmax axis", PLAIN, "over the coordinates", sets(on_v=lambda v: v.softmax(-1)))
add("flip", FUSED, "parts in another order", method("parts", lambda m, x: _parts(m, x, (2, 1, 0))), "mixed")
add("tie", FUSED, "queries are the keys", method("parts", lambda m, x: _parts(m, x, (1, 1, 2))), "mixed")
add("tie", FUSED, "values are the keys", method("parts", lambda m, x: _parts(m, x, (0, 1, 1))))
add(
    "re-view across batch",
    FUSED,
    "batch before the parts",
    method("parts", lambda m, x: m.qkv(m.norm(x)).view(3, x.shape[0], x.shape[1], 3, 4).transpose(2, 3).unbind(0)),
    "mixed",
)
add(
    "norm bias",
    FUSED,
    "the norm without its bias, read twice",
    method("parts", lambda m, x: tuple(a + b for a, b in zip(_parts(m, x, (0, 1, 2)), _parts(m, x.sin(), (0, 1, 2))))),
    "mixed",
)
add(
    "norm bias",
    FUSED,
    "the bias zeroed in the forward",
    method("parts", lambda m, x: _split(m, m.qkv(m.norm(x) - m.norm.bias))),
    "mixed",
)


def _complex(x: Tensor) -> Tensor:
    n, k = x.shape[-2:]
    angle = torch.arange(n)[:, None] * 10.0 ** (-torch.arange(k // 2) / k)
    turns = torch.polar(torch.ones_like(angle), angle).to(torch.complex128)
    z = torch.view_as_complex(x.reshape(*x.shape[:-1], k // 2, 2).contiguous())
    return torch.view_as_real(z * turns).flatten(-2)


def _split(m: Any, qkv: Tensor) -> Any:
    return qkv.view(*qkv.shape[:2], 3, m.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def _parts(m: Any, x: Tensor, order: tuple[int, ...]) -> Any:
    found = _split(m, m.qkv(m.norm(x)))
    return tuple(found[i] for i in order)


def _over_queries(m: Any, x: Tensor) -> Tensor:
    q, k, v = (by_heads(part(x), h) for part, h in ((m.asks, 4), (m.keys, 2), (m.says, 2)))
    return m.out(join_heads((q @ m.spread(k).mT).softmax(-2) @ m.spread(v)))
