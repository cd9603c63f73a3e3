"""Are the computed figures of networks that nobody chose those of a real step on the CPU?

    python -m tests.studies.exactness                        # every network, prints the table
    python -m tests.studies.exactness --networks vit_tiny_patch16_224,lcnet_050

The networks are timm's in ``exactness_networks.txt``, with full fine-tuning and with LoRA. A cell agrees where FLOPs of
forward and backward pass equal to the digit what ``FlopCounterMode`` counts in a real step with this suite's formulas,
where the transient peak is within 1 % of what the CPU's allocator handed out, kernels' workspaces apart, and where the
optimizer holds as many bytes of states. One that is refused says why. ``exactness.md`` is what it printed.
``tests/studies/test_exactness.py`` looks at a few of the cells, and at all of them with ``-m study``.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from peft_update_bench.fixtures.architectures import UnsupportedNetworkError
from peft_update_bench.fixtures.imported import told
from peft_update_bench.fixtures.instruments import computed
from peft_update_bench.fixtures.instruments.allocations import Allocations, allocations_during
from peft_update_bench.fixtures.instruments.flops import CORRECTIONS
from peft_update_bench.fixtures.instruments.tracing.trace import NotComputableError
from peft_update_bench.fixtures.randomness import seeded
from peft_update_bench.fixtures.update_step import UpdateStep, build_update_step
from peft_update_bench.fixtures.workload import Workload
from tabulate import tabulate
from torch.utils.flop_counter import FlopCounterMode

NETWORKS = tuple(
    line
    for line in (Path(__file__).parent / "exactness_networks.txt").read_text().splitlines()
    if not line.startswith("#")
)
METHODS = ("fft", "lora")
LARGEST_GAP = 0.01
"""Of the transient peak."""
LARGEST_DIFFERENCE_OF_STATES = 64
"""Bytes; the allocator rounds nothing, but a counter may be an integer or a tensor."""


@dataclass(frozen=True)
class Outcome:
    """What became of one cell: ``ok``, ``differs`` or ``refused``, and in what or why."""

    network: str
    method: str
    image_size: int
    verdict: str
    detail: str
    seconds: float


def compare(network: str, method: str) -> Outcome:
    """Compute one of timm's networks under `method`, and measure a real step of it."""
    began = time.perf_counter()
    workload = Workload(batch_size=2, image_size=image_size(network))
    verdict, detail = "ok", ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if found := differences(f"timm.models:{network}", method, workload):
                verdict, detail = "differs", "; ".join(found)
        except (NotComputableError, UnsupportedNetworkError) as error:
            verdict, detail = "refused", str(error).partition("\n")[0]
        except Exception as error:  # a network of timm's may raise anything; a run says this much of it
            verdict, detail = "refused", told(error)
    return Outcome(network, method, workload.image_size, verdict, detail, time.perf_counter() - began)


def differences(architecture: str, method: str, workload: Workload, rank: int | None = 4) -> list[str]:
    """In what the computed figures of a cell are not those of a real step. Raises what computing them raises."""
    figures = computed.measure(build_update_step(architecture, method, rank, workload, device="meta"))
    return _differences(figures, _Real.measured(build_update_step(architecture, method, rank, workload)))


def image_size(network: str) -> int:
    """The network's own where it is made for one size, else 96: convolutions do the same at any."""
    config: Any = timm.get_pretrained_cfg(network)
    own: int = config.input_size[1]
    takes_any = not config.fixed_input_size and network not in _OWN_SIZE
    return 96 if takes_any else own


_OWN_SIZE = frozenset(
    {
        "bat_resnext26ts", "botnet26t_256", "coat_lite_tiny", "davit_tiny", "eca_halonext26ts", "efficientformerv2_s0",
        "fastvit_t8",
        "halonet26t", "inception_v3", "lambda_resnet26t", "mobilevit_xxs", "mobilevitv2_050", "nextvit_small",
        "poolformer_s12", "repvit_m0_9", "resnest14d", "sequencer2d_s", "swiftformer_xs", "twins_svt_small",
    }
)  # fmt: skip
"""Made for their size, or of blocks that need it, though their configuration does not say so."""


@dataclass(frozen=True)
class _Real:
    """What other instruments say of a real step in its steady state."""

    forward: int
    backward: int
    allocations: Allocations
    states: int

    @classmethod
    def measured(cls, step: UpdateStep) -> _Real:
        with seeded(0):
            step()
        with seeded(0):
            with FlopCounterMode(display=False, custom_mapping=CORRECTIONS) as forward:
                loss = step.forward()
            with FlopCounterMode(display=False, custom_mapping=CORRECTIONS) as backward:
                step.backward(loss)
        step.optimizer_step()
        step.zero_grad()
        del loss
        with seeded(0):
            allocations = allocations_during(lambda: step())
        states = [t for state in step.optimizer.state.values() for t in _tensors_of(state)]
        # What all parameters' states share is held once.
        held = sum(tensor.nbytes for tensor in {id(tensor): tensor for tensor in states}.values())
        return cls(forward.get_total_flops(), backward.get_total_flops(), allocations, held)


def _tensors_of(state: dict[str, Any]) -> Iterator[torch.Tensor]:
    """Those of one parameter's state, in it and in what it holds, such as a projector."""
    for value in state.values():
        if isinstance(value, torch.Tensor):
            yield value
        elif hasattr(value, "__dict__"):
            yield from (tensor for tensor in vars(value).values() if isinstance(tensor, torch.Tensor))


def _differences(figures: computed.Computed, real: _Real) -> list[str]:
    found = []
    for phase, truth in (("forward", real.forward), ("backward", real.backward)):
        if figures.flops[phase] != truth:
            found.append(f"{phase} {figures.flops[phase]:,} FLOPs, really {truth:,}")
    resident = sum(int(figures.memory[name]) for name in ("parameters", "buffers", "optimizer_states", "other"))
    transient = int(figures.memory["peak"]) - resident
    gap = (real.allocations.without_workspace - transient) / real.allocations.peak
    if abs(gap) > LARGEST_GAP:
        found.append(f"transient peak {transient:,} bytes, really {real.allocations.without_workspace:,} ({gap:+.1%})")
    if abs(real.states - int(figures.memory["optimizer_states"])) > LARGEST_DIFFERENCE_OF_STATES:
        found.append(f"optimizer states {figures.memory['optimizer_states']:,} bytes, really {real.states:,}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.studies.exactness", description=__doc__.split("\n")[0])
    parser.add_argument("--networks", help="names of timm's, separated by commas; default: all of the study's")
    given = parser.parse_args()
    networks = given.networks.split(",") if given.networks else NETWORKS
    torch.set_num_threads(1)
    outcomes = []
    for network in networks:
        for method in METHODS:
            outcomes.append(outcome := compare(network, method))
            print(f"{network} {method}: {outcome.verdict} {outcome.detail}", file=sys.stderr, flush=True)
    rows = [(o.network, o.method, o.image_size, o.verdict, o.detail) for o in outcomes]
    print(tabulate(rows, ("network", "method", "image", "verdict", "in what, or why"), tablefmt="pipe"))
    counts = Counter(outcome.verdict for outcome in outcomes)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("ok", "differs", "refused"))
    minutes = sum(outcome.seconds for outcome in outcomes) / 60
    print(f"\n{len(networks)} networks, {len(outcomes)} cells: {told}; {minutes:.0f} minutes.")
    return 1 if counts["differs"] else 0


if __name__ == "__main__":
    sys.exit(main())
