"""A frozen Llama with adapters of low rank, by peft."""

from __future__ import annotations

from architectures.case import SPECIAL, Case, tokens, transformers_model
from architectures.decoders import GROUPED


def lora() -> Case:
    import peft

    llama = transformers_model("LlamaForCausalLM", "LlamaConfig", **GROUPED, **SPECIAL)
    reached = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = peft.LoraConfig(r=4, lora_alpha=6, lora_dropout=0.1, target_modules=reached)
    model = peft.get_peft_model(llama, config)
    return Case(model, (), {"input_ids": tokens(), "use_cache": False}, "cross_entropy")


MODELS = {"lora_llama": lora}
