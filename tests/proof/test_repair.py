"""A repair is the nearest edit, it is always proved, and there is none where none exists."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from proof.evaluating import change
from proof.statements import SOUND, WRONG, gauge
from thinned import thinned

import gaugec.specs
from gaugec.groups import GROUPS, ONE
from gaugec.language import tree as t
from gaugec.language.check import check, check_gauge
from gaugec.language.edits import Edit, edits
from gaugec.language.lower import all_dims, lower
from gaugec.language.parse import parse
from gaugec.pipeline import repair as repairs
from gaugec.pipeline.repair import repair
from gaugec.proof.prove import Theorem, prove_statement
from gaugec.sampling.elements import element
from gaugec.sampling.sample import Agreement
from gaugec.sampling.search import search

SQUARE = ("n, d", "x[n, d]", "W1[d, d], W2[d, d]", "y = relu(x @ W1.T) @ W2.T", "c in positive(d)")
STREAM = ("n, d, e", "x[n, e]", "E[d, e], W[d, d], V[e, d]", "y = (x @ E.T) @ W.T @ V.T", "R in orthogonal(d)")
INVERTED = ("n, m, d, k", "x[m, d], A[n, m]", "Wv[k, d], Wo[d, k]", "y = A @ (x @ Wv.T) @ Wo.T", "T in invertible(k)")
LOGITS = ("n, d, v", "h[n, d], t[n]", "U[v, d], b[v]", "loss = cross_entropy(h @ U.T + b, t)")
OTHER: dict[str, tuple[str, ...]] = {
    "a wrong side": (*SQUARE, "W1 -> W1 @ diag(c); W2 -> W2 @ diag(1/c)", "y"),
    "one side of two": (*STREAM, "E -> R @ E; W -> R @ W; V -> V @ R.T", "y"),
    "a transpose for an inverse": (*INVERTED, "Wv -> T @ Wv; Wo -> Wo @ T.T", "y"),
    "an inverse transposed": (*INVERTED, "Wv -> T @ Wv; Wo -> Wo @ inv(T).T", "y"),
    "a vector of classes moved": (*LOGITS, "a in translation(d)", "U -> U + outer(ones(v), a) + outer(b, a)", "loss"),
    "an action too many": (
        "n, d, k",
        "x[n, d]",
        "Wv[k, d], Wo[d, k], U[k, d]",
        "y = x @ Wv.T @ Wo.T + relu(x @ U.T) @ U",
        "R in orthogonal(k)",
        "Wv -> R @ Wv; Wo -> Wo @ R.T; U -> R @ U",
        "y",
    ),
    "a sign": (
        "n, d, k",
        "x[n, d]",
        "b[k], g[k], W[k, d]",
        "y = x @ W.T + b + g",
        "a in translation(k)",
        "b -> b + a; g -> g + a",
        "y",
    ),
    "a bias under softmax": (
        "n, d, k",
        "x[n, d]",
        "b[k], W[k, d]",
        "y = softmax(x @ W.T + b)",
        "a in translation(k)",
        "b -> b + a",
        "y",
    ),
    "a sign of one number": (
        "n, d, k",
        "x[n, d]",
        "b[k], E[n, k], W[k, d]",
        "y = tanh(x @ W.T + b + E)",
        "a in translation(1)",
        "b -> b + a; E -> E + a",
        "y",
    ),
}

FOUND: dict[str, str | None] = {
    "an op that is named log and is none": None,
    "an op that is named pow and is none": None,
    "values: transpose missing": "`Wo -> Wo @ R.T` makes it hold: an inverse was missing",
    "values: bias forgotten": "adding `bv -> R @ bv` makes it hold: the bias bv was forgotten",
    "values: one-sided": "adding `Wo -> Wo @ R.T` makes it hold: the param Wo was forgotten",
    "values: transposed on both": "`Wo -> Wo @ R` makes it hold: an inverse too many",
    "values: invertible by transpose": "`Wo -> Wo @ inv(R)` makes it hold: "
    "a transpose is an inverse for orthogonal matrices only",
    "scores: only on queries": "adding `Wk -> R @ Wk` and `bk -> R @ bk` makes it hold: Wk and bk were forgotten",
    "scores: key bias forgotten": "adding `bk -> R @ bk` makes it hold: the bias bk was forgotten",
    "scores: invertible on both": "`Wk -> inv(R).T @ Wk` and `bk -> inv(R).T @ bk` make it hold: "
    "an inverse was missing, twice",
    "rope: orthogonal": "`for every R in torus(k)` makes it hold: the group was too large",
    "rope: only on queries": "adding `Wk -> R @ Wk` makes it hold: the param Wk was forgotten",
    "rope: opposite angles": "`Wk -> R @ Wk` makes it hold: an inverse too many",
    "rope: scales of single coordinates": "`for every c in positive_pairs(k)` makes it hold: the group was too large",
    "gelu": None,
    "silu": None,
    "tanh": None,
    "relu6": None,
    "relu under a translation": None,
    "relu under an orthogonal element": None,
    "relu: bias forgotten": "adding `b1 -> c * b1` makes it hold: the bias b1 was forgotten",
    "relu: not inverted": "`W2 -> W2 @ diag(1/c)` makes it hold: an inverse was missing",
    "relu2: inverse of degree 1": "`W2 -> W2 @ diag(1/c**2)` makes it hold: the power was wrong",
    "relu: scaled along the input": None,
    "key bias as no action": "`bk -> bk + a` makes it hold: it was no action of the group",
    "query bias": "`bk -> bk + a` in the place of `bq -> bq + a` makes it hold: it is bk that may move",
    "key bias without softmax": None,
    "logits kept": None,
    "logits along the classes": "`for every a in translation(d)` with `U -> U + outer(ones(v), a)` makes it hold: "
    "it ran along the wrong axis",
    "rms norm of a shift": None,
    "layer norm of a rotation": "`for every R in orthogonal_ones(d)` makes it hold: the group was too large",
    "a gain between rotations": "`W -> W @ diag(g) @ R.T @ diag(1/g)` makes it hold: g stands between",
    "gain: readers forgotten": "adding `W -> W @ diag(1/c)` makes it hold: the reader W was forgotten",
    "gain: bias forgotten": "adding `b -> c * b` makes it hold: the bias b was forgotten",
    "affine gain scaled as if it were not": "`g -> c * (1 + g) - 1` makes it hold: the model reads 1 + g",
    "a sum squared": None,
    "a wrong side": "`W1 -> diag(c) @ W1` makes it hold: it stood on the wrong side",
    "one side of two": "`W -> R @ W @ R.T` makes it hold: both of its axes have to move",
    "a transpose for an inverse": "`Wo -> Wo @ inv(T)` makes it hold: "
    "a transpose is an inverse for orthogonal matrices only",
    "an inverse transposed": "`Wo -> Wo @ inv(T)` makes it hold: a transpose too many",
    "a vector of classes moved": "`U -> U + outer(ones(v), a)` makes it hold: it moved otherwise",
    "an action too many": "leaving out `U -> R @ U` makes it hold: U must not move",
    "a sign": "`g -> g - a` makes it hold: the sign was wrong",
    "a constant of a bias before an activation": None,
    "rotation conjugated by a gain, where 1 + g stands": None,
    "a bias under softmax": "`for every a in translation(1)` makes it hold: all entries take one number",
    "a sign of one number": "`E -> E - a` makes it hold: the sign was wrong",
}


def mended(own: t.Gauge) -> Edit | None:
    case = search(lambda sizes: lower(own, sizes), all_dims(own)).found
    assert case is not None
    return repair(own, case)


def holds(own: t.Gauge, seed: int = 1) -> bool:
    """Whether numpy finds what is kept unchanged, at one random point with sizes that differ."""
    rng, draw = random.Random(seed), np.random.default_rng(seed)
    dims = all_dims(own)
    sizes = {dim: 4 if dim in own.element.dims else n for dim, n in zip(dims, (2, 3, 5, 6, 7, 8, 9), strict=False)}
    values = {part.name: draw.normal(size=[sizes[d] for d in part.shape]) for part in (*own.givens, *own.params)}
    values |= {name: np.floor(v % sizes["v"]) for name, v in values.items() if name == "t"}
    for dim in {"n", "m"} & set(sizes):
        angles = draw.normal(size=(sizes[dim], 2))
        values |= {f"cos over {dim}": np.cos(angles), f"sin over {dim}": np.sin(angles)}
    k = 0 if own.element.dims == (ONE,) else 4
    g = np.zeros([4] * len(GROUPS[own.element.group].shape(own.element.dims[0])))
    for at, value in element(own.element.group, k, rng).items():
        g[at] = float(value)
    before, after = change(own, sizes, values, g)
    return all(np.allclose(before[name], after[name], rtol=1e-9, atol=1e-9) for name in own.keeps)


@pytest.mark.parametrize("name", thinned(FOUND, 3))
def test_what_is_proposed(name: str) -> None:
    own = gauge(*{**WRONG, **OTHER}[name])
    assert not prove_statement(lower(own))
    found = mended(own)
    assert (str(found) if found else None) == FOUND[name]
    if found is not None:
        assert prove_statement(lower(found.gauge))
        assert holds(found.gauge)
        assert not holds(own) or name in ("key bias as no action",)  # which keeps what it should, but is no action


def test_every_wrong_statement_has_its_expectation() -> None:
    assert set(FOUND) == {*WRONG, *OTHER}


# --- shipped gauges, broken ----------------------------------------------------------------------------------------
def shipped() -> dict[str, t.Gauge]:
    """Every gauge of every spec that ships."""
    folder = Path(gaugec.specs.__file__).parent
    files = [check(parse(path.read_text(encoding="utf-8"), path.name)) for path in sorted(folder.glob("*.gauge"))]
    return {own.name: own for file in files for own in file.gauges}


def put(expr: t.Expr, old: t.Expr, new: t.Expr) -> t.Expr:
    """The expression with one part in the place of another."""
    if expr == old:
        return new
    match expr:
        case t.Binary():
            return replace(expr, left=put(expr.left, old, new), right=put(expr.right, old, new))
        case t.Call():
            return replace(expr, args=tuple(put(arg, old, new) for arg in expr.args))
        case t.Transpose():
            return replace(expr, x=put(expr.x, old, new))
    return expr


def broken(own: t.Gauge) -> Iterator[tuple[str, t.Gauge]]:
    """The gauge with one action forgotten, or one element inverted, or of another power."""
    name = t.Name(own.element.name)
    one = t.Number(Fraction(1))
    swaps: list[tuple[t.Expr, t.Expr]] = [(t.Transpose(name), name), (name, t.Transpose(name))]
    if own.element.group == "translation":
        swaps = []  # the other sign is another name for the same gauge
    if own.element.group.startswith("positive"):
        inverse, square = t.Binary("/", one, name), t.Binary("**", name, t.Number(Fraction(2)))
        swaps = [(inverse, name), (name, inverse), (inverse, t.Binary("/", one, square)), (name, square)]
        if len(own.actions) == 2:
            swaps = []  # with no third one to hold it, either may be mended: another name for the same gauge
    for k, action in enumerate(own.actions):
        rest = own.actions[:k] + own.actions[k + 1 :]
        if rest:
            yield f"{own.name}: {action.param} forgotten", replace(own, actions=rest)
        for old, new in swaps:
            inside = old == name and put(action.expr, swaps[0][0], one) != action.expr  # part of what stands inverted
            other = replace(action, expr=put(action.expr, old, new))
            if other != action and not inside:
                changed = replace(own, actions=(*own.actions[:k], other, *own.actions[k + 1 :]))
                yield f"{own.name}: {action.param} with {type(new).__name__}", changed


BROKEN = {label: (own, wrong) for own in shipped().values() for label, wrong in broken(own)}


@pytest.mark.parametrize("label", thinned(BROKEN, 5))
def test_a_shipped_gauge_that_was_broken_is_mended_to_what_it_was(label: str) -> None:
    own, wrong = BROKEN[label]
    wrong = check_gauge(wrong, {operator.name: operator for operator in wrong.operators})
    assert not prove_statement(lower(wrong))
    found = mended(wrong)
    assert found is not None
    assert {*found.gauge.actions} == {*own.actions}
    assert found.gauge.element == own.element


def test_shipped_gauges_were_broken() -> None:
    names = set(shipped())
    assert {label.partition(":")[0] for label in BROKEN} >= names - {"logit_shift"}
    assert len(BROKEN) >= 30


# --- only what is proved -------------------------------------------------------------------------------------------
def test_nothing_unproved_is_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    own = gauge(*WRONG["values: transpose missing"])
    assert mended(own)
    monkeypatch.setattr(repairs, "sample", lambda *_: Agreement(3, "it disagrees"))
    assert mended(own) is None
    monkeypatch.undo()
    for verdict in ("refused", "approximate", "not decided"):
        monkeypatch.setattr(repairs, "prove_statement", lambda s, seconds, v=verdict: Theorem(s.name, v))
        assert mended(own) is None


def test_the_first_checks_do_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no small case is found against an edit, it is still the prover that says yes or no."""
    from gaugec.sampling.search import Search

    own = gauge(*WRONG["relu: bias forgotten"])
    case = search(lambda sizes: lower(own, sizes), all_dims(own)).found
    assert case is not None
    monkeypatch.setattr(repairs, "search", lambda *_, **__: Search(None, 1))
    monkeypatch.setattr(repairs, "_fails_at", lambda *_: False)
    monkeypatch.setattr(repairs, "PROOFS", 1000)
    found = repair(own, case)
    assert found is not None and str(found) == FOUND["relu: bias forgotten"]


def test_proofs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(repairs, "_proved", lambda own: asked.append(own.name) or False)
    monkeypatch.setattr(repairs, "_fails_at", lambda *_: False)
    own = gauge(*WRONG["scores: invertible on both"])
    assert mended(own) is None
    assert 0 < len(asked) <= repairs.PROOFS


def test_edits_are_many_distinct_and_always_the_same() -> None:
    for name in ("scores: invertible on both", "gain: bias forgotten", "logits along the classes"):
        own = gauge(*WRONG[name])
        all_of = [(edit.gauge.element, edit.gauge.actions) for edit in edits(own)]
        assert len(set(all_of)) == len(all_of) > 1
        assert (own.element, own.actions) not in all_of
        assert all_of == [(edit.gauge.element, edit.gauge.actions) for edit in edits(own)]


def test_edits_of_a_sound_gauge_leave_it_out() -> None:
    own = gauge(*SOUND["residual stream, two layers"])
    assert all(edit.gauge.actions != own.actions or edit.gauge.element != own.element for edit in edits(own))
