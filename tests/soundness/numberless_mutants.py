"""Mutants that are compiled where nothing can be computed: on the meta device, or too large to be copied.

What a witness or a gradient check would have seen there, it did not: a compile may say so, and may not keep silent.
"""

from __future__ import annotations

import torch
from soundness.gradient_mutants import RULES, Passing, accumulated, checkpointed, hooked, of_weight
from soundness.mutant_registry import Change, add, middle
from soundness.setting_mutants import bent, either, runs
from torch import Tensor
from torch.nn import functional as F

P, A, G = "perceptron", "fused attention", "gated"


def seen(h: Tensor) -> bool:
    """Is there a number in it?"""
    return not h.is_meta and type(h) is Tensor


BROKEN: dict[str, Change] = {
    "a custom backward that signs": middle(lambda m, h: Passing.apply(h, lambda g, x: g.sign())),
    "a custom backward that clips": middle(lambda m, h: Passing.apply(h, lambda g, x: RULES["clamped at 1e-3"](g))),
    "a custom backward of a weight": of_weight(torch.sign),
    "a hook on the units": middle(lambda m, h: (h.requires_grad and h.register_hook(torch.sign), h)[1]),
    "a hook on a weight": runs(lambda m: m.up.weight.register_hook(torch.sign)),
    "a hook before it is accumulated": accumulated(torch.sign),
    "a hook on a module's gradient": hooked(torch.sign),
    "another function under a compiler": middle(lambda m, h: h if torch.compiler.is_compiling() else bent(h)),
    "another function when exporting": middle(lambda m, h: h if torch.compiler.is_exporting() else bent(h)),
    "another function of numbers": middle(lambda m, h: bent(h) if seen(h) else h),
    "another function of a plain tensor": middle(lambda m, h: either(h, type(h) is Tensor)),
    "another function by the type of its parameter": middle(
        lambda m, h: either(h, type(m.up.weight) is torch.nn.Parameter)
    ),
}  # fmt: skip
META: dict[str, Change] = {
    "another function by device": middle(lambda m, h: either(h, h.device.type == "cpu")),
    "another function by the weight's device": middle(lambda m, h: either(h, m.up.weight.device.type == "cpu")),
}
SOUND: dict[str, Change] = {
    "as it is": lambda m: None,
    "a checkpoint": checkpointed(),
    "dropout": middle(lambda m, h: F.dropout(h, 0.2, True)),
    "an identity by hand": middle(lambda m, h: Passing.apply(h, lambda g, x: g)),
}  # fmt: skip
for device in ("meta", "large"):
    for name, change in {**BROKEN, **(META if device == "meta" else {})}.items():
        add("no numbers", P, f"{device}: {name}", change, device=device)
    for name, change in SOUND.items():
        add("no numbers", P, f"{device}: {name}", change, "sound", device=device)
    for base in (A, G):
        add("no numbers", base, f"{device}: as it is", lambda m: None, "sound", device=device)
