"""What each method moves in an update, and what it must leave alone."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
import torch
from peft_update_bench.fixtures.architectures import build
from peft_update_bench.fixtures.methods import METHODS
from peft_update_bench.fixtures.methods.galore import GaLore
from peft_update_bench.fixtures.update_step import UpdateStep, build_update_step
from peft_update_bench.fixtures.workload import Workload
from torch import nn

SMALL = Workload(batch_size=2, image_size=64)
NETWORKS = ("resnet18", "mobilenet_v2")
CASES = [(a, m, 4 if METHODS[m].takes_rank else None) for a in NETWORKS for m in METHODS]


def snapshot(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def moved_by(step: UpdateStep, steps: int) -> set[str]:
    """The names in the state dict whose values change in some updates."""
    before = snapshot(step.network)
    for _ in range(steps):
        assert torch.isfinite(step())
    return {name for name, tensor in step.network.state_dict().items() if not torch.equal(tensor, before[name])}


def batch_norm_names(network: nn.Module, suffixes: tuple[str, ...]) -> set[str]:
    return {
        f"{name}.{suffix}"
        for name, m in network.named_modules()
        if isinstance(m, nn.BatchNorm2d)
        for suffix in suffixes
    }


STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.mark.parametrize(("architecture", "method", "rank"), CASES)
def test_what_moves(architecture: str, method: str, rank: int | None) -> None:
    step = build_update_step(architecture, method, rank, SMALL)
    head = build(architecture, SMALL.num_classes).head
    parameters = {name for name, _ in step.network.named_parameters()}
    trained = {
        "fft": parameters,
        "galore": parameters,
        "head": {f"{head}.weight", f"{head}.bias"},
        "bn_head": {f"{head}.weight", f"{head}.bias"},
    }.get(method) or {name for name in parameters if ".lora_" in name or name.startswith(f"{head}.")}
    statistics = set() if method == "head" else batch_norm_names(step.network, STATISTICS)

    # LoRA's A has no gradient while B is zero, so it moves from the second step on.
    assert moved_by(step, steps=2) == trained | statistics
    assert {name for name, p in step.network.named_parameters() if p.requires_grad} == trained


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_first_step_moves_adapters_out_of_zero(method: str) -> None:
    step = build_update_step("mobilenet_v2", method, 4, SMALL)
    out = {name for name in snapshot(step.network) if re.search(r"\.lora_B\..*weight", name)}
    assert out
    assert out <= moved_by(step, steps=1)


@pytest.mark.parametrize("architecture", NETWORKS)
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_adapters_sit_on_every_ungrouped_convolution_and_nowhere_else(architecture: str, method: str) -> None:
    network = build(architecture, 10)
    expected = {n for n, m in network.module.named_modules() if isinstance(m, nn.Conv2d) and m.groups == 1}
    step = build_update_step(architecture, method, 4, SMALL)
    adapted = {name.partition(".lora_A.")[0] for name, _ in step.network.named_parameters() if ".lora_A." in name}
    assert adapted == expected
    magnitudes = [name for name, _ in step.network.named_parameters() if "magnitude" in name]
    assert len(magnitudes) == (len(expected) if method == "dora" else 0)


@pytest.mark.parametrize("rank", [1, 4, 16])
def test_rank_and_scaling_of_adapters(rank: int) -> None:
    step = build_update_step("mobilenet_v2", "lora", rank, SMALL)
    layers: list[Any] = [m for m in step.network.modules() if hasattr(m, "scaling")]
    assert layers
    assert all(layer.r == {"default": rank} and layer.scaling == {"default": 1.0} for layer in layers)
    assert all(isinstance(layer.lora_dropout["default"], nn.Identity) for layer in layers)


def test_there_is_one_head() -> None:
    """peft's modules_to_save would keep a second copy."""
    step = build_update_step("mobilenet_v2", "lora", 4, SMALL)
    assert sum(isinstance(m, nn.Linear) and m.out_features == 10 for m in step.network.modules()) == 1


def test_batch_norm_modes() -> None:
    for method, training in (("fft", True), ("head", False), ("bn_head", True), ("lora", True), ("galore", True)):
        step = build_update_step("mobilenet_v2", method, 4 if METHODS[method].takes_rank else None, SMALL)
        modes = {m.training for m in step.network.modules() if isinstance(m, nn.BatchNorm2d)}
        assert modes == {training}, method
        assert step.network.training


def test_galore_projects_every_convolution_and_only_those() -> None:
    step = build_update_step("mobilenet_v2", "galore", 4, SMALL)
    step()
    plain, projected = step.optimizer.param_groups
    convolutions = [m for m in step.network.modules() if isinstance(m, nn.Conv2d)]
    assert len(projected["params"]) == len(convolutions)
    assert len(plain["params"]) == len(list(step.network.parameters())) - len(convolutions)
    for matrix in projected["params"]:
        assert matrix.ndim == 2
        state = step.optimizer.state[matrix]
        # A rank cannot exceed the matrix's: a depthwise 3×3 convolution has nine columns, the stem's kernel 27.
        assert min(state["exp_avg"].shape) == min(4, *matrix.shape)


def test_galore_keeps_no_gradients_after_a_step() -> None:
    step = build_update_step("mobilenet_v3_small", "galore", 4, SMALL)
    step()
    assert all(p.grad is None for group in step.optimizer.param_groups for p in group["params"])
    assert all(p.grad is None for p in step.network.parameters())


def test_galore_matches_the_package_on_a_linear_network() -> None:
    """The shared-storage matrix changes nothing: a convolution whose weight is a matrix updates as that matrix does."""
    from galore_torch import GaLoreAdamW

    torch.manual_seed(0)
    convolution = nn.Conv2d(6, 8, 1, bias=False)
    linear = nn.Parameter(convolution.weight.detach().flatten(1).clone())
    network = nn.Sequential(convolution, nn.Flatten(), nn.Linear(8, 3))
    from peft_update_bench.fixtures.architectures import convolutional

    ours = GaLore().optimizer(convolutional(network, 3), rank=2)
    group = {"params": [linear], "rank": 2, "update_proj_gap": 200, "scale": 0.25, "proj_type": "std"}
    theirs = GaLoreAdamW([group], lr=GaLore.learning_rate, no_deprecation_warning=True)
    for _ in range(3):
        gradient = torch.randn(8, 6)
        convolution.weight.grad = gradient.reshape(8, 6, 1, 1)
        linear.grad = gradient.clone()
        ours.step()
        theirs.step()
    torch.testing.assert_close(convolution.weight.flatten(1), linear, rtol=0, atol=0)


def test_galore_refresh_can_be_scheduled() -> None:
    step = build_update_step("mobilenet_v3_small", "galore", 1, SMALL)
    step.create_optimizer_states()
    state = step.optimizer.state[step.optimizer.param_groups[1]["params"][0]]
    first = state["projector"].ortho_matrix
    step()
    assert state["projector"].ortho_matrix is first
    assert step.periodic_work is not None
    assert step.periodic_work.period == 200
    step.periodic_work.schedule()
    step()
    assert state["projector"].ortho_matrix is not first


def test_only_galore_has_periodic_work() -> None:
    for method, implementation in METHODS.items():
        step = build_update_step("resnet18", method, 1 if implementation.takes_rank else None, SMALL, device="meta")
        assert (step.periodic_work is None) == (method != "galore")


def test_the_same_seed_builds_the_same_step_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    first, second = (build_update_step("mobilenet_v3_small", "lora", 4, SMALL) for _ in range(2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.batch, second.batch, strict=True))
    pairs = zip(first.network.state_dict().values(), second.network.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    other = build_update_step("mobilenet_v3_small", "lora", 4, dataclasses.replace(SMALL, seed=1))
    assert not torch.equal(first.batch[0], other.batch[0])


def test_create_optimizer_states_leaves_weights_and_statistics() -> None:
    step = build_update_step("mobilenet_v3_small", "galore", 4, SMALL)
    before = snapshot(step.network)
    step.create_optimizer_states()
    assert all(torch.equal(tensor, before[name]) for name, tensor in step.network.state_dict().items())
    assert len(step.optimizer.state) == len(list(step.network.parameters()))


def test_updates_learn() -> None:
    """Every method brings the loss on its one batch down: it trains what it says it trains."""
    for method, implementation in METHODS.items():
        step = build_update_step("mobilenet_v3_small", method, 4 if implementation.takes_rank else None, SMALL)
        losses = [float(step()) for _ in range(8)]
        assert losses[-1] < losses[0], (method, losses)
