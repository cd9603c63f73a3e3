"""Faults in the update step."""

from __future__ import annotations

import copy
from typing import Any

import torch
from peft_update_bench.fixtures import update_step
from peft_update_bench.fixtures.update_step import UpdateStep
from torch import Tensor, nn

from tests.sabotage.faults.registry import Patch, fault


@fault
def extra_forward(patch: Patch) -> None:
    """Every step runs a second forward pass, for a log that nobody reads."""
    forward = UpdateStep.forward

    def forward_twice(self: UpdateStep) -> Tensor:
        with torch.no_grad():
            forward(self)
        return forward(self)

    patch.setattr(UpdateStep, "forward", forward_twice)


@fault
def second_batch(patch: Patch) -> None:
    """Every image is shown twice, as it is and flipped, in one batch."""

    def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        both = torch.cat([images, images.flip(-1)])
        return nn.functional.cross_entropy(network(both), torch.cat([labels, labels]))

    patch.setattr(update_step, "classification_loss", loss)


@fault
def larger_images(patch: Patch) -> None:
    """A transform enlarges the images to 256 pixels."""

    def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(network(nn.functional.interpolate(images, size=(256, 256))), labels)

    patch.setattr(update_step, "classification_loss", loss)


@fault
def graph_retained(patch: Patch) -> None:
    """``backward(retain_graph=True)``: no activation is freed before the step ends."""
    patch.setattr(UpdateStep, "backward", lambda _, loss: loss.backward(retain_graph=True))


@fault
def backward_twice(patch: Patch) -> None:
    """The gradient is computed twice, first with the graph retained."""

    def backward(_: UpdateStep, loss: Tensor) -> None:
        loss.backward(retain_graph=True)
        loss.backward()

    patch.setattr(UpdateStep, "backward", backward)


@fault
def gradients_kept(patch: Patch) -> None:
    """``zero_grad(set_to_none=False)``: gradients stay allocated during the next forward pass."""
    patch.setattr(UpdateStep, "zero_grad", lambda self: self.network.zero_grad(set_to_none=False))


@fault
def gradients_clipped(patch: Patch) -> None:
    """Gradients are clipped by their norm before each step."""
    step = UpdateStep.optimizer_step

    def clip_and_step(self: UpdateStep) -> None:
        nn.utils.clip_grad_norm_(self.trainable_parameters(), 1.0, foreach=False)
        step(self)

    patch.setattr(UpdateStep, "optimizer_step", clip_and_step)


@fault
def moving_average(patch: Patch) -> None:
    """A moving average of all weights is kept beside the network."""
    step = UpdateStep.optimizer_step

    def step_and_average(self: UpdateStep) -> None:
        step(self)
        averages = self.__dict__.setdefault("averages", copy.deepcopy(self.network.state_dict()))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if value.is_floating_point():
                    averages[name].mul_(0.999).add_(value, alpha=0.001)

    patch.setattr(UpdateStep, "optimizer_step", step_and_average)


@fault
def outputs_logged(patch: Patch) -> None:
    """A debugging hook keeps what every convolution returns until the step ends."""
    forward, zero_grad = UpdateStep.forward, UpdateStep.zero_grad

    def forward_and_log(self: UpdateStep) -> Tensor:
        self.__dict__["log"] = log = []
        hooks = [
            module.register_forward_hook(lambda *given: log.append(given[-1]))
            for module in self.network.modules()
            if isinstance(module, nn.Conv2d)
        ]
        loss = forward(self)
        for hook in hooks:
            hook.remove()
        return loss

    def clear_and_zero(self: UpdateStep) -> None:
        self.__dict__.pop("log", None)
        zero_grad(self)

    patch.setattr(UpdateStep, "forward", forward_and_log)
    patch.setattr(UpdateStep, "zero_grad", clear_and_zero)


@fault
def images_need_gradients(patch: Patch) -> None:
    """The images require gradients, as peft's ``enable_input_require_grads`` and adversarial training leave it."""

    def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(network(images.detach().requires_grad_()), labels)

    patch.setattr(update_step, "classification_loss", loss)


@fault
def doubled_precision(patch: Patch) -> None:
    """The network and the batch are float64."""
    build = update_step.build_update_step

    def build_double(*args: Any, **kwargs: Any) -> UpdateStep:
        step = build(*args, **kwargs)
        step.network.double()
        step.batch = (step.batch[0].double(), step.batch[1])
        return step

    patch.setattr(update_step, "build_update_step", build_double)
