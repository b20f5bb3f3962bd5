"""What the models here share: their sizes, example inputs, and one weight after another drawn at random.

Sizes are kept apart, so that equal sizes suggest nothing.  What this module does not do: it builds no model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import gaugec

LAYERS, HEADS, KV, HEAD = 2, 6, 2, 10  # three query heads to a key/value head: the two orders of heads differ
WIDTH = 48  # of models whose heads have a width of their own: a multiple of HEADS, but not HEADS * HEAD
SQUARE = 42  # of those whose heads share the width out: heads of 7
EVEN = 96  # of those that must also halve a head, or turn only a part of it: heads of 16
UNITS, VOCABULARY, CLASSES = 58, 71, 5
BATCH, LENGTH = 3, 7
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


@dataclass(frozen=True)
class Case:
    """A model with inputs on which it runs: `model(*args, **kwargs)`; loss, fixed: as `gaugec.compile` takes them."""

    model: nn.Module
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    loss: str | None = None
    fixed: tuple[str, ...] = ()

    def compiled(self, spec: Any) -> Any:
        """The model, compiled."""
        return gaugec.compile(spec, self.model, self.args, self.kwargs, loss=self.loss, fixed=self.fixed)


class Chosen(nn.Module):
    """A model of transformers of whose outputs one counts: what a training loop takes of it."""

    def __init__(self, model: nn.Module, output: str) -> None:
        super().__init__()
        self.model, self.output = model, output

    def forward(self, **inputs: Any) -> Tensor:
        chosen: Tensor = self.model(**inputs)[self.output]
        return chosen


def tokens(length: int = LENGTH) -> Tensor:
    """Rows of tokens that all differ, none of them special: [BATCH, length]."""
    return torch.stack([3 + torch.randperm(VOCABULARY - 3)[:length] for _ in range(BATCH)])


def transformers_model(model: str, config: str, **settings: Any) -> nn.Module:
    """A model of transformers by the names of its class and its config."""
    import transformers

    made: nn.Module = getattr(transformers, model)(getattr(transformers, config)(**settings))
    return made


def causal(
    family: str, model: str = "ForCausalLM", config: str = "Config", fixed: tuple[str, ...] = (), **settings: Any
) -> Callable[[], Case]:
    """A language model of transformers whose logits reach a cross-entropy; model, config: how its classes end."""

    def build() -> Case:
        made = transformers_model(family + model, family + config, **{**SPECIAL, **settings})
        return Case(made, (), {"input_ids": tokens(), "use_cache": False}, "cross_entropy", fixed)

    return build


def seen(family: str, side: int, fixed: tuple[str, ...] = (), **settings: Any) -> Callable[[], Case]:
    """A classifier of images of transformers, on square images with `side` pixels a side."""

    def build() -> Case:
        model = transformers_model(f"{family}ForImageClassification", f"{family}Config", num_labels=CLASSES, **settings)
        return Case(model, (), {"pixel_values": torch.randn(2, 3, side, side)}, "cross_entropy", fixed)

    return build


def randomised(model: nn.Module) -> nn.Module:
    """The model in train mode, with gains away from 1 and biases away from 0, in place.

    At 1 and 0 half of what a gauge does would not be seen.  What is zero as a whole (the last maps of an adapter or of
    a gated block) is drawn anew.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter.add_(0.3 * torch.randn_like(parameter))
            elif not parameter.any():
                parameter.normal_(std=0.2)
    return model.train()
