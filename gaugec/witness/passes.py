"""One forward and backward of a model at given parameters: what it returns, and its gradient for losses of many sizes.

The gradient of a function is proportional to the size of the loss; sizes are powers of two, so that it is so to the
last digit.  One that is clipped, cut off below or rounded to a grid is not.

What this module does not do: it compares nothing between two models or two points (see `gaugec.witness.gradient`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from gaugec.model.context import as_trained
from gaugec.model.dice import seed
from gaugec.model.memory import plain
from gaugec.model.outputs import Counted
from gaugec.model.preserve import preserved
from gaugec.witness.interpreter import cross_entropy
from gaugec.witness.neutral import Neutral

SIZES = (1.0, 2.0**-30, 2.0**-20, 2.0**20, 2.0**30, 2.0**40)
"""Of the loss: 1, and about 1e-9, 1e-6, 1e6, 1e9 and 1e12: of what is cut off far below 1e-6, little is small there."""
DIGITS = 8  # units in the last place, of the largest entry, by which a gradient may miss being proportional

Values = dict[str, Tensor]


@dataclass(frozen=True)
class Pass:
    """outputs: what is returned and counts, then what is written to buffers, in float64.

    gradients: by the size of the loss; of another size than 1 only where it is not proportional to that.  without: the
    parameters that no gradient reaches.  casts: see `gaugec.witness.neutral.Neutral`.
    """

    outputs: list[Tensor]
    gradients: dict[float, Values]
    without: frozenset[str]
    casts: tuple[tuple[torch.dtype, Tensor], ...] = ()

    def gradient(self, size: float) -> Values:
        """The gradient for a loss of that size, by canonical names, in float64."""
        known = self.gradients.get(size)
        return {name: size * x for name, x in self.gradients[1.0].items()} if known is None else known

    def proportional(self, size: float, eps: float, but_for: Collection[str] = ()) -> bool:
        """Is every gradient for a loss of that size as many times the one for a loss of size 1, up to a few digits?"""
        one, many = self.gradients[1.0], self.gradient(size)
        return all(_proportional(many[name], one[name], size, eps) for name in one if name not in but_for)


def run(
    model: nn.Module,
    values: Mapping[str, Tensor],
    names: Mapping[str, str],
    data: tuple[Any, Any],
    counted: Counted,
    sizes: Sequence[float] = SIZES,
    neutral: Neutral | None = None,
) -> Pass:
    """Runs the model at these values of its parameters, by canonical names; it is afterwards as it was.

    neutral: what makes its casts neutral.  Gradients are of a random combination of all outputs that count, the same
    every time, and zeros where a parameter has none.
    """
    parameters = {names[name]: p for name, p in model.named_parameters() if names[name] in values}
    own = [(p, p.grad) for p in parameters.values()]
    with preserved(model), as_trained(model, moved=neutral is not None):
        with torch.no_grad():
            for name, p in parameters.items():
                p.copy_(values[name])
                p.grad = None
        seed(model, 0)
        try:
            with neutral or contextlib.nullcontext():
                seen = _run(model, parameters, data, counted, sizes)
            return replace(seen, casts=tuple(neutral.casts)) if neutral is not None else seen
        finally:
            for p, gradient in own:
                p.grad = gradient


def _run(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    data: tuple[Any, Any],
    counted: Counted,
    sizes: Sequence[float],
) -> Pass:
    made = model(*data[0], **data[1])
    outputs = [x for x in counted.of(made) if isinstance(x, Tensor) and x.dtype.is_floating_point]
    if counted.loss is not None:
        outputs[0] = cross_entropy(outputs[0])
    odds = torch.Generator().manual_seed(2)
    weighted = [_combined(x, odds) for x in outputs if x.requires_grad]
    gradients: dict[float, Values] = {}
    without = set(parameters)
    eps = max((torch.finfo(p.dtype).eps for p in parameters.values()), default=0.0)
    for size in sizes if weighted else ():
        for p in parameters.values():
            p.grad = None
        total = torch.stack([x.double() for x in weighted]).sum()
        (size * total).backward(retain_graph=size != sizes[-1])
        without -= {name for name, p in parameters.items() if p.grad is not None}
        found = {name: _gradient(p) for name, p in parameters.items() if p.requires_grad}
        one = gradients.get(1.0, found)
        if size == 1.0 or not all(_proportional(x, one[name], size, eps) for name, x in found.items()):
            gradients[size] = found
    # a buffer that the forward writes is an output too: what is written there is read later
    written = [b for b in model.buffers() if b.is_floating_point() and plain(b) and not b.is_meta]
    return Pass([x.detach().cpu().double().clone() for x in (*outputs, *written)], gradients, frozenset(without))


def _combined(x: Tensor, odds: torch.Generator) -> Tensor:
    return (x * torch.randn(x.shape, device="cpu", generator=odds).to(x)).sum()


def _gradient(p: nn.Parameter) -> Tensor:
    return (torch.zeros_like(p) if p.grad is None else p.grad.to_dense()).detach().cpu().double()


def _proportional(found: Tensor, one: Tensor, size: float, eps: float) -> bool:
    away = found / size - one
    # sizes are powers of two: nearly always nothing is left, and what is no number is something
    return not away.any() or bool(away.abs().max() <= DIGITS * eps * one.abs().max())
