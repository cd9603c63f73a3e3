"""Peak memory by hand: every byte of small networks' steps, and of what they do to storages."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft_update_bench.fixtures.instruments.computed import measure
from peft_update_bench.fixtures.instruments.memory import StorageLifetimes
from peft_update_bench.fixtures.instruments.trace import NotComputableError
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.kilobytes import KB, Network, expected, kilobyte, memory_of, step_of


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
