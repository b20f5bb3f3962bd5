"""Unsound and accepted: none.  A systematic part of the mutants and of the random cases; `make soundness` runs all."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest
from soundness import random_table, spec_table
from soundness.__main__ import main
from soundness.mutations import KINDS
from soundness.random_cases import case
from soundness.spec_mutants import Mutant, bases, mutants
from soundness.spec_table import Outcome, outcome
from soundness.writing import checked, shipped_gauges, text_of

EVERY = 25
CASES = 100
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found() -> list[Mutant]:
    """Of every kind some."""
    return mutants(EVERY)[0]


def test_the_originals_are_sound_and_accepted() -> None:
    for name, gauge in bases().items():
        made = outcome(Mutant(name, "none", "", text_of(gauge)))
        assert (made.judged, made.accepted) == ("sound", True), made


@pytest.mark.long
def test_there_are_many_mutants_of_every_kind() -> None:
    found = mutants()[0]
    shipped = shipped_gauges()
    mine = [mutant for mutant in found if mutant.base in shipped]
    assert len(mine) >= 1000 and len(found) >= 2000
    assert len({mutant.text for mutant in found}) == len(found)
    assert not {mutant.text for mutant in found} & {text_of(gauge) for gauge in bases().values()}
    kinds = Counter(mutant.kind for mutant in mine)
    assert set(kinds) == set(KINDS) and all(count >= 5 for count in kinds.values()), kinds
    # a kind is missing from a gauge only where it has nothing to change
    vectors = {n for n, gauge in shipped.items() if gauge.element.group.startswith(("positive", "translation"))}
    lacks = {
        "drop an action": {name for name, gauge in shipped.items() if len(gauge.actions) == 1},
        "drop or add a transpose": vectors,  # their elements are vectors
        "wrong axis": {"rotary_turn"},  # its matrices have one axis of an even length
        "another parameter": set(shipped),  # no two params of one shape
    }
    for name in shipped:
        for kind in KINDS:
            if name not in lacks.get(kind, set()):
                assert any(m.base == name and m.kind == kind for m in mine), (name, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_no_mutant_is_falsely_accepted(kind: str, found: list[Mutant]) -> None:
    outcomes = [outcome(mutant) for mutant in found if mutant.kind == kind]
    assert outcomes
    assert [o for o in outcomes if o.false or o.false_proof] == []
    missed = [o for o in outcomes if o.missed]
    # `make soundness` holds the whole table to ALLOWED; here are few
    assert len(missed) <= max(1, spec_table.ALLOWED * len(outcomes)), missed


def test_random_cases_agree() -> None:
    cases = [random_table.run(seed) for seed in range(CASES)]
    lines, good = random_table.table(cases)
    assert good, "\n".join(lines)
    proved = [found for found in cases if found.prover == "proved"]
    assert 0.1 * CASES <= len(proved) <= 0.6 * CASES
    assert all(found.checked == "agrees" and found.judged == "sound" for found in proved)
    assert {found.made for found in cases} == {"typed scale", "typed rotation", "shift", "wild"}
    assert case(7)[0] == case(7)[0]
    assert sum(found.entries for found in cases) >= 50


def test_the_tables_can_fail() -> None:
    gauge = next(iter(shipped_gauges().values()))
    mutant = Mutant("g", next(iter(KINDS)), "", text_of(gauge))
    right, wrong = Outcome(mutant, "sound", "proved", True, ""), Outcome(mutant, "unsound", "proved", True, "")
    saved = Outcome(mutant, "unsound", "proved", False, "")
    missed = Outcome(mutant, "sound", "refused", False, "why")
    fine = Outcome(mutant, "unsound", "refused", False, "")
    assert spec_table.table([right, fine], {})[1]
    assert not spec_table.table([right, wrong], {})[1]
    assert not spec_table.table([right, saved], {})[1]
    assert spec_table.table([right] * 19 + [missed], {})[1]
    lines, good = spec_table.table([right] * 18 + [missed], {})
    assert not good and any("why" in line for line in lines)
    agreed = random_table.Case(0, "wild", "proved", "agrees", "sound", "", 1)
    for prover, check, judged, expected in (
        ("proved", "differs", "sound", False),
        ("proved", "agrees", "unsound", False),
        ("proved", "agrees", "approximate", False),
        ("refused", "agrees", "unsound", False),
        ("refused", "differs", "", True),
    ):
        other = random_table.Case(1, "wild", prover, check, judged, "", 1)
        assert random_table.table([agreed, other])[1] is expected
    form = random_table.Case(2, "wild", "refused", "differs", "", "", 1, 3, "y[0] is 1, and 2 in normal form")
    assert not random_table.table([agreed, form])[1]


def test_the_command_prints_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "random", "--random", "6", "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    assert "6 cases" in out and "disagrees: 0" in out and out.endswith("all as it must be\n")


def test_the_judge_shares_no_code_with_the_prover() -> None:
    used: set[str] = set()
    for name in ("judge", "drawing"):
        tree = ast.parse((HERE / f"{name}.py").read_text())
        used |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
        used |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    mine = {name for name in used if name.startswith(("gaugec", "soundness", "proof"))}
    assert mine == {"gaugec.language", "soundness.drawing"}
    assert checked("gauge g(): ") is None
