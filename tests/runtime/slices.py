"""Random slices of a parameter, and random numbers for them."""

from __future__ import annotations

import math

import torch
from hypothesis import strategies as st

from gaugec.runtime.layout import Slice


@st.composite
def slices(draw: st.DrawFn, pair: bool = False) -> tuple[Slice, tuple[int, ...]]:
    """A slice of a parameter [batch, *shape]: its axes in any order, some of them cut short, so that strides jump."""
    count = draw(st.integers(2, 4))
    sizes = [draw(st.integers(1, 3)) for _ in range(count)]
    slack = [draw(st.integers(0, 1)) for _ in range(count)]
    if pair:
        sizes[0], slack[0] = 2, 0
    order = draw(st.permutations(range(count)))
    whole = [sizes[i] + slack[i] for i in order]
    strides = dict(zip(order, (math.prod(whole[j + 1 :]) for j in range(count))))
    axes = [(sizes[i], strides[i]) for i in range(count)]
    head = (axes.pop(0),) if pair else ()
    offset = draw(st.integers(0, 1)) * sum(slack[i] * strides[i] for i in range(count))
    first = draw(st.integers(0, len(axes)))
    second = draw(st.integers(first, len(axes)))
    part = Slice("p", offset, tuple(axes[:first]), tuple(axes[first:second]), head, tuple(axes[second:]))
    return part, tuple(whole)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
