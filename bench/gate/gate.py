"""The gate: a run's records against one baseline, and every failure put in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from peft_update_bench.bench.cells import Cell, Selection
from peft_update_bench.bench.gate.adapting import judge_adaptation
from peft_update_bench.bench.gate.baseline import Baseline, BaselineError, Machine, check_adaptation, check_workload
from peft_update_bench.bench.gate.figures import show, show_whole_change
from peft_update_bench.bench.gate.slowdown import Decision, ErrorBudget
from peft_update_bench.bench.gate.verdict import Verdict, fails, judge, judge_measured
from peft_update_bench.bench.options import RunOptions
from peft_update_bench.bench.record import CLOCKS, Record, WorkloadEntry
from peft_update_bench.fixtures.data.tasks import TASKS


@dataclass(frozen=True)
class Result:
    """What became of one cell: its record if measured, its verdicts if compared, its error if it failed."""

    cell: Cell
    record: Record | None = None
    verdicts: tuple[Verdict, ...] = ()
    error: str = ""


@dataclass
class Gate:
    """Judges the cells of one run, one at a time, and keeps the results. Without a baseline it only keeps them.

    Suspected slowdowns that were measured again share `error_budget`.
    """

    run: RunOptions
    baseline: Baseline | None = None
    machine: Machine | None = None
    results: dict[Cell, Result] = field(default_factory=dict)
    error_budget: ErrorBudget = field(default_factory=ErrorBudget)
    finished: int = 0
    """How many tests have come to their end."""
    unsaved: str = ""
    """Why a baseline that was asked for was not saved."""
    unwritten: list[str] = field(default_factory=list)
    """The files that could not be written."""
    remarks: list[str] = field(default_factory=list)
    """What a reader should know of how the run went, each a sentence."""

    @cached_property
    def cells(self) -> list[Cell]:
        return self.run.selection.cells()

    @cached_property
    def missing(self) -> frozenset[Cell]:
        """The cells that the baseline has and the run should have and has no longer."""
        if self.baseline is None:
            return frozenset()
        return frozenset(self.run.selection.no_longer_there(self.baseline.records, self.baseline.matrix))

    @property
    def record_command(self) -> str:
        return " ".join(filter(None, ("pytest --benchmark-save=baseline", self.run.repeat)))

    def compare_with(self, baseline: Baseline) -> None:
        """Judge against `baseline` from now on. Raises BaselineError where it cannot judge this run."""
        check_workload(baseline, WorkloadEntry(**self.run.workload.as_record()), self.cells)
        if self.run.adaptation is not None:
            check_adaptation(baseline, self.run.adaptation.settings, self.cells)
        uncovered = [cell for cell in self.cells if cell not in baseline.records]
        if baseline.is_filtered and uncovered and not self.run.selection.is_filtered:
            raise BaselineError(
                f"{baseline.path}: was saved by a filtered run and lacks {len(uncovered)} of this run's "
                f"{len(self.cells)} cells, {uncovered[0]} for one; run with the same filters, "
                f"or record a whole one: {self.record_command}"
            )
        self.baseline = baseline

    def header(self) -> str:
        """What is about to run, for the head of pytest's report."""
        against = f"against {self.baseline.path}" if self.baseline else "without a baseline"
        return f"update benchmark: {len(self.cells)} cells, {', '.join(self.run.metrics)}, {against}"

    def suite_entry(self) -> dict[str, str | bool]:
        """What a saved file says of the run: which matrix, and whether only a part of it was measured."""
        tasks = TASKS if self.run.adaptation is not None else ()
        whole = {*Selection(matrix=self.run.selection.matrix, tasks=tasks).cells()}
        return {"matrix": self.run.selection.matrix, "is_filtered": not whole <= {*self.results}}

    def judge(self, record: Record, seconds: float | None = None, *, confirming: bool = False) -> Result:
        """Compare one record, and the median `seconds` of its step if it was timed, with the baseline.

        `confirming` a slowdown that an earlier measurement of the cell suspected.
        """
        verdicts: tuple[Verdict, ...] = ()
        if self.baseline is not None:
            rate = self.error_budget.rate
            verdicts = compare(record, seconds, self.baseline, self.machine, self.run.tolerances, rate)
        if confirming:
            self.error_budget.spend(found_slower=finds_slower(verdicts))
        return self._keep(Result(record.cell, record, verdicts))

    def fail(self, cell: Cell, error: str) -> str:
        """Keep a cell that could not be measured; returns the failure's message."""
        self._keep(Result(cell, error=error))
        return f"{cell}: {error}"

    def lose(self, cell: Cell) -> str:
        """Keep a cell that the baseline has and the run no longer has; returns the failure's message."""
        assert self.baseline is not None
        verdict = Verdict("the cell", "missing", note="the run no longer has it")
        self._keep(Result(cell, verdicts=(verdict,)))
        return (
            f"{cell} is in {self.baseline.name} and no longer in the run.\n"
            f"If it was removed on purpose, record a new baseline: {self.record_command}"
        )

    def failure(self, result: Result) -> str:
        """The message of a failing result, empty where nothing fails."""
        failing = [verdict for verdict in result.verdicts if fails(verdict, self.run.unstable == "fail")]
        if not failing or result.record is None or self.baseline is None:
            return ""
        lines = [f"{result.cell} does not hold its baseline {self.baseline.name}:"]
        lines += [f"  {_sentence(verdict)}" for verdict in failing]
        before = self.baseline.records[result.cell]
        lines += [f"  {line}" for line in _causes(result.record, before, failing)]
        lines.append(f"If the change is meant, record a new baseline: {self.record_command}")
        return "\n".join(lines)

    def finds_unstable(self, result: Result) -> bool:
        """Whether a latency is too uncertain for a verdict, so that a longer measurement is worth its time."""
        return any(verdict.kind == "unstable" for verdict in result.verdicts)

    def decision(self, cell: Cell) -> Decision | None:
        """What the next second measurement, one of `cell`, is to decide; None without a latency to compare with."""
        before = self.baseline.records.get(cell) if self.baseline else None
        if before is None or before.latency is None:
            return None
        intervals = {clock: before.latency.interval(clock) for clock in CLOCKS}
        return Decision(intervals, self.run.tolerances["latency"], self.error_budget.rate)

    def suspects_slowdown(self, result: Result) -> bool:
        """Whether an estimated slowdown exceeds its tolerance: measured again, it is confirmed or not."""
        return suspects_slowdown(result.verdicts)

    def _keep(self, result: Result) -> Result:
        self.results[result.cell] = result
        return result


def suspects_slowdown(verdicts: Iterable[Verdict]) -> bool:
    """Whether a cell's verdicts estimate a slowdown past its tolerance."""
    return any(
        verdict.kind in {"ok", "unstable", "regressed"} and (verdict.change or 0.0) > verdict.tolerance
        for verdict in verdicts
        if verdict.metric.startswith(("latency.", "stats."))
    )


def finds_slower(verdicts: Iterable[Verdict]) -> bool:
    """Whether a cell's latency regressed by either clock."""
    return any(verdict.kind == "regressed" for verdict in verdicts if verdict.metric.startswith("latency."))


def compare(
    record: Record,
    seconds: float | None,
    baseline: Baseline,
    machine: Machine | None,
    tolerances: Mapping[str, float],
    rate: float,
) -> tuple[Verdict, ...]:
    """Judge one record, measured on `machine`, and the median `seconds` of its step, against its cell in `baseline`.

    `rate` is the error rate of each latency's verdict.
    """
    before = baseline.records.get(record.cell)
    incomparable = ""
    if machine != baseline.machine:
        incomparable = f"measured on {machine}; the baseline on {baseline.machine}"
    verdicts = judge(record, before, tolerances=tolerances, incomparable=incomparable, error_rate=rate)
    if before is not None and record.adaptation is not None:
        verdicts += judge_adaptation(
            record, before, baseline.records.values(), another_machine=machine != baseline.machine
        )
    seconds_before = baseline.seconds.get(record.cell)
    if before is not None and seconds is not None and seconds_before is not None:
        # Absolute times hold for the same machine with the same software only.
        if not incomparable and record.versions != before.versions:
            incomparable = "timed with other package versions"
        tolerance = tolerances["median_seconds"]
        verdicts.append(judge_measured("stats.median", "s", seconds, seconds_before, tolerance, incomparable))
    return tuple(verdicts)


def _sentence(verdict: Verdict) -> str:
    if verdict.kind == "missing":
        return f"{verdict.metric} is missing: {verdict.note}"
    tolerance = f"{verdict.tolerance:.0%}" if verdict.unit != "accuracy" else f"{100 * verdict.tolerance:.1f} points"
    note = f"; {verdict.note}" if verdict.note else ""
    return (
        f"{verdict.metric} {verdict.kind}: {show(verdict.before, verdict.unit)} → {show(verdict.now, verdict.unit)} "
        f"({show_whole_change(verdict)}; tolerance {tolerance}{note})"
    )


def _causes(now: Record, before: Record, failing: list[Verdict]) -> list[str]:
    """What differs beside the failing figures and may explain them."""
    causes = []
    if any(verdict.metric.startswith("memory.") for verdict in failing) and now.memory and before.memory:
        moved = [
            f"{name} {show(old, 'bytes')} → {show(new, 'bytes')}"
            for (name, new), old in zip(
                now.memory.categories().items(), before.memory.categories().values(), strict=True
            )
            if new != old
        ]
        where = f"{now.memory.peak_phase}, {now.memory.peak_module}"
        causes.append(f"at the peak ({where}): {', '.join(moved) or 'every category as before'}")
    changed = [
        f"{package} {before.versions.get(package, 'none')}, now {now.versions.get(package, 'none')}"
        for package in sorted({*now.versions, *before.versions})
        if now.versions.get(package) != before.versions.get(package)
    ]
    causes.append(f"recorded with {'; '.join(changed)}" if changed else "recorded with the same package versions")
    return causes
