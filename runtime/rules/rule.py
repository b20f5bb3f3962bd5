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
from typing import Any, NamedTuple, Protocol

from torch import Tensor

Settings = Mapping[str, Any]
State = Mapping[str, Tensor]
Number = float | Tensor
Averaging = Callable[[Tensor], Tensor]


class Direction(NamedTuple):
    """Where a rule steps to, without decay: weight * above / below; without `below`, weight * above.

    above: shaped like the gradient; it may be a tensor of the state, and is only read.
    below: shaped like what `squares` returns; new, or in the room that the rule was given: it may be written over.
    """

    weight: Number
    above: Tensor
    below: Tensor | None = None


class Update(Protocol):
    """The direction of a step in canonical coordinates; the learning rate is in it, decay is not."""

    def __call__(
        self, gradient: Tensor, state: State, numbers: Sequence[Number], squares: Averaging, room: Tensor | None = None
    ) -> Direction:
        """Return the direction and update the state in place.

        gradient: of one slot, or some of its rows, in canonical coordinates; only read.
        state: by name, shaped like the gradient, or where it is pooled like what `squares` returns.
        numbers: what `UpdateRule.numbers` gave.  squares: of a tensor like the gradient the squares, averaged over what
            compact elements mix; they are new, or in the room: they may be written over.
        room: memory shaped like the gradient for anything, in an eager step.
        """
        ...


class Kernel(Protocol):
    """A whole step by a faster way that only serves where nothing is pooled; False where it does not serve at all.

    It steps entry by entry: what it is given may be tensors of several parameters in one.
    """

    def __call__(
        self, out: Tensor, gradient: Tensor, state: State, group: Settings, step: int, decays: bool
    ) -> bool:
        """Add the step to `out` and update the state in place; decays: whether `out` is shrunk before.

        group: the settings; step: its number, from 1.
        """
        ...


def _never(group: Settings) -> float:
    return 0.0


@dataclass(frozen=True, eq=False)
class UpdateRule:
    """An update rule.

    state: the tensors that are kept of a parameter, by the names under which they are saved -> whether they are pooled.
    numbers: (settings of a param group, number of the step, from 1) -> the numbers of this step.
    update: the direction of one slot.  kernel: a faster way where nothing is pooled, if there is one.
    plain: steps the parameters that no gauge moves, in place: (parameters, gradients, their states, settings); a state
        has the entries of `state`, shaped like the parameter, and `step`, which counts the steps, on its device.
        None where the rule goes by matrices.
    matrices: what becomes of a direction, which has no `below` then: [number, rows, columns] -> the same shape, new.
    decay: settings -> by what part of itself a parameter shrinks in a step, beside its direction.
    """

    state: Mapping[str, bool]
    numbers: Callable[[Settings, int], Sequence[float]]
    update: Update
    plain: Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[State], Settings], None] | None
    decay: Callable[[Settings], float] = _never
    kernel: Kernel | None = None
    matrices: Callable[[Tensor], Tensor] | None = None


def decoupled(group: Settings) -> float:
    """The decay of rules that have a `weight_decay` beside the learning rate: ηλ."""
    return float(group["lr"] * group["weight_decay"])


def same(x: Tensor) -> Tensor:
    """What stands for `unpool` where nothing is pooled."""
    return x


def blend(x: Tensor, y: Tensor, weight: Number) -> None:
    """Move x towards y: x += weight (y - x), in place."""
    if isinstance(weight, Tensor):
        x.add_((y - x) * weight)
    else:
        x.lerp_(y, weight)


def add(x: Tensor, direction: Direction, unpool: Averaging) -> Tensor:
    """Return x + the direction, in place; unpool: spreads what is pooled over the shape of x."""
    weight, above, below = direction
    if below is None:
        return x.add_(weight * above) if isinstance(weight, Tensor) else x.add_(above, alpha=weight)
    below = unpool(below)
    return x.add_(weight * (above / below)) if isinstance(weight, Tensor) else x.addcdiv_(above, below, value=weight)
