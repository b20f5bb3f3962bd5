"""Mutants whose forward chooses by value, by size, by mode or by who is looking."""

from __future__ import annotations

from typing import Any

import torch
from soundness.model_bases import after
from soundness.mutant_registry import add, finish, method, middle
from torch.nn import functional as F

P, T, A = "perceptron", "perceptron over tokens", "attention"

# --- choices by value, numbers taken out, reductions
CHOICES: dict[str, Any] = {
    "where large": lambda m, h: torch.where(h > 0.1, h, torch.zeros_like(h)),
    "where the input is": lambda m, h: torch.where(m.up.bias > 0, h, torch.zeros_like(h)),
    "a number of the largest unit": lambda m, h: h * torch.scalar_tensor(h.argmax(), dtype=h.dtype),
    "the position of the largest": lambda m, h: h + 0 * h.argmax(-1, keepdim=True) + (h.argmax(-1, keepdim=True) == 3),
    "item of an argmax": lambda m, h: h * torch.scalar_tensor(h.argmax().item(), dtype=h.dtype),
    "full of an argmax": lambda m, h: h * torch.full((1,), h.argmax().item(), dtype=h.dtype),
    "top three": lambda m, h: h * F.one_hot(h.topk(3, -1)[1], 14).sum(-2),
    "sorted": lambda m, h: h.sort(-1)[0],
    "cumulated": lambda m, h: h.cumsum(-1),
    "bucketised": lambda m, h: h * torch.bucketize(h, torch.tensor([0.1, 0.5, 1.0])),
    "searched": lambda m, h: h * torch.searchsorted(torch.tensor([0.1, 0.5, 1.0]), h.contiguous()),
    "by sign": lambda m, h: h * torch.sign(h - 0.2),
    "floored": lambda m, h: h.floor(),
    "modulo": lambda m, h: h % 1.0,
    "floor-divided": lambda m, h: h // 0.3,
    "truncated": lambda m, h: torch.div(h, 0.3, rounding_mode="trunc"),
    "hypotenuse": lambda m, h: torch.hypot(h, torch.ones_like(h)),
    "lerp to one": lambda m, h: h.lerp(torch.ones_like(h), 0.3),
    "addcmul of ones": lambda m, h: torch.addcmul(torch.ones_like(h), h, h),
    "exponents": lambda m, h: 1.1**h,
    "to its own power": lambda m, h: (1 + h) ** h,
    "any and all": lambda m, h: h * (h > 0.5).any(-1, keepdim=True),
    "the median": lambda m, h: h - h.median(-1, keepdim=True)[0],
    "their spread": lambda m, h: h / (1 + h.std(-1, keepdim=True)),
    "their entropy": lambda m, h: h * torch.special.entr(h),
    "nan_to_num of a quotient": lambda m, h: torch.nan_to_num(h / h, nan=0.5),
    "clipped by norm": lambda m, h: h / h.norm(dim=-1, keepdim=True).clamp(min=1.0),
    "renormed": lambda m, h: torch.renorm(h, 2, 0, 1.0),
    "cosine": lambda m, h: h * F.cosine_similarity(h, torch.ones_like(h), dim=-1)[:, None],
    "scattered": lambda m, h: torch.zeros_like(h).scatter(1, (h > 0.3).long(), h),
    "a trilinear form": lambda m, h: torch.einsum("bi,bi,bi->bi", h, h, h),
    "outer products": lambda m, h: torch.einsum("bi,bj->bij", h, h).sum(-1),
    "an FFT": lambda m, h: torch.fft.fft(h).real,
    "a complex product": lambda m, h: (torch.complex(h, 1 + h) * (1 + 2j)).real,
}
for name, function in CHOICES.items():
    add("choice by value", P, name, middle(function), "mixed")
add("h @ h.T", P, "h @ h.T @ h", middle(lambda m, h: h @ h.T @ h))
add("h @ h.T", P, "as a bilinear output", finish(lambda m, y, h: (y, h @ h.T)))
add("h @ h.T", P, "cdist", finish(lambda m, y, h: (y, torch.cdist(h, h[:2]))))
add(
    "control flow",
    P,
    "torch.cond on the units",
    middle(lambda m, h: torch.cond(h.sum() > 9, lambda z: z + 1, lambda z: z.clone(), (h,))),
)
add(
    "control flow",
    P,
    "torch.cond on the input",
    method(
        "forward",
        lambda m, x: m.down(torch.cond(x.sum() > 0, lambda z: torch.relu(z), lambda z: F.gelu(z), (m.up(x),))),
    ),
)
add(
    "control flow",
    P,
    "another function under export",
    middle(lambda m, h: h if torch.compiler.is_compiling() else h + 0.3),
)
add(
    "control flow",
    P,
    "another function when exporting",
    middle(lambda m, h: h if torch.compiler.is_exporting() else F.gelu(h)),
)
add(
    "control flow",
    P,
    "another function without gradients",
    middle(lambda m, h: h if torch.is_grad_enabled() else h + 0.3),
    "mixed",
)
add(
    "control flow",
    P,
    "another function for doubles",
    middle(lambda m, h: h if h.dtype == torch.float64 else h + 0.3),
    "mixed",
)
add("mode", P, "dropout that is always on", middle(lambda m, h: F.dropout(h, 0.3, True)), "sound")
add("mode", P, "bent in training only", middle(lambda m, h: F.gelu(h) if m.training else h))
for name, function in {
    "over 8 tokens": lambda m, h: h if h.shape[1] < 8 else h + 1,
    "under 5 tokens": lambda m, h: h if h.shape[1] >= 5 else h + 1,
    "over 100 tokens": lambda m, h: h if h.shape[1] < 100 else h + 1,
    "over 50 tokens, counted": lambda m, h: h if int(h.shape[1]) < 50 else h + 1,
    "over 1000 tokens, by len": lambda m, h: h if len(h[0]) < 1000 else h + 1,
    "a range of tokens": lambda m, h: h + sum(0.1 for _ in range(h.shape[1]) if h.shape[1] > 20),
    "an odd number of tokens": lambda m, h: h if h.shape[1] % 2 else h.tanh(),
    "a large batch": lambda m, h: h if h.shape[0] < 4 else h.tanh(),
    "a constant": lambda m, h: h + (h.shape[1] - 7),
    "a roll": lambda m, h: h.roll(h.shape[1] - 7, -1),
    "an exponent": lambda m, h: h ** (h.shape[1] - 6),
    "sizes of the batch and tokens": lambda m, h: h if h.numel() < 14 * 40 else F.gelu(h),
}.items():
    add("branch on the length", T, name, middle(function))
add(
    "branch on the length",
    A,
    "another mask for short texts",
    after("says", lambda y, x: y if x.shape[1] > 5 else y.tanh()),
)
