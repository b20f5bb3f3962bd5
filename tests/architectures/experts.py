"""Decoders whose feed-forward layers are experts: routed, shared, with sinks, with latent attention."""

from __future__ import annotations

from architectures.case import HEAD, HEADS, KV, LAYERS, UNITS, VOCABULARY, WIDTH, causal

GROUPED = {
    "hidden_size": WIDTH,
    "intermediate_size": UNITS,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV,
    "head_dim": HEAD,
    "vocab_size": VOCABULARY,
}
ROUTED = {"num_experts_per_tok": 2, "experts_implementation": "batched_mm"}  # the way that does not branch on a choice
LATENT = {
    **GROUPED,
    "num_key_value_heads": HEADS,
    "head_dim": 6,  # of the rotary part
    "kv_lora_rank": 18,
    "q_lora_rank": 26,
    "qk_nope_head_dim": 10,
    "qk_rope_head_dim": 6,
    "v_head_dim": 14,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "moe_intermediate_size": 30,
    "first_k_dense_replace": 1,
}

MODELS = {
    "mixtral": causal("Mixtral", **GROUPED, **ROUTED, num_local_experts=4),
    "qwen3_moe": causal("Qwen3Moe", **GROUPED, **ROUTED, num_experts=4, moe_intermediate_size=30),
    "gpt_oss": causal("GptOss", **GROUPED, **ROUTED, num_local_experts=4, sliding_window=4),
    "deepseek_v2": causal("DeepseekV2", **LATENT, **ROUTED, n_group=1, topk_group=1),
    "deepseek_v3": causal("DeepseekV3", **LATENT, **ROUTED, n_group=2, topk_group=1),
}
