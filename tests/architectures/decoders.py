"""Decoders of text: the families of transformers, and a modded nanoGPT by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from architectures.case import EVEN, HEAD, HEADS, KV, LAYERS, SQUARE, UNITS, VOCABULARY, WIDTH, Case, causal, tokens

SHAPE = {
    "intermediate_size": UNITS,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "vocab_size": VOCABULARY,
}
GROUPED = {**SHAPE, "hidden_size": WIDTH, "num_key_value_heads": KV, "head_dim": HEAD}
SHARED_OUT = {**SHAPE, "hidden_size": EVEN, "num_key_value_heads": KV}  # heads of EVEN / HEADS
QUARTER = {"rope_theta": 10000.0, "rope_type": "default", "partial_rotary_factor": 0.25}  # of a head is turned
HALF = {**QUARTER, "partial_rotary_factor": 0.5}
GPT = {"n_layer": LAYERS, "n_head": HEADS, "vocab_size": VOCABULARY}


class Attention(nn.Module):
    """Causal attention with norms of queries and keys that have no gain, and rotary planes of halves."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, HEADS * HEAD, bias=False) for _ in range(3))
        self.out = nn.Linear(HEADS * HEAD, WIDTH, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        def turned(h: Tensor) -> Tensor:
            one, two = F.rms_norm(h, (HEAD,)).chunk(2, dim=-1)
            return torch.cat([one * cos + two * sin, two * cos - one * sin], dim=-1)

        q, k, v = (each(x).view(*x.shape[:2], HEADS, HEAD).transpose(1, 2) for each in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True, scale=0.12)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and squared ReLU, each behind a norm without gain; the embedding comes in again."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.up, self.down = nn.Linear(WIDTH, UNITS, bias=False), nn.Linear(UNITS, WIDTH, bias=False)
        self.mixing = nn.Parameter(torch.tensor([1.0, 0.0]))

    def forward(self, x: Tensor, embedded: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = self.mixing[0] * x + self.mixing[1] * embedded
        x = x + self.attention(F.rms_norm(x, (WIDTH,)), cos, sin)
        return x + self.down(F.relu(self.up(F.rms_norm(x, (WIDTH,)))).square())


class ModdedNanoGPT(nn.Module):
    """The speed-run GPT: no gains, norms of queries and keys, squared ReLU, logits in soft bounds; returns its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.register_buffer("rates", 1024.0 ** -torch.linspace(0, 1, HEAD // 2), persistent=False)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        angles = torch.arange(ids.shape[1])[:, None] * self.rates
        embedded = x = F.rms_norm(self.embed(ids), (WIDTH,))
        for block in self.blocks:
            x = block(x, embedded, angles.cos(), angles.sin())
        logits = 15 * torch.tanh(self.head(F.rms_norm(x, (WIDTH,))) / 15)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


MODELS = {
    "llama": causal("Llama", **GROUPED),
    "llama_tied": causal("Llama", **GROUPED, tie_word_embeddings=True),
    "qwen2": causal("Qwen2", **SHARED_OUT),
    "qwen3": causal("Qwen3", **GROUPED),
    "gemma": causal("Gemma", **GROUPED),
    "gemma2": causal("Gemma2", **GROUPED, query_pre_attn_scalar=HEAD),
    "gemma3": causal("Gemma3", config="TextConfig", **GROUPED, query_pre_attn_scalar=HEAD),
    "olmo2": causal("Olmo2", **SHARED_OUT),
    "phi3": causal("Phi3", **SHARED_OUT),
    "glm": causal("Glm", **GROUPED, rope_parameters=HALF),
    "glm4": causal("Glm4", **GROUPED, rope_parameters=HALF),
    "stablelm": causal("StableLm", **SHARED_OUT, rope_parameters=QUARTER, use_qkv_bias=True),
    "nemotron": causal("Nemotron", **GROUPED, rope_parameters=HALF),
    "cohere": causal("Cohere", **SHARED_OUT),
    "phi": causal("Phi", **SHARED_OUT, rope_parameters=HALF),
    "gpt_neox": causal("GPTNeoX", **{**SHAPE, "hidden_size": EVEN}, rope_parameters=QUARTER),
    "gptj": causal("GPTJ", **GPT, n_embd=EVEN, n_inner=UNITS, n_positions=32, rotary_dim=8),
    "gpt2": causal("GPT2", "LMHeadModel", **GPT, n_embd=SQUARE, n_inner=UNITS, n_positions=32),
    "falcon": causal("Falcon", **SHAPE, hidden_size=EVEN, ffn_hidden_size=UNITS),
    "bloom": causal("Bloom", **GPT, hidden_size=SQUARE),
    "opt": causal(
        "OPT", **SHAPE, hidden_size=SQUARE, ffn_dim=UNITS, word_embed_proj_dim=SQUARE, max_position_embeddings=32
    ),
    "modded_nanogpt": lambda: Case(ModdedNanoGPT(), (tokens(), tokens())),
}
