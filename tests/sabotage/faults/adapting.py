"""Faults that cost nothing and teach a network nothing, or the wrong thing: only its accuracy shows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from peft_update_bench.fixtures.data import tasks
from peft_update_bench.fixtures.data.names import DataChoice
from peft_update_bench.fixtures.data.tasks import Examples, Task
from peft_update_bench.fixtures.methods import METHODS
from peft_update_bench.fixtures.training import adaptation, pretraining
from peft_update_bench.fixtures.training.plan import Plan
from torch import Tensor

from tests.sabotage.faults.registry import Patch, fault


@fault
def labels_shuffled(patch: Patch) -> None:
    """A batch's images are shuffled, and its labels another way."""
    real = adaptation.batches

    def shuffled(examples: Examples, plan: Plan, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in real(examples, plan, seed):
            yield images, labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]

    patch.setattr(adaptation, "batches", shuffled)


@fault
def first_batch_repeated(patch: Patch) -> None:
    """The data loader is made anew in every step, and every step sees the first batch."""
    real = adaptation.batches

    def repeated(examples: Examples, plan: Plan, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        first = next(real(examples, plan, seed))
        return (first for _ in range(plan.steps))

    patch.setattr(adaptation, "batches", repeated)


@fault
def learning_rate_tenth(patch: Patch) -> None:
    """The learning rate is a tenth of what it was tuned to."""
    _times_learning_rate(patch, 0.1)


@fault
def learning_rate_tenfold(patch: Patch) -> None:
    """The learning rate is ten times what it was tuned to."""
    _times_learning_rate(patch, 10)


def _times_learning_rate(patch: Patch, factor: float) -> None:
    for kind, rate in {type(method): method.learning_rate for method in METHODS.values()}.items():
        patch.setattr(kind, "learning_rate", factor * rate)


@fault
def head_not_extended(patch: Patch) -> None:
    """The head keeps the classes that it had, and the new ones have no output."""
    patch.setattr(pretraining, "extend_head", lambda network, _: network)


@fault
def held_out_learned(patch: Patch) -> None:
    """The update learns from the images that it is tested on: accuracy rises, and no tolerance would tell."""
    real = tasks.load

    def overlapping(name: str, choice: DataChoice) -> Task:
        task = real(name, choice)
        return replace(task, test=task.update)

    patch.setattr(tasks, "load", overlapping)
