"""The Llama of transformers: every site, by name and by [copies, group, rest]; and what a tied embedding refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from match.models import FEED, HEAD, HEADS, HIDDEN, KV, VOCABULARY, counts, found, llama, spec_file

import gaugec
from gaugec.certificate.write import laid_out

LAYERS = [f"model.layers.{i}" for i in range(2)]
GROUP = HEADS // KV
OPTIONAL_SHIFT = """architecture tied:
    "A Llama whose embedding and head are one weight."
    use norm_gain from norms
    use swiglu_rescale from mlp
    use value_rotation, qk_rotation_rope from attention
    use logit_shift from head optional
"""


@pytest.fixture(scope="module")
def compiled() -> Any:
    model, args, kwargs = llama()
    return gaugec.compile("llama", model, args, kwargs, loss="cross_entropy")


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Any:
    model, args, kwargs = llama(tie_word_embeddings=True)
    spec = spec_file(tmp_path_factory.mktemp("spec"), OPTIONAL_SHIFT, "tied")
    return gaugec.compile(spec, model, args, kwargs, loss="cross_entropy")


def layer_gains(layer: str) -> list[dict[str, tuple[int, int, int]]]:
    attention, mlp = f"{layer}.self_attn", f"{layer}.mlp"
    return [
        {
            f"{layer}.input_layernorm.weight": (1, HIDDEN, 1),
            f"{attention}.q_proj.weight": (1, HIDDEN, HEADS * HEAD),
            f"{attention}.k_proj.weight": (1, HIDDEN, KV * HEAD),
            f"{attention}.v_proj.weight": (1, HIDDEN, KV * HEAD),
        },
        {
            f"{layer}.post_attention_layernorm.weight": (1, HIDDEN, 1),
            f"{mlp}.gate_proj.weight": (1, HIDDEN, FEED),
            f"{mlp}.up_proj.weight": (1, HIDDEN, FEED),
        },
    ]


def test_counts(compiled: Any) -> None:
    assert counts(compiled) == {
        "norm_gain": 5, "swiglu_rescale": 2, "value_rotation": 2, "qk_rotation_rope": 2, "logit_shift": 1,
    }  # fmt: skip
    assert {site.verdict for site in compiled.sites} == {"proved"}
    assert [site.index for site in compiled.sites] == [0, 1, 2, 3, 4, 0, 1, 0, 1, 0, 1, 0]


def test_every_gain_moves_into_its_readers(compiled: Any) -> None:
    final = {"model.norm.weight": (1, HIDDEN, 1), "lm_head.weight": (1, HIDDEN, VOCABULARY)}
    assert found(compiled, "norm_gain") == [*layer_gains(LAYERS[0]), *layer_gains(LAYERS[1]), final]
    assert {site.group for site in compiled.sites if site.gauge == "norm_gain"} == {"positive"}


def test_every_unit_scale(compiled: Any) -> None:
    assert found(compiled, "swiglu_rescale") == [
        {f"{at}.mlp.up_proj.weight": (1, FEED, HIDDEN), f"{at}.mlp.down_proj.weight": (1, FEED, HIDDEN)}
        for at in LAYERS
    ]


def test_values_turn_once_for_each_kv_head(compiled: Any) -> None:
    assert found(compiled, "value_rotation") == [
        {
            f"{at}.self_attn.v_proj.weight": (KV, HEAD, HIDDEN),
            f"{at}.self_attn.o_proj.weight": (KV, HEAD, HIDDEN * GROUP),
        }
        for at in LAYERS
    ]
    sites = [site for site in compiled.sites if site.gauge == "value_rotation"]
    assert {(site.group, site.copies, site.size) for site in sites} == {("orthogonal", KV, HEAD)}
    out = sites[0].bindings[1]
    assert out.copies == ((KV, GROUP * HEAD),), "the heads of one group lie together: head = kv * group + g"
    assert out.group == ((HEAD, 1),)
    assert sorted(out.rest) == [(GROUP, HEAD), (HIDDEN, HEADS * HEAD)]


def test_queries_and_keys_turn_in_rotary_planes(compiled: Any) -> None:
    assert found(compiled, "qk_rotation_rope") == [
        {
            f"{at}.self_attn.q_proj.weight": (KV, HEAD, GROUP * HIDDEN),
            f"{at}.self_attn.k_proj.weight": (KV, HEAD, HIDDEN),
        }
        for at in LAYERS
    ]
    for site in compiled.sites:
        if site.gauge == "qk_rotation_rope":
            assert (site.group, site.copies, site.size, site.pairing, site.rotary) == (
                "torus",
                KV,
                HEAD,
                "halves",
                HEAD,
            )


def test_logits_shift(compiled: Any) -> None:
    assert found(compiled, "logit_shift") == [{"lm_head.weight": (1, VOCABULARY, HIDDEN)}]
    assert compiled.sites[-1].group == "translation"


def test_witness_and_its_control(compiled: Any) -> None:
    for measured in (compiled.measured, compiled.witness(seed=3)):
        assert measured.ok
        assert measured.error <= 1e-10
        assert measured.control >= 1e-6
        assert measured.controls >= 12
        assert len(measured.by_gauge) == 5


def test_only_the_embedding_is_left_and_the_report_says_so(compiled: Any) -> None:
    assert list(compiled.metadata["ungauged"]) == ["model.embed_tokens.weight"]
    report = compiled.report()
    assert "norm_gain: proved, 5 sites" in report
    assert "model.embed_tokens.weight:" in report.split("parameters that no gauge moves:")[1]


def test_the_certificate_and_the_report_are_short(compiled: Any) -> None:
    assert laid_out(compiled.metadata).count("\n") < 235  # of these the roles of parameters are 23
    assert compiled.report().count("\n") < 55


# --- the embedding is the head


def test_a_shift_that_the_tie_of_the_head_forbids_is_no_error_where_it_is_required() -> None:
    model, args, kwargs = llama(tie_word_embeddings=True, num_hidden_layers=1)
    compiled = gaugec.compile("llama", model, args, kwargs, loss="cross_entropy")
    assert "logit_shift" not in {site.gauge for site in compiled.sites}
    (text,) = (str(refusal) for refusal in compiled.refusals if refusal.gauge == "logit_shift")
    assert "logit_shift at model.embed_tokens.weight (tied to lm_head.weight)" in text
    assert "model.embed_tokens.weight and lm_head.weight are one tied weight" in text
    assert "two shifted values are multiplied" in text and "layernorm" in text
    assert text in compiled.report()


def test_a_tied_head_where_the_shift_is_optional(tied: Any) -> None:
    assert counts(tied) == {"norm_gain": 4, "swiglu_rescale": 2, "value_rotation": 2, "qk_rotation_rope": 2}
    assert found(tied, "norm_gain") == [*layer_gains(LAYERS[0]), *layer_gains(LAYERS[1])]
    assert tied.measured.ok and tied.measured.error <= 1e-10 and tied.measured.control >= 1e-6


def test_a_tied_head_refuses_the_shift_and_the_last_gain_by_name(tied: Any) -> None:
    (shift,) = [r for r in tied.refusals if r.gauge == "logit_shift"]
    (gain,) = [r for r in tied.refusals if r.gauge == "norm_gain" and "model.norm.weight" in r.parameter]
    for refusal in (shift, gain):
        assert not refusal
        assert "lm_head.weight" in str(refusal) and "model.embed_tokens.weight" in str(refusal)
        assert "tied" in str(refusal)
        assert str(refusal) in tied.report()
    left = list(tied.metadata["ungauged"])
    assert left == ["model.embed_tokens.weight", "model.norm.weight"]


def test_without_the_word_that_the_output_is_logits(tmp_path: Path) -> None:
    model, args, kwargs = llama(num_hidden_layers=1)
    with pytest.raises(gaugec.MatchError) as caught:
        gaugec.compile("llama", model, args, kwargs)
    assert "logit_shift finds no site in the model" in str(caught.value)
    assert "the moved value is an output of the model" in str(caught.value)
    assert 'say so with loss="cross_entropy"' in (caught.value.help or "")
