"""How much of a model its gauges move: entries of parameters, each counted once however many gauges move it.

What this module does not do: it counts no dimension of an orbit, only what takes part in one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

from gaugec.sites import Axes, Binding, Site


def gauged(sites: Sequence[Site], shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int]:
    """The entries that some site moves, and all entries; shapes: of every parameter, tied ones once."""
    slices: dict[str, set[tuple[int, Axes]]] = {}
    for site in sites:
        for binding in site.bindings:
            slices.setdefault(binding.parameter, set()).add(_slice(binding))
    known: dict[frozenset[tuple[int, Axes]], int] = {}  # the layers of a model are alike
    total = 0
    for found in map(frozenset, slices.values()):
        if found not in known:
            known[found] = _union(run for each in found for run in _runs(*each))
        total += known[found]
    return total, sum(map(math.prod, shapes.values()))


def _slice(binding: Binding) -> tuple[int, Axes]:
    """Offset and axes (size, stride) of a binding, outermost first, axes that are contiguous to each other in one."""
    axes = sorted((*binding.copies, *binding.group, *binding.rest), key=lambda axis: axis[1])
    merged: list[tuple[int, int]] = []
    for size, stride in axes:
        if merged and merged[-1][0] * merged[-1][1] == stride:
            merged[-1] = (merged[-1][0] * size, merged[-1][1])
        elif size > 1:
            merged.append((size, stride))
    return binding.offset, tuple(reversed(merged))


def _runs(offset: int, axes: Axes) -> Iterable[tuple[int, int]]:
    """The contiguous stretches of a slice, as (start, end)."""
    *outer, (length, stride) = axes or ((1, 1),)
    if stride != 1:
        outer, length = [*outer, (length, stride)], 1
    for starts in itertools.product(*(range(0, size * step, step) for size, step in outer)):
        start = offset + sum(starts)
        yield start, start + length


def _union(runs: Iterable[tuple[int, int]]) -> int:
    """How many integers lie in some of the stretches."""
    total = reached = 0
    for start, end in sorted(runs):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total
