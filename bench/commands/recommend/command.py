"""Which method and rank fit a device, in order, and what keeps the others out.

    update-bench recommend --memory 64MB [--flops 2G] [--latency 0.8] [--flash 512KB] [--accuracy 0.7] …
    update-bench recommend --device raspberry-pi-4-1gb --architectures mobilenet_v2,mypackage.models:build

Costs come from a baseline where it has the cell under the same workload, and are computed otherwise; latency is then
not known. Accuracy is the worst of the cell's tasks in a baseline of adaptation, whose workload is its own. A cell
meets no limit on what is not known of it. Peak memory is that of a step with GaLore's refresh; FLOPs and latency are
the mean step's; flash is what an update must store: the trained parameters, in float32.
The order is by accuracy where that is known of every cell that fits, and else by peak memory, or as --by says.
Exit status: 0, 1 where no cell fits, 2 for bad input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from peft_update_bench.bench import benchmarks, options
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.commands.error import CommandError
from peft_update_bench.bench.commands.recommend import devices
from peft_update_bench.bench.commands.recommend.budget import Answer, Costs, Limit, answer, show_figure
from peft_update_bench.bench.commands.recommend.quantities import (
    QuantityError,
    parse_accuracy,
    parse_bytes,
    parse_flops,
    parse_ratio,
)
from peft_update_bench.bench.gate import baseline
from peft_update_bench.bench.gate.baseline import Baseline, BaselineError
from peft_update_bench.bench.metrics import budgets
from peft_update_bench.bench.options import OptionError, RunOptions
from peft_update_bench.bench.record import WorkloadEntry
from peft_update_bench.bench.units import count
from pytest_benchmark.utils import get_machine_id
from tabulate import tabulate

PARSERS: dict[str, Callable[[str], float]] = {
    "bytes": parse_bytes, "FLOPs": parse_flops, "ratio": parse_ratio, "accuracy": parse_accuracy,
}  # fmt: skip
OPTIONS = {
    "matrix": "core or full; default: core",
    "architectures": "comma-separated; MODULE:NAME for one's own; default: the matrix's",
    "methods": "comma-separated; MODULE:NAME for one's own; default: all",
    "ranks": "comma-separated; default: the matrix's",
    "batch_size": "images in a batch; default: 1",
    "image_size": "pixels; default: 224",
}


@dataclass(frozen=True)
class Collected:
    """Every cell's costs, where they come from, and what could not be computed."""

    costs: list[Costs]
    from_baseline: int
    failures: dict[Cell, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for budget in budgets().values():
        parser.add_argument(f"--{budget.name}", metavar=budget.example, help=budget.help)
    parser.add_argument("--device", metavar="NAME", help=f"a device's limits: {', '.join(devices.names())}")
    for name, meaning in OPTIONS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", help=meaning)
    parser.add_argument("--by", choices=list(budgets()), help="the order; default: accuracy where known, else memory")
    parser.add_argument("--baseline", metavar="PATH", help="where costs come from; default: the newest")
    parser.add_argument("--adaptation", metavar="PATH", help="where accuracy comes from; default: the newest")


def run(given: argparse.Namespace) -> int:
    """Print the answer, as Markdown; 1 where no cell fits. Raises CommandError for bad input."""
    device = devices.named(given.device) if given.device else None
    limits = _limits(given, device)
    run = _options(given)
    project = options.read_project(Path.cwd())
    known = _baseline(given.baseline, project.baselines_of(benchmarks.DEFAULT))
    adapted = _baseline(given.adaptation, project.baselines_of("adaptation"))
    collected = _collect(run, known, adapted)
    found = answer(collected.costs, limits, given.by)
    lines = [f"Budget: {', '.join(map(str, limits))}."]
    if device is not None:
        lines.append(f"{device.name}: {device.source}. Assumed: {device.assumed}.")
    lines += [_conditions(run, known, adapted, collected), *_told(found, collected.failures)]
    print("\n\n".join(lines))
    return 0 if found.feasible else 1


def _limits(given: argparse.Namespace, device: devices.Device | None) -> list[Limit]:
    """The device's limits, and those given, which count before the device's."""
    chosen = {limit.name: limit for limit in (device.limits if device else ())}
    for name, budget in budgets().items():
        text = getattr(given, name)
        if text is not None:
            try:
                chosen[name] = Limit(budget, PARSERS[budget.quantity](text))
            except QuantityError as error:
                raise CommandError(f"--{name}: {error}") from None
    if not chosen:
        raise CommandError("no budget is given; expected at least one of --memory, --flops, --latency, --flash, "
                           "--accuracy or --device, such as --memory 64MB")  # fmt: skip
    return list(chosen.values())


def _options(given: argparse.Namespace) -> RunOptions:
    words = {name: getattr(given, name) for name in OPTIONS}
    try:
        return options.read({**words, "metrics": "flops,memory"}, {})
    except OptionError as error:
        raise CommandError(str(error)) from None


def _baseline(path: str | None, storage: Path) -> Baseline | None:
    if path is None and not list(storage.glob("[0-9][0-9][0-9][0-9]_*.json")):
        return None
    try:
        return baseline.read(Path(path) if path else baseline.find(storage, None, get_machine_id()))
    except BaselineError as error:
        raise CommandError(str(error)) from None


def _collect(run: RunOptions, known: Baseline | None, adapted: Baseline | None) -> Collected:
    """Each cell's costs, from `known` where it holds them, computed otherwise; progress goes to stderr.

    Accuracies come from `adapted`.
    """
    # What takes seconds to import is not needed before something is computed, or for --help.
    from peft_update_bench.bench.measurement import FAILURES, measure
    from peft_update_bench.bench.processes.cell_process import CellProcess

    workload = WorkloadEntry(**run.workload.as_record())
    cells = run.selection.cells()
    records = adapted.records.items() if adapted else ()
    adaptations = {cell: [r for c, r in records if replace(c, task=None) == cell] for cell in cells}
    recorded = {cell: known.records.get(cell) for cell in cells} if known else {}
    found = {
        cell: costs
        for cell, record in recorded.items()
        if record and record.workload == workload and (costs := Costs.of(record, adaptations[cell]))
    }
    missing = [cell for cell in cells if cell not in found]
    failures: dict[Cell, str] = {}
    with closing(CellProcess(run.cell_seconds, FAILURES)) as process:
        for number, cell in enumerate(missing, 1):
            print(f"[{number}/{len(missing)}] computing {cell}", file=sys.stderr, flush=True)
            try:
                costs = Costs.of(measure(cell, run, process).record, adaptations[cell])
            except FAILURES as error:
                failures[cell] = str(error).splitlines()[0]
                continue
            assert costs is not None
            found[cell] = costs
    return Collected([found[cell] for cell in cells if cell in found], len(cells) - len(missing), failures)


def _conditions(run: RunOptions, known: Baseline | None, adapted: Baseline | None, collected: Collected) -> str:
    workload = run.workload
    size = workload.image_size
    parts = [
        f"Workload: batch {workload.batch_size}, 3×{size}×{size}, {workload.num_classes} classes, "
        f"{workload.optimizer}, {workload.dtype}."
    ]
    if known is not None and collected.from_baseline:
        timed = any(costs.figure("latency") is not None for costs in collected.costs)
        clock = "; latency is of its machine, another's ratio is only roughly the same" if timed else ""
        parts.append(f"{count(collected.from_baseline, 'cell')} from {known.name}{clock}.")
    computed = len(collected.costs) - collected.from_baseline
    if computed:
        parts.append(f"{count(computed, 'cell')} computed now, with latency not known.")
    if adapted is not None and any(costs.figure("accuracy") is not None for costs in collected.costs):
        settings = next(iter(adapted.records.values())).workload
        assert isinstance(settings, WorkloadEntry), "only networks of the matrix are adapted"
        parts.append(
            f"Accuracy from {adapted.path.parent.name}/{adapted.name}, the worse of its tasks, "
            f"batch {settings.batch_size}, 3×{settings.image_size}×{settings.image_size}."
        )
    return " ".join(parts)


def _told(found: Answer, failures: dict[Cell, str]) -> list[str]:
    parts = []
    if found.feasible:
        by = budgets()[found.by]
        order = f"{'best' if by.at_least else 'lowest'} {by.words} first"
        parts.append(f"{count(len(found.feasible), 'cell')} within the budget, {order}:")
        parts.append(_table(found.feasible, lambda costs: _used(found, costs), "tightest limit"))
        if found.by != "accuracy":
            parts.append("The order says what an update costs, not how well it adapts.")
    else:
        parts.append("No cell fits.")
    if found.left_out:
        nearest = found.left_out[0]
        name = "Next best" if found.feasible else "Nearest"
        parts.append(f"{name}: {nearest.cell} would need {_needs(found, nearest)}.")
        parts.append(f"{count(len(found.left_out), 'cell')} left out, the nearest first:")
        parts.append(_table(found.left_out, lambda costs: _needs(found, costs), "would need"))
    parts += [f"Not computed: {cell}: {reason}" for cell, reason in failures.items()]
    return parts


def _table(rows: Sequence[Costs], last: Callable[[Costs], str], title: str) -> str:
    shown = [b for b in budgets().values() if any(costs.figure(b.name) is not None for costs in rows)]
    body = [[str(c.cell), *(show_figure(b, c.figure(b.name)) for b in shown), last(c)] for c in rows]
    return tabulate(body, ["cell", *(b.words for b in shown), title], tablefmt="github", disable_numparse=True)


def _used(found: Answer, costs: Costs) -> str:
    limit = found.tightest(costs)
    return f"{limit.budget.words}, {limit.used(costs):.0%} of it"


def _needs(found: Answer, costs: Costs) -> str:
    return "; ".join(limit.shortfall(costs) for limit in found.binding(costs))
