"""Networks and methods as users may have them, named by ``tests.helpers.unusual_networks:NAME``.

Each has something that the meta device does in another way than the CPU, that a trace may miss, or that is not the same
in every step.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import torch
from peft_update_bench.fixtures.methods import Method, PeriodicWork
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint
from torchvision.ops import DeformConv2d

CHANNELS = 16


class Around(nn.Module):
    """A convolution, what a test is about, and a Linear head."""

    def __init__(
        self, num_classes: int, between: Callable[[Around, Tensor], Tensor], inner: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.inner = inner
        self.between = between
        self.fc = nn.Linear(CHANNELS, num_classes)
        self.positions: Tensor | None = None
        self.steps = 0

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.between(self, self.stem(x)).mean((2, 3)))
        return logits


def _of(
    inner: Callable[[], nn.Module], wrap: Callable[[Any, Tensor], Tensor] = lambda m, x: m(x)
) -> Callable[..., Around]:
    def build(num_classes: int) -> Around:
        return Around(num_classes, lambda network, x: wrap(network.inner, x), inner())

    return build


def _as_sequence(module: Any, x: Tensor) -> Tensor:
    """Every position of (batch, channels, height, width) a step of a sequence."""
    made: Tensor = module(x.flatten(2).mT)[0]
    return made.mT.reshape(x.shape)


def _in_turn(module: Any, x: Tensor) -> Tensor:
    """As :func:`_as_sequence`, of every eighth position: one after the other takes long."""
    made: Tensor = module(x.flatten(2)[:, :, ::8].mT)[0]
    return made.mT.unsqueeze(3)


class Attention(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.projection = nn.Conv2d(CHANNELS, 3 * CHANNELS, 1)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.projection(x).flatten(2).mT.unflatten(2, (3, 2, CHANNELS // 2)).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(query, key, value, dropout_p=self.dropout)
        return attended.transpose(1, 2).flatten(2).mT.reshape(x.shape)


silu, mish, gelu, hardswish = (_of(kind) for kind in (nn.SiLU, nn.Mish, nn.GELU, nn.Hardswish))
shuffle = _of(lambda: nn.ChannelShuffle(4))
attention = _of(Attention)
attention_with_dropout = _of(lambda: Attention(0.1))
lstm = _of(lambda: nn.LSTM(CHANNELS, CHANNELS // 2, 2, batch_first=True, bidirectional=True), _in_turn)
gru = _of(lambda: nn.GRU(CHANNELS, CHANNELS, batch_first=True), _in_turn)
attention_layer = _of(
    lambda: nn.MultiheadAttention(CHANNELS, 4, batch_first=True),
    lambda m, x: _as_sequence(lambda sequence: m(sequence, sequence, sequence, need_weights=False), x),
)


class RecurrentCell(nn.LSTMCell):
    """Over eight positions; at each the gradient of the weights is added to what is there."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        hidden = cell = x.new_zeros(len(x), CHANNELS)
        for position in x.flatten(2).unbind(2)[:8]:
            hidden, cell = super().forward(position, (hidden, cell))
        return hidden[:, :, None, None]


recurrent_cell = _of(lambda: RecurrentCell(CHANNELS, CHANNELS))


maxout = _of(nn.Identity, lambda m, x: torch.maximum(m(x), x * 2))
top_ten = _of(nn.Identity, lambda m, x: m(x).flatten(2).topk(10).values.unsqueeze(3))
in_order = _of(nn.Identity, lambda m, x: m(x).flatten(2).gather(2, x.flatten(2).argsort(2)).unsqueeze(3))
positive = _of(nn.Identity, lambda m, x: x + m(x).masked_select(x > 0).mean())
some_positions = _of(
    lambda: nn.Linear(CHANNELS, CHANNELS),
    lambda m, x: x + m(x.movedim(1, 3)[:, torch.arange(x.shape[2]) % 3 == 0]).mean((1, 2))[..., None, None],
)
channels_at_last = _of(
    lambda: nn.Sequential(nn.Linear(CHANNELS, 64), nn.GELU(), nn.Linear(64, CHANNELS)),
    lambda m, x: m(x.movedim(1, 3)).movedim(3, 1),
)
pruned = _of(lambda: prune.l1_unstructured(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), "weight", 0.5))


padded = _of(lambda: nn.ReplicationPad2d(1))
"""In float32 under autocast, which hands it the convolution's result in another type."""


def _checkpointed(*, reentrant: bool) -> Callable[..., Around]:
    def inner() -> nn.Module:
        return nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS), nn.ReLU())

    return _of(inner, lambda m, x: checkpoint(m, x, use_reentrant=reentrant))


checkpointed, checkpointed_anew = _checkpointed(reentrant=False), _checkpointed(reentrant=True)


def shared_gradient(num_classes: int) -> Around:
    """The first gradient of `twice` is held elsewhere too when its second comes: autograd does not add in place."""

    def between(_: Around, x: Tensor) -> Tensor:
        thrice, twice = x * 3, x * 2
        cosine = twice.cos()
        return (twice + thrice) * 2 + cosine

    return Around(num_classes, between)


def autocast(num_classes: int) -> Around:
    def between(_: Around, x: Tensor) -> Tensor:
        with torch.autocast("cpu"):
            return (x.flatten(2).mT @ x.flatten(2)).float().unsqueeze(1).expand(-1, CHANNELS, -1, -1)

    return Around(num_classes, between)


class Deformable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Conv2d(CHANNELS, 18, 1)
        self.deform = DeformConv2d(CHANNELS, CHANNELS, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.deform(x, self.offset(x))
        return made


deformable = _of(Deformable)


class Half(nn.Module):
    """Takes float32 images to a network of another type."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network.to(dtype)
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x.to(self.dtype))
        return logits


def bfloat16(num_classes: int) -> Half:
    return Half(silu(num_classes), torch.bfloat16)


def reads_values(num_classes: int) -> Around:
    return Around(num_classes, lambda _, x: x.relu() if x.sum().item() > -1e9 else x)


def skips_once_trained(num_classes: int) -> Around:
    """As long as what its inner layer adds is zero, it takes that layer twice."""
    inner, bias = nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False), nn.Parameter(torch.zeros(CHANNELS, 1, 1))
    inner.register_parameter("added", bias)

    def between(_: Around, x: Tensor) -> Tensor:
        x = inner(x) + bias
        return x if bias.any() else inner(x)

    return Around(num_classes, between, inner)


def unused(num_classes: int) -> Around:
    """With a convolution that no forward pass reaches."""
    return Around(num_classes, lambda _, x: x.relu(), nn.Conv2d(64, 64, 3))


def highest_of_some(num_classes: int) -> Around:
    """As graph networks pool their nodes."""
    return Around(num_classes, lambda _, x: _pooled(x.flatten(1)).view_as(x))


def _pooled(x: Tensor) -> Tensor:
    places = torch.arange(x.shape[1]) // 2
    return torch.zeros_like(x).scatter_reduce(1, places.expand_as(x), x, "amax")


def caching(num_classes: int) -> Around:
    """What the first step makes, the others find."""

    def between(network: Around, x: Tensor) -> Tensor:
        if network.positions is None:
            network.positions = torch.arange(x.shape[-1] * 1000.0, device=x.device).sin()
        return x * network.positions[: x.shape[-1]]

    return Around(num_classes, between)


def _repeat(times: Callable[[Around], int]) -> Callable[..., Around]:
    def between(network: Around, x: Tensor) -> Tensor:
        for _ in range(times(network)):
            x = x + x.relu() @ x.mT
        return x

    return lambda num_classes: Around(num_classes, between)


def _count(network: Around) -> int:
    network.steps += 1
    return network.steps


class LeftOutAtRandom(nn.Sequential):
    """As stochastic depth leaves blocks out: half of the time."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        if self.training and torch.rand(()) < 0.5:
            return x
        added: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return x + added


left_out_at_random = _of(lambda: nn.Sequential(*(LeftOutAtRandom() for _ in range(4))))


draws_from_python = _repeat(lambda _: random.randrange(1, 20))
draws_from_torch = _repeat(lambda _: int(torch.randint(1, 20, ()).item()))
draws_from_the_system = _repeat(lambda _: random.SystemRandom().randrange(10**6) % 1000)
counts_its_steps = _repeat(_count)
more_every_tenth_step = _repeat(lambda network: 1 if _count(network) % 10 else 4)


def threaded(num_classes: int) -> Around:
    """Runs a module of its own in another thread."""

    def between(network: Around, x: Tensor) -> Tensor:
        with ThreadPoolExecutor(1) as pool:
            found: Tensor = pool.submit(network.get_submodule("inner"), x).result()
        return found

    return Around(num_classes, between, nn.ReLU())


def threaded_function(num_classes: int) -> Around:
    """As threaded, and no module is called there."""

    def between(_: Around, x: Tensor) -> Tensor:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(torch.relu, x).result()

    return Around(num_classes, between)


class Standardised(nn.Conv2d):
    """A convolution whose weight is standardised, so that a sum of two is not the sum of what they do."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-3)
        found: Tensor = self._conv_forward(x, weight, self.bias)
        return found


def standardised(num_classes: int) -> nn.Module:
    return nn.Sequential(
        Standardised(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes)
    )


class CentredByRunningMean(nn.Module):
    """A norm that is none of torch's, whose statistic is a buffer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        centre = self.get_buffer("centre")
        if self.training:
            centre.lerp_(x.detach().mean((0, 2, 3)), 0.5)
        return x - centre.view(1, -1, 1, 1)


def own_norm(num_classes: int) -> nn.Module:
    body = nn.Conv2d(3, 8, 3), CentredByRunningMean(), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*body, nn.Linear(8, num_classes))


def spectral(num_classes: int) -> nn.Module:
    body = parametrizations.spectral_norm(nn.Conv2d(3, 8, 3)), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*body, nn.Linear(8, num_classes))


def compiled(num_classes: int) -> nn.Module:
    module: nn.Module = torch.compile(silu(num_classes), backend="eager")  # type: ignore[assignment]
    return module


def compiled_inside(num_classes: int) -> Around:
    doubled = torch.compile(lambda x: x.relu() * 2, backend="eager")
    return Around(num_classes, lambda _, x: doubled(x))


def only_relu(num_classes: int) -> Around:
    return Around(num_classes, lambda _, x: x.relu())


def _asking_for_a_shape(trying: Callable[[], AbstractContextManager[object]]) -> Callable[[int], Around]:
    """As :func:`only_relu`, in the shape that a convolution would make, which is tried without computing it."""

    def between(_: Around, x: Tensor) -> Tensor:
        with trying():
            images, kernel = torch.empty(x.shape), torch.empty(CHANNELS, CHANNELS, 3, 3)
            would_make = nn.functional.conv2d(images, kernel, padding=1).relu()
        return x.relu().view(would_make.shape)

    return lambda num_classes: Around(num_classes, between)


asks_meta_for_a_shape = _asking_for_a_shape(lambda: torch.device("meta"))
asks_fakes_for_a_shape = _asking_for_a_shape(FakeTensorMode)


def conditional(num_classes: int) -> Around:
    """Whose condition torch compiles by itself."""
    return Around(num_classes, lambda _, x: torch.cond(x.sum() > 0, lambda y: y * 2, lambda y: y * 3, (x,)))


@torch.library.custom_op("unusual_networks::product", mutates_args=())
def product(left: Tensor, right: Tensor) -> Tensor:
    return left @ right


def _save(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG001  torch calls it by these names
    ctx.save_for_backward(*inputs)


product.register_autograd(
    lambda context, gradient: (
        product(gradient, context.saved_tensors[1].mT.contiguous()),
        product(context.saved_tensors[0].mT.contiguous(), gradient),
    ),
    setup_context=_save,
)


def custom_operator(num_classes: int) -> Around:
    return Around(num_classes, lambda _, x: product(x, x.mT.contiguous()))


class Trained(Method):
    """Every parameter, by an optimizer of torch's."""

    def __init__(self, optimizer: Callable[..., torch.optim.Optimizer]) -> None:
        self.kind = optimizer

    def adapt(self, network: Any, rank: int | None) -> None:
        network.module.requires_grad_(True).train()

    def optimizer(self, network: Any, rank: int | None) -> torch.optim.Optimizer:
        return self.kind(list(network.module.parameters()))


one_by_one = Trained(lambda parameters: torch.optim.AdamW(parameters, foreach=False))
foreach = Trained(lambda parameters: torch.optim.AdamW(parameters, foreach=True))
momentum_free = Trained(lambda parameters: torch.optim.SGD(parameters, foreach=False))
rectified = Trained(lambda parameters: torch.optim.RAdam(parameters, foreach=False))
fused = Trained(lambda parameters: torch.optim.AdamW(parameters, fused=True))


class EveryTenth(torch.optim.Optimizer):
    """Decomposes each gradient in every tenth step, and counts in an integer or in a tensor."""

    def __init__(self, parameters: Any, *, in_tensors: bool) -> None:
        super().__init__(parameters, {"in_tensors": in_tensors})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["count"] = torch.zeros(()) if group["in_tensors"] else 0
                if int(state["count"]) % 10 == 0:
                    state["basis"] = torch.linalg.svd(parameter.grad.flatten(1), full_matrices=False)[0]
                state["count"] += 1
                parameter.sub_(parameter.grad, alpha=1e-3)


class Periodic(Trained):
    def periodic_work(self, optimizer: torch.optim.Optimizer) -> PeriodicWork:
        return PeriodicWork(period=10, optimizer=optimizer, counter="count")


periodic = Periodic(lambda parameters: EveryTenth([p for p in parameters if p.dim() > 1], in_tensors=False))
periodic_in_tensors = Periodic(lambda parameters: EveryTenth([p for p in parameters if p.dim() > 1], in_tensors=True))
