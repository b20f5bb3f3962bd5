"""A hidden unit's scale through what moves along space, and past what is zero; what is near is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from match.models import Net, audit, counts
from match.training import apart
from thinned import thinned
from torch import Tensor, nn
from torch.nn import functional as F

import gaugec

pytestmark = pytest.mark.usefixtures("double")

RELU = "relu_mlp"
UNITS = 6


def conv(a: int, b: int, kind: type[nn.Module] = nn.Conv2d, **settings: Any) -> nn.Module:
    return kind(a, b, **{"kernel_size": 3, "padding": 1, **settings})


def two(between: Callable[..., Any] = lambda m, h: h, **parts: Any) -> Net:
    """b(between(relu(a(x)))) of two convolutions, on images of 3 channels."""
    own: dict[str, Any] = {"a": conv(3, UNITS), "b": conv(UNITS, 5)}
    return Net(lambda m, x: m.b(between(m, torch.relu(m.a(x)))), **{**own, **parts})


def written(m: Any, h: Tensor) -> Tensor:
    z = h.new_zeros(h.shape[0], UNITS, h.shape[2] + 1, h.shape[3])
    z[:, :, :-1] = h
    return z


def skips(m: Any, x: Tensor) -> Any:
    """A U-Net of one step: what is joined along the channels is read by one convolution."""
    h = torch.relu(m.a(x))
    return m.b(torch.cat([F.interpolate(torch.relu(m.down(F.max_pool2d(h, 2))), scale_factor=2), h], 1))


def mask(h: Tensor) -> Tensor:
    return torch.ones(h.shape[2:], dtype=torch.bool).tril()


def windows(h: Tensor, axis: int) -> Tensor:
    """An axis that is cut into windows and put together again."""
    return h.unflatten(axis, (2, -1)).flatten(axis, axis + 1)


THROUGH: dict[str, Callable[[], Net]] = {
    "maximum over windows": lambda: two(lambda m, h: F.max_pool2d(h, 3, 2, 1)),
    "maximum, with places": lambda: two(lambda m, h: F.max_pool2d(h, 2, return_indices=True)[0]),
    "maximum, adaptive": lambda: two(lambda m, h: F.adaptive_max_pool2d(h, 2)),
    "nearest": lambda: two(lambda m, h: F.interpolate(h, scale_factor=2)),
    "bilinear": lambda: two(lambda m, h: F.interpolate(h, scale_factor=2, mode="bilinear")),
    "transposed reader": lambda: two(b=conv(UNITS, 5, nn.ConvTranspose2d, stride=2)),
    "transposed writer": lambda: two(a=conv(3, UNITS, nn.ConvTranspose2d, stride=2)),
    "grouped reader": lambda: two(b=conv(UNITS, 4, groups=2)),
    "grouped writer": lambda: two(a=conv(3, UNITS, groups=3)),
    "depthwise reader": lambda: two(b=conv(UNITS, UNITS, groups=UNITS)),
    "padded": lambda: two(lambda m, h: F.pad(h, (1, 2, 0, 1))),
    "reflected": lambda: two(lambda m, h: F.pad(h, (1, 1, 1, 1), mode="reflect")),
    "joined with zeros": lambda: two(lambda m, h: torch.cat([h, torch.zeros_like(h[:, :, :1])], 2)),
    "filled": lambda: two(lambda m, h: h.masked_fill(mask(h), 0.0)),
    "chosen, else zeros": lambda: two(lambda m, h: torch.where(mask(h), h, torch.zeros_like(h))),
    "written into zeros": lambda: two(written),
    "dropped by channel": lambda: two(lambda m, h: m.drop(h), drop=nn.Dropout2d(0.3)),
    "shuffled": lambda: two(lambda m, h: F.pixel_shuffle(h, 2), a=conv(3, 4 * UNITS)),
    "unfolded": lambda: Net(
        lambda m, x: torch.einsum("bchtk,oc->boht", torch.relu(m.a(x)).unfold(3, 3, 2), m.b),
        a=conv(3, UNITS), b=nn.Parameter(torch.randn(5, UNITS)),
    ),
    "patches": lambda: Net(
        lambda m, x: torch.einsum("nckl,oc->nokl", F.unfold(torch.relu(m.a(x)), 3).unflatten(1, (UNITS, 9)), m.b),
        a=conv(3, UNITS), b=nn.Parameter(torch.randn(5, UNITS)),
    ),
    "largest of a row": lambda: Net(
        lambda m, x: m.b(torch.relu(m.a(x)).max(3)[0].amax(2)), a=conv(3, UNITS), b=nn.Linear(UNITS, 5)
    ),
    "joined twice": lambda: two(lambda m, h: torch.cat([h, h], 1), b=conv(2 * UNITS, 5)),
    "joined twice, and added up": lambda: two(lambda m, h: sum(torch.cat([h, 2 * h], 1).chunk(2, 1))),
    "rolled across windows": lambda: two(lambda m, h: windows(windows(h, 2).roll((-3, 1), (2, 3)), 2)),
    "several readers": lambda: Net(
        lambda m, x: (lambda h: m.b(h) + m.c(h))(torch.relu(m.a(x))),
        a=conv(3, UNITS), b=conv(UNITS, 5), c=conv(UNITS, 5),
    ),
    "skipped": lambda: Net(skips, a=conv(3, UNITS), down=conv(UNITS, 8), b=conv(UNITS + 8, 5)),
}  # fmt: skip


@pytest.mark.parametrize("name", thinned(THROUGH, 3))
def test_a_scale_goes_through(name: str) -> None:
    model, x = THROUGH[name](), torch.randn(2, 3, 8, 8)
    compiled = audit(RELU, model, (x,))
    assert counts(compiled) == {"relu_rescale": 2 if name == "skipped" else 1}
    assert sorted(site.size for site in compiled.sites) == ([UNITS, 8] if name == "skipped" else [UNITS])
    assert apart(compiled, model, x) <= 1e-12


NEAR: dict[str, tuple[Callable[[], Net], str]] = {
    "padded with ones": (
        lambda: two(lambda m, h: F.pad(h, (1, 1, 1, 1), value=1.0)), "no rule is known for aten.pad with 1.0"
    ),
    "joined with ones": (
        lambda: two(lambda m, h: torch.cat([h, torch.ones_like(h[:, :, :1])], 2)),
        "a moved value is joined with one that does not move",
    ),
    "filled with ones": (
        lambda: two(lambda m, h: h.masked_fill(mask(h), 1.0)), "a value that does not move is added to one that does"
    ),
    "places used": (
        lambda: two(lambda m, h: (lambda y, i: y + i)(*F.max_pool2d(h, 2, return_indices=True))),
        "no rule is known for aten.max_pool2d_with_indices",
    ),
    "maximum over the units": (
        lambda: Net(lambda m, x: m.b(torch.relu(m.a(x)).max(1)[0]), a=conv(3, UNITS), b=nn.Linear(8, 5)),
        "max mixes or bends the moved axis",
    ),
    "squeezed and excited": (
        lambda: two(lambda m, h: h * torch.sigmoid(m.s(h.mean((2, 3))))[:, :, None, None], s=nn.Linear(UNITS, UNITS)),
        "s.weight would have to move in two ways",
    ),
    "rolled across windows of units": (
        lambda: two(lambda m, h: windows(h, 1).roll(1, 1)), "the moved axis is contracted with values that do not move",
    ),
    "joined with what is turned around": (
        lambda: two(lambda m, h: torch.cat([h, h.flip(1)], 1), b=conv(2 * UNITS, 5)),
        "it reads the moved axis in another order or in part",
    ),
    "joined twice, and cut between": (
        lambda: two(lambda m, h: torch.cat([h, h], 1)[:, 3:9], b=conv(UNITS, 5)),
        "it reads the moved axis in another order or in part",
    ),
    "joined with a half of it": (
        lambda: two(lambda m, h: torch.cat([h[:, :3], h], 1), b=conv(9, 5)), "refused on the model: b changes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NEAR)
def test_what_is_near_is_refused(name: str) -> None:
    make, reason = NEAR[name]
    with pytest.raises(gaugec.MatchError, match="relu_rescale finds no site") as caught:
        gaugec.compile(RELU, make(), (torch.randn(2, 3, 8, 8),))
    assert reason in str(caught.value), str(caught.value)


def test_units_that_are_rolled_are_read_where_they_come_to_lie() -> None:
    """All but those that come around are one piece, which another piece stands before."""
    model = Net(lambda m, x: m.b(torch.relu(m.a(x)).roll(2, -1)), a=nn.Linear(4, UNITS), b=nn.Linear(UNITS, 3))
    x = torch.randn(5, 4)
    compiled = audit(RELU, model, (x,))
    assert [[(b.offset, b.group) for b in site.bindings] for site in compiled.sites] == [
        [(0, ((4, 4),)), (0, ((4, 1),)), (2, ((4, 1),))],
        [(16, ((2, 4),)), (4, ((2, 1),)), (0, ((2, 1),))],
    ]
    assert apart(compiled, model, x) <= 1e-12
