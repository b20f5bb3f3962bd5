"""Mutants of scales: through windows and zeros, under a norm's gain and bias, and of two factors that meet."""

from __future__ import annotations

from typing import Any

import torch
from soundness.model_bases import replace
from soundness.mutant_registry import Change, add, finish, method, middle, then
from torch import Tensor, nn
from torch.nn import functional as F

IMAGES, P, C = "images", "perceptron", "convolutions"


def gain() -> nn.Parameter:
    return nn.Parameter(1 + 0.3 * torch.randn(9))


def depthwise(function: Any = lambda m, h: h) -> Change:
    return then(lambda m: replace(m, "down", nn.Conv2d(7, 7, 3, padding=1, groups=7)), middle(function))


def written(value: float, m: Any, h: Tensor) -> Tensor:
    z = torch.full_like(h, value)
    z[:, :, 1:] = h[:, :, :-1]
    return z


def largest(m: Any, h: Tensor) -> Tensor:
    values, places = F.max_pool2d(h, 3, 1, 1, return_indices=True)
    return values + places / 10


# --- windows, paddings, zeros
add("sound rewrite", IMAGES, "the largest of every window", middle(lambda m, h: F.max_pool2d(h, 3, 2, 1)), "sound")
add("sound rewrite", IMAGES, "padded with zeros", middle(lambda m, h: F.pad(h, (1, 0, 2, 1))), "sound")
add("sound rewrite", IMAGES, "twice as large", middle(lambda m, h: F.interpolate(h, scale_factor=2)), "sound")
add("sound rewrite", IMAGES, "joined with zeros", middle(lambda m, h: torch.cat([h, h[:, :, :1] * 0], 2)), "mixed")
add("sound rewrite", IMAGES, "a depthwise reader", depthwise(), "sound")
add("sound rewrite", IMAGES, "written into zeros", middle(lambda m, h: written(0.0, m, h)), "sound")
add("reduction", IMAGES, "the largest channel", middle(lambda m, h: h + h.max(1, keepdim=True)[0]))
add("reduction", IMAGES, "the places of the largest", middle(largest))
add("additive constant", IMAGES, "padded with ones", middle(lambda m, h: F.pad(h, (1, 1, 1, 1), value=1.0)))
add("additive constant", IMAGES, "joined with ones", middle(lambda m, h: torch.cat([h, h[:, :, :1] * 0 + 1], 2)))
add("additive constant", IMAGES, "written into ones", middle(lambda m, h: written(1.0, m, h)))
add("choice by value", IMAGES, "zeros where it is over a half", middle(lambda m, h: h.masked_fill(h > 0.5, 0.0)))
add(
    "choice by value",
    IMAGES,
    "zeros where it is the largest",
    middle(lambda m, h: h * (h < F.max_pool2d(h, 3, 1, 1))),
    "mixed",
)
add("roll", IMAGES, "a depthwise reader of rolled channels", depthwise(lambda m, h: h.roll(1, 1)), "mixed")
add(
    "extra reader",
    IMAGES,
    "squeezed and excited",
    middle(
        lambda m, h: h * torch.sigmoid(m.s(h.mean((2, 3))))[:, :, None, None], s=lambda: nn.Linear(7, 7)
    ),
)  # fmt: skip

# --- a norm's gain and bias under a ReLU


def normed(function: Any) -> Change:
    """What stands between the norm and the second convolution."""
    return method(
        "forward", lambda m, x: m.head(torch.relu(m.b(function(m, m.norm(m.a(x))))).mean((-1, -2)))
    )


add("sound rewrite", C, "a gain and a bias under a leaky ReLU", normed(lambda m, h: F.leaky_relu(h)), "mixed")
add("activation exchanged", C, "a gain and a bias under a GELU", normed(lambda m, h: F.gelu(h)))
add("activation exchanged", C, "a gain and a bias under a ReLU of six", normed(lambda m, h: F.relu6(h)))
add("additive constant", C, "added between the bias and the ReLU", normed(lambda m, h: torch.relu(h + 0.1)))
add("extra reader", C, "the norm past its ReLU", normed(lambda m, h: torch.relu(h) + h), "mixed")
add("extra reader", C, "the norm's gain elsewhere", normed(lambda m, h: torch.relu(h) + m.norm.weight.sum()))

# --- two factors that meet
add("sound rewrite", P, "a gain behind it", finish(lambda m, y, h: y * m.g, g=gain), "sound")
add("sound rewrite", P, "a gain behind it, from one", finish(lambda m, y, h: y * (1 + m.g), g=gain), "sound")
add("reuse", P, "a gain used twice", finish(lambda m, y, h: y * m.g * m.g, g=gain), "mixed")
add("reuse", P, "a gain that is a bias too", finish(lambda m, y, h: y * m.g + m.g, g=gain))
add("additive constant", P, "between the map and its gain", finish(lambda m, y, h: (y + 0.5) * m.g, g=gain))
add("activation exchanged", P, "a gain that saturates", finish(lambda m, y, h: y * torch.sigmoid(m.g), g=gain))
add("roll", P, "a gain rolled", finish(lambda m, y, h: y * m.g.roll(1), g=gain), "mixed")
add("flip", P, "its gain flipped", finish(lambda m, y, h: y.flip(-1) * m.g, g=gain), "mixed")
add("reuse", P, "multiplied by itself", finish(lambda m, y, h: y * y))
add("reuse", P, "multiplied by its neighbour", finish(lambda m, y, h: y * y.roll(1, -1)))
add(
    "extra reader",
    P,
    "a gate that is returned",
    finish(lambda m, y, h: (y * m.gate(h), m.gate(h)), gate=lambda: nn.Linear(14, 9)),
    "mixed",
)
add("detach on the axis", P, "a gate without gradient", finish(lambda m, y, h: y * m.g.detach(), g=gain))
