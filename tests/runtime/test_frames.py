"""Scales of frames, where numbers end."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gaugec.runtime.frames import FAR, FAR_HALF, Point, alive
from gaugec.runtime.groups import Positive, Row


@pytest.mark.parametrize("value", [0.0, float("inf"), float("nan"), 1e-300, 1e300, FAR, 1 / FAR, -1.0])
def test_no_scale_is_ever_out_of_hand(value: float) -> None:
    scale = torch.tensor([[[value, 2.0]]], dtype=torch.float64)
    assert alive(scale).tolist() == [[[False, True]]]
    gauge = Positive("units", copies=1, size=2).moves(Row("W", "w", "k", power=1))
    gauge.bind({"w": (2,)})

    def settled(held: Any, off: frozenset[str] = frozenset()) -> tuple[list[float], list[bool]]:
        point = Point({"units": gauge}, {}, {"w": torch.ones(1, 2, dtype=torch.float64)}, held, None, off)
        point.settle("units", lambda norm: scale * norm("W"))
        return point.found["units"][0, 0].tolist(), point.live["units"][0, 0].tolist()

    held = {"units": torch.tensor([[[5.0, 7.0]]], dtype=torch.float64)}
    assert settled(None) == ([1.0, 2.0], [False, True])
    assert settled(held) == ([5.0, 2.0], [False, True])
    assert settled(held, frozenset({"units"})) == ([1.0, 1.0], [False, False])


def test_a_unit_that_comes_back_has_its_scale_when_that_is_near() -> None:
    gauge = Positive("units", copies=1, size=4).moves(Row("W", "w", "k", power=1))
    gauge.bind({"w": (4,)})
    params = {"w": torch.tensor([[1e-3, 0.2, 5.0, 1e-3]], dtype=torch.float64)}
    held = {"units": torch.ones(1, 1, 4, dtype=torch.float64)}
    was = {"units": torch.tensor([[[False, False, False, True]]])}
    point = Point({"units": gauge}, {}, params, held, was)
    point.settle("units", lambda norm: 1 / norm("W"))
    assert point.found["units"].tolist() == [[[1.0, 5.0, 0.2, 1000.0]]]
    assert point.live["units"].tolist() == [[[False, True, True, True]]]


def test_a_circle_of_scales_holds_what_is_lost_on_the_way() -> None:
    gauge = Positive("units", copies=1, size=3).moves(Row("W", "w", "k", power=1))
    gauge.bind({"w": (3,)})
    params = {"w": torch.tensor([[2.0, 4.0, 0.0]], dtype=torch.float64)}
    held = {"units": torch.tensor([[[9.0, 9.0, 3.0]]], dtype=torch.float64)}
    point = Point({"units": gauge}, {}, params, held)
    point.start("units", lambda norm: 1 / norm("W"))
    for _ in point.rounds(3):
        point.settle("units", lambda norm: 8 / norm("W"))
    assert point.found["units"].tolist() == [[[4.0, 2.0, 3.0]]]
    assert point.live["units"].tolist() == [[[True, True, False]]]


def test_float16_ends_earlier() -> None:
    scale = torch.tensor([0.5 / FAR_HALF, 2 / FAR_HALF, FAR_HALF / 2, 2 * FAR_HALF], dtype=torch.float64)
    assert alive(scale, FAR_HALF).tolist() == [False, True, True, False]
