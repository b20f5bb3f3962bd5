"""What charts hold must be dead: with all else where it is in its coordinates, no output may see it.

A gain that the residual of a post-norm layer reads too, a bias that one reader takes up and another cannot: gauges hold
beside them, and what their charts read is alive.  Held, it would not learn.

What this module does not do: it proves nothing; it measures, on the graph in float64.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from gaugec.model.preserve import SMALL
from gaugec.sites import Chart, Factor
from gaugec.witness.elements import summand
from gaugec.witness.finite import change, reference
from gaugec.witness.interpreter import Runner

SEEN = 1e-8  # of what an output changes by when all parameters do
Values = dict[str, Tensor]


def seen(
    runner: Runner, shapes: Mapping[str, tuple[int, ...]], charts: Mapping[str, Chart], seed: int = 0
) -> frozenset[str]:
    """Of the gains and biases that charts, by parameter, read: those that an output sees; none in a large model."""
    names = sorted({name for chart in charts.values() for name in chart.reads})
    if not names or sum(math.prod(shape) for shape in shapes.values()) > SMALL:
        return frozenset()
    parameters = runner.parameters(shapes)
    before, made = runner.kept(parameters)
    scales = reference(runner, shapes, before)

    def alive(some: Collection[str]) -> bool:
        there = exchanged(parameters, charts, some, torch.Generator().manual_seed(seed))
        return change(before, runner.run(there, made), scales, noise=4096) > SEEN

    return frozenset(name for name in names if alive({name})) if alive(names) else frozenset()


def exchanged(
    parameters: Mapping[str, Tensor], charts: Mapping[str, Chart], names: Collection[str], generator: torch.Generator
) -> Values:
    """The parameters with other numbers where charts read `names`, and all else where it was in its coordinates.

    A bias to which something is added counts with that; what is read of it, and no more, has another number.
    """
    there, other, marks = {**parameters}, Values(), dict[str, Tensor]()
    for name in names:
        x = parameters[name]
        marks[name] = torch.zeros(x.numel(), dtype=torch.bool)
        other[name] = x * (0.5 + torch.rand(x.shape, generator=generator, dtype=torch.float64))
    for name, chart in charts.items():
        for factor in chart.factors:
            if factor.parameter in names:
                marks[factor.parameter][_places(factor, parameters[name])] = True
        for each in chart.summands:
            if each.bias in names:
                axes = [(axis[0], axis[-1]) for axis in (*each.kept, *each.summed)]
                _strided(marks[each.bias], axes, each.bias_offset).fill_(True)
    for name, mark in marks.items():
        there[name] = torch.where(mark.view(parameters[name].shape), other[name], parameters[name])
    for name, chart in charts.items():
        for factor in chart.factors:
            if factor.parameter in names and name not in names:
                scale = _factor(factor, parameters, name) / _factor(factor, there, name)
                there[name] = there[name] * scale
    whole, moved = {**parameters}, {**there}  # with what is added to them, before and after
    for name in _in_order(charts):
        before, after = (_added(charts[name], x, y, name) for x, y in ((parameters, whole), (there, moved)))
        whole[name] = parameters[name] + before
        there[name] = torch.where(_mark(marks, name, parameters), there[name], whole[name] - after)
        moved[name] = there[name] + after
    return there


def _mark(marks: Mapping[str, Tensor], name: str, parameters: Mapping[str, Tensor]) -> Tensor:
    shape = parameters[name].shape
    return marks[name].view(shape) if name in marks else torch.zeros(shape, dtype=torch.bool)


def _in_order(charts: Mapping[str, Chart]) -> list[str]:
    """The parameters to which something is added, those that others read first."""
    left, out = [name for name, chart in charts.items() if chart.summands], list[str]()
    while left:
        ready = [name for name in left if not {each.bias for each in charts[name].summands} & set(left)]
        out += ready or left
        left = [name for name in left if name not in out]
    return out


def _added(chart: Chart, weights: Mapping[str, Tensor], biases: Mapping[str, Tensor], name: str) -> Tensor:
    """What a chart adds to a parameter."""
    out = torch.zeros_like(weights[name], memory_format=torch.contiguous_format)
    for each in chart.summands:
        part = _strided(out.view(-1), [(axis[0], axis[1]) for axis in each.kept], each.offset)
        part.add_(summand(each, weights, biases))
    return out


def _strided(x: Tensor, axes: list[tuple[int, int]], offset: int) -> Tensor:
    return x.as_strided([n for n, _ in axes], [stride for _, stride in axes], offset)


def _places(factor: Factor, x: Tensor) -> Tensor:
    """For every entry of a parameter the place in the gain that multiplies it."""
    at = torch.arange(x.numel())
    steps = ((at // stride % size) * step for size, stride, step in factor.axes)
    return sum(steps, torch.full_like(at, factor.offset))


def _factor(factor: Factor, values: Mapping[str, Tensor], name: str) -> Tensor:
    """What a parameter is multiplied by."""
    gain = values[factor.parameter].reshape(-1)[_places(factor, values[name])]
    return (gain + factor.shift_by).pow(float(factor.power)).view(values[name].shape)
