"""Convolutions and their gradients written as matrix products, in one to three dimensions.

The products are what is counted; their values prove that nothing was left out. No formula for convolutions is used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor
from torch.nn.modules.conv import _ConvNd


@dataclass(frozen=True)
class Convolution:
    """A convolution's settings, each equal in every spatial dimension."""

    dimensions: int
    groups: int
    channels_in: int
    channels_out: int
    kernel: int
    stride: int
    padding: int
    dilation: int
    transposed: bool = False
    output_padding: int = 0

    def module(self, dtype: torch.dtype = torch.float64, device: str = "cpu") -> _ConvNd:
        name = f"Conv{'Transpose' if self.transposed else ''}{self.dimensions}d"
        extra = {"output_padding": self.output_padding} if self.transposed else {}
        module: _ConvNd = getattr(torch.nn, name)(
            self.channels_in,
            self.channels_out,
            self.kernel,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            bias=False,
            dtype=dtype,
            device=device,
            **extra,
        )
        return module


@dataclass
class Products:
    """Matrix products and their FLOPs: a multiplication and an addition for each of m·k·n terms."""

    flops: int = field(default=0)

    def __call__(self, left: Tensor, right: Tensor) -> Tensor:
        (m, k), (same_k, n) = left.shape, right.shape
        assert k == same_k
        self.flops += 2 * m * k * n
        return left @ right


def windows(images: Tensor, c: Convolution) -> Tensor:
    """(batch, channels, …) to (batch, channels, taps, positions): what the kernel sees at each of its positions."""
    padded = torch.nn.functional.pad(images, [c.padding, c.padding] * c.dimensions)
    reach = c.dilation * (c.kernel - 1)
    for dimension in range(c.dimensions):
        axis = 2 + 2 * dimension
        positions = torch.arange(0, padded.shape[axis] - reach, c.stride)
        taps = torch.arange(c.kernel) * c.dilation
        chosen = (taps[:, None] + positions[None, :]).flatten()
        padded = padded.index_select(axis, chosen).unflatten(axis, (len(taps), len(positions)))
    # (batch, channels, tap, position, tap, position, …)
    taps_first = [2 + 2 * d for d in range(c.dimensions)] + [3 + 2 * d for d in range(c.dimensions)]
    ordered = padded.permute(0, 1, *taps_first)
    return ordered.flatten(2, 1 + c.dimensions).flatten(3)


def put_back(columns: Tensor, shape: tuple[int, ...], c: Convolution) -> Tensor:
    """The adjoint of `windows`: (batch, channels, taps, positions) to (batch, channels, …), sums where taps meet."""
    with torch.enable_grad():
        images = torch.zeros(shape, dtype=columns.dtype, requires_grad=True)
        (result,) = torch.autograd.grad(windows(images, c), images, columns)
    return result


@dataclass(frozen=True)
class ByProducts:
    """A convolution and its gradients for the gradient `upstream` of its result, with the FLOPs of each."""

    result: Tensor
    input_gradient: Tensor
    weight_gradient: Tensor
    forward_flops: int
    input_flops: int
    weight_flops: int


def by_products(c: Convolution, images: Tensor, weight: Tensor, upstream: Tensor) -> ByProducts:
    """Every sample and every group is a product of matrices of its own."""
    # A transposed convolution is the adjoint of a plain one that maps its result to its input.
    wide, narrow = (upstream, images) if c.transposed else (images, upstream)
    columns = windows(wide, c)
    batch, taps = images.shape[0], c.kernel**c.dimensions
    rows = weight.shape[0] // c.groups
    # (groups, channels of `narrow` in a group, channels of `wide` in a group × taps)
    kernels = weight.reshape(c.groups, rows, -1)
    columns = columns.reshape(batch, c.groups, -1, columns.shape[-1])
    flat = narrow.reshape(batch, c.groups, rows, -1)

    down, up, across = Products(), Products(), Products()
    narrowed, widened, gradient = torch.zeros_like(flat), torch.zeros_like(columns), torch.zeros_like(kernels)
    for sample in range(batch):
        for group in range(c.groups):
            narrowed[sample, group] = down(kernels[group], columns[sample, group])
            widened[sample, group] = up(kernels[group].T, flat[sample, group])
            gradient[group] += across(flat[sample, group], columns[sample, group].T)
    as_windows = widened.reshape(batch, wide.shape[1], taps, -1)
    put = put_back(as_windows, tuple(wide.shape), c)
    narrowed = narrowed.reshape(narrow.shape)
    result, input_gradient = (put, narrowed) if c.transposed else (narrowed, put)
    forward, backward = (up, down) if c.transposed else (down, up)
    return ByProducts(
        result=result,
        input_gradient=input_gradient,
        weight_gradient=gradient.reshape(weight.shape),
        forward_flops=forward.flops,
        input_flops=backward.flops,
        weight_flops=across.flops,
    )


def multiplications(c: Convolution, positions: int, batch: int) -> int:
    """The multiplications of a plain convolution's forward pass, counted one by one. Padding counts as data."""
    count = 0
    for _sample in range(batch):
        for channel_out in range(c.channels_out):
            group = channel_out // (c.channels_out // c.groups)
            for _position in range(positions):
                for channel_in in range(c.channels_in):
                    if channel_in // (c.channels_in // c.groups) == group:
                        count += prod([c.kernel] * c.dimensions)
    return count
