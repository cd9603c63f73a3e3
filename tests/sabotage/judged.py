"""A fault put in, measured and judged as a run does it: ``bench.measurement``, then the gate."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.cell_process import ThisProcess
from bench.cells import Cell
from bench.gate import baseline
from bench.gate.baseline import Baseline, Machine
from bench.gate.figures import show, show_change
from bench.gate.gate import Gate, Result
from bench.gate.verdict import FAILING, Verdict
from bench.measurement import CellError, Measurement, measure
from bench.options import RunOptions, project_tolerances
from tests.sabotage.cases import Case, Instrument
from tests.sabotage.injection import injected

REPOSITORY = Path(__file__).parents[2]
HERE = Machine("this machine", 1)
METRICS: dict[Instrument, tuple[str, ...]] = {
    "computed": ("flops", "memory"),
    "measured_memory": ("measured_memory",),
    "latency": ("latency",),
}


@cache
def committed() -> Baseline:
    """The newest committed baseline. Computed metrics are judged against it on every machine."""
    return baseline.read(baseline.find(REPOSITORY / "baselines", None, "no machine"))


def cell_of(name: str) -> Cell:
    return next(cell for cell in committed().records if str(cell) == name)


def run_options(instrument: Instrument) -> RunOptions:
    return RunOptions(metrics=METRICS[instrument], tolerances=project_tolerances())


@cache
def unsabotaged(name: str, instrument: Instrument) -> Measurement:
    return measure(cell_of(name), run_options(instrument), ThisProcess())


def judge(fault: str | None, name: str, instrument: Instrument) -> Result:
    """One cell with a fault, or with none, against the committed baseline; where the metric holds for one machine only,
    against what this process has measured without the fault."""
    cell = cell_of(name)
    gate = Gate(run_options(instrument), machine=HERE)
    try:
        with injected(fault) if fault else nullcontext():
            measurement = measure(cell, gate.run, ThisProcess())
    except CellError as error:
        gate.fail(cell, str(error))
        return gate.results[cell]
    if instrument == "computed":
        gate.baseline = committed()
    else:
        before = unsabotaged(name, instrument)
        # Without seconds: how long a step took is no part of these verdicts.
        gate.baseline = Baseline(Path("unsabotaged"), {cell: before.record}, {}, HERE, "core", True)
    return gate.judge(measurement.record)


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
        expected_range = case.alarms.get(verdict.metric)
        if verdict.kind in FAILING and expected_range is None:
            found.append(f"should stay quiet: {_in_words(verdict)}")
        elif verdict.kind == "improved" and verdict.metric not in case.improves:
            found.append(f"should not improve: {_in_words(verdict)}")
        elif expected_range is not None:
            low, high = expected_range
            if verdict.kind not in FAILING or verdict.change is None or not low <= verdict.change <= high:
                found.append(f"should alarm with a change of {low:+.4f} to {high:+.4f}: {_in_words(verdict)}")
    judged = {verdict.metric for verdict in result.verdicts}
    return found + [f"was not judged: {metric}" for metric in case.alarms if metric not in judged]


def _in_words(verdict: Verdict) -> str:
    figures = f"{show(verdict.before, verdict.unit)} → {show(verdict.now, verdict.unit)}"
    return f"{verdict.metric} {verdict.kind}, {figures} ({show_change(verdict.change)})"
