"""Laws of the linear algebra, on random layouts and numbers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaugec.runtime import actions, frames, layout, pooling, solvers
from gaugec.runtime.layout import Slice
from gaugec.runtime.pooling import Piece

few = settings(max_examples=30, deadline=None)


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


@few
@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 99))
def test_sylvester_solves(k: int, rank: int, seed: int) -> None:
    """Also where S is singular: then on the range."""
    x = random(3, k, rank, seed=seed)
    s = x @ x.mT
    right = solvers.skew(solvers.skew(random(3, k, k, seed=seed + 1)) @ s)
    for tolerance, close in ((1e-13, 1e-9), (1e-6, 1e-3)):
        a = solvers.sylvester(s, right, tolerance)
        assert torch.allclose(a, -a.mT, atol=1e-9)
        assert torch.allclose(solvers.skew(a @ s), right, atol=close * (1 + float(right.abs().max())))
        assert a.isfinite().all()


def test_sylvester_of_nothing_is_nothing() -> None:
    zero = torch.zeros(2, 4, 4, dtype=torch.float64)
    for tolerance in (1e-13, 1e-6):
        assert torch.equal(solvers.sylvester(zero, zero, tolerance), zero)


@few
@given(st.integers(2, 6), st.integers(0, 99))
def test_ones_stay_where_they_are(k: int, seed: int) -> None:
    ones = torch.ones(k, dtype=torch.float64)
    basis = solvers.ones_basis(k, ones)
    assert torch.allclose(basis.mT @ basis, torch.eye(k - 1, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(basis.mT @ ones, torch.zeros(k - 1, dtype=torch.float64), atol=1e-12)
    s, right = random(1, k, 9, seed=seed), solvers.skew_ones(random(1, k, k, seed=seed + 1))
    s = s @ s.mT
    a = solvers.sylvester_ones(s, right, 1e-13)
    assert torch.allclose(solvers.skew_ones(a @ s), right, atol=1e-9)
    assert torch.allclose(a @ ones, torch.zeros(1, k, dtype=torch.float64), atol=1e-10)
    element = actions.random_element("rotate ones", 1, k, 1, torch.Generator().manual_seed(seed))[0, 0]
    assert torch.allclose(element @ ones, ones) and torch.allclose(element @ element.mT, torch.eye(k).double())


@few
@given(st.integers(1, 12), st.integers(0, 12), st.integers(0, 99))
def test_conjugate_gradients_also_where_singular(n: int, extra: int, seed: int) -> None:
    x = random(2, n, n + extra, seed=seed)  # n + extra unknowns, rank n: singular and consistent
    g = x.mT @ x
    right = {"a": (g @ random(2, n + extra, 1, seed=seed + 1)).squeeze(-1)}
    diagonal = g.diagonal(dim1=-2, dim2=-1)
    a = solvers.solve(
        lambda v: {"a": (g @ v["a"].unsqueeze(-1)).squeeze(-1)},
        right,
        lambda r: {"a": r["a"] / diagonal},
        torch.ones(2, dtype=torch.float64),
        1e-12,
        rounds=2000,
    )
    assert torch.allclose((g @ a["a"].unsqueeze(-1)).squeeze(-1), right["a"], atol=1e-7)


def test_gauges_that_are_off_get_nothing() -> None:
    right = {"a": random(1, 1, 3), "b": random(1, 1, 3)}
    answer = solvers.solve(lambda v: v, right, lambda r: r, torch.ones(1).double(), 1e-12, off={"b"})
    assert torch.allclose(answer["a"], right["a"]) and not answer["b"].any()


def test_pools_average_and_spread() -> None:
    pieces = (Piece(0, ((2, 6, False), (3, 2, True), (2, 1, False))), Piece(12, ((4, 1, False),)))
    x = random(2, 16)
    pooled = pooling.pool(x, pieces)
    assert pooled.shape == (2, 8)
    full = pooling.unpool(pooled, pieces, torch.empty(2, 16, dtype=torch.float64))
    assert torch.allclose(
        full[:, :12].view(2, 2, 3, 2), x[:, :12].view(2, 2, 3, 2).mean(2, keepdim=True).expand(2, 2, 3, 2)
    )
    assert torch.equal(full[:, 12:], x[:, 12:])
    assert torch.allclose(pooling.pool(full, pieces), pooled)
    assert torch.allclose(pooling.blur(x, pieces[:1]), full)


@pytest.mark.parametrize("value", [0.0, float("inf"), float("nan"), 1e-300, 1e300])
def test_no_scale_is_ever_out_of_hand(value: float) -> None:
    scale = torch.tensor([[[value, 2.0]]], dtype=torch.float64)
    assert frames.alive(scale).tolist() == [[[False, True]]]
    for live in (frames.alive(scale), torch.ones_like(scale, dtype=torch.bool)):
        settled = frames.settle(scale, live)
        assert settled.isfinite().all() and (settled > 0).all() and settled[0, 0, 1] == 2
    assert frames.settle(scale, frames.alive(scale))[0, 0, 0] == 1
