"""The counting error behind the study's headline, on one depthwise layer: stock, corrected and brute-force count."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from peft_update_bench.fixtures.instruments.flops import CORRECTIONS
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Steps:
    """FLOPs of the layer's weight gradient by each count, and the code of the last.

    The layer has `channels` groups, one for each channel, 3×3 kernels, and sees an image of `size` × `size`.
    """

    channels: int
    size: int
    stock: int
    corrected: int
    brute_force: int
    source: str


def brute_force(images: torch.Tensor, upstream: torch.Tensor) -> tuple[torch.Tensor, int]:
    """The weight gradient of a depthwise 3×3 layer, and its FLOPs: two for every multiply-add that is carried out."""
    channels, height, width = upstream.shape
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    gradient, flops = torch.zeros(channels, 1, 3, 3), 0
    for c, i, j, y, x in product(range(channels), range(3), range(3), range(height), range(width)):
        gradient[c, 0, i, j] += padded[c, y + i, x + j] * upstream[c, y, x]
        flops += 2
    return gradient, flops


def count(channels: int = 16, size: int = 6) -> Steps:
    """Count all three ways, for a layer of `channels` groups and an image of `size` × `size`.

    Raises ArithmeticError where the brute-force gradient is not autograd's: something was then left out of its count.
    """
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    images, upstream = torch.rand(channels, size, size), torch.rand(channels, size, size)
    counts = []
    formulas: dict[object, Callable[..., int]]
    for formulas in ({}, CORRECTIONS):
        layer.zero_grad()
        with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
            # The images need no gradient, so the backward pass is the weight's alone.
            layer(images[None]).backward(upstream[None])
        counts.append(counter.get_flop_counts()["Global"][torch.ops.aten.convolution_backward])
    gradient, by_hand = brute_force(images, upstream)
    assert layer.weight.grad is not None
    if not torch.allclose(gradient, layer.weight.grad, atol=1e-4):
        raise ArithmeticError("the brute-force gradient is not autograd's")
    return Steps(channels, size, counts[0], counts[1], by_hand, inspect.getsource(brute_force))
