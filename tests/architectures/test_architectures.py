"""The shipped architectures: a few as they must be, whole; of all that their files, rows and models go together.

`make architectures ARGS=--check` looks at all of them as the few are looked at here.
"""

from __future__ import annotations

import re

import pytest
from thinned import thinned

import gaugec
from architectures import build, names
from architectures.checks import problems
from architectures.least import LEAST
from architectures.rows import PAGE, SHIPPED, kept, look, page

FEW = ["conv_bn", "relu_mlp", "mlp_mixer", "llama_tied", "encoder_post", "gpt2"]


def test_each_has_a_model_a_file_a_row_and_a_least_number_of_sites() -> None:
    assert len(names()) >= 45
    files = [path.stem for path in SHIPPED.glob("*.gauge")]
    assert sorted(name for name in files if not name.endswith("_full")) == sorted(names())  # for those see `test_full`
    assert list(kept()) == names() == list(LEAST)
    assert PAGE.read_text(encoding="utf-8") == page(kept().values())


@pytest.mark.parametrize("name", names())
def test_every_file_only_names_gauges_of_the_topics(name: str) -> None:
    lines = (SHIPPED / f"{name}.gauge").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 10
    assert lines[0] == f"architecture {name}:"
    assert re.fullmatch(r'    "[A-Z].{20,}\."', lines[1])
    assert all(re.fullmatch(r"    use \w+(, \w+)* from \w+( optional)?", line) for line in lines[2:])
    assert {entry.gauge.name for entry in gaugec.load(name).entries} >= set(LEAST[name])


@pytest.mark.parametrize("name", thinned(FEW, 3))
def test_as_it_must_be(name: str) -> None:
    row, compiled = look(name)
    assert kept()[name].startswith(row.text)
    assert problems(row, compiled) == []


@pytest.mark.parametrize(("spec", "name", "weight"), [
    ("gpt2", "gpt2", "transformer.wte.weight"),
    pytest.param("llama", "llama_tied", "model.embed_tokens.weight", marks=pytest.mark.long),
])  # fmt: skip
def test_what_a_tied_weight_forbids_is_listed(spec: str, name: str, weight: str) -> None:
    """The spec requires a shift of the logits; a head that is the embedding has none, which is no error."""
    assert any(entry.required and entry.gauge.name == "logit_shift" for entry in gaugec.load(spec).entries)
    case = build(name)
    compiled = case.compiled(spec)
    assert "logit_shift" not in {site.gauge for site in compiled.sites}
    refused = [refusal for refusal in compiled.refusals if refusal.gauge == "logit_shift"]
    assert [(refusal.tied, refusal.parameter) for refusal in refused] == [(True, f"{weight} (tied to lm_head.weight)")]
