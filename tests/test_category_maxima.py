"""The most that each category of memory held, whenever that was: the study's own definition of peak memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from peft import LoraConfig, inject_adapter_in_model
from peft_update_bench.fixtures.instruments.computed import Computed, measure
from peft_update_bench.fixtures.instruments.memory import CATEGORIES, StorageLifetimes
from peft_update_bench.fixtures.update_step import UpdateStep, build_update_step
from peft_update_bench.fixtures.workload import Workload
from torch import Tensor, nn

MEBIBYTE = 2**20


class TestMaxima:
    def observed(self, *sizes: int, lifetimes: StorageLifetimes, phase: str) -> list[Tensor]:
        made = [torch.empty(size, dtype=torch.uint8, device="meta") for size in sizes]
        for tensor in made:
            lifetimes.observe(phase, lambda: "", (), tensor)
        return made

    def test_each_category_has_its_own_moment(self) -> None:
        lifetimes = StorageLifetimes()
        kept = self.observed(100, lifetimes=lifetimes, phase="forward")
        lifetimes.keep_as("activations", "forward")
        temporary = self.observed(30, 40, lifetimes=lifetimes, phase="backward")
        del temporary[0]
        del kept, temporary
        gradient = self.observed(50, lifetimes=lifetimes, phase="backward")
        lifetimes.recategorize(gradient, "gradients")
        maxima = lifetimes.maxima()
        assert maxima == {**dict.fromkeys(CATEGORIES, 0), "activations": 100, "temporaries": 70, "gradients": 50}
        assert lifetimes.peak().bytes == 170

    def test_a_restart_forgets_what_was_released(self) -> None:
        lifetimes = StorageLifetimes()
        kept = self.observed(10, lifetimes=lifetimes, phase="forward")
        del self.observed(500, lifetimes=lifetimes, phase="forward")[:]
        lifetimes.restart()
        assert lifetimes.maxima()["temporaries"] == 10
        del kept

    def test_nothing_at_all_is_zero(self) -> None:
        assert StorageLifetimes().maxima() == dict.fromkeys(CATEGORIES, 0)

    @pytest.mark.parametrize(("method", "rank"), [("fft", None), ("head", None), ("lora", 4), ("galore", 4)])
    def test_never_below_what_was_held_at_the_peak(self, method: str, rank: int | None) -> None:
        figures = measure(build_update_step("mobilenet_v2", method, rank, Workload(image_size=64), "meta"))
        for category in CATEGORIES:
            assert figures.category_maxima[category] >= int(figures.memory[category])


class TestPublishedResNet50:
    """The study's first author, on his profiler (huggingface/peft issue 2196): ResNet-50, batch 16, Adam, one logit.

    His activations hold the batch. His temporaries, 12.25 MiB, are not compared: they leave out the gradients of
    activations that a backward pass hands on, which are at least as large as the largest activation, 49 MiB.
    """

    def measured(self, module: nn.Module) -> dict[str, float]:
        module.train()
        images, targets = torch.empty(16, 3, 224, 224), torch.empty(16, 1)
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trained, foreach=False)
        figures: Computed = measure(UpdateStep(module, optimizer, (images, targets), _loss))
        found: dict[str, float] = {name: size / MEBIBYTE for name, size in figures.category_maxima.items()}
        found["activations and batch"] = found["activations"] + found["other"]
        return found

    def test_full_fine_tuning(self) -> None:
        with torch.device("meta"):
            found = self.measured(torchvision.models.resnet50(num_classes=1))
        published = {"parameters": 89.68, "buffers": 0.2, "gradients": 89.68, "optimizer_states": 179.37}
        assert {name: round(found[name], 2) for name in published} == published
        # His is 0.13 MiB less: one tensor of 16 × 2048, what goes into the last layer.
        assert found["activations and batch"] - 16 * 2048 * 4 / MEBIBYTE == pytest.approx(1310.95, abs=0.01)

    def test_lora_on_every_convolution_with_dropout_and_without(self) -> None:
        """What he found without a cause, activations twice as large as full fine-tuning's, is `lora_dropout`."""
        found: dict[float, Any] = {}
        for dropout in (0.0, 0.1):
            with torch.device("meta"):
                module = torchvision.models.resnet50(num_classes=1)
                convolutions = [name for name, m in module.named_modules() if isinstance(m, nn.Conv2d)]
                config = LoraConfig(r=4, lora_alpha=4, lora_dropout=dropout, target_modules=convolutions)
                inject_adapter_in_model(config, module)
                parameters = list(module.parameters())
                assert len(convolutions) == 53
                assert sum(p.numel() for p in parameters) == 23_827_853
                assert sum(p.numel() for p in parameters if p.requires_grad) == 317_772
                found[dropout] = self.measured(module)
        assert round(found[0.1]["parameters"], 1) == 90.9
        assert round(found[0.1]["gradients"], 2) == 1.21
        assert round(found[0.1]["activations and batch"], 2) == 2618.32
        assert found[0.0]["activations and batch"] < 1330


def _loss(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(network(images), targets)
