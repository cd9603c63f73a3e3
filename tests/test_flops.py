"""FLOPs against routes that share no formula with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from peft_update_bench.fixtures.architectures import ARCHITECTURES
from peft_update_bench.fixtures.instruments.computed import Computed, measure
from peft_update_bench.fixtures.instruments.flops import CORRECTIONS, svd_flops
from peft_update_bench.fixtures.instruments.trace import NotComputableError
from peft_update_bench.fixtures.update_step import UpdateStep, build_update_step
from peft_update_bench.fixtures.workload import Workload
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tests.oracles.convolution import Convolution, by_products, multiplications
from tests.oracles.layers import network_flops

SMALL = Workload(batch_size=2, image_size=64)


class Calls(nn.Module):
    """A network that is one function of its batch and of one weight."""

    def __init__(self, function: Callable[..., Tensor], weight: Tensor) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(weight)

    def forward(self, *batch: Tensor) -> Tensor:
        return self.function(self.weight, *batch)


def sum_of(network: nn.Module, *batch: Tensor) -> Tensor:
    result: Tensor = network(*batch).sum()
    return result


def step_of(network: nn.Module, *batch: Tensor) -> UpdateStep:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, foreach=False)
    return UpdateStep(network, optimizer, batch, sum_of)


def flops_of(function: Callable[..., Tensor], weight: Tensor, *batch: Tensor) -> dict[str, Any]:
    return measure(step_of(Calls(function, weight), *batch)).flops


def on_meta(*shape: int, requires_grad: bool = False) -> Tensor:
    return torch.empty(shape, device="meta", requires_grad=requires_grad)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Convolution, int, int]:
    """A convolution, a batch size and an image size that it accepts."""

    def one_of(lowest: int, highest: int) -> int:
        return draw(st.integers(lowest, highest))

    groups, stride, dilation = one_of(1, 3), one_of(1, 3), one_of(1, 2)
    transposed = draw(st.booleans())
    c = Convolution(
        dimensions=one_of(1, 3),
        groups=groups,
        channels_in=groups * one_of(1, 2),
        channels_out=groups * one_of(1, 3),
        kernel=one_of(1, 3),
        stride=stride,
        padding=one_of(0, 2),
        dilation=dilation,
        transposed=transposed,
        # torch admits one up to the dilation too; from the stride on, the oracle has more windows than inputs.
        output_padding=one_of(0, stride - 1) if transposed else 0,
    )
    size = one_of(1, 5)
    reach = dilation * (c.kernel - 1)
    if transposed:
        assume((size - 1) * stride - 2 * c.padding + reach + c.output_padding + 1 >= 1)
    else:
        assume(size + 2 * c.padding > reach)
    return c, one_of(1, 3), size


class TestConvolutions:
    @settings(max_examples=80, deadline=None, derandomize=True)
    @given(convolutions())
    def test_equal_the_same_gradients_written_as_matrix_products(self, case: tuple[Convolution, int, int]) -> None:
        c, batch, size = case
        torch.manual_seed(0)
        layer = c.module()
        images = torch.randn(batch, c.channels_in, *[size] * c.dimensions, dtype=torch.float64, requires_grad=True)
        result = layer(images)
        upstream = torch.randn_like(result)
        expected = by_products(c, images.detach(), layer.weight.detach(), upstream)
        # The route is right: it gives what torch gives.
        result.backward(upstream)
        torch.testing.assert_close(expected.result, result.detach())
        torch.testing.assert_close(expected.input_gradient, images.grad)
        torch.testing.assert_close(expected.weight_gradient, layer.weight.grad)

        counted = measure(step_of(c.module(device="meta"), images.detach().to("meta").requires_grad_())).flops
        assert counted["forward"] == expected.forward_flops > 0
        assert counted["backward"] == expected.input_flops + expected.weight_flops
        # Without the input's gradient, as in a network's first layer.
        counted = measure(step_of(c.module(device="meta"), images.detach().to("meta"))).flops
        assert counted["backward"] == expected.weight_flops

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(convolutions())
    def test_corrections_serve_torch_s_own_counter(self, case: tuple[Convolution, int, int]) -> None:
        c, batch, size = case
        layer = c.module(device="meta")
        images = on_meta(batch, c.channels_in, *[size] * c.dimensions, requires_grad=True).double()
        with FlopCounterMode(display=False, custom_mapping=CORRECTIONS) as ours:
            layer(images).sum().backward()
        with FlopCounterMode(display=False) as stock:
            layer(images).sum().backward()
        counted = measure(step_of(layer, images.detach().requires_grad_())).flops
        assert ours.get_total_flops() == counted["total"] > 0
        assert stock.get_total_flops() == counted["forward"] + counted["stock_backward"]

    @settings(max_examples=20, deadline=None, derandomize=True)
    @given(convolutions())
    def test_forward_equals_multiplications_counted_one_by_one(self, case: tuple[Convolution, int, int]) -> None:
        c, batch, size = case
        assume(not c.transposed)
        layer = c.module(device="meta")
        images = on_meta(batch, c.channels_in, *[size] * c.dimensions).double()
        positions = layer(images)[0, 0].numel()
        assert measure(step_of(layer, images)).flops["forward"] == 2 * multiplications(c, positions, batch)

    def test_the_package_counts_a_depthwise_weight_gradient_groups_times_too_often(self) -> None:
        c = Convolution(2, groups=8, channels_in=8, channels_out=8, kernel=3, stride=1, padding=1, dilation=1)
        flops = measure(step_of(c.module(device="meta"), on_meta(1, 8, 10, 10).double())).flops
        assert flops["forward"] == flops["backward"] == 2 * 8 * 9 * 10 * 10
        assert flops["stock_backward"] == 8 * flops["backward"]


def cell(architecture: str, method: str, rank: int | None = None) -> tuple[UpdateStep, Computed]:
    step = build_update_step(architecture, method, rank, SMALL, "meta")
    return step, measure(build_update_step(architecture, method, rank, SMALL, "meta"))


class TestWholeNetworks:
    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_full_fine_tuning_equals_the_sum_over_layers(self, architecture: str) -> None:
        step, computed = cell(architecture, "fft")
        forward, backward = network_flops(step)
        assert (computed.flops["forward"], computed.flops["backward"]) == (forward, backward)
        # Each layer once for its input and once for its weight, the first for its weight only.
        assert forward < backward < 2 * forward
        assert computed.flops["optimizer"] == 0
        assert computed.flops["total"] == forward + backward

    @pytest.mark.parametrize(
        ("architecture", "method", "rank"),
        [
            ("mobilenet_v2", "lora", 4),
            ("resnet18", "lora", 1),
            ("mobilenet_v3_small", "head", None),
            ("mobilenet_v3_small", "bn_head", None),
            ("mobilenet_v3_small", "galore", 4),
        ],
    )
    def test_other_methods_equal_the_sum_over_layers(self, architecture: str, method: str, rank: int | None) -> None:
        step, computed = cell(architecture, method, rank)
        assert (computed.flops["forward"], computed.flops["backward"]) == network_flops(step)

    @pytest.mark.parametrize("architecture", ["mobilenet_v2", "resnet18"])
    def test_stock_count_equals_an_unmodified_counter(self, architecture: str) -> None:
        step, computed = cell(architecture, "fft")
        with FlopCounterMode(display=False) as counter:
            loss = step.forward()
        assert counter.get_total_flops() == computed.flops["forward"]
        with FlopCounterMode(display=False) as counter:
            step.backward(loss)
        assert counter.get_total_flops() == computed.flops["stock_backward"]

    @pytest.mark.parametrize(
        ("architecture", "ours", "stock"),
        [("resnet18", 7.02, 7.02), ("mobilenet_v2", 1.18, 11.67), ("mobilenet_v3_large", 0.85, 11.34)],
    )
    def test_the_published_figures_in_units_of_1e9(self, architecture: str, ours: float, stock: float) -> None:
        flops = measure(build_update_step(architecture, "fft", None, Workload(), "meta")).flops
        assert round(flops["backward"] / 1e9, 2) == ours
        assert round(flops["stock_backward"] / 1e9, 2) == stock


class TestSvd:
    @pytest.mark.parametrize(
        ("full_matrices", "compute_uv", "flops"),
        [
            (False, True, 6 * 4 * 4 + 20 * 8),  # 14·4·4 + 8·8 is more
            (True, True, 4 * 16 * 2 + 22 * 8),  # 4·16·2 + 8·4·4 + 9·8 is more
            (False, False, 2 * 4 * 4 + 2 * 8),  # 4·4·4 − 4·8/3 is more
        ],
    )
    def test_hand_computed_at_4_by_2(self, full_matrices: bool, compute_uv: bool, flops: int) -> None:
        assert svd_flops(torch.Size((4, 2)), full_matrices, compute_uv) == flops
        assert svd_flops(torch.Size((2, 4)), full_matrices, compute_uv) == flops
        assert svd_flops(torch.Size((3, 5, 4, 2)), full_matrices, compute_uv) == 15 * flops

    def test_square_matrices_take_golub_reinsch(self) -> None:
        assert svd_flops(torch.Size((10, 10))) == 14 * 1000 + 8 * 1000

    def test_galore_s_refresh(self) -> None:
        rank = 4
        step, computed = cell("mobilenet_v3_small", "galore", rank)
        convolutions = [m for m in step.network.modules() if isinstance(m, nn.Conv2d)]
        matrices = [(m.weight.shape[0], m.weight[0].numel()) for m in convolutions]
        refresh = 0
        for rows, columns in matrices:
            # galore-torch also multiplies the other factor with the singular values, and then drops the product.
            kept = min(rank, rows, columns)
            refresh += svd_flops(torch.Size((rows, columns))) + 2 * max(rows, columns) * kept**2
        # Each ordinary step projects the gradient and projects the update back: two products of rows × columns × rank.
        ordinary = sum(4 * rows * columns * min(rank, rows, columns) for rows, columns in matrices)
        flops = computed.flops
        assert flops["optimizer"] == ordinary
        assert flops["optimizer_refresh"] == ordinary + refresh
        assert flops["refresh_period"] == 200
        assert flops["amortised_total"] == pytest.approx(flops["total"] + refresh / 200, rel=1e-15)


class TestTheRuleForTheRest:
    def test_elementwise_work_counts_its_largest_operand(self) -> None:
        flops = flops_of(lambda weight, x: torch.sigmoid(x * weight), on_meta(3, 1), on_meta(3, 5))
        forward = 15 + 15 + 15  # the product, the sigmoid, the sum of the loss
        # Of the sigmoid, of the product, and the sum over the axis along which the weight was stretched.
        backward = 15 + 15 + 15
        optimizer = 3
        assert flops["elementwise"] == forward + backward + optimizer
        assert flops["total"] == 0

    def test_moving_elements_is_free(self) -> None:
        def moved(weight: Tensor, x: Tensor) -> Tensor:
            return torch.cat([weight.T.contiguous().view(-1), x.clone()]).flip(0)

        # The sum of the loss, and the optimizer's update.
        assert flops_of(moved, on_meta(3, 4), on_meta(5))["elementwise"] == 17 + 12

    @pytest.mark.parametrize(
        ("function", "weight", "operand", "forward"),
        [
            (lambda w, x: w @ x, (3, 4), (4,), 2 * 12),
            (lambda w, x: torch.addmv(x.new_empty(3), w, x), (3, 4), (4,), 2 * 12),
            (lambda w, x: w @ x, (7,), (7,), 2 * 7),
            (lambda w, x: x.new_empty(3, 5).addmm_(w, x), (3, 4), (4, 5), 2 * 3 * 4 * 5),
            (lambda w, x: torch.addbmm(x.new_empty(3, 5), w, x), (2, 3, 4), (2, 4, 5), 2 * 2 * 3 * 4 * 5),
            (lambda w, x: x.new_empty(2, 3, 5).baddbmm_(w, x), (2, 3, 4), (2, 4, 5), 2 * 2 * 3 * 4 * 5),
        ],
    )
    def test_products_by_other_names(
        self, function: Any, weight: tuple[int, ...], operand: tuple[int, ...], forward: int
    ) -> None:
        assert flops_of(function, on_meta(*weight), on_meta(*operand))["forward"] == forward

    def test_fused_attention_on_the_cpu_counts_as_on_the_meta_device(self) -> None:
        def attention(query: Tensor, key: Tensor) -> Tensor:
            return nn.functional.scaled_dot_product_attention(query, key, key)

        counts = {}
        for device in ("cpu", "meta"):
            query, key = (torch.ones(1, 2, length, 16, device=device) for length in (8, 6))
            counts[device] = flops_of(attention, query, key)
        assert counts["meta"]["forward"] == counts["cpu"]["forward"] == 2 * 2 * (2 * 8 * 6 * 16)

    @pytest.mark.parametrize("name", ["linalg_qr", "_linalg_eigh", "linalg_cholesky_ex"])
    def test_a_decomposition_without_a_formula_is_an_error(self, name: str) -> None:
        functions = {
            "linalg_qr": lambda w: torch.linalg.qr(w).R,
            "_linalg_eigh": lambda w: torch.linalg.eigh(w).eigenvalues,
            "linalg_cholesky_ex": torch.linalg.cholesky,
        }
        with pytest.raises(NotComputableError, match=f"aten.{name}.default.*no formula.*CORRECTIONS"):
            flops_of(functions[name], on_meta(4, 4))
