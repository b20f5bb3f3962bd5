"""The component check: elements lie in their groups, numbers are right, and nothing of the prover is used."""

from __future__ import annotations

import ast
import random
from fractions import Fraction
from pathlib import Path

import mpmath
import pytest
from proof.acting import invariant
from proof.models import Model
from proof.statements import SOUND, gauge

import gaugec
from gaugec.graph.statement import Region
from gaugec.language.lower import all_dims, lower
from gaugec.proof.prove import prove_invariance
from gaugec.sampling.elements import compose, element, identity, simplest
from gaugec.sampling.evaluate import Evaluation, Table, inverted, power, table_of
from gaugec.sampling.sample import sample

FILES = sorted((Path(gaugec.__file__).parent / "sampling").glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_shares_no_code_with_the_prover(path: Path) -> None:
    assert len(FILES) >= 7
    tree = ast.parse(path.read_text())
    used = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            used |= {f"{node.module}.{alias.name}" for alias in node.names}
    mine = {name for name in used if name.startswith("gaugec.")}
    own = ("graph", "operators", "groups", "sampling", "limits")
    assert all(name.split(".")[1] in own for name in mine)
    assert not any(name.split(".")[0] == "sympy" for name in used)


def determinant(a: Table, k: int) -> Fraction:
    if k == 1:
        return Fraction(a[0, 0])
    total = Fraction(0)
    for j in range(k):
        minor = {(r - 1, c - (c > j)): a[r, c] for r in range(1, k) for c in range(k) if c != j}
        total += (-1) ** j * a[0, j] * determinant(minor, k - 1)
    return total


@pytest.mark.parametrize("group", ["orthogonal", "orthogonal_ones", "torus"])
def test_rotations_are_orthogonal_and_of_both_determinants(group: str) -> None:
    signs = set()
    for turn in range(8):
        k = 4
        r = element(group, k, random.Random(turn), turn)
        transposed = {(j, i): v for (i, j), v in r.items()}
        assert compose(group, r, transposed, k) == identity(group, k)
        if group == "orthogonal_ones":
            assert all(sum(r[i, j] for j in range(k)) == 1 for i in range(k))
        if group == "torus":
            assert all(r[i, j] == 0 for i, j in r if (i - j) % 2)
            assert all(r[p, p] == r[p + 2, p + 2] and r[p, p + 2] == -r[p + 2, p] for p in range(2))
        signs.add(determinant(r, k))
    assert signs == ({Fraction(1)} if group == "torus" else {Fraction(1), Fraction(-1)})


def test_other_elements() -> None:
    rng = random.Random(0)
    assert all(v > 0 and v != 1 for v in element("positive", 5, rng).values())
    pairs = element("positive_pairs", 6, rng)
    assert all(pairs[p,] == pairs[p + 3,] for p in range(3))
    assert all(v != 0 for v in element("translation", 5, rng).values())
    t = element("invertible", 4, rng)
    assert compose("invertible", t, inverted(t, 4), 4) == identity("invertible", 4)
    with pytest.raises(ZeroDivisionError):
        inverted({(0, 0): Fraction(0)}, 1)
    for group in ("positive", "orthogonal", "orthogonal_ones", "torus", "invertible", "translation"):
        for one in simplest(group, 4):
            assert one != identity(group, 4)


def test_numbers_are_exact_or_have_sixty_digits() -> None:
    assert power(Fraction(2, 3), Fraction(-2)) == Fraction(9, 4)
    with pytest.raises(ValueError, match="root"):
        power(Fraction(-1), Fraction(1, 2))
    with pytest.raises(ZeroDivisionError):
        power(Fraction(0), Fraction(-1, 2))
    m = Model()
    b, x = m.b, m.input("x", 2)
    y = b.along("softmax", x, [0], keep=True)
    (id,) = m.freeze(b.total(y, [0]))
    with mpmath.workdps(60):
        table = table_of(Evaluation(m.graph, {m.node(x): {(0,): Fraction(1, 3), (1,): Fraction(-2)}}), id)
        assert abs(table[next(iter(table))] - 1) < mpmath.mpf(10) ** -58


def test_what_cannot_be_evaluated_is_no_agreement() -> None:
    own = gauge(*SOUND["relu"])

    def broken(sizes: dict[str, int]) -> object:
        raise RuntimeError("no such size")

    agreement = sample(broken, all_dims(own))  # type: ignore[arg-type]
    assert not agreement and "no such size" in agreement.reason
    assert sample(lambda sizes: lower(own, sizes), all_dims(own), seed=5)


def network(fused: bool, up: str) -> tuple[Model, int, list[Region]]:
    """A gated unit in one weight or two, with the regions of its scale and one wrong exponent to choose from."""
    m = Model()
    b, x = m.b, m.input("x", 2, 3)
    w = m.param("w", 8 if fused else 4, 3)
    h = m.linear(x, w)
    if fused:
        gate, value = b.split(h, -1, [4, 4])
        h = b.mul(b.map("silu", gate), b.map(up, value) if up else value)
    elif up:
        h = b.map(up, h)
    v = m.param("v", 2, 4)
    (id,) = m.freeze(m.linear(h, v))
    first = m.region(w, [[("skip", 4), ("group", 4)] if fused else [("group", 4)], [("rest", 3)]], "scale")
    back = [m.region(v, [[("rest", 2)], [("group", 4)]], "scale", e) for e in (-1, 1)]
    return m, id, [first, *back]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("up", ["", "relu", "abs", "silu", "tanh"])
def test_proofs_on_models_agree_with_brute_force(fused: bool, up: str) -> None:
    m, id, (first, right, wrong) = network(fused, up)
    for regions in ((first, right), (first, wrong), (first,), (right,)):
        theorem = prove_invariance(m.graph, (id,), regions, "positive")
        truth = all(invariant(m.graph, (id,), regions, "positive", seed=seed) for seed in range(1))
        assert bool(theorem) is truth


@pytest.mark.parametrize(
    "bend", ["max(x, 0) - max(x - 6, 0)", "max(x, 0) - max(x - 40, 0)", "max(x, 0) + abs(x - 9) + x - 9"]
)
def test_a_bend_that_lies_far_from_zero_is_met(bend: str) -> None:
    """Every maximum and every modulus of an operator's definition is asked for both of its sides, each for itself."""
    parts = ("k", "x[k]", "g[k], w[k]", "y = bend(x * g) * w", "c in positive(k)", "g -> c * g; w -> 1/c * w", "y")
    own = gauge(*parts, f"op bend(x) = {bend}")
    for seed in range(4):
        assert sample(lambda sizes: lower(own, sizes), all_dims(own), samples=3, seed=seed).reason


def test_both_sides_of_a_maximum_in_a_formula_are_met() -> None:
    parts = ("k", "x[k]", "g[k]", "y = max(x @ g, 1)", "c in positive(k)", "g -> c * g", "y")
    own = gauge(*parts)
    for seed in range(8):
        agreement = sample(lambda sizes: lower(own, sizes), all_dims(own), samples=1, seed=seed)
        assert agreement.reason or not agreement.both
