"""Methods on a network of one layer and its head, small enough for figures by hand."""

from __future__ import annotations

import torch
from peft_update_bench.fixtures.architectures import convolutional
from peft_update_bench.fixtures.instruments import computed
from peft_update_bench.fixtures.methods import METHODS, takes_rank
from peft_update_bench.fixtures.update_step import UpdateStep
from torch import nn

SIDE, BATCH, IN, OUT, RANK = 6, 2, 3, 8, 1
"""Of one convolution on images of 6×6, and its adapter."""

HEAD = 2 * BATCH * OUT * 10
"""FLOPs of the head; its weight's gradient costs as much, and its input's, which is needed where anything before it is
trained."""


def rank_for(method: str, rank: int = 2) -> int | None:
    return rank if takes_rank(method) else None


def one_layer(method: str, layer: nn.Module) -> computed.Computed:
    network = convolutional(nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(OUT, 10)), 10, SIDE)
    METHODS[method].adapt(network, rank_for(method, RANK))
    batch = (torch.randn(BATCH, IN, SIDE, SIDE), torch.tensor([0, 1]))
    optimizer = METHODS[method].optimizer(network, rank_for(method, RANK))
    step = UpdateStep(network.module, optimizer, batch, lambda net, x, y: nn.functional.cross_entropy(net(x), y))
    # The states of random generators, which checkpoints keep, are not seen as tensors: 5 KB a block.
    return computed.measure(step, with_memory=False)


def block(activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    """A convolution, its norm and an activation, which are one block of a network."""
    return nn.Sequential(nn.Sequential(nn.Conv2d(IN, OUT, 3, padding=1, bias=False), nn.BatchNorm2d(OUT), activation()))
