"""The study's two kinds of networks, with few channels: layers by the same names, at a fraction of the work."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision.models import MobileNetV2, ResNet
from torchvision.models.resnet import BasicBlock

STANDARD, SEPARABLE = f"{__name__}:resnet18", f"{__name__}:mobilenet_v2"


class _Narrow(ResNet):  # type: ignore[misc]
    """Behind the first convolution a quarter of the channels, so that the first block has a shortcut of its own too."""

    def _make_layer(self, block: Any, planes: int, *given: Any, **named: Any) -> nn.Sequential:
        layer: nn.Sequential = super()._make_layer(block, planes // 4, *given, **named)
        return layer


def resnet18(*, weights: None = None, num_classes: int = 10) -> ResNet:
    """As torchvision's builders are called."""
    assert weights is None
    network = _Narrow(BasicBlock, [2, 2, 2, 2])
    network.fc = nn.Linear(128, num_classes)
    return network


def mobilenet_v2(*, weights: None = None, num_classes: int = 10) -> MobileNetV2:
    """Of each width one block, where torchvision's has up to four."""
    assert weights is None
    expansion, widths, strides = (1, 6, 6, 6, 6, 6, 6), (16, 24, 32, 64, 96, 160, 320), (1, 2, 2, 2, 1, 2, 1)
    blocks = [[*block] for block in zip(expansion, widths, (1,) * 7, strides, strict=True)]
    return MobileNetV2(num_classes, width_mult=0.25, inverted_residual_setting=blocks)
