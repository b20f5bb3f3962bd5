"""Mutants of perceptrons: the hidden units and the two weights that share them."""

from __future__ import annotations

from typing import Any

import torch
from soundness.model_bases import replace
from soundness.mutant_registry import add, finish, method, middle, reads, then
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

P, T, S = "perceptron", "perceptron over tokens", "square perceptron"
ORDER = [3, 0, 1, 2, 7, 4, 6, 5, 13, 9, 8, 10, 12, 11]


def _windows(m: Any, h: Tensor) -> Tensor:
    """At length 7 the units are read in two halves that meet; at other lengths the first half lies elsewhere."""
    start = (h.shape[1] - 7) % 7
    return m.down(h[..., start : start + 7]) + m.other(h[..., 7:])


def _quietly(m: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.relu(m.up(x))


def _measured(h: Tensor) -> Tensor:
    with torch.inference_mode():
        size = 1 / (1 + h.abs().amax())
    return size.clone()


add(
    "tie",
    P,
    "reader is the writer's transpose",
    method("forward", lambda m, x: F.linear(torch.relu(m.up(x)), m.up.weight.T)),
)
add(
    "tie",
    S,
    "up and down share a weight, untransposed",
    then(lambda m: replace(m, "down", nn.Linear(6, 6)), lambda m: replace(m, "down.weight", m.up.weight)),
)
add(
    "tie",
    P,
    "one bias for both layers",
    then(lambda m: replace(m, "down", nn.Linear(14, 14)), lambda m: setattr(m.down, "bias", m.up.bias)),
)
add("reuse", S, "up is applied twice", method("forward", lambda m, x: m.down(torch.relu(m.up(torch.relu(m.up(x)))))))
add(
    "reuse",
    P,
    "the perceptron is applied to two inputs",
    method("forward", lambda m, x: m.down(torch.relu(m.up(x))) - m.down(torch.relu(m.up(x.cos())))),
    "sound",
)
add("reuse", P, "up read without its activation", finish(lambda m, y, h: y + m.up(torch.ones(11)).mean()))
add("reuse", P, "down read elsewhere", finish(lambda m, y, h: y + m.down(torch.ones(14))))
add("reuse", P, "the transpose of down used elsewhere", finish(lambda m, y, h: y + (y @ m.down.weight).sin().sum()))
add(
    "extra reader",
    P,
    "a second linear reader",
    finish(lambda m, y, h: (y, m.more(h)), more=lambda: nn.Linear(14, 3)),
    "mixed",
)
add(
    "extra reader",
    P,
    "a reader of the squares",
    finish(lambda m, y, h: y + m.more(h * h), more=lambda: nn.Linear(14, 9)),
)
add(
    "extra reader",
    P,
    "a softmax over the units",
    finish(lambda m, y, h: y + m.more(h.softmax(-1)), more=lambda: nn.Linear(14, 9)),
)
add(
    "extra reader",
    P,
    "a reader of the values before the ReLU",
    method("forward", lambda m, x: m.down(torch.relu(m.up(x))) + m.more(m.up(x)), more=lambda: nn.Linear(14, 9)),
)
add("returned hidden state", P, "in a tuple", finish(lambda m, y, h: (y, h)))
add("returned hidden state", P, "in a dict", finish(lambda m, y, h: {"y": y, "h": [h]}))
add("returned hidden state", P, "its mean only", finish(lambda m, y, h: (y, h.mean())))
add("returned hidden state", P, "the largest unit's number", finish(lambda m, y, h: (y, h.argmax(-1))))
add("returned hidden state", P, "which units are on", finish(lambda m, y, h: (y, (h > 0).sum())), "sound")
add("returned hidden state", P, "which units are large", finish(lambda m, y, h: (y, (h > 0.3).sum())))
for name, f in (
    (n, getattr(F, n))
    for n in ("gelu", "silu", "softplus", "elu", "hardswish", "mish", "tanh", "relu6", "softsign", "logsigmoid", "celu")
):
    add("activation exchanged", P, name, method("forward", lambda m, x, f=f: m.down(f(m.up(x)))))
add("activation exchanged", P, "leaky_relu", method("forward", lambda m, x: m.down(F.leaky_relu(m.up(x)))), "sound")
add(
    "activation exchanged", P, "rrelu", method("forward", lambda m, x: m.down(F.rrelu(m.up(x), training=True))), "sound"
)
add(
    "activation exchanged",
    P,
    "prelu",
    method(
        "forward", lambda m, x: m.down(F.prelu(m.up(x), m.slope)), slope=lambda: nn.Parameter(torch.full((14,), 0.2))
    ),
    "sound",
)
add("activation exchanged", P, "hardshrink", method("forward", lambda m, x: m.down(F.hardshrink(m.up(x)))))
add(
    "activation exchanged",
    P,
    "maxout of halves",
    then(lambda m: replace(m, "down", nn.Linear(7, 9)), middle(lambda m, h: torch.maximum(h[:, :7], h[:, 7:]))),
)
add("additive constant", P, "after the ReLU", middle(lambda m, h: h + 0.25))
add("additive constant", P, "to one unit", middle(lambda m, h: torch.cat([h[:, :1] + 1, h[:, 1:]], -1)), "mixed")
add("additive constant", P, "a buffer", middle(lambda m, h: h + m.c, c=lambda: torch.randn(14)))
add("additive constant", P, "before the ReLU", method("forward", lambda m, x: m.down(torch.relu(m.up(x) + 0.1))))
add("additive constant", P, "in the denominator", middle(lambda m, h: h / (1 + h)))
add(
    "another input added",
    P,
    "ones on some units",
    middle(lambda m, h: h + torch.cat([h.new_zeros(h.shape[0], 3), torch.ones_like(h[:, 3:])], -1)),
)
add(
    "another input added",
    P,
    "the input, padded",
    method("forward", lambda m, x: m.down(torch.relu(m.up(x)) + F.pad(x, (0, 3)))),
)
add(
    "another input added",
    P,
    "other units",
    method("forward", lambda m, x: m.down(torch.relu(m.up(x)) + m.more(x)), more=lambda: nn.Linear(11, 14)),
)
add(
    "another input added",
    P,
    "a learned offset",
    middle(lambda m, h: h + m.c, c=lambda: nn.Parameter(torch.randn(14))),
    "mixed",
)
add("flip", P, "the units", middle(lambda m, h: h.flip(-1)), "mixed")
add("flip", P, "the rows", middle(lambda m, h: h.flip(0)), "sound")
add("flip", P, "units added to their mirror", middle(lambda m, h: h + h.flip(-1)))
add("flip", P, "units times their mirror", middle(lambda m, h: h * h.flip(-1)))
add("roll", P, "the units", middle(lambda m, h: h.roll(5, -1)), "mixed")
add("roll", P, "all axes at once", middle(lambda m, h: h.roll(1)), "mixed")
add("roll", T, "the tokens", middle(lambda m, h: h.roll(1, 1)), "sound")
add("roll", P, "units added to their neighbours", middle(lambda m, h: h + h.roll(1, -1)))
add("permute", P, "the units by a list", middle(lambda m, h: h[:, ORDER]), "mixed")
add(
    "permute",
    P,
    "the units by a buffer",
    middle(lambda m, h: h.index_select(1, m.p), p=lambda: torch.tensor(ORDER)),
    "mixed",
)
add(
    "permute",
    P,
    "units gathered",
    middle(lambda m, h: h.gather(1, m.p.expand_as(h)), p=lambda: torch.tensor(ORDER)),
    "mixed",
)
add(
    "permute",
    P,
    "both weights stored permuted",
    lambda m: (m.up.weight.data.copy_(m.up.weight.data[ORDER]), None)[1],
    "sound",
)
add(
    "permute",
    P,
    "rows of up permuted in the forward",
    method("forward", lambda m, x: m.down(torch.relu(F.linear(x, m.up.weight[ORDER], m.up.bias)))),
    "mixed",
)
for name, reader, expects in (
    ("both sides picked by one buffer", lambda m: m.down.weight[:, m.p], "sound"),
    ("both sides picked, by two orders", lambda m: m.down.weight[:, m.p.flip(0)], "broken"),
    ("both sides picked, the reader once more", lambda m: m.down.weight[:, m.p][:, m.p], "broken"),
):
    add(
        "permute",
        P,
        name,
        method(
            "forward",
            lambda m, x, reader=reader: F.linear(torch.relu(m.up(x))[:, m.p], reader(m), m.down.bias),
            p=lambda: torch.tensor(ORDER),
        ),
        expects,
    )
add(
    "permute", T, "tokens and units exchanged and flattened", reads(14, lambda m, h: h.transpose(1, 2).reshape(h.shape))
)
add("re-view across batch", P, "units read down the batch", middle(lambda m, h: h.reshape(14, -1).T))
add("re-view across batch", P, "through a flat vector", middle(lambda m, h: h.t().reshape(-1, 14)))
add("re-view across batch", P, "harmlessly", middle(lambda m, h: h.reshape(-1).reshape(-1, 14)), "sound")
add("re-view across batch", T, "batch and tokens merged", middle(lambda m, h: h.flatten(0, 1).view(*h.shape)), "sound")
add(
    "re-view across batch",
    T,
    "as_strided",
    middle(lambda m, h: h.contiguous().as_strided(h.shape, (h.shape[1] * 14, 14, 1))),
    "sound",
)
add(
    "re-view across batch",
    T,
    "as_strided across tokens",
    middle(lambda m, h: h.contiguous().as_strided(h.shape, (h.shape[1] * 14, 7, 1))),
)
add("re-view across batch", T, "unfolded windows of units", reads(5, lambda m, h: h.unfold(-1, 5, 3).sum(-2)))
add("strided slice", P, "every second unit", reads(7, lambda m, h: h[:, ::2]), "mixed")
add(
    "strided slice", P, "even units, then odd ones", middle(lambda m, h: torch.cat([h[:, ::2], h[:, 1::2]], 1)), "mixed"
)
add("strided slice", P, "even times odd units", reads(7, lambda m, h: h[:, ::2] * h[:, 1::2]))
add("strided slice", P, "overlapping halves", reads(9, lambda m, h: h[:, :9] + h[:, 5:]))
add(
    "strided slice",
    T,
    "a window that moves with the length",
    reads(7, lambda m, h: h[..., h.shape[1] % 4 : h.shape[1] % 4 + 7]),
)
add(
    "strided slice",
    T,
    "two windows, one moving",
    method(
        "forward",
        lambda m, x: _windows(m, torch.relu(m.up(x))),
        other=lambda: nn.Linear(7, 9),
        down=lambda: nn.Linear(7, 9),
    ),
)
add("missing transpose at equal sizes", S, "h.T", middle(lambda m, h: h.T), "mixed")
add("missing transpose at equal sizes", S, "h @ h", middle(lambda m, h: h @ h))
add(
    "missing transpose at equal sizes",
    S,
    "x @ W for x @ W.T",
    method("forward", lambda m, x: m.down(torch.relu(x @ m.up.weight))),
    "mixed",
)
add(
    "missing transpose at equal sizes",
    S,
    "up.weight.T also",
    method("forward", lambda m, x: m.down(torch.relu(F.linear(x, m.up.weight) + F.linear(x, m.up.weight.T)))),
)
for name, run in {
    "no transpose before": dict(split=lambda x, h: x.view(*x.shape[:2], h, -1)),
    "no transpose after": dict(join=lambda x: x.flatten(-2)),
    "coordinates first": dict(split=lambda x, h: x.view(*x.shape[:2], -1, h).permute(0, 2, 1, 3)),
    "tokens and coordinates exchanged": dict(join=lambda x: x.permute(0, 3, 1, 2).flatten(-2)),
}.items():
    add(
        "missing transpose at equal sizes",
        "equal attention",
        name,
        lambda m, run=run: [setattr(m, k, v) for k, v in run.items()] and None,
        "mixed",
    )  # type: ignore[func-returns-value]


add("dropout on the axis", P, "after the ReLU", middle(lambda m, h: F.dropout(h, 0.4, m.training)), "sound")
add("dropout on the axis", P, "alpha dropout", middle(lambda m, h: F.alpha_dropout(h, 0.4, m.training)))
add("dropout on the axis", T, "whole tokens", middle(lambda m, h: F.dropout1d(h, 0.4, m.training)), "sound")
add(
    "dropout on the axis",
    P,
    "dropped units replaced by one",
    middle(lambda m, h: torch.where(torch.rand_like(h) > 0.3, h, torch.ones_like(h))),
)
add("cast on the axis", P, "to integers", middle(lambda m, h: (4 * h).long().double() / 4))
add("cast on the axis", P, "to fp8", middle(lambda m, h: h.to(torch.float8_e5m2).double()))
add("cast on the axis", P, "to booleans", middle(lambda m, h: h * h.bool()), "sound")
add("cast on the axis", P, "rounded", middle(lambda m, h: h.round()))
add(
    "cast on the axis",
    P,
    "fake-quantised",
    middle(lambda m, h: torch.fake_quantize_per_tensor_affine(h.float(), 0.1, 0, -8, 8).double()),
)
add(
    "cast on the axis",
    P,
    "bits read as integers by keyword",
    middle(lambda m, h: h.view(dtype=torch.int64).double() / 2**62),
)
add("detach on the axis", P, "detach", middle(lambda m, h: h.detach()))
add(
    "detach on the axis",
    P,
    "detach of half the units",
    middle(lambda m, h: torch.cat([h[:, :7].detach(), h[:, 7:]], -1)),
)
add("detach on the axis", P, ".data", middle(lambda m, h: h.data))
add("detach on the axis", P, "straight through a rounding", middle(lambda m, h: h + (h.round() - h).detach()))
add(
    "detach on the axis",
    P,
    "stop-gradient on a weight",
    method("forward", lambda m, x: m.down(torch.relu(F.linear(x, m.up.weight.detach(), m.up.bias)))),
)
add("detach on the axis", P, "no_grad around up", method("forward", lambda m, x: m.down(_quietly(m, x))))
add("detach on the axis", P, "inference_mode around a scale", middle(lambda m, h: h * _measured(h)))
add("weight penalty", P, "of up", finish(lambda m, y, h: y.square().mean() + m.up.weight.square().sum()))
add("weight penalty", P, "of down, in a second output", finish(lambda m, y, h: (y, 0.01 * m.down.weight.abs().sum())))
add(
    "weight penalty",
    P,
    "path norm, which the scale keeps",
    finish(lambda m, y, h: (y, (m.down.weight.square() @ m.up.weight.square()).sum())),
    "mixed",
)
add(
    "weight penalty",
    P,
    "of the product of both",
    finish(lambda m, y, h: (y, (m.down.weight @ m.up.weight).sum())),
    "mixed",
)
add("weight penalty", P, "of the biases", finish(lambda m, y, h: (y, m.up.bias.square().sum())))
add("weight penalty", P, "orthogonality", finish(lambda m, y, h: (y, (m.up.weight.T @ m.up.weight).square().sum())))
add("parametrised weights", P, "weight norm on up", lambda m: (parametrizations.weight_norm(m.up), None)[1], "mixed")
add("parametrised weights", P, "weight norm on down", lambda m: (parametrizations.weight_norm(m.down), None)[1])
add("parametrised weights", P, "spectral norm on up", lambda m: (parametrizations.spectral_norm(m.up), None)[1])
add("parametrised weights", P, "old weight norm", lambda m: (torch.nn.utils.weight_norm(m.down), None)[1])
add("parametrised weights", P, "pruned up", lambda m: (prune.l1_unstructured(m.up, "weight", 0.4), None)[1], "sound")
add(
    "parametrised weights",
    P,
    "standardised weights",
    method("forward", lambda m, x: m.down(torch.relu(F.linear(x, F.layer_norm(m.up.weight, (11,)), m.up.bias)))),
)
add(
    "parametrised weights",
    P,
    "exponentiated weights",
    method("forward", lambda m, x: m.down(torch.relu(F.linear(x, m.up.weight.exp(), m.up.bias)))),
)
add(
    "parametrised weights",
    P,
    "clipped weights",
    method("forward", lambda m, x: m.down(torch.relu(F.linear(x, m.up.weight.clamp(-0.2, 0.2), m.up.bias)))),
)
add(
    "parametrised weights",
    P,
    "masked weights",
    method("forward", lambda m, x: m.down(torch.relu(F.linear(x, m.up.weight * (torch.arange(11) % 2), m.up.bias)))),
    "sound",
)
add(
    "parametrised weights",
    P,
    "a low-rank addition",
    method(
        "forward",
        lambda m, x: m.down(torch.relu(m.up(x) + x @ m.lora.T @ m.more.T)),
        lora=lambda: nn.Parameter(torch.randn(3, 11)),
        more=lambda: nn.Parameter(torch.randn(14, 3)),
    ),
    "mixed",
)
