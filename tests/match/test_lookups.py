"""Lookups by index: rows, tokens and experts that are picked, and units that are picked alike on both sides."""

from __future__ import annotations

import itertools
import types
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from match import training
from match.models import BATCH, OUT, UNITS, WIDTH, Net, RMSNorm, audit, counts, mlp, outcome
from thinned import thinned
from torch import Tensor, nn
from torch.nn import functional as F

import gaugec
from gaugec.model.picked import Picked

pytestmark = pytest.mark.usefixtures("double")
LENGTH, EXPERTS = 5, 3
ORDER = torch.randperm(UNITS, generator=torch.Generator().manual_seed(1))
SOME = torch.tensor([3, 3, 0, 12, 7])


def twenty_steps(compiled: Any, model: nn.Module, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "STEPS", 20)
    assert training.apart(compiled, model, x) <= 1e-10


def both(m: Any, x: Tensor, one: Tensor, two: Tensor) -> Tensor:
    return F.linear(torch.relu(F.linear(x, m.up.weight[one], m.up.bias[one])), m.down.weight[:, two], m.down.bias)


def gated(m: Any, x: Tensor, one: Tensor, two: Tensor) -> Tensor:
    return F.linear(F.silu(m.gate(x)).index_select(-1, m.order) * m.up(x)[:, one], m.down.weight[:, two])


def between(pick: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    return lambda m, x: F.linear(pick(m, torch.relu(m.up(x))), m.down.weight[:, m.order], m.down.bias)


PICKED: dict[str, tuple[str, Callable[[Any, Tensor], Tensor]]] = {
    "rows and columns": ("relu_rescale", lambda m, x: both(m, x, m.order, m.order)),
    "some, and one twice": ("relu_rescale", lambda m, x: both(m, x, m.some, m.some)),
    "by what the data say": ("relu_rescale", lambda m, x: (lambda i: both(m, x, i, i))(x.sum(0).argsort())),
    "behind the nonlinearity": ("relu_rescale", between(lambda m, h: h[:, m.order])),
    "in front of it": (
        "relu_rescale",
        lambda m, x: F.linear(torch.relu(m.up(x)[:, m.order]), m.down.weight[:, m.order], m.down.bias),
    ),
    "gathered": ("relu_rescale", between(lambda m, h: h.gather(1, m.order.expand(len(h), -1)))),
    "twice": (
        "relu_rescale",
        lambda m, x: F.linear(torch.relu(m.up(x))[:, m.order][:, m.some], m.down.weight[:, m.order][:, m.some]),
    ),
    "gated": ("swiglu_rescale", lambda m, x: gated(m, x, m.order, m.order)),
}


def units(run: Callable[[Any, Tensor], Tensor]) -> Net:
    parts = dict(up=nn.Linear(WIDTH, UNITS), gate=nn.Linear(WIDTH, UNITS), down=nn.Linear(UNITS, OUT))
    return Net(run, **parts, order=ORDER, other=ORDER.flip(0), some=SOME)


@pytest.mark.parametrize("name", thinned(PICKED, 2))
def test_the_same_units_on_both_sides(name: str, spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gauge, run = PICKED[name]
    model, x = units(run), torch.randn(BATCH, WIDTH)
    compiled = audit(spec, model, (x,))
    assert counts(compiled) == {gauge: 1}
    (site,) = compiled.sites
    assert (site.copies, site.size) == (1, UNITS)
    twenty_steps(compiled, model, x, monkeypatch)


OTHERS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "another order": lambda m, x: both(m, x, m.order, m.other),
    "rows alone": lambda m, x: m.down(torch.relu(F.linear(x, m.up.weight[m.order], m.up.bias[m.order]))),
    "columns alone": lambda m, x: F.linear(torch.relu(m.up(x)), m.down.weight[:, m.order]),
    "units alone": lambda m, x: m.down(torch.relu(m.up(x))[:, m.order]),
    "two orders exchanged": lambda m, x: F.linear(
        torch.relu(m.up(x))[:, m.order][:, m.other], m.down.weight[:, m.other][:, m.order]
    ),
    "a sum of both orders": lambda m, x: F.linear(
        torch.relu(m.up(x))[:, m.order] + torch.relu(m.up(x))[:, m.other], m.down.weight[:, m.order]
    ),
    "once more at the end": lambda m, x: F.linear(
        torch.relu(m.up(x))[:, m.order], m.down.weight[:, m.order][:, m.order]
    ),
    "each row of its own": lambda m, x: F.linear(
        torch.relu(m.up(x)).gather(1, x.argsort(-1)), m.down.weight[:, :WIDTH]
    ),
}


@pytest.mark.parametrize("name", thinned(OTHERS, 2))
def test_other_units_on_the_other_side(name: str, spec: str) -> None:
    compiled = audit(spec, units(OTHERS[name]), (torch.randn(BATCH, WIDTH),))
    assert not compiled.sites


def test_the_refusal_names_the_lookup(spec: str) -> None:
    model = mlp(lambda m, h: h[:, m.order], order=ORDER)
    compiled = audit(spec, model, (torch.randn(BATCH, WIDTH),))
    (refusal,) = [r for r in compiled.refusals if r.gauge == "relu_rescale" and r.parameter.startswith("up.weight")]
    assert refusal.reason == "the moved axis is looked up by index, and what it meets is not, or by other indices"
    assert refusal.law == (
        "(c x)[i] = c[i] x[i]: what meets it must be looked up by the same tensor i of indices, along the same axis"
    )


# --- along an axis that does not move


def tokens(run: Callable[[Any, Tensor], Tensor]) -> Net:
    up, down = nn.Linear(WIDTH, UNITS), nn.Linear(UNITS, OUT)
    experts = nn.Parameter(torch.randn(EXPERTS, UNITS, WIDTH)), nn.Parameter(torch.randn(EXPERTS, OUT, UNITS))
    return Net(run, norm=RMSNorm(WIDTH), up=up, down=down, one=experts[0], two=experts[1])


def expert(x: Tensor) -> Tensor:
    return x[:, 0].argmax(-1) % EXPERTS


def last(x: Tensor) -> Tensor:
    return x[..., 0].argmax(-1)


ROWS: dict[str, tuple[dict[str, int], Callable[[Any, Tensor], Tensor]]] = {
    "the last one, by a list": (
        {"relu_rescale": 1},
        lambda m, x: m.down(torch.relu(m.up(x)[:, [-1], :])),
    ),
    "one of every row": (
        {"norm_gain": 1, "relu_rescale": 1},
        lambda m, x: m.down(torch.relu(m.up(m.norm(x)[torch.arange(len(x)), last(x)]))),
    ),
    "gathered": (
        {"relu_rescale": 1},
        lambda m, x: m.down(torch.relu(m.up(x)).gather(1, last(x)[:, None, None].expand(-1, 1, UNITS))),
    ),
    "experts": (
        {"relu_rescale": 1},
        lambda m, x: torch.einsum(
            "bf,bof->bo", torch.relu(torch.einsum("bd,bfd->bf", x[:, 0], m.one[expert(x)])), m.two[expert(x)]
        ),
    ),
    "experts behind a norm": (
        {"norm_gain": 1},
        lambda m, x: torch.einsum("bd,bfd->bf", m.norm(x[:, 0]), m.one[expert(x)]),
    ),
}


@pytest.mark.parametrize("name", thinned(ROWS, 2))
def test_rows_that_are_picked(name: str, spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, run = ROWS[name]
    model, x = tokens(run), torch.randn(BATCH, LENGTH, WIDTH)
    compiled = audit(spec, model, (x,))
    assert counts(compiled) == expected
    twenty_steps(compiled, model, x, monkeypatch)


def test_what_picks_may_not_follow_what_moves(spec: str) -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        h = torch.relu(m.up(x))
        y: Tensor = m.down(h[torch.arange(len(h)), h.sum(-1).argmax(-1)])
        return y

    assert not audit(spec, tokens(run), (torch.randn(BATCH, LENGTH, WIDTH),)).sites


def test_lookups_by_several_tensors_are_lowered_as_torch_does() -> None:
    from gaugec.graph.builder import Builder
    from gaugec.tracing.aten import lowering

    sizes = (4, 5, 6, 7)
    rows, columns = torch.tensor([[0], [3]]), torch.tensor([1, 2, 0])
    for count in range(1, 5):
        for axes in itertools.combinations(range(4), count):
            ids = [rows if n % 2 else columns for n in range(count)]
            given: list[Any] = [None] * 4
            b = Builder()
            x = b.leaf("input", "x", sizes)
            refs: list[Any] = [None] * 4
            for axis, one in zip(axes, ids):
                given[axis], refs[axis] = one, b.leaf("input", f"i{axis}", one.shape)
            wanted = torch.ops.aten.index(torch.zeros(sizes), given)
            made: Any = lowering("aten.index")(b, tuple(wanted.shape), x, refs)  # type: ignore[misc]
            assert made.shape == tuple(wanted.shape)
            assert b.nodes[made.node].type.word == "einsum"


# --- lists of numbers in the model's own code


KEPT = torch.tensor([-1])
ARRAY = np.array([-1])
HELD = {"kept": KEPT}


class Class:
    held = types.MappingProxyType({"kept": torch.tensor([-1])})


def closed() -> Callable[[Any, Tensor], Tensor]:
    kept = torch.tensor([-1])
    return lambda m, h: h[:, kept]


def by_default(m: Any, h: Tensor, kept: Tensor = torch.tensor([-1])) -> Tensor:  # noqa: B008
    return h[:, kept]


def halves(picks: Iterable[Callable[[Any, Tensor], Tensor]]) -> Net:
    """For every `pick` twice as many units as are read: it takes one of [batch, 2, units]."""
    picks = list(picks)

    def run(m: Any, x: Tensor) -> Tensor:
        made = [
            down(torch.relu(pick(m, up(x).view(-1, 2, UNITS)))).reshape(-1, OUT)
            for pick, up, down in zip(picks, m.ups, m.downs)
        ]
        return torch.stack(made).sum(0)

    ups = nn.ModuleList(nn.Linear(WIDTH, 2 * UNITS) for _ in picks)
    net = Net(run, ups=ups, downs=nn.ModuleList(nn.Linear(UNITS, OUT) for _ in picks), buffer=torch.tensor([-1]))
    net.held = {"kept": torch.tensor([-1])}  # type: ignore[assignment]
    return net


LISTS: dict[str, tuple[int, Callable[[Any, Tensor], Tensor]]] = {
    "the last": (UNITS, lambda m, h: h[:, [-1], :]),
    "the first": (0, lambda m, h: h[:, [0]]),
    "behind an ellipsis": (UNITS, lambda m, h: h[..., [1], :]),
    "a tuple": (UNITS, lambda m, h: h[:, (1,)]),
    "a list alone": (UNITS, lambda m, h: h.transpose(0, 1)[[1]].transpose(0, 1)),
    "numbers that are counted": (UNITS, lambda m, h: h[:, list(range(1, 2))]),
}


def test_a_list_of_numbers_picks_what_moves(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = halves(pick for _, pick in LISTS.values()), torch.randn(BATCH, WIDTH)
    compiled = audit(spec, model, (x,))
    assert counts(compiled) == {"relu_rescale": len(LISTS)}
    model(x).sum().backward()
    for site, up, (start, _) in zip(compiled.sites, model.ups, LISTS.values(), strict=True):
        read = {n for n, row in enumerate(up.weight.grad) if bool(row.any())}
        assert read and read <= set(range(start, start + UNITS))
        assert next(b.offset for b in site.bindings if b.parameter.endswith("bias")) == start
    model.zero_grad()
    twenty_steps(compiled, model, x, monkeypatch)


NO_LISTS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "a buffer": lambda m, h: h[:, m.buffer],
    "a tensor on the module": lambda m, h: h[:, m.held["kept"]],
    "a global": lambda m, h: h[:, KEPT],
    "a global dict": lambda m, h: h[:, HELD["kept"]],
    "a dict of a class": lambda m, h: h[:, Class.held["kept"]],
    "a closure": closed(),
    "a default": by_default,
    "a copy of a global": lambda m, h: h[:, KEPT.clone()],
    "an array": lambda m, h: h[:, ARRAY],
    "from_numpy": lambda m, h: h[:, torch.from_numpy(ARRAY)],
    "as_tensor of an array": lambda m, h: h[:, torch.as_tensor(ARRAY)],
    "int32": lambda m, h: h[:, KEPT.to(torch.int32)],
    "counted from a global": lambda m, h: h[:, torch.arange(0, 1, dtype=torch.int32) + KEPT],
    "a view of what is counted": lambda m, h: h[:, torch.arange(0, 2, dtype=torch.int32)[1:].flip(0)],
    "uneven": lambda m, h: torch.stack([h, h], 1).flatten(1, 2)[:, [0, 1, 3]][:, :1],
}


def test_a_tensor_that_somebody_keeps_is_no_list(spec: str) -> None:
    compiled = audit(spec, halves(NO_LISTS.values()), (torch.randn(BATCH, WIDTH),))
    assert not compiled.sites
    said = {r.reason for r in compiled.refusals if r.gauge == "relu_rescale"}
    assert said == {"not supported: the moved axis is looked up by more than one row of indices"}


@pytest.mark.parametrize(
    "pick",
    [
        lambda m, h: h[:, [h.shape[0] % 67 - 6]],
        lambda m, h: h[:, [int(h.shape[0]) % 2]],
        lambda m, h: h[:, [0 if h.shape[0] < 100 else 1]],
    ],
)
def test_a_list_that_follows_a_size_is_seen(pick: Callable[[Any, Tensor], Tensor], spec: str) -> None:
    found = outcome(spec, halves([pick]), (torch.randn(BATCH, WIDTH),))
    assert isinstance(found, gaugec.MatchError) or not found.sites


INDICES: tuple[Any, ...] = (
    [0], [-1], [2, 1, 0], [0, 2], [-3, -2], [1, 1], [0, 1, 3], (0, 2), ([1], slice(1, 3)), (..., [1]),
    (0, ..., [1, 2]), (slice(None), [0], None), ([0, 1], [1, 2]), (slice(None), (1,)), (None, [1]),
    ([True, False, True, False],), ([[0, 1], [1, 0]],), (slice(None), 1, [0]), (1, slice(None), [0, 1]), [],
)  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_what_is_counted_out_is_what_torch_picks(index: Any) -> None:
    x = torch.randn(4, 5, 6, requires_grad=True)
    wanted = x[index]
    (gradient,) = torch.autograd.grad(wanted.square().sum(), x)
    with Picked():
        made = x[index]
    assert torch.equal(made, wanted)
    assert torch.equal(torch.autograd.grad(made.square().sum(), x)[0], gradient)
    if made.numel() and not isinstance(index, tuple):
        with torch.no_grad():
            made.zero_()  # it is a copy
        assert not torch.equal(x[index], made)


@pytest.mark.parametrize("index", [[4], [-5], (slice(None), [9])], ids=str)
def test_a_number_that_is_out_of_range_fails_as_ever(index: Any) -> None:
    with Picked(), pytest.raises(IndexError, match="out of bounds"):
        torch.randn(4, 5)[index]
