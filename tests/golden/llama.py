"""The gauges of llama in LlamaForCausalLM: frames and projectors for its parameters.

    norm_gain: positive, proved, 7 sites
    value_rotation: orthogonal, proved, 3 sites
    qk_rotation_rope: torus, proved, 3 sites
    swiglu_rescale: positive, proved, 3 sites
    logit_shift: translation, proved, 1 site

Written by gaugec: edit the spec, not this file. One class a component of gauges that share parameters: the rows that
an element moves, the frame solved from the spec's `fix` lines, and how the vertical part of a step is solved for;
what all components do alike they inherit. In a pattern c are copies, k is the axis on which an element acts, p a
rotary pair; along other letters all is moved alike. Every tensor has a batch axis in front: parameters of equal
shape are stacked.
"""

from __future__ import annotations

from typing import Any

from gaugec.runtime.component import Component, Coupling, Gram, Pool
from gaugec.runtime.frames import Point
from gaugec.runtime.groups import Orthogonal, Positive, Row, Torus, Translation
from gaugec.runtime.layout import Tensors


class Component0(Component, gauges=3, rows=8, pools=4):
    """3 places: model.layers.{0..2}, model.layers.{0..2}.self_attn

    norm_gain: A norm's gain can move into every linear map that reads the norm.
    value_rotation: A head's value basis is arbitrary: rotate the values, rotate the output projection back.
    qk_rotation_rope: Queries and keys may turn together in every rotary plane.
    """

    shapes = {"input_layernorm": (48,), "q_proj": (60, 48), "k_proj": (20, 48), "v_proj": (20, 48), "o_proj": (48, 60)}
    gauges = (
        Positive("norm_gain", copies=1, size=48).moves(
            Row("g", "input_layernorm", "k", power=1),
            Row("W", "q_proj", "m k", power=-1),
            Row("W", "k_proj", "m k", power=-1),
            Row("W", "v_proj", "m k", power=-1),
        ),
        Orthogonal("value_rotation", copies=2, size=10).moves(
            Row("Wv", "v_proj", "(c k) m"),
            Row("Wo", "o_proj", "m (c r k)"),
        ),
        Torus("qk_rotation_rope", copies=2, size=5).moves(
            Row("Wq", "q_proj", "(c r p k) m"),
            Row("Wk", "k_proj", "(c p k) m"),
        ),
    )
    pools = (
        Pool("q_proj", "(r k s) m", k=2, s=5),
        Pool("k_proj", "(r k s) m", k=2, s=5),
        Pool("v_proj", "(r k) m", k=10),
        Pool("o_proj", "m (r k)", k=10),
    )
    cuts = {"input_layernorm": 1, "q_proj": 30, "k_proj": 10, "v_proj": 10, "o_proj": 1}

    def fix(self, point: Point) -> None:
        """Solve for the scales that bring the parameters to canonical form."""
        # fix g**2 + b**2 == 1
        point.settle("norm_gain", lambda norm: 1 / norm("g"))

    def coefficients(self, gram: Gram) -> Tensors:
        """Of the vertical part of a step: no two gauges meet in the Gram matrix."""
        return {
            "norm_gain": gram.divide("norm_gain"),
            "value_rotation": gram.sylvester("value_rotation"),
            "qk_rotation_rope": gram.divide("qk_rotation_rope"),
        }


class Component1(Component, gauges=2, rows=5, couplings=1):
    """3 places: model.layers.{0..2}, model.layers.{0..2}.mlp

    norm_gain: A norm's gain can move into every linear map that reads the norm.
    swiglu_rescale: The ungated half of a gated layer is linear in each unit, so its scale may move to the way out.
    """

    shapes = {"post_attention_layernorm": (48,), "gate_proj": (58, 48), "up_proj": (58, 48), "down_proj": (48, 58)}
    gauges = (
        Positive("norm_gain", copies=1, size=48).moves(
            Row("g", "post_attention_layernorm", "k", power=1),
            Row("W", "gate_proj", "m k", power=-1),
            Row("W", "up_proj", "m k", power=-1),
        ),
        Positive("swiglu_rescale", copies=1, size=58).moves(
            Row("Wu", "up_proj", "k m", power=1),
            Row("Wd", "down_proj", "m k", power=-1),
        ),
    )
    couplings = (Coupling(("norm_gain", "swiglu_rescale"), "up_proj", "b a", "a", "b", squares=True, weight=-1),)
    cuts = {"post_attention_layernorm": 1, "gate_proj": 1, "up_proj": 1, "down_proj": 1}

    def fix(self, point: Point) -> None:
        """Solve for the scales that bring the parameters to canonical form."""
        # fix g**2 + b**2 == 1
        point.settle("norm_gain", lambda norm: 1 / norm("g"))
        # fix rownorm(Wu) == colnorm(Wd)
        point.settle("swiglu_rescale", lambda norm: norm("Wd").sqrt() / norm("Wu").sqrt())

    def coefficients(self, gram: Gram) -> Tensors:
        """Of the vertical part of a step: norm_gain meets swiglu_rescale in up_proj."""
        return gram.eliminate("swiglu_rescale", rest=("norm_gain",))


class Component2(Component, gauges=2, rows=3, couplings=1):
    """1 place: lm_head

    norm_gain: A norm's gain can move into every linear map that reads the norm.
    logit_shift: Cross-entropy forgets what is added to every logit of a row.
    """

    shapes = {"norm": (48,), "lm_head": (61, 48)}
    gauges = (
        Positive("norm_gain", copies=1, size=48).moves(
            Row("g", "norm", "k", power=1),
            Row("W", "lm_head", "m k", power=-1),
        ),
        Translation("logit_shift", copies=1, size=48).moves(
            Row("U", "lm_head", "m k"),
        ),
    )
    couplings = (Coupling(("norm_gain", "logit_shift"), "lm_head", "m a", "a", "a", squares=False, weight=-1),)
    cuts = {"norm": 1, "lm_head": 1}

    def fix(self, point: Point) -> None:
        """Solve for the scales that bring the parameters to canonical form."""
        # fix g**2 + b**2 == 1
        point.settle("norm_gain", lambda norm: 1 / norm("g"))

    def coefficients(self, gram: Gram) -> Tensors:
        """Of the vertical part of a step: norm_gain meets logit_shift in lm_head."""
        return gram.eliminate("norm_gain", rest=("logit_shift",))


# Where they are: for every tensor its parameters, place after place.
COMPONENTS = (
    Component0(
        {
            "input_layernorm": "model.layers.{0..2}.input_layernorm.weight",
            "q_proj": "model.layers.{0..2}.self_attn.q_proj.weight",
            "k_proj": "model.layers.{0..2}.self_attn.k_proj.weight",
            "v_proj": "model.layers.{0..2}.self_attn.v_proj.weight",
            "o_proj": "model.layers.{0..2}.self_attn.o_proj.weight",
        },
    ),
    Component1(
        {
            "post_attention_layernorm": "model.layers.{0..2}.post_attention_layernorm.weight",
            "gate_proj": "model.layers.{0..2}.mlp.gate_proj.weight",
            "up_proj": "model.layers.{0..2}.mlp.up_proj.weight",
            "down_proj": "model.layers.{0..2}.mlp.down_proj.weight",
        },
    ),
    Component2({"norm": "model.norm.weight", "lm_head": "lm_head.weight"}),
)

# fmt: off
METADATA: dict[str, Any] = {
    "certificate": 4, "gaugec": "...", "torch": "...",
    "file_sha256": "0000000000000000000000000000000000000000000000000000000000000000",
    "spec": "llama", "spec_file": "llama",
    "spec_sha256": "4746dd442fa775c1773763c779fc8c616905ad54fe54c9ef33e4b40b2930d59b",
    "steps": [
        "linearity: products distribute over sums", "power of a product: (c x)^n = c^n x^n for c > 0",
        "delta: sum over j of delta[i,j] f[j] is f[i]",
        "orthogonality: R'R = 1 = RR', where the summed index occurs in those two only",
        "angles: S^2 = 1 - C^2 in every rotated pair",
        "cross_entropy shift: cross_entropy forgets what is added along its axis",
    ],
    "theorems": [
        {"gauge": "norm_gain", "verdict": "proved", "conditions": ["c > 0"], "steps": [0, 1, 2], "sampled": True},
        {"gauge": "swiglu_rescale", "verdict": "proved", "conditions": ["c > 0"], "steps": [0, 2, 1], "sampled": True},
        {"gauge": "value_rotation", "verdict": "proved", "conditions": [], "steps": [0, 3, 2], "sampled": True},
        {"gauge": "qk_rotation_rope", "verdict": "proved", "conditions": [], "steps": [0, 2, 4], "sampled": True},
        {"gauge": "logit_shift", "verdict": "proved", "conditions": [], "steps": [0, 5], "sampled": True},
    ],
    "loss": "cross_entropy", "outputs": [], "fixed": [], "taken": [],
    "traced": "same graph with input sizes 5->8, 8->75; 5->6, 8->9; in numbers 5->1, 8->1",
    "inputs": [("model.rotary_emb.inv_freq", (5,)), ("input_ids", (5, 8)), ("targets", (5, 8))],
    "graph_sha256": "a1cc8b037b6ad51557b670b85f929bd92effcfb8ebeb78d2e4467e98087b3e60",
    "graph_trail": [
        (1, "b9"), (3, "ce920bbf4786cf8f9d"),
        (
            1,
            (
                "39fcda1eea96b426342f92925db426b426cbd2e7d3d2a1253600d2e75bd2a14640a3225ee20381e41bc85808f88ea7b75a"
                "8e770853dcb3421d307b58c4388f7e19ae"
            ),
        ),
        (2, "d98daba7a34052851c884c6479c858081f8ea7b75a8e770853dcb3421d307b58c4388f7e19a4"),
        (1, "d98daba7a34052851c884c6492f608301bdeabbd31"),
    ],
    "structures": {
        "ab395e19e7d3": {"group": "positive", "verdict": "proved", "conditions": ["c > 0"], "steps": [0]},
        "a62eaf56a573": {"group": "positive", "verdict": "proved", "conditions": ["c > 0"], "steps": [0]},
        "7c72b6698345": {"group": "positive", "verdict": "proved", "conditions": ["c > 0"], "steps": [0]},
        "95cc763923d2": {"group": "positive", "verdict": "proved", "conditions": ["c > 0"], "steps": [0]},
        "2d0e37e5d766": {"group": "orthogonal", "verdict": "proved", "conditions": [], "steps": [0, 3, 2]},
        "f5904ae17ae6": {
            "group": "torus", "pairing": "halves", "rotary": 10, "verdict": "proved", "conditions": [], "steps": [0, 4],
        },
        "f8978f4c95e1": {"group": "translation", "verdict": "proved", "conditions": [], "steps": [0, 5]},
    },
    "layouts": [
        {"copies": 1, "size": 48, "bindings": [
            {"role": "g", "group": ((48, 1),), "move": "scale"},
            {
                "role": "W", "group": ((48, 1),), "rest": ((2, 1440), (3, 480), (10, 48)), "move": "scale",
                "exponent": "-1",
            },
            {"role": "W", "group": ((48, 1),), "rest": ((2, 480), (10, 48)), "move": "scale", "exponent": "-1"},
            {"role": "W", "group": ((48, 1),), "rest": ((2, 480), (10, 48)), "move": "scale", "exponent": "-1"},
        ]},
        {"copies": 1, "size": 48, "bindings": [
            {"role": "g", "group": ((48, 1),), "move": "scale"},
            {"role": "W", "group": ((48, 1),), "rest": ((58, 48),), "move": "scale", "exponent": "-1"},
            {"role": "W", "group": ((48, 1),), "rest": ((58, 48),), "move": "scale", "exponent": "-1"},
        ]},
        {"copies": 1, "size": 48, "bindings": [
            {"role": "g", "group": ((48, 1),), "move": "scale"},
            {"role": "W", "group": ((48, 1),), "rest": ((61, 48),), "move": "scale", "exponent": "-1"},
        ]},
        {"copies": 1, "size": 58, "bindings": [
            {"role": "Wu", "group": ((58, 48),), "rest": ((48, 1),), "move": "scale"},
            {"role": "Wd", "group": ((58, 1),), "rest": ((48, 58),), "move": "scale", "exponent": "-1"},
        ]},
        {"copies": 2, "size": 10, "bindings": [
            {"role": "Wv", "copies": ((2, 480),), "group": ((10, 48),), "rest": ((48, 1),), "move": "rotate"},
            {"role": "Wo", "copies": ((2, 30),), "group": ((10, 1),), "rest": ((48, 60), (3, 10)), "move": "rotate"},
        ]},
        {"copies": 2, "size": 10, "bindings": [
            {"role": "Wq", "copies": ((2, 1440),), "group": ((10, 48),), "rest": ((3, 480), (48, 1)), "move": "rotate"},
            {"role": "Wk", "copies": ((2, 480),), "group": ((10, 48),), "rest": ((48, 1),), "move": "rotate"},
        ]},
        {"copies": 1, "size": 61, "bindings": [
            {"role": "U", "group": ((61, 48),), "rest": ((48, 1),), "move": "shift"},
        ]},
    ],
    "sites": [
        {
            "gauge": "norm_gain", "index": "{0..4..2}", "place": "model.layers.{0..2}", "structure": "ab395e19e7d3",
            "layout": 0,
            "parameters": [
                "model.layers.{0..2}.input_layernorm.weight", "model.layers.{0..2}.self_attn.q_proj.weight",
                "model.layers.{0..2}.self_attn.k_proj.weight", "model.layers.{0..2}.self_attn.v_proj.weight",
            ],
        },
        {
            "gauge": "norm_gain", "index": "{1..5..2}", "place": "model.layers.{0..2}", "structure": "a62eaf56a573",
            "layout": 1,
            "parameters": [
                "model.layers.{0..2}.post_attention_layernorm.weight", "model.layers.{0..2}.mlp.gate_proj.weight",
                "model.layers.{0..2}.mlp.up_proj.weight",
            ],
        },
        {"gauge": "norm_gain", "index": "6", "place": "", "structure": "7c72b6698345", "layout": 2, "parameters": [
            "model.norm.weight", "lm_head.weight",
        ]},
        {
            "gauge": "swiglu_rescale", "index": "{0..2}", "place": "model.layers.{0..2}.mlp",
            "structure": "95cc763923d2", "layout": 3,
            "parameters": ["model.layers.{0..2}.mlp.up_proj.weight", "model.layers.{0..2}.mlp.down_proj.weight"],
        },
        {
            "gauge": "value_rotation", "index": "{0..2}", "place": "model.layers.{0..2}.self_attn",
            "structure": "2d0e37e5d766", "layout": 4,
            "parameters": [
                "model.layers.{0..2}.self_attn.v_proj.weight", "model.layers.{0..2}.self_attn.o_proj.weight",
            ],
        },
        {
            "gauge": "qk_rotation_rope", "index": "{0..2}", "place": "model.layers.{0..2}.self_attn",
            "structure": "f5904ae17ae6", "layout": 5,
            "parameters": [
                "model.layers.{0..2}.self_attn.q_proj.weight", "model.layers.{0..2}.self_attn.k_proj.weight",
            ],
        },
        {
            "gauge": "logit_shift", "index": "0", "place": "lm_head", "structure": "f8978f4c95e1", "layout": 6,
            "parameters": ["lm_head.weight"],
        },
    ],
    "refused": [], "gauged": (51360, 54288),
    "ungauged": {
        "model.embed_tokens.weight": (
            "swiglu_rescale at model.embed_tokens.weight, with model.layers.0.self_attn.q_proj.weight, model.layers"
            ".0.self_attn.k_proj.weight, model.layers.0.self_attn.v_proj.weight: moved values are multiplied togeth"
            "er at aten.pow, where the formula has no such step in model.layers.0.input_layernorm"
        ),
    },
    "parameters": {
        "model.embed_tokens.weight": (61, 48), "lm_head.weight": (61, 48),
        "model.layers.{0..2}.self_attn.q_proj.weight": (60, 48),
        "model.layers.{0..2}.self_attn.k_proj.weight": (20, 48),
        "model.layers.{0..2}.self_attn.v_proj.weight": (20, 48),
        "model.layers.{0..2}.self_attn.o_proj.weight": (48, 60), "model.layers.{0..2}.mlp.gate_proj.weight": (58, 48),
        "model.layers.{0..2}.mlp.up_proj.weight": (58, 48), "model.layers.{0..2}.mlp.down_proj.weight": (48, 58),
        "model.layers.{0..2}.input_layernorm.weight": (48,),
        "model.layers.{0..2}.post_attention_layernorm.weight": (48,),
        "model.norm.weight": (48,),
    },
    "tied": {},
    "roles": [
        {"role": "table", "matrices": [(0, (), ((48, 1),), ((61, 48),))], "parameters": ["model.embed_tokens.weight"]},
        {"role": "matrix", "matrices": [(0, ((6, 480),), ((10, 48),), ((48, 1),))], "parameters": [
            "model.layers.{0..2}.self_attn.q_proj.weight",
        ]},
        {"role": "matrix", "matrices": [(0, ((2, 480),), ((10, 48),), ((48, 1),))], "parameters": [
            "model.layers.{0..2}.self_attn.k_proj.weight", "model.layers.{0..2}.self_attn.v_proj.weight",
        ]},
        {"role": "matrix", "matrices": [(0, ((6, 10),), ((48, 60),), ((10, 1),))], "parameters": [
            "model.layers.{0..2}.self_attn.o_proj.weight",
        ]},
        {"role": "matrix", "matrices": [(0, (), ((58, 48),), ((48, 1),))], "parameters": [
            "model.layers.{0..2}.mlp.gate_proj.weight", "model.layers.{0..2}.mlp.up_proj.weight",
        ]},
        {"role": "matrix", "matrices": [(0, (), ((48, 58),), ((58, 1),))], "parameters": [
            "model.layers.{0..2}.mlp.down_proj.weight",
        ]},
        {"role": "gain", "matrices": [], "parameters": [
            "model.layers.{0..2}.input_layernorm.weight", "model.layers.{0..2}.post_attention_layernorm.weight",
            "model.norm.weight",
        ]},
        {"role": "head", "matrices": [(0, (), ((61, 48),), ((48, 1),))], "parameters": ["lm_head.weight"]},
    ],
    "unchecked": {"what": "", "why": []},
    "assumed": {
        "mode": "train",
        "settings": [
            ("forward", "transformers:LlamaForCausalLM.forward", ("",)),
            ("forward", "transformers:LlamaModel.forward", ("model",)),
            ("forward", "torch:Embedding.forward", ("model.embed_tokens",)),
            ("forward", "transformers:LlamaDecoderLayer.forward", ("model.layers.{0..2}",)),
            ("forward", "transformers:LlamaAttention.forward", ("model.layers.{0..2}.self_attn",)),
            (
                "forward", "torch:Linear.forward",
                (
                    "model.layers.{0..2}.self_attn.q_proj", "model.layers.{0..2}.self_attn.k_proj",
                    "model.layers.{0..2}.self_attn.v_proj", "model.layers.{0..2}.self_attn.o_proj",
                    "model.layers.{0..2}.mlp.gate_proj", "model.layers.{0..2}.mlp.up_proj",
                    "model.layers.{0..2}.mlp.down_proj", "lm_head",
                ),
            ),
            ("forward", "transformers:LlamaMLP.forward", ("model.layers.{0..2}.mlp",)),
            ("forward", "transformers:SiLUActivation.forward", ("model.layers.{0..2}.mlp.act_fn",)),
            (
                "forward", "transformers:LlamaRMSNorm.forward",
                ("model.layers.{0..2}.input_layernorm", "model.layers.{0..2}.post_attention_layernorm", "model.norm"),
            ),
            ("forward", "transformers:LlamaRotaryEmbedding.forward", ("model.rotary_emb",)),
        ],
        "globals": [], "tensors": [("input_ids", "int64", (0, 0), "")], "values": [("use_cache", "False")],
        "frozen": [],
        "parts": [
            "model", "lm_head", "model.embed_tokens", "model.layers", "model.norm", "model.rotary_emb",
            "model.layers.{0..2}", "model.layers.{0..2}.self_attn", "model.layers.{0..2}.mlp",
            "model.layers.{0..2}.input_layernorm", "model.layers.{0..2}.post_attention_layernorm",
            "model.layers.{0..2}.self_attn.q_proj", "model.layers.{0..2}.self_attn.k_proj",
            "model.layers.{0..2}.self_attn.v_proj", "model.layers.{0..2}.self_attn.o_proj",
            "model.layers.{0..2}.mlp.gate_proj", "model.layers.{0..2}.mlp.up_proj", "model.layers.{0..2}.mlp.down_proj",
            "model.layers.{0..2}.mlp.act_fn", "model.rotary_emb.inv_freq (a buffer)",
            "model.rotary_emb.original_inv_freq (a buffer)",
        ],
        "unknown": [],
        "everywhere": {
            "_backward_hooks": "{}", "_backward_pre_hooks": "{}", "_forward_hooks": "{}", "_forward_pre_hooks": "{}",
            "config": "a transformers:LlamaConfig", "training": "True",
            "config._attn_implementation_internal": "'sdpa'", "config._output_attentions": "False",
            "config.is_causal": "not there", "config.num_hidden_layers": "3", "config.output_hidden_states": "False",
            "config.return_dict": "True", "config.vision_aspect_ratio": "not there",
            "config.vision_feature_layer": "not there", "config.vision_feature_select_strategy": "not there",
            "gradient_checkpointing": "False", "forward.func.tie_last_hidden_states": "True", "max_norm": "None",
            "norm_type": "2.0", "padding_idx": "0", "scale_grad_by_freq": "False", "sparse": "False",
            "attention_dropout": "0.0", "head_dim": "10", "is_causal": "True", "num_key_value_groups": "3",
            "scaling": "0.31622776601683794", "variance_epsilon": "1e-06", "attention_scaling": "1.0",
            "rope_type": "'default'",
        },
    },
    "witness": {"error": "...", "control": "...", "controls": 17, "note": ""},
}
