"""What a cluster gains and costs: measured on this machine, and simulated for as many nodes as nobody has at hand.

    python -m tests.studies.cluster_speed measure --output measured.json   # a quarter of an hour, on idle cores
    python -m tests.studies.cluster_speed simulate measured.json

`measure` does eight updates of adaptation's subset by one node of one core and by two, and by one process of this
machine and by two, which shows what two of its cores are worth; in turn and with everything started; and 1,000 tasks
that do nothing. The figures are in bench/processes/cluster.md.
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
from peft_update_bench.bench.benchmarks.adaptation import AdaptationBenchmark
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.measuring.adaptation import updates
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


@contextmanager
def started_here(number: int) -> Iterator[Executor]:
    """As many processes of this machine."""
    with closing(LocalProcesses(number, RUN.benchmark.wall(RUN))) as executor:
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
    kept = folder / "networks"
    kept.mkdir()
    for network in networks:
        (kept / network.name).write_bytes(network.content)
    took: dict[tuple[str, int], list[float]] = {(kind, n): [] for n in (1, 2) for kind in ("node", "process")}
    alone: list[float] = []
    for (kind, number), seconds in [*took.items()] * rounds:
        on_cluster = kind == "node"
        cache = None if on_cluster else kept
        tasks: list[Task[Any]] = [
            Task(do_update, (update, given.plan, cache), files=(networks[NETWORKS.index(update.architecture)].name,))
            for cell in cells
            for update in updates(cell, given)
        ]
        with started(folder, number) if on_cluster else started_here(number) as executor:
            for network in networks:
                executor.share(network.name, network.content)
            each = time_each(executor, tasks)
        seconds.append(sum(each))
        alone += each if (kind, number) == ("node", 1) else []
        print(f"{number} {kind}: {sum(each):.1f} s for {len(tasks)} updates", file=sys.stderr, flush=True)
    with started_here(2) as executor:
        here = time_tasks(executor, EMPTY)
    return Measured(
        one_node=took["node", 1],
        two_nodes=took["node", 2],
        one_process=took["process", 1],
        two_processes=took["process", 2],
        update=alone,
        start=start,
        training=training,
        engine_task=empty / len(EMPTY),
        local_task=here / len(EMPTY),
        network_bytes=[len(network.content) for network in networks],
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.studies.cluster_speed", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True, dest="command")
    measuring = commands.add_parser("measure")
    measuring.add_argument("--output", type=Path, required=True)
    measuring.add_argument("--rounds", type=int, default=2, help="of all four; default: %(default)s")
    commands.add_parser("simulate").add_argument("measured", type=Path)
    given = parser.parse_args()
    if given.command == "simulate":
        print(table(Measured(**json.loads(given.measured.read_text()))))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), given.rounds)
    given.output.write_text(json.dumps(asdict(found), indent=1))
    print(f"load {os.getloadavg()[0]:.1f}; {json.dumps(asdict(found))}")
    for two, one, many in (
        ("two nodes", found.one_node, found.two_nodes),
        ("two processes", found.one_process, found.two_processes),
    ):
        print(f"{two} against one: {median(one) / median(many):.2f} times the throughput")
    return 0


if __name__ == "__main__":
    sys.exit(main())
