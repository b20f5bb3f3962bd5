"""The limits of a proof: time, memory, digits, and what they do where they are reached."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator
from fractions import Fraction

import mpmath  # type: ignore[import-untyped]
import pytest
from clocks import TICK, Clock

from gaugec import limits
from gaugec.graph.statement import Statement
from gaugec.language.check import check
from gaugec.language.lower import lower
from gaugec.language.parse import parse
from gaugec.proof.algebra import Algebra
from gaugec.proof.prove import prove_statement
from gaugec.proof.rules import RULES
from gaugec.proof.terms import Undecided
from gaugec.sampling.evaluate import Evaluation, added, inverted, multiplied, power
from gaugec.sampling.sample import sample, sizes_for

GAUGE = """gauge g({dims}):
    given  x[n, d]
    param  W[d, d], V[d, d]
    model  y = {body}
    for every R in orthogonal(d):
        W -> R @ W
        V -> V @ R.T
    keeps  y
"""


def made(body: str, dims: str = "n, d") -> tuple[object, object]:
    (gauge,) = check(parse(GAUGE.format(body=body, dims=dims), "test.gauge")).gauges
    return gauge, lambda sizes: lower(gauge, sizes)


def test_nothing_is_bounded_outside_of_a_proof() -> None:
    limits.check()
    assert not limits.active() and limits.left() == (float("inf"), "not decided")


@pytest.fixture
def clock() -> Iterator[Clock]:
    """Time stands still unless the test moves it."""
    own = Clock()
    with limits.clock(own):
        yield own


def test_a_clock_is_put_back() -> None:
    own = Clock(tick=1.0)
    with limits.clock(own):
        assert (limits.now(), limits.now(), own.looks) == (1.0, 2.0, 2)
        with limits.clock(Clock()):
            assert limits.now() == 0.0
        assert limits.now() == 3.0
    assert own.looks == 3


def test_the_nearest_limit_rules_and_says_so(clock: Clock) -> None:
    with limits.within(60):
        assert limits.active() and limits.left() == (60, "not decided in 60 s")
        with limits.within(0.01):
            limits.check()
            clock.time += 0.02
            with pytest.raises(limits.Exceeded, match=r"^not decided in 0\.01 s$"):
                limits.check()
        limits.check()
    with limits.within(0.01):
        clock.time += 0.02
        with limits.within(60), pytest.raises(limits.Exceeded, match=r"^not decided in 0\.01 s$"):
            limits.check()
    limits.check()


def test_a_proof_within_a_proof_has_no_time_of_its_own(clock: Clock) -> None:
    assert limits.seconds_a_proof() == limits.SECONDS == 20
    with limits.each(5), limits.proof():
        clock.time += 0.5
        assert limits.left()[0] == 4.5
        with limits.each(50), limits.proof():
            assert limits.left()[0] == 4.5
    with limits.each(5), limits.each(None):
        assert limits.seconds_a_proof() == 5
    assert limits.seconds_a_proof() == 20


def test_memory(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    assert limits._resident() > 1 << 20
    with limits.within(60):
        clock.time += 1
        limits.check()
        used = limits._resident()
        monkeypatch.setattr(limits, "_resident", lambda: used + limits.MEMORY + (1 << 20))
        limits.check()  # it is looked at now and then
        clock.time += 0.03
        with pytest.raises(limits.Exceeded, match=r"^not decided within 1024 MiB of memory$"):
            limits.check()


def test_memory_that_a_proof_really_takes(clock: Clock) -> None:
    """Real pages, not a patched number: none that were freed before, which a process still holds."""
    kept: list[mmap.mmap] = []
    with limits.within(60), pytest.raises(limits.Exceeded, match="MiB of memory"):
        limits._BUDGET.get().most = limits._resident() + (64 << 20)  # type: ignore[union-attr]
        for _ in range(200):
            kept.append(mmap.mmap(-1, 1 << 20))
            kept[-1].write(b"x" * (1 << 20))
            clock.time += 0.03
            limits.check()
    assert 60 <= len(kept) < 120


def test_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    large = 10**4000
    assert limits.bounded(large) == large
    for number in (large * large, Fraction(1, large * large), -large * large):
        with pytest.raises(limits.Exceeded, match=r"^not decided: a number has more than 4,214 digits$"):
            limits.bounded(number)
    assert limits.bounded_power(Fraction(2, 3), -3) == Fraction(27, 8)
    assert limits.bounded_power(1, 10**30) == limits.bounded_power(-1, 10**30) == 1
    with pytest.raises(ZeroDivisionError):
        limits.bounded_power(0, -1)
    for function in (added, multiplied):
        with pytest.raises(limits.Exceeded):
            function(Fraction(10**4000), Fraction(1, 10**4000 + 1))
    str(limits.bounded(10**4213))  # Python writes down what is allowed
    monkeypatch.setattr(Fraction, "__pow__", lambda *_: pytest.fail("a number without bounds is written down"))
    for base in (2, Fraction(1, 3), 10**100):
        with pytest.raises(limits.Exceeded):
            limits.bounded_power(base, 10**9)
        with pytest.raises(limits.Exceeded):
            power(Fraction(base), Fraction(10**9))


def test_recursion_is_put_back() -> None:
    before = sys.getrecursionlimit()
    with limits.deep():
        assert sys.getrecursionlimit() >= limits.DEPTH
    assert sys.getrecursionlimit() == before


def test_a_proof_that_is_late_is_not_decided() -> None:
    _, statement = made("x @ V @ W")
    lowered = statement({"n": 4, "d": 6})  # type: ignore[operator]
    with limits.clock(Clock(TICK)), limits.within(1e-9):
        theorem = prove_statement(lowered)
    assert (theorem.verdict, theorem.reason) == ("not decided", "not decided in 1e-09 s") and not theorem
    assert prove_statement(lowered)


def test_a_check_that_is_late_is_no_disagreement() -> None:
    _, statement = made("x @ V @ W")
    with limits.clock(Clock(TICK)), limits.within(1e-9), pytest.raises(limits.Exceeded):
        sample(statement, ("n", "d"))  # type: ignore[arg-type]
    assert sample(statement, ("n", "d"))  # type: ignore[arg-type]


def test_many_equal_indices_are_not_all_ordered() -> None:
    """Twelve alike have 479,001,600 orders; nobody makes a list of them."""
    _, statement = made(" * ".join(["(x @ V @ W)"] * 12))
    clock = Clock()
    with limits.clock(clock):
        prove_statement(statement({"n": 4, "d": 6}))  # type: ignore[operator]
    assert clock.looks < 100_000


def test_a_term_that_grows_is_given_up() -> None:
    algebra = Algebra(RULES, symbolic=True)
    symbols = [algebra.atom(node) for node in range(1, 1200) for _ in (algebra.symbol(node, algebra.symbols[0]),)]
    with pytest.raises(Undecided, match="a term has more than 1,000 factors"):
        algebra.product(symbols)


class TestSampling:
    """The component check at any number of dims."""

    def test_few_dims_have_sizes_of_their_own(self) -> None:
        gauge, statement = made("x @ V @ W")
        sizes = sizes_for(statement, ("n", "d"))  # type: ignore[arg-type]
        assert sizes == {"d": 3, "n": 2}

    def test_many_dims_share_sizes_where_tables_would_be_large(self) -> None:
        dims = [f"a{i}" for i in range(8)]
        text = GAUGE.format(body="x @ V @ W", dims=", ".join(["n", "d", *dims]))
        whole = "B" + "".join(f" @ ones({dim})" for dim in reversed(dims))
        text = text.replace("V[d, d]", f"V[d, d], B[{', '.join(dims)}]").replace("x @ V @ W", f"x @ V @ W + {whole}")
        (gauge,) = check(parse(text, "test.gauge")).gauges

        def statement(sizes: dict[str, int]) -> Statement:
            return lower(gauge, sizes)

        sizes = sizes_for(statement, ("n", "d", *dims))
        assert set(sizes) == {"n", "d", *dims} and sizes["d"] == 3 and set(sizes.values()) <= {2, 3}
        assert sample(statement, ("n", "d", *dims))

    def test_large_tables_get_small_sizes(self) -> None:
        dims = [f"a{i}" for i in range(7)]
        text = GAUGE.format(body="x @ V @ W", dims=", ".join(["n", "d", *dims])).replace(
            "given  x[n, d]", f"given  x[n, d], z[{', '.join(dims)}, d]"
        )
        text = text.replace("x @ V @ W", "(z @ V @ W) * (z @ V @ W)").replace("x[n, d], ", "").replace("(n, d", "(d")
        (gauge,) = check(parse(text, "test.gauge")).gauges
        sizes = sizes_for(lambda at: lower(gauge, at), ("d", *dims))
        assert max(sizes.values()) <= 3
        assert sample(lambda at: lower(gauge, at), ("d", *dims), samples=1)


def test_an_inverse_of_floats_and_fractions() -> None:
    table = {(0, 0): Fraction(2), (0, 1): mpmath.mpf(1), (1, 0): Fraction(0), (1, 1): Fraction(4)}
    found = inverted(table, 2)
    assert [float(found[at]) for at in sorted(found)] == [0.5, -0.125, 0.0, 0.25]


def test_a_target_beyond_all_bounds_is_no_point() -> None:
    text = """gauge g(n, v, d):
    given  h[n, d], s[n]
    param  U[v, d]
    model  t = exp(s * s * 1e60)**64
    model  loss = cross_entropy(h @ U.T, t)
    for every a in translation(d):
        U -> U + outer(ones(v), a)
    keeps  loss
"""
    (gauge,) = check(parse(text, "test.gauge")).gauges
    statement = lower(gauge, {"n": 2, "v": 3, "d": 4})
    one = Fraction(1)
    leaves = {
        node.id: {(i, j)[: len(node.shape)]: one for i in range(node.shape[0]) for j in range((*node.shape, 1)[1])}
        for node in (*statement.graph.leaves("param"), *statement.graph.leaves("input"))
    }
    with pytest.raises(ValueError, match="beyond ten thousand"):
        Evaluation(statement.graph, leaves).at(statement.kept[0], ())


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf"), "5", True, [], 1j])
def test_a_limit_that_is_no_number_of_seconds_is_told(limit: object) -> None:
    with pytest.raises(ValueError, match="a time limit is a positive number of seconds, not"), limits.each(limit):  # type: ignore[arg-type]
        pass


def test_a_limit_may_be_too_large_for_a_clock() -> None:
    with limits.each(10**400):
        assert limits.seconds_a_proof() == 1e9
