"""Convolutional networks: a plain one, ResNet, ConvNeXt, and a U-Net by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from architectures.case import CLASSES, Case, seen


class Plain(nn.Module):
    """conv, batch norm, ReLU, conv, ReLU, mean, linear: [N, 3, H, W] -> logits [N, CLASSES]."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 13, 3, padding=1), nn.BatchNorm2d(13)
        self.second, self.head = nn.Conv2d(13, 19, 3), nn.Linear(19, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(pixels)))
        return self.head(F.relu(self.second(x)).mean((-1, -2)))


def twice(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions, each with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(),
    )  # fmt: skip


class UNet(nn.Module):
    """One level down and up again, with the way across: [N, 3, H, W] and classes [N, H, W] -> the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = twice(3, 8), twice(8, 14)
        self.up, self.last = nn.ConvTranspose2d(14, 10, 2, stride=2), twice(18, 9)
        self.head = nn.Conv2d(9, CLASSES, 1)

    def forward(self, pixels: Tensor, classes: Tensor) -> Tensor:
        across = self.down(pixels)
        x = self.up(self.deep(F.max_pool2d(across, 2)))
        return F.cross_entropy(self.head(self.last(torch.cat([across, x], dim=1))), classes)


def unet() -> Case:
    return Case(UNet(), (torch.randn(2, 3, 8, 8), torch.randint(CLASSES, (2, 8, 8))))


MODELS = {
    "conv_bn": lambda: Case(Plain(), (torch.randn(2, 3, 9, 9),), loss="cross_entropy"),
    "resnet": seen("ResNet", 32, embedding_size=12, hidden_sizes=[20, 28], depths=[2, 2], layer_type="basic"),
    "convnext": seen("ConvNext", 32, hidden_sizes=[18, 26], depths=[2, 1], num_stages=2, layer_scale_init_value=0.5),
    "unet": unet,
}
