"""Peak memory of whole networks: where it falls, against torch's own tracker, and on real tensors."""

from __future__ import annotations

import pytest
import torch
from peft_update_bench.fixtures.instruments.computed import measure
from peft_update_bench.fixtures.update_step import UpdateStep, build_update_step
from peft_update_bench.fixtures.workload import Workload
from torch import Tensor, nn
from torch.distributed._tools.mem_tracker import MemTracker

from tests.kilobytes import Network, kilobyte, step_of

SMALL = Workload(batch_size=2, image_size=64)


class TestWhereThePeakFalls:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.narrow = nn.Linear(10, 10)
            self.wide = nn.Sequential(nn.Linear(10, 1000), nn.Linear(1000, 10))

        def forward(self, x: Tensor) -> Tensor:
            made: Tensor = self.wide(self.narrow(x))
            return made

    def test_in_a_module_s_forward(self) -> None:
        network = self.Two().requires_grad_(False)
        network.wide[1].bias.requires_grad_(True)
        memory = measure(step_of(network.to("meta"), torch.ones(500, 10, device="meta"))).memory
        assert (memory["peak_phase"], memory["peak_module"]) == ("forward", "wide.1")

    def test_in_a_module_s_backward(self) -> None:
        memory = measure(step_of(self.Two().to("meta"), torch.ones(500, 10, device="meta"))).memory
        # The gradient of what goes into the last layer, beside that itself and the gradients of the last layer.
        assert (memory["peak_phase"], memory["peak_module"]) == ("backward", "wide.1")

    def test_in_the_module_whose_node_runs_and_not_its_neighbour(self) -> None:
        """Batch norm counts its batches by an operator without a node, right after the convolution's node was made."""
        for channels_in, channels_out, module in ((64, 3, "0"), (3, 64, "1")):
            network = nn.Sequential(nn.Conv2d(channels_in, channels_out, 1), nn.BatchNorm2d(channels_out)).to("meta")
            images = torch.ones(1, channels_in, 30, 30, device="meta", requires_grad=True)
            memory = measure(step_of(network, images)).memory
            assert (memory["peak_phase"], memory["peak_module"]) == ("backward", module)

    def test_in_the_loss(self) -> None:
        def wide_loss(network: nn.Module, x: Tensor) -> Tensor:
            loss: Tensor = (network(x) * torch.ones(100, 1, device="meta")).sum()
            return loss

        network = Network(lambda net, x: net.w * x, w=True)
        step = UpdateStep(network, torch.optim.SGD(network.parameters(), foreach=False), (kilobyte(),), wide_loss)
        memory = measure(step).memory
        assert (memory["peak_phase"], memory["peak_module"]) == ("backward", "loss")

    @pytest.mark.parametrize(("method", "rank"), [("fft", None), ("head", None), ("lora", 4), ("galore", 4)])
    @pytest.mark.parametrize("architecture", ["mobilenet_v2", "resnet18"])
    def test_always_has_a_name(self, architecture: str, method: str, rank: int | None) -> None:
        step = build_update_step(architecture, method, rank, SMALL, "meta")
        memory = measure(step).memory
        names = {name for name, _ in step.network.named_modules()} - {""}
        assert memory["peak_phase"] in ("forward", "backward", "optimizer")
        assert memory["peak_module"] in names | {"loss", "optimizer", "the network itself"}

    def test_optimizer_of_the_default_workload(self) -> None:
        memory = measure(build_update_step("resnet18", "fft", None, Workload(), "meta")).memory
        assert (memory["peak_phase"], memory["peak_module"]) == ("optimizer", "optimizer")


class TestAgainstMemTracker:
    """torch's tracker, told of the batch, which it would not count otherwise."""

    @pytest.mark.parametrize("architecture", ["resnet18", "mobilenet_v2", "mobilenet_v3_small"])
    def test_byte_for_byte_on_the_meta_device(self, architecture: str) -> None:
        self.compare(build_update_step(architecture, "fft", None, SMALL, "meta"), SMALL, architecture)

    def test_byte_for_byte_on_real_tensors(self) -> None:
        tiny = Workload(batch_size=1, image_size=64)
        self.compare(build_update_step("resnet18", "fft", None, tiny, "cpu"), tiny, "resnet18")

    def compare(self, step: UpdateStep, workload: Workload, architecture: str) -> None:
        step.create_optimizer_states()
        tracker = MemTracker()
        tracker.track_external(step.network, step.optimizer, *step.batch)
        with tracker:
            loss = step.forward()
            step.backward(loss)
            step.optimizer_step()
        by_device = tracker.get_tracker_snapshot("peak").values()
        memory = measure(build_update_step(architecture, "fft", None, workload, "meta")).memory
        # AdamW's step counters are on the CPU always; they live all the time, so the devices' peaks add up.
        assert memory["peak"] == sum(snapshot["Total"] for snapshot in by_device)
        for ours, theirs in {"parameters": "Parameter", "buffers": "Buffer", "other": "Other"}.items():
            assert memory[ours] == sum(
                size
                for snapshot in by_device
                for kind, size in snapshot.items()
                if getattr(kind, "value", "") == theirs
            )


class TestOnRealTensors:
    @pytest.mark.parametrize(
        ("method", "rank"), [("fft", None), ("bn_head", None), ("lora", 4), ("dora", 4), ("galore", 4)]
    )
    def test_the_same_integers_as_on_the_meta_device(self, method: str, rank: int | None) -> None:
        real, meta = (
            measure(build_update_step("mobilenet_v3_small", method, rank, SMALL, device)) for device in ("cpu", "meta")
        )
        assert real == meta

    def test_batch_norm_in_eval_mode_differs_by_its_saved_statistics(self) -> None:
        """On the meta device it returns them with a value per channel, on the CPU empty: 8 bytes a channel too much."""
        real, meta = (
            measure(build_update_step("mobilenet_v2", "head", None, SMALL, device)).memory for device in ("cpu", "meta")
        )
        assert meta["peak_module"] == real["peak_module"] == "features.2.conv.0.1"
        assert int(meta["peak"]) - int(real["peak"]) == 8 * 96


class TestBatch:
    def test_activations_and_batch_scale_with_it(self) -> None:
        # Large enough that the peak is in the backward pass, at the same place.
        one, two, three = (
            measure(build_update_step("mobilenet_v2", "fft", None, Workload(batch_size=n), "meta")).memory
            for n in (8, 16, 24)
        )
        assert one["peak_module"] == two["peak_module"] == three["peak_module"]
        for category in ("parameters", "buffers", "optimizer_states", "gradients"):
            assert one[category] == two[category] == three[category]
        activations = [int(memory["activations"]) for memory in (one, two, three)]
        assert activations[1] - activations[0] == activations[2] - activations[1] > 0
        # Labels are 8 bytes each.
        assert int(two["other"]) - int(one["other"]) == 8 * (3 * 224 * 224 * 4 + 8)
