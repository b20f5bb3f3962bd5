"""Every refusal shows a case that fails indeed, and none that is one step smaller; numpy says so, not the compiler."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from proof.evaluating import Numpy, array, change, identity, member, plainly, point
from proof.statements import BIASES, LEFT, NORM, SOUND, VALUES, WRONG, gauge

from gaugec.language.lower import all_dims, lower
from gaugec.language.tree import Entry, Gauge, Spec
from gaugec.pipeline import verify as verifying
from gaugec.proof.prove import Theorem
from gaugec.sampling.counterexample import Counterexample
from gaugec.sampling.sample import Agreement
from gaugec.sampling.search import search

SOFTMAX = "s = softmax((x @ Wq.T + bq) @ (z @ Wk.T + bk).T)"
DROPOUT = ("n, d, e, f", "x[n, d]", "W1[f, d], W2[e, f]", "y = dropout(x @ W1.T) @ W2.T")
MORE: dict[str, tuple[str, ...]] = {
    "dropout of a rotation": (*DROPOUT, "R in orthogonal(f)", "W1 -> R @ W1; W2 -> W2 @ R.T", "y"),
    "three norms deep": (
        "n, d, e",
        "x[n, d]",
        "W1[e, d], W2[e, e], W3[d, e]",
        "y = rms_norm(relu(rms_norm(x @ W1.T) @ W2.T)) @ W3.T",
        "R in orthogonal(e)",
        "W1 -> R @ W1; W2 -> W2 @ R.T; W3 -> W3 @ R.T",
        "y",
    ),
}
KEPT = {**WRONG, **MORE}
del KEPT["key bias as no action"]
NO_ACTION: dict[str, tuple[str, ...]] = {
    "key bias as no action": WRONG["key bias as no action"],
    "moved by the identity": (*BIASES, SOFTMAX, "a in translation(k)", "bk -> 2 * bk + a", "s"),
    "two orders": (
        "n, d, k",
        "x[n, d]",
        "W[k, d], V[d, k]",
        "y = x @ x.T + 0 * (x @ W.T @ V.T @ x.T)",
        "R in orthogonal(k)",
        "W -> R @ W; V -> V @ R",
        "y",
    ),
}


def found(own: Gauge) -> Counterexample:
    case = search(lambda sizes: lower(own, sizes), all_dims(own)).found
    assert case is not None
    return case


def verified(own: Gauge) -> Theorem:
    (theorem,) = verifying.verify(Spec("test", "", (Entry(own),), "0" * 64)).theorems
    return theorem


@pytest.mark.parametrize("name", KEPT)
def test_the_two_values_differ_indeed(name: str) -> None:
    own = gauge(*KEPT[name])
    case = found(own)
    assert case.failure.law == "kept" and case.loud
    assert member(case.group, array(case.element))
    before, after = change(own, case.sizes, point(case), array(case.element))
    what, at = case.failure.what, case.failure.at
    assert np.isclose(before[what][at], float(case.failure.before), rtol=1e-12)
    assert np.isclose(after[what][at], float(case.failure.after), rtol=1e-12)
    assert plainly(before[what][at], after[what][at])
    moved = Numpy(own, case.sizes, point(case)).moved(array(case.element))
    for part in case.params:
        assert (part.after is None) == (part.name not in {action.param for action in own.actions})
        for index, value in (part.after or {}).items():
            assert np.isclose(moved[part.name][index], float(value))


@pytest.mark.parametrize("name", KEPT)
def test_angles_are_angles_and_targets_are_classes(name: str) -> None:
    case = found(gauge(*KEPT[name]))
    values = point(case)
    for key, table in values.items():
        if key.startswith("cos over"):
            assert np.allclose(table**2 + values[key.replace("cos", "sin")] ** 2, 1)
    if "t" in values:
        assert set(values["t"].ravel()) <= set(range(case.sizes["v"]))
    if "dropout" in values:
        assert set(values["dropout"].ravel()) <= {0, 2} or (values["dropout"] == 1).all()


def smaller(own: Gauge, case: Counterexample) -> list[tuple[str, dict[str, int], dict[str, np.ndarray], np.ndarray]]:
    """Every case one step below: an entry 0 or 1, an entry of the element the identity's, an index less."""
    values, element, sizes = point(case), array(case.element), dict(case.sizes)
    steps = []
    free = [name for name in values if not name.startswith(("cos over", "sin over", "dropout"))]
    for name in free:
        for at in np.ndindex(values[name].shape):
            for new in (0.0, 1.0):
                if values[name][at] != 0 and values[name][at] != new:
                    changed = values[name].copy()
                    changed[at] = new
                    steps.append((f"{name}[{at}] = {new}", sizes, {**values, name: changed}, element))
    one = identity(case, element)
    if case.group in ("positive", "translation", "invertible"):
        for at in np.ndindex(element.shape):
            if element[at] != one[at]:
                simpler = element.copy()
                simpler[at] = one[at]
                if member(case.group, simpler):
                    steps.append((f"element[{at}]", sizes, values, simpler))
    shapes = {part.name: part.shape for part in (*own.params, *own.givens)}
    roped = any(name.startswith("cos over") for name in values)
    for dim, index in itertools.chain.from_iterable(((d, i) for i in range(n)) for d, n in sizes.items()):
        paired = case.group in ("torus", "positive_pairs") or (roped and dim == "k")
        inert = dim not in case.group_dims or element.ndim == 1
        if sizes[dim] == 1 or paired or not inert or "dropout" in values:
            continue
        fewer = {**values}
        for name, shape in shapes.items():
            for axis, other in enumerate(shape):
                if other == dim:
                    fewer[name] = np.delete(fewer[name], index, axis)
        for name in values:
            if name.endswith(f"over {dim}"):
                fewer[name] = np.delete(fewer[name], index, 0)
        shorter = np.delete(element, index) if dim in case.group_dims else element
        if "t" in fewer and dim == "v":
            fewer["t"] = np.minimum(np.maximum(fewer["t"] - (fewer["t"] > index), 0), sizes[dim] - 2)
        steps.append((f"{dim} without {index}", {**sizes, dim: sizes[dim] - 1}, fewer, shorter))
    return steps


@pytest.mark.parametrize("name", KEPT)
def test_no_single_step_leaves_a_smaller_case_that_fails(name: str) -> None:
    own = gauge(*KEPT[name])
    case = found(own)
    steps = smaller(own, case)
    assert steps
    for step, sizes, values, element in steps:
        before, after = change(own, sizes, values, element)
        for kept in own.keeps:
            assert not plainly(before[kept], after[kept]), f"{step}\n{case}"


@pytest.mark.parametrize("name", NO_ACTION)
def test_what_is_no_action_is_shown_as_none(name: str) -> None:
    own = gauge(*NO_ACTION[name])
    case = found(own)
    law, what, at = case.failure.law, case.failure.what, case.failure.at
    world = Numpy(own, case.sizes, point(case))
    g = array(case.element)
    if name == "moved by the identity":
        assert law == "identity" and np.array_equal(g, identity(case, g))
        assert world.moved(g)[what][at] == float(case.failure.after) != float(case.failure.before)
        assert "the identity must move nothing" in str(case)
        return
    assert law == "product" and case.second is not None
    h = array(type(case.element)("", case.element.shape, case.second))
    twice = Numpy(own, case.sizes, world.moved(g)).moved(h)
    product = h @ g if g.ndim == 2 else h + g
    once = world.moved(product)
    assert np.isclose(twice[what][at], float(case.failure.after))
    assert np.isclose(once[what][at], float(case.failure.before))
    assert not np.isclose(once[what][at], twice[what][at])
    if name == "two orders":
        other, once = case.other, world.moved(g @ h)
        assert other is not None and "in the other order" in str(case)
        assert not np.isclose(once[other.what][other.at], twice[other.what][other.at])
    assert "this is no action of the group" in str(case)


GOLDEN = {
    "values: transpose missing": """\
sizes n = 1, m = 1, d = 1, k = 2
R = [[0, -1], [1, 0]], of orthogonal(k)
Wv = [[0], [1]], moved to [[-1], [0]]
bv = 0, as in a model without it
Wo = [[0, 1]], moved to [[1, 0]]
x = [[1]]
A = [[1]]
y[0, 0] = 1 before, -1 after""",
    "relu: bias forgotten": """\
sizes n = 1, d = 1, e = 1, f = 1
c = [2], of positive(f)
W1 = [[0]], moved to [[0]]
b1 = [1], does not move
W2 = [[1]], moved to [[1/2]]
x = [[0]]
y[0, 0] = 1 before, 1/2 after""",
    "gain: readers forgotten": """\
sizes n = 1, d = 1, _ of W = 1
c = [2], of positive(d)
g = [1], moved to [2]
b = 0, as in a model without it
W = [[1]], does not move
x = [[1]]
y[0, 0] = 1 before, 2 after""",
    "gelu": """\
sizes n = 1, d = 1, e = 1, f = 1
c = [2], of positive(f)
W1 = [[1]], moved to [[2]]
b1 = 0, as in a model without it
W2 = [[1]], moved to [[1/2]]
x = [[1]]
y[0, 0] = 0.841345 before, 0.97725 after""",
    "rope: orthogonal": """\
sizes n = 1, m = 1, d = 1, k = 2
R = [[-1, 0], [0, 1]], of orthogonal(k)
Wq = [[1], [0]], moved to [[-1], [0]]
Wk = [[0], [1]], moved to [[0], [1]]
x = [[1]]
z = [[1]]
cos over n = [[0]]
sin over n = [[1]]
cos over m = [[1]]
sin over m = [[0]]
s[0, 0] = 1 before, -1 after""",
    "query bias": """\
sizes n = 1, m = 2, d = 1, e = 1, k = 1
a = [1], of translation(k)
Wq = [[0]], does not move
bq = [0], moved to [1]
Wk = [[1]], does not move
bk = [0], does not move
x = [[0]]
z = [[0], [1]]
s[0, 0] = 0.5 before, 0.268941 after""",
    "logits along the classes": """\
sizes n = 1, d = 1, v = 2
a = [1, 0], of translation(v)
U = [[0], [0]], moved to [[1], [0]]
b = 0, as in a model without it
h = [[1]]
t = [0]
loss = 0.693147 before, 0.313262 after""",
    "key bias as no action": """\
sizes n = 1, m = 1, d = 1, e = 1, k = 1
a = [1], then once more, of translation(k); their product is [2]
Wq = [[0]], does not move
bq = [0], does not move
Wk = [[0]], does not move
bk = [0], moved to [2]
bk[0] = 4 moved twice, 6 moved by the product: this is no action of the group""",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_what_is_shown(name: str) -> None:
    assert str(found(gauge(*WRONG[name]))) == GOLDEN[name]


@pytest.mark.parametrize("name", ["values", "logits", "norm gain", "rope", "layer norm of a rotation that keeps ones"])
def test_a_sound_gauge_has_none(name: str) -> None:
    own = gauge(*SOUND[name])
    looked = search(lambda sizes: lower(own, sizes), all_dims(own), 20_000)
    assert looked.found is None and looked.tries > 100 and looked.moves


# --- every refusal -------------------------------------------------------------------------------------------------
EPS = ("n, d", "x[n, d]", "E[n, d]", "y = rms_norm(E) + x", "c in positive(n)", "E -> diag(c) @ E", "y")


def test_an_approximate_gauge_shows_by_how_much() -> None:
    theorem = verified(gauge(*EPS))
    case = theorem.counterexample
    assert theorem.verdict == "approximate" and case is not None and not case.loud
    before, after = change(gauge(*EPS), case.sizes, point(case), array(case.element))
    assert 0 < abs(before["y"] - after["y"]).max() < 1e-6
    assert theorem.evidence == (
        "it deviates, for example:",
        "  sizes n = 1, d = 1",
        "  c = [2], of positive(n)",
        "  E = [[1]], moved to [[2]]",
        "  x = [[0]]",
        "  y[0, 0] = 0.9999995 before, 0.999999875 after: they differ by 3.75e-7",
        "help: mark its `use` line `approximate` to accept the deviation",
    )


def test_an_approximate_gauge_that_is_accepted_shows_nothing() -> None:
    (theorem,) = verifying.verify(Spec("t", "", (Entry(gauge(*EPS), approximate=True),), "0" * 64)).theorems
    assert theorem.verdict == "approximate" and theorem.evidence == ()


def test_what_is_proved_but_for_eps_is_checked_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    own = gauge(*EPS)
    (theorem,) = verifying.verify(Spec("t", "", (Entry(own, approximate=True),), "0" * 64)).theorems
    assert theorem.sampled >= 6
    wrong = gauge(*EPS[:3], "y = rms_norm(E) + x * E", *EPS[4:])
    monkeypatch.setattr(verifying, "prove_statement", lambda s: Theorem(s.name, "approximate", "but for eps"))
    checked = verifying.verify(Spec("t", "", (Entry(wrong, approximate=True),), "0" * 64))
    assert not checked.ok and checked.theorems[0].verdict == "refused"
    assert checked.theorems[0].reason.startswith("the component check disagrees with the proof")


def test_a_component_check_that_disagrees_shows_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prover that is wrong is contradicted, and the case is shown."""
    monkeypatch.setattr(verifying, "prove_statement", lambda statement: Theorem(statement.name, "proved"))
    theorem = verified(gauge(*WRONG["relu: not inverted"]))
    assert theorem.verdict == "refused" and theorem.reason.startswith("the component check disagrees")
    assert "y[0, 0] = 1 before, 4 after" in str(theorem.counterexample)


def test_what_is_not_decided_is_refused_by_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    def tired(statement: object) -> Theorem:
        return Theorem("g0", "not decided", "not decided: the graph is too deep")

    monkeypatch.setattr(verifying, "prove_statement", tired)
    theorem = verified(gauge(*WRONG["gelu"]))
    assert theorem.verdict == "refused" and theorem.counterexample is not None
    assert theorem.reason == "a counterexample was found; the proof was not decided: the graph is too deep"
    theorem = verified(gauge(*SOUND["logits"]))
    assert theorem.verdict == "not decided" and theorem.counterexample is None and not theorem.repair
    (line,) = theorem.evidence
    assert line == (
        f"no counterexample was found within {theorem.tried} tries: the gauge may hold, but it is not proved"
    )
    assert theorem.tried > 100


def test_a_gauge_that_moves_nothing_shows_no_search() -> None:
    theorem = verified(gauge(*NORM[:2], "W[d, d]", "y = x @ W.T", "c in positive(d)", "W -> diag(c/c) @ W", "y"))
    assert theorem.verdict == "refused" and theorem.evidence == ()
    assert theorem.reason == "the group's element moves no parameter"


def test_a_component_check_that_cannot_be_made_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "sample", lambda lower, dims: Agreement(0, "no sample could be evaluated"))
    theorem = verified(gauge(*VALUES, "y = A @ (x @ Wv.T + bv) @ Wo.T", LEFT, SOUND["values"][5], "y"))
    assert theorem.verdict == "refused" and theorem.tried > 0 and not theorem.repair
