"""Faults that cost no FLOPs and no bytes at the peak, and that counted instructions catch and name.

``python -m tests.sabotage.instructions [FAULT …]`` puts each into the step of a MobileNetV3-Small's head (32×32),
judges it by the gate against the step without it, and prints a Markdown table. Exit status 1 where one goes unseen or
unnamed.
"""

from __future__ import annotations

import copy
import io
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.moved import what_moved
from peft_update_bench.bench.gate.verdict import Terms, Verdict, judge
from peft_update_bench.bench.measuring.measurement import record_of
from peft_update_bench.bench.metrics import default_tolerances
from peft_update_bench.fixtures.instruments.instructions import Instructions, Workers
from peft_update_bench.fixtures.update_step import UpdateStep, build_update_step
from peft_update_bench.fixtures.workload import Workload
from tabulate import tabulate
from torch import nn

CELL = Cell("mobilenet_v3_small", "head")
WORKLOAD = Workload(image_size=32)
PRELOAD = ("peft_update_bench.fixtures.methods.head", "tests.sabotage.instructions")
"""No more than these steps need: a server that imports peft takes a minute longer to start."""

Change = Callable[[UpdateStep], None]


@dataclass(frozen=True)
class Fault:
    """What `change` does to a step, and a part of the name that the message must give for it."""

    change: Change
    named: str

    @property
    def words(self) -> str:
        return (self.change.__doc__ or "").rstrip(".")


FAULTS: dict[str, Fault] = {}


def fault(named: str) -> Callable[[Change], Change]:
    def register(change: Change) -> Change:
        FAULTS[change.__name__] = Fault(change, named)
        return change

    return register


def before_forward(step: UpdateStep, action: Callable[[], object]) -> None:
    forward = step.forward

    def act_and_forward() -> torch.Tensor:
        action()
        return forward()

    step.forward = act_and_forward  # type: ignore[method-assign]


def build(name: str | None) -> UpdateStep:
    """The cell's step, with a fault or without."""
    step = build_update_step(CELL.architecture, CELL.method, CELL.rank, WORKLOAD)
    if name is not None:
        FAULTS[name].change(step)
    return step


@fault("normalised")
def images_normalised_in_numpy(step: UpdateStep) -> None:
    """Images are normalised pixel by pixel in NumPy."""
    images = step.batch[0].numpy().copy()

    def normalised(pixel: Any) -> Any:
        return (pixel - 0.5) / 0.25

    before_forward(step, lambda: [normalised(pixel) for pixel in np.nditer(images)])


@fault("watch")
def hook_on_every_module(step: UpdateStep) -> None:
    """A Python hook on every module."""

    def watch(*_: object) -> None:
        return None

    for module in step.network.modules():
        module.register_forward_hook(watch)


@fault("conv")
def without_onednn(step: UpdateStep) -> None:
    """oneDNN is switched off."""
    forward = step.forward

    def forward_without() -> torch.Tensor:
        with torch.backends.mkldnn.flags(enabled=False):
            return forward()

    step.forward = forward_without  # type: ignore[method-assign]


@fault("torch.optim")
def frozen_parameters_stepped_twice(step: UpdateStep) -> None:
    """A second optimizer steps twice over frozen parameters."""
    frozen = [parameter for parameter in step.network.parameters() if not parameter.requires_grad]
    second = torch.optim.AdamW(frozen, foreach=False)
    optimizer_step = step.optimizer_step

    def step_thrice() -> None:
        optimizer_step()
        second.step()
        second.step()

    step.optimizer_step = step_thrice  # type: ignore[method-assign]


@fault("item")
def item_in_a_loop(step: UpdateStep) -> None:
    """An .item() for every counter of batch norm."""
    counters = [module.num_batches_tracked for module in step.network.modules() if isinstance(module, nn.BatchNorm2d)]
    before_forward(step, lambda: [counter.item() for counter in counters if counter is not None])


@fault("clone")
def contiguous_copies(step: UpdateStep) -> None:
    """Every convolution's input is copied."""

    def copied(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(value.clone(memory_format=torch.contiguous_format) for value in inputs)

    for module in step.network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(copied)


@fault("state_dict")
def state_dict_each_step(step: UpdateStep) -> None:
    """A state dict is taken in each step."""
    before_forward(step, step.network.state_dict)


@fault("described")
def logging_discarded(step: UpdateStep) -> None:
    """Every parameter is described for a log that discards it."""
    logger = logging.getLogger("tests.sabotage")

    def described(name: str, parameter: nn.Parameter) -> str:
        return f"{name}: {tuple(parameter.shape)}, {parameter.dtype}, trained {parameter.requires_grad}"

    def log() -> None:
        for name, parameter in step.network.named_parameters():
            logger.debug(described(name, parameter))

    before_forward(step, log)


@fault("to_dtype_layout")
def channels_last_and_back(step: UpdateStep) -> None:
    """The network goes to channels_last and back."""

    def flip_flop() -> None:
        step.network.to(memory_format=torch.channels_last)
        step.network.to(memory_format=torch.contiguous_format)

    before_forward(step, flip_flop)


@fault("deepcopy")
def batch_deep_copied(step: UpdateStep) -> None:
    """The batch is copied deeply, with what is known of each of 16 images."""
    known = [{"path": f"{number}.png", "label": number, "box": [0, 0, 32, 32]} for number in range(16)]
    before_forward(step, lambda: copy.deepcopy((step.batch, known)))


@fault("save")
def checkpoint_in_memory(step: UpdateStep) -> None:
    """The head is pickled to memory in each step, in case that the device loses power."""
    head = step.network.get_submodule("classifier")
    before_forward(step, lambda: torch.save(head.state_dict(), io.BytesIO()))


@dataclass(frozen=True)
class Caught:
    """What the gate says of a fault."""

    name: str
    verdict: Verdict
    lines: list[str]

    @property
    def complaint(self) -> str:
        if self.verdict.kind != "regressed":
            return f"not caught: {self.verdict.kind}"
        named = FAULTS[self.name].named
        return "" if any(named in line for line in self.lines) else f"not named: expected {named!r}"


def run(names: list[str]) -> Iterator[Caught]:
    with Workers(1 + len(names), preload=PRELOAD) as workers:
        plain = workers.submit(build, None)
        counted = {name: workers.submit(build, name) for name in names}
        for name in names:
            yield judged(name, counted[name].result(), plain.result())


def judged(name: str, now: Instructions, before: Instructions) -> Caught:
    new, old = (record_of(CELL, WORKLOAD, {"instructions": counted.as_record()}) for counted in (now, before))
    (verdict,) = judge(new, old, Terms(default_tolerances()))
    assert new.instructions is not None
    assert old.instructions is not None
    return Caught(name, verdict, what_moved(new.instructions, old.instructions))


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in FAULTS]
    if unknown:
        print(
            f"tests.sabotage.instructions: given {unknown[0]!r}; expected any of {', '.join(FAULTS)}", file=sys.stderr
        )
        return 2
    rows = list(run(names or list(FAULTS)))
    named = [next((line for line in row.lines if FAULTS[row.name].named in line), "").strip() for row in rows]
    table = [
        (FAULTS[row.name].words, row.verdict.shown_change, line, row.complaint or row.verdict.kind)
        for row, line in zip(rows, named, strict=True)
    ]
    print(tabulate(table, ("sabotage", "instructions", "named", "verdict"), tablefmt="pipe", disable_numparse=True))
    for row in rows:
        print(f"\n{row.name}:\n" + "\n".join(row.lines), file=sys.stderr)
    return 1 if any(row.complaint for row in rows) else 0


if __name__ == "__main__":
    # Under its own name, which the counting processes import.
    from tests.sabotage import instructions

    sys.exit(instructions.main(sys.argv[1:]))
