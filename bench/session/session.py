"""One run's state: what it was asked for, what came of each cell, and what a reader must know of it."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from textwrap import shorten
from types import ModuleType
from typing import Any

import pytest
from peft_update_bench.bench.benchmarks.base import Visibly
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.baseline import Baseline, BaselineError
from peft_update_bench.bench.gate.gate import Gate, Result
from peft_update_bench.bench.gate.load import explain_load
from peft_update_bench.bench.gate.messages import explain_failure, explain_loss, in_brief
from peft_update_bench.bench.gate.summary import Summary, describe
from peft_update_bench.bench.gate.workloads import check_batch_sizes, check_workload
from peft_update_bench.bench.options import RunOptions
from peft_update_bench.bench.record import WorkloadEntry
from peft_update_bench.bench.session.users_tests import UsersTests, lost
from peft_update_bench.bench.units import count
from peft_update_bench.fixtures.first_few import first_few

_BRIEF = 60
"""Characters of an error in pytest's short summary, before the test's id."""

_FIRST_COUNTS = (
    "This is the verdict of the first try: it is not measured in another, as of a marker flaky, because a suspected "
    "slowdown was measured again within the first."
)

SESSION: pytest.StashKey[Session] = pytest.StashKey()
"""Where pytest's configuration keeps the run's."""


@dataclass
class Session:
    """A run of benchmarks and its results, cell by cell."""

    run: RunOptions
    gate: Gate
    results: dict[Cell, Result] = field(default_factory=dict)
    matrix_tests: dict[str, Cell] = field(default_factory=dict)
    """This suite's own tests that were collected, each of a cell, by node id."""
    finished: int = 0
    """How many tests have come to their end."""
    unsaved: str = ""
    """Why a baseline that was asked for was not saved."""
    remarks: list[str] = field(default_factory=list)
    """What a reader should know of the run besides its benchmark's remarks, each a sentence."""
    unwritten: list[str] = field(default_factory=list)
    """The files that could not be written, and why, each a line."""

    @classmethod
    def of(cls, run: RunOptions) -> Session:
        return cls(run, Gate(run.tolerances))

    @cached_property
    def users(self) -> UsersTests:
        """Its part that is users' tests."""
        return UsersTests(self.run, self.gate, self.results)

    @property
    def tests(self) -> Mapping[str, Cell]:
        """The tests that were collected and measure a cell, by node id."""
        return ChainMap(self.users.tests, self.matrix_tests)

    @cached_property
    def cells(self) -> list[Cell]:
        return self.run.selection.cells()

    @cached_property
    def lost(self) -> frozenset[Cell]:
        """The cells that the baseline has and the run should have and has no longer."""
        baseline = self.gate.baseline
        if baseline is None:
            return frozenset()
        return frozenset(self.run.selection.no_longer_there(baseline.records, baseline.matrix))

    def compare_with(self, baseline: Baseline) -> None:
        """Judge against `baseline` from now on. Raises BaselineError where it cannot judge this run."""
        check_batch_sizes(baseline, self.cells)
        check_workload(baseline, WorkloadEntry(**self.run.workload.as_record()), self.cells)
        self.run.benchmark.check_baseline(baseline, self.cells)
        uncovered = [cell for cell in self.cells if cell not in baseline.records]
        if elsewhere := [cell for cell in uncovered if str(cell) in baseline.of_run]:
            raise BaselineError(
                f"{baseline.path}: is a shard of a run, and another has {first_few(elsewhere)}; expected the whole, "
                "which update-bench merge makes of all shards, or a run of the same shard"
            )
        if baseline.is_filtered and uncovered and not self.run.selection.is_filtered:
            raise BaselineError(
                f"{baseline.path}: was saved by a filtered run and lacks {len(uncovered)} of this run's "
                f"{len(self.cells)} cells, {uncovered[0]} for one; run with the same filters, "
                f"or record a whole one: {self.run.record_command}"
            )
        self.gate.baseline = baseline

    def cell(
        self,
        architecture: str,
        method: str,
        rank: int | None = None,
        task: str | None = None,
        batch_size: int | None = None,
    ) -> Cell:
        """The run's cell of these parts."""
        cell = Cell(architecture, method, rank, task, batch_size=batch_size)
        step = replace(cell, is_step=True)
        return step if step in self.cells or step in self.lost else cell

    @property
    def header(self) -> str:
        """What is about to run, for the head of pytest's report."""
        baseline = self.gate.baseline
        against = f"against {baseline.path}" if baseline else "without a baseline"
        cells = len(self.cells) + len(self.users.tests)
        where = self.run.benchmark.where
        return f"update benchmark: {count(cells, 'cell')}, {', '.join(self.run.metrics)}, {against}{where}"

    @property
    def suite_entry(self) -> dict[str, Any]:
        """What a saved file says of the run: which matrix, whether only a part of it was measured, and where the run is
        a shard, what it is one of."""
        whole = {*self.run.whole()}
        entry: dict[str, Any] = {
            "matrix": self.run.selection.matrix,
            "is_filtered": self.users.are_narrowed or not whole <= {*self.results},
        }
        if self.run.selection.shard is not None:
            together = self.run.selection.whole.cells()
            entry["shard"] = {
                "number": self.run.selection.shard[0],
                "of": self.run.selection.shard[1],
                "metrics": [*self.run.metrics],
                "cells": [str(cell) for cell in together],
                "is_filtered": not whole <= {*together},
                "record_command": self.run.record_command,
            }
        return entry

    def cells_of(self, module: ModuleType) -> list[Cell] | None:
        """The cells of a test file's benchmark in this run; None where the file has no benchmark.

        One that the baseline has and the run no longer has is a test too: one that fails. A file may choose cells of
        its own, which no baseline judges, by ``select_cells(run)``.
        """
        if hasattr(module, "select_cells"):
            chosen: list[Cell] = module.select_cells(self.run)
            return chosen
        if not hasattr(module, "BENCHMARK"):
            return None
        if self.run.benchmark.name != module.BENCHMARK:
            return []
        return [*self.cells, *sorted(self.lost, key=str)]

    def prepare(self, visibly: Visibly) -> None:
        """Called when `tests` are known, before the first runs."""
        wanted: Sequence[Cell] = [cell for cell in self.tests.values() if cell not in self.lost]
        self.run.benchmark.prepare(self.run, wanted, visibly)

    def run_cell(self, cell: Cell, benchmark: Any) -> str:
        """Measure, record and judge a cell; returns the failure's message, empty where it holds its baseline.

        `benchmark` is pytest-benchmark's fixture.
        """
        baseline = self.gate.baseline
        if cell in self.lost:
            assert baseline is not None
            self.results[cell] = lost(cell)
            return explain_loss([cell], baseline, self.run.record_command)
        if first := self._first_verdict(cell):
            return first
        if cell.is_step and (left_out := self.users.explain_left_out(cell)):
            return self._fail(cell, left_out)
        try:
            result = self.run.benchmark.measure(cell, self.run, self.gate, benchmark)
        except self.run.benchmark.failures() as error:
            return self._fail(cell, str(error))
        self.results[cell] = result
        assert result.record is not None
        benchmark.extra_info.update(result.record.as_extra_info())
        return explain_failure(result, baseline, self.run.record_command, self.run.also_fails)

    def _first_verdict(self, cell: Cell) -> str:
        """The message of one that was measured before in this run and did not hold its baseline; empty for any other.

        A test that is run until it passes, as by a marker of pytest-rerunfailures, would have a regression fail as
        often as that. One that came to no figures, as where a download failed, may well be tried again.
        """
        first = self.results.get(cell)
        if first is None or first.record is None:
            return ""
        message = explain_failure(first, self.gate.baseline, self.run.record_command, self.run.also_fails)
        return f"{message}\n{_FIRST_COUNTS}" if message else ""

    def _fail(self, cell: Cell, error: str) -> str:
        self.results[cell] = Result(cell, error=error)
        # pytest puts a test's id before its message; a cell's own test has another.
        return error if cell.is_tests else f"{cell}: {error}"

    @property
    def has_something_to_say(self) -> bool:
        """Whether the run came to anything that a summary is for."""
        return bool(self.results or self.unsaved or (self.finished and self.users.unmeasured))

    @property
    def summary(self) -> Summary:
        remarks = [*self.run.benchmark.remarks, *self.remarks]
        if self.run.untold:
            remarks.append(f"Not measured, because not told of a step of one's own: {', '.join(self.run.untold)}.")
        recordings = {"This run": [result.record for result in self.results.values() if result.record]}
        if self.gate.baseline and self.run.needs_machine:
            recordings[self.gate.baseline.name] = list(self.gate.baseline.records.values())
        remarks += filter(None, (explain_load(what, records) for what, records in recordings.items()))
        remarks += self.users.remarks
        if self.unsaved:
            remarks.append(f"No baseline was saved: {self.unsaved}.")
        return Summary(
            list(self.results.values()),
            measured=self.run.metrics,
            baseline=self.gate.baseline.name if self.gate.baseline else "",
            record_command=self.run.record_command,
            remarks=tuple(remarks),
            compared=self.gate.baseline,
            also_fails=self.run.also_fails,
        )

    def in_brief(self, test: str) -> str:
        """What failed most in the cell of a test, by node id; empty where its message says that first."""
        cell = self.tests.get(test) or next((cell for cell in self.users.lost if str(cell) == test), None)
        result = self.results.get(cell) if cell else None
        refused = self.users.refused.get(test) or (result.error if result and result.cell.is_tests else "")
        if refused:
            return shorten(refused, width=_BRIEF, placeholder=" …")
        return in_brief(result, self.run.also_fails) if result else ""

    def properties(self, cell: Cell) -> list[tuple[str, str]]:
        """What JUnit's file says of a measured cell besides whether it failed."""
        result = self.results[cell]
        reasons = {verdict.note: None for verdict in result.verdicts if verdict.kind == "not comparable"}
        return [("verdict", describe(result)), *(("not_comparable", reason) for reason in reasons)]
