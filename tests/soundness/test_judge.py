"""The judge is right where the truth is known, and can say every one of its words."""

from __future__ import annotations

import numpy as np
import pytest
from proof.statements import BIASES, GAIN, MLP, SOUND, STREAM, TWO, VALUES, WRONG, gauge
from soundness.drawing import MATRICES, compose, element, identity
from soundness.judge import judge, rope, sizes_of

from gaugec.groups import GROUPS

ONE = ("n, k", "x[n, k]", "W[k]")


@pytest.mark.parametrize("name", SOUND)
def test_sound(name: str) -> None:
    assert judge(gauge(*SOUND[name])).verdict == "sound"


@pytest.mark.parametrize("name", WRONG)
def test_wrong(name: str) -> None:
    judged = judge(gauge(*WRONG[name]))
    assert judged.verdict == "unsound" and judged.reason


@pytest.mark.parametrize("seed", range(1, 6))
def test_chance_does_not_matter(seed: int) -> None:
    assert all(judge(gauge(*parts), seed=seed).verdict == "sound" for parts in SOUND.values())
    assert all(judge(gauge(*parts), seed=seed).verdict == "unsound" for parts in WRONG.values())


SCALE = ("n, d", "x[n, d]", "E[n, d]")
ROWS = ("c in positive(n)", "E -> diag(c) @ E", "y")

CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "eps": ("approximate", (*SCALE, "y = rms_norm(E) + x", *ROWS)),
    "eps is some number": ("approximate", (*SCALE, "y = rms_norm(E, eps=1e-30) + x", *ROWS)),
    "eps does not excuse": (
        "unsound",
        (*SCALE, "y = rms_norm(E) + x", "c in positive(d)", "E -> E @ diag(c)", "y"),
    ),
    "no value": ("unjudged", (*SCALE, "y = (-(x * x) - E * E)**(1/2)", *ROWS)),
    "values somewhere": (
        "sound",
        ("n, d, f", "x[n, d]", "W1[f, d], W2[d, f]", "y = ((x @ W1.T) @ W2.T)**(1/2)")
        + ("c in positive(f)", "W1 -> diag(c) @ W1; W2 -> W2 @ diag(1/c)", "y"),
    ),
    "nothing moves": ("unsound", (*ONE, "y = x + W", "R in orthogonal(k)", "W -> R.T @ R @ W", "y")),
    "no identity": ("unsound", (*ONE, "y = x + 0 * W", "R in orthogonal(k)", "W -> 2 * (R @ W)", "y")),
    "no action": (
        "unsound",
        (*BIASES, "s = softmax((x @ Wq.T + bq) @ (z @ Wk.T + bk).T)", "a in translation(k)")
        + ("bk -> bk + a + a * a", "s"),
    ),
    "two orders": (
        "unsound",
        ("n, k", "x[n, k]", "W[k], V[k]", "y = x + 0 * W + 0 * V")
        + ("R in orthogonal(k)", "W -> R @ W; V -> V @ R", "y"),
    ),
    "one order": (
        "sound",
        ("n, k", "x[n, k]", "W[k], V[k]", "y = x + 0 * W + 0 * V")
        + ("R in orthogonal(k)", "W -> W @ R; V -> V @ R", "y"),
    ),
    "masks are drawn apart": (
        "unsound",
        ("n, d", "x[n, d]", "W[n, d]", "y = dropout(W) - dropout(W) + x")
        + ("c in positive(n)", "W -> diag(c) @ W", "y"),
    ),
    "one mask": (
        "sound",
        ("n, d, e, f", "x[n, d]", "W1[f, d], W2[e, f]", "h = dropout(relu(x @ W1.T)); y = h @ W2.T")
        + ("c in positive(f)", "W1 -> diag(c) @ W1; W2 -> W2 @ diag(1/c)", "y"),
    ),
    "dropout on a rotated axis": (
        "unsound",
        (*VALUES, "y = dropout(A @ (x @ Wv.T + bv)) @ Wo.T", "R in orthogonal(k)")
        + ("Wv -> R @ Wv; bv -> R @ bv; Wo -> Wo @ R.T", "y"),
    ),
    "far from zero": (
        "unsound",
        (*MLP, TWO.format(f="clip"), "c in positive(f)", "W1 -> diag(c) @ W1; b1 -> c * b1; W2 -> W2 @ diag(1/c)")
        + ("y", "op clip(x) = max(x, 0) - max(x - 20, 0)"),
    ),
    "both signs": (
        "unsound",
        (*GAIN, "y = (x * max(g, 0)) @ W.T", "R in orthogonal(d)", "g -> R @ g; W -> W @ R.T", "y"),
    ),
    "either determinant": (
        "sound",
        (*STREAM, "y = rms_norm(x @ E.T) @ W.T", "R in orthogonal(d)", "E -> R @ E; W -> W @ R.T", "y"),
    ),
    "rotary, the wrong axis": (
        "unsound",
        ("n, d, k", "x[n, d]", "W[k, d], V[k, d]", "s = x @ rope(W.T) @ rope(V.T).T")
        + ("R in torus(d)", "W -> W @ R; V -> V @ R", "s"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_words(name: str) -> None:
    verdict, parts = CASES[name]
    judged = judge(gauge(*parts))
    assert judged.verdict == verdict, judged


def test_a_target_is_a_given_value() -> None:
    parts = ("n, v", "h[n, v], t[n]", "U[v]", "loss = cross_entropy(h + U, abs(t))", "a in translation(v)")
    assert judge(gauge(*parts, "U -> U + a", "loss")).verdict == "unjudged"


@pytest.mark.parametrize("group", GROUPS)
def test_elements_are_in_their_groups(group: str) -> None:
    rng = np.random.default_rng(0)
    signs, k = set(), 6
    for turn in range(8):
        g, h = (element(group, k, 0.8, (turn + extra) % 2 == 1, rng) for extra in (0, 1))
        product = compose(group, g, h)
        assert np.allclose(compose(group, g, identity(group, k)), g)
        assert not np.allclose(g, identity(group, k), atol=1e-2)
        for one in (g, h, product):
            if group in ("orthogonal", "orthogonal_ones", "torus"):
                assert np.allclose(one @ one.T, np.eye(k))
            if group == "orthogonal_ones":
                assert np.allclose(one @ np.ones(k), np.ones(k))
            if group == "torus":
                assert np.allclose(one[:3, :3], one[3:, 3:]) and np.allclose(one[:3, 3:], -one[3:, :3])
            if group == "invertible":
                assert np.linalg.cond(one) < 100
            if group in ("positive", "positive_pairs"):
                assert (one > 0).all()
            if group == "positive_pairs":
                assert np.allclose(one[:3], one[3:])
        if group in MATRICES:
            signs.add(np.sign(np.linalg.det(g)))
            commute = np.allclose(g @ h, h @ g)
            assert commute is (group == "torus")
    if group in MATRICES:
        assert signs == ({1.0} if group == "torus" else {1.0, -1.0})


def test_rotary_angles_depend_on_the_difference_of_positions() -> None:
    q, k = (np.tile(np.random.default_rng(seed).normal(size=4), (5, 1)) for seed in (0, 1))
    scores = rope(q) @ rope(k).T
    assert np.allclose(np.diag(scores), scores[0, 0]) and np.allclose(np.diag(scores, 1), scores[0, 1])
    assert not np.allclose(scores[0, 1], scores[1, 0])


def test_sizes_differ_and_pairs_are_even() -> None:
    own = gauge(*SOUND["rope"])
    for turn in range(4):
        sizes = sizes_of(own, turn)
        assert len(set(sizes.values())) == len(sizes) and sizes["k"] % 2 == 0
    assert sizes_of(own, 0) != sizes_of(own, 1)
