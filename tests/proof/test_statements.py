"""Sound gauges are proved, wrong ones refused, and the component check, which shares no code, says the same."""

from __future__ import annotations

import gc
import re
import weakref
from fractions import Fraction

import pytest
from clocks import Clock
from proof.statements import SOUND, WRONG, gauge, statement

from gaugec import limits
from gaugec.graph.ir import Graph
from gaugec.graph.statement import Statement
from gaugec.language.lower import all_dims, lower
from gaugec.proof.prove import Theorem, prove_statement
from gaugec.sampling.sample import sample

EPS = {
    "rms norm of a scale": "y = rms_norm(E) + x",
    "layer norm of a scale": "y = layer_norm(E) + x",
}


def whole(statement: Statement) -> Statement:
    """The statement; its graph has the size of every index."""
    for node in statement.graph:
        assert all(v < len(node.sizes) for v in node.binds)
    return statement


def proved(*parts: str) -> Theorem:
    return prove_statement(whole(statement(*parts)))


@pytest.mark.parametrize("name", SOUND)
def test_sound_gauges_are_proved(name: str) -> None:
    theorem = proved(*SOUND[name])
    assert theorem, theorem.reason
    assert theorem.steps and theorem.reason == ""


@pytest.mark.parametrize("name", WRONG)
def test_wrong_gauges_are_refused(name: str) -> None:
    theorem = proved(*WRONG[name])
    assert not theorem
    assert theorem.verdict == "refused"
    assert "changes: left over is" in theorem.reason


@pytest.mark.parametrize("name", SOUND)
def test_the_component_check_agrees_with_proofs(name: str) -> None:
    whole(statement(*SOUND[name]))
    own = gauge(*SOUND[name])
    agreement = sample(lambda sizes: lower(own, sizes), all_dims(own))
    assert agreement, agreement.reason
    assert agreement.samples >= 6 and agreement.both
    assert len(set(agreement.sizes.values())) == len(agreement.sizes)


@pytest.mark.parametrize("name", WRONG)
def test_the_component_check_agrees_with_refusals(name: str) -> None:
    whole(statement(*WRONG[name]))
    own = gauge(*WRONG[name])
    agreement = sample(lambda sizes: lower(own, sizes), all_dims(own))
    assert not agreement and agreement.samples
    assert re.search(r" is .*, and .* (after|moved twice)$", agreement.reason)


@pytest.mark.parametrize("model", EPS.values(), ids=EPS)
def test_eps_makes_a_scale_approximate(model: str) -> None:
    parts = ("n, d", "x[n, d]", "E[n, d]", model, "c in positive(n)", "E -> diag(c) @ E", "y")
    theorem = proved(*parts)
    assert theorem.verdict == "approximate" and not theorem
    assert "eps(c^2 - 1)/(c^2 ms + eps)" in theorem.reason
    assert "1e-06" in theorem.reason


def test_eps_does_not_excuse_a_wrong_scale() -> None:
    parts = ("n, d", "x[n, d]", "E[n, d]", "y = rms_norm(E) + x", "c in positive(d)", "E -> E @ diag(c)", "y")
    assert proved(*parts).verdict == "refused"


def test_a_large_constant_under_a_root_is_no_eps() -> None:
    for eps, verdict in (("1", "refused"), ("0.5", "refused"), ("0.01", "approximate"), ("1e-12", "approximate")):
        model = f"y = rms_norm(E, eps={eps}) + x"
        parts = ("n, d", "x[n, d]", "E[n, d]", model, "c in positive(n)", "E -> diag(c) @ E", "y")
        assert proved(*parts).verdict == verdict


def test_movements_are_read_from_the_normal_form() -> None:
    def moves(name: str) -> dict[str, tuple[object, ...]]:
        found = proved(*SOUND[name]).movements
        return {role: (m.kind, m.axis, m.exponent, m.dual) for role, m in found.items()}

    one = Fraction(1)
    assert moves("norm gain") == {
        "g": ("scale", 0, one, False),
        "b": ("scale", 0, one, False),
        "W": ("scale", 1, -one, False),
    }
    assert moves("relu2")["W2"] == ("scale", 1, -2 * one, False)
    assert moves("values")["Wo"] == ("rotate", 1, one, False)
    assert moves("values, right action") == moves("values")
    assert moves("values, invertible")["Wo"] == ("rotate", 1, one, True)
    assert moves("rope") == {"Wq": ("rotate", 0, one, False), "Wk": ("rotate", 0, one, False)}
    assert moves("logits") == {"U": ("shift", 0, one, False)}
    affine = proved(*SOUND["affine gain"]).movements["g"]
    assert (affine.kind, affine.axis, affine.shift_by) == ("scale", 0, one)


def test_conditions_name_what_must_not_vanish() -> None:
    theorem = proved(*SOUND["norm gain"])
    assert "c > 0" in theorem.conditions
    theorem = proved(*SOUND["rotation conjugated by a gain"])
    assert "g ≠ 0" in theorem.conditions


def test_a_proof_does_not_depend_on_label_sizes() -> None:
    own = gauge(*SOUND["values"])
    dims = all_dims(own)
    for start in (6, 200):
        sizes = {dim: 2 * (start + 3 * k) for k, dim in enumerate(dims)}
        assert prove_statement(lower(own, sizes))


def test_proofs_are_fast() -> None:
    clock = Clock()
    for name in ("norm gain", "values", "scores", "rope", "relu", "swiglu", "logits"):
        with limits.clock(clock):
            assert prove_statement(statement(*SOUND[name]))
    assert clock.looks < 20_000


@pytest.mark.parametrize(
    "model",
    [
        "y = W; z = layer_norm(y) + x - x",
        "y = x + W; z = layer_norm(y) - layer_norm(y)",
        "y = W; z = x * softmax(y) - x * softmax(y)",
    ],
)
def test_a_kept_value_that_another_one_reads_must_itself_be_kept(model: str) -> None:
    """Reading it as an atom for the second must not answer for the first."""
    own = statement("n, k", "x[n, k]", "W[n, k]", model, "c in positive(k)", "W -> W @ diag(c)", "y, z")
    assert prove_statement(own).verdict == "refused"


def test_nothing_is_left_of_a_statement_that_was_proved() -> None:
    """A process that proves for a long time does not grow: what is known of a graph lives as long as the graph."""
    graphs: list[weakref.ref[Graph]] = []
    for name in ("relu", "values", "scores") * 10:
        lowered = statement(*SOUND[name])
        assert prove_statement(lowered)
        graphs.append(weakref.ref(lowered.graph))
    del lowered
    gc.collect()
    assert not any(graph() for graph in graphs)
