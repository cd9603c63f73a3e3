"""Whether a baseline was recorded of the workload that this run has; figures of two workloads are not compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.baseline import Baseline, BaselineError
from peft_update_bench.bench.record import AdaptationSettings, StepWorkload, WorkloadEntry
from peft_update_bench.fixtures.workload import Workload
from pydantic import BaseModel


def check_workload(baseline: Baseline, workload: WorkloadEntry, cells: Iterable[Cell]) -> None:
    """Refuse a baseline whose records of `cells` were made under another workload. Raises BaselineError."""
    for cell in cells:
        record = baseline.records.get(cell)
        if record is None or cell.is_step:
            continue
        expected = workload
        if cell.is_users:
            # Which optimizer and dtype a user's own code has is not known before it runs, where no option says it.
            usual = [name for name in ("optimizer", "dtype") if getattr(workload, name) == getattr(Workload, name)]
            expected = workload.model_copy(update={name: getattr(record.workload, name) for name in usual})
        if record.workload != expected:
            raise BaselineError(
                f"{baseline.path}: {cell} was recorded under another workload: "
                f"{differences(record.workload, expected)}; "
                "run with the baseline's workload, or name another baseline with --benchmark-compare=NUMBER"
            )


def check_step(baseline: Baseline, cell: Cell, workload: StepWorkload) -> None:
    """As :func:`check_workload`, for a user's own step, which says itself what its workload is."""
    record = baseline.records.get(cell)
    if record is not None and record.workload != workload:
        raise BaselineError(
            f"was recorded under another workload in {baseline.path}: {differences(record.workload, workload)}; "
            "figures of two workloads are not compared: if the change is meant, record a new baseline"
        )


def check_adaptation(baseline: Baseline, settings: Mapping[str, AdaptationSettings], cells: Iterable[Cell]) -> None:
    """Refuse a baseline that says nothing of adaptation, of what its seeds scatter, or of another adaptation.

    `settings` are the run's, by task. Raises BaselineError.
    """
    adaptations = {cell: record.adaptation for cell, record in baseline.records.items() if record.adaptation}
    if not adaptations:
        raise BaselineError(f"{baseline.path}: holds no adaptation; expected a baseline of --metrics adaptation")
    alone = next((cell for cell, found in adaptations.items() if len(found.runs) < 2), None)
    if alone is not None:
        raise BaselineError(
            f"{baseline.path}: {alone} was adapted with one seed; expected two or more, because the tolerance is how "
            "far seeds scatter; record another baseline with --seeds 2"
        )
    for cell in cells:
        if cell in adaptations and cell.task is not None and adaptations[cell].settings != settings[cell.task]:
            raise BaselineError(
                f"{baseline.path}: {cell} was adapted otherwise: "
                f"{differences(adaptations[cell].settings, settings[cell.task])}; "
                "run with the baseline's options, or name another baseline with --benchmark-compare=NUMBER"
            )


def differences(recorded: BaseModel, this_run: BaseModel) -> str:
    """Where two workloads or settings differ, in words; empty where they do not."""
    return "; ".join(
        f"{name} {value}, this run {getattr(this_run, name)}"
        for name, value in recorded
        if value != getattr(this_run, name)
    )
