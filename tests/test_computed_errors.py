"""How the computed metrics fail: in which module, at which operator, and what to do about it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft_update_bench.fixtures.instruments.computed import measure
from peft_update_bench.fixtures.instruments.trace import NotComputableError
from torch import Tensor

from tests.layer_between import Inner, step_of


def condition(x: Tensor) -> Tensor:
    return x + 1 if x.sum() > 0 else x - 1


DATA_DEPENDENT = {
    "item": (lambda x: x.sum().item(), "operator aten._local_scalar_dense.default"),
    "float": (lambda x: float(x.detach()[0, 0]), "operator aten._local_scalar_dense.default"),
    "condition": (condition, "operator aten._local_scalar_dense.default"),
    "tolist": (lambda x: x.tolist(), "operator aten._to_copy.default"),
    "numpy": (lambda x: x.detach().numpy(), "a call that is no operator"),
    "cpu": (lambda x: x.cpu(), "operator aten._to_copy.default"),
    "nonzero": (lambda x: x.nonzero(), "operator aten.nonzero.default"),
    "masked_select": (lambda x: x.masked_select(x > 0), "operator aten.masked_select.default"),
    "mask as index": (lambda x: x[x > 0], "operator aten.index.Tensor"),
    "unique": (lambda x: x.unique(), "operator aten._unique2.default"),
    "unique_consecutive": (lambda x: x.unique_consecutive(), "operator aten.unique_consecutive.default"),
    "equal": (lambda x: torch.equal(x, x), "operator aten.equal.default"),
}


class TestErrors:
    @pytest.mark.parametrize("name", DATA_DEPENDENT)
    def test_need_for_data_names_module_operator_and_remedy(self, name: str) -> None:
        function, operator = DATA_DEPENDENT[name]
        with pytest.raises(NotComputableError) as error:
            measure(step_of(function))
        message = str(error.value)
        assert message.startswith(f"forward pass, module 'block.inner', {operator} at `")
        assert f"({Path(__file__).name}:" in message
        assert "meta device, where tensors have shapes and no data" in message
        assert "leave flops and memory out of --metrics" in message

    @pytest.mark.parametrize("name", DATA_DEPENDENT)
    def test_the_same_networks_can_be_measured_on_real_tensors(self, name: str) -> None:
        function, _ = DATA_DEPENDENT[name]
        assert measure(step_of(function, "cpu")).flops["forward"] == 2 * (2 * 3 * 4 * 4)

    def test_a_failing_step_is_not_mistaken_for_a_need_of_data(self) -> None:
        expected = r"forward pass, module 'block.inner', operator aten\.\w+.* at `.*`.*may fail on any device"
        with pytest.raises(NotComputableError, match=re.compile(expected, re.DOTALL)):
            measure(step_of(lambda x: x @ x))

    def test_a_failing_hook(self) -> None:
        step = step_of(torch.relu)

        def hook(*_: Any) -> None:
            raise ValueError("the hook's own")

        step.network.get_submodule("last").register_forward_hook(hook)
        with pytest.raises(NotComputableError, match=r"forward pass, the network itself, .*the hook's own"):
            measure(step)

    def test_in_the_loss(self) -> None:
        step = step_of(torch.relu)
        step.loss_function = lambda network, x: network(x).sum() * network(x).max().item()
        with pytest.raises(NotComputableError, match=r"forward pass, loss, operator aten\._local_scalar_dense"):
            measure(step)

    def test_in_the_backward_pass(self) -> None:
        class Reads(torch.autograd.Function):
            @staticmethod
            def forward(_: Any, x: Tensor) -> Tensor:
                return x.clone()

            @staticmethod
            def backward(_: Any, gradient: Tensor) -> Tensor:
                return gradient * gradient.sum().item()

        with pytest.raises(NotComputableError, match=r"backward pass, module 'block\.inner', operator aten\._local"):
            measure(step_of(Reads.apply))

    def test_in_the_optimizer(self) -> None:
        step = step_of(torch.relu)

        def reads(*_: Any) -> None:
            step.network.get_parameter("last.bias").sum().item()

        step.optimizer.register_step_pre_hook(reads)
        with pytest.raises(
            NotComputableError, match=r"first optimizer step, optimizer, operator aten\._local_scalar_dense"
        ):
            measure(step)

    def test_leaves_nothing_behind(self) -> None:
        good = measure(step_of(torch.relu))
        with pytest.raises(NotComputableError):
            measure(step_of(lambda x: x.sum().item()))
        assert torch._C._len_torch_dispatch_stack() == 0
        assert not torch.nn.modules.module._global_forward_hooks
        assert not torch.nn.modules.module._global_forward_pre_hooks
        assert measure(step_of(torch.relu)) == good

    def test_an_exception_that_the_network_catches_itself(self) -> None:
        def caught(x: Tensor) -> Tensor:
            failing = Inner(lambda x: x @ x)
            try:
                failing(x)
            except RuntimeError:
                return torch.relu(x)
            raise AssertionError("expected a failure")

        computed = measure(step_of(caught))
        assert computed.flops == measure(step_of(torch.relu)).flops
