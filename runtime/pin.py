"""Pins: parameters go back along their orbits, by a group element that no function sees, to where they began.

Scales and matrices go back to the frame that the chart was read off, shifts to their homes, rotations stay: no frame
reads them.
Not here: steps.
"""

from __future__ import annotations

from functools import cache

import torch

from gaugec.runtime import actions
from gaugec.runtime.batch import Batch, stepped
from gaugec.runtime.frames import Frame
from gaugec.runtime.layout import Tensors
from gaugec.runtime.multipliers import chosen, coarse, one_like, raised, ratio, still
from gaugec.runtime.shifts import along


def means(batch: Batch, values: Tensors | None = None) -> Tensors:
    """Of every shift in force, the coefficient of the parameters' part along it: [batch, copies, size] in float64.

    values: the parameters, where they are at hand.
    """
    shifts = [each for each in batch.component.shifts if each.name not in batch.off]
    if not shifts:
        return {}
    return along(shifts, gained(batch, batch.params() if values is None else values))


def gained(batch: Batch, values: Tensors) -> Tensors:
    """The tensors times what is held of them."""
    gains = (batch.frame.gains if batch.frame is not None else None) or {}
    return {slot: x * gains[slot] if slot in gains else x for slot, x in values.items()}


def pin(batch: Batch) -> None:
    """Move a batch's parameters back along their orbits, in place; a unit that comes to life gets its chart there.

    Parameters of 16 bits are moved by powers of two alone, and only from √2 on: a factor near 1 would round away.
    """
    frame = batch.frame
    assert frame is not None
    values = batch.params()
    now = batch.component.solved(values, frame.scales, batch.known(), batch.off, batch.far, frame.gains)
    half = any(stepped(p[0].dtype) != p[0].dtype for p in batch.slots.values())
    element: Tensors = {}
    scales = dict(frame.scales)
    for name, here in now.live.items():
        before, factor = frame.live[name], ratio(now.scales[name], scales[name])
        if not (bool(here.all()) and bool(before.all())):
            factor = chosen(here & before, factor, one_like(factor))
            scales[name] = chosen(here & ~before, now.scales[name], scales[name])
        element[name] = coarse(factor) if half else factor
    batch.watched(now.live)
    if any(not torch.equal(here, frame.live[name]) for name, here in now.live.items()):
        dtype = next(iter(values.values())).dtype
        made = Frame(scales, off=frame.off, live=now.live, gains=frame.gains)
        batch.frame = made.ready(batch.component.powers, dtype)
    _move(batch, values, element)


def _move(batch: Batch, values: Tensors, element: Tensors) -> None:
    """Multiply by an element's factors, and bring shifts to where they began; values: those of `Batch.params`."""
    component, moved = batch.component, set[str]()
    for name, factor in element.items():
        if bool(still(factor).all()):
            continue
        raises = cache(lambda power, dtype, factor=factor: raised(factor, power).to(dtype))
        for row, part in component.by_name[name].parts:
            offset = component.offsets.get(row.slot, 0.0)
            if offset:
                values[row.slot].add_(offset)
            actions.stretch(values, part, raises(row.power, values[row.slot].dtype))
            if offset:
                values[row.slot].sub_(offset)
            moved.add(row.slot)
    homes = batch.homes or {}
    here = means(batch, values) if homes else {}
    for name, home in homes.items():
        gauge = component.by_name[name]
        there = gained(batch, values)
        gauge.lift(there, there, home - here[name], 1.0)
        for slot in {row.slot for row, _ in gauge.parts}:
            if there[slot] is not values[slot]:
                values[slot].copy_(there[slot] / batch.frame.gains[slot])  # type: ignore[union-attr, index]
            moved.add(slot)
    batch.write(values, moved)
