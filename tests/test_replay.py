"""Operator calls that are remembered: replayed they change nothing but the time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft_update_bench.fixtures.instruments import trace
from peft_update_bench.fixtures.instruments.computed import measure
from peft_update_bench.fixtures.instruments.flops import Cost, cost_of
from peft_update_bench.fixtures.instruments.replay import RememberedCalls, signature_of
from peft_update_bench.fixtures.update_step import build_update_step
from peft_update_bench.fixtures.workload import Workload
from torch.utils._python_dispatch import TorchDispatchMode

from tests.layer_between import step_of

SMALL = Workload(batch_size=2, image_size=64)


class TestReplay:
    """Remembered operator calls change nothing but the time."""

    @pytest.mark.parametrize("method", ["fft", "dora", "galore"])
    def test_the_same_cold_and_warm(self, method: str) -> None:
        rank = None if method == "fft" else 4

        def computed() -> Any:
            return measure(build_update_step("mobilenet_v3_small", method, rank, SMALL, "meta"))

        trace._CALLS.clear()
        cold = computed()
        remembered = len(trace._CALLS)
        assert remembered > 100
        assert computed() == cold
        assert len(trace._CALLS) == remembered

    def test_the_same_as_when_nothing_is_remembered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        warm = measure(build_update_step("shufflenet_v2_x1_0", "lora", 2, SMALL, "meta"))
        monkeypatch.setattr(trace, "signature_of", lambda *_: None)
        assert measure(build_update_step("shufflenet_v2_x1_0", "lora", 2, SMALL, "meta")) == warm

    OPERANDS = (torch.empty(3, 1, device="meta"), torch.empty(3, 4, 5, device="meta").transpose(0, 2))

    @pytest.mark.parametrize(
        ("operator", "arguments"),
        [
            ("add.Tensor", (torch.empty(3, dtype=torch.int64, device="meta"), 1)),
            ("add.Tensor", (torch.empty(3, dtype=torch.int64, device="meta"), 1.0)),
            ("add.Tensor", (torch.empty(3, dtype=torch.bool, device="meta"), True)),
            ("mul.Tensor", (OPERANDS[1], OPERANDS[1])),
            ("sum.dim_IntList", (OPERANDS[1], [0, 1])),
            ("native_batch_norm.default", (torch.empty(2, 3, 4, 4, device="meta"), *[None] * 4, True, 0.1, 1e-5)),
            ("add_.Tensor", (OPERANDS[0], 1.0)),
        ],
    )
    def test_a_replayed_result_looks_like_the_first(self, operator: str, arguments: tuple[Any, ...]) -> None:
        packet, overload = operator.split(".")
        call = getattr(getattr(torch.ops.aten, packet), overload)
        with torch.no_grad():
            first = call(*arguments)
        calls = RememberedCalls()
        signature = signature_of(call, arguments, {})
        calls.remember(signature, call, arguments, {}, first, cost_of(call, arguments, {}, first))
        again = calls[signature].replay(arguments)
        assert type(again) is type(first)
        pairs = list(zip(first, again, strict=True)) if isinstance(first, tuple) else [(first, again)]
        for one, other in pairs:
            assert (one.shape, one.stride(), one.dtype, one.device) == (
                other.shape,
                other.stride(),
                other.dtype,
                other.device,
            )
            assert one.untyped_storage().nbytes() == other.untyped_storage().nbytes()

    def test_equal_numbers_of_different_types_are_told_apart(self) -> None:
        count = torch.empty(3, dtype=torch.int64, device="meta")
        add = torch.ops.aten.add.Tensor
        signatures = {signature_of(add, (count, number), {}) for number in (1, 1.0, True)}
        assert len(signatures) == 3

    @pytest.mark.parametrize(
        ("operator", "arguments"),
        [
            ("view.default", (OPERANDS[0], [3])),  # a view
            ("resize_.default", (OPERANDS[0], [3])),  # its argument changes
            ("add.Tensor", (torch.ones(3), 1)),  # on the CPU
            ("add.out", (OPERANDS[0], OPERANDS[0])),  # writes to an argument other than the first
            ("unbind.int", (OPERANDS[0],)),  # a list
        ],
    )
    def test_what_is_never_remembered(self, operator: str, arguments: tuple[Any, ...]) -> None:
        packet, overload = operator.split(".")
        assert signature_of(getattr(getattr(torch.ops.aten, packet), overload), arguments, {}) is None

    def test_an_undeclared_alias_is_not_remembered(self) -> None:
        """By its schema it makes a new tensor; in truth it is a view."""
        operator, arguments = torch.ops.aten._unsafe_view.default, (self.OPERANDS[0], [3])
        calls = RememberedCalls()
        calls.remember(signature_of(operator, arguments, {}), operator, arguments, {}, operator(*arguments), Cost())
        assert calls == {}

    def test_the_number_of_calls_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(RememberedCalls, "LIMIT", 3)
        calls, add = RememberedCalls(), torch.ops.aten.add.Tensor
        for number in range(10):
            arguments = (self.OPERANDS[0], number)
            calls.remember(signature_of(add, arguments, {}), add, arguments, {}, add(*arguments), Cost())
            assert 1 <= len(calls) <= 3

    def test_a_mode_below_sees_every_call(self) -> None:
        class Counts(TorchDispatchMode):
            def __init__(self) -> None:
                super().__init__()  # type: ignore[no-untyped-call]
                self.calls = 0

            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                self.calls += 1
                return func(*args, **(kwargs or {}))

        counts = []
        for _ in range(2):
            with Counts() as counter:
                measure(step_of(torch.relu))
            counts.append(counter.calls)
        assert counts[0] == counts[1] > 50
