"""Faults that one image of 224 pixels does not show: in what grows with the batch, and with larger images."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft_update_bench.fixtures import update_step
from peft_update_bench.fixtures.architectures import Network
from peft_update_bench.fixtures.methods.lora import LoRA
from torch import Tensor, nn

from tests.sabotage.faults.registry import Patch, after_adapt, fault


def with_loss(patch: Patch, loss: Any) -> None:
    patch.setattr(update_step, "classification_loss", loss)


@fault
def adapter_runs_per_image(patch: Patch) -> None:
    """An adapter runs once for each image of the batch, on all of them."""

    def change(network: Network) -> None:
        for layer in network.module.modules():
            if isinstance(layer, BaseTunerLayer):
                down: Any = layer.lora_A["default"]  # type: ignore[index]
                forward = down.forward
                down.forward = lambda x, forward=forward: [forward(x) for _ in range(len(x))][-1]

    after_adapt(patch, LoRA, change)


@fault
def images_compared(patch: Patch) -> None:
    """Where there are several images, each is compared with every other, for a diversity term that is switched off."""

    def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        found = nn.functional.cross_entropy(network(images), labels)
        if len(images) > 1:
            found = found + 0 * (images[:, None] - images[None]).abs().mean()
        return found

    with_loss(patch, loss)


@fault
def padded_to_a_multiple_of_eight(patch: Patch) -> None:
    """Batches of more than eight images are padded to a multiple of eight."""

    def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        count = len(images)
        if count > 8 and count % 8:
            images = nn.functional.pad(images, (0, 0, 0, 0, 0, 0, 0, 8 - count % 8))
        return nn.functional.cross_entropy(network(images)[:count], labels)

    with_loss(patch, loss)


@fault
def features_kept_per_image(patch: Patch) -> None:
    """Of every image but the first its input is kept in float64 until the loss is known."""

    def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        kept = images[1:].double()
        found = nn.functional.cross_entropy(network(images), labels)
        found.kept = kept  # type: ignore[attr-defined]
        return found

    with_loss(patch, loss)


@fault
def doubled_above_224(patch: Patch) -> None:
    """Images of more than 224 pixels go through the network twice."""

    def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        if images.shape[-1] > 224:
            with torch.no_grad():
                network(images)
        return nn.functional.cross_entropy(network(images), labels)

    with_loss(patch, loss)


@fault
def enlarged_above_224(patch: Patch) -> None:
    """Images of more than 224 pixels are enlarged to 512."""

    def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        if images.shape[-1] > 224:
            images = nn.functional.interpolate(images, size=(512, 512))
        return nn.functional.cross_entropy(network(images), labels)

    with_loss(patch, loss)


@fault
def weight_norms_per_step(patch: Patch) -> None:
    """The head's weights are multiplied with themselves in every step, however large the batch."""

    def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        found = nn.functional.cross_entropy(network(images), labels)
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.dim() == 2:
                    (parameter @ parameter.mT).trace()
        return found

    with_loss(patch, loss)
