"""Rotary embedding as it is written elsewhere: neighbours in tables of full length, and on a part of a head."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from match.models import Attention, angles, audit, counts, rope_halves, rope_pairs
from match.training import apart
from torch import Tensor, nn

pytestmark = pytest.mark.usefixtures("double")
VALUES, BOTH = {"value_rotation": 1}, {"value_rotation": 1, "qk_rotation_rope": 1}


def tokens() -> Tensor:
    return torch.randn(3, 5, 13)


def neighbours(x: Tensor, sign: float = -1.0) -> Tensor:
    """(-x1, x0, -x3, x2, ...)"""
    return torch.stack((sign * x[..., 1::2], x[..., ::2]), -1).flatten(-2)


def by_a_full_table(x: Tensor, sign: float = -1.0) -> Tensor:
    angle = angles(*x.shape[-2:]).repeat_interleave(2, -1)
    return x * angle.cos() + neighbours(x, sign) * angle.sin()


def by_half_of_a_table(x: Tensor) -> Tensor:
    """The table is made for halves and read for neighbours."""
    angle = angles(*x.shape[-2:])
    cos, sin = (torch.cat([t, t], -1)[..., : t.shape[-1]].repeat_interleave(2, -1) for t in (angle.cos(), angle.sin()))
    return x * cos + neighbours(x) * sin


def by_a_table_for_halves(x: Tensor) -> Tensor:
    """Neighbours, each with an angle of its own: no rotation."""
    angle = angles(*x.shape[-2:]).repeat(1, 2)
    return x * angle.cos() + neighbours(x) * angle.sin()


class Frozen(nn.Module):
    """Rotates neighbours by a table of sines and cosines that is kept as a parameter, and read without a gradient."""

    def __init__(self, table: Callable[[Tensor], Tensor], trained: bool = False) -> None:
        super().__init__()
        angle = angles(90, 6)
        self.rows = nn.Embedding.from_pretrained(torch.cat([table(angle.sin()), table(angle.cos())], -1))
        self.trained = trained
        self.rows.weight.requires_grad_(trained)

    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.trained):
            rows = self.rows(torch.arange(x.shape[-2]))
        sin, cos = (half.repeat_interleave(6 // half.shape[-1], -1) for half in rows.chunk(2, -1))
        return x * cos + neighbours(x) * sin


def in_part(rope: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.cat([rope(x[..., :4]), x[..., 4:]], -1)


NEIGHBOURS: dict[str, Callable[[Tensor], Tensor]] = {
    "a table of full length": by_a_full_table,
    "half of a table of full length": by_half_of_a_table,
    "a part of the head": in_part(by_a_full_table),
    "a part of the head, pair by pair": in_part(rope_pairs),
}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_neighbours_may_turn(name: str, spec: str) -> None:
    model, x = Attention(on_q=NEIGHBOURS[name], on_k=NEIGHBOURS[name]), tokens()
    compiled = audit(spec, model, (x,))
    assert counts(compiled) == BOTH
    (site,) = (s for s in compiled.sites if s.gauge == "qk_rotation_rope")
    assert (site.verdict, site.pairing, site.copies, site.size) == ("proved", "interleaved", 2, 6)
    assert apart(compiled, model, x) < 1e-12


def mirrored(x: Tensor) -> Tensor:
    return by_a_full_table(x, 1.0)


@pytest.mark.parametrize("trained", [False, True])
def test_a_table_that_is_a_parameter(trained: bool, spec: str) -> None:
    rope = Frozen(lambda angle: angle, trained)
    compiled = audit(spec, Attention(on_q=rope, on_k=rope), (tokens(),))
    assert counts(compiled) == BOTH


def test_a_table_with_an_angle_for_each_coordinate(spec: str) -> None:
    rope = Frozen(lambda angle: angle.repeat(1, 2))
    compiled = audit(spec, Attention(on_q=rope, on_k=rope), (tokens(),))
    assert counts(compiled) == VALUES
    reason = "not decided on the model: not supported: the pairs do not align with the axes of the parameter"
    assert reason in {r.reason for r in compiled.refusals if r.gauge == "qk_rotation_rope"}


AT = "qk_rotation_rope at asks.weight: "
OTHERS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], str]] = {
    "an angle for each coordinate": (
        by_a_table_for_halves,
        by_a_table_for_halves,
        "no rule is known for aten.slice (a slice across the digits of an axis) at aten.slice",
    ),
    "planes that are mirrored": (
        mirrored,
        mirrored,
        "not decided on the model: not supported: the pairs do not align with the axes of the parameter at aten.matmul",
    ),
    "queries by neighbours, keys by halves": (
        by_a_full_table,
        rope_halves,
        "the moved axis is contracted at aten.matmul, where the formula has no such step",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_rotation_may_not(name: str, spec: str) -> None:
    on_q, on_k, reason = OTHERS[name]
    compiled = audit(spec, Attention(on_q=on_q, on_k=on_k), (tokens(),))
    assert counts(compiled) == VALUES
    assert AT + reason in [str(refused) for refused in compiled.refusals]
