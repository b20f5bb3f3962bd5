"""The demo's task: its text, its model, its batches and its training loop."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

BATCH, LENGTH = 16, 64


SYMBOLS = 128  # ASCII; anything else reads as "?"


WARMUP = 50  # steps


Params = dict[str, Tensor]


def corpus(size: int = 1_000_000, each: int = 20_000) -> Tensor:
    """Return text of the standard library as int64 [size]: the first `each` bytes of its modules in order of name.

    Raises RuntimeError where Python was installed without its sources.
    """
    pieces: list[bytes] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"), key=lambda path: path.name):
        pieces.append(path.read_bytes()[:each])
    text = b"".join(pieces)[:size]
    if len(text) < 100 * LENGTH:
        raise RuntimeError("the demo reads the source of Python's standard library, and this Python has none")
    codes = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    return torch.where(codes < SYMBOLS, codes, ord("?"))


def llama(seed: int = 0) -> torch.nn.Module:
    """Return a Llama of 0.3M parameters in train mode: grouped queries, untied embeddings, gains away from 1."""
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    config = LlamaConfig(
        vocab_size=SYMBOLS,
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=LENGTH,
        tie_word_embeddings=False,
        use_cache=False,
    )
    torch.manual_seed(seed)
    model: torch.nn.Module = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5)
    return model.train()


def example() -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the args and kwargs that the demo's model is traced with: tokens that differ, or no attention shows."""
    return (), {"input_ids": torch.arange(16).view(2, 8) * 7, "use_cache": False}


def batches(text: Tensor, steps: int, seed: int) -> Iterator[Tensor]:
    """Yield `steps` batches, int64 [BATCH, LENGTH + 1], the same ones for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        starts = torch.randint(0, len(text) - LENGTH, (BATCH, 1), generator=generator)
        yield text[starts + torch.arange(LENGTH + 1)]


def loss_of(model: torch.nn.Module, batch: Tensor) -> Tensor:
    """Return the mean cross-entropy of the next character, float []."""
    logits = model(input_ids=batch[:, :-1], use_cache=False)[0]
    return functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


def train(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    text: Tensor,
    steps: int,
    seed: int,
    watch: Callable[[int, float, Callable[[], None]], None] | None = None,
) -> list[float]:
    """Train for `steps` batches after a linear warm-up; return the losses.

    `watch(step, loss, do_the_step)` may look around each step.
    """
    losses = []
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARMUP))
    for step, batch in enumerate(batches(text, steps, seed)):
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model, batch)
        loss.backward()
        losses.append(loss.item())
        if watch is None:
            optimizer.step()
        else:
            watch(step, losses[-1], optimizer.step)
        schedule.step()
    return losses


def parameters(model: torch.nn.Module) -> Params:
    """Return copies of the parameters by name."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def restore(model: torch.nn.Module, params: Params) -> None:
    """Write `params` into the model, in place."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(params[name])
