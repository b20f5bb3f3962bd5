"""Specs that were written to do harm: every one gives a verdict or an error, in its time and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from clocks import Clock

import gaugec
from fuzz.batch import TICK, failures, outcomes
from fuzz.gauges import gauge
from fuzz.hostile import SCALE, SPECS, op
from gaugec import limits
from gaugec.laws import oracle, pointwise

SOUND = SCALE.format(body="relu(x @ W1.T)")
SLACK = 50 * TICK
# A worker as it is, but for a question that it never answers, and one that answers nothing.
SLEEPING = """
import time
from gaugec.laws import pointwise, worker
pointwise.ANSWERS["never"] = lambda *terms: time.sleep(1e9)
worker.main()
"""
SILENT = "import time; time.sleep(1e9)"


def spec(folder: Path, text: str) -> Path:
    path = folder / "spec.gauge"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_hostile_corpus() -> None:
    limit = 0.25
    found = outcomes(SPECS, limit, TICK)
    assert [each.name for each in found] == list(SPECS)
    for each in found:
        gauges = max(1, SPECS[each.name].count("gauge g"))  # of one spec each has its time
        assert failures([each], limit, gauges, gauges * SLACK) == []
    kinds = {each.name: each.kind for each in found}
    assert {"error", "refused", "not decided"} <= set(kinds.values())
    assert kinds["many optional params"] == "error"
    assert kinds.pop("sound, with a hard op") in ("not decided", "proved")  # which depends on sympy
    assert {kind for name, kind in kinds.items() if name.startswith("sound")} == {"not decided"}


def test_hostile_specs_that_are_sound_are_proved() -> None:
    names = (
        "six optional params",
        "many params",
        "many dims",
        "inverse of a power",
        "less deep and sound",
        "tower in the fix line",
    )
    found = outcomes({name: SPECS[name] for name in names}, 60.0, tick=0)
    assert {each.name: each.kind for each in found} == dict.fromkeys(names, "proved")


def test_random_gauges() -> None:
    found = outcomes({str(seed): gauge(seed) for seed in range(25)}, 0.25, TICK)
    assert failures(found, 0.25, slack=SLACK) == []
    assert sum(each.kind != "error" for each in found) > 12, "most of them reach the prover"


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[oracle.Worker]:
    """Whoever asks sympy gets no answer."""
    worker = oracle.Worker(SILENT)
    monkeypatch.setattr(oracle, "WORKER", worker)
    yield worker
    worker.stop()


@pytest.mark.parametrize("name", ["sound squares", "sound, with a hard op"])
def test_the_verdict_names_the_limit_and_refuses(tmp_path: Path, silent: oracle.Worker, name: str) -> None:
    clock = Clock(TICK)
    with limits.clock(clock):
        result = gaugec.verify(spec(tmp_path, SPECS[name]), limit=0.5)
    assert clock.time <= 2 * 0.5 + SLACK
    (theorem,) = result.theorems
    assert (theorem.verdict, theorem.reason) == ("not decided", "not decided in 0.5 s")
    assert not result.ok and not theorem and result.accepted == (False,)
    assert not theorem.counterexample


def test_the_limit_is_for_each_proof(tmp_path: Path) -> None:
    both = SPECS["sound squares"] + SOUND.replace("gauge g(", "gauge sound(")
    with limits.clock(Clock(TICK / 4)):
        result = gaugec.verify(spec(tmp_path, both), limit=1)
    assert [theorem.verdict for theorem in result.theorems] == ["not decided", "proved"]
    assert result.theorems[0].reason == "not decided in 1 s"
    with limits.clock(Clock(TICK / 4)), pytest.raises(gaugec.ProofError, match="not decided in 1 s"):
        gaugec.compile(gaugec.load(tmp_path / "spec.gauge"), None, limit=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_a_limit_is_a_positive_number(tmp_path: Path, limit: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        gaugec.verify(spec(tmp_path, SOUND), limit=limit)


@pytest.mark.parametrize(
    ("definition", "says"),
    [
        ("(" + "*".join(f"(x+{i})" for i in range(20)) + ")**4", "has more than 1,000 terms"),
        ("gelu(" * 12 + "x" + ")" * 12, "has more than 1,000 operations"),
        ("((x**64)**64)*x", "has a degree of more than 1,000"),
        ("max(x, 0)*" + "9" * 50 + "e64**20", "has numbers of more than 1,000 digits"),
    ],
)
def test_an_op_that_is_too_large_is_refused_with_its_place(tmp_path: Path, definition: str, says: str) -> None:
    with pytest.raises(gaugec.SpecError, match=f": the op 'h', multiplied out, {says}\\n") as caught:
        gaugec.load(spec(tmp_path, op(definition)))
    assert caught.value.span is not None and caught.value.span.line == 1


class TestOracle:
    """sympy in a process that can be killed."""

    hard = ("add", ("tanh", ("tanh", ("tanh", "x"))), ("pow", ("tanh", ("add", "x", 1)), -1))

    def test_it_answers_what_sympy_answers(self) -> None:
        for term in (("pow", ("max", "x", 0), 3), ("mul", "x", ("abs", "x")), ("add", "x", 1), ("nonsense", "x")):
            direct = []
            for answer in (pointwise.ANSWERS["degree"], pointwise.ANSWERS["parity"]):
                try:
                    direct.append(answer(term))
                except ValueError:
                    direct.append(None)
            assert [oracle.ask("degree", term), oracle.ask("parity", term)] == direct

    def test_what_is_late_is_killed_and_the_next_question_answered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        worker = oracle.Worker(SLEEPING)
        monkeypatch.setattr(oracle, "WORKER", worker)
        assert oracle.ask("degree", ("pow", "x", 3)) == 3
        first = worker.process
        assert first is not None and first.poll() is None
        with limits.within(0.5), pytest.raises(limits.Exceeded, match=r"^not decided in 0\.5 s$"):
            oracle.ask("never", self.hard)
        assert first.poll() is not None and worker.process is None
        assert oracle.ask("degree", ("pow", "x", 3)) == 3
        worker.stop()

    def test_what_comes_too_late_is_not_asked(self, silent: oracle.Worker) -> None:
        clock = Clock()
        with limits.clock(clock), limits.within(5):
            clock.time = 6
            with pytest.raises(limits.Exceeded, match=r"^not decided in 5 s$"):
                oracle.ask("degree", self.hard)
        assert silent.process is None

    def test_a_worker_that_dies_gives_no_answer(self) -> None:
        worker = oracle.Worker("raise SystemExit(1)")
        assert worker.exchange("[]", 600) == (None, False) and worker.process is None

    def test_what_was_not_decided_is_not_remembered(self, silent: oracle.Worker) -> None:
        term = ("mul", self.hard, 1)
        with limits.within(0.05), pytest.raises(limits.Exceeded):
            pointwise.degree(term)
        assert not any(key == ("degree", (term,)) for key in pointwise._MEMO)

    def test_a_term_survives_the_way(self) -> None:
        from fractions import Fraction

        for term in (("pow", ("add", "x", 10**5000), Fraction(-1, 3)), True, None, "x", Fraction(3, 7)):
            assert oracle.decode(oracle.encode(term)) == term
        with pytest.raises(TypeError):
            oracle.encode(object())

    def test_what_takes_sympy_long_does_not_take_the_proof_long(self, silent: oracle.Worker) -> None:
        """A definition of the table's own as well: gelu with its tanh is asked where it can be ended."""
        definition = pointwise.definition("gelu_tanh")
        pointwise._MEMO.pop(("degree", (definition,)), None)
        with limits.within(0.2), pytest.raises(limits.Exceeded, match=r"not decided in 0\.2 s"):
            pointwise.degree(definition)
