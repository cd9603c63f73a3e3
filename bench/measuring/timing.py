"""How long a cell's step takes, as a multiple of its reference's: timed once for the record, again where in doubt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import scipy.stats.mstats  # noqa: F401 - of an interval, which else each process that times would import
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.slowdown import Decision
from peft_update_bench.bench.gate.tolerances import of_cell
from peft_update_bench.bench.measuring import still_parameters
from peft_update_bench.bench.measuring.measured import Measurement
from peft_update_bench.bench.measuring.measurement import Measuring, build_step, gpu_of, users_warnings
from peft_update_bench.bench.metrics import METRICS
from peft_update_bench.bench.options import RunOptions
from peft_update_bench.bench.processes.cell_process import Process
from peft_update_bench.bench.record import CLOCKS, Latency
from peft_update_bench.fixtures import own_steps
from peft_update_bench.fixtures.instruments import cuda
from peft_update_bench.fixtures.instruments.latency.calibration import NAME as CALIBRATION
from peft_update_bench.fixtures.instruments.latency.calibration import calibration_step
from peft_update_bench.fixtures.instruments.latency.clock import Clock
from peft_update_bench.fixtures.instruments.latency.paired import (
    CAREFUL_LIMITS,
    DECIDING_LIMITS,
    DEFAULT_LIMITS,
    PairedSample,
    ReferenceName,
    SamplingLimits,
    Until,
    measure,
    measure_periodic,
)
from peft_update_bench.fixtures.instruments.latency.rounds import Rounds
from peft_update_bench.fixtures.instruments.steady import fixed_threads
from peft_update_bench.fixtures.methods.names import AS_IT_IS
from peft_update_bench.fixtures.update_step import UpdateStep, build_update_step
from peft_update_bench.fixtures.whole_step import Step
from peft_update_bench.fixtures.workload import Workload


def measure_latency(measuring: Measuring) -> None:
    """The step's duration as a multiple of its reference's, and the seconds of each timed update."""
    found = _time_first(measuring.cell, measuring.run, measuring.process, measuring.decision)
    measuring.sections["latency"], measuring.step_seconds, remarks = found
    measuring.add_remarks(remarks)


def measure_latency_of(
    measurement: Measurement, run: RunOptions, process: Process, decision: Decision | None
) -> Measurement:
    """Time a cell of which all else that `run` asks for was measured before. Raises one of FAILURES."""
    cell = measurement.record.cell
    process.begin(cell.users_code)
    entry, seconds, remarks = _time_first(cell, run.of(cell), process, decision)
    timed = _with_latency(measurement, entry, seconds)
    known = timed.record.remarks or []
    changes = {"remarks": [*known, *remarks] or None, **gpu_of(timed.record.workload.device, process)}
    return replace(timed, record=timed.record.model_copy(update=changes))


def _time_first(cell: Cell, run: RunOptions, process: Process, decision: Decision | None) -> _Timed:
    """Where there is a `decision`, no longer than until it is clear that the cell is not slower."""
    # A baseline is what many runs lean on.
    limits = _judged_by(run, cell, CAREFUL_LIMITS if run.records_baseline else DEFAULT_LIMITS)
    decision = replace(decision, screens=True) if decision is not None and not run.records_baseline else None
    if decision is not None:
        # A refreshing step's time is not judged.
        limits = replace(limits, max_refreshes=0)
    # What measures memory has seen the same step train.
    is_tried = any(METRICS[name].measure == METRICS["measured_memory"].measure for name in run.metrics)
    return process.call(_time_anew, cell, run.workload, limits, decision, is_tried)


def _judged_by(run: RunOptions, cell: Cell, limits: SamplingLimits) -> SamplingLimits:
    """`limits` that are as narrow as the cell's tolerance asks for."""
    return replace(limits, tolerance=of_cell(run.tolerances, str(cell))["latency"])


_Timed = tuple[dict[str, Any], tuple[float, ...], list[str]]
"""A record's `latency`, each timed update's seconds, and remarks on how it trains."""


def _time_anew(
    cell: Cell, workload: Workload, limits: SamplingLimits, decision: Decision | None, is_tried: bool
) -> _Timed:
    """Of a step built afresh, which is tried first unless it `is_tried`."""
    with users_warnings(cell):
        step = build_step(cell, workload, workload.device)
        remarks = []
        if isinstance(step, UpdateStep) and not cell.is_step and not is_tried:
            with fixed_threads(workload.threads):
                losses, unmoved = still_parameters.train(step)
            remarks = still_parameters.must_train(cell, workload, losses, unmoved)
        sample = _time(cell, step, workload, limits, decision)
    return sample.as_record(), sample.step_seconds, remarks


def _time_both_anew(cell: Cell, workload: Workload, limits: SamplingLimits, decision: Decision | None) -> _Timed:
    """As `_time_anew`, with the reference built afresh too."""
    _full_fine_tuning.cache_clear()
    return _time_anew(cell, workload, limits, decision, True)


def measure_latency_again(
    measurement: Measurement, run: RunOptions, process: Process, decision: Decision | None = None
) -> Measurement:
    """Time a measured cell once more, longer, with step and reference built afresh; the new latency replaces the old.

    Afresh, because where memory lies is decided when a step is built. Longest where it is to make a `decision`, unless
    that is made early. Raises one of FAILURES.
    """
    cell = measurement.record.cell
    run = run.of(cell)
    limits = _judged_by(run, cell, CAREFUL_LIMITS if decision is None else DECIDING_LIMITS)
    entry, seconds, _ = process.call(_time_both_anew, cell, run.workload, limits, decision)
    return _with_latency(measurement, entry, seconds)


def _with_latency(measurement: Measurement, entry: dict[str, Any], seconds: tuple[float, ...]) -> Measurement:
    record = measurement.record.model_copy(update={"latency": Latency.model_validate(entry)})
    return Measurement(record, seconds)


def until(decision: Decision, confidence: float = SamplingLimits.confidence) -> Until:
    """Asks whether rounds have made `decision`."""

    def is_made(rounds: Rounds) -> bool:
        return decision.is_made(dict(zip(CLOCKS, (rounds.cpu(confidence), rounds.wall(confidence)), strict=True)))

    return is_made


def _time(
    cell: Cell, step: Step, workload: Workload, limits: SamplingLimits, decision: Decision | None
) -> PairedSample:
    """Time `step` in turn with its reference: the architecture's full fine-tuning; for that, the calibration step."""
    on_cuda = cuda.is_on_cuda(step)
    reference, reference_name = _reference(cell, workload, "cuda" if on_cuda else "cpu")
    timed = measure
    if step.periodic_work is not None:
        timed = partial(measure_periodic, periodic_work=step.periodic_work)
    with fixed_threads(workload.threads):
        return timed(
            *(map(cuda.finished, (step, reference)) if on_cuda else (step, reference)),
            limits=limits,
            clock=Clock.for_threads(workload.threads, on_cuda=on_cuda),
            reference_name=reference_name,
            until=until(decision, limits.confidence) if decision else None,
        )


def _reference(cell: Cell, workload: Workload, device: str) -> tuple[Callable[[], object], ReferenceName]:
    if cell.method in {"fft", AS_IT_IS}:
        return calibration_step(device), CALIBRATION
    if cell.is_step:
        return own_steps.build(cell.architecture, "fft", None, workload.seed), "fft"
    return _full_fine_tuning(cell.architecture, workload), "fft"


@lru_cache(maxsize=1)
def _full_fine_tuning(architecture: str, workload: Workload) -> UpdateStep:
    """Cells run by architecture, so one reference step is enough, and the one before gives its memory back."""
    return build_update_step(architecture, "fft", None, workload, workload.device)
