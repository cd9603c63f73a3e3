"""Networks small enough that their peak memory is worked out by hand, in parameters of 1 kB."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft_update_bench.fixtures.instruments.computed import measure
from peft_update_bench.fixtures.instruments.tracing.lifetimes import CATEGORIES
from peft_update_bench.fixtures.update_step import UpdateStep
from torch import Tensor, nn

KB = 1000
"""Bytes of the 250 float32 in a tensor of the hand-built networks."""


def kilobyte() -> Tensor:
    return torch.ones(250, device="meta")


class Network(nn.Module):
    """A network that is one function of itself and its batch, with parameters of 1 kB each, w and v or one."""

    w: nn.Parameter
    v: nn.Parameter

    def __init__(self, function: Callable[..., Tensor], **trainable: bool) -> None:
        super().__init__()
        self.function = function
        for name, requires_grad in trainable.items():
            self.register_parameter(name, nn.Parameter(kilobyte(), requires_grad=requires_grad))

    def forward(self, *batch: Tensor) -> Tensor:
        return self.function(self, *batch)


def the_loss(network: nn.Module, *batch: Tensor) -> Tensor:
    result: Tensor = network(*batch).sum()
    return result


def step_of(network: nn.Module, *batch: Tensor, optimizer: str = "SGD", **settings: Any) -> UpdateStep:
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    made = getattr(torch.optim, optimizer)(trained, lr=0.1, foreach=False, **settings)
    return UpdateStep(network, made, batch, the_loss)


def memory_of(function: Callable[..., Tensor], *batch: Tensor, **trainable: bool) -> dict[str, Any]:
    return measure(step_of(Network(function, **trainable), *(batch or (kilobyte(),)))).memory


def expected(
    peak_phase: str, peak_module: str, *, first_peak: int | None = None, **bytes_by_category: int
) -> dict[str, Any]:
    """The record's `memory`. Without optimizer states the first step's peak is that of all."""
    categories: dict[str, int] = {**dict.fromkeys(CATEGORIES, 0), **bytes_by_category}
    peak = sum(categories.values())
    first_peak = peak if first_peak is None else first_peak
    where = {"peak_phase": peak_phase, "peak_module": peak_module}
    return {"peak": peak, **categories, **where, "first_peak": first_peak}
