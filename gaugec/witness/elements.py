"""Random finite elements of a site's group, and parameters moved by one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gaugec.sites import Binding, Site


def view(parameter: Tensor, binding: Binding) -> Tensor:
    """The binding's strided view [copies..., group..., rest...] of a contiguous parameter."""
    axes = (*binding.copies, *binding.group, *binding.rest)
    return parameter.as_strided([n for n, _ in axes], [s for _, s in axes], binding.offset)


def element(site: Site, generator: torch.Generator) -> Tensor:
    """A random finite element: positive [C, K], orthogonal [C, K, K] with both determinants, angles, or shifts."""
    c, k = site.copies, site.size
    if site.group == "positive":
        return torch.exp(0.7 * torch.randn(c, k, generator=generator, dtype=torch.float64))
    if site.group == "positive_pairs":
        pairs = torch.exp(0.7 * torch.randn(c, k // 2, generator=generator, dtype=torch.float64))
        return torch.cat([pairs, pairs], 1) if site.pairing == "halves" else pairs.repeat_interleave(2, 1)
    if site.group == "translation":
        rest = math.prod(n for n, _ in site.bindings[0].rest)
        return torch.randn(c, rest, generator=generator, dtype=torch.float64)
    if site.group == "torus":
        angle = 2 * math.pi * torch.rand(c, site.rotary // 2, generator=generator, dtype=torch.float64)
        return _turns(angle, k, site)
    if site.group == "orthogonal":
        made, _ = torch.linalg.qr(torch.randn(c, k, k, generator=generator, dtype=torch.float64))
        made[: max(1, c // 2), 0] *= -1.0
        return made
    raise ValueError(f"no random element of {site.group}")


def _turns(angle: Tensor, k: int, site: Site) -> Tensor:
    copies, half = angle.shape
    made = torch.eye(k, dtype=torch.float64).repeat(copies, 1, 1)
    for p in range(half):
        i, j = (p, p + half) if site.pairing == "halves" else (2 * p, 2 * p + 1)
        c, s = torch.cos(angle[:, p]), torch.sin(angle[:, p])
        made[:, i, i], made[:, i, j], made[:, j, i], made[:, j, j] = c, -s, s, c
    return made


def move(parameters: dict[str, Tensor], site: Site, e: Tensor, only: int | None = None) -> dict[str, Tensor]:
    """The parameters moved by one site's element (`only`: by one of its bindings)."""
    moved = dict(parameters)
    for number, binding in enumerate(site.bindings):
        if only is not None and number != only:
            continue
        tensor = moved[binding.parameter].clone().contiguous()
        target = view(tensor, binding)
        x = target.reshape(site.copies, site.size, -1)
        if binding.move.kind == "scale":
            factor = e.pow(float(binding.move.exponent)).unsqueeze(-1)
            y = factor * (x + binding.shift_by) - binding.shift_by
        elif binding.move.kind == "rotate":
            y = (torch.linalg.inv(e).mT if binding.move.dual else e) @ x
        else:
            y = x + e.unsqueeze(1)
        target.copy_(y.reshape(target.shape))
        moved[binding.parameter] = tensor
    return moved
