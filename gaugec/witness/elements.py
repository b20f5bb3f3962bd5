"""Random finite elements of a site's group, and parameters moved by one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from gaugec.groups import GROUPS
from gaugec.sites import Binding, Factor, Site, Summand


def view(parameter: Tensor, binding: Binding) -> Tensor:
    """The binding's strided view [copies..., group..., rest...] of a contiguous parameter."""
    axes = (*binding.copies, *binding.group, *binding.rest)
    return parameter.as_strided([n for n, _ in axes], [s for _, s in axes], binding.offset)


def element(site: Site, generator: torch.Generator) -> Tensor:
    """A random finite element, a row for each copy: scales [C, K], shifts [C, M] or matrices [C, K, K] (orthogonal ones
    with both determinants)."""
    row, c, k = GROUPS[site.group], site.copies, site.size

    def normal(*shape: int) -> Tensor:
        return torch.randn(c, *shape, generator=generator, dtype=torch.float64)

    if row.kind == "shift":
        return normal(site.width)
    if row.kind == "scale":
        return _both(torch.exp(0.7 * normal(site.rotary // 2)), site) if row.paired else torch.exp(0.7 * normal(k))
    if row.paired:
        angle = 2 * math.pi * torch.rand(c, site.rotary // 2, generator=generator, dtype=torch.float64)
        return _turns(angle, k, site)
    if not row.transpose_inverts:
        return torch.eye(k, dtype=torch.float64) + 0.5 * normal(k, k) / math.sqrt(k)
    if row.keeps_ones:
        basis, _ = torch.linalg.qr(torch.cat([torch.ones(c, k, 1, dtype=torch.float64), normal(k, k - 1)], 2))
        ones, across = basis[:, :, :1], basis[:, :, 1:]
        return ones @ ones.mT + across @ _rotations(normal(k - 1, k - 1)) @ across.mT
    return _rotations(normal(k, k))


def neutral(site: Site) -> Tensor:
    """The element that moves nothing, in the shape of `element`."""
    row, c, k = GROUPS[site.group], site.copies, site.size
    if row.element == "matrix":
        return torch.eye(k, dtype=torch.float64).repeat(c, 1, 1)
    return torch.full((c, site.width), 1.0 if row.kind == "scale" else 0.0, dtype=torch.float64)


def pairs(site: Site) -> list[tuple[int, int]]:
    """The rotary pairs of the axis of a site, by the numbers of their coordinates."""
    half = site.rotary // 2
    return [(p, p + half) if site.pairing == "halves" else (2 * p, 2 * p + 1) for p in range(half)]


def _rotations(x: Tensor) -> Tensor:
    """Orthogonal matrices [C, k, k] of both determinants."""
    made, _ = torch.linalg.qr(x)
    made[: max(1, len(x) // 2), 0] *= -1.0
    return made


def _both(pairs: Tensor, site: Site) -> Tensor:
    """[C, pairs] -> [C, K]: both coordinates of a pair have its number, what is in no pair is 1."""
    made = torch.ones(len(pairs), site.size, dtype=torch.float64)
    halves = site.pairing == "halves"
    made[:, : site.rotary] = torch.cat([pairs, pairs], 1) if halves else pairs.repeat_interleave(2, 1)
    return made


def _turns(angle: Tensor, k: int, site: Site) -> Tensor:
    made = torch.eye(k, dtype=torch.float64).repeat(len(angle), 1, 1)
    for p, (i, j) in enumerate(pairs(site)):
        c, s = torch.cos(angle[:, p]), torch.sin(angle[:, p])
        made[:, i, i], made[:, i, j], made[:, j, i], made[:, j, j] = c, -s, s, c
    return made


def move(parameters: Mapping[str, Tensor], site: Site, e: Tensor, only: int | None = None) -> dict[str, Tensor]:
    """The parameters moved by one site's element (`only`: by one of its bindings)."""
    return moved(parameters, [(site, e)], only)


def moved(
    parameters: Mapping[str, Tensor], pairs: Iterable[tuple[Site, Tensor]], only: int | None = None
) -> dict[str, Tensor]:
    """The parameters moved by elements of several sites, one after the other."""
    there = dict(parameters)
    own: set[str] = set()  # those that are copies
    for site, e in pairs:
        before = dict(there)
        if any(binding.chart for binding in site.bindings):  # which read what was there
            own -= {binding.parameter for binding in site.bindings}
        for number, binding in sorted(enumerate(site.bindings), key=lambda each: bool(each[1].chart.summands)):
            if only is None or number == only:
                if binding.parameter not in own:
                    there[binding.parameter] = there[binding.parameter].clone().contiguous()
                    own.add(binding.parameter)
                x = view(there[binding.parameter], binding)
                y = x.clone()  # what a derivative keeps is written to by nobody
                for factor in binding.chart.factors:
                    y = y * _factor(before, binding, factor)
                y = _acted(y, site, binding, e)
                for factor in binding.chart.factors:
                    y = y / _factor(there, binding, factor)
                x.copy_(y)
                for each in binding.chart.summands:
                    sizes, strides = [n for n, *_ in each.kept], [stride for _, stride, *_ in each.kept]
                    x = there[binding.parameter].as_strided(sizes, strides, binding.offset)
                    x.add_(summand(each, before, before) - summand(each, there, there))
    return there


def pulled(
    parameters: Mapping[str, Tensor], pairs: Iterable[tuple[Site, Tensor]], covectors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Covectors at the moved parameters, pulled back along the movement: times its Jacobian, from the left.

    Of every parameter; those without a covector have 0 there."""
    leaves = {name: x.detach().requires_grad_() for name, x in parameters.items()}
    with torch.enable_grad():
        there = moved(leaves, pairs)
        total = sum((there[name] * x).sum() for name, x in covectors.items())
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)  # type: ignore[arg-type]
    return dict(zip(leaves, found, strict=True))


def _factor(parameters: Mapping[str, Tensor], binding: Binding, factor: Factor) -> Tensor:
    """What a chart multiplies the binding's view by, in its shape."""
    strides = {stride: along for _, stride, along in factor.axes}
    axes = (*binding.copies, *binding.group, *binding.rest)
    g = parameters[factor.parameter].contiguous().clone()
    read = g.as_strided([n for n, _ in axes], [strides.get(s, 0) for _, s in axes], factor.offset)
    return (read + factor.shift_by).pow(float(factor.power))


def summand(each: Summand, weights: Mapping[str, Tensor], biases: Mapping[str, Tensor]) -> Tensor:
    """What a chart adds: W b, over the axes that are kept; W is looked up among the weights, b among the biases."""
    sizes = [n for n, *_ in (*each.kept, *each.summed)]
    b = biases[each.bias].contiguous().clone()
    read = b.as_strided(sizes, [*(k[3] for k in each.kept), *(s[2] for s in each.summed)], each.bias_offset)
    if each.weight:
        w = weights[each.weight].contiguous().clone()
        strides = [*(k[2] for k in each.kept), *(s[1] for s in each.summed)]
        read = read * w.as_strided(sizes, strides, each.weight_offset)
    summed = tuple(range(len(each.kept), len(sizes)))
    return float(each.coefficient) * (read.sum(summed) if summed else read)


def _acted(target: Tensor, site: Site, binding: Binding, e: Tensor) -> Tensor:
    """What the element makes of a binding's view, as a new tensor."""
    x = target.reshape(site.copies, math.prod(n for n, _ in binding.group), -1)
    if binding.move.kind == "scale":
        factor = e.pow(float(binding.move.exponent)).unsqueeze(-1)
        y = factor * (x + binding.shift_by) - binding.shift_by
    elif binding.move.kind == "rotate":
        y = (torch.linalg.inv(e).mT if binding.move.dual else e) @ x
    elif binding.move.kind == "shift":
        y = x + float(binding.move.exponent) * e.unsqueeze(1)
    else:
        y = x
    return y.reshape(target.shape)
