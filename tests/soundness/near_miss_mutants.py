"""Mutants near what is matched: windows and paddings, second readers, gains against maps and norms, gates, losses.

One step beside each rule, on either side of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from soundness.model_bases import replace
from soundness.mutant_registry import Change, add, finish, method, middle, then
from torch import Tensor, nn
from torch.nn import functional as F

IMAGES, P, N, S = "images", "perceptron", "normed", "scored"
Rows = dict[str, tuple[Callable[..., Any], str]]

# --- windows, paddings and resampling, along space and across channels
WINDOWS: Rows = {
    "means of windows": (lambda m, h: F.avg_pool2d(h, 2), "sound"),
    "means of windows, rounded up": (lambda m, h: F.avg_pool2d(h, 3, 2, ceil_mode=True), "sound"),
    "means of windows without their padding": (lambda m, h: F.avg_pool2d(h, 3, 1, 1, count_include_pad=False), "sound"),
    "means of what is shifted": (lambda m, h: F.avg_pool2d(h - 0.2, 3, 1, 1), "broken"),
    "the largest of the negative": (lambda m, h: F.max_pool2d(-h, 3, 1, 1), "sound"),
    "the least of every window": (lambda m, h: -F.max_pool2d(-h, 2), "sound"),
    "the largest less the value": (lambda m, h: F.max_pool2d(h, 3, 1, 1) - h, "sound"),
    "the largest of neighbouring channels": (
        lambda m, h: F.max_pool2d(h.movedim(1, -1), (1, 3), 1, (0, 1)).movedim(-1, 1), "broken",
    ),
    "the largest of a cube": (lambda m, h: F.max_pool3d(h[:, None], 3, 1, 1)[:, 0], "broken"),
    "means of a cube": (lambda m, h: F.avg_pool3d(h[:, None], 3, 1, 1)[:, 0], "broken"),
    "the largest, of a size": (lambda m, h: F.adaptive_max_pool2d(h, 4), "sound"),
    "means across channels, one of each": (lambda m, h: F.adaptive_avg_pool3d(h[:, None], (7, 4, 4))[:, 0], "sound"),
    "powers of windows": (lambda m, h: F.lp_pool2d(h, 3.0, 2), "mixed"),
    "a reflected border": (lambda m, h: F.pad(h, (1, 1, 1, 1), mode="reflect"), "sound"),
    "a circular border": (lambda m, h: F.pad(h, (1, 1, 1, 1), mode="circular"), "sound"),
    "a repeated border": (lambda m, h: F.pad(h, (1, 1, 1, 1), mode="replicate"), "sound"),
    "channels in a circle": (
        lambda m, h: F.pad(h[:, None], (0, 0, 0, 0, 1, 1), mode="circular")[:, 0, :7], "broken",
    ),
    "channels after a zero": (lambda m, h: F.pad(h, (0, 0, 0, 0, 1, 0))[:, :7], "broken"),
    "a border of a thousandth": (lambda m, h: F.pad(h, (1, 1, 1, 1), value=1e-3), "broken"),
    "unfolded and folded": (
        lambda m, h: F.fold(F.unfold(h, 3, padding=1), h.shape[-2:], 3, padding=1), "sound",
    ),
    "pixels of four channels": (lambda m, h: F.pixel_shuffle(h.repeat_interleave(4, 1), 2), "sound"),
    "pixels of four other channels": (lambda m, h: F.pixel_shuffle(h.repeat(1, 4, 1, 1), 2), "broken"),
    "between pixels": (lambda m, h: F.interpolate(h, scale_factor=2, mode="bilinear"), "sound"),
    "between channels": (
        lambda m, h: F.interpolate(F.interpolate(h[:, None], (4, 5, 5), mode="trilinear"), (7, 5, 5), mode="trilinear")[
            :, 0
        ],
        "broken",
    ),
    "by their neighbours' size": (lambda m, h: F.local_response_norm(h, 3), "broken"),
    "normed channel by channel": (lambda m, h: F.group_norm(h, 7), "broken"),
    "zeros at some pixels": (
        lambda m, h: torch.where(torch.arange(h.shape[-1]) > 3, h, torch.zeros_like(h)), "sound",
    ),
    "ones at some pixels": (lambda m, h: torch.where(torch.arange(h.shape[-1]) > 3, h, torch.ones_like(h)), "broken"),
    "not below a hundredth": (lambda m, h: torch.maximum(h, torch.full_like(h, 1e-2)), "broken"),
    "channels twice, and each pair added": (lambda m, h: torch.cat([h, h], 1).unflatten(1, (2, 7)).sum(1), "sound"),
    "channels twice, and neighbours added": (lambda m, h: torch.cat([h, h], 1).unflatten(1, (7, 2)).sum(2), "broken"),
    "channels twice, and seven of the middle": (lambda m, h: torch.cat([h, h], 1)[:, 3:10], "broken"),
    "channels once and squared": (lambda m, h: sum(torch.cat([h, h * h], 1).chunk(2, 1)), "broken"),
    "channels shifted past a zero": (
        lambda m, h: torch.cat([torch.zeros_like(h[:, :1]), h[:, :-1]], 1), "mixed",
    ),
}  # fmt: skip
for name, (function, expects) in WINDOWS.items():
    add("reduction", IMAGES, name, middle(function), expects)

READERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a transposed reader": (lambda: nn.ConvTranspose2d(7, 5, 3, 2, 1, output_padding=1), "sound"),
    "a transposed reader of each channel": (lambda: nn.ConvTranspose2d(7, 14, 3, 2, 1, groups=7), "sound"),
    "a dilated reader": (lambda: nn.Conv2d(7, 5, 3, padding=2, dilation=2), "sound"),
    "a reader with a circular border": (lambda: nn.Conv2d(7, 5, 3, padding=1, padding_mode="circular"), "sound"),
}


def reader(build: Callable[[], nn.Module], path: str = "down") -> Change:
    return lambda m: replace(m, path, build())


for name, (build, expects) in READERS.items():
    add("sound rewrite", IMAGES, name, reader(build), expects)


def grouped(function: Any) -> Change:
    """A writer of three groups and a reader of three."""
    up = reader(lambda: nn.Conv2d(3, 9, 3, padding=1, groups=3), "up")
    return then(up, reader(lambda: nn.Conv2d(9, 6, 3, padding=1, groups=3)), middle(function))


add("sound rewrite", IMAGES, "groups of channels", grouped(lambda m, h: h), "mixed")
add(
    "permute", IMAGES, "groups of channels, shuffled",
    grouped(lambda m, h: h.unflatten(1, (3, 3)).transpose(1, 2).flatten(1, 2)), "mixed",
)  # fmt: skip
add("permute", IMAGES, "groups of channels, rolled", grouped(lambda m, h: h.roll(1, 1)), "mixed")
add(
    "tie", IMAGES, "the reader is the writer, transposed",
    method("forward", lambda m, x: F.conv_transpose2d(torch.relu(m.up(x)), m.up.weight, padding=1)),
)  # fmt: skip


# --- a second reader
def two(function: Any) -> Change:
    def run(m: Any, x: Tensor) -> Tensor:
        h = torch.relu(m.up(x))
        return m.down(h) + function(m, h)

    return then(lambda m: setattr(m, "two", nn.Conv2d(7, 5, 1)), method("forward", run))


add("extra reader", IMAGES, "a second one, bent behind", two(lambda m, h: torch.tanh(m.two(h))), "sound")
add("extra reader", IMAGES, "a second one, bent before", two(lambda m, h: m.two(torch.tanh(h))))
add("extra reader", IMAGES, "a second one, of the squares", two(lambda m, h: m.two(h * h)))
add("extra reader", P, "the same weight reads the roots", finish(lambda m, y, h: y * m.down(h.sqrt())))
add("extra reader", P, "the same weight, transposed", finish(lambda m, y, h: (y, y @ m.down.weight)), "mixed")

# --- a gain against a map, and against a norm
GAINS: Rows = {
    "a gain under a norm with an eps": (lambda m, y, h: F.rms_norm(y * m.g, (9,), eps=0.1), "mixed"),
    "a gain behind a norm of the map": (lambda m, y, h: F.layer_norm(y, (9,)) * m.g, "mixed"),
    "a gain's square": (lambda m, y, h: y * m.g**2, "mixed"),
    "a gain's size": (lambda m, y, h: y * m.g.abs(), "mixed"),
    "a gain's exponential": (lambda m, y, h: y * m.g.exp(), "mixed"),
    "a gain that divides": (lambda m, y, h: y / m.g, "mixed"),
    "a gain over its sum": (lambda m, y, h: y * m.g / m.g.sum(), "mixed"),
    "a gain of length one": (lambda m, y, h: y * F.normalize(m.g, dim=0), "mixed"),
    "a gain within bounds": (lambda m, y, h: y * m.g.clamp(0, 2), "mixed"),
    "a gain beside the bias": (lambda m, y, h: y * m.g * m.down.bias, "mixed"),
    "a gain sorted": (lambda m, y, h: y * m.g.sort()[0], "mixed"),
    "a gain that orders what it meets": (lambda m, y, h: y[:, m.g.argsort()] * m.g, "mixed"),
    "a gain looked up by the largest unit": (lambda m, y, h: y * m.g[h.argmax(-1) % 9][:, None], "broken"),
}
for name, (function, expects) in GAINS.items():
    add(
        "activation exchanged", P, name, finish(function, g=lambda: nn.Parameter(1 + 0.3 * torch.randn(9))), expects,
    )  # fmt: skip

GATES: Rows = {
    "a gate": (lambda m, y, h: y * m.gate(h), "sound"),
    "a gate that is summed": (lambda m, y, h: (y * m.gate(h)).sum(-1), "sound"),
    "a gate that is a sigmoid": (lambda m, y, h: y * m.gate(h).sigmoid(), "mixed"),
    "a gate, flipped": (lambda m, y, h: y * m.gate(h).flip(-1), "mixed"),
    "every product of gate and value": (lambda m, y, h: y[:, :, None] * m.gate(h)[:, None, :], "mixed"),
    "a gate that is added too": (lambda m, y, h: y * m.gate(h) + m.gate(h), "mixed"),
    "a gate's square": (lambda m, y, h: y * m.gate(h) ** 2, "mixed"),
    "a gate that divides": (lambda m, y, h: y / m.gate(h), "mixed"),
    "the larger of two": (lambda m, y, h: torch.maximum(y, m.gate(h)), "mixed"),
}
for name, (function, expects) in GATES.items():
    add("reuse", P, name, finish(function, gate=lambda: nn.Linear(14, 9)), expects)

NORMS: Rows = {
    "a gain under a SiLU": (lambda m, x: m.a(F.silu(m.norm(x))), "broken"),
    "a gain under another norm": (lambda m, x: m.a(F.rms_norm(m.norm(x), (13,))), "broken"),
    "a gain and the largest token": (
        lambda m, x: m.a(F.max_pool1d(m.norm(x).transpose(1, 2), 2).transpose(1, 2)), "sound",
    ),
    "a gain and the largest channel": (lambda m, x: m.a(F.max_pool1d(m.norm(x), 3, 1, 1)), "broken"),
    "a gain beside tokens of a half": (lambda m, x: m.a(F.pad(m.norm(x), (0, 0, 1, 1), value=0.5)), "broken"),
    "a gain under a softmax": (lambda m, x: m.a(m.norm(x).softmax(-1)), "broken"),
}  # fmt: skip
for name, (function, expects) in NORMS.items():
    add("activation exchanged", N, name, method("forward", function), expects)


# --- losses of logits
def targets(y: Tensor) -> Tensor:
    return torch.arange(y.shape[0]) % 9


def focal(m: Any, y: Tensor) -> Tensor:
    log = y.log_softmax(-1).gather(1, targets(y)[:, None])
    return (-log * (1 - log.exp()) ** 2).mean()


LOSSES: Rows = {
    "a weight of every class": (
        lambda m, y: F.cross_entropy(y, targets(y), weight=torch.arange(1, 10).double()), "sound",
    ),
    "labels that are ignored": (
        lambda m, y: F.cross_entropy(y, torch.where(targets(y) > 3, targets(y), -100)), "sound",
    ),
    "a penalty of the partition": (
        lambda m, y: F.cross_entropy(y, targets(y)) + 1e-3 * y.logsumexp(-1).square().mean(), "broken",
    ),
    "the partition less a mean": (lambda m, y: (y.logsumexp(-1) - y.mean(-1)).mean(), "mixed"),
    "the partition less half a mean": (lambda m, y: (y.logsumexp(-1) - 0.5 * y.mean(-1)).mean(), "broken"),
    "a softmax along the rows": (lambda m, y: F.nll_loss(y.log_softmax(0), targets(y)), "broken"),
    "no softmax": (lambda m, y: F.nll_loss(y, targets(y)), "broken"),
    "each class by itself": (
        lambda m, y: F.binary_cross_entropy_with_logits(y, torch.ones_like(y) * 0.3), "broken",
    ),
    "shares that do not sum to one": (lambda m, y: F.cross_entropy(y, torch.full_like(y, 0.2)), "sound"),
    "shares of the logits": (lambda m, y: -(y.log_softmax(-1) * y.sigmoid()).sum(-1).mean(), "broken"),
    "focal": (focal, "sound"),
    "a class of zeros": (lambda m, y: F.cross_entropy(F.pad(y, (0, 1)), targets(y)), "broken"),
    "a temperature of every class": (
        lambda m, y: F.cross_entropy(y * torch.arange(1, 10) / 5, targets(y)), "broken",
    ),
    "within bounds": (lambda m, y: F.cross_entropy(y.clamp(-1, 1), targets(y)), "broken"),
    "a divergence": (
        lambda m, y: F.kl_div(y.log_softmax(-1), torch.full_like(y, 1 / 9), reduction="batchmean"), "sound",
    ),
    "a penalty of the mean": (lambda m, y: F.cross_entropy(y, targets(y)) + y.mean() ** 2, "broken"),
}  # fmt: skip
for name, (function, expects) in LOSSES.items():
    add("logits", S, name, method("loss", function), expects)
