"""Laws are proved by sympy when they are used: break one, or break sympy, and what stood on it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
import sympy
from proof.statements import ATTENTION, HEAD, MLP, SCALED, SOUND, TWO, statement

from gaugec.laws import pointwise, table
from gaugec.operators import BY_NAME
from gaugec.proof.prove import forget, prove_statement
from gaugec.proof.rules import ORDER, RULES


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    forget()
    yield
    forget()


DEGREES = {
    "relu": 1,
    "abs": 1,
    "silu": None,
    "gelu": None,
    "gelu_tanh": None,
    "sigmoid": None,
    "tanh": None,
    "exp": None,
    "log": None,
    "sin": None,
    "cos": None,
    "erf": None,
    "step": 0,
    "sign": 0,
    "relu6": None,
    "softplus": None,
}


@pytest.mark.parametrize("name", DEGREES)
def test_degrees_are_found(name: str) -> None:
    assert pointwise.degree(BY_NAME[name].definition) == DEGREES[name]


def test_degrees_of_new_operators() -> None:
    assert pointwise.degree(("pow", ("max", "x", 0), 2)) == 2
    assert pointwise.degree(("max", "x", ("mul", Fraction(1, 100), "x"))) == 1
    assert pointwise.degree(("mul", "x", ("abs", "x"))) == 2
    assert pointwise.degree(("pow", ("abs", "x"), Fraction(1, 2))) == Fraction(1, 2)
    # the branches disagree, or zero is not mapped to zero, or there is no law
    assert pointwise.degree(("add", ("max", "x", 0), ("pow", ("min", "x", 0), 2))) is None
    assert pointwise.degree(("max", "x", 1)) is None
    assert pointwise.degree(("max", "x", ("add", ("exp", ("min", "x", 0)), -1))) is None
    # a constant, and a step, are what no scale changes
    assert pointwise.degree(1) == 0 and pointwise.degree(("step", "x")) == 0
    assert pointwise.degree(0) is None
    assert pointwise.degree(("no such operation", "x")) is None
    assert pointwise.degree(None) is None


def test_parities() -> None:
    found = {name: pointwise.parity(BY_NAME[name].definition) for name in DEGREES}
    assert {name for name, sign in found.items() if sign == -1} == {"tanh", "sin", "erf", "sign"}
    assert {name for name, sign in found.items() if sign == 1} == {"abs", "cos"}


@pytest.mark.parametrize("name", table.LAWS)
def test_every_law_holds(name: str) -> None:
    assert table.holds(name)


def test_every_rule_stands_on_known_laws() -> None:
    assert all(law in table.LAWS for rule in RULES.values() for law in rule.laws)
    assert {law for rule in RULES.values() for law in rule.laws} == set(table.LAWS)
    assert all(rule.apply is not None and rule.says for rule in ORDER)
    assert not table.holds("no such law")


SHIFT = (
    "n, v",
    "x[n, v]",
    "U[n, v]",
    "{model}",
    "a in translation(n)",
    "U -> U + outer(a, ones(v))",
    "y",
)


def shift(model: str) -> tuple[str, ...]:
    return tuple(part.format(model=model) for part in SHIFT)


# law -> a gauge that needs it, and definitions that are wrong
NEEDS: dict[str, tuple[tuple[str, ...], tuple[Any, ...]]] = {
    "distribute": (SOUND["norm gain"], ()),
    "delta": (SOUND["values"], ()),
    "size": (SOUND["layer norm of a shift"], ()),
    "orthogonality": (SOUND["values"], ()),
    "inverse": (SOUND["values, invertible"], ()),
    "ones": (SOUND["layer norm of a rotation that keeps ones"], ()),
    "angles": (SOUND["rope"], ()),
    "power of a product": (SOUND["rms norm of a scale"], ("add",)),
    "exp": (
        (
            "n, v",
            "x[n, v]",
            "U[v], W[v]",
            "y = exp(x * U) * exp(x * W)",
            "a in translation(v)",
            "U -> U + a; W -> W - a",
            "y",
        ),
        ("tanh",),
    ),
    "softmax shift": (shift("y = softmax(x + U)"), (lambda of, i: of(sympy.IndexedBase("x")[i]),)),
    "log_softmax shift": (
        shift("y = log_softmax(x + U)"),
        (lambda of, i: 2 * of(sympy.IndexedBase("x")[i]) - table.along(BY_NAME["cross_entropy"])(of, i),),
    ),
    "cross_entropy shift": (SOUND["logits"], (lambda of, i: of(sympy.IndexedBase("x")[i]),)),
}


@pytest.mark.parametrize("name", NEEDS)
def test_a_corrupted_law_refuses_what_needs_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, wrong = NEEDS[name]
    own = statement(*parts)
    assert prove_statement(own), name
    forget()
    row = table.LAWS[name]
    broken = table.Law(row.says, row.prove, wrong) if wrong else table.Law(row.says, lambda: False)
    monkeypatch.setitem(table.LAWS, name, broken)
    assert not table.holds(name)
    assert prove_statement(own).verdict == "refused"


@pytest.mark.parametrize("name", [name for name, law in table.LAWS.items() if law.definitions])
def test_a_law_does_not_hold_for_another_definition(name: str) -> None:
    row = table.LAWS[name]
    wrong: tuple[Any, ...]
    if callable(row.definitions[0]) and "sum" in name:
        wrong = (lambda of, i: table.along(BY_NAME["softmax"])(of, i) / 2,)
    elif name.endswith(("shift", "scale")) and len(row.definitions) == 2:
        wrong = (lambda one, two: one * two + 1, row.definitions[1])
    elif callable(row.definitions[0]):
        wrong = (lambda of, i: of(sympy.IndexedBase("x")[i]) ** 2,)
    else:
        wrong = ("add",) if row.definitions[0] == "pow" else ("sin",)

    def proves() -> bool:
        try:
            return bool(row.prove(*wrong))
        except Exception:
            return False

    assert row.prove(*row.definitions)
    assert not proves()


def test_a_wrong_definition_of_an_operator_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = (*MLP, TWO.format(f="relu"), "c in positive(f)", SCALED, "y")
    assert prove_statement(statement(*parts))
    monkeypatch.setitem(BY_NAME, "relu", BY_NAME["gelu"])
    assert prove_statement(statement(*parts)).verdict == "refused"


ASKED = [(name, "expand") for name in ("values", "relu", "rope", "logits", "norm gain")]
ASKED += [("values", "simplify"), ("relu", "simplify"), ("logits", "factor_terms")]


@pytest.mark.parametrize("error", [RuntimeError, StopIteration, RecursionError])
@pytest.mark.parametrize(("name", "broken"), ASKED)
def test_any_exception_in_sympy_is_a_refusal(
    name: str, broken: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error("broken on purpose")

    own = statement(*SOUND[name])
    monkeypatch.setattr(sympy, broken, fails)
    assert prove_statement(own).verdict == "refused"


def test_a_law_is_proved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert table.holds("orthogonality")
    monkeypatch.setattr(sympy, "simplify", lambda *_: 1 / 0)
    assert table.holds("orthogonality")


def test_statements_that_break_the_prover_are_refused() -> None:
    own = statement(
        *HEAD, "loss = cross_entropy(h @ U.T + b, t)", "a in translation(d)", "U -> U + outer(ones(v), a)", "loss"
    )
    broken = type(own)(**{**own.__dict__, "kept": (10_000,)})
    theorem = prove_statement(broken)
    assert theorem.verdict == "refused" and "broke off" in theorem.reason
    unknown = type(own)(**{**own.__dict__, "group": "monster"})
    assert prove_statement(unknown).verdict == "not decided" and "not supported" in prove_statement(unknown).reason


def test_no_text_is_evaluated() -> None:
    assert ATTENTION  # names of a spec never reach sympy: only numbers and our own trees do
    with pytest.raises(ValueError, match="unknown symbol"):
        pointwise.expression("__import__('os')", sympy.Symbol("x"))
