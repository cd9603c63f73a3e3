"""Steps that hold memory which an ordinary call does not show, or replace what they hold."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import chain, repeat
from typing import Any

import numpy as np
import torch
from peft_update_bench.fixtures.update_step import UpdateStep
from torch import Tensor, nn

KILOBYTES = 1024
DATA = torch.zeros(64, 64)
Whole = tuple[Callable[[], object], Any, Any]


def small() -> nn.Sequential:
    """Two layers of 16 kB each."""
    return nn.Sequential(nn.Linear(64, 64, bias=False), nn.Tanh(), nn.Linear(64, 64, bias=False))


def loss_of(network: nn.Module, batch: Tensor) -> Tensor:
    out: Tensor = network(batch).square().mean()
    return out


def _whole(
    before: Callable[[], Tensor], after: Callable[[nn.Module], object] = id, *, clears_first: bool = False
) -> Whole:
    """A step whose batch is what `before` returns; `after` is called with the network at its end."""
    network = small()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)

    def step() -> Tensor:
        if clears_first:
            optimizer.zero_grad()
        loss = loss_of(network, before())
        loss.backward()
        optimizer.step()
        if not clears_first:
            optimizer.zero_grad()
        after(network)
        return loss

    return step, network, optimizer


def average_now_and_then() -> Whole:
    """Whose turn never comes."""
    average, batch = small(), torch.randn(8, 64)
    calls: list[int] = []

    def after(network: nn.Module) -> None:
        if len(calls) < 0:
            average.load_state_dict(network.state_dict())

    return _whole(lambda: batch, after)


def teacher_in_part() -> Whole:
    """Of its layers an ordinary call needs the first."""
    teacher, batch = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 320)), torch.randn(8, 64)
    return _whole(lambda: teacher[0](batch).detach())


def data_of_the_module() -> Whole:
    return _whole(lambda: DATA[:8])


class SlowWeights(torch.optim.SGD):
    def __init__(self, network: nn.Module) -> None:
        super().__init__(network.parameters(), lr=0.1)
        self.slow = [parameter.detach().clone() for parameter in network.parameters()]


def slow_weights() -> UpdateStep:
    network = small()
    return UpdateStep(network, SlowWeights(network), torch.randn(8, 64), loss_of)


def plain_attribute() -> UpdateStep:
    network = small()
    network.unused = torch.randn(64, 64)
    return UpdateStep(network, torch.optim.SGD(network.parameters(), lr=0.1), DATA[:8], loss_of)


class WithoutOptions(torch.optim.Optimizer):
    """It has no learning rate among them either."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__(parameters, {})


class Replacing(WithoutOptions):
    """Momentum whose states are new ones in each step."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for parameter in self.param_groups[0]["params"]:
            state = self.state[parameter]
            state["m"] = state["m"] * 0.9 + parameter.grad if state else parameter.grad.clone()
            parameter.sub_(state["m"], alpha=0.1)


def replaced_states() -> UpdateStep:
    network = small()
    return UpdateStep(network, Replacing(network.parameters()), torch.randn(8, 64), loss_of)


class Basis:
    """What a gradient is projected by, in an object of its own, as GaLore's is."""

    def __init__(self, gradient: Tensor) -> None:
        self.columns = torch.linalg.qr(gradient)[0]


class Projecting(WithoutOptions):
    """Along the mean of the last two gradients that were projected."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for parameter in self.param_groups[0]["params"]:
            state = self.state[parameter]
            if not state:
                zeros = [torch.zeros_like(parameter) for _ in range(2)]
                state.update(basis=Basis(parameter.grad), latest=deque(zeros, maxlen=2))
            basis, latest = state["basis"].columns, state["latest"]
            latest.append(basis @ (basis.T @ parameter.grad))
            parameter.sub_(latest[0] + latest[1], alpha=0.05)


def projected() -> Whole:
    network, batch = small(), torch.randn(8, 64)
    optimizer = Projecting(network.parameters())

    def step() -> Tensor:
        loss = loss_of(network, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step, network, optimizer


def replaced_parameters() -> Whole:
    """Their data are new tensors after each step, as where some are set back to a checkpoint's by chance."""
    batch = torch.randn(8, 64)

    def after(network: nn.Module) -> None:
        for parameter in network.parameters():
            parameter.data = parameter.data * 0.99

    return _whole(lambda: batch, after)


def replaced_average() -> Whole:
    """Its average's parameters are new tensors in each step, before the peak."""
    network, average, batch = small(), small().requires_grad_(False), torch.randn(256, 64)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)

    def step() -> Tensor:
        for mean, parameter in zip(average.parameters(), network.parameters(), strict=True):
            mean.data = mean.data * 0.9 + parameter.data * 0.1
        loss = loss_of(network, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step, [network, average], optimizer


def registered_anew() -> Whole:
    """Its first layer's weight, frozen, is another parameter after each step, as peft's attention has it."""
    batch = torch.randn(8, 64)

    def after(network: nn.Module) -> None:
        layer = network.get_submodule("0")
        weight = layer.get_parameter("weight").detach() * 0.99
        del layer.weight
        layer.register_parameter("weight", nn.Parameter(weight, requires_grad=False))

    step, network, optimizer = _whole(lambda: batch, after)
    after(network)
    optimizer.param_groups[0]["params"] = [network[2].weight]
    return step, network, optimizer


class Quantized(Tensor):
    """A matrix in eight bits that is one of float32 to whoever looks, as torchao keeps weights."""

    codes: Tensor
    scale: Tensor

    @staticmethod
    def __new__(cls, codes: Tensor, scale: Tensor) -> Any:
        return Tensor._make_wrapper_subclass(cls, codes.shape, dtype=torch.float32)

    def __init__(self, codes: Tensor, scale: Tensor) -> None:
        self.codes, self.scale = codes, scale

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        if func is torch.ops.aten.detach.default:
            return cls(args[0].codes, args[0].scale)
        whole = [value.codes.float() * value.scale if isinstance(value, Quantized) else value for value in args]
        return func(*whole, **(kwargs or {}))


class Telling(Quantized):
    """As torch.compile and torch.save want it."""

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["codes", "scale"], None

    @classmethod
    def __tensor_unflatten__(cls, parts: dict[str, Tensor], *_: object) -> Telling:
        return cls(parts["codes"], parts["scale"])


def quantized_weight(kind: type[Quantized]) -> UpdateStep:
    """Of 4 kB, with a scale of 256 bytes, before a layer that is trained."""
    network = small()
    codes, scale = torch.ones(64, 64, dtype=torch.int8), torch.full((64, 1), 0.01)
    network[0].weight = nn.Parameter(kind(codes, scale), requires_grad=False)
    return UpdateStep(network, torch.optim.SGD(network[2].parameters(), lr=0.1), torch.randn(8, 64), loss_of)


def quantized_convolution() -> UpdateStep:
    """After one that is not, for which a kernel may take memory of its own."""
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, bias=False))
    codes, scale = torch.ones(16, 16, 3, 3, dtype=torch.int8), torch.full((16, 1, 1, 1), 0.01)
    network[1].weight = nn.Parameter(Telling(codes, scale), requires_grad=False)
    return UpdateStep(network, torch.optim.SGD(network[0].parameters(), lr=0.1), torch.randn(2, 3, 32, 32), loss_of)


def nested_batch() -> UpdateStep:
    """Of five rows of 256 bytes in two parts; their lengths are 24 bytes."""
    rows = torch.nested.nested_tensor([torch.ones(2, 64), torch.ones(3, 64)], layout=torch.jagged)
    network = small()

    def loss(network: nn.Module, rows: Tensor) -> Tensor:
        found: Tensor = network(rows).values().square().mean()
        return found

    return UpdateStep(network, torch.optim.SGD(network.parameters(), lr=0.1), rows, loss)


def kept_gradients() -> Whole:
    batch = torch.randn(8, 64)
    return _whole(lambda: batch, clears_first=True)


def kept_batch(size: int = 256) -> Whole:
    """Until the next call."""
    kept: list[Tensor] = []

    def new() -> Tensor:
        kept[:] = [torch.randn(size, 64)]
        return kept[0]

    return _whole(new)


def from_numpy() -> Whole:
    """Minibatches that NumPy picks out of a larger array."""
    data = np.ones((1024, 64), dtype=np.float32)
    return _whole(lambda: torch.from_numpy(data[np.arange(256)]))


def there_and_back() -> Whole:
    """A tensor that is seen once more by way of NumPy."""
    batch = torch.ones(256, 64)
    return _whole(lambda: torch.from_numpy(batch.numpy()))


class Samples(torch.utils.data.Dataset[Tensor]):
    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> Tensor:
        return torch.full((64,), float(index))


def loaded() -> Whole:
    """Batches that another process hands over."""
    loader = torch.utils.data.DataLoader(Samples(), batch_size=4, num_workers=1)
    batches = chain.from_iterable(repeat(loader))
    return _whole(lambda: next(batches))


class Twice(UpdateStep):
    """Does more than its phases: a second batch is there at the same time."""

    def __call__(self) -> Tensor:
        other = torch.ones(256, 64)
        loss = super().__call__()
        return loss + other[0, 0]


def overridden() -> UpdateStep:
    network = small()
    return Twice(network, torch.optim.SGD(network.parameters(), lr=0.1), torch.randn(8, 64), loss_of)
