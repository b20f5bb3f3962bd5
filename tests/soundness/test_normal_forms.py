"""Normal forms computed back into numbers: right where the rules are, and wrong where one is broken on purpose."""

from __future__ import annotations

from dataclasses import replace

import pytest
from proof.statements import ROPE, ROPED, SOUND, WRONG, gauge
from soundness.normal_forms import disagreement

from gaugec.language.tree import Gauge
from gaugec.laws import pointwise
from gaugec.proof.prove import forget
from gaugec.proof.rules import RULES


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


def test_a_wrong_rule_shows() -> None:
    def wrong(algebra, factors, bound):  # type: ignore[no-untyped-def]
        made = RULES["angles"].apply(algebra, factors, bound)  # type: ignore[misc]
        return made[:1] if made else made

    broken_rules = {**RULES, "angles": replace(RULES["angles"], apply=wrong)}
    turned = gauge(*ROPED, ROPE, "R in torus(k)", "Wq -> R @ Wq; Wk -> R @ Wk", "s")
    words, _ = disagreement(turned, rules=broken_rules)
    assert "in normal form (moved)" in words
