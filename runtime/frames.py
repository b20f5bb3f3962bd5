"""Frames: the scales that bring parameters to canonical coordinates, and what is multiplied by their powers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor

from gaugec.runtime import actions
from gaugec.runtime.groups import Action, raised
from gaugec.runtime.layout import Slice, Tensors, Values, cut, fold, window

CAP = 1e8  # a frame's scale stays between 1/CAP and CAP
LOST = 1e-12  # a scale outside LOST..1/LOST at construction is singular


@dataclass
class Frame:
    """What brings parameters to canonical coordinates.

    scales: gauge -> [batch, copies, size] float64, multiplies the moved quantity (to a power that the action tells).
    powers: gauge -> power -> the scale to that power, in the dtype of the steps.
    off: gauges that are not in force, because a parameter that they move is frozen.
    """

    scales: Tensors = field(default_factory=dict)
    powers: dict[str, dict[float, Tensor]] = field(default_factory=dict)
    off: frozenset[str] = frozenset()

    def ready(self, powers: Mapping[str, Sequence[float]], dtype: torch.dtype) -> Frame:
        """Compute the powers that the steps until the next frame will need."""
        self.powers = {name: {p: self.scales[name].pow(p).to(dtype) for p in each} for name, each in powers.items()}
        return self


def squares(values: Mapping[str, Tensor], part: Slice) -> Tensor:
    """Sum of squares over pair and rest, [batch, copies, group] in float64."""
    return fold(cut(values, part).square(), part)


def norm(values: Mapping[str, Tensor], parts: Sequence[Slice]) -> Tensor:
    """Joint norm of the slices over everything but copies and group: [batch, copies, group] in float64."""
    return torch.stack([squares(values, part) for part in parts]).sum(0).sqrt()


def alive(scale: Tensor) -> Tensor:
    """Where a solved scale is finite and positive; elsewhere the orbit is singular."""
    return (scale > LOST) & (scale < 1 / LOST)


def settle(scale: Tensor, live: Tensor) -> Tensor:
    """Make a solved scale safe to use: 1 where not live, else kept between 1/CAP and CAP.

    The floor keeps a step finite when a unit dies in training; away from it nothing is changed.
    """
    scale = torch.nan_to_num(scale, nan=1.0, posinf=CAP).clamp(1 / CAP, CAP)
    return torch.where(live, scale, torch.ones_like(scale))


def centre(values: Mapping[str, Tensor], part: Slice) -> None:
    """Subtract the mean along the rest from the slice of values, in place: what no shift can move."""
    x = cut(values, part)
    x.sub_(x.mean(tuple(range(x.ndim - len(part.rest), x.ndim)), keepdim=True))


Scaling = Mapping[str, Sequence[tuple[Slice, str, float]]]


def scaled(
    values: Mapping[str, Tensor],
    frame: Frame,
    table: Scaling,
    out: Mapping[str, Tensor] | None,
    offsets: Mapping[str, float] = MappingProxyType({}),
) -> Values:
    """Multiply slices by powers of the frame's scales: (slice, gauge, power) by slot, after an offset was added.

    In `out` where it is given, and then a slot that nothing scales is returned as it came; else as new tensors.
    """
    done = {}
    span = values.span if isinstance(values, Values) else None
    for slot, x in values.items():
        offset, factors = offsets.get(slot, 0.0), table.get(slot, ())
        if out is not None and not offset and not factors:
            done[slot] = x
            continue
        y = out[slot] if out is not None else x.clone(memory_format=torch.contiguous_format)
        source, target = Values({slot: x}, span), Values({slot: y}, span)
        written = out is None or y is x
        if offset:
            torch.add(x, offset, out=y)
            written = True
        for part, gauge, power in factors:
            here = window(target, part)
            if here is None:
                continue
            scale = here.spread(frame.powers[gauge][power])
            if written:
                cut(target, here.part).mul_(scale)
            elif here.part.dense is not None and here.part.dense[0] == x[0].numel():
                torch.mul(cut(source, here.part), scale, out=cut(target, here.part))
            else:
                y.copy_(x)
                cut(target, here.part).mul_(scale)
            written = True
        if not written:
            y.copy_(x)
        done[slot] = y
    return Values(done, span)


Norms = Callable[[str], Tensor]


class Point:
    """Parameters on their way to canonical form: what the `fix` of a component is written in.

    A norm is taken of what the scales that were settled before it have made of the parameters, and of what no shift can
    move.  found: the scales; without `live` where they can be solved for, each from the parameters as they are.
    """

    def __init__(
        self, gauges: Mapping[str, Action], offsets: Mapping[str, float], params: Tensors, live: Tensors | None
    ) -> None:
        self._gauges, self._offsets, self._params, self._live = gauges, offsets, params, live
        self._values: Tensors = {}
        self._waiting: dict[str, list[tuple[Slice, Tensor, float]]] = {}
        self.found: Tensors = {}

    def settle(self, gauge: str, formula: Callable[[Norms], Tensor]) -> None:
        """Solve for the scale of a gauge and apply it: formula(norm) of the joint norms of rows, by their letters."""
        group, known = self._gauges[gauge], dict[str, Tensor]()

        def norm_of(role: str) -> Tensor:
            if role not in known:
                known[role] = norm(self._values, [self._brought(p) for row, p in group.parts if row.role == role])
            return known[role]

        scale = formula(norm_of)
        if self._live is None:
            self.found[gauge] = alive(scale)
            return
        scale = settle(scale, self._live[gauge])
        self.found[gauge] = self.found[gauge] * scale if gauge in self.found else scale
        for row, part in group.parts:
            self._waiting.setdefault(row.slot, []).append((part, scale, row.power))

    def start(self, gauge: str, formula: Callable[[Norms], Tensor]) -> None:
        """`settle` by one side of the equation, before the rounds of gauges that depend on one another in a circle."""
        if self._live is not None:
            self.settle(gauge, formula)

    def rounds(self, count: int) -> range:
        """Rounds of such gauges; any fixed number is exact."""
        return range(count if self._live is not None else 1)

    def _brought(self, part: Slice) -> Slice:
        """The slice, after all that waits for its tensor was done to it."""
        slot = part.slot
        if slot not in self._values:
            offset, x = self._offsets.get(slot), self._params[slot]
            shifts = [p for group in self._gauges.values() if group.kind == "shift" for p in group.slices]
            shifts = [shift for shift in shifts if shift.slot == slot]
            self._values[slot] = x + offset if offset else x.clone() if shifts else x
            for shift in shifts:
                centre(self._values, shift)
        waiting = self._waiting.pop(slot, [])
        if waiting and self._values[slot] is self._params[slot]:
            self._values[slot] = self._values[slot].clone()
        for each, scale, power in waiting:
            actions.stretch(self._values, each, raised(scale, power))
        return part
