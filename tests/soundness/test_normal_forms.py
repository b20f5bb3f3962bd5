"""Normal forms computed back into numbers: right where the rules are, and wrong where one is broken on purpose."""

from __future__ import annotations

from dataclasses import replace

import pytest
from proof.statements import ROPE, ROPED, SOUND, WRONG, gauge
from soundness.normal_forms import disagreement

from gaugec.language.tree import Gauge
from gaugec.laws import pointwise
from gaugec.proof import rules
from gaugec.proof.prove import forget


@pytest.mark.parametrize("name", [*SOUND, *WRONG])
def test_every_normal_form_has_the_value_of_its_formula(name: str) -> None:
    own = gauge(*{**SOUND, **WRONG}[name])
    words, compared = disagreement(own)
    assert words == "" and (compared or name.startswith(("residual", "gelu")))


def broken(name: str) -> Gauge:
    return gauge(*SOUND[name])


def test_a_wrong_degree_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    forget()
    monkeypatch.setattr(pointwise, "degree", lambda term: 2)
    words, _ = disagreement(broken("relu"))
    forget()
    assert "in normal form (moved)" in words


def test_a_wrong_rule_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(algebra, factors, bound):  # type: ignore[no-untyped-def]
        made = rules._torus_rule(algebra, factors, bound)
        return made[:1] if made else made

    order = tuple(replace(row, apply=wrong) if row.name == "torus" else row for row in rules.ORDER)
    monkeypatch.setattr("gaugec.proof.algebra.ORDER", order)
    words, _ = disagreement(gauge(*ROPED, ROPE, "R in torus(k)", "Wq -> R @ Wq; Wk -> R @ Wk", "s"))
    assert "in normal form (moved)" in words
