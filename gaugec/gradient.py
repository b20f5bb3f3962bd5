"""The gradient that training sees: on the real model it must vanish along every orbit.

A proof is about the function.  A custom backward, a hook on a tensor or on a parameter gives another gradient than that
of the function, which no graph of the forward shows.  Here the model itself runs, in float64, and its gradient is held
against random tangents of the sites.

What this module does not do: it proves nothing, and it does not see a gradient that is wrong for other inputs only.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gaugec.errors import MatchError
from gaugec.sites import Binding, Site
from gaugec.witness import view

TOLERANCE = 1e-4  # norms that cast to float32 leave 1e-7; a gradient of another function leaves order one


def tangent(site: Site, binding: Binding, parameter: Tensor, coefficient: Tensor) -> Tensor:
    """The derivative of one binding's move along one direction of the group's algebra, shaped like the parameter.

    coefficient: [C, K] for scales, [C, K, K] skew for rotations, [C, M] for shifts.
    """
    made = torch.zeros_like(parameter)
    x = view(parameter, binding).reshape(site.copies, site.size, -1)
    if binding.move.kind == "scale":
        moved = float(binding.move.exponent) * coefficient.unsqueeze(-1) * (x + binding.shift_by)
    elif binding.move.kind == "rotate":
        moved = (-coefficient.mT if binding.move.dual else coefficient) @ x
    else:
        moved = coefficient.unsqueeze(1).expand_as(x)
    target = view(made, binding)
    target.copy_(moved.reshape(target.shape))
    return made


def direction(site: Site, generator: torch.Generator) -> Tensor:
    """A random direction in the algebra of a site's group, float64."""
    c, k = site.copies, site.size

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    if site.group == "positive":
        return draw(c, k)
    if site.group == "positive_pairs":
        half = draw(c, k // 2)
        return torch.cat([half, half], 1) if site.pairing == "halves" else half.repeat_interleave(2, 1)
    if site.group == "translation":
        return draw(c, math.prod(n for n, _ in site.bindings[0].rest))
    full = draw(c, k, k)
    skew = full - full.mT
    if site.group != "torus":
        return skew
    pairs = torch.zeros(k, k, dtype=torch.float64)
    for p in range(site.rotary // 2):
        i, j = (p, p + site.rotary // 2) if site.pairing == "halves" else (2 * p, 2 * p + 1)
        pairs[i, j] = pairs[j, i] = 1.0
    return skew * pairs


def along_the_orbits(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    sites: Sequence[Site],
    names: Mapping[str, str],
    loss: str | None,
) -> list[float]:
    """For every site the part of the model's own gradient that runs along a random tangent, 0 to 1.

    Empty where the model cannot run here (meta device, or more than 3e8 parameters).  The model is not changed.

    Raises:
        MatchError: the model's forward or backward fails.
    """
    if sum(p.numel() for p in model.parameters()) > 3e8 or any(p.is_meta for p in model.parameters()):
        return []
    twin = copy.deepcopy(model).cpu().double().train()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in twin.parameters():
            # away from zeros and ones of the initialisation, at which a wrong gradient may hide
            p.add_(0.1 * torch.randn(p.shape, generator=generator, dtype=torch.float64))
            p.requires_grad_(True)

    def real(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        return x.detach().cpu().double() if x.dtype.is_floating_point else x.detach().cpu()

    inputs, keywords = torch.utils._pytree.tree_map(real, (tuple(args), dict(kwargs)))
    try:
        if not _backward(twin, inputs, keywords, loss):
            return []
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise MatchError(f"the model cannot take a training step in float64: {reason}") from error
    parameters = {names[n]: p for n, p in twin.named_parameters(remove_duplicate=False)}
    return [_share(site, parameters, direction(site, generator)) for site in sites]


def _backward(model: nn.Module, inputs: Sequence[Any], keywords: Mapping[str, Any], loss: str | None) -> bool:
    """One backward pass from a random combination of all outputs; False where none of them has a gradient."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        outputs, _ = torch.utils._pytree.tree_flatten(_plain(model(*inputs, **keywords)))
        outputs = [x for x in outputs if isinstance(x, Tensor) and x.dtype.is_floating_point]
        if loss is not None:
            torch.manual_seed(1)
            targets = torch.randint(outputs[0].shape[-1], outputs[0].shape[:-1])
            outputs[0] = -torch.log_softmax(outputs[0], -1).gather(-1, targets.unsqueeze(-1))
        torch.manual_seed(2)
        total = sum((x * torch.randn(x.shape, dtype=x.dtype)).sum() for x in outputs if x.requires_grad)
    if not isinstance(total, Tensor):
        return False
    total.backward()
    return True


def _plain(output: Any) -> Any:
    """Model outputs that are mappings or dataclasses as plain containers."""
    if isinstance(output, Mapping):
        return dict(output)
    return output


def _share(site: Site, parameters: Mapping[str, Tensor], coefficient: Tensor) -> float:
    dot, gradient, length = 0.0, 0.0, 0.0
    for name in dict.fromkeys(binding.parameter for binding in site.bindings):
        parameter = parameters[name].detach().contiguous()
        grad = parameters[name].grad
        grad = torch.zeros_like(parameter) if grad is None else grad
        mine = [b for b in site.bindings if b.parameter == name]
        vector = sum((tangent(site, b, parameter, coefficient) for b in mine), torch.zeros_like(parameter))
        inside = torch.where(vector != 0, grad, torch.zeros_like(grad))
        dot += float((vector * grad).sum())
        gradient += float(inside.square().sum())
        length += float(vector.square().sum())
    scale = math.sqrt(gradient * length)
    return abs(dot) / scale if scale > 1e-12 else 0.0
