"""Frames: the scales and matrices that bring parameters to canonical coordinates, and what is multiplied by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor

from gaugec.runtime import actions, polar
from gaugec.runtime.groups import Action
from gaugec.runtime.layout import Slice, Tensors, Values, cut, fold, rows, window
from gaugec.runtime.multipliers import chosen, matrices, one_like, raised

FAR = 1e12  # what no scale is beyond, nor below its inverse: squares of norms are numbers of float32 until there
FAR_HALF = 1e4  # of float16, which ends there itself
NEAR = 10.0  # a unit that comes back has its own scale again when that is not further than this from the one held


@dataclass
class Frame:
    """What brings parameters to canonical coordinates.

    scales: gauge -> [batch, copies, size] float64, multiplies the moved quantity (to a power that the action tells); of
        invertible matrices [batch, copies, size, size].
    powers: gauge -> power -> the scale to that power, in the dtype of the steps.
    off: gauges that are not in force, because a parameter that they move is frozen.
    live: gauge -> where the scale was solved for, of matrices [batch, copies, 1]; elsewhere it is held.
    gains: slot -> what it is multiplied by besides, [batch, ...], where that is not one; None before they are read.
    """

    scales: Tensors = field(default_factory=dict)
    powers: dict[str, dict[float, Tensor]] = field(default_factory=dict)
    off: frozenset[str] = frozenset()
    live: Tensors = field(default_factory=dict)
    gains: Tensors | None = None

    def ready(self, powers: Mapping[str, Sequence[float]], dtype: torch.dtype) -> Frame:
        """Compute the powers that the steps until the next frame will need."""
        self.powers = {
            name: {p: (raised(x, p) if matrices(x) else x.pow(p)).to(dtype) for p in each}
            for name, each in powers.items()
            for x in [self.scales[name]]
        }
        return self

    def squared(self) -> Frame:
        """The same with the squares of what is multiplied by: how averages of squares are pulled."""
        powers = {name: {p: x.square() for p, x in each.items()} for name, each in self.powers.items()}
        gains = None if self.gains is None else {slot: x.square() for slot, x in self.gains.items()}
        return Frame(self.scales, powers, self.off, self.live, gains)


def squares(values: Mapping[str, Tensor], part: Slice) -> Tensor:
    """Sum of squares over pair and rest, [batch, copies, group] in float64."""
    return fold(cut(values, part).square(), part)


def norm(values: Mapping[str, Tensor], parts: Sequence[Slice]) -> Tensor:
    """Joint norm of the slices over everything but copies and group: [batch, copies, group] in float64."""
    first, *others = (squares(values, part) for part in parts)
    for each in others:
        first = first + each
    return first.sqrt()


def alive(scale: Tensor, far: float = FAR) -> Tensor:
    """Where a solved scale is a positive number between 1/far and far; elsewhere the unit has no canonical form."""
    return (scale > 1 / far) & (scale < far)


def centre(values: Mapping[str, Tensor], part: Slice) -> None:
    """Subtract the mean along the rest from the slice of values, in place: what no shift can move."""
    x = cut(values, part)
    if not part.rest:
        x.zero_()
        return
    x.sub_(x.mean(tuple(range(x.ndim - len(part.rest), x.ndim)), keepdim=True))


Scaling = Mapping[str, Sequence[tuple[Slice, str, float]]]


def scaled(
    values: Mapping[str, Tensor],
    frame: Frame,
    table: Scaling,
    offsets: Mapping[str, float] = MappingProxyType({}),
    sign: int = 1,
) -> Values:
    """Multiply slices by powers of the frame's scales: (slice, gauge, power) by slot, after an offset was added.

    sign: of the power of the frame's gains.
    """
    done = {}
    span = values.span if isinstance(values, Values) else None
    for slot, x in values.items():
        offset = offsets.get(slot, 0.0)
        done[slot] = x + offset if offset else x.clone(memory_format=torch.contiguous_format)
        gain = (frame.gains or {}).get(slot)
        if gain is not None:
            gain = _rows(gain, x, (span or {}).get(slot))
            done[slot] = done[slot].mul_(gain) if sign > 0 else done[slot].div_(gain)
        for part, gauge, power in table.get(slot, ()):
            if matrices(frame.powers[gauge][power]):  # of tensors that are taken whole
                actions.rotate(done, part, frame.powers[gauge][power])
                continue
            here = window(Values({slot: done[slot]}, span), part)
            if here is not None:
                cut(done, here.part).mul_(here.spread(frame.powers[gauge][power]))
    return Values(done, span)


def _rows(gain: Tensor, x: Tensor, span: tuple[int, int] | None) -> Tensor:
    """What a gain is for the rows at hand."""
    if span is None or gain.dim() == 1 or gain.shape[1] == 1:
        return gain
    row = x[0, 0].numel()
    return gain[:, span[0] // row : span[1] // row]


Norms = Callable[[str], Tensor]


class Point:
    """Parameters on their way to canonical form: what the `fix` of a component is written in.

    A norm is taken of what the scales that were settled before it have made of the parameters, and of what no shift can
    move.  found: the scales; live: where they were solved for.  Where a unit has no canonical form (a norm of zero, or
    a scale beyond `far`) its scale is held: it is the one of `held`, or 1.  So it stays where it had none (`was`) until
    its own scale is near: a unit that begins anew, from almost nothing, would else throw those that it meets.
    """

    def __init__(
        self,
        gauges: Mapping[str, Action],
        offsets: Mapping[str, float],
        params: Tensors,
        held: Tensors | None = None,
        was: Tensors | None = None,
        off: frozenset[str] = frozenset(),
        far: float = FAR,
        gains: Tensors | None = None,
        idle: Sequence[Action] = (),
    ) -> None:
        self._gains, self._moving = gains or {}, [*gauges.values(), *idle]
        self._gauges, self._offsets, self._params = gauges, offsets, params
        self._held, self._was, self._off, self._far = held or {}, was or {}, off, far
        self._values: Tensors = {}
        self._waiting: dict[str, list[tuple[Slice, Tensor, float]]] = {}
        self.found: Tensors = {}
        self.live: Tensors = {}

    def settle(self, gauge: str, formula: Callable[[Norms], Tensor]) -> None:
        """Solve for the scale of a gauge and apply it: formula(norm) of the joint norms of rows, by their letters."""
        group, known = self._gauges[gauge], dict[str, Tensor]()

        def norm_of(role: str) -> Tensor:
            if role not in known:
                known[role] = norm(self._values, [self._brought(p) for row, p in group.all if row.role == role])
            return known[role]

        scale, before = formula(norm_of), self.found.get(gauge)
        whole = scale if before is None else before * scale
        held = self._held.get(gauge)
        if held is None or gauge in self._off:
            held = torch.ones_like(scale)
        live = alive(whole, self._far)
        if gauge in self._off:
            live = torch.zeros_like(live)
        elif gauge in self._was:
            live &= self._was[gauge] | alive(whole / held, NEAR)
        scale = torch.where(live, scale, held if before is None else held / before)
        self.live[gauge] = live
        self.found[gauge] = torch.where(live, whole, held)
        for row, part in group.all:
            self._waiting.setdefault(row.slot, []).append((part, scale, row.power))

    def start(self, gauge: str, formula: Callable[[Norms], Tensor]) -> None:
        """`settle` by one side of the equation, before the rounds of gauges that depend on one another in a circle."""
        self.settle(gauge, formula)

    def balance(self, gauge: str, dual: bool | None = None) -> None:
        """Solve for the matrices of a gauge, by what they and their inverses move, and apply them; see `polar`.

        dual: by the rows of one side alone, before the rounds of gauges that depend on one another in a circle.
        """
        group, before = self._gauges[gauge], self.found.get(gauge)
        read = [(row, part) for row, part in group.parts if dual is None or row.dual == dual]
        moved = [(rows(self._values, self._brought(part)).double(), row.dual) for row, part in read]
        held = None if gauge in self._off else self._held.get(gauge)
        step, back, live = polar.balanced(moved, held if before is None else one_like(before), self._far)
        held = one_like(step) if held is None else held
        whole, inverse = step, back
        if before is not None:
            whole, inverse = step @ before, torch.linalg.inv(before) @ back
            live &= polar.within(whole, inverse, self._far)
        if gauge in self._off:
            live = torch.zeros_like(live)
        elif gauge in self._was:
            live &= self._was[gauge] | polar.within(whole @ torch.linalg.inv(held), held @ inverse, NEAR)
        step = chosen(live, step, held if before is None else held @ torch.linalg.inv(before))
        self.live[gauge], self.found[gauge] = live, chosen(live, whole, held)
        for row, part in group.all:
            self._waiting.setdefault(part.slot, []).append((part, step, row.power))

    def rounds(self, count: int) -> range:
        """Rounds of such gauges; any fixed number is exact."""
        return range(count)

    def _brought(self, part: Slice) -> Slice:
        """The slice, after all that waits for its tensor was done to it."""
        slot = part.slot
        if slot not in self._values:
            offset, x = self._offsets.get(slot), self._params[slot]
            shifts = [p for group in self._moving if group.kind == "shift" for _, p in group.all if p.slot == slot]
            gain = self._gains.get(slot)
            self._values[slot] = x + offset if offset else x.clone() if shifts and gain is None else x
            if gain is not None:
                self._values[slot] = self._values[slot] * gain
            for shift in shifts:
                centre(self._values, shift)
        for each, scale, power in self._waiting.pop(slot, []):
            if self._values[slot] is self._params[slot]:
                self._values[slot] = actions.stretched(self._values, each, raised(scale, power))
            else:
                actions.stretch(self._values, each, raised(scale, power))
        return part
