"""Mutants of norms, gated units, branches, experts, convolutions, losses and a whole decoder."""

from __future__ import annotations

from typing import Any

import torch
from match.models import RMSNorm
from soundness.model_bases import after, around, replace
from soundness.mutant_registry import add, method, then
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

N, G, B, E, C, D, W = "normed", "gated", "branches", "experts", "convolutions", "scored", "storyteller"


def tied_gru() -> nn.Module:
    cell = nn.GRU(13, 13, batch_first=True)
    cell.weight_hh_l0 = cell.weight_ih_l0
    return cell


# --- norms
add(
    "norm bias",
    N,
    "a bias that both readers see",
    method(
        "forward", lambda m, x: (m.a(m.norm(x) + m.c), m.b(m.norm(x) + m.c)), c=lambda: nn.Parameter(torch.randn(13))
    ),
    "sound",
)
add(
    "norm bias",
    N,
    "a constant bias",
    method("forward", lambda m, x: (m.a(m.norm(x) + m.c), m.b(m.norm(x))), c=lambda: torch.randn(13)),
)
add(
    "norm bias",
    N,
    "a bias that one reader sees",
    method("forward", lambda m, x: (m.a(m.norm(x) + m.c), m.b(m.norm(x))), c=lambda: nn.Parameter(torch.randn(13))),
    "mixed",
)
add(
    "norm bias",
    N,
    "a bias before the gain",
    method(
        "forward",
        lambda m, x: (m.a((F.rms_norm(x, (13,)) + m.c) * m.norm.scale), m.b(m.norm(x))),
        c=lambda: nn.Parameter(torch.randn(13)),
    ),
    "sound",
)
add(
    "norm bias",
    N,
    "the gain is the bias too",
    method("forward", lambda m, x: (m.a(m.norm(x) + m.norm.scale), m.b(m.norm(x)))),
    "sound",
)
add(
    "norm bias",
    N,
    "a bias shared with the output",
    method("forward", lambda m, x: (m.a(m.norm(x) + m.c), m.c.sum()), c=lambda: nn.Parameter(torch.randn(13))),
)
add(
    "extra reader",
    N,
    "a third linear reader",
    method("forward", lambda m, x: (m.a(m.norm(x)), m.b(m.norm(x)), m.c(m.norm(x))), c=lambda: nn.Linear(13, 4)),
    "sound",
)
add(
    "extra reader",
    N,
    "a reader of another norm",
    method("forward", lambda m, x: (m.a(m.norm(x)), m.b(m.norm(x)) + m.b(m.c(x))), c=lambda: RMSNorm(13)),
)
add("extra reader", N, "the residual", around(lambda m, x: (*m(x), x + m.norm(x))))
add(
    "extra reader",
    N,
    "a convolution over tokens",
    method("forward", lambda m, x: (m.a(m.norm(x)), m.c(m.norm(x).mT)), c=lambda: nn.Conv1d(13, 4, 3)),
    "sound",
)
add(
    "extra reader",
    N,
    "a depthwise convolution",
    method("forward", lambda m, x: m.a(m.c(m.norm(x).mT).mT), c=lambda: nn.Conv1d(13, 13, 3, groups=13)),
    "mixed",
)
for name, build in {"GRU": nn.GRU, "LSTM": nn.LSTM, "RNN": nn.RNN}.items():
    cell = {"c": lambda build=build: build(13, 13, 2, batch_first=True, bidirectional=True)}
    add(
        "extra reader", N, f"{name} both ways",
        method("forward", lambda m, x: (m.a(m.norm(x)), m.b(m.norm(x)), m.c(m.norm(x))[0]), **cell), "sound",
    )  # fmt: skip
    add(
        "extra reader", N, f"{name}, and what it says of the norm is added to it",
        method("forward", lambda m, x: (m.a(m.norm(x)), m.b(m.norm(x) + m.c(m.norm(x))[0][..., :13])), **cell),
    )  # fmt: skip
add(
    "extra reader", N, "states of a GRU",
    method(
        "forward", lambda m, x: (m.a(m.norm(x)), m.c(m.norm(x), m.norm(x)[None, :, 0])[0]),
        c=lambda: nn.GRU(13, 13, batch_first=True),
    ),
)  # fmt: skip
add(
    "tie", N, "a GRU that recurs by its input weights",
    method("forward", lambda m, x: (m.a(m.norm(x)), m.c(m.norm(x))[0]), c=tied_gru),
)  # fmt: skip
add(
    "tie", N, "the input weights of a GRU read what is no norm",
    method(
        "forward", lambda m, x: (m.a(m.norm(x)), m.c(m.norm(x))[0], x @ m.c.weight_ih_l0.T),
        c=lambda: nn.GRU(13, 5, batch_first=True),
    ),
)  # fmt: skip
add("tie", N, "one reader twice, once transposed", method("forward", lambda m, x: m.a(m.norm(x)) @ m.a.weight))
add(
    "tie",
    N,
    "two norms, one gain",
    method("forward", lambda m, x: (m.a(m.norm(x)), m.b(F.rms_norm(x.sin(), (13,), m.norm.scale)))),
    "sound",
)
add(
    "tie",
    N,
    "the gain is a row of a reader",
    method("forward", lambda m, x: m.a(F.rms_norm(x, (13,), m.b.weight[0])) + m.b(x).sum(-1, keepdim=True)),
)
add("h @ h.T", N, "the norm's gram matrix", method("forward", lambda m, x: (m.a(m.norm(x)), m.norm(x) @ m.norm(x).mT)))
add(
    "activation exchanged",
    N,
    "the gain through softplus",
    method("forward", lambda m, x: m.a(F.rms_norm(x, (13,)) * F.softplus(m.norm.scale))),
)
add(
    "activation exchanged",
    N,
    "the absolute gain",
    method("forward", lambda m, x: m.a(F.rms_norm(x, (13,)) * m.norm.scale.abs())),
    "sound",
)
add(
    "additive constant",
    N,
    "one plus the gain for one reader",
    method("forward", lambda m, x: (m.a(F.rms_norm(x, (13,)) * (1 + m.norm.scale)), m.b(m.norm(x)))),
)
add(
    "additive constant",
    N,
    "one plus the gain for both",
    method(
        "forward",
        lambda m, x: (m.a(F.rms_norm(x, (13,)) * (1 + m.norm.scale)), m.b(F.rms_norm(x, (13,)) * (1 + m.norm.scale))),
    ),
    "sound",
)
add(
    "additive constant",
    N,
    "two minus the gain",
    method("forward", lambda m, x: m.a(F.rms_norm(x, (13,)) * (2 - m.norm.scale))),
)
add(
    "strided slice",
    N,
    "readers of interleaved halves",
    method(
        "forward",
        lambda m, x: (m.c(m.norm(x)[..., ::2]), m.d(m.norm(x)[..., 1::2])),
        c=lambda: nn.Linear(7, 4),
        d=lambda: nn.Linear(6, 4),
    ),
    "mixed",
)
add(
    "strided slice",
    N,
    "readers of overlapping parts",
    method(
        "forward",
        lambda m, x: (m.c(m.norm(x)[..., :8]), m.d(m.norm(x)[..., 5:])),
        c=lambda: nn.Linear(8, 4),
        d=lambda: nn.Linear(8, 4),
    ),
    "mixed",
)
add(
    "embedding",
    N,
    "the gain is an embedding's row",
    method(
        "forward",
        lambda m, x: m.a(F.rms_norm(x, (13,)) * m.c(torch.arange(x.shape[1]) % 3)),
        c=lambda: nn.Embedding(3, 13),
    ),
    "mixed",
)
add(
    "missing transpose at equal sizes",
    N,
    "tokens and width exchanged",
    then(
        lambda m: replace(m, "a", nn.Linear(7, 9)),
        method("forward", lambda m, x: m.a(m.norm(x)[:, :1].expand(-1, 7, -1).mT)),
    ),
)

# --- gated units, branches, experts
add("tie", G, "gate and up are one", lambda m: replace(m, "up", m.gate))
add("reuse", G, "called twice", around(lambda m, x: m(m(x))), "sound")
add("activation exchanged", G, "the ungated half bent", after("up", lambda y, x: torch.tanh(y)))
add(
    "activation exchanged",
    G,
    "both halves gate",
    method("forward", lambda m, x: m.down(torch.sigmoid(m.gate(x)) * F.silu(m.up(x)))),
)
add("additive constant", G, "one plus the ungated half", after("up", lambda y, x: 1 + y))
add(
    "extra reader",
    G,
    "the ungated half gates another",
    method(
        "forward",
        lambda m, x: m.down(F.silu(m.gate(x)) * m.up(x)) + m.more(torch.sigmoid(m.up(x))),
        more=lambda: nn.Linear(17, 13),
    ),
)
add("roll", G, "the gate rolled", after("gate", lambda y, x: y.roll(1, -1)), "sound")
add("roll", G, "the ungated half added to itself rolled", after("up", lambda y, x: y + y.roll(1, -1)))
add("h @ h.T", G, "the ungated half's gram matrix", after("up", lambda y, x: y @ y.mT @ y))
add(
    "choice by value",
    G,
    "a gate that reads the ungated half",
    method("forward", lambda m, x: m.down(m.up(x) * (m.up(x) > m.gate(x)))),
)
add("dropout on the axis", G, "on the ungated half", after("up", lambda y, x: F.dropout(y, 0.3)), "sound")
add(
    "cast on the axis",
    G,
    "half precision on the ungated half",
    after("up", lambda y, x: y.to(torch.bfloat16).to(y.dtype)),
    "mixed",
)
add(
    "additive constant",
    B,
    "ReLU of the sum of branches",
    method(
        "forward",
        lambda m, x: torch.relu(m.low(torch.relu(m.left(m.norm(x)))) + m.high(torch.relu(m.right(m.norm(x))) + 1)),
    ),
    "mixed",
)
add(
    "another input added",
    B,
    "branches added before the readers",
    method(
        "forward", lambda m, x: m.low(torch.relu(m.left(m.norm(x))) + F.pad(torch.relu(m.right(m.norm(x))), (0, 9)))
    ),
    "mixed",
)
add(
    "tie",
    B,
    "both readers share columns",
    method(
        "forward",
        lambda m, x: (
            m.low(torch.relu(m.left(m.norm(x)))) + F.linear(torch.relu(m.right(m.norm(x))), m.low.weight[:, :8])
        ),
    ),
)
add(
    "extra reader",
    B,
    "one branch reads the input too",
    method("forward", lambda m, x: m.low(torch.relu(m.left(m.norm(x) + x)))),
)
add(
    "tie",
    E,
    "experts share their ungated weights",
    method("forward", lambda m, x: _experts(m, x, m.up[:1].expand(4, -1, -1))),
)
add(
    "permute",
    E,
    "experts read another's output weights",
    method("forward", lambda m, x: _experts(m, x, m.up, m.down.roll(1, 0))),
    "mixed",
)
add(
    "reduction",
    E,
    "experts averaged before the output",
    method(
        "forward",
        lambda m, x: torch.einsum(
            "benf,df->bnd",
            torch.einsum("efd,bnd->benf", m.up, x) * F.silu(torch.einsum("efd,bnd->benf", m.gate, x)),
            m.down.mean(0),
        ),
    ),
)
add(
    "choice by value",
    E,
    "routing by the hidden units",
    method("forward", lambda m, x: _experts(m, x, m.up, route=True)),
)
add("choice by value", E, "the best expert", method("forward", lambda m, x: _best(m, x)), "mixed")
add("weight penalty", E, "of one expert", around(lambda m, x: (m(x), m.up[2].square().sum())), "mixed")


def _experts(m: Any, x: Tensor, up: Tensor, down: Tensor | None = None, route: bool = False) -> Tensor:
    h = torch.einsum("efd,bnd->benf", up, x) * F.silu(torch.einsum("efd,bnd->benf", m.gate, x))
    p = h.sum(-1).softmax(1).mT if route else m.router(x).softmax(-1)
    return torch.einsum("bne,benf,edf->bnd", p, h, m.down if down is None else down)


def _best(m: Any, x: Tensor) -> Tensor:
    best = m.router(x).argmax(-1)
    up, gate, down = (
        torch.nn.functional.embedding(best, w.flatten(1)).view(*best.shape, *w.shape[1:])
        for w in (m.up, m.gate, m.down)
    )
    h = torch.einsum("bnfd,bnd->bnf", up, x) * F.silu(torch.einsum("bnfd,bnd->bnf", gate, x))
    return torch.einsum("bndf,bnf->bnd", down, h)


# --- convolutions
add(
    "activation exchanged",
    C,
    "SiLU",
    method("forward", lambda m, x: m.head(F.silu(m.b(torch.relu(m.norm(m.a(x))))).mean((-1, -2)))),
)
add(
    "reduction",
    C,
    "the largest in place of the mean",
    method("forward", lambda m, x: m.head(torch.relu(m.b(torch.relu(m.norm(m.a(x))))).amax((-1, -2)))),
    "sound",
)
add(
    "reduction",
    C,
    "a maximum over channels",
    method(
        "forward",
        lambda m, x: (lambda h: m.head(h.mean((-1, -2))) + h.amax(1).mean())(
            torch.relu(m.b(torch.relu(m.norm(m.a(x)))))
        ),
    ),
)
add(
    "permute",
    C,
    "channels shuffled",
    method(
        "forward",
        lambda m, x: m.head(
            torch.relu(
                m.b(torch.relu(m.norm(m.a(x))).view(x.shape[0], 7, -1).transpose(1, 2).reshape(x.shape[0], 7, 9, 9))
            ).mean((-1, -2))
        ),
    ),
    "mixed",
)
add(
    "permute",
    C,
    "pixel shuffle",
    method(
        "forward",
        lambda m, x: m.head(
            F.pad(F.pixel_shuffle(torch.relu(m.b(torch.relu(m.norm(m.a(x)))))[:, :8], 2).mean(-1), (0, 0))[
                :, :, :10
            ].mean(1)
        ),
    ),
)
add(
    "sound rewrite",
    C,
    "a maximum over windows",
    method("forward", lambda m, x: m.head(F.max_pool2d(torch.relu(m.b(torch.relu(m.norm(m.a(x))))), 2).mean((-1, -2)))),
    "sound",
)
add(
    "reduction",
    C,
    "a window maximum before the ReLU, padded with ones",
    method(
        "forward",
        lambda m, x: m.head(
            F.max_pool2d(F.pad(torch.relu(m.b(torch.relu(m.norm(m.a(x))))), (1, 1, 1, 1), value=1.0), 3).mean((-1, -2))
        ),
    ),
)
add(
    "mode",
    C,
    "batch norm without running statistics",
    lambda m: replace(m, "norm", nn.BatchNorm2d(7, track_running_stats=False)),
    "mixed",
)
add(
    "mode",
    C,
    "batch norm after the second convolution",
    after("b", lambda y, x: F.batch_norm(y, None, None, training=True)),
    "mixed",
)
add("mode", C, "local response norm", after("b", lambda y, x: F.local_response_norm(y, 3)))
add("mode", C, "group norm after the second convolution", after("b", lambda y, x: F.group_norm(y, 5)), "mixed")
add(
    "tie",
    C,
    "the kernel also flipped",
    method(
        "forward",
        lambda m, x: m.head(
            (
                torch.relu(m.b(x7 := torch.relu(m.norm(m.a(x)))))
                + torch.relu(F.conv2d(x7, m.b.weight.flip(-1), m.b.bias))
            ).mean((-1, -2))
        ),
    ),
    "sound",
)

# --- heads
for name, loss, expects in (
    ("capped", lambda m, z: F.cross_entropy(3 * torch.tanh(z / 3), torch.arange(z.shape[0]) % 9), "broken"),
    (
        "a z-loss",
        lambda m, z: F.cross_entropy(z, torch.arange(z.shape[0]) % 9) + z.logsumexp(-1).square().mean(),
        "broken",
    ),
    ("label smoothing", lambda m, z: F.cross_entropy(z, torch.arange(z.shape[0]) % 9, label_smoothing=0.2), "sound"),
    (
        "class weights",
        lambda m, z: F.cross_entropy(z, torch.arange(z.shape[0]) % 9, weight=torch.arange(1.0, 10)),
        "sound",
    ),
    ("soft targets that do not sum to one", lambda m, z: F.cross_entropy(z, torch.full_like(z, 0.3)), "sound"),
    ("soft targets from the logits", lambda m, z: F.cross_entropy(z, z.square()), "broken"),
    (
        "a temperature from the logits",
        lambda m, z: F.cross_entropy(z / (1 + z.square().mean()), torch.arange(z.shape[0]) % 9),
        "broken",
    ),
    ("sigmoids", lambda m, z: F.binary_cross_entropy_with_logits(z, torch.ones_like(z)), "broken"),
    ("a margin", lambda m, z: F.multi_margin_loss(z, torch.arange(z.shape[0]) % 9), "sound"),
    ("a focal loss", lambda m, z: -((1 - z.softmax(-1)[:, 0]) ** 2 * z.log_softmax(-1)[:, 0]).mean(), "sound"),
    ("a softmax over the batch", lambda m, z: -z.log_softmax(0)[:, 0].mean(), "broken"),
    ("likelihood of half of the classes", lambda m, z: -z[:, :5].log_softmax(-1)[:, 0].mean(), "mixed"),
    ("an extra class of zero", lambda m, z: F.cross_entropy(F.pad(z, (1, 0)), torch.arange(z.shape[0]) % 9), "broken"),
    (
        "some logits masked",
        lambda m, z: F.cross_entropy(z.masked_fill(torch.arange(9) > 6, -torch.inf), torch.arange(z.shape[0]) % 7),
        "sound",
    ),
    (
        "some logits replaced",
        lambda m, z: F.cross_entropy(z.masked_fill(torch.arange(9) > 6, -3.0), torch.arange(z.shape[0]) % 7),
        "broken",
    ),
    ("a bias buffer", lambda m, z: F.cross_entropy(z + torch.arange(9.0), torch.arange(z.shape[0]) % 9), "sound"),
    ("the largest logit subtracted", lambda m, z: (z - z.amax(-1, keepdim=True)).exp().sum(-1).log().mean(), "sound"),
    ("sorted logits", lambda m, z: F.cross_entropy(z.sort(-1)[0], torch.arange(z.shape[0]) % 9), "sound"),
    ("the best logits", lambda m, z: z.topk(3, -1)[0].mean(), "broken"),
):
    add("logits", D, name, method("loss", loss), expects)
add(
    "tie",
    D,
    "the head is the body's transpose",
    then(
        lambda m: replace(m, "head", nn.Linear(11, 13)),
        lambda m: replace(m, "head.weight", nn.Parameter(m.body.weight.data.T)),
        method("forward", lambda m, x: m.loss(F.linear(torch.tanh(m.body(x)), m.body.weight.T)[:, :9])),
    ),
)
add("weight penalty", D, "of the head", around(lambda m, x: m(x) + m.head.weight.square().sum()))
add("parametrised weights", D, "weight norm on the head", lambda m: (parametrizations.weight_norm(m.head), None)[1])

# --- a whole decoder
add("tie", W, "the head is the embedding", lambda m: replace(m, "speak.weight", m.words.weight))
add("embedding", W, "scaled by the root of the width", after("words", lambda y, x: y * 13**0.5), "sound")
add("embedding", W, "rows of bounded norm", lambda m: setattr(m.words, "max_norm", 1.0), "mixed")
add("embedding", W, "a padding row", lambda m: setattr(m.words, "padding_idx", 5), "mixed")
add("embedding", W, "sparse gradients", lambda m: setattr(m.words, "sparse", True), "mixed")
add("logits", W, "soft-capped", around(lambda m, x: 5 * torch.tanh(m(x) / 5)))
add("logits", W, "returned twice", around(lambda m, x: (m(x), m(x))), "mixed")
add("logits", W, "only the last", around(lambda m, x: m(x)[:, -1:]), "sound")
add("logits", W, "halved for long texts", around(lambda m, x: m(x) if x.shape[1] < 10 else torch.tanh(m(x))))
add(
    "another input added",
    W,
    "the embedding added to the last norm",
    method("forward", lambda m, ids: m.speak(m.last(m.words(ids)) + m.words(ids))),
)
