"""How far the same update is apart on networks that rounding has made different.

    python -m tests.studies.network_spread

Another machine rounds otherwise, and what it trains on the source data is another network. What that does to accuracies
after an update is measured here with networks whose training differs by as much: by a learning rate that is 1e-7 of
itself higher, the last digit of float32. Prints, in Markdown, the standard deviation between networks, that between
seeds of the update (from the committed baseline), and what of the first the second does not explain:
``BETWEEN_NETWORKS`` in ``bench/gate/adapting.py`` allows for it.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from statistics import fmean, variance

from peft_update_bench.bench import options
from peft_update_bench.bench.benchmarks.adaptation import AdaptationBenchmark
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate import baseline, baseline_file
from peft_update_bench.bench.measuring.adaptation import updates
from peft_update_bench.bench.options import RunOptions
from peft_update_bench.bench.processes.local_processes import LocalProcesses
from peft_update_bench.bench.processes.update_runs import UpdateRuns
from peft_update_bench.bench.record import Adaptation, AdaptationRun
from peft_update_bench.fixtures.training.adaptation import Outcome
from tabulate import tabulate

from tests.sabotage.judged import REPOSITORY

ARCHITECTURES = "mobilenet_v2,mobilenet_v3_small"
LAST_DIGIT = 1e-7
"""Of a float32, as a fraction."""
AFTER: dict[str, Callable[[Outcome | AdaptationRun], float]] = {
    "target": lambda found: found.curve[-1],
    "source": lambda found: found.source_accuracy_after,
}
"""Accuracies after an update."""
HEADERS = ("network", "task", "accuracy on", "between networks", "between seeds", "unexplained by seeds")


def outcomes(run: RunOptions, number: int) -> dict[Cell, Outcome]:
    """One update of each cell, of networks whose training differs in the last digit from those of another `number`."""
    assert isinstance(run.benchmark, AdaptationBenchmark)
    given = run.benchmark.adaptation
    training = given.plan.source_training
    training = replace(training, peak_learning_rate=training.peak_learning_rate * (1 + number * LAST_DIGIT))
    plan = replace(given.plan, source_training=training)
    wanted = {cell: updates(cell, given)[0] for cell in run.selection.cells()}
    start = partial(LocalProcesses, given.workers, run.benchmark.wall(run))
    with UpdateRuns(list(wanted.values()), plan, given.cache_folder, start) as runs:
        found = runs.outcomes(list(wanted.values()))
    runs.forget()
    return dict(zip(wanted, found, strict=True))


def pooled(groups: Iterable[list[float]]) -> float:
    return fmean(variance(group) for group in groups)


def row(
    network: str, task: str, data: str, networks: list[list[float]], seeds: list[list[float]]
) -> tuple[tuple[str, ...], float]:
    """A line of the table, and the variance that seeds do not explain."""
    between, within = pooled(networks), pooled(seeds)
    unexplained = between - within
    shown = (f"{100 * math.sqrt(max(0.0, value)):.1f}" for value in (between, within, unexplained))
    return (network, task, data, *shown), unexplained


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.studies.network_spread", description=__doc__.split("\n")[0])
    parser.add_argument("--architectures", default=ARCHITECTURES, help="default: %(default)s")
    parser.add_argument("--networks", type=int, default=4, help="trained for each architecture and task; default: 4")
    given = parser.parse_args()
    if given.networks < 2:
        parser.error(f"--networks is {given.networks}; expected at least 2, whose spread is looked at")
    run = options.read({"metrics": AdaptationBenchmark.name, "architectures": given.architectures, "ranks": "4"}, {})
    by_network = []
    for number in range(given.networks):
        print(f"network {number + 1} of {given.networks}", file=sys.stderr, flush=True)
        by_network.append(outcomes(run, number))
    committed = baseline.read(baseline_file.find(run.baseline_folder(REPOSITORY / "baselines"), None, "no machine"))
    rows, unexplained = [], []
    for network in run.selection.architectures or ():
        for task in run.selection.tasks:
            cells = [cell for cell in by_network[0] if (cell.architecture, cell.task) == (network, task)]
            known = [found for cell in cells if (found := _adaptation(committed, cell))]
            for data, after in AFTER.items():
                networks = [[after(found[cell]) for found in by_network] for cell in cells]
                seeds = [[after(one) for one in found.runs] for found in known]
                line, rest = row(network, task, data, networks, seeds)
                rows.append(line)
                unexplained.append(rest)
    print(tabulate(rows, HEADERS, tablefmt="pipe", disable_numparse=True))
    together = 100 * math.sqrt(max(0.0, fmean(unexplained)))
    print(f"\nStandard deviations in points; {given.networks} networks. Unexplained, all together: {together:.1f}.")
    return 0


def _adaptation(committed: baseline.Baseline, cell: Cell) -> Adaptation | None:
    record = committed.records.get(cell)
    return record.adaptation if record else None


if __name__ == "__main__":
    sys.exit(main())
