"""The faults: each a small change to methods, networks or the update step, as it happens to people who maintain them.

A fault patches the code under test, never an instrument or the gate. It is named, so that it can also be put into a
process that measures memory.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from galore_torch import GaLoreAdamW
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.dora import _DoraConvNdLayer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bench import measurement
from bench.cells import Cell
from fixtures import update_step
from fixtures.architectures import Network
from fixtures.methods import METHODS
from fixtures.methods.base import Method, batch_norms
from fixtures.methods.galore import GaLore
from fixtures.methods.lora import LoRA
from fixtures.update_step import UpdateStep
from fixtures.workload import Workload

Patch = pytest.MonkeyPatch
Inject = Callable[[Patch], None]

FAULTS: dict[str, Inject] = {}


def fault(inject: Inject) -> Inject:
    FAULTS[inject.__name__] = inject
    return inject


@contextmanager
def injected(name: str) -> Iterator[None]:
    """The fault in this process, and in the children that measure memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measurement, "_build", partial(build_with, name))
        patch.setattr(f"{__name__}.in_place", name)
        FAULTS[name](patch)
        yield


in_place = ""
"""The fault that this process has."""


def build_with(name: str, cell: Cell, workload: Workload, device: str) -> UpdateStep:
    """What measurements build, with a fault. In a child process the fault is put in first, and stays."""
    if in_place != name:
        FAULTS[name](pytest.MonkeyPatch())
    return update_step.build_update_step(cell.architecture, cell.method, cell.rank, workload, device=device)


def after_adapt(patch: Patch, method: type[Method], change: Callable[[Network], None]) -> None:
    """Have `method` do `change` to every network that it has adapted."""
    adapt = method.adapt

    def adapt_and_change(self: Method, network: Network, rank: int | None) -> None:
        adapt(self, network, rank)
        change(network)

    patch.setattr(method, "adapt", adapt_and_change)


def with_optimizer(patch: Patch, method: type[Method], build: Callable[..., torch.optim.Optimizer]) -> None:
    patch.setattr(method, "optimizer", lambda _, network, rank: build(network.module, rank))


# The update step


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


# Full fine-tuning, head and batch-norm head


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
    after_adapt(patch, type(METHODS["head"]), lambda network: network.module.train() and None)


@fault
def statistics_frozen(patch: Patch) -> None:
    """Batch norm is in eval mode under a method whose point is that its statistics move."""

    def freeze(network: Network) -> None:
        for batch_norm in batch_norms(network.module):
            batch_norm.eval()

    after_adapt(patch, type(METHODS["bn_head"]), freeze)


@fault
def statistics_frozen_in_full(patch: Patch) -> None:
    """``network.eval()`` was forgotten before full fine-tuning."""
    after_adapt(patch, type(METHODS["fft"]), lambda network: network.module.eval() and None)


@fault
def affine_trainable(patch: Patch) -> None:
    """Batch norm's weight and bias are trained too."""

    def thaw(network: Network) -> None:
        for batch_norm in batch_norms(network.module):
            batch_norm.requires_grad_(True)

    after_adapt(patch, type(METHODS["bn_head"]), thaw)


# LoRA and DoRA


@fault
def rank_doubled(patch: Patch) -> None:
    """Adapters have twice the rank that was asked for."""
    adapt = LoRA.adapt
    patch.setattr(LoRA, "adapt", lambda self, network, rank: adapt(self, network, 2 * rank))


@fault
def depthwise_adapted(patch: Patch) -> None:
    """Adapters on the depthwise convolutions as well."""
    adapt = LoRA.adapt

    def adapt_all(self: LoRA, network: Network, rank: int | None) -> None:
        adapt(self, network, rank)
        depthwise = {
            name: network.module.get_submodule(name).groups for name in set(network.projected) - set(network.adapted)
        }
        # peft demands a rank that the number of groups divides.
        config = LoraConfig(target_modules=list(depthwise), rank_pattern=depthwise, alpha_pattern=depthwise)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that such an adapter cannot be merged
            if depthwise:
                inject_adapter_in_model(config, network.module, adapter_name="depthwise")
        network.head_module.requires_grad_(True)
        for layer in adapters(network):
            layer.set_adapter(list(layer.lora_A))

    patch.setattr(LoRA, "adapt", adapt_all)


@fault
def only_named_by_suffix(patch: Patch) -> None:
    """Adapters on the layers called ``conv1`` only: a list of names matches by suffix, and too little."""
    adapt = LoRA.adapt

    def adapt_some(self: LoRA, network: Network, rank: int | None) -> None:
        some = tuple(name for name in network.adapted if name.endswith("conv1"))
        adapt(self, Network(network.module, network.head, some, network.projected), rank)

    patch.setattr(LoRA, "adapt", adapt_some)


@fault
def head_copied(patch: Patch) -> None:
    """The head is trained through peft's ``modules_to_save``, which keeps a second copy."""

    def adapt(self: LoRA, network: Network, rank: int | None) -> None:
        config = LoraConfig(
            r=rank, lora_alpha=rank, use_dora=self.use_dora, target_modules=list(network.adapted),
            modules_to_save=[network.head],
        )  # fmt: skip
        inject_adapter_in_model(config, network.module)
        network.module.train()

    patch.setattr(LoRA, "adapt", adapt)


def adapters(network: Network) -> list[LoraLayer]:
    return [module for module in network.module.modules() if isinstance(module, LoraLayer)]


@fault
def adapters_in_double(patch: Patch) -> None:
    """Adapters are float64, the network is float32."""

    def double(network: Network) -> None:
        for layer in adapters(network):
            layer.lora_A.double()
            layer.lora_B.double()

    after_adapt(patch, LoRA, double)


@fault
def adapters_frozen(patch: Patch) -> None:
    """The adapters are frozen: only the head is trained."""

    def freeze(network: Network) -> None:
        network.module.requires_grad_(False)
        network.head_module.requires_grad_(True)

    after_adapt(patch, LoRA, freeze)


@fault
def base_trainable(patch: Patch) -> None:
    """The adapted weights are trained beside their adapters."""
    after_adapt(patch, LoRA, lambda network: network.module.requires_grad_(True))


@fault
def dropout_left_on(patch: Patch) -> None:
    """Adapters have peft's customary dropout of 0.05."""

    def drop(network: Network) -> None:
        for layer in adapters(network):
            layer.lora_dropout["default"] = nn.Dropout(0.05)

    after_adapt(patch, LoRA, drop)


@fault
def dora_convolves_twice(patch: Patch) -> None:
    """DoRA computes the base convolution again, as peft 0.14.0 and older did."""
    forward = _DoraConvNdLayer.forward

    def forward_twice(self: Any, x: Tensor, **given: Any) -> Any:
        return forward(self, x, **{**given, "base_result": None})

    patch.setattr(_DoraConvNdLayer, "forward", forward_twice)


@fault
def dora_magnitude_frozen(patch: Patch) -> None:
    """DoRA's magnitudes are frozen: it trains what LoRA trains and costs what DoRA costs."""

    def freeze(network: Network) -> None:
        for layer in adapters(network):
            layer.lora_magnitude_vector.requires_grad_(False)

    after_adapt(patch, type(METHODS["dora"]), freeze)


# GaLore


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
    optimizer = GaLore.optimizer

    def unprojected(self: GaLore, network: Network, rank: int | None) -> torch.optim.Optimizer:
        return optimizer(self, Network(network.module, network.head, network.adapted, ()), rank)

    patch.setattr(GaLore, "optimizer", unprojected)


@fault
def matrix_gradients_kept(patch: Patch) -> None:
    """GaLore's optimizer keeps the gradients that it was lent."""
    patch.setattr(GaLoreAdamW, "register_step_post_hook", lambda *_: None)


@fault
def weights_copied(patch: Patch) -> None:
    """GaLore's matrices are copies of the weights, and the update is lost: nothing projected is trained."""
    flatten = Tensor.flatten
    optimizer = GaLore.optimizer

    def copying(self: GaLore, network: Network, rank: int | None) -> torch.optim.Optimizer:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Tensor, "flatten", lambda tensor, *args: flatten(tensor, *args).clone())
            return optimizer(self, network, rank)

    patch.setattr(GaLore, "optimizer", copying)


# What only a measurement sees


@fault
def leak(patch: Patch) -> None:
    """Every step's gradients are kept, for histograms."""
    zero_grad = UpdateStep.zero_grad

    def keep_and_zero(self: UpdateStep) -> None:
        kept = self.__dict__.setdefault("histograms", [])
        kept.append([parameter.grad for parameter in self.trainable_parameters()])
        zero_grad(self)

    patch.setattr(UpdateStep, "zero_grad", keep_and_zero)


@fault
def buffer_outside_torch(patch: Patch) -> None:
    """A data loader holds 64 MiB that torch knows nothing of."""
    call = UpdateStep.__call__

    def hold_and_call(self: UpdateStep) -> Tensor:
        self.__dict__.setdefault("frames", np.ones(64 * 2**20, dtype=np.uint8))
        return call(self)

    patch.setattr(UpdateStep, "__call__", hold_and_call)


@fault
def without_onednn(patch: Patch) -> None:
    """oneDNN is switched off: convolutions take a path with larger workspaces."""
    call = UpdateStep.__call__

    def call_without(self: UpdateStep) -> Tensor:
        with torch.backends.mkldnn.flags(enabled=False):
            return call(self)

    patch.setattr(UpdateStep, "__call__", call_without)


@fault
def learning_rate_of_zero(patch: Patch) -> None:
    """The schedule ended: the update trains nothing."""
    for method in METHODS.values():
        patch.setattr(type(method), "learning_rate", 0.0)


@fault
def loss_not_finite(patch: Patch) -> None:
    """The loss is divided by the number of images seen so far, which is zero."""

    def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(network(images), labels) / torch.zeros(())

    patch.setattr(update_step, "classification_loss", loss)


# What only a clock sees


@fault
def waits(patch: Patch) -> None:
    """The step waits 20 ms for a file."""
    forward = UpdateStep.forward

    def wait_and_forward(self: UpdateStep) -> Tensor:
        time.sleep(0.02)
        return forward(self)

    patch.setattr(UpdateStep, "forward", wait_and_forward)


@fault
def computes_on_numpy(patch: Patch) -> None:
    """The step normalises its images in NumPy, pixel by pixel, where no operator counts."""
    forward = UpdateStep.forward

    def normalise_and_forward(self: UpdateStep) -> Tensor:
        pixels = np.random.default_rng(0).random(2**18)
        for _ in range(10):
            pixels = np.sqrt(np.exp(pixels) - 1)
        return forward(self)

    patch.setattr(UpdateStep, "forward", normalise_and_forward)
