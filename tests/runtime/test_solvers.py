"""The solvers on random matrices, singular ones too."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaugec.runtime import actions, solvers
from runtime.slices import random

few = settings(max_examples=30, deadline=None)


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


def test_where_few_rounds_do_not_do_sylvester_goes_by_eigenvalues() -> None:
    """Matrix by matrix: one that is easy, one that is hard, and one with a NaN, which spoils no other."""
    x = random(3, 12, 40, seed=1)
    x[1] *= torch.logspace(0, -3, 12, dtype=torch.float64).unsqueeze(-1)
    s = (x @ x.mT).float()
    right = solvers.skew(solvers.skew(random(3, 12, 12, seed=2)).float() @ s)
    exact = solvers.sylvester(s, right, 1e-13)
    right[2, 0, 1] = torch.nan
    for rounds in (1, 4):
        a = solvers.sylvester(s, right, 3e-6, rounds)
        assert torch.allclose(solvers.skew(a @ s)[:2], right[:2], rtol=1e-4, atol=1e-4)
        assert torch.allclose(a[:2].double(), exact[:2], atol=1e-4)


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


@pytest.mark.parametrize("seed", range(4))
def test_a_singular_system_is_solved_to_its_rounding_and_no_further(seed: int) -> None:
    """Rows and columns of one table trade a constant: along that no residual is left but rounding."""
    size = torch.tensor([1e-3], dtype=torch.float64)  # so that nothing is ever small enough
    right = {"rows": 30 * random(1, 7, seed=seed), "columns": 30 * random(1, 5, seed=seed + 9)}
    right["columns"] += (right["rows"].sum() - right["columns"].sum()) / 5

    def gram(x: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        rows, columns = x["rows"], x["columns"]
        return {"rows": 5 * rows + columns.sum(1, keepdim=True), "columns": 7 * columns + rows.sum(1, keepdim=True)}

    a = solvers.solve(gram, right, lambda x: {"rows": x["rows"] / 5, "columns": x["columns"] / 7}, size, 1e-16)
    assert max(float(x.abs().max()) for x in a.values()) < 30
    assert all(torch.allclose(x, right[name], atol=1e-11) for name, x in gram(a).items())


def test_gauges_that_are_off_get_nothing() -> None:
    right = {"a": random(1, 1, 3), "b": random(1, 1, 3)}
    answer = solvers.solve(lambda v: v, right, lambda r: r, torch.ones(1).double(), 1e-12, off={"b"})
    assert torch.allclose(answer["a"], right["a"]) and not answer["b"].any()


def test_equations_that_are_not_solved_in_time_are_warned_of() -> None:
    """Ten eigenvalues take ten rounds."""
    values = torch.logspace(0, -4, 10, dtype=torch.float64)
    right, size = {"a": torch.ones(1, 10, dtype=torch.float64)}, torch.ones(1, dtype=torch.float64)

    def solve(rounds: int) -> torch.Tensor:
        return solvers.solve(lambda x: {"a": values * x["a"]}, right, lambda x: x, size, 1e-6, rounds=rounds)["a"]

    assert torch.allclose(values * solve(40), right["a"], atol=1e-5)
    with pytest.warns(UserWarning, match=r"a step keeps a vertical part of .* were not solved in 2 rounds"):
        solve(2)
