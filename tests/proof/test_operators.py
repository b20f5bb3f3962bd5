"""Operators: every law of every built-in one from its definition, and those of `op` lines, found and not believed."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import sympy
from proof.statements import MLP, TWO, gauge, statement

from gaugec.graph.fuse import FUSED
from gaugec.graph.ir import Map
from gaugec.language.check import check
from gaugec.language.lower import all_dims, lower, term
from gaugec.language.parse import parse
from gaugec.language.tree import Gauge
from gaugec.laws import functions, pointwise, table
from gaugec.laws.functions import Laws, found, recognise, same, value
from gaugec.operators import BY_NAME, TABLE, Term, written
from gaugec.proof.prove import prove_statement
from gaugec.sampling.sample import sample

NONE = Laws(None, 0, None)
MAPS: dict[str, Laws] = {
    "relu": Laws(Fraction(1), 0, None),
    "silu": NONE,
    "gelu": NONE,
    "gelu_tanh": NONE,
    "sigmoid": NONE,
    "tanh": Laws(None, -1, None),
    "exp": NONE,
    "log": NONE,
    "sin": Laws(None, -1, None),
    "cos": Laws(None, 1, None),
    "erf": Laws(None, -1, None),
    "abs": Laws(Fraction(1), 1, None),
    "step": Laws(Fraction(0), 0, None),
    "sign": Laws(Fraction(0), -1, None),
    "relu6": NONE,
    "softplus": NONE,
}
POINTS = (0.3, -0.3, 1.7, -1.7, 4.0, -4.0, 7.5, -7.5)


def close(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-12)


def holds(definition: Term, law: Laws) -> bool:
    """The laws at numbers: another way than the one by which they were found."""

    def f(x: float) -> float | None:
        return value(definition, x)

    for x, c in itertools.product((*POINTS, 0.0), (0.5, 3.0)):
        here = f(x)
        if here is None:
            continue
        if law.degree is not None and not close(f(c * x), c ** float(law.degree) * here):
            return False
        if law.parity and not close(f(-x), law.parity * here):
            return False
        if law.shift is not None and not close(f(x + c), here + float(law.shift) * c):
            return False
    return True


def test_the_tables_hold_the_same_operators() -> None:
    assert {row.name for row in TABLE if row.kind == "map"} == set(MAPS)
    assert {row.name for row in TABLE if row.kind in ("along", "loss")} == set(ALONG)
    assert {row.name for row in TABLE if row.kind == "form"} == {*FORMS, "rownorm", "colnorm"}


@pytest.mark.parametrize("name", MAPS)
def test_every_law_of_a_pointwise_operator(name: str) -> None:
    definition = BY_NAME[name].definition
    assert definition is not None
    assert found(definition) == MAPS[name]
    assert holds(definition, MAPS[name])


@pytest.mark.parametrize("name", MAPS)
def test_a_law_that_is_not_found_does_not_hold(name: str) -> None:
    definition, law = BY_NAME[name].definition, MAPS[name]
    assert definition is not None
    degrees = [Fraction(n, 2) for n in range(-8, 9)]
    own = [] if law.degree is None else [law.degree]
    assert [n for n in degrees if holds(definition, Laws(n, 0, None))] == own
    if name != "log":  # a logarithm has no value at -x
        assert [n for n in (1, -1) if holds(definition, Laws(None, n, None))] == ([law.parity] if law.parity else [])
    assert not any(holds(definition, Laws(None, 0, n)) for n in degrees)


# operator along an axis -> its laws in the prover's table; every other law of that name must fail
ALONG = {
    "softmax": {"softmax sum", "softmax shift"},
    "log_softmax": {"log_softmax shift"},
    "max": {"max shift", "max scale"},
    "min": {"min shift", "min scale"},
    "max_window": {"max_window scale"},
    "cross_entropy": {"cross_entropy shift"},
}


@pytest.mark.parametrize("name", ALONG)
def test_every_law_of_an_operator_along_an_axis(name: str) -> None:
    assert {law for law in table.LAWS if law.split(" ")[0] == name} == ALONG[name]
    assert all(table.holds(law) for law in ALONG[name])


SCALES = "c in positive(d)"
# operators that the language spells out -> a gauge that is their law, and one that is near it and false
FORMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "rms_norm": (
        (
            "n, d, e",
            "x[n, e]",
            "W[d, e], V[e, d]",
            "y = rms_norm(x @ W.T) @ V.T",
            "R in orthogonal(d)",
            "W -> R @ W; V -> V @ R.T",
            "y",
        ),
        (
            "n, d, e",
            "x[n, e]",
            "W[d, e], V[e, d]",
            "y = layer_norm(x @ W.T) @ V.T",
            "R in orthogonal(d)",
            "W -> R @ W; V -> V @ R.T",
            "y",
        ),
    ),
    "layer_norm": (
        (
            "n, d",
            "x[n, d]",
            "W[n, d]",
            "y = layer_norm(x + W)",
            "a in translation(n)",
            "W -> W + outer(a, ones(d))",
            "y",
        ),
        ("n, d", "x[n, d]", "W[n, d]", "y = rms_norm(x + W)", "a in translation(n)", "W -> W + outer(a, ones(d))", "y"),
    ),
    "dropout": (
        (
            "n, d, f",
            "x[n, d]",
            "W[f, d], V[d, f]",
            "y = dropout(x @ W.T) @ V.T",
            "c in positive(f)",
            "W -> diag(c) @ W; V -> V @ diag(1/c)",
            "y",
        ),
        (
            "n, d, f",
            "x[n, d]",
            "W[f, d], V[d, f]",
            "y = dropout(x @ W.T) @ V.T",
            "R in orthogonal(f)",
            "W -> R @ W; V -> V @ R.T",
            "y",
        ),
    ),
    "rope": (
        (
            "n, d, k",
            "x[n, d]",
            "Wq[k, d], Wk[k, d]",
            "s = rope(x @ Wq.T) @ rope(x @ Wk.T).T",
            "R in torus(k)",
            "Wq -> R @ Wq; Wk -> R @ Wk",
            "s",
        ),
        (
            "n, d, k",
            "x[n, d]",
            "Wq[k, d], Wk[k, d]",
            "s = rope(x @ Wq.T) @ rope(x @ Wk.T).T",
            "R in orthogonal(k)",
            "Wq -> R @ Wq; Wk -> R @ Wk",
            "s",
        ),
    ),
    "diag": (
        ("n, d", "x[n, d]", "g[d], h[d]", "y = x @ diag(g) @ diag(h)", SCALES, "g -> c * g; h -> h / c", "y"),
        ("n, d", "x[n, d]", "g[d], h[d]", "y = x @ diag(g) + x @ diag(h)", SCALES, "g -> c * g; h -> h / c", "y"),
    ),
    "outer": (
        ("n, d", "x[d]", "g[n], h[n]", "y = outer(g * h, x)", "c in positive(n)", "g -> c * g; h -> h / c", "y"),
        (
            "n, d, e",
            "x[n, e]",
            "g[d], h[d]",
            "y = x @ outer(ones(e), g) + x @ outer(ones(e), h)",
            "c in positive(d)",
            "g -> c * g; h -> h / c",
            "y",
        ),
    ),
    "ones": (
        ("n, d", "x[n, d]", "U[n, d]", "y = softmax(x + U)", "a in translation(n)", "U -> U + outer(a, ones(d))", "y"),
        ("n, d", "x[n, d]", "U[n, d]", "y = softmax(x + U)", "a in translation(d)", "U -> U + outer(ones(n), a)", "y"),
    ),
    "inv": (
        (
            "n, k",
            "x[n, k]",
            "W[k, n], V[n, k]",
            "y = V @ W + x @ x.T",
            "T in invertible(k)",
            "W -> T @ W; V -> V @ inv(T)",
            "y",
        ),
        (
            "n, k",
            "x[n, k]",
            "W[k, n], V[n, k]",
            "y = V @ W + x @ x.T",
            "T in invertible(k)",
            "W -> T @ W; V -> V @ T",
            "y",
        ),
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_law_of_an_operator_that_is_spelled_out(name: str) -> None:
    right, wrong = FORMS[name]
    assert prove_statement(statement(*right)).verdict == "proved"
    assert prove_statement(statement(*wrong)).verdict == "refused"


def test_a_norm_in_a_fix_line_has_degree_one() -> None:
    c = sympy.Symbol("c", positive=True)
    row = sympy.symbols("w0:3", real=True)
    norm = sympy.sqrt(sum(w**2 for w in row))
    scaled = sympy.sqrt(sum((c * w) ** 2 for w in row))
    assert sympy.simplify(scaled - c * norm) == 0


# --- op lines ------------------------------------------------------------------------------------------------------
OPS: dict[str, Laws] = {
    "max(x, 0)**2": Laws(Fraction(2), 0, None),
    "x * relu(x)": Laws(Fraction(2), 0, None),
    "max(x, 0) - max(-x, 0) / 100": Laws(Fraction(1), 0, None),
    "abs(x)**(1/2)": Laws(Fraction(1, 2), 1, None),
    "x * abs(x)": Laws(Fraction(2), -1, None),
    "max(x, 0) + x / 2 - max(-x, 0)": Laws(Fraction(1), -1, None),
    "x / 2 + 1": Laws(None, 0, Fraction(1, 2)),
    "3 * x": Laws(Fraction(1), -1, Fraction(3)),
    "x": Laws(Fraction(1), -1, Fraction(1)),
    "x * sigmoid(1.702 * x)": NONE,
    "max(x, 0) + 1": NONE,
    "max(x, 1)": NONE,
    "tanh(x) * x": Laws(None, 1, None),
    "exp(x) - exp(-x)": Laws(None, -1, None),
}


def defined(body: str) -> Term:
    """The definition tree of `op f(x) = body`."""
    (operator,) = check(parse(f"op f(x) = {body}\n", "op.gauge")).operators
    return term(operator.expr, operator.argument)


@pytest.mark.parametrize("body", OPS)
def test_laws_of_an_op_line_are_found(body: str) -> None:
    assert found(defined(body)) == OPS[body]
    assert holds(defined(body), OPS[body])


def test_laws_in_words() -> None:
    assert found(defined("max(x, 0)**2")).sentences("relu2") == (
        "relu2(c*x) = c**2*relu2(x) for c > 0",
        "neither odd nor even",
        "no law of shifts",
        "commutes with permutations of the units",
    )
    assert found(defined("x")).sentences("f") == (
        "f(c*x) = c*f(x) for c > 0",
        "odd: f(-x) = -f(x)",
        "f(x + a) = f(x) + a",
        "commutes with permutations of the units, positive scales, a flip of the sign, shifts",
    )
    assert found(defined("x / 2 + 1")).sentences("f")[2] == "f(x + a) = f(x) + 1/2*a"


@pytest.mark.parametrize(
    ("one", "two", "equal"),
    [
        ("max(x, 0)**2", "x * relu(x)", True),
        ("max(x, 0)**2", "((x + abs(x)) / 2)**2", True),
        ("max(x, 0)**2", "max(x, 0)", False),
        ("max(x, 0)**2", "x**2", False),
        ("x * sigmoid(x)", "x / (1 + exp(-x))", True),
        ("x * sigmoid(x)", "x * (tanh(x / 2) + 1) / 2", True),
        ("x * sigmoid(x)", "x / (1 + exp(-1.0000001 * x))", False),
        ("(x**(1/2))**2", "x", False),  # one has no value below zero
        ("abs(x)", "(x**2)**(1/2)", True),
        ("max(x, 0)", "max(x, 1e-30)", False),
    ],
)
def test_two_definitions_are_one_function(one: str, two: str, equal: bool) -> None:
    assert same(defined(one), defined(two)) is equal
    assert same(defined(two), defined(one)) is equal


def test_rows_are_recognised() -> None:
    assert recognise(defined("x / (1 + exp(-x))")) == "silu"
    assert recognise(defined("(x + abs(x)) / 2")) == "relu"
    assert recognise(defined("max(x, 0)**2")) is None


@pytest.mark.parametrize("body", ["max(x, 0)**2", "x * relu(x)", "relu(x) * relu(x)", "((x + abs(x)) / 2)**2"])
def test_however_it_is_spelled_it_is_one_step(body: str) -> None:
    parts = (
        *MLP,
        TWO.format(f="f2"),
        "c in positive(f)",
        "W1 -> diag(c) @ W1; b1 -> c * b1; W2 -> W2 @ diag(1/c**2)",
        "y",
    )
    lowered = lower(gauge(*parts, f"op f2(x) = {body}"))
    (step,) = [node for node in lowered.graph if isinstance(node, Map) and node.function == FUSED]
    assert len(step.operands) == 1
    assert same(dict(step.attributes)["definition"], defined("max(x, 0)**2"))  # type: ignore[arg-type]
    assert prove_statement(lowered).verdict == "proved"


@pytest.mark.parametrize(
    "name", ["log", "pow", "sin", "cos", "erf", "min", "relu6", "softplus", "pointwise", "inverse"]
)
def test_the_name_of_an_op_line_means_nothing(name: str) -> None:
    """A law of an operator of the table must not be read into an operator of the spec that has its name."""
    parts = (
        "n",
        "x[n]",
        "g[n], h[n]",
        f"y = {name}(x * g) - {name}(x * h)",
        "c in positive(n)",
        "g -> c * g; h -> c * h",
        "y",
    )
    theorem = prove_statement(statement(*parts, f"op {name}(x) = max(x, 0)"))
    assert theorem.verdict == "refused"


def test_a_corrupted_definition_is_no_function(monkeypatch: pytest.MonkeyPatch) -> None:
    pointwise.forget()
    monkeypatch.setattr(functions, "_differ", lambda *_: False)
    assert not same(defined("max(x, 0)**2"), defined("x**2"))  # sympy decides, the numbers only save time
    pointwise.forget()


def test_definitions_are_written_as_a_spec_would_write_them() -> None:
    for body in OPS:
        text = written(defined(body))
        assert same(defined(text), defined(body)), text


ROOTS = """{op}gauge g(n, d):
    "A root that cancels was defined only where what it stands on has one."
    given  x[n, d]
    param  a[d], b[d]
    model  y = x * {body}
    for every s in {group}(d):
        {moves}
    keeps  y
{fix}"""
BASE = "what a root or a divisor stands on"
FORGETS = (
    "it holds only where {}, and the group does not keep that: "
    "what has a value before an element acts may have none after"
)


def rooted(body: str, group: str, *moves: str) -> Gauge:
    """A gauge of the formula above; `f` is an operator without a value below zero."""
    op = "op f(x) = 3 * x**(1/2) + x\n" if "f(" in body else ""
    fix = "    fix abs(a) == 1\n" if group == "positive" else ""
    text = ROOTS.format(op=op, body=body, group=group, moves="\n        ".join(moves), fix=fix)
    return check(parse(text, "test.gauge")).gauges[0]


@pytest.mark.parametrize(
    "body, condition",
    [
        ("((a + b)**(1/2))**2 - x * (a + b)", "a[i] + b[i] ≥ 0"),
        ("(a + b)**(1/2) * (a + b)**(-1/2)", "a[i] + b[i] ≥ 0"),
        ("(a + b)**(-1/2) * (a + b)**(1/2)", "a[i] + b[i] > 0"),
        ("(a + b)**(-5) * (a + b)**5", "a[i] + b[i] ≠ 0"),
        ("(b + f(a) - f(a))", "a[i] ≥ 0"),
    ],
)
def test_a_condition_that_the_group_does_not_keep_is_refused(body: str, condition: str) -> None:
    for group, action in (("translation", "a -> a + s"), ("positive", "a -> s * a - s + 1")):
        own = rooted(body, group, action)
        theorem = prove_statement(lower(own))
        assert (theorem.verdict, theorem.reason) == ("refused", FORGETS.format(condition))
        agreement = sample(lambda sizes, own=own: lower(own, sizes), all_dims(own))  # type: ignore[misc]
        if "≠" not in condition:  # that something vanishes is drawn by no chance
            assert not agreement and "no value" in agreement.reason, agreement


@pytest.mark.parametrize(
    "body, group, moves, conditions",
    [
        ("(a + b)**(1/2)", "translation", ("a -> a + s", "b -> b - s"), ()),
        ("((a + b)**(1/2))**2", "translation", ("a -> a + s", "b -> b - s"), (f"{BASE} ≥ 0",)),
        ("b * (a**(1/2))**2 / a", "positive", ("a -> s * a",), ("c > 0", "a ≠ 0", "a[i] ≥ 0")),
        ("b * (1 + exp(a))**(1/2) * (1 + exp(a))**(-1/2)", "translation", ("a -> a + s",), ()),
        ("b * sigmoid(a) / sigmoid(a)", "translation", ("a -> a + s",), ()),
        ("b * (1 + a**2)**(1/2) * (1 + a**2)**(-1/2)", "positive", ("a -> s * a",), ("c > 0",)),
    ],
)
def test_a_root_that_cancels_leaves_a_condition(
    body: str, group: str, moves: tuple[str, ...], conditions: tuple[str, ...]
) -> None:
    own = rooted(body, group, *moves)
    theorem = prove_statement(lower(own))
    assert (theorem.verdict, theorem.conditions) == ("proved", conditions), theorem.reason
    assert sample(lambda sizes: lower(own, sizes), all_dims(own))
