"""Actions on random slices: lifts and their transposes, and turns of planes."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings

from gaugec.runtime import actions, frames, solvers
from gaugec.runtime.layout import Slice
from runtime.slices import random, slices

few = settings(max_examples=30, deadline=None)


@few
@given(slices())
def test_products_are_transposes(case: tuple[Slice, tuple[int, ...]]) -> None:
    """<lift(a), u> = <a, transpose(u)>, for every kind of tangent."""
    part, shape = case
    point, update = {"p": random(2, *shape)}, {"p": random(2, *shape, seed=1)}
    c, g = math.prod(n for n, _ in part.copies), math.prod(n for n, _ in part.group)
    a, generator = random(2, c, g, seed=2), solvers.skew(random(2, c, g, g, seed=3))

    def against(values: dict[str, torch.Tensor]) -> torch.Tensor:
        return (values["p"] * update["p"]).sum()

    out = {"p": torch.zeros(2, *shape, dtype=torch.float64)}
    actions.add_scaled(out, point, part, a, 0.5)
    assert torch.allclose(
        against(out), 0.5 * (a * actions.total(actions.products(update, point, ["p"], None), part)).sum()
    )
    out["p"].zero_()
    actions.add_constant(out, part, a, -1.0)
    assert torch.allclose(against(out), -(a * actions.total(update, part)).sum())
    out["p"].zero_()
    actions.add_rotation(out, point, part, generator, 1.0)
    assert torch.allclose(against(out), (generator * solvers.skew(actions.moment(update, point, part))).sum())


@few
@given(slices(pair=True))
def test_turns(case: tuple[Slice, tuple[int, ...]]) -> None:
    part, shape = case
    point, update = {"p": random(2, *shape)}, {"p": random(2, *shape, seed=1)}
    c, g = math.prod(n for n, _ in part.copies), math.prod(n for n, _ in part.group)
    a, b = random(2, c, g, seed=2), random(2, c, g, seed=3)
    out = {"p": torch.zeros(2, *shape, dtype=torch.float64)}
    actions.add_turn(out, point, part, a, 1.0)
    assert torch.allclose((out["p"] * update["p"]).sum(), (a * actions.torque(update, point, part)).sum())
    twice, once = {"p": point["p"].clone()}, {"p": point["p"].clone()}
    actions.turn(twice, part, a)
    actions.turn(twice, part, b)
    actions.turn(once, part, a + b)
    assert torch.allclose(twice["p"], once["p"])
    assert torch.allclose(frames.squares(once, part), frames.squares(point, part))
    small = {"p": point["p"].clone()}
    actions.turn(small, part, 1e-6 * a)
    assert torch.allclose((small["p"] - point["p"]) / 1e-6, out["p"], atol=1e-4)
