"""Steps of rules that see logical matrices: a fused weight is several, heads and experts are one each.

What such a rule makes of its direction it makes of all matrices of one shape at once. Not here: which matrices a
parameter is made of, what a rule makes of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gaugec.runtime import shards
from gaugec.runtime.batch import stepped
from gaugec.runtime.chart import Coordinates, mixed
from gaugec.runtime.layout import Slice, cut, product, rows
from gaugec.runtime.rules.rule import Settings, UpdateRule, same

Layout = tuple[Slice, ...]
"""The logical matrices of a parameter, which they cover: copies of [group, rest]."""

TOGETHER_CPU = 1 << 22  # elements that are taken at a time
TOGETHER_GPU = 1 << 28


def shapes(layout: Layout) -> tuple[tuple[int, int], ...]:
    """Rows and columns of the matrices of every entry."""
    return tuple((product(part.group), product(part.rest)) for part in layout)


def orthogonal(rule: UpdateRule, values: Sequence[Tensor], layouts: Sequence[Layout]) -> list[Tensor]:
    """What a rule makes of tensors [places, *shape], matrix by matrix; new tensors of the same shapes."""
    assert rule.matrices is not None
    alike: dict[tuple[int, int], list[tuple[int, Slice]]] = {}
    for i, layout in enumerate(layouts):
        for part, shape in zip(layout, shapes(layout)):
            alike.setdefault(shape, []).append((i, part))
    out: list[Tensor | None] = [None] * len(values)
    for there in alike.values():
        seen = [rows({part.slot: values[i].contiguous()}, part).flatten(0, 1) for i, part in there]
        made = rule.matrices(seen[0] if len(seen) == 1 else torch.cat(seen))
        for (i, part), x in zip(there, made.split([len(x) for x in seen])):
            whole = out[i]
            if whole is None:
                out[i] = whole = torch.empty_like(values[i], memory_format=torch.contiguous_format)
            view = cut({part.slot: whole}, part)
            view.copy_(x.reshape(view.shape))
    return [x for x in out if x is not None]


class Charted(NamedTuple):
    """One parameter, its gradient, what its rule keeps of it, the chart that it is stepped in, and its matrices."""

    p: Tensor
    gradient: Tensor
    state: Mapping[str, Tensor]
    chart: Coordinates
    layout: Layout


PLAIN = Coordinates((), None)  # of a parameter that no gauge moves


def advance(rule: UpdateRule, group: Settings, pieces: Sequence[Charted], number: int = 1) -> None:
    """Step parameters together; number: of the step.

    What is stepped is the rows that this process has; matrices are made of whole directions, which are gathered.
    """
    numbers, directions, weight = rule.numbers(group, number), list[Tensor](), 0.0
    params = [piece.p for piece in pieces]
    for p, slope, state, chart, _ in pieces:
        slope = slope.to(stepped(p.dtype))[None]
        for factor in chart.factors:
            slope = slope * _own(factor, p)
        slope = mixed(slope, chart.mixes)
        kept = next(state[name].dtype for name in rule.state)  # the parameter's where no gauge moves it, as torch's
        direction = rule.update(slope[0].to(kept), state, numbers, same)
        directions.append(direction.above)
        weight = float(direction.weight)
    wholes = [x.unsqueeze(0) for x in shards.gathered(directions, params)]
    made = orthogonal(rule, wholes, [piece.layout for piece in pieces])
    decay = rule.decay(group)
    for (p, _, _, chart, _), x in zip(pieces, made):
        x = mixed(x[:, slice(*shards.rows(p))], chart.mixes, back=True)
        for factor in chart.factors:
            x.mul_(_own(factor, p))
        here = shards.own(p)
        value = here.to(stepped(p.dtype))
        if decay:
            value.mul_(1 - decay)
        if decay and chart.centre is not None:
            value.add_(_own(chart.centre, p)[0], alpha=decay)
        value.add_(x[0], alpha=weight)
        if value.data_ptr() != here.data_ptr():
            here.copy_(value)


def _own(x: Tensor, p: Tensor) -> Tensor:
    """The rows of a chart's tensor [1, *shape] that this process has of its parameter."""
    return x if x.shape[1] == 1 else x[:, slice(*shards.rows(p))]


def together(layouts: Sequence[Layout], like: Sequence[Tensor]) -> list[list[int]]:
    """Which tensors are stepped together: those with matrices of the same shapes, so many at a time; their numbers."""
    alike: dict[object, list[int]] = {}
    for i, (layout, x) in enumerate(zip(layouts, like)):
        alike.setdefault((shapes(layout), x.dtype, x.device), []).append(i)
    out = []
    for same_shape in alike.values():
        first = like[same_shape[0]]
        limit = TOGETHER_CPU if first.device.type == "cpu" else TOGETHER_GPU
        width = max(1, limit // math.prod(first.shape))
        out += [same_shape[start : start + width] for start in range(0, len(same_shape), width)]
    return out
