"""What a step dispatches, operator by operator, on whatever device it is."""

from __future__ import annotations

from typing import Any

from peft_update_bench.fixtures.instruments.flops import tensors_in
from peft_update_bench.fixtures.instruments.tracing.trace import StepTrace
from peft_update_bench.fixtures.randomness import seeded
from peft_update_bench.fixtures.update_step import UpdateStep
from torch import nn

Call = tuple[str, str, tuple[tuple[Any, ...], ...]]
"""Phase, operator, and of each tensor that it returned shape, dtype and the bytes of its storage.

Strides are left out: on the CPU those of a singular value decomposition are LAPACK's. Where strides matter, they
lead to other operators.
"""


class _Recorder(StepTrace):
    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.calls: list[Call] = []

    def _observed(self, func: Any, args: Any, kwargs: Any) -> Any:
        result = super()._observed(func, args, kwargs)
        made = tuple((tuple(t.shape), str(t.dtype), t.untyped_storage().nbytes()) for t in tensors_in(result))
        self.calls.append((self._phase, str(func), made))
        return result


def calls_of(step: UpdateStep) -> list[Call]:
    """The calls of a whole step, after one in which the optimizer made its states."""
    recorder = _Recorder(step.network)
    step.create_optimizer_states()
    with seeded(0):
        with recorder.during("forward"):
            loss = step.forward()
        with recorder.during("backward"):
            step.backward(loss)
        with recorder.during("optimizer"):
            step.optimizer_step()
    step.zero_grad()
    return recorder.calls
