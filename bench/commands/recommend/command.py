"""Which method and rank fit a device, in order, and what keeps the others out.

    update-bench recommend --memory 64MB [--flops 2G] [--latency 0.8] [--flash 512KB] [--accuracy 0.7] …
    update-bench recommend --device raspberry-pi-4-1gb --architectures mobilenet_v2,mypackage.models:build

Costs come from a baseline where it has the cell under the same workload, and are computed otherwise; latency is then
not known. Accuracy is the worst of the cell's tasks in a baseline of adaptation, whose workload is its own;
instructions are those of a baseline that counted them. A cell meets no limit on what is not known of it. Peak memory is
that of a step with GaLore's refresh, frozen weights included; FLOPs and latency are the mean step's; flash is what an
update must store: trained parameters and the batch norm's statistics that moved, in float32.

The order is by accuracy where that is known of every cell that fits, and else by peak memory, or as --by says.
Accuracies that seeds alone may set apart share a place, and what stores less comes first. Where nothing fits, smaller
images are tried.

Exit status: 0, 1 where no cell fits, 2 for bad input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from peft_update_bench.bench import benchmarks, options, terminal
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.command_error import CommandError
from peft_update_bench.bench.commands.recommend import accuracy, devices
from peft_update_bench.bench.commands.recommend.budget import Answer, Costs, Limit, answer
from peft_update_bench.bench.commands.recommend.quantities import (
    QuantityError,
    parse_accuracy,
    parse_bytes,
    parse_flops,
    parse_ratio,
)
from peft_update_bench.bench.commands.recommend.smaller import Smaller, find_smaller
from peft_update_bench.bench.commands.recommend.words import ROWS, Tables, paragraphs
from peft_update_bench.bench.gate import baseline, baseline_file
from peft_update_bench.bench.gate.baseline import Baseline
from peft_update_bench.bench.metrics import budgets
from peft_update_bench.bench.options import RunOptions
from peft_update_bench.bench.record import WorkloadEntry
from peft_update_bench.bench.units import count
from pytest_benchmark.utils import get_machine_id

PARSERS: dict[str, Callable[[str], float]] = {
    "bytes": parse_bytes, "FLOPs": parse_flops, "ratio": parse_ratio, "accuracy": parse_accuracy,
}  # fmt: skip
OPTIONS = {
    "matrix": "core, full, peft, wide or subset; default: core",
    "architectures": "comma-separated; MODULE:NAME for one's own; default: the matrix's",
    "methods": "comma-separated; MODULE:NAME for one's own; default: the matrix's",
    "ranks": "comma-separated; default: the matrix's",
    "batch_size": "images in a batch, or several numbers of them, comma-separated; default: 1",
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
    parser.add_argument("--rows", type=_rows, default=ROWS, metavar="N", help=f"of each table; default: {ROWS}")
    parser.add_argument("--baseline", metavar="PATH", help="where costs come from; default: the newest")
    parser.add_argument("--adaptation", metavar="PATH", help="where accuracy comes from; default: the newest")
    parser.add_argument("--instructions", metavar="PATH", help="where instructions come from; default: the newest")


def _rows(word: str) -> int:
    if not word.isascii() or not word.isdigit() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"given {word!r}, expected a whole number of at least 1")
    return int(word)


def run(given: argparse.Namespace) -> int:
    """Print the answer, piped as Markdown; 1 where no cell fits. Raises CommandError for bad input."""
    device = devices.named(given.device) if given.device is not None else None
    limits = _limits(given, device)
    words = {name: getattr(given, name) for name in OPTIONS}
    run = options.read({**words, "metrics": "flops,memory"}, {})
    project = options.read_project(Path.cwd())
    known = _baseline(given.baseline, project.baselines_of(benchmarks.DEFAULT))
    adapted = _baseline(given.adaptation, project.baselines_of("adaptation"), "adaptation")
    counted = _baseline(given.instructions, project.baselines_of("instructions"), "instructions")
    collected = _collect(run, known, adapted, counted)
    found = answer(collected.costs, limits, given.by, accuracy.alike(adapted) if adapted else 0.0)
    smaller = [] if found.feasible else _find_smaller(found, run)
    characters = terminal.width(sys.stdout.isatty())
    tables = Tables(given.rows, accuracy.measured_on(adapted) if adapted else "", characters)
    lines = [f"Budget: {', '.join(map(str, limits))}."]
    if device is not None:
        lines.append(f"{device.name}: {device.source}. Assumed: {device.assumed}.")
    lines.append(_conditions(run, known, adapted, collected))
    lines += paragraphs(found, tables, smaller, collected.failures)
    print("\n\n".join(terminal.wrap(line, characters) for line in lines))
    return 0 if found.feasible else 1


def _limits(given: argparse.Namespace, device: devices.Device | None) -> list[Limit]:
    """The device's limits, and those given, which count before the device's."""
    chosen = {limit.name: limit for limit in (device.limits if device else ())}
    for name, budget in budgets().items():
        text = getattr(given, name)
        if text is not None:
            try:
                chosen[name] = Limit(budget, PARSERS[budget.quantity](text), " ".join(text.split()))
            except QuantityError as error:
                raise CommandError(f"--{name}: {error}") from None
    if not chosen:
        raise CommandError("no budget is given; expected at least one of --memory, --flops, --latency, --flash, "
                           "--accuracy or --device, such as --memory 64MB")  # fmt: skip
    return list(chosen.values())


def _baseline(path: str | None, storage: Path, section: str = "") -> Baseline | None:
    """The file at `path`, or the newest in `storage`; None where there is none.

    Raises CommandError where a `section` is named that the file has of no cell: it would be passed over.
    """
    if path is None and not baseline_file.numbered(storage):
        return None
    found = baseline.read(Path(path) if path else baseline_file.find(storage, None, get_machine_id()))
    if section and not any(getattr(record, section) for record in found.records.values()):
        raise CommandError(
            f"--{section} is {str(found.path)!r}, which has no {section} of any cell; expected a baseline of --metrics "
            f"{section}"
        )
    return found


def _collect(run: RunOptions, known: Baseline | None, adapted: Baseline | None, counted: Baseline | None) -> Collected:
    """Each cell's costs, from `known` where it holds them, computed otherwise; progress goes to stderr.

    Accuracies come from `adapted`, instructions from `counted` where its workload is the run's.
    """
    # What takes seconds to import is not needed before something is computed, or for --help.
    from peft_update_bench.bench.measuring.measurement import FAILURES, measure
    from peft_update_bench.bench.processes.cell_process import CellProcess

    cells = run.selection.cells()
    workloads = {cell: WorkloadEntry(**run.of(cell).workload.as_record()) for cell in cells}
    records = adapted.records.items() if adapted else ()
    # An update is adapted at a batch size of its own, whatever the cell's.
    adaptations = {
        cell: [r for c, r in records if replace(c, task=None) == replace(cell, batch_size=None)] for cell in cells
    }
    of_counts = counted.records if counted else {}
    counts = {cell: record for cell, record in of_counts.items() if record.workload == workloads.get(cell)}
    recorded = {cell: known.records.get(cell) for cell in cells} if known else {}
    found = {
        cell: costs
        for cell, record in recorded.items()
        if record
        and record.workload == workloads[cell]
        and (costs := Costs.of(record, adaptations[cell], counts.get(cell)))
    }
    missing = [cell for cell in cells if cell not in found]
    failures: dict[Cell, str] = {}
    with closing(CellProcess(run.cell_seconds, FAILURES)) as process:
        for number, cell in enumerate(missing, 1):
            print(f"[{number}/{len(missing)}] computing {cell}", file=sys.stderr, flush=True)
            try:
                costs = Costs.of(measure(cell, run, process).record, adaptations[cell], counts.get(cell))
            except FAILURES as error:
                failures[cell] = str(error).splitlines()[0]
                continue
            assert costs is not None
            found[cell] = costs
    return Collected([found[cell] for cell in cells if cell in found], len(cells) - len(missing), failures)


def _find_smaller(found: Answer, run: RunOptions) -> list[Smaller]:
    """What smaller images come to, where nothing fits; progress goes to stderr."""
    from peft_update_bench.bench.measuring.measurement import FAILURES, measure
    from peft_update_bench.bench.processes.cell_process import CellProcess

    with closing(CellProcess(run.cell_seconds, FAILURES)) as process:

        def compute(cell: Cell, pixels: int) -> Costs | str:
            print(f"trying {cell} at {pixels}×{pixels}", file=sys.stderr, flush=True)
            smaller = replace(run, workload=replace(run.workload, image_size=pixels))
            try:
                costs = Costs.of(measure(cell, smaller, process).record)
            except FAILURES as error:
                return str(error).splitlines()[0]
            assert costs is not None
            return costs

        return find_smaller(found, run.workload.image_size, compute)


def _conditions(run: RunOptions, known: Baseline | None, adapted: Baseline | None, collected: Collected) -> str:
    workload = run.workload
    size = workload.image_size
    batch = " or ".join(map(str, run.selection.batch_sizes or (workload.batch_size,)))
    parts = [
        f"Workload: batch {batch}, 3×{size}×{size}, {workload.num_classes} classes, "
        f"{workload.optimizer}, {workload.dtype}."
    ]
    if known is not None and collected.from_baseline:
        timed = any(costs.figures.get("latency") is not None for costs in collected.costs)
        clock = "; latency is of its machine, another's ratio is only roughly the same" if timed else ""
        parts.append(f"{count(collected.from_baseline, 'cell')} from {known.name}{clock}.")
    computed = len(collected.costs) - collected.from_baseline
    if computed:
        parts.append(f"{count(computed, 'cell')} computed now, with latency not known.")
    if adapted is not None and any(costs.figures.get("accuracy") is not None for costs in collected.costs):
        settings = next(iter(adapted.records.values())).workload
        assert isinstance(settings, WorkloadEntry), "only networks of the matrix are adapted"
        parts.append(
            f"Accuracy from {adapted.path.parent.name}/{adapted.name}, the worse of its tasks, "
            f"batch {settings.batch_size}, 3×{settings.image_size}×{settings.image_size}. "
            f"It is of {accuracy.measured_on(adapted)}; the costs are of {size} px."
        )
    return " ".join(parts)
