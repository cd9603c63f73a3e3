"""What a cluster gains and costs: measured on this machine, and simulated for as many nodes as nobody has at hand.

    python -m tests.studies.cluster_speed measure --output measured.json   # some minutes, on idle cores
    python -m tests.studies.cluster_speed simulate measured.json

`measure` does eight updates of adaptation's subset by one node of one core and by two, in turn and with everything
started, and 1,000 tasks that do nothing. The figures are in bench/processes/cluster.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from peft_update_bench.bench import options
from peft_update_bench.bench.adaptation import updates
from peft_update_bench.bench.benchmarks.adaptation import AdaptationBenchmark
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.processes.cluster import Cluster
from peft_update_bench.bench.processes.executor import Executor, Task
from peft_update_bench.bench.processes.local_processes import LocalProcesses
from peft_update_bench.bench.processes.update_runs import TrainedNetwork, do_update, train

from tests.helpers.nodes import nodes_of
from tests.studies.cluster_simulation import Measured, table

NETWORKS = ("resnet18", "mobilenet_v2")
METHODS = (("fft", None), ("lora", 4))
STEPS = "10"
EMPTY: list[Task[Any]] = [Task(abs, (-1,))] * 1000

RUN = options.read({"metrics": "adaptation", "steps": STEPS}, {})


@contextmanager
def started(folder: Path, number: int) -> Iterator[Executor]:
    """A cluster of so many nodes of one core, each with a worker that has imported everything."""
    names = [f"node{index}" for index in range(number)]
    with nodes_of(folder, *names) as nodes, closing(Cluster(nodes.address)) as cluster:
        executor = cluster.executor(RUN.benchmark.wall(RUN), alike=True)
        time_tasks(executor, [Task(time.sleep, (1.0,))] * (2 * number))
        yield executor


def time_tasks(executor: Executor, tasks: Sequence[Task[Any]]) -> float:
    """Seconds until all are done."""
    return sum(time_each(executor, tasks))


def time_each(executor: Executor, tasks: Sequence[Task[Any]]) -> list[float]:
    """Seconds between the end of one and of the next, the first from the beginning."""
    ends = [time.perf_counter()]
    futures = [future for task in tasks for future in executor.submit(task)]
    for future in futures:
        future.add_done_callback(lambda _: ends.append(time.perf_counter()))
    for future in futures:
        future.result()
    while len(ends) <= len(futures):  # whoever waits hears of the end before a callback does
        time.sleep(0.001)
    return [after - before for before, after in pairwise(ends)]


def measure(folder: Path, rounds: int) -> Measured:
    assert isinstance(RUN.benchmark, AdaptationBenchmark)
    given = RUN.benchmark.adaptation
    cells = [Cell(network, method, rank, "shift") for network in NETWORKS for method, rank in METHODS]
    began = time.perf_counter()
    with started(folder, 2) as executor:
        start = time.perf_counter() - began
        time_tasks(executor, EMPTY)
        empty = time_tasks(executor, EMPTY)
        began = time.perf_counter()
        trainings = executor.submit(*(Task(train, (name, "shift", given.plan, None)) for name in NETWORKS))
        networks: list[TrainedNetwork] = [future.result().result for future in trainings]
        training = time.perf_counter() - began
    tasks: list[Task[Any]] = [
        Task(do_update, (update, given.plan, None), files=(networks[NETWORKS.index(update.architecture)].name,))
        for cell in cells
        for update in updates(cell, given)
    ]
    took: dict[int, list[float]] = {1: [], 2: []}
    alone: list[float] = []
    for number in (1, 2) * rounds:
        with started(folder, number) as executor:
            for network in networks:
                executor.share(network.name, network.content)
            each = time_each(executor, tasks)
        took[number].append(sum(each))
        alone += each if number == 1 else []
        print(f"{number} node(s): {took[number][-1]:.1f} s for {len(tasks)} updates", file=sys.stderr, flush=True)
    with closing(LocalProcesses(2, RUN.benchmark.wall(RUN))) as local:
        here = time_tasks(local, EMPTY)
    sizes = [len(network.content) for network in networks]
    return Measured(took[1], took[2], alone, start, training, empty / len(EMPTY), here / len(EMPTY), sizes)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.studies.cluster_speed", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True, dest="command")
    measuring = commands.add_parser("measure")
    measuring.add_argument("--output", type=Path, required=True)
    measuring.add_argument("--rounds", type=int, default=2, help="of one node and two; default: %(default)s")
    commands.add_parser("simulate").add_argument("measured", type=Path)
    given = parser.parse_args()
    if given.command == "simulate":
        print(table(Measured(**json.loads(given.measured.read_text()))))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), given.rounds)
    given.output.write_text(json.dumps(asdict(found), indent=1))
    print(f"load {os.getloadavg()[0]:.1f}; {json.dumps(asdict(found))}")
    print(f"two nodes against one: {median(found.one_node) / median(found.two_nodes):.2f} times the throughput")
    return 0


if __name__ == "__main__":
    sys.exit(main())
