"""A network that trains in a second, for tests of what surrounds it."""

from __future__ import annotations

from torch import nn


class SmallSeparable(nn.Sequential):
    """A standard convolution, a depthwise and a pointwise one, each with batch norm, and a Linear head."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, num_classes),
        )  # fmt: skip


def build_small(*, weights: None = None, num_classes: int = 10) -> SmallSeparable:
    """As torchvision's builders are called."""
    assert weights is None
    return SmallSeparable(num_classes)
