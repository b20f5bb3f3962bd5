"""Encoders, and what has an encoder: BERT, the layers of torch, T5, Whisper, the two towers of CLIP."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from architectures.case import (
    BATCH,
    HEAD,
    HEADS,
    LAYERS,
    SPECIAL,
    SQUARE,
    UNITS,
    VOCABULARY,
    WIDTH,
    Case,
    Chosen,
    tokens,
    transformers_model,
)

TOWER = {
    "hidden_size": SQUARE,
    "intermediate_size": UNITS,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
}


def torch_encoder(norm_first: bool) -> Callable[[], Case]:
    """`nn.TransformerEncoder`; what it returns is kept."""

    def build() -> Case:
        layer = nn.TransformerEncoderLayer(SQUARE, HEADS, UNITS, norm_first=norm_first, batch_first=True)
        model = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        return Case(model, (torch.randn(BATCH, 7, SQUARE),))

    return build


def bert() -> Case:
    model = transformers_model("BertForMaskedLM", "BertConfig", **TOWER, vocab_size=VOCABULARY)
    return Case(model, (), {"input_ids": tokens()}, "cross_entropy")


def t5() -> Case:
    settings = {"d_model": WIDTH, "d_kv": HEAD, "d_ff": UNITS, "num_layers": LAYERS, "num_heads": HEADS}
    model = transformers_model("T5ForConditionalGeneration", "T5Config", **settings, vocab_size=VOCABULARY)
    inputs = {"input_ids": tokens(9), "decoder_input_ids": tokens(), "labels": tokens(), "use_cache": False}
    return Case(Chosen(model, "loss"), (), inputs)


def whisper() -> Case:
    settings = {
        **{f"{side}_layers": LAYERS for side in ("encoder", "decoder")},
        **{f"{side}_attention_heads": HEADS for side in ("encoder", "decoder")},
        **{f"{side}_ffn_dim": UNITS for side in ("encoder", "decoder")},
    }
    model = transformers_model(
        "WhisperForConditionalGeneration", "WhisperConfig", **settings, **SPECIAL, d_model=SQUARE, num_mel_bins=8,
        vocab_size=VOCABULARY, max_source_positions=11, max_target_positions=32, decoder_start_token_id=1,
    )  # fmt: skip
    inputs = {"input_features": torch.randn(BATCH, 8, 22), "decoder_input_ids": tokens(), "labels": tokens()}
    # keys are cut up by the batch of the decoder's tokens: with another batch of sounds it is another function
    one = "=".join(f"{name}:0" for name in inputs)
    return Case(Chosen(model, "loss"), (), {**inputs, "use_cache": False}, fixed=(one,))


def clip() -> Case:
    text = {**TOWER, "vocab_size": VOCABULARY, "max_position_embeddings": 32, "eos_token_id": VOCABULARY - 1}
    image = {**TOWER, "hidden_size": 54, "image_size": 24, "patch_size": 8}
    model = transformers_model("CLIPModel", "CLIPConfig", text_config=text, vision_config=image, projection_dim=26)
    ids = torch.cat([tokens() - 1, torch.full((BATCH, 1), VOCABULARY - 1)], dim=1)  # the end of a text is read out
    inputs = {"input_ids": ids, "pixel_values": torch.randn(BATCH, 3, 24, 24), "return_loss": True}
    return Case(Chosen(model, "loss"), (), inputs)


MODELS = {
    "encoder_pre": torch_encoder(norm_first=True),
    "encoder_post": torch_encoder(norm_first=False),
    "bert": bert,
    "t5": t5,
    "whisper": whisper,
    "clip": clip,
}
