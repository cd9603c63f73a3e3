"""A fault put in, measured and judged as a run does it: measurement or adaptation, then the gate."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from peft_update_bench.bench import options
from peft_update_bench.bench.benchmarks.adaptation import AdaptationBenchmark
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate import baseline, baseline_file
from peft_update_bench.bench.gate.baseline import Baseline
from peft_update_bench.bench.gate.gate import Gate, Result
from peft_update_bench.bench.gate.machine import Machine
from peft_update_bench.bench.gate.verdict import FAILING, Verdict
from peft_update_bench.bench.measuring.adaptation import FAILURES, record, reference, updates
from peft_update_bench.bench.measuring.measurement import measure
from peft_update_bench.bench.options import RunOptions
from peft_update_bench.bench.options.adaptation import AdaptationOptions
from peft_update_bench.bench.processes.cell_process import ThisProcess
from peft_update_bench.bench.processes.child_process import call_once
from peft_update_bench.bench.processes.update_runs import Found
from peft_update_bench.bench.record import SCHEMA, Record
from peft_update_bench.bench.units import show
from peft_update_bench.fixtures.data import tasks
from peft_update_bench.fixtures.files import users_cache
from peft_update_bench.fixtures.instruments.steady import fixed_threads
from peft_update_bench.fixtures.training import adaptation, pretraining
from peft_update_bench.fixtures.training.adaptation import Outcome

from tests.sabotage.cases import Case, Instrument, Range
from tests.sabotage.injection import injected

T = TypeVar("T")

REPOSITORY = Path(__file__).parents[2]
HERE = Machine("this machine", 1)
METRICS: dict[Instrument, str] = {
    "computed": "flops,memory",
    "whole": "flops,memory,growth,result",
    "measured_memory": "measured_memory,first_step",
    "latency": "latency",
    "adaptation": "adaptation",
}


@cache
def run_options(instrument: Instrument) -> RunOptions:
    return options.read(
        {"metrics": METRICS[instrument]}, options.tolerances(options.read_project(REPOSITORY).tolerances)
    )


@cache
def committed(instrument: Instrument) -> Baseline:
    """The newest committed baseline. What is computed, and accuracy, are judged against it on every machine."""
    folder = run_options(instrument).baseline_folder(REPOSITORY / "baselines")
    return baseline.read(baseline_file.find(folder, None, "no machine"))


def cell_of(name: str, instrument: Instrument) -> Cell:
    return next(cell for cell in committed(instrument).records if str(cell) == name)


@cache
def unsabotaged(name: str, instrument: Instrument) -> Record:
    return measured(cell_of(name, instrument), run_options(instrument))


class WithFreshMemory(ThisProcess):
    """Faults are put into this process; its memory, after others' cells, is not what a cell occupies."""

    def call_fresh(self, function: Callable[..., T], *args: Any) -> T:
        return call_once(function, *args, limit_s=300)


def measured(cell: Cell, run: RunOptions) -> Record:
    """Raises one of FAILURES."""
    if not isinstance(run.benchmark, AdaptationBenchmark):
        return measure(cell, run, WithFreshMemory()).record
    given = run.benchmark.adaptation
    found = [Found(outcome, made_on=None) for outcome in adapt(cell, given)]
    return record(cell, run.workload, given, found, adapt(reference(cell), given))


def adapt(cell: Cell, given: AdaptationOptions) -> list[Outcome]:
    """Each seed's update, done here: nothing of a fault may be kept for a run without it."""
    with fixed_threads(1):
        return [
            adaptation.run(update, given.plan, given.cache_folder or users_cache()) for update in updates(cell, given)
        ]


def train_on_the_source(cell: Cell, run: RunOptions) -> None:
    """A fault in the update must not come into the trained network, which is kept."""
    if isinstance(run.benchmark, AdaptationBenchmark) and cell.task is not None:
        plan, folder = run.benchmark.adaptation.plan, run.benchmark.adaptation.cache_folder or users_cache()
        with fixed_threads(1):
            pretraining.pretrained(cell.architecture, tasks.load(cell.task, plan.data), plan, folder)


def judge(fault: str | None, name: str, instrument: Instrument) -> Result:
    """One cell with a fault, or with none, against the committed baseline; where the metric holds for one machine only,
    against what this process has measured without the fault."""
    cell = cell_of(name, instrument)
    # An accuracy is judged as on the baseline's machine; elsewhere another network tells that it is none.
    machine = committed(instrument).machine if instrument == "adaptation" else HERE
    given = run_options(instrument)
    gate = Gate(given.tolerances, machine=machine)
    train_on_the_source(cell, given)
    try:
        with injected(fault) if fault else nullcontext():
            now = measured(cell, given)
    except FAILURES as error:
        return Result(cell, error=str(error))
    exact = instrument in {"computed", "adaptation"}
    # A fault may move figures that the committed baseline is too old to have.
    if exact and (fault is None or instrument == "adaptation" or _judges_all(committed(instrument))):
        gate.baseline = committed(instrument)
    else:
        # Without seconds: how long a step took is no part of these verdicts.
        before = unsabotaged(name, instrument)
        gate.baseline = Baseline(Path("unsabotaged"), {cell: before}, {}, HERE, "core", True)
    return gate.judge(now)


def _judges_all(before: Baseline) -> bool:
    """Whether a baseline has every figure that records have now."""
    return all(record.schema_ == SCHEMA for record in before.records.values())


@dataclass(frozen=True)
class Row:
    """One case and what came of it. `complaints` say what the gate did otherwise than it should."""

    case: Case
    alarms: tuple[Verdict, ...]
    error: str
    complaints: tuple[str, ...]


def run(case: Case) -> Row:
    """Judge the case's cell and the cells that must not notice."""
    result = judge(case.fault, case.cell, case.instrument)
    complaints = list(_complaints(case, result))
    for name in case.quiet:
        loud = [v for v in judge(case.fault, name, case.instrument).verdicts if v.kind not in {"ok", "not comparable"}]
        complaints += [f"{name} should not notice, but {_in_words(verdict)}" for verdict in loud]
    alarms = tuple(verdict for verdict in result.verdicts if verdict.kind in FAILING)
    return Row(case, alarms, result.error, tuple(complaints))


def _complaints(case: Case, result: Result) -> list[str]:
    if case.error or result.error:
        expected = bool(case.error) and result.error.startswith(case.error)
        return [] if expected else [f"the cell's error is {result.error!r}; expected {case.error!r}"]
    found = []
    for verdict in result.verdicts:
        if verdict.metric in case.alarms:
            found += _otherwise(verdict, case.alarms[verdict.metric])
        elif verdict.kind in FAILING:
            found.append(f"should stay quiet: {_in_words(verdict)}")
        elif verdict.kind == "improved" and verdict.metric not in case.improves:
            found.append(f"should not improve: {_in_words(verdict)}")
    judged = {verdict.metric for verdict in result.verdicts}
    return found + [f"was not judged: {metric}" for metric in case.alarms if metric not in judged]


def _otherwise(verdict: Verdict, expected: Range | None) -> list[str]:
    """What is wrong with the verdict of a metric that should alarm."""
    if expected is None:
        return [] if verdict.kind == "missing" else [f"should be missing: {_in_words(verdict)}"]
    low, high = expected
    if verdict.kind in FAILING and verdict.change is not None and low <= verdict.change <= high:
        return []
    return [f"should alarm with a change of {low:+.4f} to {high:+.4f}: {_in_words(verdict)}"]


def _in_words(verdict: Verdict) -> str:
    figures = f"{show(verdict.before, verdict.unit)} → {show(verdict.now, verdict.unit)}"
    return f"{verdict.metric} {verdict.kind}, {figures} ({verdict.shown_change})"
