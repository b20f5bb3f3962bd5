"""The next character of a text: small decoders of transformers, on what `help()` of the running Python says of itself.

The text is `pydoc_data.topics` of Python's standard library, so that nothing is downloaded. It differs between releases
of Python: its hash is a setting of every run, and runs on different texts are never put into one table.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

HELD_BACK = 60_000  # characters at the end, that are not trained on
WINDOWS = 192  # of the held-back text, that the loss is taken of
VOCABULARY = 96  # printable ASCII, and one for everything else


class Characters:
    """A model of this kind ("llama" or "gpt2") and sizes, with windows of a text.

    settings: "kind", "sizes" (of its config), "length", "batch".
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.length: int = settings["length"]
        self.training, self.validation = codes()[:-HELD_BACK], codes()[-HELD_BACK:]

    def model(self, seed: int) -> nn.Module:
        """A fresh model."""
        from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

        kinds: dict[str, Any] = {"llama": (LlamaConfig, LlamaForCausalLM), "gpt2": (GPT2Config, GPT2LMHeadModel)}
        config, model = kinds[self.settings["kind"]]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            ends = dict(bos_token_id=None, eos_token_id=None, pad_token_id=None)
            fresh: nn.Module = model(config(vocab_size=VOCABULARY, use_cache=False, **ends, **self.settings["sizes"]))
        return fresh

    def example(self) -> dict[str, Any]:
        """Example inputs, and which of the outputs counts, as keywords of gaugec.compile."""
        ids = self.training[:24].view(2, 12)
        return {"args": {"input_ids": ids, "labels": ids}, "outputs": "loss"}

    def loss(self, model: nn.Module, generator: torch.Generator) -> Tensor:
        """The mean loss of the next character, in windows that are drawn."""
        starts = torch.randint(len(self.training) - self.length, (self.settings["batch"],), generator=generator)
        return self._loss(model, self.training, starts)

    @torch.no_grad()
    def look(self, model: nn.Module) -> dict[str, float]:
        """The same on windows of the held-back text, the same ones at every look."""
        starts = torch.arange(WINDOWS) * (HELD_BACK // WINDOWS - 1)
        parts = starts.split(32)
        return {"validation": sum(self._loss(model, self.validation, part).item() for part in parts) / len(parts)}

    def _loss(self, model: nn.Module, text: Tensor, starts: Tensor) -> Tensor:
        ids = text[starts[:, None] + torch.arange(self.length)]
        loss: Tensor = model(input_ids=ids, labels=ids).loss
        return loss


@functools.cache
def text() -> str:
    """The text."""
    from pydoc_data import topics

    return "\n\n".join(topics.topics[name] for name in sorted(topics.topics))


def text_hash() -> str:
    """What tells one text from another."""
    return hashlib.sha256(text().encode()).hexdigest()[:16]


@functools.cache
def codes() -> Tensor:
    """The text as numbers below VOCABULARY, int64."""
    return torch.tensor([ord(c) - 31 if " " <= c <= "~" else 0 for c in text()])
