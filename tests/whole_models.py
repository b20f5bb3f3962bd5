"""Small models, and the spec of every gauge that each has: d = 8, f = 7, heads of 4, a vocabulary of 12 (or 5 classes).

A GPT-NeoX has heads of 16, of which a quarter is rotary.

Gains and biases are drawn anew, since at ones and zeros directions are dead that are none elsewhere; nothing drops out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

VOCABULARY, CLASSES = 12, 5
_CALM = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_HEADS = {"hidden_size": 8, "intermediate_size": 7, "num_attention_heads": 2, "vocab_size": VOCABULARY}
_LLAMA = _HEADS | {"num_key_value_heads": 1, "head_dim": 4, "use_cache": False}


class Units(nn.Module):
    """A perceptron with two layers of ReLU units."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, CLASSES)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Images(nn.Module):
    """Two convolutions, the first with a batch norm, and a classifier on the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 7, 3)
        self.head = nn.Linear(7, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.b(torch.relu(self.norm(self.a(x))))).mean((-1, -2)))


def _tokens(names: tuple[str, ...] = ("input_ids",), length: int = 9) -> Callable[[torch.Generator], dict[str, Tensor]]:
    return lambda g: {name: torch.randint(0, VOCABULARY, (3, length), generator=g) for name in names}


def _images(name: str, *shape: int) -> Callable[[torch.Generator], dict[str, Tensor]]:
    return lambda g: {name: torch.randn(3, *shape, generator=g, dtype=torch.float64)}


@dataclass(frozen=True)
class Whole:
    """A model by its number of layers, a batch drawn by a generator, and the specs that ship: with every gauge, and
    the one without those that cost more."""

    make: Callable[[int], nn.Module]
    batch: Callable[[torch.Generator], Mapping[str, Tensor]]
    spec: str
    shipped: str

    def build(self, layers: int = 2) -> nn.Module:
        """In float64, in training mode, away from its initialisation."""
        torch.manual_seed(0)
        model = self.make(layers).double().train()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        return model

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """[..., classes]."""
        made: Any = model(**batch)
        return made if isinstance(made, Tensor) else made.logits


def _lm(kind: Any, config: Any, spec: str, layers: str = "num_hidden_layers", **sizes: Any) -> Whole:
    names = ("input_ids", "decoder_input_ids") if kind is hf.T5ForConditionalGeneration else ("input_ids",)
    return Whole(lambda n: kind(config(**sizes, **{layers: n})), _tokens(names), f"{spec}_full", spec)


_GPT2 = {"n_embd": 8, "n_head": 2, "n_inner": 7, "n_positions": 9, "vocab_size": VOCABULARY, "use_cache": False}
_GPT2 |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}
_OPT = {"hidden_size": 8, "ffn_dim": 7, "num_attention_heads": 2, "vocab_size": VOCABULARY, "word_embed_proj_dim": 8}
_OPT |= {"max_position_embeddings": 9, "dropout": 0.0, "use_cache": False, "bos_token_id": 0, "eos_token_id": 0}
_NEOX = _HEADS | {"hidden_size": 32}
_T5 = {"d_model": 8, "d_kv": 4, "d_ff": 7, "num_heads": 2, "vocab_size": VOCABULARY, "dropout_rate": 0.0}
_VIT = {"hidden_size": 8, "intermediate_size": 7, "num_attention_heads": 2, "image_size": 12, "patch_size": 4}
_MIXTRAL = _LLAMA | {"num_local_experts": 3, "num_experts_per_tok": 2, "experts_implementation": "batched_mm"}

MODELS: dict[str, Whole] = {
    "llama": _lm(hf.LlamaForCausalLM, hf.LlamaConfig, "llama", **_LLAMA),
    "gemma": _lm(hf.GemmaForCausalLM, hf.GemmaConfig, "gemma", **_LLAMA, tie_word_embeddings=False),
    "qwen3": _lm(hf.Qwen3ForCausalLM, hf.Qwen3Config, "qwen3", **_LLAMA),
    "mixtral": _lm(hf.MixtralForCausalLM, hf.MixtralConfig, "mixtral", **_MIXTRAL),
    "gpt2": _lm(hf.GPT2LMHeadModel, hf.GPT2Config, "gpt2", "n_layer", **_GPT2),
    "opt": _lm(hf.OPTForCausalLM, hf.OPTConfig, "opt", **_OPT),
    "gpt_neox": _lm(hf.GPTNeoXForCausalLM, hf.GPTNeoXConfig, "gpt_neox", **_NEOX, use_cache=False),
    "bert": _lm(hf.BertForMaskedLM, hf.BertConfig, "bert", **_HEADS, **_CALM, max_position_embeddings=9),
    "t5": _lm(hf.T5ForConditionalGeneration, hf.T5Config, "t5", "num_layers", **_T5, use_cache=False),
    "vit": Whole(
        lambda n: hf.ViTForImageClassification(
            hf.ViTConfig(**_VIT, **_CALM, num_hidden_layers=n, num_labels=CLASSES)
        ),
        _images("pixel_values", 3, 12, 12),
        "vit_full",
        "vit",
    ),
    "relu_mlp": Whole(lambda _: Units(), _images("x", 6), "relu_mlp_full", "relu_mlp"),
    "conv_bn": Whole(lambda _: Images(), _images("x", 3, 7, 7), "conv_bn_full", "conv_bn"),
}
