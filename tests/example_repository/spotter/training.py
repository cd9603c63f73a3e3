"""One update of the network: its batch, its loss, its optimizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from peft_update_bench.fixtures.update_step import UpdateStep
from torch import Tensor, nn
from torch.nn import functional

from spotter.network import Spotter

BATCH = Path(__file__).with_name("batch.npz")


def load_batch(path: Path = BATCH) -> tuple[Tensor, Tensor, Tensor]:
    """Images, kinds (0 where there is no spot) and boxes of a saved batch."""
    with np.load(path) as arrays:
        images = torch.from_numpy(arrays["images"]).float() / 255
        return images, torch.from_numpy(arrays["kinds"]).long(), torch.from_numpy(arrays["boxes"]).float()


def loss_of(network: nn.Module, images: Tensor, kinds: Tensor, boxes: Tensor) -> Tensor:
    """Focal loss of the kinds, and the distance of the boxes where there is a spot."""
    logits, found = network(images)
    log_likelihood = -functional.cross_entropy(logits, kinds, reduction="none")
    focal = -((1 - log_likelihood.exp()) ** 2 * log_likelihood).mean()
    is_spot = (kinds > 0).unsqueeze(1)
    distance = (functional.smooth_l1_loss(found, boxes, reduction="none") * is_spot).sum() / is_spot.sum()
    return focal + distance


def build_step(network: nn.Module | None = None) -> UpdateStep:
    """An update of `network`, by default a new one."""
    network = Spotter() if network is None else network
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    return UpdateStep(network, optimizer, load_batch(), loss_of)
