"""What a run was asked for: benchmark, cells, workload and metrics, and how all of it is typed again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from peft_update_bench.bench import benchmarks
from peft_update_bench.bench.cells import MATRICES, Cell, Selection
from peft_update_bench.bench.metrics import default_tolerances, rows
from peft_update_bench.bench.options.values import as_typed
from peft_update_bench.fixtures.workload import Workload

if TYPE_CHECKING:
    from peft_update_bench.bench.benchmarks.base import Benchmark
    from peft_update_bench.bench.gate.verdict import Kind

_OF_THE_WORKLOAD = ("batch_size", "image_size", "num_classes", "optimizer", "dtype", "threads", "device")
"""The options that say what cells are updated with."""


def default_kind() -> type[Benchmark]:
    """The benchmark of a run that names no metric of another."""
    # Kinds import options, and whoever adds one may import its base first.
    return benchmarks.kind(benchmarks.DEFAULT)


@dataclass(frozen=True)
class RunOptions:
    """Benchmark, cells, workload and metrics of one run."""

    benchmark: Benchmark = field(default_factory=lambda: default_kind()())
    selection: Selection = field(default_factory=Selection)
    workload: Workload = field(default_factory=Workload)
    metrics: tuple[str, ...] = field(default_factory=lambda: default_kind().metrics(by_default=True))
    untold: tuple[str, ...] = ()
    """Metrics that were named and are not measured, because they are not told of a step of one's own."""
    tolerances: Mapping[str, float] = field(default_factory=default_tolerances)
    unstable: str = "warn"
    not_comparable: str = "warn"
    records_baseline: bool = False
    cell_seconds: int = 300
    command: str = "pytest"
    modules: tuple[str, ...] = ()
    """The project's, which a process that has only this object must import first."""
    taken: frozenset[str] = frozenset()
    """The options that go by their longer name alone, because another has the short one."""

    def of(self, cell: Cell) -> RunOptions:
        """The run as `cell` sees it: with its batch size, where the run has several."""
        if cell.batch_size is None:
            return self
        return replace(self, workload=replace(self.workload, batch_size=cell.batch_size))

    def baseline_folder(self, storage: Path) -> Path:
        """Where this run's baselines are in `storage`: each kind of benchmark has a folder of its own, so that none
        takes another's newest file for its own."""
        return storage / self.benchmark.folder

    def whole(self) -> list[Cell]:
        """The cells of the matrix, not narrowed by any filter; of own steps all that were named."""
        if self.selection.steps is not None:
            return self.selection.cells()
        chosen = self.selection
        return Selection(chosen.matrix, tasks=self.benchmark.all_tasks, batch_sizes=chosen.batch_sizes).cells()

    @property
    def also_fails(self) -> frozenset[Kind]:
        """The kinds of verdict that fail a cell because the run was asked to, besides those that always do."""
        asked: dict[Kind, str] = {"unstable": self.unstable, "not comparable": self.not_comparable}
        return frozenset(kind for kind, answer in asked.items() if answer == "fail")

    @property
    def needs_machine(self) -> bool:
        """Whether a figure is measured that only a machine like the baseline's can be judged by."""
        return any(row.figure.evidence.needs_machine for row in rows(self.metrics))

    @property
    def record_command(self) -> str:
        """What records a baseline of this workload, as one types it.

        Filters are left out, because a baseline should be whole; names and ranks that are not in the matrix stay.
        """
        default = self.benchmark.default_workload
        words = [self.command, "--benchmark-save=baseline", *self.benchmark.repeat]
        if self.selection.batch_sizes:
            words.append(f"--batch-size {','.join(map(str, self.selection.batch_sizes))}")
        words += [
            f"--{name.replace('_', '-')} {getattr(self.workload, name)}"
            for name in _OF_THE_WORKLOAD
            if getattr(self.workload, name) != getattr(default, name)
            and not (name == "batch_size" and self.selection.batch_sizes)
        ]
        if self.selection.steps:
            words.append(f"--steps {','.join(self.selection.steps)}")
        if self.selection.matrix != self.benchmark.default_matrix:
            words.append(f"--matrix {self.selection.matrix}")
        for name in ("architectures", "methods", "ranks"):
            narrowed = getattr(self.selection, name) or ()
            if not {*narrowed} <= {*getattr(MATRICES[self.selection.matrix], name)} or (
                narrowed and self.selection.steps
            ):
                words.append(f"--{name} {','.join(map(str, narrowed))}")
        return as_typed(" ".join(words), self.taken)
