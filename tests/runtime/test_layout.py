"""Slices: what is cut by permuting a dense run is what strides say."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings

from gaugec.runtime import layout
from gaugec.runtime.layout import Slice
from runtime.slices import random, slices

few = settings(max_examples=30, deadline=None)


@few
@given(slices())
def test_dense_slices_are_the_strided_ones(case: tuple[Slice, tuple[int, ...]]) -> None:
    part, shape = case
    x = {"p": random(2, *shape)}
    view = layout.cut(x, part)
    axes = part.copies + part.group + part.rest
    want = x["p"].as_strided([2, *(n for n, _ in axes)], [math.prod(shape), *(s for _, s in axes)], part.offset)
    assert torch.equal(view, want)
    assert view.untyped_storage().data_ptr() == x["p"].untyped_storage().data_ptr()
