"""The chart that pinned steps are taken in: what one tensor of a component is multiplied by, and what it decays to.

A chart is read off a frame once and stays. Its factors have the parameter's axes, of length one where nothing depends
on them, so that they broadcast against any rows of it; its matrices take the tensor whole. Not here: steps, pins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from gaugec.runtime import actions
from gaugec.runtime.batch import Batch, stepped
from gaugec.runtime.frames import Frame
from gaugec.runtime.held import one, reduced
from gaugec.runtime.layout import Slice, Tensors, contiguous, cut, spread
from gaugec.runtime.multipliers import matrices
from gaugec.runtime.shards import shard


class Mix(NamedTuple):
    """A slice of a tensor, and the matrices [places, copies, size, size] that a gradient is multiplied by there."""

    part: Slice
    matrix: Tensor


def mixed(x: Tensor, mixes: Sequence[Mix], back: bool = False) -> Tensor:
    """x [places, *shape] multiplied by matrices, as a new tensor; back: by the transposed, as a step that goes back."""
    out = x.clone(memory_format=torch.contiguous_format) if mixes else x
    for part, matrix in mixes:
        actions.rotate({part.slot: out}, part, matrix.mT if back else matrix)
    return out


@dataclass(frozen=True)
class Coordinates:
    """Of one tensor at some places, in the dtype of the steps; the first axis of every tensor here is that of places.

    factors: what a gradient is multiplied by, one after the other, and a step that goes back.
    centre: what the parameter decays to, where that is not zero.
    mixes: the matrices that a gradient is multiplied by, and a step that goes back by their transposed: see `mixed`.
    """

    factors: tuple[Tensor, ...]
    centre: Tensor | None
    mixes: tuple[Mix, ...] = ()

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that it is made of."""
        centre = () if self.centre is None else (self.centre,)
        return (*self.factors, *centre, *(matrix for _, matrix in self.mixes))

    def at(self, place: int) -> Coordinates:
        """The chart of one place."""
        here = slice(place, place + 1)
        mixes = tuple(Mix(part, matrix[here]) for part, matrix in self.mixes)
        centre = None if self.centre is None else self.centre[here]
        return Coordinates(tuple(f[here] for f in self.factors), centre, mixes)

    def within(self, low: int, high: int) -> Coordinates:
        """The chart of some rows of the tensor, from and to; one without matrices."""
        assert not self.mixes
        cuts = [x if x.dim() == 1 or x.shape[1] == 1 else x[:, low:high] for x in self.tensors]
        return Coordinates(tuple(cuts[: len(self.factors)]), None if self.centre is None else cuts[-1])


def charted(batch: Batch) -> dict[str, Coordinates]:
    """The charts of a batch's own frame, and of where its shifts began, if they are pinned; read off once."""
    assert batch.frame is not None
    if batch.charts is None or batch.charts[0] is not batch.frame:
        batch.charts = (batch.frame, charts(batch, batch.frame, batch.homes or {}))
    found: dict[str, Coordinates] = batch.charts[1]
    return found


def charts(batch: Batch, frame: Frame, homes: Mapping[str, Tensor]) -> dict[str, Coordinates]:
    """The charts of a batch's tensors; homes: of every shift, the coefficient that parameters decay to."""
    out = {}
    for slot, params in batch.slots.items():
        x = torch.empty(len(params), *params[0].shape, dtype=stepped(params[0].dtype), device=params[0].device)
        gain = (frame.gains or {}).get(slot)
        factors, mixes = list[Tensor]() if gain is None else [1 / gain], list[Mix]()
        for part, gauge, power in batch.component.pull_powers.get(slot, ()):
            if matrices(frame.powers[gauge][power]):
                mixes.append(Mix(part, frame.powers[gauge][power].to(x.dtype)))
                continue
            factor = _factor(frame.powers[gauge][power], part, x)
            same = [i for i, each in enumerate(factors) if each.shape == factor.shape]
            if same:
                factors[same[0]] = factors[same[0]] * factor
            elif not one(factor):
                factors.append(factor)
        centre = _centre(batch, slot, homes, x, gain)
        centre = centre if centre is not None and bool(centre.any()) else None
        out[slot] = Coordinates(tuple(factors), centre, tuple(mixes))
    return out


def _centre(
    batch: Batch, slot: str, homes: Mapping[str, Tensor], x: Tensor, gain: Tensor | None
) -> Tensor | None:
    offset, actions = batch.component.offsets.get(slot, 0.0), batch.component.by_name
    rows = [(home, *each) for gauge, home in homes.items() for each in actions[gauge].parts if each[0].slot == slot]
    if not offset and not rows:
        return None
    centre = torch.zeros_like(x)
    for home, row, part in rows:
        cut({slot: centre}, part).add_(spread(home.to(x.dtype), part), alpha=row.power)
    if gain is not None:
        centre.div_(gain)
    return reduced(centre.sub_(offset))


def _factor(scale: Tensor, part: Slice, x: Tensor) -> Tensor:
    """What the slice of a tensor like x is multiplied by, and all else by one."""
    if part.dense is not None and part.dense[0] == x[0].numel():
        _, sizes, order = part.dense
        digits = spread(scale, part).permute([order.index(i) for i in range(len(order))])  # in the order of the memory
        axes, i = list[int](), 0
        for size in x.shape[1:]:
            first, whole = i, 1
            while whole < size:
                whole, i = whole * sizes[i], i + 1
            if whole != size:
                break
            if any(n > 1 for n in digits.shape[1 + first : 1 + i]):
                digits = digits.expand(*digits.shape[: 1 + first], *sizes[first:i], *digits.shape[1 + i :])
                axes.append(size)
            else:
                axes.append(1)
        else:
            return digits.reshape(x.shape[0], *axes).contiguous()  # graphs go by shapes alone
    factor = torch.ones_like(x)
    cut({part.slot: factor}, part).mul_(spread(scale, part))
    return reduced(factor)


def joined(parts: Sequence[Coordinates]) -> Coordinates | None:
    """Charts of several places as one; None where they are not of one form."""
    if len({(len(each.factors), each.centre is None) for each in parts}) > 1:
        return None
    factors = [_together([each.factors[i] for each in parts]) for i in range(len(parts[0].factors))]
    centres = [each.centre for each in parts if each.centre is not None]
    alike = zip(*(each.mixes for each in parts))
    mixes = tuple(Mix(same[0].part, torch.cat([matrix for _, matrix in same])) for same in alike)
    return Coordinates(tuple(factors), _together(centres) if centres else None, mixes)


def _together(parts: Sequence[Tensor]) -> Tensor:
    """Join tensors [places, ...] of which some are of length one where others are not."""
    shape = torch.broadcast_shapes(*[x.shape[1:] for x in parts])
    return torch.cat([x.expand(x.shape[0], *shape) for x in parts])


@dataclass(frozen=True)
class Band:
    """Whole rows of a tensor, and how they are seen where squares are averaged.

    rows: from and to.  sizes: of the axes in the order of the memory, without places; averaged: which of them are
    averaged over.  start, count: where their averages stand in what `Component.pool` returns.  unit: rows that a step
    may not divide.
    """

    rows: tuple[int, int]
    sizes: tuple[int, ...]
    averaged: tuple[bool, ...]
    start: int
    count: int
    unit: int


    def within(self, low: int, high: int) -> Band:
        """The rows from low to high of a band that begins at 0, as a band that begins there; neither divides a unit."""
        share = (high - low) / self.rows[1]
        sizes = (round(self.sizes[0] * share), *self.sizes[1:])
        return replace(self, rows=(0, high - low), sizes=sizes, count=round(self.count * share))


def bands(component: object, slot: str, shape: Sequence[int]) -> list[Band] | None:
    """The pools of a tensor as bands of whole rows; None where they are not such bands."""
    pieces, out, start = component.pieces[slot], [], 0  # type: ignore[attr-defined]
    if slot not in component.covered or not shape:  # type: ignore[attr-defined]
        return None
    row = math.prod(shape[1:])
    for piece in pieces:
        axes = tuple((size, stride) for size, stride, _ in piece.axes)
        dense = contiguous(axes)
        if dense is None or dense[1] != tuple(size for size, _ in axes) or piece.offset % row or dense[0] % row:
            return None
        unit = axes[0][1] if not piece.axes[0][2] else dense[0]
        averaged = tuple(each for _, _, each in piece.axes)
        count = math.prod(size for size, _, each in piece.axes if not each)
        rows = (piece.offset // row, (piece.offset + dense[0]) // row)
        out.append(Band(rows, dense[1], averaged, start, count, math.lcm(unit, row) // row))
        start += count
    return out


def divided(component: object, slot: str, p: Tensor) -> bool:
    """Can every process average the rows that it has by itself, and are the averages divided as the rows are?"""
    here, found = shard(p), bands(component, slot, p.shape)
    if here is None or here.count == 1:
        return True
    if found is None or len(found) > 1 or found[0].rows != (0, p.shape[0]):
        return False
    chunk, count = here.chunk(p.shape[0]), found[0].count
    return chunk % found[0].unit == 0 and here.chunk(count) * p.shape[0] == chunk * count


def pooled(factors: Sequence[Tensor], component: object, slot: str, shape: Sequence[int]) -> Tensor | None:
    """The product of factors as `Component.pool` sees it; None where it is not constant where squares are mixed."""
    whole = torch.ones(factors[0].shape[0], *shape, dtype=factors[0].dtype, device=factors[0].device)
    for factor in factors:
        whole.mul_(factor)
    values: Tensors = {slot: whole}
    mean: Tensor = component.pool(values)[slot]  # type: ignore[attr-defined]
    back: Tensor = component.unpool({slot: mean}, {slot: torch.empty_like(whole)})[slot]  # type: ignore[attr-defined]
    return mean if bool(torch.isclose(back, whole, rtol=8 * torch.finfo(whole.dtype).eps, atol=0.0).all()) else None
