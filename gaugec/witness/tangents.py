"""The tangents of an orbit: how parameters begin to move under every generator of a site's group.

They are derivatives of what `elements` does, by forward differentiation: exact to rounding, and true of every movement
that has finite elements, whether an optimizer is compiled for it or not.

Not here: what tangents span; any formula of a movement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.autograd import forward_ad

from gaugec.groups import GROUPS
from gaugec.sites import Site
from gaugec.witness.elements import moved, neutral, pairs


def tangents(parameters: Mapping[str, Tensor], site: Site, order: Mapping[str, tuple[int, ...]]) -> Tensor:
    """The tangents of a site's orbit at a point in float64, one a row, over the parameters named in `order`.

    [number, entries]: a row for each generator of each copy of the group.
    """
    at, rows = neutral(site), []
    own = dict.fromkeys(name for binding in site.bindings for name in (binding.parameter, *binding.chart.reads))
    for direction in _directions(site):
        with forward_ad.dual_level():
            made = moved(parameters, [(site, forward_ad.make_dual(at, direction))])
            grown = {name: forward_ad.unpack_dual(made[name]).tangent for name in own}
        parts = [grown.get(name) if name in grown else None for name in order]
        flat = [
            torch.zeros_like(parameters[name]).flatten() if part is None else part.detach().reshape(-1)
            for name, part in zip(order, parts)
        ]
        rows.append(torch.cat(flat))
    return torch.stack(rows)


def dimension(site: Site) -> int:
    """How many parameters an element has: of all its copies."""
    row = GROUPS[site.group]
    size = site.rotary if row.paired else site.width
    return site.copies * row.dimension(size)


def _directions(site: Site) -> Iterator[Tensor]:
    """Generators, each in one copy, as changes of the element that moves nothing."""
    for copy in range(site.copies):
        for generator in _generators(site):
            whole = torch.zeros_like(neutral(site))
            whole[copy] = generator
            yield whole


def _generators(site: Site) -> Iterator[Tensor]:
    row, k = GROUPS[site.group], site.size
    if row.element == "vector":
        for entries in pairs(site) if row.paired else [(n,) for n in range(site.width)]:
            yield _ones((site.width,), *((n,) for n in entries))
        return
    if row.paired:
        for i, j in pairs(site):
            yield _ones((k, k), (j, i)) - _ones((k, k), (i, j))
    elif not row.transpose_inverts:
        for i in range(k):
            for j in range(k):
                yield _ones((k, k), (i, j))
    else:
        columns = _across(k) if row.keeps_ones else torch.eye(k, dtype=torch.float64)
        for i in range(columns.shape[1]):
            for j in range(i):
                x, y = columns[:, i], columns[:, j]
                yield torch.outer(x, y) - torch.outer(y, x)


def _ones(shape: tuple[int, ...], *places: tuple[int, ...]) -> Tensor:
    made = torch.zeros(shape, dtype=torch.float64)
    for place in places:
        made[place] = 1.0
    return made


def _across(k: int) -> Tensor:
    """An orthonormal basis of what is orthogonal to the vector of ones: [k, k - 1]."""
    basis, _ = torch.linalg.qr(torch.cat([torch.ones(k, 1, dtype=torch.float64), torch.eye(k, dtype=torch.float64)], 1))
    return basis[:, 1:]
