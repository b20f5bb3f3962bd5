"""Networks of dense layers: a perceptron, and the MLP-Mixer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from architectures.case import CLASSES, LAYERS, Case


class Perceptron(nn.Module):
    """Three linear maps with biases and ReLU between them: [N, 11] -> logits [N, CLASSES]."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(11, 23), nn.Linear(23, 17), nn.Linear(17, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(F.relu(self.second(F.relu(self.first(x)))))


class MixerBlock(nn.Module):
    """Mixes patches, then channels: [N, P, D] -> the same."""

    def __init__(self, patches: int, width: int) -> None:
        super().__init__()
        self.before_patches, self.before_channels = nn.LayerNorm(width), nn.LayerNorm(width)
        self.patches = nn.Sequential(nn.Linear(patches, 13), nn.GELU(), nn.Linear(13, patches))
        self.channels = nn.Sequential(nn.Linear(width, 38), nn.GELU(), nn.Linear(38, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.patches(self.before_patches(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.before_channels(x))


class Mixer(nn.Module):
    """MLP-Mixer: [N, 3, 12, 12] -> logits [N, CLASSES]."""

    def __init__(self, width: int = 22) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, 4, stride=4)
        self.blocks = nn.Sequential(*(MixerBlock(9, width) for _ in range(LAYERS)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.embed(pixels).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(x)).mean(1))


MODELS = {
    "relu_mlp": lambda: Case(Perceptron(), (torch.randn(3, 11),), loss="cross_entropy"),
    "mlp_mixer": lambda: Case(Mixer(), (torch.randn(2, 3, 12, 12),), loss="cross_entropy"),
}
