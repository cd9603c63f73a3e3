"""The faults by name, and what several of them do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from peft_update_bench.fixtures.architectures import Network
from peft_update_bench.fixtures.methods.base import Method

Patch = pytest.MonkeyPatch
Inject = Callable[[Patch], None]

FAULTS: dict[str, Inject] = {}


def fault(inject: Inject) -> Inject:
    FAULTS[inject.__name__] = inject
    return inject


def after_adapt(patch: Patch, method: type[Method], change: Callable[[Network], object]) -> None:
    """Have `method` do `change` to every network that it has adapted."""
    adapt = method.adapt

    def adapt_and_change(self: Method, network: Network, rank: int | None) -> None:
        adapt(self, network, rank)
        change(network)

    patch.setattr(method, "adapt", adapt_and_change)


def with_optimizer(patch: Patch, method: type[Method], build: Callable[..., torch.optim.Optimizer]) -> None:
    patch.setattr(method, "optimizer", lambda _, network, rank: build(network.module, rank))
