"""Whether a baseline was recorded of the workload that this run has; figures of two workloads are not compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.baseline import Baseline, BaselineError
from peft_update_bench.bench.record import AdaptationSettings, StepWorkload, WorkloadEntry
from peft_update_bench.fixtures.workload import Workload
from pydantic import BaseModel


def check_batch_sizes(baseline: Baseline, cells: Iterable[Cell]) -> None:
    """Refuse a baseline of which every cell has another batch size in its name than all `cells`, so that none of these
    would be compared. Raises BaselineError.
    """
    now, before = ({cell.batch_size for cell in some if not cell.is_step} for some in (cells, baseline.records))
    if now and before and not now & before:
        named = ",".join(str(size) for size in sorted(size for size in before if size))
        expected = (
            f"--batch-size {named}, which this baseline has" if named else "one --batch-size, as this baseline has"
        )
        raise BaselineError(
            f"{baseline.path}: has no cell of this run's batch sizes, which stand in a cell's name where several are "
            f"listed; expected {expected}, or name another with --benchmark-compare=NUMBER"
        )


def check_workload(baseline: Baseline, workload: WorkloadEntry, cells: Iterable[Cell]) -> None:
    """Refuse a baseline whose records of `cells` were made under another workload. Raises BaselineError."""
    for cell in cells:
        record = baseline.records.get(cell)
        if record is None or cell.is_step:
            continue
        expected = workload if cell.batch_size is None else workload.model_copy(update={"batch_size": cell.batch_size})
        if cell.is_users:
            # Which optimizer and dtype a user's own code has is not known before it runs, where no option says it.
            usual = [name for name in ("optimizer", "dtype") if getattr(workload, name) == getattr(Workload, name)]
            expected = expected.model_copy(update={name: getattr(record.workload, name) for name in usual})
        if record.workload != expected:
            raise BaselineError(
                f"{baseline.path}: {cell} was recorded under another workload: "
                f"{differences(record.workload, expected)}; "
                "run with the baseline's workload, or name another baseline with --benchmark-compare=NUMBER"
            )


def check_step(baseline: Baseline, cell: Cell, workload: StepWorkload) -> None:
    """As :func:`check_workload`, for a user's own step, which says itself what its workload is.

    A test that measures another method, or another rank, than it did is refused too: it would pass as a new cell.
    """
    record = baseline.records.get(cell)
    if record is None and cell.is_tests:
        before = next((other for other in baseline.records if other.architecture == cell.architecture), None)
        if before is not None:
            raise BaselineError(
                f"was recorded with {_method(before)} in {baseline.path}, this run with {_method(cell)}; figures of "
                f"two methods are not compared: {_IF_MEANT}"
            )
    if record is not None and record.workload != workload:
        raise BaselineError(
            f"was recorded under another workload in {baseline.path}: {differences(record.workload, workload)}; "
            f"figures of two workloads are not compared: {_IF_MEANT}"
        )


_IF_MEANT = "if the change is meant, record a new baseline, by the same run with --benchmark-save=baseline"


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


def _method(cell: Cell) -> str:
    return f"method {cell.method}" + ("" if cell.rank is None else f" of rank {cell.rank}")


def differences(recorded: BaseModel, this_run: BaseModel) -> str:
    """Where two workloads or settings differ, in words; empty where they do not."""
    return "; ".join(
        f"{name} {value}, this run {getattr(this_run, name)}"
        for name, value in recorded
        if value != getattr(this_run, name)
    )
