"""Two checkouts' update steps in turn, on one machine, in one run: what a pull request does to latency.

    update-bench compare-checkouts BASE HEAD [--architectures …] [--methods …] [--ranks …] [--threads N] …

BASE and HEAD are folders, each a checkout of peft-update-bench; with --steps, each a checkout of yours, whose step is
imported from it, or from its src, and built by the package that is installed here. Nothing needs to be recorded
beforehand: the base is measured beside the head, round by round, so that even an absolute slowdown shows, full
fine-tuning's included.
A slowdown that is meant is accepted by --accept REASON, and told with the reason below the table.

A base that has none of the cells fails the run too, because nothing was compared; --accept passes a head that brings
them all.

Exit status: 0, 1 where a cell regressed or nothing was compared and that was not accepted, or the head has a cell no
longer, 2 for bad input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from peft_update_bench.bench import options
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.command_error import CommandError
from peft_update_bench.bench.commands.checkout_client import RemoteClock, Worker, WorkerError
from peft_update_bench.bench.gate.grouped import cells_in_words
from peft_update_bench.bench.gate.slowdown import EARLY_SHARE, ErrorBudget, Slowdown, is_clear, judge_ratio
from peft_update_bench.bench.options import RunOptions
from peft_update_bench.bench.options.values import fraction
from peft_update_bench.fixtures.instruments.latency.clock import Duration
from peft_update_bench.fixtures.instruments.latency.paired import (
    DECIDING_LIMITS,
    DEFAULT_LIMITS,
    SamplingLimits,
    Until,
    sample_refreshes,
    sample_rounds,
    warm_up,
)
from peft_update_bench.fixtures.instruments.latency.rounds import Rounds
from peft_update_bench.fixtures.workload import Workload
from tabulate import tabulate

FAILING = frozenset({"regressed", "missing", "broken"})

OPTIONS = {
    "matrix": "core, full, peft, wide or subset; default: core",
    "steps": "comma-separated MODULE:NAME of update steps of one's own",
    "architectures": "comma-separated; MODULE:NAME for one's own; default: the matrix's",
    "methods": "comma-separated; MODULE:NAME for one's own; default: the matrix's",
    "ranks": "comma-separated; default: the matrix's",
    "batch_size": "images in a batch, or several numbers of them, comma-separated; default: 1",
    "image_size": "pixels; default: 224",
    "threads": "threads within an operator; default: 1",
    "unstable": "fail or warn (default) where a latency stayed too noisy to judge",
}

METRICS_PER_CELL = 3
"""CPU time, wall clock, and the refreshing step of a cell that has one."""

# A refreshing step may take seconds, and a handful of them has a wide interval.
SCREENING = replace(DEFAULT_LIMITS, max_refreshes=20, refresh_budget_seconds=20)
DECIDING = replace(DECIDING_LIMITS, max_refreshes=40, refresh_budget_seconds=40)

KINDS_BY_GRAVITY = ("broken", "missing", "regressed", "unstable", "improved", "new", "ok")


@dataclass
class Comparison:
    """One cell in both checkouts. `slowdowns` are by what was compared; `note` says why a checkout cannot run it."""

    cell: Cell
    slowdowns: dict[str, Slowdown] = field(default_factory=dict)
    base_ms: float | None = None
    head_ms: float | None = None
    rounds: int = 0
    presence: str = "ok"
    note: str = ""

    @property
    def kind(self) -> str:
        kinds = {self.presence, *(slowdown.kind for slowdown in self.slowdowns.values())}
        return min(kinds, key=KINDS_BY_GRAVITY.index)

    @property
    def is_doubtful(self) -> bool:
        """Whether it is worth a second measurement."""
        return any(slowdown.suspected or slowdown.kind == "unstable" for slowdown in self.slowdowns.values())


def compare_cell(
    base: Path, head: Path, cell: Cell, workload: Workload, tolerance: float, budget: ErrorBudget
) -> Comparison:
    """Measure `cell` in both checkouts in turn; where a slowdown is suspected or nothing can be said, once more, longer
    and in fresh processes, and that decides.

    The cells of a run that are measured again share `budget`.
    """
    comparison = _measure(base, head, cell, workload, tolerance, budget.rate, decides=False)
    if not comparison.is_doubtful:
        return comparison
    comparison = _measure(base, head, cell, workload, tolerance, budget.rate, decides=True)
    budget.spend(found_slower=comparison.kind == "regressed")
    return comparison


def _measure(
    base: Path, head: Path, cell: Cell, workload: Workload, tolerance: float, rate: float, *, decides: bool
) -> Comparison:
    """One measurement. One that `decides` is long, unless its outcome is clear early."""
    limits = replace(DECIDING if decides else SCREENING, tolerance=tolerance)

    def is_clear_by_now(rounds: Rounds) -> bool:
        return is_clear(_judge(rounds, limits, tolerance, EARLY_SHARE * rate).values())

    with Worker(base, cell, workload) as base_worker, Worker(head, cell, workload) as head_worker:
        reasons = {}
        for name, worker in (("base", base_worker), ("head", head_worker)):
            try:
                worker.start()
            except WorkerError as error:
                reasons[name] = str(error)
        if reasons:
            presence = "broken" if len(reasons) == 2 else "new" if "base" in reasons else "missing"
            note = "; ".join(f"the {name} cannot run it: {reason}" for name, reason in reasons.items())
            return Comparison(cell, presence=presence, note=note)
        try:
            until = is_clear_by_now if decides else None
            rounds, refreshes = _sample(base_worker, head_worker, limits, until)
        except WorkerError as error:
            return Comparison(cell, presence="broken", note=f"ended within the measurement: {error}")
    slowdowns = _judge(rounds, limits, tolerance, rate)
    if refreshes is not None:
        slowdowns["refresh"] = judge_ratio(refreshes.cpu(limits.confidence), tolerance=tolerance, error_rate=rate)
    return Comparison(cell, slowdowns, _ms(rounds.reference), _ms(rounds.step), len(rounds))


def _sample(base: Worker, head: Worker, limits: SamplingLimits, until: Until | None) -> tuple[Rounds, Rounds | None]:
    """Ordinary rounds, and rounds of refreshing steps where both have them."""
    clock = RemoteClock()
    warm_up(head.update, base.update, limits)
    refreshes = None
    if base.period and head.period:
        refreshes = sample_refreshes(head.refresh, base.refresh, limits, clock)
    return sample_rounds(head.update, base.update, limits, clock, until=until), refreshes


def _judge(rounds: Rounds, limits: SamplingLimits, tolerance: float, rate: float) -> dict[str, Slowdown]:
    """By each clock."""
    ratios = {"CPU time": rounds.cpu(limits.confidence), "wall clock": rounds.wall(limits.confidence)}
    return {name: judge_ratio(ratio, tolerance=tolerance, error_rate=rate) for name, ratio in ratios.items()}


def _ms(durations: Sequence[Duration]) -> float:
    return median(duration.wall for duration in durations) / 1e6


def table(comparisons: Iterable[Comparison]) -> str:
    """The comparisons in Markdown: medians in milliseconds, changes with their intervals over the whole run."""
    rows = []
    for comparison in comparisons:
        changes = [_show(comparison.slowdowns.get(name)) for name in ("CPU time", "wall clock", "refresh")]
        times = [f"{ms:.1f}" if ms is not None else "" for ms in (comparison.base_ms, comparison.head_ms)]
        verdict = f"{comparison.kind}: {comparison.note}" if comparison.note else comparison.kind
        rows.append([str(comparison.cell), *times, *changes, comparison.rounds or "", verdict])
    headers = ["cell", "base, ms", "head, ms", "CPU time", "wall clock", "refresh", "rounds", "verdict"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _show(slowdown: Slowdown | None) -> str:
    if slowdown is None:
        return ""
    return f"{slowdown.change:+.1%} ({slowdown.low:+.1%} to {slowdown.high:+.1%})"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("base", metavar="BASE", help="the folder of the checkout to compare with")
    parser.add_argument("head", metavar="HEAD", help="the folder of the checkout to judge")
    for name, meaning in OPTIONS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", help=meaning)
    parser.add_argument(
        "--tolerance", default="0.10", help="the slowdown that is tolerated, a fraction; default: %(default)s"
    )
    parser.add_argument(
        "--accept",
        metavar="REASON",
        help="do not fail for a slowdown, or where the base has no cell, because it is meant: why",
    )


def run(given: argparse.Namespace) -> int:
    """Compare, print the table, return the exit status. Raises CommandError for bad input."""
    base, head, run = _read(given)
    cells = run.selection.cells()
    comparisons: list[Comparison] = []
    budget = ErrorBudget(METRICS_PER_CELL)
    for cell in cells:
        comparison = compare_cell(base, head, cell, run.of(cell).workload, run.tolerances["latency"], budget)
        comparisons.append(comparison)
        print(f"{cell}: {comparison.kind}", file=sys.stderr, flush=True)
    print(table(comparisons))
    failing = FAILING | {"unstable"} if run.unstable == "fail" else FAILING
    if _is_nothing_compared(comparisons):
        failing |= {"new"}
        print(
            f"\nNothing was compared, because {given.base} lacks every cell: {comparisons[0].note}; expected a base "
            "that has one of them, or --accept REASON where the head brings them all"
        )
    if given.accept is not None:
        print(f"\n{_accepted(comparisons, given.accept)}")
        failing -= {"regressed", "new"}
    return int(any(comparison.kind in failing for comparison in comparisons))


def _is_nothing_compared(comparisons: Iterable[Comparison]) -> bool:
    """Whether a run has found out nothing, so that no gate should take it for one that found nothing slower."""
    return all(comparison.kind == "new" for comparison in comparisons)


def _accepted(comparisons: Iterable[Comparison], reason: str) -> str:
    """What was accepted and why, for who reads the summary later."""
    slower = [comparison.cell for comparison in comparisons if comparison.kind == "regressed"]
    if _is_nothing_compared(comparisons):
        return f"Accepted, because it is meant: nothing was compared. Reason: {reason}"
    if not slower:
        return f"No cell regressed, so nothing was accepted ({reason})."
    return f"Accepted, because it is meant: {cells_in_words(slower)} regressed. Reason: {reason}"


def _read(given: argparse.Namespace) -> tuple[Path, Path, RunOptions]:
    words = {name: getattr(given, name) for name in OPTIONS}
    if given.accept is not None:
        # One line that can be printed, whatever was typed: it stands in a summary.
        given.accept = " ".join(given.accept.encode(errors="replace").decode().split())
        if not given.accept:
            raise CommandError("--accept is empty; expected why the slowdown is meant")
    base, head = (_checkout(folder, is_ours=given.steps is None) for folder in (given.base, given.head))
    if given.steps is not None:
        # A name is looked up where the step will be, which need not be the current folder.
        sys.path[:0] = [str(checkout / below) for checkout in (head, base) for below in ("", "src")]
    tolerance = fraction("--tolerance", given.tolerance)
    return base, head, options.read(words, options.tolerances({}, [f"latency={tolerance}"]))


def _checkout(folder: str, *, is_ours: bool) -> Path:
    path = Path(folder).resolve()
    if not is_ours:
        if not path.is_dir():
            raise CommandError(f"{folder} is no folder; expected a checkout of the repository whose step is named")
        return path
    if not (path / "fixtures" / "update_step.py").is_file():
        raise CommandError(
            f"{folder} is no checkout of peft-update-bench: it has no fixtures/update_step.py; for checkouts of a "
            "repository of yours name its update steps: --steps MODULE:NAME"
        )
    return path
