"""Mutants of real models: transformers and torch's own layers.  Each takes seconds to compile."""

from __future__ import annotations

import types
from typing import Any

import torch
from soundness.model_bases import after, around, replace
from soundness.mutant_registry import Change, add, then
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

L, G, B, V, T, E, M = "llama", "gpt2", "bert", "vit", "t5", "encoder", "mixtral"
FIRST, SECOND = "model.layers.0.", "model.layers.1."
VALUES, UP = FIRST + "self_attn.v_proj", FIRST + "mlp.up_proj"


def settings(**changes: Any) -> Change:
    """Another configuration of a model that reads it when it is called."""

    def change(model: Any) -> None:
        for name, value in changes.items():
            setattr(model.config, name, value)

    return change


def asking(**keywords: Any) -> Change:
    return around(lambda m, **k: m(**k, **keywords))


def frozen(path: str) -> Change:
    return lambda m: (m.get_submodule(path).requires_grad_(False), None)[1]


def same(one: str, other: str) -> Change:
    return lambda m: replace(m, one, m.get_submodule(other) if not one.endswith("weight") else m.get_parameter(other))


def _heads(y: Tensor, kv: int = 2) -> Tensor:
    return y.unflatten(-1, (kv, -1))


def _kept(path: str, rows: int) -> Change:
    def change(m: nn.Module) -> nn.Module:
        m.register_buffer("kept", m.get_parameter(path).data[:rows])
        return around(lambda m, **k: m(**k).logits + m.kept.sum())(m)

    return change


# --- llama
add("tie", L, "head and embedding", same("lm_head.weight", "model.embed_tokens.weight"))
add("tie", L, "keys and values of a layer", same(VALUES, FIRST + "self_attn.k_proj"))
add("tie", L, "gate and up", same(UP, FIRST + "mlp.gate_proj"))
add("reuse", L, "one layer twice", same("model.layers.1", "model.layers.0"), "mixed")
add("reuse", L, "one norm in two places", same(FIRST + "post_attention_layernorm", FIRST + "input_layernorm"), "sound")
add("reuse", L, "values of two layers", same(SECOND + "self_attn.v_proj", VALUES))
add("reuse", L, "output projections of two layers", same(SECOND + "self_attn.o_proj", FIRST + "self_attn.o_proj"))
add("extra reader", L, "of the ungated units", lambda m: _second_reader(m))
add("returned hidden state", L, "all of them", asking(output_hidden_states=True), "mixed")
add(
    "returned hidden state",
    L,
    "attention weights",
    then(lambda m: m.set_attn_implementation("eager"), asking(output_attentions=True)),
    "sound",
)
add("returned hidden state", L, "the cache", around(lambda m, input_ids, use_cache: m(input_ids, use_cache=True)))
add("activation exchanged", L, "a ReLU as gate", lambda m: replace(m, FIRST + "mlp.act_fn", nn.ReLU()), "sound")
add("activation exchanged", L, "tanh on the ungated half", after(UP, lambda y, x: torch.tanh(y)))
add("additive constant", L, "one plus the ungated half", after(UP, lambda y, x: 1 + y))
add("another input added", L, "the input added to the values", after(VALUES, lambda y, x: y + x[..., :12]))
add("norm bias", L, "a constant bias", after(FIRST + "input_layernorm", lambda y, x: y + 0.1))
add("norm bias", L, "the residual read too", after(FIRST + "input_layernorm", lambda y, x: y + 0.1 * x))
add("flip", L, "the values", after(VALUES, lambda y, x: y.flip(-1)), "mixed")
add("flip", L, "the queries", after(FIRST + "self_attn.q_proj", lambda y, x: y.flip(-1)), "mixed")
add("roll", L, "the values by one", after(VALUES, lambda y, x: y.roll(1, -1)), "mixed")
add(
    "roll",
    L,
    "the keys by half a head",
    after(FIRST + "self_attn.k_proj", lambda y, x: _heads(y).roll(3, -1).flatten(-2)),
    "mixed",
)
add("permute", L, "the ungated half", after(UP, lambda y, x: y[..., list(range(21, -1, -1))]), "mixed")
add(
    "re-view across batch",
    L,
    "tokens of the values",
    after(VALUES, lambda y, x: y.transpose(0, 1).reshape(y.shape)),
    "sound",
)
add("re-view across batch", L, "units down the tokens", after(UP, lambda y, x: y.mT.reshape(y.shape)))
add(
    "strided slice",
    L,
    "even units, then odd ones",
    after(UP, lambda y, x: torch.cat([y[..., ::2], y[..., 1::2]], -1)),
    "mixed",
)
add("dropout on the axis", L, "on the values", after(VALUES, lambda y, x: F.dropout(y, 0.2)))
add("dropout on the axis", L, "on the ungated half", after(UP, lambda y, x: F.dropout(y, 0.2)), "sound")
add("cast on the axis", L, "values through half precision", after(VALUES, lambda y, x: y.half().to(y.dtype)), "mixed")
add("cast on the axis", L, "values through integers", after(VALUES, lambda y, x: (8 * y).int().to(y.dtype) / 8))
add("detach on the axis", L, "values detached", after(VALUES, lambda y, x: y.detach()))
add(
    "weight penalty",
    L,
    "of the values",
    around(lambda m, **k: (m(**k).logits, m.get_parameter(VALUES + ".weight").square().sum())),
    "mixed",
)
add(
    "weight penalty",
    L,
    "of the ungated half",
    around(lambda m, **k: (m(**k).logits, m.get_parameter(UP + ".weight").square().sum())),
)
add(
    "parametrised weights",
    L,
    "weight norm on the values",
    lambda m: (parametrizations.weight_norm(m.get_submodule(VALUES)), None)[1],
)
add("aliasing buffer", L, "of the values' weight", _kept(VALUES + ".weight", 3))
add("aliasing buffer", L, "of a norm's gain", _kept(FIRST + "input_layernorm.weight", 3))
add("in-place write", L, "into the ungated half", after(UP, lambda y, x: (y[..., 0].add_(1.0), y)[1]))
add("requires_grad=False", L, "the values", frozen(VALUES), "sound")
add(
    "requires_grad=False",
    L,
    "all but a layer's units",
    lambda m: (m.requires_grad_(False), m.get_submodule(FIRST + "mlp").requires_grad_(True), None)[2],
    "sound",
)
add(
    "branch on the length",
    L,
    "values bent in long texts",
    after(VALUES, lambda y, x: y if x.shape[1] < 9 else y.tanh()),
)
add(
    "branch on the length",
    L,
    "values bent in very long texts",
    after(VALUES, lambda y, x: y if x.shape[1] < 12 else y.tanh()),
)
add("h @ h.T", L, "of the ungated half", after(UP, lambda y, x: y @ y.mT @ y))
add("logits", L, "soft-capped", around(lambda m, **k: 5 * torch.tanh(m(**k).logits / 5)))
add(
    "logits",
    L,
    "a z-loss beside them",
    around(lambda m, **k: (lambda z: (z, z.logsumexp(-1).square().mean()))(m(**k).logits)),
)
add("logits", L, "a constant bias", around(lambda m, **k: m(**k).logits + torch.arange(31.0)), "sound")
add("embedding", L, "scaled", after("model.embed_tokens", lambda y, x: y * 32**0.5), "sound")
add(
    "hook",
    L,
    "on the values' gradient",
    lambda m: (m.get_parameter(VALUES + ".weight").register_hook(torch.sign), None)[1],
)
add("memory", L, "gradient checkpointing", lambda m: m.gradient_checkpointing_enable(), "sound")


def _second_reader(m: Any) -> None:
    mlp = m.get_submodule(FIRST + "mlp")
    mlp.more = nn.Linear(22, 32)
    mlp.forward = types.MethodType(
        lambda m, x: m.down_proj(m.act_fn(m.gate_proj(x)) * m.up_proj(x)) + m.more(m.up_proj(x)), mlp
    )


# --- others
add(
    "activation exchanged",
    G,
    "ReLU",
    lambda m: [setattr(b.mlp, "act", nn.ReLU()) for b in m.transformer.h] and None,
    "sound",
)
add(
    "activation exchanged",
    G,
    "ReLU and one",
    lambda m: setattr(m.transformer.h[0].mlp, "act", nn.Sequential(nn.ReLU(), _Plus())),
)
add("flip", G, "queries, keys and values", after("transformer.h.0.attn.c_attn", lambda y, x: y.flip(-1)), "mixed")
add("permute", G, "parts exchanged", after("transformer.h.0.attn.c_attn", lambda y, x: y.roll(28, -1)), "mixed")
add(
    "tie",
    G,
    "untied by a copy",
    lambda m: replace(m, "lm_head.weight", nn.Parameter(m.lm_head.weight.detach().clone())),
    "sound",
)
add(
    "norm bias",
    G,
    "the last norm's bias also elsewhere",
    around(lambda m, **k: (m(**k).logits, m.transformer.ln_f.bias.square().sum())),
    "mixed",
)
add(
    "branch on the length",
    G,
    "positions stop at eight",
    after("transformer.wpe", lambda y, x: y * (torch.arange(y.shape[-2])[:, None] < 8)),
    "sound",
)
add(
    "activation exchanged",
    B,
    "ReLU",
    lambda m: [setattr(x.intermediate, "intermediate_act_fn", nn.ReLU()) for x in m.bert.encoder.layer] and None,
    "sound",
)
add("returned hidden state", B, "all of them", asking(output_hidden_states=True), "mixed")
add(
    "dropout on the axis",
    B,
    "on the values",
    after("bert.encoder.layer.0.attention.self.value", lambda y, x: F.dropout(y, 0.2)),
)
add(
    "missing transpose at equal sizes",
    B,
    "values without a transpose",
    after(
        "bert.encoder.layer.0.attention.self.value",
        lambda y, x: y.view(*y.shape[:2], 7, 4).transpose(2, 3).reshape(y.shape),
    ),
    "mixed",
)
add(
    "reuse",
    V,
    "one layer twice",
    lambda m: replace(
        m,
        "vit.encoder.layer.1" if hasattr(m.vit, "encoder") else "vit.layers.1",
        m.get_submodule("vit.encoder.layer.0" if hasattr(m.vit, "encoder") else "vit.layers.0"),
    ),
    "mixed",
)
add("extra reader", V, "the mean of hidden states", asking(output_hidden_states=True), "mixed")
add(
    "tie",
    T,
    "the two halves' first ReLU layers",
    same("decoder.block.0.layer.2.DenseReluDense.wi", "encoder.block.0.layer.1.DenseReluDense.wi"),
)
add(
    "additive constant", T, "one plus the units", after("encoder.block.0.layer.1.DenseReluDense.wi", lambda y, x: 1 + y)
)
add(
    "returned hidden state",
    T,
    "of the encoder",
    around(lambda m, **k: (lambda o: (o.logits, o.encoder_last_hidden_state))(m(**k))),
    "mixed",
)
add("returned hidden state", E, "the first layer's", around(lambda m, x: (m(x), m.layers[0](x))), "mixed")
add("requires_grad=False", E, "the first layer", frozen("layers.0"), "sound")
add("activation exchanged", E, "GELU in one layer", lambda m: setattr(m.layers[0], "activation", F.gelu))
add(
    "weight penalty",
    E,
    "of one layer's first weights",
    around(lambda m, x: (m(x), m.layers[0].linear1.weight.square().sum())),
)
add("reuse", E, "one feed-forward in both layers", lambda m: replace(m, "layers.1.linear1", m.layers[0].linear1))
add("flip", E, "tokens", around(lambda m, x: m(x.flip(1))), "sound")
add("choice by value", M, "as it is", lambda m: None, "sound")
add(
    "norm bias",
    M,
    "a constant before the router",
    after("model.layers.0.post_attention_layernorm", lambda y, x: y + 0.1),
)


class _Plus(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1
