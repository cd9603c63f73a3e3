"""Peak memory: by hand, against torch's own tracker, and on real tensors."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils.checkpoint import checkpoint

from fixtures.instruments.computed import measure
from fixtures.instruments.memory import CATEGORIES, StorageLifetimes
from fixtures.instruments.trace import NotComputableError
from fixtures.update_step import UpdateStep, build_update_step
from fixtures.workload import Workload

SMALL = Workload(batch_size=2, image_size=64)
KB = 1000
"""Bytes of the 250 float32 in a tensor of the hand-built networks."""


def kilobyte() -> Tensor:
    return torch.ones(250, device="meta")


class Network(nn.Module):
    """A network that is one function of itself and its batch, with parameters of 1 kB each, w and v or one."""

    w: nn.Parameter
    v: nn.Parameter

    def __init__(self, function: Callable[..., Tensor], **trainable: bool) -> None:
        super().__init__()
        self.function = function
        for name, requires_grad in trainable.items():
            self.register_parameter(name, nn.Parameter(kilobyte(), requires_grad=requires_grad))

    def forward(self, *batch: Tensor) -> Tensor:
        return self.function(self, *batch)


def the_loss(network: nn.Module, *batch: Tensor) -> Tensor:
    result: Tensor = network(*batch).sum()
    return result


def step_of(network: nn.Module, *batch: Tensor, optimizer: str = "SGD", **settings: Any) -> UpdateStep:
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    made = getattr(torch.optim, optimizer)(trained, lr=0.1, foreach=False, **settings)
    return UpdateStep(network, made, batch, the_loss)


def memory_of(function: Callable[..., Tensor], *batch: Tensor, **trainable: bool) -> dict[str, Any]:
    return measure(step_of(Network(function, **trainable), *(batch or (kilobyte(),)))).memory


def expected(peak_phase: str, peak_module: str, **bytes_by_category: int) -> dict[str, Any]:
    categories: dict[str, int] = {**dict.fromkeys(CATEGORIES, 0), **bytes_by_category}
    return {"peak": sum(categories.values()), **categories, "peak_phase": peak_phase, "peak_module": peak_module}


class TestByHand:
    def test_a_product(self) -> None:
        """Forward, two of the loss's bytes short of it: weight, batch, product. Backward: the gradient instead of the
        product, the loss (4 bytes) and its own gradient (4)."""
        memory = memory_of(lambda net, x: net.w * x, w=True)
        assert memory == expected(
            "backward", "the network itself", parameters=KB, other=KB, gradients=KB, activations=4, temporaries=4
        )

    def test_what_the_backward_pass_needs_is_kept_as_activation(self) -> None:
        """The sigmoid's result is needed, the product is not. In the backward pass the sigmoid's result, the gradient
        of the product, then the weight's are alive."""
        memory = memory_of(lambda net, x: torch.sigmoid(net.w * x), w=True)
        # Sum's gradient is a view of 4 bytes. Sigmoid's gradient replaces nothing: its result is released after it.
        assert memory == expected(
            "backward",
            "the network itself",
            parameters=KB,
            other=KB,
            activations=KB + 4,
            temporaries=KB + 4,
        )

    def test_in_place_operations_make_nothing(self) -> None:
        def network(relu: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
            def forward(net: Network, x: Tensor) -> Tensor:
                product = net.w * x
                positive = relu(product)
                return positive * net.v

            return forward

        out_of_place = memory_of(network(torch.relu), w=False, v=True)
        in_place = memory_of(network(torch.Tensor.relu_), w=False, v=True)
        # Forward: two weights, batch, product, what is positive of it, the second product.
        assert (out_of_place["peak"], out_of_place["peak_phase"]) == (6 * KB, "forward")
        # Backward: two weights, batch, what is positive, the gradient of a weight; the loss and its gradient.
        assert (in_place["peak"], in_place["peak_phase"]) == (5 * KB + 8, "backward")

    def test_views_share(self) -> None:
        plain = memory_of(lambda net, x: net.w * x, w=True)
        viewed = memory_of(lambda net, x: net.w.view(25, 10).T * x.view(25, 10).T, w=True)
        assert viewed["peak"] == plain["peak"]

    def test_a_view_of_a_larger_storage_counts_the_storage(self) -> None:
        batch = torch.ones(1000, device="meta")[250:500]
        assert memory_of(lambda net, x: net.w * x, batch, w=True)["other"] == 4 * KB

    def test_tied_weights_count_once(self) -> None:
        network = Network(lambda net, x: net.w * x * net.v, w=True, v=True)
        untied = measure(step_of(network, kilobyte())).memory
        network.v = network.w
        tied = measure(step_of(network, kilobyte())).memory
        assert (untied["parameters"], tied["parameters"]) == (2 * KB, KB)

    def test_tied_weights_have_one_state(self) -> None:
        """At the peak both contributions to the gradient are alive, none of them in ``.grad`` yet."""
        network = Network(lambda net, x: net.w * x * net.v, w=True, v=True)
        network.v = network.w
        step = step_of(network, kilobyte(), optimizer="AdamW")
        memory = measure(step).memory
        assert memory == expected(
            "backward",
            "the network itself",
            parameters=KB,
            other=KB,
            optimizer_states=2 * KB + 4,  # two moments and the step counter
            activations=KB + 4,  # the first product, the loss
            temporaries=2 * KB + 4,  # the gradients of both factors, of the loss
        )

    def test_frozen_parameters_have_neither_gradient_nor_state(self) -> None:
        network = Network(lambda net, x: net.w * x * net.v, w=False, v=True)
        memory = measure(step_of(network, kilobyte(), optimizer="AdamW")).memory
        assert memory["parameters"] == 2 * KB
        assert memory["gradients"] == KB
        assert memory["optimizer_states"] == 2 * KB + 4  # two moments and the step counter

    def test_adamw_peaks_in_its_step(self) -> None:
        """Root, quotient by the bias correction and sum with epsilon: two of them are alive at once."""
        network = Network(lambda net, x: net.w * x, w=True)
        assert measure(step_of(network, kilobyte(), optimizer="AdamW")).memory == expected(
            "optimizer",
            "optimizer",
            parameters=KB,
            gradients=KB,
            optimizer_states=2 * KB + 4,
            other=KB,
            activations=4,
            temporaries=2 * KB,
        )

    def test_a_tensor_nobody_registered_is_other_and_there_from_the_start(self) -> None:
        constant = kilobyte()
        memory = memory_of(lambda net, x: net.w * x * constant, w=True)
        # Backward: weight; batch, constant; the gradient of the first product, the weight's; loss and its gradient.
        assert memory["other"] == 2 * KB
        assert memory["peak"] == 5 * KB + 8

    def test_a_tensor_made_from_python_numbers_is_born_in_the_step(self) -> None:
        memory = memory_of(lambda net, x: net.w * torch.tensor(2.0) * x, w=True)
        # The constant and the loss are kept for the backward pass, 4 bytes each.
        assert (memory["other"], memory["activations"], memory["peak_phase"]) == (KB, 8, "backward")

    def test_buffers(self) -> None:
        network = nn.Sequential(nn.BatchNorm1d(250, affine=False, device="meta"), nn.Linear(250, 1, device="meta"))
        memory = measure(step_of(network, torch.ones(3, 250, device="meta"))).memory
        assert memory["buffers"] == 2 * KB + 8  # mean, variance, and the count of batches in 64 bits

    def test_storages_freed_and_their_addresses_reused(self) -> None:
        def many(net: Network, x: Tensor) -> Tensor:
            for _ in range(200):
                x + 1
            return net.w * x

        assert memory_of(many, w=True) == memory_of(lambda net, x: net.w * x, w=True)

    @pytest.mark.parametrize("how", ["tensor", "storage"])
    def test_a_storage_that_grows(self, how: str) -> None:
        def grown(net: Network, x: Tensor) -> Tensor:
            scratch = torch.empty(10, device="meta")
            if how == "tensor":
                scratch.resize_(2500)
            else:
                scratch.untyped_storage().resize_(10 * KB)
            scratch.zero_()
            return net.w * x

        # With the product.
        assert memory_of(grown, w=True)["temporaries"] == 11 * KB

    def test_a_storage_that_is_emptied(self) -> None:
        def emptied(net: Network, x: Tensor) -> Tensor:
            scratch = torch.empty(2500, device="meta")
            scratch.untyped_storage().resize_(0)
            scratch.detach()
            # The scratch tensor is alive, and so is all this; only one of them has memory.
            return net.w * x + 0 * torch.empty(2500, device="meta").sum() + 0 * scratch.dim()

        # With the product and the sum of 4 bytes.
        assert memory_of(emptied, w=True)["temporaries"] == 11 * KB + 4

    def test_parts_in_inference_mode_count_as_in_no_grad(self) -> None:
        def under(mode: Callable[[], Any]) -> dict[str, Any]:
            backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 8))
            head = nn.Linear(8, 2, device="meta")
            backbone.to("meta").requires_grad_(False)

            class Frozen(nn.Module):
                def __init__(self) -> None:
                    super().__init__()
                    self.backbone, self.head = backbone, head

                def forward(self, x: Tensor) -> Tensor:
                    with mode():
                        features = self.backbone(x)
                    logits: Tensor = self.head(features.clone())
                    return logits

            computed = measure(step_of(Frozen(), torch.ones(4, 3, 8, 8, device="meta")))
            return {**computed.memory, **computed.flops}

        assert under(torch.inference_mode) == under(torch.no_grad)
        assert under(torch.inference_mode)["forward"] == 2 * 4 * (8 * 36 * 27 + 288 * 8 + 8 * 2)

    def test_recomputation_saves_memory_and_costs_flops(self) -> None:
        class Wide(nn.Module):
            def __init__(self, recompute: bool) -> None:
                super().__init__()
                self.recompute = recompute
                self.layers = nn.Sequential(
                    *(nn.Sequential(nn.Linear(50, 50), nn.Sigmoid(), nn.Tanh()) for _ in range(6))
                )

            def forward(self, x: Tensor) -> Tensor:
                for layer in self.layers:
                    x = checkpoint(layer, x, use_reentrant=False) if self.recompute else layer(x)
                return x

        batch = torch.ones(1000, 50, device="meta")
        kept = measure(step_of(Wide(False).to("meta"), batch))
        recomputed = measure(step_of(Wide(True).to("meta"), batch))
        assert recomputed.flops["forward"] == kept.flops["forward"] == 6 * 2 * 1000 * 50 * 50
        assert recomputed.flops["backward"] == kept.flops["backward"] + kept.flops["forward"]
        assert int(recomputed.memory["peak"]) < int(kept.memory["peak"])
        assert int(recomputed.memory["activations"]) < int(kept.memory["activations"])

    def test_reference_cycles_live_until_the_end_whatever_the_collector_does(self) -> None:
        def cycle(net: Network, x: Tensor) -> Tensor:
            for _ in range(50):
                held: list[Any] = [x + 1]
                held.append(held)
            return net.w * x

        thresholds = gc.get_threshold()
        try:
            peaks = []
            for threshold in (1, 100_000):
                gc.set_threshold(threshold)
                peaks.append(memory_of(cycle, w=True)["peak"])
        finally:
            gc.set_threshold(*thresholds)
        assert peaks[0] == peaks[1] > 50 * KB
        assert gc.isenabled()

    def test_the_first_of_equal_moments(self) -> None:
        lifetimes = StorageLifetimes()

        def born_and_gone(module: str) -> None:
            lifetimes.observe("forward", lambda: module, (), kilobyte())

        for module in ("first", "second"):
            born_and_gone(module)
        peak = lifetimes.peak()
        assert (peak.bytes, peak.module) == (KB, "first")

    def test_an_older_storage_s_death_counts_after_a_restart(self) -> None:
        lifetimes = StorageLifetimes()
        old = kilobyte()
        lifetimes.observe("forward", lambda: "old", (), old)
        lifetimes.restart()
        del old
        new = torch.empty(300, device="meta")
        lifetimes.observe("forward", lambda: "new", (), new)
        peak = lifetimes.peak()
        assert (peak.bytes, peak.module) == (1200, "new")

    def test_a_sparse_gradient_is_an_error_and_no_zero(self) -> None:
        class Sparse(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.table = nn.Embedding(10, 4, sparse=True, device="meta")

            def forward(self, rows: Tensor) -> Tensor:
                looked_up: Tensor = self.table(rows)
                return looked_up

        step = step_of(Sparse(), torch.empty(3, dtype=torch.int64, device="meta"))
        with pytest.raises(NotComputableError, match=r"backward pass, .*operator aten\..*sparse"):
            measure(step)


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
