"""FLOPs and peak memory of a cell: what computing them costs, beside the study's own profiler, in CPU seconds.

    git clone https://github.com/gslama12/pytorch-model-profiler /tmp/profiler
    python -m tests.studies.profiler_speed /tmp/profiler

Both are given a name and come to FLOPs and peak memory: building the network, the method and the optimizer is counted
on either side, imports on neither. Each is the work of a process that has imported all and computed nothing, forked
for it (cold), which then does the same once more (warm). The two take turns; what counts is CPU
time on one thread. Prints Markdown; exits with 1 where a cell misses its aim, ten times as fast cold, twenty warm.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import torch
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.processes.child_process import ChildProcess
from peft_update_bench.fixtures.instruments import computed
from peft_update_bench.fixtures.update_step import build_update_step
from peft_update_bench.fixtures.workload import Workload
from tabulate import tabulate

CELLS = [
    Cell(architecture, method, rank)
    for architecture in ("resnet18", "mobilenet_v2", "mobilenet_v3_small")
    for method, rank in (("fft", None), ("lora", 4), ("galore", 4))
]
BATCH_SIZES = (1, 16)
REPETITIONS = 1
AIMS = (10, 20)
"""Cold and warm: how many times as fast every cell should be."""
LIMIT_S = 600


def compute_here(cell: Cell, batch_size: int) -> None:
    step = build_update_step(cell.architecture, cell.method, cell.rank, Workload(batch_size=batch_size), "meta")
    computed.measure(step)


def profile(cell: Cell, batch_size: int) -> None:
    """By the study's profiler, as its README uses it. What it prints is not looked at."""
    from model_profiler import Profiler  # type: ignore[import-not-found]

    step = build_update_step(cell.architecture, cell.method, cell.rank, Workload(batch_size=batch_size), "cpu")
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Profiler(step.network, optimizer=step.optimizer).profile(step.batch[0])


def time_twice(function: Callable[[Cell, int], None], cell: Cell, batch_size: int) -> tuple[float, float]:
    """CPU seconds of the first call in this process, and of the second."""
    torch.set_num_threads(1)
    moments = [time.process_time()]
    for _ in range(2):
        function(cell, batch_size)
        moments.append(time.process_time())
    return moments[1] - moments[0], moments[2] - moments[1]


def in_a_process(function: Callable[[Cell, int], None], cell: Cell, batch_size: int) -> tuple[float, float]:
    with closing(ChildProcess("fork")) as child:
        return child.call(time_twice, function, cell, batch_size, limit_s=LIMIT_S)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="a copy of the profiler")
    sys.path.insert(0, str(parser.parse_args().folder))
    import galore_torch  # noqa: F401 - imports are counted on neither side
    import model_profiler  # noqa: F401
    import peft  # noqa: F401
    import torchvision  # noqa: F401

    rows, factors = [], []
    for batch_size in BATCH_SIZES:
        for cell in CELLS:
            turns = [
                [in_a_process(function, cell, batch_size) for function in (compute_here, profile)]
                for _ in range(REPETITIONS)
            ]
            ours, theirs = ([statistics.median(turn[n][k] for turn in turns) for k in (0, 1)] for n in (0, 1))
            factor = [their / our for our, their in zip(ours, theirs, strict=True)]
            factors.append(factor)
            seconds = [f"{seconds:.2f}" for pair in zip(ours, theirs, strict=True) for seconds in pair]
            rows.append([str(cell), batch_size, *seconds[:2], f"{factor[0]:.1f}", *seconds[2:], f"{factor[1]:.1f}"])
            print(*rows[-1], file=sys.stderr, flush=True)
    headers = ["cell", "batch", "cold: here", "profiler", "times", "warm: here", "profiler", "times"]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))
    return any(found < aim for factor in factors for found, aim in zip(factor, AIMS, strict=True))


if __name__ == "__main__":
    sys.exit(main())
