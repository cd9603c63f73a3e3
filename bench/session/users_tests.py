"""What a run has of users' tests: which were found, which the baseline has beside them, and what became of those."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.baseline_file import steps_of_older
from peft_update_bench.bench.gate.gate import Gate, Result
from peft_update_bench.bench.gate.grouped import cells_in_words
from peft_update_bench.bench.gate.messages import explain_left_out, explain_loss, explain_without_record
from peft_update_bench.bench.gate.verdict import Verdict
from peft_update_bench.bench.options import RunOptions
from peft_update_bench.bench.units import count
from peft_update_bench.fixtures.methods.names import AS_IT_IS


@dataclass
class UsersTests:
    """Those of a run whose results, cell by cell, are `results`. A test's cell is named by its node id."""

    run: RunOptions
    gate: Gate
    results: dict[Cell, Result]
    tests: dict[str, Cell] = field(default_factory=dict)
    """That were collected and measure a step, by node id."""
    are_narrowed: bool = False
    """Whether some were left out of the run."""
    lost: list[Cell] = field(default_factory=list)
    """The baseline's that the run should have collected, and that are no longer there."""
    are_reported_lost: bool = False
    """Whether pytest is being told of these."""
    refused: dict[str, str] = field(default_factory=dict)
    """Why some were not measured, by node id."""
    failures: dict[str, str] = field(default_factory=dict)
    """What was said of those that were to be measured and failed, by node id."""
    expected_failures: list[str] = field(default_factory=list)
    """The node ids of those that failed as their marker xfail expects."""
    is_baseline_named: bool = False
    """Whether the baseline was asked for by its name, and need not be the newest."""

    @property
    def recorded(self) -> list[Cell]:
        """The baseline's."""
        records = self.gate.baseline.records if self.gate.baseline else {}
        return [cell for cell in records if cell.is_tests]

    @property
    def recorded_names(self) -> list[str]:
        return [cell.architecture for cell in self.recorded]

    def add(self, names: Iterable[str]) -> None:
        """Tests by node id, each of which builds its step."""
        self.tests |= {name: Cell(name, AS_IT_IS, is_step=True) for name in names}

    def begin(self, test: str) -> None:
        """Forget what was said of one that is run again."""
        self.refused.pop(test, None)
        self.failures.pop(test, None)

    def lose(self, was_collected: Callable[[str], bool]) -> None:
        """Take for lost which of the baseline's the run has not, though it `was_collected` where they were."""
        gone = [cell for cell in self.recorded if cell.architecture not in self.tests]
        self.lost = [cell for cell in gone if was_collected(cell.architecture)]
        self.results |= {cell: lost(cell) for cell in self.lost}

    def explain_left_out(self, cell: Cell) -> str:
        """Why a step that the baseline lacks is no new one, which nothing would judge: its entry there is empty, or an
        older baseline has it, as after a part was recorded. Empty where it is new, or the baseline has it."""
        judge = self.gate.baseline
        if judge is None or str(cell) in map(str, judge.records):
            return ""
        if cell.architecture in judge.without_record:
            return explain_without_record(cell.architecture, judge, self.run.record_command)
        older = self._steps_of_older.get(str(cell))
        return explain_left_out(older, judge, self.run.record_command) if older else ""

    @cached_property
    def _steps_of_older(self) -> dict[str, Path]:
        judge = self.gate.baseline
        return steps_of_older(judge.path) if judge and not self.is_baseline_named else {}

    @property
    def unmeasured(self) -> list[Cell]:
        """The baseline's that are in this run, and came to no measurement."""
        measured = {cell.architecture for cell in self.results}
        names = self.tests.keys() - measured
        return [cell for cell in self.recorded if cell.architecture in names]

    def fail_passed(self, test: str) -> str:
        """Why one that has come to its end, and passes, fails all the same: what was said of it has ended a thread of
        its own, or was caught; or it has measured nothing. Empty where it holds."""
        return self.refused.get(test) or self.failures.get(test) or self._fail_unmeasured(test)

    def _fail_unmeasured(self, test: str) -> str:
        """As above, where the baseline has it, and it has measured nothing."""
        cell = next((cell for cell in self.unmeasured if cell.architecture == test), None)
        if cell is None or self.gate.baseline is None:
            return ""
        error = (
            f"never calls update_benchmark, and is in {self.gate.baseline.path}; expected one call, pytest.skip where "
            f"it cannot be measured, or where it is not to be any more a new baseline: {self.run.record_command}"
        )
        self.tests[test] = cell
        self.results[cell] = Result(cell, error=error)
        return error

    @property
    def remarks(self) -> list[str]:
        """What a reader should know of them that pytest's own report does not say."""
        remarks, baseline = [], self.gate.baseline
        if baseline and self.lost:
            remarks.append(" ".join(explain_loss(self.lost, baseline, self.run.record_command).splitlines()))
        if baseline and self.unmeasured:
            number, which = count(len(self.unmeasured), "cell"), cells_in_words(self.unmeasured)
            remarks.append(
                f"{number} of {baseline.name} not measured, because skipped, not reached or failed before: {which}."
            )
        if xfailed := [self.tests[name] for name in self.expected_failures]:
            remarks.append(f"Marked xfail, so that the run does not fail for it: {cells_in_words(xfailed)}.")
        return remarks


def lost(cell: Cell) -> Result:
    """Of a cell that the baseline has and the run no longer has."""
    return Result(cell, verdicts=(Verdict("the cell", "missing", note="the run no longer has it"),))
