"""FLOPs of a whole network from the shapes of its layers alone. No operator is looked at."""

from __future__ import annotations

from math import prod

from peft_update_bench.fixtures.update_step import UpdateStep
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def layer_flops(layer: nn.Module, result: Tensor) -> int:
    """2 × the elements of the result × the terms of each."""
    if isinstance(layer, nn.Linear):
        return 2 * result.numel() * layer.in_features
    assert isinstance(layer, CONVOLUTIONS)
    return 2 * result.numel() * (layer.in_channels // layer.groups) * prod(layer.kernel_size)


def network_flops(step: UpdateStep) -> tuple[int, int]:
    """Forward and backward FLOPs of every convolution and Linear that `step` runs.

    The backward pass costs a layer its forward's FLOPs for the gradient of its input, if that needs one, and once more
    for the gradient of its weight, if that is trained.
    """
    forward = backward = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> None:
        nonlocal forward, backward
        flops = layer_flops(layer, result)
        assert isinstance(layer.weight, Tensor)
        forward += flops
        backward += flops * (inputs[0].requires_grad + layer.weight.requires_grad)

    layers = [m for m in step.network.modules() if isinstance(m, (nn.Linear, *CONVOLUTIONS))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    step.forward()
    for hook in hooks:
        hook.remove()
    assert forward, "no layer ran"
    return forward, backward
