"""The network: a shared body, and a head for each of two outputs."""

from __future__ import annotations

from torch import Tensor, nn

KINDS = 3


def block(channels: int, out: int) -> nn.Sequential:
    """A depthwise-separable convolution that halves the image."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False),
        nn.Conv2d(channels, out, 1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )


class Spotter(nn.Module):
    """Images (batch, 3, 64, 64) to logits (batch, KINDS + 1, 8, 8) and boxes (batch, 4, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(block(16, 32), block(32, 64))
        self.kinds = nn.Conv2d(64, KINDS + 1, 1)
        self.boxes = nn.Conv2d(64, 4, 3, padding=1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(self.stem(images))
        return self.kinds(features), self.boxes(features)
