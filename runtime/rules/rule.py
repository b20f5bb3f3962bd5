"""What an update rule is, and the arithmetic that rules are written in.

A rule knows tensors and numbers. It knows no gauge, no batch, no optimizer and keeps nothing: what it remembers of a
parameter is handed to it. To add an optimizer, write an `UpdateRule` and a `GaugeOptimizer` with the rule's settings.

A rule is written once and runs in two ways. In an eager step the numbers are floats, and memory to work in is given;
in a step that is fused they are tensors without axes, no memory is given, and a compiler finds the passes. The results
agree to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

Settings = Mapping[str, Any]
State = Mapping[str, Tensor]
Number = float | Tensor
Averaging = Callable[[Tensor], Tensor]


class Update(Protocol):
    """The step in canonical coordinates, which is added to the point; learning rate and decay are in it."""

    def __call__(
        self,
        gradient: Tensor,
        point: Tensor,
        state: State,
        numbers: Sequence[Number],
        pool: Averaging,
        unpool: Averaging,
        out: Tensor | None = None,
        room: Tensor | None = None,
    ) -> Tensor:
        """Return the step and update the state in place.

        gradient, point: [batch, *shape] of one slot, or some of its rows, in canonical coordinates; only read.
        state: by name, shaped like the gradient, or where it is pooled like what `pool` returns.
        numbers: what `UpdateRule.numbers` gave.  pool: averages squares [batch, *shape] over what compact elements mix.
        unpool: spreads what has the shape of pooled squares over [batch, *shape] again; may write over `room`.
        out: memory for the step; room: memory shaped like the gradient for anything.  Both or neither is given.
        """
        ...


class Unpooled(Protocol):
    """The same step by a faster way that only serves where nothing is pooled; False where it does not serve at all."""

    def __call__(self, gradient: Tensor, point: Tensor, state: State, group: Settings, step: int, out: Tensor) -> bool:
        """Write the step to `out` and update the state in place; group: the settings; step: its number, from 1."""
        ...


@dataclass(frozen=True)
class UpdateRule:
    """An update rule.

    state: the tensors that are kept of a parameter, by the names under which they are saved -> whether they are pooled.
    numbers: (settings of a param group, number of the step, from 1) -> the numbers of this step.
    update: the step of one slot.  unpooled: a faster way where nothing is pooled, if there is one.
    plain: steps the parameters that no gauge moves, in place: (parameters, gradients, their states, settings); a state
        has the entries of `state`, shaped like the parameter, and `step`, which counts the steps, on its device.
    """

    state: Mapping[str, bool]
    numbers: Callable[[Settings, int], Sequence[float]]
    update: Update
    plain: Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[State], Settings], None]
    unpooled: Unpooled | None = None


def blend(x: Tensor, y: Tensor, weight: Number) -> None:
    """Move x towards y: x += weight (y - x), in place."""
    if isinstance(weight, Tensor):
        x.add_((y - x) * weight)
    else:
        x.lerp_(y, weight)


def add_ratio(x: Tensor, above: Tensor, below: Tensor, weight: Number) -> Tensor:
    """Return x + weight * above / below, in place."""
    if isinstance(weight, Tensor):
        return x.add_(weight * (above / below))
    return x.addcdiv_(above, below, value=weight)
