"""Training steps of networks that others wrote, as their own references train them; without a download.

Each is what a user has to write: the builder, and nothing of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch
import torchvision
import transformers
from peft_update_bench.fixtures.update_step import UpdateStep
from torch import Tensor, nn
from torch.nn import functional


def detection() -> tuple[Callable[[], Tensor], nn.Module, torch.optim.Optimizer]:
    """torchvision's references/detection: the network's own losses, summed; SGD; warm-up of the learning rate."""
    network = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=5
    )
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.15, momentum=0.9, weight_decay=4e-5)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.001, total_iters=1000)
    images = [torch.rand(3, 240, 320), torch.rand(3, 320, 280)]
    box = torch.tensor([[20.0, 30.0, 120.0, 200.0], [150.0, 40.0, 260.0, 180.0]])
    targets = [{"boxes": box, "labels": torch.tensor([1, 3])}, {"boxes": box[:1], "labels": torch.tensor([2])}]

    def step() -> Tensor:
        losses = network(images, targets)
        loss: Tensor = sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warm_up.step()
        return loss

    return step, network, optimizer


def segmentation(network: nn.Module | None = None) -> UpdateStep:
    """torchvision's references/segmentation: cross-entropy of each output, 255 where there is no label; SGD."""
    network = network or torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=21
    )
    labels = torch.randint(21, (2, 160, 160))
    labels[:, :8] = 255

    def criterion(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(network(images)["out"], labels, ignore_index=255)

    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    return UpdateStep(network.train(), optimizer, (torch.randn(2, 3, 160, 160), labels), criterion)


def text(network: nn.Module | None = None) -> UpdateStep:
    """transformers' sequence classification: the network takes its batch by name and returns its own loss; AdamW."""
    if network is None:
        config = transformers.DistilBertConfig(
            vocab_size=500, dim=64, hidden_dim=128, n_layers=2, n_heads=4, max_position_embeddings=64
        )
        config.num_labels = 3
        network = transformers.DistilBertForSequenceClassification(config)

    def loss(network: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        found: Tensor = network(**batch).loss
        return found

    batch = {
        "input_ids": torch.randint(500, (4, 32)),
        "attention_mask": torch.ones(4, 32, dtype=torch.long),
        "labels": torch.randint(3, (4,)),
    }
    return UpdateStep(network.train(), torch.optim.AdamW(network.parameters(), lr=5e-5), batch, loss)


def classification() -> tuple[Callable[[], float], list[nn.Module], torch.optim.Optimizer]:
    """timm's train.py: label smoothing, its RMSprop, clipped gradients, an average of the weights."""
    # Whose types are no part of what it exports.
    models, losses, optim, utils = (import_module(f"timm{name}") for name in ("", ".loss", ".optim", ".utils"))
    network = models.create_model("lcnet_050", num_classes=10).train()
    average = utils.ModelEmaV3(network, decay=0.999, foreach=False)
    optimizer = optim.create_optimizer_v2(network, opt="rmsproptf", lr=0.01, weight_decay=1e-5, momentum=0.9)
    criterion = losses.LabelSmoothingCrossEntropy(0.1)
    images, labels = torch.randn(4, 3, 96, 96), torch.randint(10, (4,))

    def step() -> float:
        loss = criterion(network(images), labels)
        loss.backward()
        utils.dispatch_clip_grad(network.parameters(), value=1.0, mode="norm")
        optimizer.step()
        average.update(network)
        optimizer.zero_grad()
        value: float = loss.item()
        return value

    return step, [network, average], optimizer
