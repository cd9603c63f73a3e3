"""One cell measured: every instrument that was asked for, put together into a record."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from statistics import median
from typing import Any

import torch
from peft_update_bench.bench import still_parameters
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.slowdown import Decision
from peft_update_bench.bench.gate.tolerances import asked_by, of_cell
from peft_update_bench.bench.metrics import METRICS, load
from peft_update_bench.bench.options import RunOptions
from peft_update_bench.bench.processes.cell_process import Process
from peft_update_bench.bench.processes.child_process import MeasurementError
from peft_update_bench.bench.record import (
    CLOCKS,
    SCHEMA,
    Latency,
    Record,
    StepWorkload,
    installed_versions,
    read_record,
)
from peft_update_bench.bench.units import show
from peft_update_bench.fixtures import global_state, own_steps
from peft_update_bench.fixtures.architectures import UnsupportedNetworkError
from peft_update_bench.fixtures.imported import ImportedNameError
from peft_update_bench.fixtures.instruments import computed, latency, measured_memory, repeatability, result, whole
from peft_update_bench.fixtures.instruments.calibration import NAME as CALIBRATION
from peft_update_bench.fixtures.instruments.calibration import calibration_step
from peft_update_bench.fixtures.instruments.clock import Clock, LatencyError
from peft_update_bench.fixtures.instruments.computed import Computed
from peft_update_bench.fixtures.instruments.latency import (
    CAREFUL_LIMITS,
    DECIDING_LIMITS,
    DEFAULT_LIMITS,
    PairedSample,
    ReferenceName,
    SamplingLimits,
    Until,
)
from peft_update_bench.fixtures.instruments.measured_memory import MeasuredMemory
from peft_update_bench.fixtures.instruments.result import ResultError
from peft_update_bench.fixtures.instruments.rounds import Rounds
from peft_update_bench.fixtures.instruments.steady import fixed_threads, return_freed_memory
from peft_update_bench.fixtures.instruments.trace import NotComputableError
from peft_update_bench.fixtures.methods.names import AS_IT_IS
from peft_update_bench.fixtures.step_trial import try_out
from peft_update_bench.fixtures.update_step import UpdateStep, build_update_step
from peft_update_bench.fixtures.whole_step import OwnStepError, Step
from peft_update_bench.fixtures.workload import Workload


class NotTrainingError(Exception):
    """An update that does not train: its loss is not finite, or what it should train stays where it is."""


class LeakError(Exception):
    """An update that keeps more memory at every step."""


class NotRepeatableError(Exception):
    """An update that is another one each time, from the same seed."""


FAILURES = (
    NotTrainingError,
    LeakError,
    NotRepeatableError,
    ResultError,
    NotComputableError,
    UnsupportedNetworkError,
    ImportedNameError,
    OwnStepError,
    MeasurementError,
    LatencyError,
)
"""What one cell may fail with, each a sentence for the user; the other cells still run."""


@dataclass(frozen=True)
class Measurement:
    """A cell's record and, where latency was asked for, the durations of the timed steps in seconds."""

    record: Record
    step_seconds: tuple[float, ...] = ()

    @property
    def median_seconds(self) -> float | None:
        return median(self.step_seconds) if self.step_seconds else None


@dataclass
class Measuring:
    """A cell while it is measured: what every metric's function is given, and what those before it found.

    `sections` become the record's. `process` is where anything heavy is called; its functions, arguments and results
    must be picklable.
    """

    cell: Cell
    run: RunOptions
    process: Process
    sections: dict[str, object] = field(default_factory=dict)
    computed: Computed | None = None
    step_seconds: tuple[float, ...] = ()

    def add_remarks(self, remarks: Sequence[str]) -> None:
        """Keep what a reader of the record should know, each a sentence."""
        if remarks:
            before = self.sections.get("remarks", [])
            assert isinstance(before, list)
            self.sections["remarks"] = [*dict.fromkeys((*before, *remarks))]

    def builder(self, device: str) -> Callable[[], Step]:
        """Builds the cell's step on `device`; picklable."""
        return partial(_build, self.cell, self.run.workload, device)


Accept = Callable[[Cell, StepWorkload], None]
"""Refuses the workload of a user's own step by what it raises."""


def measure(cell: Cell, run: RunOptions, process: Process, accept: Accept | None = None) -> Measurement:
    """Measure `cell` by every metric that `run` names, none of them in this process but where `process` says so.

    `accept` may refuse the workload of a user's own step, which is not known before the step was built and tried.

    Raises one of FAILURES, and what `accept` raises.
    """
    workload, parts = described(cell, run, process, accept)
    measuring = Measuring(cell, run, process, parts)
    for function in dict.fromkeys(METRICS[name].measure for name in run.metrics):
        load(function)(measuring)
    if cell.is_users and not cell.is_step:
        workload = process.call(_as_run, cell, run.workload)
    return Measurement(record_of(cell, workload, measuring.sections), measuring.step_seconds)


def described(
    cell: Cell, run: RunOptions, process: Process, accept: Accept | None
) -> tuple[Workload | Mapping[str, Any], dict[str, object]]:
    """Begin a cell: its workload, and the sections of its record that are known before it is measured.

    A user's own step is built and tried for that.
    """
    process.begin(anew=cell.is_tests)
    if not cell.is_step:
        return run.workload, {}
    trial = process.call(try_out, cell.architecture, cell.method, cell.rank, run.workload.seed, run.workload.threads)
    if accept is not None:
        accept(cell, StepWorkload(**trial.workload))
    parts: dict[str, object] = {}
    if trial.remarks:
        parts["remarks"] = trial.remarks
    if asked := asked_by(run.tolerances, str(cell)):
        parts["tolerances"] = asked
    return trial.workload, parts


def compute(measuring: Measuring) -> None:
    """FLOPs, peak memory and parameter counts, from one pass over the step."""
    names = measuring.run.metrics
    figures, remarks = measuring.process.call(_compute, measuring.cell, measuring.run.workload, names)
    measuring.add_remarks(remarks)
    measuring.computed = figures
    measuring.sections |= {"parameters": figures.parameters, "where": figures.where}
    measuring.sections |= {
        name: found
        for name, found in (
            ("flops", {**figures.flops, "optimizer_operators": figures.operators}),
            ("memory", figures.memory),
            ("growth", figures.growth),
            ("result", figures.result),
        )
        if name in names and found
    }


def measure_memory(measuring: Measuring) -> None:
    """What the allocator handed out, what the process occupied and how long the first step took, in a fresh process;
    then whether the update repeats, and is what was trained when it is stored and merged."""
    workload = measuring.run.workload
    build = measuring.builder(workload.device)
    # What a user's own code imports is not what its update needs.
    prepare = measuring.builder("meta") if measuring.cell.is_users else None
    memory = _measure_memory(measuring, build, workload.threads, prepare)
    trained = (measuring.cell, workload, memory.losses, memory.unmoved)
    measuring.add_remarks(measuring.process.call(_must_train, *trained) if memory.unmoved else _must_train(*trained))
    if memory.kept_per_step > 0:
        raise LeakError(f"every step keeps {show(memory.kept_per_step, 'bytes')} more, in the mean of a dozen steps")
    if "measured_memory" in measuring.run.metrics:
        measuring.sections["measured_memory"] = {**memory.as_record(), **_gaps(measuring.computed, memory)}
    if "first_step" in measuring.run.metrics:
        measuring.sections["first_step"] = {"seconds": memory.first_seconds}
    if not measuring.cell.is_step:
        measuring.process.call(_check_update, measuring.cell, workload)


def _measure_memory(
    measuring: Measuring, build: Callable[[], Step], threads: int, prepare: Callable[[], Step] | None
) -> MeasuredMemory:
    cell = measuring.cell
    if not cell.is_tests:
        return measuring.process.call_fresh(measured_memory.measure_here, build, threads, prepare)
    if importable := own_steps.importable_name(cell.architecture):
        build = partial(_build, replace(cell, architecture=importable), measuring.run.workload, "cpu")
        return measuring.process.call_fresh(measured_memory.measure_here, build, threads, build)
    measuring.add_remarks(
        ["its builder cannot be imported, so that its RSS was measured in a process forked from pytest's own"]
    )
    return measuring.process.call_forked(_measure_memory_here, build, threads, prepare)


def _measure_memory_here(*given: Any) -> MeasuredMemory:
    """In a process that has what another has freed, which would not count again."""
    return_freed_memory()
    return measured_memory.measure_here(*given)


def measure_latency(measuring: Measuring) -> None:
    """The step's duration as a multiple of its reference's, and the seconds of each timed update."""
    run = measuring.run
    # A baseline is what many runs lean on.
    limits = _judged_by(run, measuring.cell, CAREFUL_LIMITS if run.records_baseline else DEFAULT_LIMITS)
    found = measuring.process.call(_time_anew, measuring.cell, run.workload, limits)
    measuring.sections["latency"], measuring.step_seconds, remarks = found
    measuring.add_remarks(remarks)


def _as_run(cell: Cell, workload: Workload) -> Workload:
    """`workload` with the optimizer and the dtype that a user's own method and network really have."""
    with _users_warnings(cell):
        return as_run(build_update_step(cell.architecture, cell.method, cell.rank, workload, "meta"), workload)


def as_run(step: UpdateStep, workload: Workload) -> Workload:
    """`workload` with the optimizer and the dtype of `step`."""
    return replace(workload, optimizer=step.optimizer_name, dtype=step.dtype)


def _build(cell: Cell, workload: Workload, device: str) -> Step:
    """A cell's step; a user's own says itself which device it is on."""
    if cell.is_step:
        return own_steps.build(cell.architecture, cell.method, cell.rank, workload.seed)
    return build_update_step(cell.architecture, cell.method, cell.rank, workload, device=device)


def _compute(cell: Cell, workload: Workload, names: Sequence[str]) -> tuple[Computed, list[str]]:
    """The computed figures, and remarks on what the optimizer leaves as it was.

    Of a user's own step neither how it grows nor what it leaves is known: its batch and its network are its own.

    Raises NotTrainingError, LeakError.
    """
    with _users_warnings(cell):
        step = _build(cell, workload, "meta")
        if cell.is_step and step.periodic_work is None:
            with fixed_threads(workload.threads):
                return whole.measure(step, with_memory="memory" in names), []
        assert isinstance(step, UpdateStep), "only a whole step of a user's own is none"
        grows = "growth" in names and not cell.is_step
        figures = computed.measure(step, with_memory="memory" in names, grows=grows)
        if cell.is_step:
            return figures, []
        remarks = [*_must_write_to_all(cell, workload, step, figures.still), *figures.remarks]
        if figures.kept.bytes > 0:
            kept = figures.kept
            raise LeakError(
                f"every step keeps {show(kept.bytes, 'bytes')} more than it found, the most of it made in "
                f"{kept.phase}, {kept.module}"
            )
        if "result" in names:
            with global_state.default_dtype_of(cell.architecture):
                figures = replace(figures, result=result.compute(step, int(figures.memory["optimizer_states"])))
    return figures, remarks


def _must_write_to_all(cell: Cell, workload: Workload, step: UpdateStep, still: Sequence[str]) -> list[str]:
    """What a reader should know of the trained parameters that the optimizer's step did not write to, by name.

    Raises NotTrainingError.
    """
    if still and not next(step.network.parameters()).is_meta:
        # What writes without an operator, such as a kernel of one's own, shows in the values.
        still_by_values = still_parameters.train(step)[1]
        still = [name for name in still if name in still_by_values]
    remarks, unexplained = still_parameters.explain_unused(cell, workload, still)
    if unexplained:
        raise NotTrainingError(f"the optimizer's step writes to no memory of {_and_more(unexplained)}, which it trains")
    return remarks


def _check_update(cell: Cell, workload: Workload) -> None:
    """Raises NotRepeatableError, ResultError."""

    def build() -> UpdateStep:
        step = _build(cell, workload, workload.device)
        assert isinstance(step, UpdateStep)
        return step

    with _users_warnings(cell), fixed_threads(workload.threads), global_state.default_dtype_of(cell.architecture):
        step, difference = repeatability.update_twice(build)
        if difference:
            raise NotRepeatableError(difference)
        result.check(step, build)


@contextmanager
def _users_warnings(cell: Cell) -> Iterator[None]:
    """Where warnings are errors, as in this suite's own runs, a user's own network or method may still warn."""
    with warnings.catch_warnings():
        if cell.is_users:
            warnings.simplefilter("default")
        yield


def _judged_by(run: RunOptions, cell: Cell, limits: SamplingLimits) -> SamplingLimits:
    """`limits` that are as narrow as the cell's tolerance asks for."""
    return replace(limits, tolerance=of_cell(run.tolerances, str(cell))["latency"])


def _time_anew(
    cell: Cell, workload: Workload, limits: SamplingLimits, decision: Decision | None = None
) -> tuple[dict[str, Any], tuple[float, ...], list[str]]:
    """The `latency` of a step built afresh, each timed update's seconds, and remarks on how it trains."""
    with _users_warnings(cell):
        step = _build(cell, workload, workload.device)
        remarks = []
        if isinstance(step, UpdateStep) and not cell.is_step:
            with fixed_threads(workload.threads):
                losses, unmoved = still_parameters.train(step)
            remarks = _must_train(cell, workload, losses, unmoved)
        sample = _time(cell, step, workload, limits, decision)
    return sample.as_record(), sample.step_seconds, remarks


def _time_both_anew(
    cell: Cell, workload: Workload, limits: SamplingLimits, decision: Decision | None
) -> tuple[dict[str, Any], tuple[float, ...], list[str]]:
    """As `_time_anew`, with the reference built afresh too."""
    _full_fine_tuning.cache_clear()
    return _time_anew(cell, workload, limits, decision)


def _gaps(figures: Computed | None, memory: MeasuredMemory) -> dict[str, float]:
    """How far the computed peak is below the measured one, and how much of that kernels' workspaces do not explain."""
    if figures is None:
        return {}
    gaps = {"computed_gap": measured_memory.computed_gap(figures.memory, memory)}
    if memory.allocations is not None:
        gaps["unexplained_gap"] = measured_memory.unexplained_gap(figures.memory, memory)
    return gaps


def measure_latency_again(
    measurement: Measurement, run: RunOptions, process: Process, decision: Decision | None = None
) -> Measurement:
    """Time a measured cell once more, longer, with step and reference built afresh; the new latency replaces the old.

    Afresh, because where memory lies is decided when a step is built. Longest where it is to make a `decision`, unless
    that is made early. Raises one of FAILURES.
    """
    cell = measurement.record.cell
    limits = _judged_by(run, cell, CAREFUL_LIMITS if decision is None else DECIDING_LIMITS)
    entry, seconds, _ = process.call(_time_both_anew, cell, run.workload, limits, decision)
    record = measurement.record.model_copy(update={"latency": Latency.model_validate(entry)})
    return Measurement(record, seconds)


def until(decision: Decision, confidence: float) -> Until:
    """Asks, with intervals at `confidence`, whether rounds have made `decision`."""

    def is_made(rounds: Rounds) -> bool:
        return decision.is_made(dict(zip(CLOCKS, (rounds.cpu(confidence), rounds.wall(confidence)), strict=True)))

    return is_made


def _time(
    cell: Cell, step: Step, workload: Workload, limits: SamplingLimits, decision: Decision | None
) -> PairedSample:
    """Time `step` in turn with its reference: the architecture's full fine-tuning; for that, the calibration step."""
    reference, reference_name = _reference(cell, workload)
    clock = Clock.for_threads(workload.threads)
    timed = latency.measure
    if step.periodic_work is not None:
        timed = partial(latency.measure_periodic, periodic_work=step.periodic_work)
    with fixed_threads(workload.threads):
        return timed(
            _finished(step, workload),
            _finished(reference, workload),
            limits=limits,
            clock=clock,
            reference_name=reference_name,
            until=until(decision, limits.confidence) if decision else None,
        )


def _finished(step: Callable[[], object], workload: Workload) -> Callable[[], object]:
    """`step` as a call that returns when its work is done: CUDA kernels run on after the call that launched them."""
    network = getattr(step, "network", None)
    if workload.device != "cuda" and (network is None or not any(p.is_cuda for p in network.parameters())):
        return step

    def step_and_wait() -> None:
        step()
        torch.cuda.synchronize()

    return step_and_wait


def _reference(cell: Cell, workload: Workload) -> tuple[Callable[[], object], ReferenceName]:
    if cell.method in {"fft", AS_IT_IS}:
        return calibration_step(), CALIBRATION
    if cell.is_step:
        return own_steps.build(cell.architecture, "fft", None, workload.seed), "fft"
    return _full_fine_tuning(cell.architecture, workload), "fft"


@lru_cache(maxsize=1)
def _full_fine_tuning(architecture: str, workload: Workload) -> UpdateStep:
    """Cells run by architecture, so one reference step is enough, and the one before gives its memory back."""
    return build_update_step(architecture, "fft", None, workload, workload.device)


def _must_train(cell: Cell, workload: Workload, losses: Iterable[float], unmoved: Sequence[str]) -> list[str]:
    """What a reader should know of trained parameters that the network itself keeps still. Raises NotTrainingError."""
    losses = list(losses)
    if not all(math.isfinite(loss) for loss in losses):
        raise NotTrainingError(f"the loss is not finite: {', '.join(f'{loss:g}' for loss in losses)}")
    if not unmoved or cell.is_step:  # what a user's own step moves was seen when it was tried
        return []
    with fixed_threads(workload.threads):
        remarks, unexplained = still_parameters.explain(cell, workload, unmoved)
    if unexplained:
        raise NotTrainingError(f"updates leave trained parameters as they were: {_and_more(unexplained)}")
    return remarks


def _and_more(names: Sequence[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def record_of(cell: Cell, workload: Workload | Mapping[str, Any], parts: Mapping[str, object]) -> Record:
    """The record of `cell` under `workload`; `parts` are its sections, and versions where these are more than usual."""
    identity: dict[str, object] = {"architecture": cell.architecture, "method": cell.method}
    if cell.rank is not None:
        identity["rank"] = cell.rank
    held_for = workload.as_record() if isinstance(workload, Workload) else dict(workload)
    return read_record({"schema": SCHEMA, **identity, "workload": held_for, "versions": installed_versions(), **parts})
