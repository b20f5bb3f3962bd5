"""What a run does along the orbits, whatever optimizer steps it: drift, vertical parts of steps, condition of frames.

Everything is measured from parameters before and after, with the tangents alone and not with the optimizer's projector,
in float64.  Nothing is measured unless it is asked for; a look costs several times a step.  What is found
is plain dicts of numbers by site, "gauge of the first parameter that it moves".

Not here: figures of it (see `gaugec.runtime.figures`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from gaugec.runtime import elements, multipliers, solvers
from gaugec.runtime.alignment import align
from gaugec.runtime.frames import Frame
from gaugec.runtime.gauge import Gauge
from gaugec.runtime.holdings import Source, holding, titles
from gaugec.runtime.layout import Tensors
from gaugec.runtime.names import bare, by_name
from gaugec.runtime.optimizer import GaugeOptimizer
from gaugec.runtime.quotient import position


class Telemetry:
    """Looks at a model while it is trained, by any optimizer; each look is kept in `history`.

    It holds two copies of the parameters: those at the start, and those of the last look.  To see one step, look before
    and after it.
    """

    def __init__(self, gauge: Gauge, model: Source) -> None:
        self.gauge, self.model = gauge, model
        self.history: list[dict[str, Any]] = []
        self._start = self._last = self._copied()

    def look(self, step: int | None = None) -> dict[str, Any]:
        """What has happened: a dict of plain numbers, which joins `history`.

        step: the number that was given, else that of the look.  drift: site -> how far it is along its orbit from the
        start (see `drift`).  vertical: site -> the part of the way since the last look that ran along its orbit;
        whole_vertical: the same over all sites jointly.  condition: site -> the largest scale of its frame over the
        smallest; of matrices, singular value.
        """
        now = self._copied()
        way, along_orbits = along(self.gauge, self._last, now)
        seen = {
            "step": len(self.history) + 1 if step is None else step,
            "drift": drift(self.gauge, self._start, now),
            "vertical": vertical_shares(self.gauge, self._last, now),
            "whole_vertical": along_orbits / way if way else 0.0,
            "condition": conditions(self.gauge, now),
        }
        self._last = now
        self.history.append(seen)
        return seen

    def _copied(self) -> dict[str, Tensor]:
        held = holding(self.gauge, self.model, "the model")
        return {name: held.entries[here].clone() for name, here in held.known.items()}


# --- drift: from one position on the orbit to another


@torch.no_grad()
def drift(gauge: Gauge, before: Source, after: Source) -> dict[str, float]:
    """How far apart on the orbit two sets of parameters are: site -> root mean square over units.

    Of scales the log of the ratio of the frames, of invertible matrices the same with the rotation between them; of
    shifts what is between the means, in canonical coordinates; of rotations the angles, in radians, by which the one
    canonical representative is turned to be nearest to the other.  A horizontal step has none, to first order.  Units
    without a canonical form count as not moved.
    """
    one, two = holding(gauge, before, "the first"), holding(gauge, after, "the second")
    called = titles(gauge)
    out = {}
    for key, component, names in gauge.places():
        first, second = (position(component, each.at(component.shapes, names)) for each in (one, two))
        element = align(component, second.values, first.values).element
        for name, scales in first.scales.items():
            live = first.live[name] & second.live[name]
            if multipliers.matrices(scales):  # with the rotation that is left between them
                ratio = scales @ torch.linalg.inv(second.scales[name]) @ element[name]
            else:
                ratio = scales / second.scales[name]
            element[name] = multipliers.chosen(live, ratio, multipliers.one_like(ratio))
        for name, shift in first.shifts.items():
            element[name] = shift - second.shifts[name]
        for name, x in element.items():
            out[called[key, name]] = elements.length(component.elements[name][0], x)
    return out


@torch.no_grad()
def conditions(gauge: Gauge, params: Source) -> dict[str, float]:
    """Of every site with a frame the largest scale over the smallest, among units that have a canonical form."""
    held = holding(gauge, params, "the model")
    called = titles(gauge)
    out = {}
    for key, component, names in gauge.places():
        frame = component.frame(component.summed(held.at(component.shapes, names)))
        for name, scales in frame.scales.items():
            stretches = multipliers.stretches(scales)
            live = stretches[frame.live[name].expand_as(stretches)]
            out[called[key, name]] = float(live.max() / live.min()) if live.numel() else 1.0
    return out


# --- the vertical part of a way


@torch.no_grad()
def along(
    gauge: Any, before: Mapping[str, Tensor], after: Mapping[str, Tensor], frames: Mapping[str, Frame] | None = None
) -> tuple[float, float]:
    """The length of the way between two sets of parameters, and of its part along the orbits.

    before, after: parameters by name.  frames: by place, those that the lengths are measured in, at `before`; places
    without one do not count.  Where none are given every place counts, in the frame of `before`.  In float64, over all
    gauged parameters.  Raises KeyError for a missing parameter.
    """
    whole = part = 0.0
    for _, component, point, update, frame in _ways(gauge, before, after, frames):
        whole += _square(update)
        part += _square(vertical(component, update, point, frame.off))
    return math.sqrt(whole), math.sqrt(part)


@torch.no_grad()
def vertical_shares(gauge: Gauge, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, float]:
    """Site -> how much of the way of the parameters of its place ran along its orbit: 0 to 1, in the frame of `before`.

    Sites that meet in a parameter may share a part of the way, which counts for each.  Raises KeyError for a missing
    parameter.
    """
    called = titles(gauge)
    out = {}
    for key, component, point, update, _ in _ways(gauge, before, after, None):
        whole, right = _square(update), component.covertical(update, point)
        for name, inverse in _inverses(component, point).items():
            part = max(0.0, float((inverse(right[name]) * right[name]).sum()))
            out[called[key, name]] = math.sqrt(part / whole) if whole else 0.0
    return out


def vertical_part(optimizer: GaugeOptimizer, before: Mapping[str, Tensor]) -> float:
    """How much of an optimizer's last step ran along the orbits: a ratio of norms, 0 to 1; 0.0 where nothing moved.

    before: copies of the parameters by name, taken before that step.  Measured in the frames that it was taken in.
    """
    after = {name: p.detach() for name, p in optimizer.named.items()}
    whole, part = along(optimizer.gauge, before, after, optimizer.frames)
    return part / whole if whole else 0.0


def vertical(component: Any, update: Tensors, point: Tensors, off: frozenset[str] = frozenset()) -> Tensors:
    """The vertical part of an update at a canonical point, both in float64."""
    inverses = _inverses(component, point)

    def gram(a: Tensors) -> Tensors:
        return dict(component.covertical(component.vertical(point, a), point))

    def precondition(right: Tensors) -> Tensors:
        return {name: inverses[name](x) for name, x in right.items()}

    right = component.covertical(update, point)
    # a measure: what is left of it after so many rounds is far below any figure that is shown
    a = solvers.solve(gram, right, precondition, solvers.size(update), 1e-15, off, rounds=400, quiet=True)
    return dict(component.vertical(point, a))


def _inverses(component: Any, point: Tensors) -> dict[str, Any]:
    """The inverse of every gauge's own block of the Gram matrix of the tangents, as functions of a coefficient."""
    squares = {slot: x.square() for slot, x in point.items()}
    out = {}
    for action in component.gauges:
        out[action.name] = action.block(action.gram(point, squares) if action.measured else None)[1]
    return out


def _ways(
    gauge: Any, before: Mapping[str, Tensor], after: Mapping[str, Tensor], frames: Mapping[str, Frame] | None
) -> Iterator[tuple[str, Any, Tensors, Tensors, Frame]]:
    """Of every place its key and component, where it was, how it has moved, in canonical coordinates, and the frame."""
    sides = [by_name(values.items(), gauge.parameters) for values in (before, after)]
    for key, component, names in gauge.places():
        old, new = (
            component.summed(
                {slot: values[bare(name)].detach().double().unsqueeze(0) for slot, name in zip(component.shapes, names)}
            )
            for values in sides
        )
        frame = component.frame(old) if frames is None else frames.get(key)
        if frame is None:
            continue
        point, end = component.canonical(old, frame), component.canonical(new, frame)
        yield key, component, point, {slot: end[slot] - point[slot] for slot in point}, frame


def _square(values: Tensors) -> float:
    return sum(float(x.square().sum()) for x in values.values())
