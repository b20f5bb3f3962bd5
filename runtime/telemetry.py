"""What steps do along the orbits, those of any optimizer: measured from the tangents alone, not with the projector.

Each function costs several times a step; call them now and then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gaugec.runtime import solvers
from gaugec.runtime.batch import stack
from gaugec.runtime.frames import Frame
from gaugec.runtime.layout import Tensors
from gaugec.runtime.names import by_name, plain
from gaugec.runtime.optimizer import GaugeOptimizer


@torch.no_grad()
def along(
    gauge: Any, before: Mapping[str, Tensor], after: Mapping[str, Tensor], frames: Mapping[str, Frame] | None = None
) -> tuple[float, float]:
    """The length of the way between two sets of parameters, and of its part along the orbits.

    before, after: parameters by name.  frames: by place, those that the lengths are measured in, at `before`; places
    without one do not count.  Where none are given every place counts, in the frame of `before`.  In float64, over all
    gauged parameters.  Raises KeyError for a missing parameter.
    """
    sides = [by_name(values.items()) for values in (before, after)]
    whole = part = 0.0
    for key, component, names in gauge.places():
        old, new = (
            {slot: values[plain(name)].double().unsqueeze(0) for slot, name in zip(component.shapes, names)}
            for values in sides
        )
        frame = component.frame(old) if frames is None else frames.get(key)
        if frame is None:
            continue
        point, end = component.canonical(old, frame), component.canonical(new, frame)
        update = {slot: end[slot] - point[slot] for slot in point}
        whole += _square(update)
        part += _square(vertical(component, update, point, frame.off))
    return math.sqrt(whole), math.sqrt(part)


def vertical_part(optimizer: GaugeOptimizer, before: Mapping[str, Tensor]) -> float:
    """How much of an optimizer's last step ran along the orbits: a ratio of norms, 0 to 1; 0.0 where nothing moved.

    before: copies of the parameters by name, taken before that step.  Measured in the frames that it was taken in.
    """
    after = {name: p.detach() for name, p in optimizer.named.items()}
    whole, part = along(optimizer.gauge, before, after, optimizer.frames)
    return part / whole if whole else 0.0


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
    sides = [by_name(values.items()) for values in (before, after)]
    for key, component, names in gauge.places():
        scales = []
        for values in sides:
            found = {slot: stack([values[plain(name)]]) for slot, name in zip(component.shapes, names)}
            scales.append(component.frame(found).scales)
        for name in scales[0]:
            out[f"{key}.{name}"] = float((scales[1][name] / scales[0][name]).log().square().mean().sqrt())
    return out


def _square(values: Tensors) -> float:
    return sum(float(x.square().sum()) for x in values.values())
