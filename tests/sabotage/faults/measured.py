"""Faults that no computation sees: what a process holds, what an update learns, what a clock shows."""

from __future__ import annotations

import time

import numpy as np
import torch
from peft_update_bench.fixtures import update_step
from peft_update_bench.fixtures.methods import METHODS
from peft_update_bench.fixtures.update_step import UpdateStep
from torch import Tensor, nn

from tests.sabotage.faults.registry import Patch, fault


@fault
def leak(patch: Patch) -> None:
    """Every step's gradients are kept, for histograms."""
    zero_grad = UpdateStep.zero_grad

    def keep_and_zero(self: UpdateStep) -> None:
        kept = self.__dict__.setdefault("histograms", [])
        kept.append([parameter.grad for parameter in self.trainable_parameters()])
        zero_grad(self)

    patch.setattr(UpdateStep, "zero_grad", keep_and_zero)


@fault
def buffer_outside_torch(patch: Patch) -> None:
    """A data loader holds 64 MiB that torch knows nothing of."""
    call = UpdateStep.__call__

    def hold_and_call(self: UpdateStep) -> Tensor:
        self.__dict__.setdefault("frames", np.ones(64 * 2**20, dtype=np.uint8))
        return call(self)

    patch.setattr(UpdateStep, "__call__", hold_and_call)


@fault
def without_onednn(patch: Patch) -> None:
    """oneDNN is switched off: convolutions take a path with larger workspaces."""
    call = UpdateStep.__call__

    def call_without(self: UpdateStep) -> Tensor:
        with torch.backends.mkldnn.flags(enabled=False):
            return call(self)

    patch.setattr(UpdateStep, "__call__", call_without)


@fault
def learning_rate_of_zero(patch: Patch) -> None:
    """The schedule ended: the update trains nothing."""
    for method in METHODS.values():
        patch.setattr(type(method), "learning_rate", 0.0)


@fault
def loss_not_finite(patch: Patch) -> None:
    """The loss is divided by the number of images seen so far, which is zero."""

    def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(network(images), labels) / torch.zeros(())

    patch.setattr(update_step, "classification_loss", loss)


# What only a clock sees


@fault
def waits(patch: Patch) -> None:
    """The step waits 20 ms for a file."""
    forward = UpdateStep.forward

    def wait_and_forward(self: UpdateStep) -> Tensor:
        time.sleep(0.02)
        return forward(self)

    patch.setattr(UpdateStep, "forward", wait_and_forward)


@fault
def computes_on_numpy(patch: Patch) -> None:
    """The step normalises its images in NumPy, pixel by pixel, where no operator counts."""
    forward = UpdateStep.forward

    def normalise_and_forward(self: UpdateStep) -> Tensor:
        pixels = np.random.default_rng(0).random(2**18)
        for _ in range(10):
            pixels = np.sqrt(np.exp(pixels) - 1)
        return forward(self)

    patch.setattr(UpdateStep, "forward", normalise_and_forward)
