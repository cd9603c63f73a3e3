"""Faults in LoRA and DoRA: which layers have adapters, of which rank and precision, and what beside them is trained."""

from __future__ import annotations

import warnings
from typing import Any

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.dora import _DoraConvNdLayer
from peft_update_bench.fixtures.architectures import Network
from peft_update_bench.fixtures.methods import METHODS
from peft_update_bench.fixtures.methods.lora import LoRA
from torch import Tensor, nn

from tests.sabotage.faults.registry import Patch, after_adapt, fault


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
        assert rank is not None
        config = LoraConfig(
            r=rank, lora_alpha=rank, use_dora=self.use_dora, target_modules=list(network.adapted),
            modules_to_save=[*network.heads],
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
