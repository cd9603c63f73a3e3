"""Networks of which an update moves more than what is trained, and such as an update is lost with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.ao.quantization import FakeQuantize, MovingAveragePerChannelMinMaxObserver
from torch.nn.utils import parametrizations, prune


class ScaledByFirstBatch(nn.Module):
    """Takes its scale from the first batch, and has a flag that it has: what glow's and VQ-GAN's norms do."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("seen", torch.tensor(False))

    def forward(self, x: Tensor) -> Tensor:
        if not self.seen:
            self.scale.data.copy_(x.std())
            self.get_buffer("seen").fill_(True)
        return x / self.scale


class BesideAverage(nn.Module):
    """An average of what passes, in a frozen parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.average = nn.Parameter(torch.zeros(8, 1, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.average.data.lerp_(x.detach().mean((0, 2, 3))[:, None, None], 0.5)
        return x - self.average


class WithAverage(nn.Conv2d):
    """An average of its weight, which at first is the weight."""

    def __init__(self) -> None:
        super().__init__(8, 8, 3)
        self.register_buffer("average", self.weight.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.get_buffer("average").lerp_(self.weight.detach(), 0.5)
        return super().forward(x)


class CentredUnsaved(nn.Module):
    """By a running mean that is in no state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(8, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.get_buffer("centre").lerp_(x.detach().mean((0, 2, 3))[:, None, None], 0.5)
        return x - self.get_buffer("centre")


class CentredByBank(nn.Module):
    """By the means of the last four images, of which there are none at first."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bank", torch.zeros(0, 8))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.bank = torch.cat([self.get_buffer("bank"), x.detach().mean((2, 3))])[-4:].clone()
        return x - self.get_buffer("bank").mean(0)[:, None, None]


class AlwaysDropping(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5, training=True)


class HalfInside(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.bfloat16()).float()


def _around(layer: nn.Module, num_classes: int) -> nn.Module:
    body = nn.Conv2d(3, 8, 3), layer, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*body, nn.Linear(8, num_classes))


def scaled_by_first_batch(num_classes: int) -> nn.Module:
    return _around(ScaledByFirstBatch(), num_classes)


class InComplexNumbers(nn.Conv2d):
    def __init__(self) -> None:
        super().__init__(8, 8, 1, dtype=torch.complex128)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(torch.complex128)).abs().float()


def in_complex_numbers(num_classes: int) -> nn.Module:
    return _around(InComplexNumbers(), num_classes)


def with_average(num_classes: int) -> nn.Module:
    return _around(WithAverage(), num_classes)


def centred_unsaved(num_classes: int) -> nn.Module:
    return _around(CentredUnsaved(), num_classes)


def weight_normed(num_classes: int) -> nn.Module:
    return _around(parametrizations.weight_norm(nn.Conv2d(8, 8, 3)), num_classes)


def pruned(num_classes: int) -> nn.Module:
    return _around(prune.l1_unstructured(nn.Conv2d(8, 8, 3), "weight", 0.5), num_classes)


def hooked(num_classes: int) -> nn.Module:
    layer = nn.Conv2d(8, 8, 3)
    layer.register_forward_hook(lambda _, __, output: output * 2)
    return _around(layer, num_classes)


class Standardised(nn.Conv2d):
    """As weight standardization has it: timm's StdConv2d."""

    def forward(self, images: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return nn.functional.conv2d(images, weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5), self.bias)


def standardised(num_classes: int) -> nn.Module:
    return _around(Standardised(8, 8, 3), num_classes)


def tied(num_classes: int) -> nn.Module:
    first, second = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)
    second.weight = first.weight
    return nn.Sequential(first, second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))


class Twice(nn.Module):
    """A layer, and the same weight again at a wider step: past what stands in the layer's place."""

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        near: Tensor = self.near(images)
        return near + nn.functional.conv2d(images, self.near.weight.to(images.dtype), padding=2, dilation=2)


def twice(num_classes: int) -> nn.Module:
    return _around(Twice(), num_classes)


class FusedInEvalMode(nn.Module):
    """Two branches that one convolution does while nobody trains them, as RepVGG's."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)
        self.fused: tuple[Tensor, Tensor | None] | None = None

    def train(self, mode: bool = True) -> FusedInEvalMode:
        near, far = self.near, self.far
        self.fused = None if mode else ((near.weight + far.weight).detach(), near.bias)
        return super().train(mode)

    def forward(self, images: Tensor) -> Tensor:
        if self.fused is not None:
            return nn.functional.conv2d(images, *self.fused)
        return torch.add(self.near(images), self.far(images))


def fused(num_classes: int) -> nn.Module:
    return _around(FusedInEvalMode(), num_classes)


class CentredInPlace(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        images[:, :2].sub_(0.5)
        return images


class CentredBeside(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.clone().sub_(0.5)


def centred_in_place(num_classes: int) -> nn.Module:
    return nn.Sequential(CentredInPlace(), _around(nn.ReLU(), num_classes))


def centred_beside(num_classes: int) -> nn.Module:
    return nn.Sequential(CentredBeside(), _around(nn.ReLU(), num_classes))


def hook_elsewhere(num_classes: int) -> nn.Module:
    """Before that layer is one that gets no adapter, which is not to blame."""
    depthwise = nn.Conv2d(8, 8, 1, groups=8)
    depthwise.register_forward_hook(lambda *_: None)
    return _around(nn.Sequential(depthwise, Twice()), num_classes)


def centred_by_bank(num_classes: int) -> nn.Module:
    return _around(CentredByBank(), num_classes)


def always_dropping(num_classes: int) -> nn.Module:
    return _around(AlwaysDropping(), num_classes)


def beside_average(num_classes: int) -> nn.Module:
    return _around(BesideAverage(), num_classes)


def instance_norm(num_classes: int) -> nn.Module:
    return _around(nn.InstanceNorm2d(8, affine=True, track_running_stats=True), num_classes)


def half_inside(num_classes: int) -> nn.Module:
    return _around(HalfInside(8, 8, 3, dtype=torch.bfloat16), num_classes)


def fake_quantized(num_classes: int) -> nn.Module:
    """Whose ranges have no size before the first batch."""
    ranges = MovingAveragePerChannelMinMaxObserver.with_args(ch_axis=1)
    return _around(FakeQuantize(ranges, quant_min=0, quant_max=255), num_classes)


class Switchable(nn.ModuleList):
    """A norm for each width that a network may have, of which a step runs one."""

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self[1](x)
        return normed


def switchable(num_classes: int) -> nn.Module:
    norms = Switchable([nn.BatchNorm2d(4) for _ in range(3)])
    return nn.Sequential(nn.Conv2d(3, 4, 3), norms, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))


def averaging(num_classes: int) -> nn.Module:
    norm = nn.BatchNorm2d(4, momentum=None)
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
