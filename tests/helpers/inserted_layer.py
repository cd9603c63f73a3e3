"""A network with a layer that does what a test says, between two that do nothing particular."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft_update_bench.fixtures.update_step import UpdateStep
from torch import Tensor, nn


class Inner(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


class Outer(nn.Module):
    """A network whose layer ``block.inner`` does something particular between two that do nothing particular."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.block = nn.ModuleDict({"inner": Inner(function)})
        self.last = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        made = self.block["inner"](x)
        last: Tensor = self.last(x + made if isinstance(made, Tensor) and made.shape == x.shape else x)
        return last


def sum_of(network: nn.Module, *batch: Tensor) -> Tensor:
    result: Tensor = network(*batch).sum()
    return result


def step_of(function: Callable[[Tensor], Any], device: str = "meta") -> UpdateStep:
    network = Outer(function).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), foreach=False)
    return UpdateStep(network, optimizer, (torch.ones(3, 4, device=device),), sum_of)
