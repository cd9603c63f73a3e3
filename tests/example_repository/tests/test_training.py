"""The package's own tests, which know nothing of benchmarks."""

from __future__ import annotations

import torch
from spotter.training import build_step


def test_an_update_lowers_the_loss() -> None:
    torch.manual_seed(0)
    step = build_step()
    losses = [step().item() for _ in range(40)]
    assert min(losses[20:]) < losses[0]
