"""Faults that a single steady step does not show: in its schedule, in the first step, in what it keeps and leaves."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import torch
from peft.tuners.lora.layer import Conv2d
from peft_update_bench.fixtures import update_step
from peft_update_bench.fixtures.architectures import Network
from peft_update_bench.fixtures.methods import METHODS
from peft_update_bench.fixtures.methods.galore import GaLoreAdamW
from peft_update_bench.fixtures.methods.lora import LoRA
from peft_update_bench.fixtures.update_step import UpdateStep
from torch import Tensor, nn

from tests.sabotage.faults.head_and_full import adamw
from tests.sabotage.faults.registry import Patch, fault, with_optimizer

MEBIBYTE = 2**20


def with_galore_gap(patch: Patch, steps: int) -> None:
    """Have GaLore's projector refreshed every so many steps, whatever its constant says."""
    initialize = GaLoreAdamW.__init__

    def initialize_with_gap(self: Any, groups: Any, *args: Any, **kwargs: Any) -> None:
        given = [{**group, "update_proj_gap": steps} if "rank" in group else group for group in groups]
        initialize(self, given, *args, **kwargs)

    patch.setattr(GaLoreAdamW, "__init__", initialize_with_gap)


# The schedule


@fault
def refreshed_every_20_steps(patch: Patch) -> None:
    """GaLore's projector refreshes every 20 steps instead of 200."""
    with_galore_gap(patch, 20)


@fault
def refreshed_every_199_steps(patch: Patch) -> None:
    """GaLore's projector refreshes every 199 steps instead of 200."""
    with_galore_gap(patch, 199)


@fault
def never_refreshed(patch: Patch) -> None:
    """GaLore's projector is computed once and never again."""
    with_galore_gap(patch, 10**9)


@fault
def averaged_every_10_steps(patch: Patch) -> None:
    """Every tenth step the weights are averaged, which no method tells of."""
    step = UpdateStep.optimizer_step

    def step_and_average(self: UpdateStep) -> None:
        step(self)
        self.__dict__["steps"] = steps = self.__dict__.get("steps", 0) + 1
        if steps % 10 == 0:
            with torch.no_grad():
                for parameter in self.trainable_parameters():
                    parameter.mul_(1.0)

    patch.setattr(UpdateStep, "optimizer_step", step_and_average)


# What is trained


@fault
def optimizer_does_nothing(patch: Patch) -> None:
    """AdamW's step does nothing."""
    patch.setattr(torch.optim.AdamW, "step", lambda *_: None)


@fault
def large_weights_left_out(patch: Patch) -> None:
    """The optimizer is not given the weights of more than a million elements."""

    def build(module: nn.Module, _rank: int | None) -> torch.optim.Optimizer:
        small = [parameter for parameter in module.parameters() if parameter.numel() < 10**6]
        return torch.optim.AdamW(small, lr=1e-3, foreach=False, fused=False)

    with_optimizer(patch, type(METHODS["fft"]), build)


@fault
def update_of_a_copy(patch: Patch) -> None:
    """The optimizer updates a copy of the weights, which nothing reads."""

    def build(module: nn.Module, rank: int | None) -> torch.optim.Optimizer:
        optimizer = adamw()(module, rank)
        own = list(optimizer.param_groups[0]["params"])
        copies = [nn.Parameter(parameter.detach().clone()) for parameter in own]
        optimizer.param_groups[0]["params"] = copies

        def lend(*_: Any) -> None:
            for parameter, copy in zip(own, copies, strict=True):
                copy.grad = parameter.grad

        optimizer.register_step_pre_hook(lend)
        return optimizer

    with_optimizer(patch, type(METHODS["fft"]), build)


@fault
def plain_gradient_descent(patch: Patch) -> None:
    """The optimizer is SGD, which does a third of AdamW's work."""

    def build(module: nn.Module, _rank: int | None) -> torch.optim.Optimizer:
        return torch.optim.SGD(module.parameters(), lr=1e-3, foreach=False, fused=False)

    with_optimizer(patch, type(METHODS["fft"]), build)


# The first step


def at_first(patch: Patch, do: Any) -> None:
    """Have the first optimizer step `do` something to its step before."""
    step = UpdateStep.optimizer_step

    def do_and_step(self: UpdateStep) -> None:
        if "was_first" not in self.__dict__:
            self.__dict__["was_first"] = True
            do(self)
        step(self)

    patch.setattr(UpdateStep, "optimizer_step", do_and_step)


@fault
def first_step_waits(patch: Patch) -> None:
    """The first optimizer step waits 5 s."""
    at_first(patch, lambda _: time.sleep(5))


@fault
def weights_snapshot_at_first(patch: Patch) -> None:
    """The first optimizer step copies all weights three times, to write a snapshot."""
    at_first(patch, lambda step: [[p.detach().clone() for p in step.network.parameters()] for _ in range(3)])


# What a step keeps


def after_each_step(patch: Patch, keep: Any) -> None:
    zero_grad = UpdateStep.zero_grad

    def keep_and_zero(self: UpdateStep) -> None:
        self.__dict__.setdefault("kept", []).append(keep(self))
        zero_grad(self)

    patch.setattr(UpdateStep, "zero_grad", keep_and_zero)


KEPT = MEBIBYTE + 4096
"""1.00 MiB, also less the hundreds of bytes that Python frees meanwhile."""


@fault
def mebibyte_kept(patch: Patch) -> None:
    """1 MiB is kept at every step."""
    after_each_step(patch, lambda _: torch.zeros(KEPT // 4))


@fault
def mebibyte_kept_by_numpy(patch: Patch) -> None:
    """1 MiB is kept at every step, in an array that torch knows nothing of."""
    after_each_step(patch, lambda _: np.ones(KEPT, dtype=np.uint8))


@fault
def images_kept(patch: Patch) -> None:
    """Every step keeps a copy of its images, for a page that shows them."""
    after_each_step(patch, lambda step: step.batch[0].clone())


@fault
def graphs_kept(patch: Patch) -> None:
    """Every step's loss is kept with its graph, for a curve, and the graph is retained."""

    def retain(self: UpdateStep, loss: Tensor) -> None:
        self.__dict__.setdefault("losses", []).append(loss)
        loss.backward(retain_graph=True)

    patch.setattr(UpdateStep, "backward", retain)


# What is left


@fault
def delta_of_zeros(patch: Patch) -> None:
    """``get_delta_weight`` returns zeros: the merged network has lost the update."""
    delta = Conv2d.get_delta_weight
    patch.setattr(Conv2d, "get_delta_weight", lambda self, adapter: torch.zeros_like(delta(self, adapter)))


@fault
def delta_without_scaling(patch: Patch) -> None:
    """The merged network holds half of the update: the scaling is forgotten in one of two places."""
    delta = Conv2d.get_delta_weight
    patch.setattr(Conv2d, "get_delta_weight", lambda self, adapter: delta(self, adapter) / 2)


@fault
def merged_and_kept(patch: Patch) -> None:
    """Merging leaves the adapters where they are: the merged network computes the update twice."""

    def merge(_: LoRA, module: nn.Module) -> None:
        for layer in module.modules():
            if isinstance(layer, Conv2d):
                weight: Any = layer.get_base_layer().weight
                weight.data += layer.get_delta_weight("default")

    patch.setattr(LoRA, "merge", merge)


@fault
def statistics_of_another_name(patch: Patch) -> None:
    """A buffer that the forward pass moves decides on the logits, and is neither parameter nor running statistic."""
    adapt = LoRA.adapt

    def adapt_and_count(self: LoRA, network: Network, rank: int | None) -> None:
        adapt(self, network, rank)
        module = network.module
        module.register_buffer("temperature", torch.ones(()))

        def warm(module: Any, _: Any) -> None:
            if module.training:
                module.temperature.mul_(2)

        module.register_forward_pre_hook(warm)
        module.register_forward_hook(lambda m, _, logits: logits * m.temperature)

    patch.setattr(LoRA, "adapt", adapt_and_count)


@fault
def answers_twice(patch: Patch) -> None:
    """In eval mode the network answers twice, for an ensemble of one."""
    for method in METHODS.values():
        adapt = type(method).adapt

        def adapt_and_hook(self: Any, network: Network, rank: int | None, adapt: Any = adapt) -> None:
            adapt(self, network, rank)

            def again(module: Any, given: Any, logits: Tensor) -> Tensor:
                first = logits.clone()
                return logits if module.training else (first + module.forward(*given)) / 2

            network.module.register_forward_hook(again)

        patch.setattr(type(method), "adapt", adapt_and_hook)


# Whether it repeats


@fault
def noise_from_the_system(patch: Patch) -> None:
    """Images are jittered by the system's own random generator, which nobody seeds."""

    def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        factor = 1 + int.from_bytes(os.urandom(4), "little") / 2**32
        return nn.functional.cross_entropy(network(images * factor), labels)

    patch.setattr(update_step, "classification_loss", loss)


@fault
def weights_from_the_system(patch: Patch) -> None:
    """The network's head starts from the system's own random generator."""
    adapt = type(METHODS["head"]).adapt

    def adapt_and_draw(self: Any, network: Network, rank: int | None) -> None:
        adapt(self, network, rank)
        with torch.no_grad():
            for parameter in network.head_module.parameters():
                parameter.add_(int.from_bytes(os.urandom(4), "little") / 2**40)

    patch.setattr(type(METHODS["head"]), "adapt", adapt_and_draw)


@fault
def noise_from_another_generator(patch: Patch) -> None:
    """Gradients get noise from a generator of their own, seeded by the clock."""
    step = UpdateStep.optimizer_step
    generator = torch.Generator()
    generator.seed()

    def step_with_noise(self: UpdateStep) -> None:
        for parameter in self.trainable_parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(1 + 1e-3 * float(torch.rand((), generator=generator, device="cpu")))
        step(self)

    patch.setattr(UpdateStep, "optimizer_step", step_with_noise)
