"""The registry of mutants, and how small models are changed.

A mutant is a base model and a change.  Many break the gauges of their base, some only look as if they did; `expects`
says what was in mind, for the reader: the judge alone decides what is true.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from seeds import set_seed
from soundness.model_bases import BASES, Inputs, replace
from torch import Tensor, nn

KINDS = (
    "tie", "reuse", "extra reader", "returned hidden state", "activation exchanged", "additive constant",
    "another input added", "norm bias", "flip", "roll", "permute", "re-view across batch", "strided slice",
    "missing transpose at equal sizes", "dropout on the axis", "cast on the axis", "detach on the axis",
    "weight penalty", "parametrised weights", "aliasing buffer", "in-place write", "requires_grad=False",
    "branch on the length", "h @ h.T",
)  # fmt: skip
MORE_KINDS = (
    "choice by value", "hook", "custom backward", "hidden output", "memory", "logits", "embedding", "softmax axis",
    "shared input", "reduction", "container", "precision", "control flow", "random numbers", "mode", "sound rewrite",
)  # fmt: skip
UNSEEN_KINDS = (
    "settings", "modes", "sizes", "state", "aliases", "gradients", "no numbers", "dice", "odd tensors", "outputs",
)  # fmt: skip
Change = Callable[[Any], "nn.Module | None"]


@dataclass(frozen=True)
class Mutant:
    """name: unique.  expects: "broken", "sound" or "mixed", for the reader.  inputs: in place of the base's, from
    (model, args, kwargs).  also: what a training loop reads besides.

    calls: inputs in place of the base's, the compile example first, then others of settings and sizes that the compile
    did not see.  outputs: what the compile is told of what counts, and counts: that, of what is returned.
    later: what somebody does to the compiled model, each judged when it is done.  device: "meta" where
    the compile sees no numbers, "large" where it takes the model for one that it cannot copy.  within: how it is
    compiled."""

    name: str
    kind: str
    base: str
    change: Change
    expects: str = "broken"
    inputs: Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]] | None = None
    also: Callable[[nn.Module], list[Tensor]] = field(default=lambda model: [])
    calls: Callable[[], list[Inputs]] | None = None
    later: Sequence[Change] = ()
    device: str = ""
    within: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    outputs: Any = None
    counts: Callable[[Any], Any] = lambda made: made

    @property
    def slow(self) -> bool:
        return BASES[self.base].slow

    def make(self) -> nn.Module:
        return BASES[self.base].model(self.change)

    def called(self) -> list[Inputs]:
        """What the judge calls it with, the compile example first."""
        if self.calls is None:
            return BASES[self.base].called()
        set_seed(20)
        return self.calls()


MUTANTS: dict[str, Mutant] = {}


def add(kind: str, base: str, name: str, change: Change, expects: str = "broken", **more: Any) -> None:
    """Registers a mutant."""
    assert kind in (*KINDS, *MORE_KINDS, *UNSEEN_KINDS), kind
    assert base in BASES, base
    full = f"{base}: {kind}: {name}"
    assert full not in MUTANTS, f"two mutants are called {full}"
    MUTANTS[full] = Mutant(full, kind, base, change, expects, **more)


def method(name: str, function: Callable[..., Any], **parts: Any) -> Change:
    """Replaces a method of the whole model; `parts` are made anew and set on it: modules, parameters or buffers."""

    def change(model: nn.Module) -> None:
        for key, build in parts.items():
            part = build()
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                model.register_buffer(key, part)
            else:
                setattr(model, key, part)
        setattr(model, name, types.MethodType(function, model))

    return change


def middle(function: Callable[..., Any], **parts: Any) -> Change:
    return method("middle", function, **parts)


def finish(function: Callable[..., Any], **parts: Any) -> Change:
    return method("finish", function, **parts)


def then(*changes: Change) -> Change:
    def change(model: nn.Module) -> nn.Module:
        for one in changes:
            model = one(model) or model
        return model

    return change


def reads(count: int, function: Callable[..., Any]) -> Change:
    """A middle whose reader has another width."""
    return then(lambda m: replace(m, "down", nn.Linear(count, 9)), middle(function))
