"""What an update step costs by the definitions of the study's own profiler, which are not this suite's.

Source of the definitions: README and code of github.com/gslama12/pytorch-model-profiler (MIT), by the study's first
author, at 0ccfcc6. This is an account of them in our own words; where it surprises, the profiler does.

*Peak memory* is the sum over categories of each category's own maximum, whenever each occurs. What is held together is
less. A category is what a storage was born in: the forward pass (``activations``, whether or not they are needed after
it), the backward pass (``temporaries``, and until it is accumulated a parameter's gradient too) or the optimizer's step
(``optimizer_states``, its intermediate results included). The batch is not counted.

*FLOPs* are those of convolutions, matrix products, batch norm, additions and multiplications. Two for each
multiply-add, less one for each sum's first term in a matrix product. A convolution's weight gradient counts as if it
had no groups. Decompositions (GaLore's SVD) and everything else are free.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from math import prod
from typing import Any

import torch
from peft_update_bench.fixtures.instruments import computed
from peft_update_bench.fixtures.instruments.computed import Computed
from peft_update_bench.fixtures.instruments.flops import tensors_in
from peft_update_bench.fixtures.update_step import UpdateStep
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

_BORN_IN = {"forward": "activations", "backward": "temporaries", "optimizer": "optimizer_states"}


class StudyProfiler(TorchDispatchMode):
    """Sees the operators of one step, phase by phase, and sums them up as the study's profiler does.

    ``flops`` are by phase: forward, backward, optimizer. ``maxima`` are bytes by category, each at its own time.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops: Counter[str] = Counter()
        self.maxima: Counter[str] = Counter()
        self._held: Counter[str] = Counter()
        self._categories: dict[int, str] = {}
        self._references: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._phase = "before"

    @property
    def peak(self) -> int:
        """Bytes of "peak memory": the sum of the categories' maxima."""
        return self.maxima.total()

    def register(self, tensors: Iterable[Tensor], category: str) -> None:
        """Say what tensors are for. Where they are known already, they move to `category`."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            known = self._categories.get(storage._cdata)
            if known is None:
                self._follow(storage, category)
            else:
                self._held[known] -= storage.nbytes()
                self._held[category] += storage.nbytes()
                self._categories[storage._cdata] = category

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Count what happens as `phase`'s."""
        self._phase = phase
        with self:
            yield

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        formula = _FORMULAS.get(func.overloadpacket)
        if formula is not None:
            self.flops[self._phase] += formula(args, tensors_in(result))
        for tensor in tensors_in(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._categories:
                self._follow(storage, _BORN_IN[self._phase])
        # It looks after each operator, not at each birth and death.
        self.maxima |= self._held
        return result

    def _follow(self, storage: torch.UntypedStorage, category: str) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._held[category] += size
        self._categories[key] = category
        self._references[key] = weakref.ref(storage, partial(self._died, key, size))

    def _died(self, key: int, size: int, _: weakref.ref[torch.UntypedStorage]) -> None:
        del self._references[key]
        self._held[self._categories.pop(key)] -= size


@dataclass
class _ProfiledStep(UpdateStep):
    """An update step whose forward pass, backward pass and optimizer steps show themselves to a profiler.

    The first optimizer step, which only makes the optimizer's states, is not looked at. Where the optimizer works
    periodically, the step with that work comes last, and its FLOPs count: the study's profiler counts a first step.
    """

    profiler: StudyProfiler = field(default_factory=StudyProfiler)
    _has_states: bool = False

    def forward(self) -> Tensor:
        self._has_states = True
        for phase in ("forward", "backward"):  # which may be traced several times, to see whether they repeat
            self.profiler.flops.pop(phase, None)
        self.profiler.register(self.network.parameters(), "parameters")
        self.profiler.register(self.network.buffers(), "buffers")
        self.profiler.register(tensors_in(list(self.optimizer.state.values())), "optimizer_states")
        with self.profiler.during("forward"):
            return super().forward()

    def backward(self, loss: Tensor) -> None:
        hooks = [p.register_post_accumulate_grad_hook(self._accumulated) for p in self.trainable_parameters()]
        try:
            with self.profiler.during("backward"):
                super().backward(loss)
        finally:
            for hook in hooks:
                hook.remove()

    def optimizer_step(self) -> None:
        if not self._has_states:
            super().optimizer_step()
            return
        self.profiler.flops["optimizer"] = 0
        with self.profiler.during("optimizer"):
            super().optimizer_step()

    def _accumulated(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self.profiler.register([parameter.grad], "gradients")


def measure(step: UpdateStep) -> tuple[Computed, StudyProfiler]:
    """One pass over `step`, on the meta device: what it costs in truth, and by the study's definitions.

    Raises NotComputableError where the step cannot run without real data.
    """
    parts = {part.name: getattr(step, part.name) for part in fields(UpdateStep)}
    profiled = _ProfiledStep(**parts)
    return computed.measure(profiled, observe_schedule=False), profiled.profiler


def _matrix_product(left: Tensor, right: Tensor) -> int:
    rows, inner = left.shape
    return rows * right.shape[-1] * (2 * inner - 1)


def _matrix_product_of(args: Any, _: list[Tensor]) -> int:
    return _matrix_product(args[0], args[1])


def _linear(args: Any, _: list[Tensor]) -> int:
    """A product and its bias. The profiler takes the bias to be as often added as the product has inner elements."""
    bias: Tensor = args[0]
    left: Tensor = args[1]
    return _matrix_product(left, args[2]) + bias.shape[0] * left.shape[-1]


def _convolution(args: Any, results: list[Tensor]) -> int:
    """The true count, with two for every element of the result where a bias is added."""
    images, weight, bias, transposed = args[0], args[1], args[2], args[6]
    return _convolution_flops(images.shape, weight.shape, results[0].shape, transposed, biased=bias is not None)


def _convolution_backward(args: Any, results: list[Tensor]) -> int:
    """Each gradient as a convolution that has a bias, and the weight's as if each channel met every other."""
    upstream, images, weight = (tensor.shape for tensor in args[:3])
    transposed, (for_images, for_weight, _) = args[7], args[-1]
    flops = 0
    gradients = iter(results)
    if for_images:
        flops += _convolution_flops(upstream, weight, next(gradients).shape, not transposed, biased=True)
    if for_weight:
        swapped = torch.Size((images[1], images[0], *images[2:]))
        flops += _convolution_flops(swapped, upstream, next(gradients).shape, transposed, biased=True)
    return flops


def _convolution_flops(
    images: torch.Size, weight: torch.Size, result: torch.Size, transposed: bool, *, biased: bool
) -> int:
    products = prod(weight) * prod((images if transposed else result)[2:])
    return 2 * images[0] * (products + (prod(result[1:]) if biased else 0))


def _add(args: Any, _: list[Tensor]) -> int:
    """Two: an addend may be scaled."""
    return 2 * int(args[0].numel())


def _multiply(_: Any, results: list[Tensor]) -> int:
    return results[0].numel()


def _batch_norm(args: Any, _: list[Tensor]) -> int:
    """Mean, variance and normalisation, in train mode or not, and weight and bias where these are trained."""
    images: Tensor = args[0]
    return (6 + _is_trained(args[1]) + _is_trained(args[2])) * images.numel() + 2 * images.shape[1]


def _batch_norm_backward(args: Any, _: list[Tensor]) -> int:
    upstream: Tensor = args[0]
    trained = _is_trained(args[2])
    return (4 + trained) * upstream.numel() + (1 + trained) * upstream.shape[1]


def _is_trained(parameter: Tensor | None) -> bool:
    """Whether a layer has a weight or bias, and it is not frozen."""
    return parameter is not None and parameter.requires_grad


_FORMULAS: dict[Any, Callable[[Any, list[Tensor]], int]] = {
    aten.mm: _matrix_product_of,
    aten.addmm: _linear,
    aten.convolution: _convolution,
    aten.convolution_backward: _convolution_backward,
    aten.add: _add,
    aten.add_: _add,
    aten.mul: _multiply,
    aten.mul_: _multiply,
    aten.native_batch_norm: _batch_norm,
    aten.native_batch_norm_backward: _batch_norm_backward,
}
