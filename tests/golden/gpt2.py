"""The gauges of gpt2 in GPT2LMHeadModel: frames and projectors for its parameters.

    value_rotation: orthogonal, proved, 3 sites
    qk_rotation: orthogonal, proved, 3 sites

Written by gaugec: edit the spec, not this file. One class a component of gauges that share parameters: the rows that
an element moves, the frame solved from the spec's `fix` lines, and how the vertical part of a step is solved for;
what all components do alike they inherit. In a pattern c are copies, k is the axis on which an element acts, p a
rotary pair; along other letters all is moved alike. Every tensor has a batch axis in front: parameters of equal
shape are stacked.
"""

from __future__ import annotations

from typing import Any

from gaugec.runtime.component import Component, Gram, Pool
from gaugec.runtime.groups import Orthogonal, Row
from gaugec.runtime.layout import Tensors


class Component0(Component, gauges=2, rows=7, pools=7):
    """3 places: transformer.h.{0..2}.attn

    value_rotation: A head's value basis is arbitrary: rotate the values, rotate the output projection back.
    qk_rotation: Without rotary embedding, queries and keys may turn together in every direction of the head.
    """

    shapes = {"c_attn": (42, 126), "c_attn.bias": (126,), "c_proj": (42, 42)}
    gauges = (
        Orthogonal("value_rotation", copies=6, size=7).moves(
            Row("Wv", "c_attn[:, 84:126]", "m (c k)"),
            Row("bv", "c_attn.bias[84:126]", "(c k)"),
            Row("Wo", "c_proj", "(c k) m"),
        ),
        Orthogonal("qk_rotation", copies=6, size=7).moves(
            Row("Wq", "c_attn[:, 0:42]", "m (c k)"),
            Row("bq", "c_attn.bias[0:42]", "(c k)"),
            Row("Wk", "c_attn[:, 42:84]", "m (c k)"),
            Row("bk", "c_attn.bias[42:84]", "(c k)"),
        ),
    )
    pools = (
        Pool("c_attn[:, 0:42]", "m (r k)", k=7),
        Pool("c_attn[:, 42:84]", "m (r k)", k=7),
        Pool("c_attn[:, 84:126]", "m (r k)", k=7),
        Pool("c_attn.bias[0:42]", "(r k)", k=7),
        Pool("c_attn.bias[42:84]", "(r k)", k=7),
        Pool("c_attn.bias[84:126]", "(r k)", k=7),
        Pool("c_proj", "(r k) m", k=7),
    )
    cuts = {"c_proj": 7}

    def coefficients(self, gram: Gram) -> Tensors:
        """Of the vertical part of a step: no two gauges meet in the Gram matrix."""
        return {
            "value_rotation": gram.sylvester("value_rotation"),
            "qk_rotation": gram.sylvester("qk_rotation"),
        }


# Where they are: for every tensor its parameters, place after place.
COMPONENTS = (
    Component0(
        {
            "c_attn": "transformer.h.{0..2}.attn.c_attn.weight",
            "c_attn.bias": "transformer.h.{0..2}.attn.c_attn.bias",
            "c_proj": "transformer.h.{0..2}.attn.c_proj.weight",
        },
    ),
)

# fmt: off
METADATA: dict[str, Any] = {
    "certificate": 4, "gaugec": "...", "torch": "...",
    "file_sha256": "0000000000000000000000000000000000000000000000000000000000000000",
    "spec": "gpt2", "spec_file": "gpt2.gauge",
    "spec_sha256": "1203fb0bf0a670c323005a720124c017d7745ec3528a14c17d60084646b07d15",
    "steps": [
        "linearity: products distribute over sums",
        "orthogonality: R'R = 1 = RR', where the summed index occurs in those two only",
        "delta: sum over j of delta[i,j] f[j] is f[i]",
    ],
    "theorems": [
        {"gauge": "value_rotation", "verdict": "proved", "conditions": [], "steps": [0, 1, 2], "sampled": True},
        {"gauge": "qk_rotation", "verdict": "proved", "conditions": [], "steps": [0, 1, 2], "sampled": True},
    ],
    "loss": "", "outputs": [], "fixed": [], "taken": [],
    "traced": "same graph with input sizes 5->8, 8->21; 5->6, 8->9; in numbers 5->1, 8->1",
    "inputs": [
        ("input_ids", (5, 8)), ("dropout", (5, 8, 42)), ("dropout", (5, 8, 42)), ("dropout", (5, 8, 42)),
        ("dropout", (5, 8, 42)), ("dropout", (5, 8, 42)), ("dropout", (5, 8, 42)), ("dropout", (5, 8, 42)),
        ("dropout", (5, 6, 8, 8)), ("dropout", (5, 6, 8, 8)), ("dropout", (5, 6, 8, 8)),
    ],
    "graph_sha256": "35a41207c1ea5979248cc8af1e34675534f3127c9b2acfb8b9e96803617898d6",
    "graph_trail": [
        (1, "3523"), (3, "eeaeecd89f45eeaec63c99c2"),
        (
            1,
            (
                "e6ba1edc6a39b669b2d32f2dbfbfcb39b639b68fc8cb08c86a0bdab3c8cb73c86a26a86e5fc692641ad4f9eafb6842344a"
                "ff1803e7dcde74fa6064daa1"
            ),
        ),
        (2, "1cf91ad4f9eafb6842c713633e2d3b0e1d1cf91ad4f9eafb6842344aff1803e7dcde74fa6064da92"),
        (1, "1cf91ad4f9eafb6842c713633e2d3b0e1d746bf43a592ac2785a15"),
    ],
    "structures": {
        "43ed23ea6f15": {"group": "orthogonal", "verdict": "proved", "conditions": [], "steps": [0, 1, 2]},
        "d55cc843f0b8": {"group": "orthogonal", "verdict": "proved", "conditions": [], "steps": [0, 1, 2]},
    },
    "layouts": [
        {"copies": 6, "size": 7, "bindings": [
            {
                "role": "Wv", "offset": 84, "copies": ((6, 7),), "group": ((7, 1),), "rest": ((42, 126),),
                "move": "rotate",
            },
            {"role": "bv", "offset": 84, "copies": ((6, 7),), "group": ((7, 1),), "move": "rotate"},
            {"role": "Wo", "copies": ((6, 294),), "group": ((7, 42),), "rest": ((42, 1),), "move": "rotate"},
        ]},
        {"copies": 6, "size": 7, "bindings": [
            {"role": "Wq", "copies": ((6, 7),), "group": ((7, 1),), "rest": ((42, 126),), "move": "rotate"},
            {"role": "bq", "copies": ((6, 7),), "group": ((7, 1),), "move": "rotate"},
            {
                "role": "Wk", "offset": 42, "copies": ((6, 7),), "group": ((7, 1),), "rest": ((42, 126),),
                "move": "rotate",
            },
            {"role": "bk", "offset": 42, "copies": ((6, 7),), "group": ((7, 1),), "move": "rotate"},
        ]},
    ],
    "sites": [
        {
            "gauge": "value_rotation", "index": "{0..2}", "place": "transformer.h.{0..2}.attn",
            "structure": "43ed23ea6f15", "layout": 0,
            "parameters": [
                "transformer.h.{0..2}.attn.c_attn.weight", "transformer.h.{0..2}.attn.c_attn.bias",
                "transformer.h.{0..2}.attn.c_proj.weight",
            ],
        },
        {
            "gauge": "qk_rotation", "index": "{0..2}", "place": "transformer.h.{0..2}.attn",
            "structure": "d55cc843f0b8", "layout": 1,
            "parameters": [
                "transformer.h.{0..2}.attn.c_attn.weight", "transformer.h.{0..2}.attn.c_attn.bias",
                "transformer.h.{0..2}.attn.c_attn.weight", "transformer.h.{0..2}.attn.c_attn.bias",
            ],
        },
    ],
    "refused": [], "gauged": (21546, 69132),
    "ungauged": {
        "transformer.wte.weight": (
            "value_rotation at transformer.wte.weight (tied to lm_head.weight): the moved axis is looked up by inde"
            "x at aten.embedding in transformer.wte; transformer.wte.weight and lm_head.weight are one tied weight,"
            " and every use of it would move"
        ),
        "transformer.wpe.weight": (
            "value_rotation at transformer.wpe.weight: transformer.wte.weight (tied to lm_head.weight) must move, a"
            "nd the formula has no role left for it at aten.add in transformer"
        ),
        "transformer.h.0.ln_{1..2}.weight": "no gauge of the spec holds there",
        "transformer.h.1.ln_{1..2}.weight": "no gauge of the spec holds there",
        "transformer.h.2.ln_{1..2}.weight": "no gauge of the spec holds there",
        "transformer.h.0.ln_{1..2}.bias": "no gauge of the spec holds there",
        "transformer.h.1.ln_{1..2}.bias": "no gauge of the spec holds there",
        "transformer.h.2.ln_{1..2}.bias": "no gauge of the spec holds there",
        "transformer.h.{0..2}.attn.c_proj.bias": "no gauge of the spec holds there",
        "transformer.h.{0..2}.mlp.c_fc.weight": (
            "value_rotation at transformer.h.{0..2}.mlp.c_fc.weight, with transformer.h.{0..2}.mlp.c_fc.bias: (1/2)"
            " * x * (tanh((3989422804014327/5000000000000000) * (x + (8943/200000) * x**3)) + 1) acts on each coord"
            "inate by itself at aten.mul in transformer.h.{0..2}.mlp.act"
        ),
        "transformer.h.{0..2}.mlp.c_fc.bias": (
            "value_rotation at transformer.h.{0..2}.mlp.c_fc.weight, with transformer.h.{0..2}.mlp.c_fc.bias: (1/2)"
            " * x * (tanh((3989422804014327/5000000000000000) * (x + (8943/200000) * x**3)) + 1) acts on each coord"
            "inate by itself at aten.mul in transformer.h.{0..2}.mlp.act"
        ),
        "transformer.h.{0..2}.mlp.c_proj.weight": (
            "value_rotation at transformer.h.{0..2}.mlp.c_proj.weight: no axis is left on which one element acts: i"
            "t is weighted by values that vary along it at aten.native_dropout in transformer.h.{0..2}.mlp.dropout"
        ),
        "transformer.h.{0..2}.mlp.c_proj.bias": "no gauge of the spec holds there",
        "transformer.ln_f.weight": "no gauge of the spec holds there",
        "transformer.ln_f.bias": "no gauge of the spec holds there",
    },
    "parameters": {
        "transformer.wte.weight": (61, 42), "transformer.wpe.weight": (32, 42),
        "transformer.h.{0..2}.ln_{1..2}.weight": (42,), "transformer.h.{0..2}.ln_{1..2}.bias": (42,),
        "transformer.h.{0..2}.attn.c_proj.bias": (42,), "transformer.h.{0..2}.mlp.c_proj.bias": (42,),
        "transformer.ln_f.weight": (42,), "transformer.ln_f.bias": (42,),
        "transformer.h.{0..2}.attn.c_attn.weight": (42, 126), "transformer.h.{0..2}.attn.c_attn.bias": (126,),
        "transformer.h.{0..2}.attn.c_proj.weight": (42, 42), "transformer.h.{0..2}.mlp.c_fc.weight": (42, 168),
        "transformer.h.{0..2}.mlp.c_fc.bias": (168,), "transformer.h.{0..2}.mlp.c_proj.weight": (168, 42),
    },
    "tied": {"lm_head.weight": "transformer.wte.weight"},
    "roles": [
        {"role": "table", "matrices": [(0, (), ((61, 42),), ((42, 1),))], "parameters": ["transformer.wte.weight"]},
        {"role": "table", "matrices": [(0, (), ((42, 1),), ((32, 42),))], "parameters": ["transformer.wpe.weight"]},
        {"role": "gain", "matrices": [], "parameters": [
            "transformer.h.{0..2}.ln_{1..2}.weight", "transformer.ln_f.weight",
        ]},
        {"role": "bias", "matrices": [], "parameters": [
            "transformer.h.{0..2}.ln_{1..2}.bias", "transformer.h.{0..2}.attn.c_attn.bias",
            "transformer.h.{0..2}.attn.c_proj.bias", "transformer.h.{0..2}.mlp.c_fc.bias",
            "transformer.h.{0..2}.mlp.c_proj.bias", "transformer.ln_f.bias",
        ]},
        {"role": "matrix", "matrices": [(0, ((18, 7),), ((7, 1),), ((42, 126),))], "parameters": [
            "transformer.h.{0..2}.attn.c_attn.weight",
        ]},
        {"role": "matrix", "matrices": [(0, ((6, 294),), ((42, 1),), ((7, 42),))], "parameters": [
            "transformer.h.{0..2}.attn.c_proj.weight",
        ]},
        {"role": "matrix", "matrices": [(0, (), ((168, 1),), ((42, 168),))], "parameters": [
            "transformer.h.{0..2}.mlp.c_fc.weight",
        ]},
        {"role": "matrix", "matrices": [(0, (), ((42, 1),), ((168, 42),))], "parameters": [
            "transformer.h.{0..2}.mlp.c_proj.weight",
        ]},
    ],
    "unchecked": {"what": "", "why": []},
    "assumed": {
        "mode": "train",
        "settings": [
            ("forward", "transformers:GPT2LMHeadModel.forward", ("",)),
            ("forward", "transformers:GPT2Model.forward", ("transformer",)),
            ("forward", "torch:Embedding.forward", ("transformer.wte", "transformer.wpe")),
            (
                "forward", "torch:Dropout.forward",
                ("transformer.drop", "transformer.h.{0..2}.attn.resid_dropout", "transformer.h.{0..2}.mlp.dropout"),
            ),
            ("forward", "transformers:GPT2Block.forward", ("transformer.h.{0..2}",)),
            ("forward", "torch:LayerNorm.forward", ("transformer.h.{0..2}.ln_{1..2}", "transformer.ln_f")),
            ("forward", "transformers:GPT2Attention.forward", ("transformer.h.{0..2}.attn",)),
            (
                "forward", "transformers:Conv1D.forward",
                (
                    "transformer.h.{0..2}.attn.c_attn", "transformer.h.{0..2}.attn.c_proj",
                    "transformer.h.{0..2}.mlp.c_fc", "transformer.h.{0..2}.mlp.c_proj",
                ),
            ),
            ("forward", "transformers:GPT2MLP.forward", ("transformer.h.{0..2}.mlp",)),
            ("forward", "transformers:NewGELUActivation.forward", ("transformer.h.{0..2}.mlp.act",)),
            ("forward", "torch:Linear.forward", ("lm_head",)), ("nf", "126", ("transformer.h.{0..2}.attn.c_attn",)),
            ("nf", "42", ("transformer.h.{0..2}.attn.c_proj", "transformer.h.{0..2}.mlp.c_proj")),
            ("nf", "168", ("transformer.h.{0..2}.mlp.c_fc",)),
        ],
        "globals": [], "tensors": [("input_ids", "int64", (0, 0), "")], "values": [("use_cache", "False")],
        "frozen": [],
        "parts": [
            "transformer", "lm_head", "transformer.wte", "transformer.wpe", "transformer.drop", "transformer.h",
            "transformer.ln_f", "transformer.h.{0..2}", "transformer.h.{0..2}.ln_{1..2}", "transformer.h.{0..2}.attn",
            "transformer.h.{0..2}.mlp", "transformer.h.{0..2}.attn.c_attn", "transformer.h.{0..2}.attn.c_proj",
            "transformer.h.{0..2}.attn.attn_dropout", "transformer.h.{0..2}.attn.resid_dropout",
            "transformer.h.{0..2}.mlp.c_fc", "transformer.h.{0..2}.mlp.c_proj", "transformer.h.{0..2}.mlp.act",
            "transformer.h.{0..2}.mlp.dropout",
        ],
        "unknown": [],
        "everywhere": {
            "_backward_hooks": "{}", "_backward_pre_hooks": "{}", "_forward_hooks": "{}", "_forward_pre_hooks": "{}",
            "config": "a transformers:GPT2Config", "training": "True", "config._attn_implementation_internal": "'sdpa'",
            "config._output_attentions": "False", "config.is_causal": "not there",
            "config.output_cross_attentions": "not there", "config.output_hidden_states": "False",
            "config.pad_token_id": "0", "config.return_dict": "True", "config.vision_aspect_ratio": "not there",
            "config.vision_feature_layer": "not there", "config.vision_feature_select_strategy": "not there",
            "gradient_checkpointing": "False", "forward.func.tie_last_hidden_states": "True", "max_norm": "None",
            "norm_type": "2.0", "padding_idx": "None", "scale_grad_by_freq": "False", "sparse": "False",
            "inplace": "False", "p": "0.1", "eps": "1e-05", "normalized_shape": "(42,)", "head_dim": "7",
            "is_causal": "True", "num_key_value_groups": "not there", "scaling": "0.37796447300922725",
            "split_size": "42",
        },
    },
    "witness": {"error": "...", "control": "...", "controls": 6, "note": ""},
}
