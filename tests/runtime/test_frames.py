"""Scales of frames, where numbers end."""

from __future__ import annotations

import pytest
import torch

from gaugec.runtime import frames


@pytest.mark.parametrize("value", [0.0, float("inf"), float("nan"), 1e-300, 1e300])
def test_no_scale_is_ever_out_of_hand(value: float) -> None:
    scale = torch.tensor([[[value, 2.0]]], dtype=torch.float64)
    assert frames.alive(scale).tolist() == [[[False, True]]]
    for live in (frames.alive(scale), torch.ones_like(scale, dtype=torch.bool)):
        settled = frames.settle(scale, live)
        assert settled.isfinite().all() and (settled > 0).all() and settled[0, 0, 1] == 2
    assert frames.settle(scale, frames.alive(scale))[0, 0, 0] == 1
