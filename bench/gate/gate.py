"""The gate: records against one baseline. Knows neither pytest nor how anything was measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.adapting import judge_adaptation
from peft_update_bench.bench.gate.baseline import Baseline
from peft_update_bench.bench.gate.load import expected
from peft_update_bench.bench.gate.machine import Machine
from peft_update_bench.bench.gate.slowdown import Decision, ErrorBudget
from peft_update_bench.bench.gate.tolerances import of_cell
from peft_update_bench.bench.gate.verdict import Terms, Verdict, judge, judge_measured
from peft_update_bench.bench.gate.workloads import check_step
from peft_update_bench.bench.metrics import ABSOLUTE_TIME
from peft_update_bench.bench.record import CLOCKS, Record, StepWorkload


@dataclass(frozen=True)
class Result:
    """What became of one cell: its record if measured, its verdicts if compared, its error if it failed."""

    cell: Cell
    record: Record | None = None
    verdicts: tuple[Verdict, ...] = ()
    error: str = ""

    @property
    def suspects_slowdown(self) -> bool:
        """Whether an estimated slowdown exceeds its tolerance: measured again, it is confirmed or not."""
        return any(
            verdict.kind in {"ok", "unstable", "regressed"} and (verdict.change or 0.0) > verdict.tolerance
            for verdict in self.verdicts
            if verdict.metric.startswith(("latency.", "stats."))
        )

    @property
    def finds_slower(self) -> bool:
        """Whether the latency regressed by either clock."""
        return any(v.kind == "regressed" for v in self.verdicts if v.metric.startswith("latency."))

    @property
    def is_unstable(self) -> bool:
        """Whether a latency is too uncertain for a verdict, so that a longer measurement is worth its time."""
        return any(verdict.kind == "unstable" for verdict in self.verdicts)


@dataclass
class Gate:
    """Judges records that were measured on `machine`, one at a time. Without a baseline nothing is judged.

    Suspected slowdowns that were measured again share `error_budget`, which is why the cells of a run share a gate.
    """

    tolerances: Mapping[str, float]
    baseline: Baseline | None = None
    machine: Machine | None = None
    error_budget: ErrorBudget = field(default_factory=ErrorBudget)

    def judge(self, record: Record, seconds: float | None = None, *, confirming: bool = False) -> Result:
        """Compare one record, and the median `seconds` of its step if it was timed, with the baseline.

        `confirming` a slowdown that an earlier measurement of the cell suspected.
        """
        if self.baseline is None:
            return Result(record.cell, record)
        result = self._judge(record, seconds, self.baseline)
        if confirming:
            self.error_budget.spend(found_slower=result.finds_slower)
        return result

    def decision(self, cell: Cell) -> Decision | None:
        """What the next second measurement, one of `cell`, is to decide; None without a latency to compare with."""
        before = self.baseline.records.get(cell) if self.baseline else None
        if before is None or before.latency is None:
            return None
        tolerance = of_cell(self.tolerances, str(cell))["latency"]
        intervals = {clock: expected(before.latency, clock, tolerance) for clock in CLOCKS}
        return Decision(intervals, tolerance, self.error_budget.rate)

    def check_step(self, cell: Cell, workload: StepWorkload) -> None:
        """Refuse a baseline of another workload, before a user's own step is measured. Raises BaselineError."""
        if self.baseline is not None:
            check_step(self.baseline, cell, workload)

    def _judge(self, record: Record, seconds: float | None, baseline: Baseline) -> Result:
        before = baseline.records.get(record.cell)
        here = self.machine and self.machine.of(record)
        there = baseline.machine.of(before or record)
        another_machine = not there.is_like(here)
        incomparable = f"measured on {here}; the baseline on {there}" if another_machine else ""
        tolerances = of_cell(self.tolerances, str(record.cell), record.tolerances)
        verdicts = judge(record, before, Terms(tolerances, incomparable, self.error_budget.rate))
        if before is not None and record.adaptation is not None:
            verdicts += judge_adaptation(record, before, baseline.records.values(), another_machine=another_machine)
        seconds_before = baseline.seconds.get(record.cell)
        if before is not None and seconds is not None and seconds_before is not None:
            # Absolute times hold for the same machine with the same software only.
            if not incomparable and record.versions != before.versions:
                incomparable = "timed with other package versions"
            verdict = judge_measured(
                f"stats.{ABSOLUTE_TIME.key}",
                ABSOLUTE_TIME.unit,
                seconds,
                seconds_before,
                tolerances[ABSOLUTE_TIME.limit],
                incomparable,
            )
            verdicts.append(_without_improving_on_load(verdict, before))
        return Result(record.cell, record, tuple(verdicts))


def _without_improving_on_load(verdict: Verdict, before: Record) -> Verdict:
    """An absolute time that improved on an older record's is ok: that may hold waiting for a core, and does not say so.

    Recorded beside other work, it would call every later run improved.
    """
    if verdict.kind != "improved" or before.latency is None or before.latency.without_core is not None:
        return verdict
    return replace(verdict, kind="ok", note="the baseline does not say whether other work had the cores")


def judge_saved(
    records: Iterable[tuple[Record, float | None, Baseline]], tolerances: Mapping[str, float], machine: Machine
) -> dict[Cell, Result]:
    """Judge records that were saved on `machine`, each against its own baseline, as the run that saved them would.

    What was saved of a suspected slowdown is the measurement that was to confirm it, so it spends the budget of errors.
    """
    budget = ErrorBudget()
    results = {}
    for record, seconds, baseline in records:
        result = Gate(tolerances, baseline, machine, budget).judge(record, seconds)
        if result.suspects_slowdown:
            budget.spend(found_slower=result.finds_slower)
        results[record.cell] = result
    return results
