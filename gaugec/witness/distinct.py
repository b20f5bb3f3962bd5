"""Sites that scale the same entries alike, though their slices are cut otherwise: one of them is kept.

Two gauges may describe one group: a gain and a bias that are two halves of one parameter, and a gain whose entries go
in pairs. A second description of what is there has no frame of its own.

What this module does not do: it looks at scales alone; equal slices are told apart by their groups (see `compile`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gaugec.sites import Site
from gaugec.witness.elements import element, move

ENTRIES = 1 << 22  # of the parameters that two sites share: beyond it neither is looked at
CLOSE = 1e-9


def distinct(sites: Sequence[Site], shapes: Mapping[str, tuple[int, ...]]) -> list[Site]:
    """The sites without those whose scales another one has as well; of two that are one, that of fewer slices stays."""
    alike: dict[frozenset[str], list[Site]] = {}
    for site in sites:
        if all(b.move.kind == "scale" and abs(b.move.exponent) == 1 for b in site.bindings):
            alike.setdefault(frozenset(b.parameter for b in site.bindings), []).append(site)
    gone: list[Site] = []
    for names, same in alike.items():
        if len(same) == 1 or sum(math.prod(shapes[name]) for name in names) > ENTRIES:
            continue
        logs = [_logs(site, names, shapes, seed) for seed, site in enumerate(same)]
        order = sorted(range(len(same)), key=lambda i: (-_dimension(logs[i]), len(same[i].bindings), i))
        kept: list[int] = []
        for i in order:
            if any(_within(logs[i], logs[j]) for j in kept):
                gone.append(same[i])
            else:
                kept.append(i)
    return [site for site in sites if not any(site is each for each in gone)]


def _logs(site: Site, names: frozenset[str], shapes: Mapping[str, tuple[int, ...]], seed: int) -> Tensor:
    """The logarithms of what a random element multiplies every entry by; equal ones are one coefficient."""
    ones = {name: torch.ones(shapes[name], dtype=torch.float64) for name in names}
    plain = replace(site, bindings=tuple(replace(binding, shift_by=0.0) for binding in site.bindings))
    moved = move(ones, plain, element(site, torch.Generator().manual_seed(seed)))
    return torch.cat([moved[name].log().flatten() for name in sorted(names)])


def _within(one: Tensor, other: Tensor) -> bool:
    """Is every scale of one a scale of the other: is it a multiple of the other's wherever that has one coefficient?"""
    inside = other.abs() > CLOSE
    if bool((one[~inside].abs() > CLOSE).any()):
        return False
    ratio = one[inside] / other[inside]
    values, which = _coefficients(other[inside])
    some = torch.zeros(len(values), dtype=ratio.dtype).scatter_(0, which, ratio)
    return bool(((ratio - some[which]).abs() < 1e3 * CLOSE).all())


def _dimension(logs: Tensor) -> int:
    return len(_coefficients(logs[logs.abs() > CLOSE])[0])


def _coefficients(logs: Tensor) -> tuple[Tensor, Tensor]:
    """The coefficients of entries that are scaled, and which of them each entry has."""
    values, which = (logs.abs() / CLOSE).round().unique(return_inverse=True)
    return values, which
