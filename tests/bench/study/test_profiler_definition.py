"""The study's own definitions, against what its profiler printed and what follows from them by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from peft_update_bench.bench.study import profiler_definition
from peft_update_bench.bench.study.profiler_definition import StudyProfiler
from peft_update_bench.fixtures.instruments import computed
from peft_update_bench.fixtures.update_step import UpdateStep, build_update_step
from peft_update_bench.fixtures.workload import Workload
from torch import Tensor, nn


def profile(architecture: str, method: str, rank: int | None = None) -> StudyProfiler:
    _, profiler = profiler_definition.measure(build_update_step(architecture, method, rank, Workload(), "meta"))
    return profiler


def profile_layer(layer: nn.Module, *size: int) -> StudyProfiler:
    """One step with SGD on the sum of what a layer returns; its input needs no gradient."""
    layer.to("meta")
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, foreach=False)
    batch = (torch.empty(size, device="meta"),)
    _, profiler = profiler_definition.measure(UpdateStep(layer, optimizer, batch, lambda network, x: network(x).sum()))
    return profiler


def test_it_counts_what_the_profiler_printed() -> None:
    """``Profiler(m, AdamW(m.parameters(), foreach=False)).profile(torch.rand(1, 3, 224, 224))``, at 0ccfcc6 with torch
    2.14.1, m torchvision's ResNet-18 of ten classes: by operator, and together.
    """
    convolutions, batch_norm, products = 3_627_122_688 + 7_042_877_298, 19_879_296 + 12_428_160, 15_350 + 14_848
    additions, multiplications = 23_868_728 + 1_856_512, 22_363_284
    printed = 10_750_426_164
    assert convolutions + batch_norm + products + additions + multiplications == printed
    assert profile("resnet18", "fft").flops.total() == printed


def test_lora_saves_by_it_what_the_study_says_that_it_saves() -> None:
    """67 % on ResNet-18, at the lowest rank and at the highest of the core matrix."""
    full = profile("resnet18", "fft").peak
    saved = [f"{1 - profile('resnet18', 'lora', rank).peak / full:.1%}" for rank in (1, 16)]
    assert saved == ["67.9%", "63.1%"]


def test_galore_needs_by_it_what_the_study_says_that_it_needs() -> None:
    """10 to 30 % more, of the first step, whose singular value decompositions are free."""
    full = profile("resnet18", "fft").flops.total()
    more = [f"{profile('resnet18', 'galore', rank).flops.total() / full - 1:.1%}" for rank in (16, 32, 64)]
    assert more == ["6.6%", "13.7%", "28.9%"]


@pytest.mark.parametrize(("method", "rank"), [("fft", None), ("lora", 4), ("galore", 4)])
def test_who_looks_changes_nothing(method: str, rank: int | None) -> None:
    """The suite's own figures are those of a pass that nobody else looks at, and what is held at once is less."""

    def build() -> UpdateStep:
        return build_update_step("mobilenet_v3_small", method, rank, Workload(), "meta")

    figures, profiler = profiler_definition.measure(build())
    alone = computed.measure(build())
    if torch.__version__.startswith("2.9."):  # which detaches more often for two that look, and that is no work
        figures.where["operators"]["detach"] = alone.where["operators"]["detach"]
    assert figures == alone
    batch = 4 * 3 * 224 * 224
    assert profiler.peak + batch > int(figures.memory["peak"])


def test_a_weight_gradient_counts_as_if_it_had_no_groups() -> None:
    """Four channels of 6×6 and 3×3 kernels. Each gradient also counts a bias that is not there."""
    grouped = profile_layer(nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), 1, 4, 6, 6).flops
    assert grouped["forward"] == 2 * 4 * 9 * 36
    assert grouped["backward"] == 2 * (4 * 4 * 9 * 36 + 4 * 9)
    assert grouped["optimizer"] == 2 * 36


def test_a_bias_adds_two_for_every_element() -> None:
    with_bias, without = (
        profile_layer(nn.Conv2d(4, 8, 3, padding=1, bias=bias), 1, 4, 6, 6).flops["forward"] for bias in (True, False)
    )
    assert with_bias - without == 2 * 8 * 36


def test_a_matrix_product_has_one_addition_less_than_it_has_products() -> None:
    """Two rows of five, three outputs. The bias counts as if it were as often added as a product has inner elements."""
    flops = profile_layer(nn.Linear(5, 3), 2, 5).flops
    assert flops["forward"] == 2 * 3 * (5 + 4) + 3 * 5
    assert flops["backward"] == 3 * 5 * (2 + 1)


@pytest.mark.parametrize(
    ("train", "forward", "backward"),
    [
        (("weight", "bias"), 8 * 144 + 8, 5 * 144 + 8),
        (("bias",), 7 * 144 + 8, 4 * 144 + 4),
    ],
)
def test_batch_norm_costs_less_where_its_weight_is_frozen(train: tuple[str, ...], forward: int, backward: int) -> None:
    layer = nn.BatchNorm2d(4)
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(name in train)
    flops = profile_layer(layer, 1, 4, 6, 6).flops
    assert flops["forward"] == forward + 2  # of which two count the batches
    assert flops["backward"] == backward


def test_batch_norm_without_weight_and_bias_has_nothing_to_train() -> None:
    with_none = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4, affine=False))
    alone = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False))
    difference = profile_layer(with_none, 1, 4, 6, 6).flops - profile_layer(alone, 1, 4, 6, 6).flops
    assert difference == {"forward": 6 * 144 + 8 + 2, "backward": 4 * 144 + 4}


class Free(nn.Module):
    """Work that the study's counter does not know."""

    def __init__(self, work: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 4, 4))
        self.work = work

    def forward(self, x: Tensor) -> Tensor:
        return self.work(x + self.weight)


@pytest.mark.parametrize(
    "work", [torch.relu, lambda x: torch.bmm(x, x), torch.linalg.svdvals], ids=["relu", "bmm", "svdvals"]
)
def test_what_the_counter_does_not_know_is_free(work: Callable[[Tensor], Tensor]) -> None:
    """All that counts is the addition of 32 elements."""
    assert profile_layer(Free(work), 2, 4, 4).flops["forward"] == 2 * 32


def test_each_category_has_its_own_maximum() -> None:
    """A Linear of 6 inputs and 4 outputs on 2 rows, in float32. Weight and bias, the gradients, what the forward pass
    makes (outputs and their sum), what the backward pass makes, and SGD's nothing: the batch is not counted.
    """
    maxima = profile_layer(nn.Linear(6, 4), 2, 6).maxima
    parameters = 4 * (6 * 4 + 4)
    assert maxima["parameters"] == maxima["gradients"] == parameters
    assert maxima["activations"] == 4 * (2 * 4 + 1)
    assert maxima["optimizer_states"] == 0
    assert set(maxima) <= {"parameters", "gradients", "activations", "temporaries"}
