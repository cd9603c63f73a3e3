"""Trained parameters that two updates leave as they were: whether the network keeps them still, or nothing trains.

Three things in a network do, whatever trains it. A weight that is zero and frozen stops the gradient of all before it:
timm starts the last batch norm of each residual block at zero (``zero_init_last``), which LoRA freezes. A parameter
that the forward pass never uses has no gradient. And one that the loss does not depend on, as a bias before a norm or
of attention's keys, has a gradient of rounding alone, by which SGD does not move it. All are shown and not supposed:
with the zeros set to one the parameters must move, and of the others the bare network's own backward pass must leave
them without a gradient, or its loss must be the same with other values of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import takewhile

import torch
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.measuring.measurement import NotTrainingError
from peft_update_bench.fixtures.first_few import first_few
from peft_update_bench.fixtures.instruments.computed.answers import TOLERANCE_EXPONENT
from peft_update_bench.fixtures.instruments.computed.not_finite import where_it_begins
from peft_update_bench.fixtures.instruments.computed.work import DRAWS
from peft_update_bench.fixtures.instruments.steady import fixed_threads
from peft_update_bench.fixtures.methods.running_order import first_calls
from peft_update_bench.fixtures.randomness import seeded
from peft_update_bench.fixtures.update_step import UpdateStep, build_update_step
from peft_update_bench.fixtures.workload import Workload
from torch import nn

_FEW = 4
"""Losses that a message names."""


def train(step: UpdateStep) -> tuple[list[float], list[str]]:
    """The losses of two updates, and the names of trainable parameters that they left as they were.

    Two, because LoRA's A has no gradient before B has left zero.
    """
    before = {name: p.detach().clone() for name, p in step.network.named_parameters() if p.requires_grad}
    losses = [float(step()) for _ in range(2)]
    after = dict(step.network.named_parameters())
    return losses, [name for name, parameter in before.items() if torch.equal(parameter, after[name])]


def must_train(cell: Cell, workload: Workload, losses: Iterable[float], unmoved: Sequence[str]) -> list[str]:
    """What a reader should know of trained parameters that the network itself keeps still. Raises NotTrainingError."""
    losses = list(losses)
    if not all(math.isfinite(loss) for loss in losses):
        raise NotTrainingError(f"the loss is not finite: {_told(losses)}{_where_it_begins(cell, workload, losses)}")
    if not unmoved or cell.is_step:  # what a user's own step moves was seen when it was tried
        return []
    with fixed_threads(workload.threads):
        remarks, unexplained = explain(cell, workload, unmoved)
        why = _bypassed(cell, workload, unexplained, workload.device)
    if unexplained:
        raise NotTrainingError(f"updates leave trained parameters as they were: {first_few(unexplained)}{why}")
    return remarks


def _told(losses: Sequence[float]) -> str:
    """The first few of `losses`, or, where these are finite, the first that is not, and when."""
    updates = len([*takewhile(math.isfinite, losses)])
    if updates < _FEW:
        return first_few((f"{loss:g}" for loss in losses), most=_FEW)
    return f"{losses[updates]:g} after {updates} updates, {losses[updates - 1]:g} before"


def _where_it_begins(cell: Cell, workload: Workload, losses: Sequence[float]) -> str:
    """Which layer first makes what is not finite, once the updates are done whose losses were."""
    if cell.is_step:  # its networks are its own affair
        return ""
    with fixed_threads(workload.threads):
        step = build_update_step(cell.architecture, cell.method, cell.rank, workload, workload.device)
        for _ in takewhile(math.isfinite, losses):
            step()
        return where_it_begins(step.network, step.forward)


def must_write_to_all(cell: Cell, workload: Workload, step: UpdateStep, still: Sequence[str]) -> list[str]:
    """What a reader should know of the trained parameters that the optimizer's step did not write to, by name.

    Raises NotTrainingError.
    """
    if still and not next(step.network.parameters()).is_meta:
        # What writes without an operator, such as a kernel of one's own, shows in the values, and a layer that is left
        # out at random moves in another draw.
        for seed in range(DRAWS // 2):  # of two updates each
            with seeded(seed):
                still_by_values = train(step)[1]
            if not (still := [name for name in still if name in still_by_values]):
                break
    remarks, unexplained = explain_unused(cell, workload, still)
    if unexplained:
        why = _bypassed(cell, workload, unexplained)
        raise NotTrainingError(
            f"the optimizer's step writes to no memory of {first_few(unexplained)}, which it trains{why}"
        )
    return remarks


def explain(cell: Cell, workload: Workload, still: Sequence[str]) -> tuple[list[str], list[str]]:
    """What the network says for its parameters named `still`, each a sentence; and those that it does not explain."""
    remarks = []
    step = build_update_step(cell.architecture, cell.method, cell.rank, workload, workload.device)
    if gains := _set_frozen_zeros_to_one(step.network):
        _, left = train(step)
        held = [name for name in still if name not in left]
        if held:
            remarks.append(
                f"{first_few(held)} did not move, because the frozen {first_few(gains)} is zero and stops the gradient "
                "(in timm, zero_init_last=False builds the network without)"
            )
        still = [name for name in still if name in left]
    unused, still = explain_unused(cell, workload, still, workload.device)
    # Where nothing moves at all it is the update's doing, whatever the loss depends on.
    moves = len(still) < sum(parameter.requires_grad for parameter in step.network.parameters())
    without_effect = _without_effect(cell.architecture, workload, still) if moves else []
    if without_effect:
        remarks.append(
            f"{first_few(without_effect)} did not move, because the loss is the same whatever its values are, "
            "as with a bias that a norm takes away again"
        )
    return remarks + unused, [name for name in still if name not in without_effect]


def explain_unused(
    cell: Cell, workload: Workload, still: Sequence[str], device: str = "meta"
) -> tuple[list[str], list[str]]:
    """As :func:`explain`, of the parameters that the forward pass does not use, and of what a method has put into their
    layers; nothing is trained for that."""
    if not still:
        return [], []
    unused = _without_gradient(cell.architecture, workload, device)
    layers = tuple(f"{layer}." for name in unused if (layer := name.rpartition(".")[0]) and name.endswith(".weight"))
    idle = [name for name in still if name in unused or name.startswith(layers)]
    remarks = (
        [f"{first_few(idle)} did not move, because the network's forward pass gives it no gradient"] if idle else []
    )
    return remarks, [name for name in still if name not in idle]


def _without_effect(architecture: str, workload: Workload, still: Sequence[str]) -> list[str]:
    """The names among `still` of the network's own parameters that may have any values for the same loss, but for
    rounding."""
    if not still:
        return []
    step = build_update_step(architecture, "fft", None, workload, workload.device)
    own = dict(step.network.named_parameters())

    def loss() -> torch.Tensor:
        with torch.no_grad(), seeded(workload.seed):
            return step.forward().detach()

    found = []
    for name in filter(own.__contains__, still):
        values, before = own[name].detach().clone(), loss()
        with torch.no_grad(), seeded(workload.seed):
            own[name].add_(torch.randn_like(values))  # one for all would move all logits alike
        after = loss()
        own[name].data.copy_(values)
        if torch.isclose(after, before, rtol=torch.finfo(before.dtype).eps ** TOLERANCE_EXPONENT, atol=0):
            found.append(name)
    return found


def _bypassed(cell: Cell, workload: Workload, still: Sequence[str], device: str = "meta") -> str:
    """The end of a sentence on what a method has put into layers that the network reads the weights of, and does not
    call; empty where there are none."""
    if not still:
        return ""
    plain = build_update_step(cell.architecture, "fft", None, workload, device)
    called = first_calls(plain.network, lambda _: plain.forward())
    weights = dict(plain.network.named_parameters())
    uncalled = [name for name, _ in plain.network.named_modules() if name not in called and f"{name}.weight" in weights]
    added = [name for name in still if name not in weights]
    layers = [layer for layer in uncalled if any(name.startswith(f"{layer}.") for name in added)]
    if not layers:
        return ""
    return (
        f": the network reads the weight of {first_few(map(repr, layers))} and does not call the layer, so that what "
        f"{cell.method} adds to it does nothing; leave it out of its Network's adapted ones"
    )


def _set_frozen_zeros_to_one(network: nn.Module) -> list[str]:
    """The names of the frozen weights that were zero. A bias of zero stops no gradient."""
    found = []
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad and not name.endswith("bias") and not parameter.detach().any():
            parameter.detach().fill_(1)
            found.append(name)
    return found


def _without_gradient(architecture: str, workload: Workload, device: str) -> set[str]:
    """The names of the parameters that the network, with every parameter trained, gives no gradient."""
    step = build_update_step(architecture, "fft", None, workload, device)
    step.backward(step.forward())
    return {name for name, parameter in step.network.named_parameters() if parameter.grad is None}
