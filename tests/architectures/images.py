"""Transformers of images: ViT, DINOv2, Swin, and a DiT by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from architectures.case import HEADS, LAYERS, SQUARE, UNITS, Case, seen

PATCHED = {
    "hidden_size": SQUARE,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "image_size": 24,
    "patch_size": 8,
}


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """A norm without gain, with gain and bias that the condition writes: [N, P, D], [N, D], [N, D] -> [N, P, D]."""
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale[:, None]) + shift[:, None]


class ConditionedBlock(nn.Module):
    """Attention and GELU units, each between a shift, a scale and a gate of the condition."""

    def __init__(self) -> None:
        super().__init__()
        self.condition = nn.Linear(SQUARE, 6 * SQUARE)
        self.qkv, self.out = nn.Linear(SQUARE, 3 * SQUARE), nn.Linear(SQUARE, SQUARE)
        self.up, self.down = nn.Linear(SQUARE, UNITS), nn.Linear(UNITS, SQUARE)

    def attention(self, x: Tensor) -> Tensor:
        heads = self.qkv(x).view(*x.shape[:2], 3, HEADS, SQUARE // HEADS).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale, gate, shift2, scale2, gate2 = self.condition(F.silu(condition)).chunk(6, dim=-1)
        x = x + gate[:, None] * self.attention(modulated(x, shift, scale))
        return x + gate2[:, None] * self.down(F.gelu(self.up(modulated(x, shift2, scale2)), approximate="tanh"))


class DiT(nn.Module):
    """A diffusion transformer with adaLN; returns the error of the noise that it predicts."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.places = nn.Conv2d(4, SQUARE, 2, stride=2), nn.Parameter(torch.randn(1, 9, SQUARE))
        self.time = nn.Sequential(nn.Linear(20, SQUARE), nn.SiLU(), nn.Linear(SQUARE, SQUARE))
        self.label = nn.Embedding(11, SQUARE)
        self.blocks = nn.ModuleList(ConditionedBlock() for _ in range(LAYERS))
        self.condition, self.last = nn.Linear(SQUARE, 2 * SQUARE), nn.Linear(SQUARE, 16)
        self.register_buffer("rates", 1000.0 ** -torch.linspace(0, 1, 10), persistent=False)

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor, noise: Tensor) -> Tensor:
        angles = time[:, None] * self.rates
        condition = self.time(torch.cat([angles.cos(), angles.sin()], dim=-1)) + self.label(label)
        x = self.embed(noisy).flatten(2).transpose(1, 2) + self.places
        for block in self.blocks:
            x = block(x, condition)
        shift, scale = self.condition(F.silu(condition)).chunk(2, dim=-1)
        patches = self.last(modulated(x, shift, scale)).view(-1, 3, 3, 2, 2, 4)
        return F.mse_loss(patches.permute(0, 5, 1, 3, 2, 4).reshape(noisy.shape), noise)


def dit() -> Case:
    image = torch.randn(2, 4, 6, 6)
    return Case(DiT(), (image, torch.tensor([0.3, 7.0]), torch.tensor([2, 5]), torch.randn_like(image)))


SIDES = ("pixel_values:2", "pixel_values:3")  # of images: positions are interpolated, windows padded

MODELS = {
    "vit": seen("ViT", 24, **PATCHED, intermediate_size=UNITS),
    "dinov2": seen("Dinov2", 24, SIDES, **PATCHED, mlp_ratio=2),
    "swin": seen(
        "Swin", 32, SIDES, image_size=32, patch_size=4, embed_dim=24, depths=[2, 2], num_heads=[2, 4], window_size=4,
        mlp_ratio=2.5,
    ),
    "dit": dit,
}  # fmt: skip
