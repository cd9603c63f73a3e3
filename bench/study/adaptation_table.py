"""The adaptation baseline as tables, beside what the study says: ``python -m bench adaptation``.

The study's statements are quoted from secondary summaries of its text (arXiv 2507.23536).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev

from peft_update_bench.bench import metrics
from peft_update_bench.bench.commands.error import CommandError
from peft_update_bench.bench.gate import baseline
from peft_update_bench.bench.gate.baseline import BaselineError
from peft_update_bench.bench.record import Adaptation, Record
from tabulate import tabulate

FOLDER = Path("baselines") / "adaptation"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("baseline", nargs="?", type=Path, help=f"default: the newest in {FOLDER}")


def run(given: argparse.Namespace) -> int:
    """Print the tables as Markdown. Raises CommandError."""
    try:
        path = given.baseline or baseline.find(FOLDER, None, "")
        read = baseline.read(path)
    except BaselineError as error:
        raise CommandError(f"{error} (with --metrics adaptation)") from None
    records = [record for record in read.records.values() if record.adaptation]
    if not records:
        raise CommandError(f"{path}: holds no adaptation; expected a baseline of --metrics adaptation")
    print(report(records))
    return 0


def report(records: Sequence[Record]) -> str:
    """What the records hold, cell by cell, then the study's statements with what was found."""
    brief = [(row, row.figure.brief) for row in metrics.rows(("adaptation",)) if row.figure.brief]
    cells = [[str(record.cell), *(row.entry(record, column)[1] for row, column in brief)] for record in records]
    headers = ["cell", *(column.title for _, column in brief)]
    table = tabulate(cells, headers, tablefmt="pipe", disable_numparse=True)
    found = [[statement, find(records)] for statement, find in STATEMENTS]
    return f"{table}\n\n{tabulate(found, ['the study', 'found here'], tablefmt='pipe', disable_numparse=True)}"


def _adaptations(records: Iterable[Record], method: str, task: str | None = None) -> list[tuple[str, Adaptation]]:
    return [
        (record.architecture, record.adaptation)
        for record in records
        if record.adaptation and record.method == method and task in (None, record.adaptation.task)
    ]


def _steadiest(records: Sequence[Record]) -> str:
    """Steady: how far accuracies after the update scatter over architectures, ranks, tasks and seeds."""
    scatter = {}
    for method in dict.fromkeys(record.method for record in records):
        after = [run.curve[-1] for _, adapted in _adaptations(records, method) for run in adapted.runs]
        if len(after) > 1:
            scatter[method] = stdev(after)
    if "galore" not in scatter:
        return _UNKNOWN
    ranked = sorted(scatter, key=lambda method: scatter[method])
    words = ", ".join(f"{method} {100 * scatter[method]:.1f}" for method in ranked)
    verdict = "agrees" if ranked[0] == "galore" else f"does not agree: {ranked[0]} is steadiest"
    return f"{verdict} (standard deviation of accuracy after, points: {words})"


def _apart(records: Sequence[Record]) -> str:
    gaps = [
        abs(lora.adaptation.accuracy_after - dora.adaptation.accuracy_after)
        for lora in records
        for dora in records
        if lora.adaptation and dora.adaptation and (lora.method, dora.method) == ("lora", "dora")
        if lora.architecture.startswith("mobilenet") and lora.architecture == dora.architecture
        if (lora.rank, lora.adaptation.task) == (dora.rank, dora.adaptation.task)
    ]
    if not gaps:
        return _UNKNOWN
    return f"up to {100 * max(gaps):.1f} points apart, {100 * fmean(gaps):.1f} on average over {len(gaps)} pairs"


def _behind(records: Sequence[Record]) -> str:
    full = dict(_adaptations(records, "fft", "shift"))
    gaps = {
        architecture: full[architecture].accuracy_after - adapted.accuracy_after
        for architecture, adapted in _adaptations(records, "bn_head", "shift")
        if architecture in full
    }
    if not gaps:
        return _UNKNOWN
    words = ", ".join(f"{architecture} {100 * gap:.1f}" for architecture, gap in gaps.items())
    return f"points behind full fine-tuning on the shift: {words}"


def _iterations(records: Sequence[Record]) -> str:
    ratios, never = [], 0
    steps = {
        (r.architecture, r.method, r.rank, r.adaptation.task): r.adaptation.steps_to_target
        for r in records
        if r.adaptation
    }
    for (architecture, method, rank, task), lora in steps.items():
        galore = steps.get((architecture, "galore", rank, task))
        if method != "lora" or galore is None:
            continue
        if lora is None:
            never += 1
        else:
            ratios.append(lora / galore)
    if not ratios and not never:
        return _UNKNOWN
    mean = f"{fmean(ratios):.2f} times as many on average over {len(ratios)} pairs" if ratios else "in no pair both"
    return f"{mean}; in {never} more LoRA never reaches the target that GaLore reaches"


_UNKNOWN = "the baseline has no such cells"

STATEMENTS: tuple[tuple[str, Callable[[Sequence[Record]], str]], ...] = (
    ("GaLore's accuracy is the steadiest", _steadiest),
    ("LoRA and DoRA are up to 20 points apart on MobileNets", _apart),
    ("BN+H is up to 40 points behind on hard shifts", _behind),
    ("LoRA needs about twice GaLore's iterations", _iterations),
)
