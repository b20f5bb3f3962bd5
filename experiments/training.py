"""One training run: a task and an arm, a rate with its schedule, looks at it; and what its step costs.

What this module does not do: it knows no study, and writes no file.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "up a tenth, then down to 0": lambda t: min(t / 0.1, (1 - t) / 0.9),
}
ROUNDS, STEPS = 7, 10


class Task(Protocol):
    """What a run trains: see `tasks`."""

    def loss(self, model: nn.Module, generator: torch.Generator) -> Tensor:
        """The loss on a batch that is drawn."""

    def look(self, model: nn.Module) -> dict[str, float]:
        """What is measured of a model, by column."""


def trained(
    task: Task, model: nn.Module, optimizer: torch.optim.Optimizer, seed: int, settings: Mapping[str, Any]
) -> list[dict[str, float]]:
    """Train a model in place; return its looks: the step, the mean training loss since the last, the task's columns.

    settings: "steps", "look_every", "schedule".  A run whose loss is no number ends there, with what it has.
    """
    steps, every, schedule = settings["steps"], settings["look_every"], SCHEDULES[settings["schedule"]]
    rates = [group["lr"] for group in optimizer.param_groups]
    generator = torch.Generator().manual_seed(seed)
    rows, losses = list[dict[str, float]](), list[float]()
    for step in range(1, steps + 1):
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate * schedule((step - 0.5) / steps)
        optimizer.zero_grad()
        loss = task.loss(model, generator)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % every == 0 or step == steps or not math.isfinite(losses[-1]):
            rows.append({"step": step, "training": statistics.fmean(losses), **task.look(model)})
            losses.clear()
            if not math.isfinite(rows[-1]["training"]):
                break
    return rows


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """The bytes of all tensors of an optimizer's state."""
    leaves = tree_leaves(optimizer.state_dict()["state"])
    return sum(leaf.numel() * leaf.element_size() for leaf in leaves if isinstance(leaf, Tensor))


def costs(task: Task, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """What a step takes over one of torch's fused AdamW, side by side: rounds of ten steps of each, in turn.

    Seconds of this thread's processor; the median of the rounds.  The model is trained on by this, or spoiled.
    """
    beside = copy.deepcopy(model)
    base = torch.optim.AdamW(beside.parameters(), fused=True)
    generator = torch.Generator().manual_seed(0)

    def gradients(one: nn.Module) -> None:
        one.zero_grad()
        task.loss(one, generator).backward()

    gradients(beside)
    base.step()
    alone, whole = list[float](), list[float]()
    for _ in range(ROUNDS):
        passes = _seconds(lambda: gradients(model))
        for mine, theirs in zip(model.parameters(), beside.parameters()):
            theirs.grad = None if mine.grad is None else mine.grad.clone()
        ours = statistics.fmean(_seconds(optimizer.step) for _ in range(STEPS))
        theirs_took = statistics.fmean(_seconds(base.step) for _ in range(STEPS))
        alone.append(ours / theirs_took)
        whole.append((passes + ours) / (passes + theirs_took))
    return {"step over AdamW": statistics.median(alone), "training step over AdamW": statistics.median(whole)}


def _seconds(work: Callable[[], object]) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start
