"""Faults in GaLore: its rank, its schedule, and which tensors it projects."""

from __future__ import annotations

import pytest
import torch
from peft_update_bench.fixtures.architectures import Network
from peft_update_bench.fixtures.methods import galore
from peft_update_bench.fixtures.methods.galore import GaLore, GaLoreAdamW
from torch import Tensor

from tests.sabotage.faults.registry import Patch, fault


@fault
def refreshed_every_step(patch: Patch) -> None:
    """The projector is computed anew in every step."""
    patch.setattr(GaLore, "update_proj_gap", 1)


@fault
def galore_rank_doubled(patch: Patch) -> None:
    """GaLore projects on twice the rank."""
    optimizer = GaLore.optimizer
    patch.setattr(GaLore, "optimizer", lambda self, network, rank: optimizer(self, network, 2 * rank))


@fault
def not_projected(patch: Patch) -> None:
    """GaLore's layers are not found: every weight has full-size states."""
    patch.setattr(galore, "projected_weights", lambda *_: ())


@fault
def matrix_gradients_kept(patch: Patch) -> None:
    """GaLore's optimizer keeps the gradients that it was lent."""
    patch.setattr(GaLoreAdamW, "register_step_post_hook", lambda *_: None)


@fault
def weights_copied(patch: Patch) -> None:
    """GaLore's matrices are copies of the weights, and the update is lost: nothing projected is trained."""
    view = Tensor.view
    optimizer = GaLore.optimizer

    def copying(self: GaLore, network: Network, rank: int | None) -> torch.optim.Optimizer:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Tensor, "view", lambda tensor, *args: view(tensor, *args).clone())
            return optimizer(self, network, rank)

    patch.setattr(GaLore, "optimizer", copying)
