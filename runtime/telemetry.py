"""What an optimizer's steps do along the orbits: measured from the tangents alone, not with the projector.

Each function costs several times a step; call them now and then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gaugec.runtime import batch as batches
from gaugec.runtime import solvers
from gaugec.runtime.gauge import plain
from gaugec.runtime.layout import Tensors
from gaugec.runtime.optimizer import GaugeOptimizer


@torch.no_grad()
def vertical_part(optimizer: GaugeOptimizer, before: Mapping[str, Tensor]) -> float:
    """How much of the way from `before` to the parameters now runs along the orbits: a ratio of norms, 0 to 1.

    before: copies of the parameters by name, taken before the last step.  Measured in the optimizer's current frames,
    over all gauged parameters; 0.0 where nothing moved.  Raises KeyError for a missing parameter.
    """
    values = {plain(name): value for name, value in before.items()}
    names = {id(p): plain(n) for g in optimizer.param_groups for n, p in zip(g["param_names"], g["params"])}
    along = whole = 0.0
    for batch in optimizer.batches:
        if batch.frame is None:
            continue
        old = {slot: batches.stack([values[names[id(p)]] for p in params]) for slot, params in batch.slots.items()}
        point = _double(batch.component.canonical(old, batch.frame))
        now = _double(batch.component.canonical(batch.params(), batch.frame))
        update = {slot: now[slot] - point[slot] for slot in now}
        part = vertical(batch.component, update, point, batch.frame.off)
        along += sum(float(x.square().sum()) for x in part.values())
        whole += sum(float(x.square().sum()) for x in update.values())
    return math.sqrt(along / whole) if whole else 0.0


def vertical(component: Any, update: Tensors, point: Tensors, off: frozenset[str] = frozenset()) -> Tensors:
    """The vertical part of an update at a canonical point, both in float64."""

    def gram(a: Tensors) -> Tensors:
        return dict(component.covertical(component.vertical(point, a), point))

    right = component.covertical(update, point)
    a = solvers.solve(gram, right, lambda x: x, solvers.size(update), 1e-15, off, rounds=400)
    return dict(component.vertical(point, a))


@torch.no_grad()
def drift(gauge: Any, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, float]:
    """How far the frames of two sets of parameters lie apart: "place.gauge" -> root mean square of the log ratio.

    Only gauges with scales have a frame; singular units count as not moved.
    """
    out = {}
    sides = [{plain(name): value for name, value in values.items()} for values in (before, after)]
    for key, component, names in gauge.places():
        scales = []
        for values in sides:
            found = {slot: batches.stack([values[plain(name)]]) for slot, name in zip(component.shapes, names)}
            scales.append(component.frame(found, component.alive(found)).scales)
        for name in scales[0]:
            out[f"{key}.{name}"] = float((scales[1][name] / scales[0][name]).log().square().mean().sqrt())
    return out


def _double(values: Tensors) -> Tensors:
    return {slot: value.double() for slot, value in values.items()}
