"""What an update costs by every built-in method: FLOPs and peak memory, on one image and on a batch, bytes to store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from peft_update_bench.bench.cells import MATRICES
from peft_update_bench.bench.study.front import name_of
from peft_update_bench.bench.units import show
from peft_update_bench.fixtures.instruments import computed
from peft_update_bench.fixtures.instruments.computed import result
from peft_update_bench.fixtures.instruments.steady import fixed_threads
from peft_update_bench.fixtures.methods import takes_rank
from peft_update_bench.fixtures.methods.names import BUILT_IN
from peft_update_bench.fixtures.update_step import build_update_step
from peft_update_bench.fixtures.workload import Workload

BATCH_SIZES = (1, 32)
RANK = 4

HEADERS = (
    "method", "trained", "to store",
    *(f"{figure}, batch {size}" for size in BATCH_SIZES for figure in ("FLOPs", "peak")),
)  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """One method's on one network: parameters, bytes, and FLOPs of a step and bytes at its peak, by batch size.

    Of an optimizer with periodic work the FLOPs are the mean of all steps, and the peak that of the dearest one.
    """

    method: str
    rank: int | None
    trained: int
    stored: int
    flops: dict[int, float]
    peaks: dict[int, int]

    def row(self) -> list[str]:
        costs = [
            words for size in self.flops for words in (show(self.flops[size], "FLOPs"), show(self.peaks[size], "bytes"))
        ]
        return [name_of(self.method, self.rank), f"{self.trained:,}", show(self.stored, "bytes"), *costs]


def measure(architecture: str) -> Iterator[Cost]:
    """Every method's, at one rank where it takes one, and some at further ones."""
    for method in BUILT_IN:
        ranks = (RANK, *MATRICES["wide"].further_ranks.get(method, ())) if takes_rank(method) else (None,)
        for rank in ranks:
            yield _cost(architecture, method, rank)


def _cost(architecture: str, method: str, rank: int | None) -> Cost:
    figures = {}
    for size in BATCH_SIZES:
        step = build_update_step(architecture, method, rank, Workload(batch_size=size), "meta")
        with fixed_threads(1):  # of what is executed
            figures[size] = computed.measure(step, observe_schedule=False)
        stored = result.stored_bytes(result.update_state(step.network))
    return Cost(
        method,
        rank,
        int(figures[BATCH_SIZES[0]].parameters["trainable"]),
        stored,
        {size: found.mean_flops for size, found in figures.items()},
        {size: found.highest_peak for size, found in figures.items()},
    )
