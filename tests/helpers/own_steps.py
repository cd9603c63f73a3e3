"""Update steps as users have them: a detector with two outputs in many ways of training, and steps that are wrong."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread
from typing import Any

import torch
from peft_update_bench.fixtures.update_step import UpdateStep
from torch import Tensor, nn
from torch.ao.quantization import FakeQuantize, MovingAveragePerChannelMinMaxObserver
from torch.nn import functional
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel

Whole = tuple[Callable[[], object], Any, Any]


class Detector(nn.Module):
    """Classes and boxes at each of 8×8 places of images of 32×32."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()
        )
        self.classes = nn.Conv2d(32, 4, 1)
        self.boxes = nn.Conv2d(32, 4, 3, padding=1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.body(images)
        return {"features": features, "classes": self.classes(features), "boxes": self.boxes(features)}


def loss_of(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    out = network(batch["images"])
    classes = functional.cross_entropy(out["classes"], batch["labels"])
    return classes + functional.smooth_l1_loss(out["boxes"], batch["boxes"])


def new_batch() -> dict[str, Tensor]:
    labels = torch.randint(4, (2, 8, 8))
    return {"images": torch.randn(2, 3, 32, 32), "labels": labels, "boxes": torch.randn(2, 4, 8, 8)}


def parts() -> tuple[nn.Module, torch.optim.Optimizer, dict[str, Tensor]]:
    network = Detector()
    return network, torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9), new_batch()


def described(network: nn.Module | None = None) -> UpdateStep:
    network = network or Detector()
    return UpdateStep(network, torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9), new_batch(), loss_of)


def whole() -> Whole:
    return _updating(*parts())


def freezing() -> Whole:
    """Trains its body while the heads are frozen, and the other way round, as a GAN's two networks take turns."""
    step, network, optimizer = whole()

    def by_turns() -> object:
        for body in (True, False):
            network.requires_grad_(not body)
            network.get_submodule("body").requires_grad_(body)
            loss = step()
        return loss

    return by_turns, network, optimizer


def takes_data_away() -> Whole:
    """As where weights are in memory only while they are used."""
    step, network, optimizer = whole()
    kept = {parameter: parameter.data for parameter in network.parameters()}

    def with_values() -> object:
        for parameter, values in kept.items():
            parameter.data = values
        loss = step()
        take_away()
        return loss

    def take_away() -> None:
        for parameter in kept:
            parameter.data = torch.empty(0)

    take_away()
    return with_values, network, optimizer


def takes_memory_away() -> Whole:
    """As sharded training frees what it has gathered, from the first update on."""
    step, network, optimizer = whole()
    storage = network.get_submodule("classes").weight.untyped_storage()
    values = storage.clone()

    def freed() -> object:
        storage.resize_(values.nbytes())
        storage.copy_(values)
        loss = step()
        storage.resize_(0)
        return loss

    return freed, network, optimizer


def _updating(network: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor]) -> Whole:
    def step() -> Tensor:
        loss = loss_of(network, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step, network, optimizer


def with_closure() -> Whole:
    return _stepping(*parts())


def gathers() -> Whole:
    """Its history has a pair of vectors more after each step."""
    network, _, batch = parts()
    return _stepping(network, torch.optim.LBFGS(network.parameters(), lr=0.01, max_iter=1), batch)


def _stepping(network: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor]) -> Whole:
    def closure() -> Any:
        optimizer.zero_grad()
        loss = loss_of(network, batch)
        loss.backward()
        return loss

    return lambda: optimizer.step(closure), network, optimizer


def profiles_itself() -> Whole:
    step, network, optimizer = whole()

    def profiled() -> object:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
            return step()

    return profiled, network, optimizer


def data_parallel() -> Whole:
    """In a process group that is there already."""
    network = nn.parallel.DistributedDataParallel(Detector())
    return _updating(network, torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9), new_batch())


def distributed_weights() -> Whole:
    """In a process group that is there already."""
    # Slow to import, and no other step's.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Replicate, distribute_module

    mesh = init_device_mesh("cpu", (1,))
    network = distribute_module(nn.Linear(64, 64), mesh)
    rows = DTensor.from_local(torch.randn(8, 64), mesh, [Replicate()])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)

    def step() -> Tensor:
        loss: Tensor = network(rows).square().mean().to_local()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step, network, optimizer


def nested_attention() -> UpdateStep:
    network = nn.Linear(8, 8)

    def loss(network: nn.Module, sequences: Tensor) -> Tensor:
        nested = torch.nested.nested_tensor([sequences[0, :3], sequences[1]], layout=torch.jagged)
        heads = network(nested).unflatten(-1, (2, 4)).transpose(1, 2)
        attended = functional.scaled_dot_product_attention(heads, heads, heads)
        mean: Tensor = attended.transpose(1, 2).flatten(2).to_padded_tensor(0.0).square().mean()
        return mean

    return UpdateStep(network, torch.optim.SGD(network.parameters(), lr=0.1), torch.randn(2, 5, 8), loss)


def in_mode(*, training: bool) -> Callable[[], Whole]:
    """Updates in that mode, and leaves its network in the other."""

    def build() -> Whole:
        step, network, optimizer = whole()

        def in_turn() -> object:
            network.train(training)
            loss = step()
            network.train(not training)
            return loss

        return in_turn, network, optimizer

    return build


evaluates_afterwards, trains_in_eval_mode = in_mode(training=True), in_mode(training=False)


def accumulating() -> Whole:
    """Three batches, clipping, a schedule and an average of the weights."""
    network = Detector()
    optimizer = torch.optim.AdamW(network.parameters(), foreach=False)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    average = copy.deepcopy(network).requires_grad_(False)
    batches = [new_batch() for _ in range(3)]

    def step() -> float:
        optimizer.zero_grad()
        total = 0.0
        for batch in batches:
            loss = loss_of(network, batch) / len(batches)
            loss.backward()
            total += loss.item()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0, foreach=False)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for mean, parameter in zip(average.parameters(), network.parameters(), strict=True):
                mean.lerp_(parameter, 0.1)
        return total

    return step, {"network": network, "average": average}, optimizer


def distilling() -> Whole:
    """A teacher beside the student, a loss on features, an optimizer for each part, and bf16."""
    student, teacher, batch = Detector(), Detector(), new_batch()
    heads = [*student.classes.parameters(), *student.boxes.parameters()]
    optimizers = (torch.optim.SGD(student.body.parameters(), lr=0.1), torch.optim.Adam(heads, amsgrad=True))

    def step() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                target = teacher(batch["images"])["features"]
            out = student(batch["images"])
            loss = functional.mse_loss(out["features"].float(), target.float()) + out["classes"].float().square().mean()
        loss = loss + out["boxes"].float().abs().mean()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        found: Tensor = loss.detach()
        return found

    return step, [student, teacher], optimizers


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.hidden = nn.Linear(16, 32)
        self.out = nn.Linear(32, 50)

    def forward(self, *, tokens: dict[str, Tensor]) -> Tensor:
        out: Tensor = self.out(functional.gelu(self.hidden(self.embedding(tokens["ids"]))))
        return out


def words(network: nn.Module | None = None) -> UpdateStep:
    """No images, no convolutions, a network that takes a nested input by keyword."""
    network = network or Words()

    def loss(network: nn.Module, tokens: dict[str, Tensor], labels: Tensor) -> Tensor:
        return functional.cross_entropy(network(tokens=tokens).flatten(0, 1), labels.flatten())

    batch = ({"ids": torch.randint(50, (4, 12))}, torch.randint(50, (4, 12)))
    return UpdateStep(network, torch.optim.AdamW(network.parameters(), lr=3e-4), batch, loss)


def hooked() -> Whole:
    """An optimizer for each parameter, stepped by a hook as soon as its gradient is there."""
    network, _, batch = parts()
    optimizers = {p: torch.optim.SGD([p], lr=0.01, momentum=0.9) for p in network.parameters()}

    def update(parameter: nn.Parameter) -> None:
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in network.parameters():
        parameter.register_post_accumulate_grad_hook(update)

    def step() -> Tensor:
        loss = loss_of(network, batch)
        loss.backward()
        return loss

    return step, network, list(optimizers.values())


def fake_quantized() -> Whole:
    """Ranges that get their size from the first call."""
    ranges = FakeQuantize(MovingAveragePerChannelMinMaxObserver.with_args(ch_axis=1), quant_min=0, quant_max=255)
    return _called(nn.Sequential(ranges, nn.Conv2d(3, 8, 3)))


def expanded() -> Whole:
    """With a buffer to which nobody can write, because its numbers have one place."""
    network = nn.Conv2d(3, 8, 3)
    network.register_buffer("places", torch.zeros(1).expand(8))
    return _called(network)


def of_complex_numbers() -> UpdateStep:
    network = nn.Linear(8, 8, dtype=torch.complex64)
    rows = torch.randn(2, 8, dtype=torch.complex64)
    return UpdateStep(
        network,
        torch.optim.SGD(network.parameters(), lr=0.1),
        rows,
        lambda network, rows: network(rows).abs().mean(),
    )


def scripted() -> Whole:
    return _called(torch.jit.script(nn.Conv2d(3, 8, 3)))


def _called(network: nn.Module) -> Whole:
    optimizer, images = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9), torch.randn(2, 3, 32, 32)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = network(images).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    return step, network, optimizer


# Steps that are wrong, in one way each.


def raises() -> Whole:
    def step() -> None:
        raise KeyError("boxes")

    return step, *parts()[:2]


def vector() -> UpdateStep:
    network, optimizer, batch = parts()
    return UpdateStep(
        network, optimizer, batch, lambda network, batch: network(batch["images"])["boxes"].mean((1, 2, 3))
    )


def nothing() -> Whole:
    step, network, optimizer = whole()

    def without_a_word() -> None:
        step()

    return without_a_word, network, optimizer


KEPT: list[Tensor] = []


def keeps() -> Whole:
    network, optimizer, batch = parts()

    def step() -> Tensor:
        loss = loss_of(network, batch)
        loss.backward(retain_graph=True)
        optimizer.step()
        optimizer.zero_grad()
        KEPT.append(loss)
        return loss

    return step, network, optimizer


def still() -> Whole:
    step, network, optimizer = whole()
    optimizer.param_groups[0]["lr"] = 0.0
    return step, network, optimizer


def frozen() -> Whole:
    step, network, optimizer = whole()
    network.requires_grad_(False)
    return step, network, optimizer


def without_graph() -> UpdateStep:
    network, optimizer, batch = parts()
    return UpdateStep(network, optimizer, batch, lambda *_: torch.tensor(1.0))


def exploding() -> UpdateStep:
    network, optimizer, batch = parts()
    return UpdateStep(network, optimizer, batch, lambda *given: loss_of(*given) * float("inf"))


ONE = Detector()


def shares() -> Whole:
    step, _, _ = whole()
    return step, ONE, torch.optim.SGD(ONE.parameters(), lr=0.1)


def missing() -> UpdateStep:
    with open("nowhere/batch.npz", "rb"):  # noqa: PTH123 - as users write it
        return described()


def never_ends() -> Whole:
    def step() -> None:
        while True:
            time.sleep(1)

    return step, *parts()[:2]


def every_other() -> Whole:
    """Accumulates over calls, so that no call is like the one before."""
    step, network, optimizer = whole()
    batch, calls = new_batch(), [0]

    def sometimes_more() -> object:
        calls[0] += 1
        if calls[0] % 2:
            loss_of(network, batch).backward()
        return step()

    return sometimes_more, network, optimizer


def refreshes(every: int) -> Callable[[], Whole]:
    """Decomposes a matrix in each of so many calls."""

    def build() -> Whole:
        step, network, optimizer = whole()
        matrix, calls = torch.ones(128, 128), [0]

        def sometimes_more() -> object:
            calls[0] += 1
            if calls[0] % every == 0:
                torch.linalg.svd(matrix)
            return step()

        return sometimes_more, network, optimizer

    return build


refreshes_often, refreshes_rarely = refreshes(12), refreshes(1000)


class CountsInBuffer(nn.Linear):
    """Decomposes a matrix in every tenth call, the first among them."""

    def __init__(self) -> None:
        super().__init__(32, 32)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        calls = self.get_buffer("calls")
        if calls % 10 == 0:
            torch.linalg.svd(torch.ones(64, 64))
        calls += 1
        return super().forward(x)


def refreshes_by_buffer() -> UpdateStep:
    network = CountsInBuffer()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    return UpdateStep(network, optimizer, torch.randn(2, 32), lambda network, x: network(x).square().mean())


def averaging() -> Whole:
    """An average that is the weights at first, as a buffer says, and then takes memory for what it adds up."""
    network, batch = nn.Sequential(nn.Linear(16, 512, bias=False), nn.Linear(512, 2)), torch.randn(1, 16)
    average = AveragedModel(network, avg_fn=lambda mean, weight, _: mean * 0.9 + weight * 0.1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)

    def step() -> Tensor:
        loss: Tensor = network(batch).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(network)
        return loss

    return step, [network, average], optimizer


def unfreezes(call: int) -> Callable[[], Whole]:
    """Trains its first layer too, from this call on."""

    def build() -> Whole:
        step, network, optimizer = whole()
        network.body[0].requires_grad_(False)
        calls = [0]

        def sometime_more() -> object:
            calls[0] += 1
            if calls[0] == call:
                network.body[0].requires_grad_(True)
            return step()

        return sometime_more, network, optimizer

    return build


unfreezes_at_four, unfreezes_at_ten = unfreezes(4), unfreezes(10)


def rectified() -> Whole:
    """By RAdam, which begins to look at its second averages in the sixth step."""
    network, batch = nn.Linear(64, 64), torch.randn(4, 64)
    optimizer = torch.optim.RAdam(network.parameters(), foreach=False)

    def step() -> Tensor:
        loss: Tensor = network(batch).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step, network, optimizer


def backwards_elsewhere() -> Whole:
    """Its backward pass runs in another thread."""
    network, optimizer, batch = parts()

    def step() -> Tensor:
        loss = loss_of(network, batch)
        thread = Thread(target=loss.backward)
        thread.start()
        thread.join()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step, network, optimizer


def drawing() -> Whole:
    """Does its step once, or twice."""
    step, network, optimizer = whole()
    batch = new_batch()

    def sometimes_more() -> object:
        if torch.rand(()) < 0.5:
            loss_of(network, batch).backward()
        return step()

    return sometimes_more, network, optimizer


def left_out_at_random() -> UpdateStep:
    """After the first layer each is there half of the time."""
    network = nn.ModuleList(nn.Linear(8, 8) for _ in range(5))

    def loss(network: nn.ModuleList, rows: Tensor) -> Tensor:
        for number, layer in enumerate(network):
            if not number or torch.rand(()) < 0.5:
                rows = layer(rows)
        return rows.square().mean()

    return UpdateStep(network, torch.optim.Adam(network.parameters()), torch.randn(2, 8), loss)


def ending_early() -> Whole:
    """Of two layers the second waits for the first to be sure, which it is after an update."""
    network, rows, labels = nn.ModuleList([nn.Linear(8, 4), nn.Linear(8, 4)]), torch.ones(2, 8), torch.zeros(2).long()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)

    def step() -> Tensor:
        logits = network[0](rows)
        if logits.softmax(1)[0, 0] < 0.8:
            logits = logits + network[1](rows)
        loss = functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step, network, optimizer


def running_out(calls: int = 9) -> Whole:
    step, network, optimizer = whole()
    left = iter(range(calls))

    def counted() -> object:
        next(left)
        return step()

    return counted, network, optimizer


def running_out_late() -> Whole:
    """Just when all further calls have been watched."""
    return running_out(29)


class WithWeights(nn.Module):
    """A loss that learns."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(50))


def learned_loss(network: nn.Module | None = None) -> UpdateStep:
    network, loss, batch = network or Detector(), WithWeights(), new_batch()
    parameters = [*network.parameters(), *loss.parameters()]

    def scaled(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return loss_of(network, batch) * loss.scale.mean()

    return UpdateStep(network, torch.optim.SGD(parameters, lr=0.01, momentum=0.9), batch, scaled)


class CalledTwice(UpdateStep):
    def __call__(self) -> Tensor:
        super().__call__()
        return super().__call__()


def called_twice(network: nn.Module | None = None) -> UpdateStep:
    network = network or Detector()
    return CalledTwice(network, torch.optim.SGD(network.parameters(), lr=0.01), new_batch(), loss_of)


class Around(torch.optim.Optimizer):
    """An optimizer around another, as accelerate's and averaging ones are."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__([parameter for group in optimizer.param_groups for parameter in group["params"]], {})
        self.optimizer = optimizer

    def step(self, closure: Any = None) -> Any:
        return self.optimizer.step(closure)


def around_another() -> UpdateStep:
    network, optimizer, batch = parts()
    return UpdateStep(network, Around(optimizer), batch, loss_of)


@dataclass
class Examples:
    images: Tensor
    labels: dict[str, Tensor]


def in_a_class() -> UpdateStep:
    """A batch that is an object of the user's own."""
    network, optimizer, batch = parts()
    return UpdateStep(
        network, optimizer, Examples(batch["images"], batch), lambda network, given: loss_of(network, given.labels)
    )


def lazy() -> UpdateStep:
    network = nn.Sequential(nn.Flatten(), nn.LazyLinear(4))
    return UpdateStep(network, torch.optim.SGD(network.parameters(), lr=0.1), new_batch(), loss_of)


def lazy_itself() -> UpdateStep:
    network = nn.LazyLinear(4)
    return UpdateStep(network, torch.optim.SGD(network.parameters(), lr=0.1), new_batch(), loss_of)


def a_network() -> nn.Module:
    return Detector()


def two_parts() -> tuple[object, object]:
    return whole()[:2]


class Optimizer:
    """A framework's own, with the name of torch's."""


def no_optimizer() -> tuple[object, object, object]:
    return (*whole()[:2], Optimizer())


def no_optimizers() -> tuple[object, object, object]:
    return (*whole()[:2], [])


def no_networks() -> tuple[object, object, object]:
    step, _, optimizer = whole()
    return step, {}, optimizer


def needs_more(path: str) -> Whole:
    raise AssertionError(path)


def penalised(network: nn.Module | None = None) -> UpdateStep:
    """Its loss has the gradient of the images in it."""
    network = network or Detector()

    def loss(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        images = batch["images"].clone().requires_grad_()
        (slope,) = torch.autograd.grad(network(images)["classes"].sum(), images, create_graph=True)
        return slope.square().mean()

    return UpdateStep(network, torch.optim.SGD(network.parameters(), lr=0.01), new_batch(), loss)


def pruned(network: nn.Module | None = None) -> UpdateStep:
    """With a weight that follows from another before the layer has run."""
    if network is None:
        network = Detector()
        prune.l1_unstructured(network.body[3], "weight", 0.5)
    return described(network)


def another_network(network: nn.Module | None = None) -> UpdateStep:  # noqa: ARG001 - what is wrong with it
    return described()


class AsksForStride(Detector):
    """Pads by its first convolution's stride, as transformers' MobileNets do; an adapter in its place has none."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        stride: Any = self.body.get_submodule("0").stride
        return super().forward(functional.pad(images, (0, 32 % stride[0], 0, 0)))


def asks_for_stride(network: nn.Module | None = None) -> UpdateStep:
    return described(network or AsksForStride())


def few_parameters(network: nn.Module | None = None) -> UpdateStep:
    network = network or Detector()
    chosen = [parameter for name, parameter in network.named_parameters() if name.startswith("boxes")]
    return UpdateStep(network, torch.optim.SGD(chosen, lr=0.1), new_batch(), loss_of)


NUMBER = 3
BUILT = described()
