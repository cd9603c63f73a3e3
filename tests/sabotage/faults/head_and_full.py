"""Faults in full fine-tuning and in training the head: what is trained, in which mode, by which optimizer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from peft_update_bench.fixtures.architectures import Network
from peft_update_bench.fixtures.methods import METHODS
from peft_update_bench.fixtures.methods.base import running_norms
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.sabotage.faults.registry import Patch, after_adapt, fault, with_optimizer


def adamw(**settings: Any) -> Callable[..., torch.optim.Optimizer]:
    def build(module: nn.Module, _rank: int | None) -> torch.optim.Optimizer:
        trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
        return torch.optim.AdamW(trainable, **{"lr": 1e-3, "foreach": False, "fused": False, **settings})

    return build


@fault
def foreach_optimizer(patch: Patch) -> None:
    """AdamW works on all parameters at once, with temporaries for all of them."""
    with_optimizer(patch, type(METHODS["fft"]), adamw(foreach=True))


@fault
def amsgrad(patch: Patch) -> None:
    """AdamW keeps a third state, the maximum of the second."""
    with_optimizer(patch, type(METHODS["fft"]), adamw(amsgrad=True))


@fault
def blocks_checkpointed(patch: Patch) -> None:
    """Activation checkpointing was switched on: less memory for a second forward pass."""

    def change(network: Network) -> None:
        for name in ("layer1", "layer2", "layer3", "layer4"):
            block = getattr(network.module, name, None)
            if block is not None:
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)

    after_adapt(patch, type(METHODS["fft"]), change)


@fault
def head_not_trained(patch: Patch) -> None:
    """The head is left out of what full fine-tuning trains."""
    after_adapt(patch, type(METHODS["fft"]), lambda network: network.head_module.requires_grad_(False))


@fault
def backbone_trainable(patch: Patch) -> None:
    """Nothing is frozen any more under head-only fine-tuning."""
    after_adapt(patch, type(METHODS["head"]), lambda network: network.module.requires_grad_(True))


@fault
def states_for_frozen(patch: Patch) -> None:
    """The optimizer makes its states for every parameter, the frozen ones included, as Adagrad does."""

    def build(module: nn.Module, rank: int | None) -> torch.optim.Optimizer:
        optimizer = adamw()(module, rank)
        for parameter in module.parameters():
            if not parameter.requires_grad:
                optimizer.state[parameter] = {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
        return optimizer

    with_optimizer(patch, type(METHODS["head"]), build)


@fault
def statistics_move(patch: Patch) -> None:
    """Batch norm is in train mode under head-only fine-tuning, which is meant to leave its statistics alone."""
    after_adapt(patch, type(METHODS["head"]), lambda network: network.module.train())


@fault
def statistics_frozen(patch: Patch) -> None:
    """Batch norm is in eval mode under a method whose point is that its statistics move."""

    def freeze(network: Network) -> None:
        for batch_norm in running_norms(network.module):
            batch_norm.eval()

    after_adapt(patch, type(METHODS["bn_head"]), freeze)


@fault
def statistics_frozen_in_full(patch: Patch) -> None:
    """``network.eval()`` was forgotten before full fine-tuning."""
    after_adapt(patch, type(METHODS["fft"]), lambda network: network.module.eval())


@fault
def affine_trainable(patch: Patch) -> None:
    """Batch norm's weight and bias are trained too."""

    def thaw(network: Network) -> None:
        for batch_norm in running_norms(network.module):
            batch_norm.requires_grad_(True)

    after_adapt(patch, type(METHODS["bn_head"]), thaw)
