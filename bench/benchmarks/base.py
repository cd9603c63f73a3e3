"""What a kind of benchmark answers: which cells, under which workload, how they are measured, where baselines are."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from typing import TYPE_CHECKING, Any, ClassVar, Self

from peft_update_bench.bench.metrics import names_of
from peft_update_bench.bench.options.values import OptionError
from peft_update_bench.fixtures.imported import ImportedNameError, imported_names, load
from peft_update_bench.fixtures.workload import Workload

if TYPE_CHECKING:
    from peft_update_bench.bench.cells import Cell
    from peft_update_bench.bench.gate.baseline import Baseline
    from peft_update_bench.bench.gate.gate import Gate, Result
    from peft_update_bench.bench.options import RunOptions
    from peft_update_bench.bench.options.cluster import ClusterOptions
    from peft_update_bench.bench.processes.cluster import Cluster, ClusterExecutor
    from peft_update_bench.bench.processes.executor import Wall
    from peft_update_bench.bench.processes.node_process import NodeProcess

Visibly = Callable[[], AbstractContextManager[object]]
"""Within it, what is printed reaches the terminal, which pytest otherwise keeps for itself."""


class Benchmark(ABC):
    """A kind of benchmark as a class; an instance is one as a run asked for it.

    ``name``              by which ``--metrics`` may name it, and its test file's ``BENCHMARK``
    ``default_matrix``    where ``--matrix`` names no other
    ``default_workload``  what options change
    ``folder``            below the storage, of its baselines: the newest file in it is what a run is judged by
    ``options``           those that mean nothing to other kinds, with their help
    ``takes_steps``       whether ``--steps`` names update steps of a user's own; elsewhere it is a number of steps
    """

    name: ClassVar[str]
    default_matrix: ClassVar[str] = "core"
    default_workload: ClassVar[Workload] = Workload()
    folder: ClassVar[str] = ""
    options: ClassVar[Mapping[str, str]] = {}
    takes_steps: ClassVar[bool] = True

    cluster: ClusterOptions | None = None
    """Where the run is done besides this machine; None where it is not."""
    _connection: Cluster | None = None
    _place: NodeProcess | None = None

    @classmethod
    def metrics(cls, *, by_default: bool = False) -> tuple[str, ...]:
        """What it can measure, or what it measures where no metric is named."""
        return names_of(cls.name, by_default=by_default)

    @classmethod
    def read(cls, given: Mapping[str, str | None], workload: Workload) -> tuple[Self, Workload]:
        """An instance from the options as typed, and the workload as this kind completes it. Raises OptionError."""
        return cls(), workload

    @property
    def tasks(self) -> tuple[str, ...]:
        """What divides an architecture's cells further; empty where nothing does."""
        return ()

    @property
    def all_tasks(self) -> tuple[str, ...]:
        """The tasks of a run that is not narrowed."""
        return ()

    @property
    def repeat(self) -> list[str]:
        """The options that name this kind, and the node that measures, as one types them; those at their default are
        left out."""
        if self.cluster is None or self.cluster.label is None:
            return []
        return [f"--cluster {self.cluster.address}", f"--on {self.cluster.label}"]

    @property
    def notice(self) -> str:
        """What a reader should know before the first cell, when it is known which there are; empty for nothing."""
        return ""

    @property
    def remarks(self) -> list[str]:
        """What a reader should know of how the run went, each a sentence."""
        return [] if self._connection is None else self._connection.remarks

    def check_baseline(self, baseline: Baseline, cells: Collection[Cell]) -> None:
        """Refuse a baseline that cannot judge `cells`. Raises BaselineError. The workload has been looked at."""

    def try_networks(self, run: RunOptions) -> None:
        """Build each network of a user's own and show it the workload's images, behind the wall that cells are measured
        behind: one that hangs, crashes or ends its process would take the run with it, without a word.

        Raises OptionError where one is not what it should be.
        """
        names = imported_names(*(run.selection.architectures or ()))
        if not names:
            return
        from peft_update_bench.bench.processes.cell_process import CellProcess, ThisProcess
        from peft_update_bench.bench.processes.child_process import MeasurementError
        from peft_update_bench.fixtures.architectures import UnsupportedNetworkError
        from peft_update_bench.fixtures.own_networks import check

        sentences = (ImportedNameError, UnsupportedNetworkError)
        with closing(CellProcess(run.cell_seconds, sentences) if run.cell_seconds else ThisProcess()) as process:
            for name in names:
                try:
                    load(name)  # a module is imported here, as any that pytest is given
                    process.begin((name,))
                    process.call(check, name, run.workload)
                except (*sentences, MeasurementError) as error:
                    raise OptionError(f"--architectures is {name!r}: {error}") from None

    def check_run(self, run: RunOptions) -> None:
        """Refuse a run that is asked for what this kind cannot do. Raises OptionError."""

    def connect(self, run: RunOptions) -> None:
        """Reach the cluster, where one was named, and the node that measures. Raises OptionError."""
        if self.cluster is None:
            return
        from peft_update_bench.bench.processes.cluster import Cluster
        from peft_update_bench.bench.processes.ray_engine import ClusterError

        try:
            self._connection = Cluster(self.cluster.address)
            if self.cluster.label is not None:
                self._place = self._connection.process(self.wall(run), self.cluster.label)
        except ClusterError as error:
            raise OptionError(str(error)) from None

    def wall(self, run: RunOptions) -> Wall:
        """What a cell is measured behind."""
        from peft_update_bench.bench.processes.executor import Wall

        return Wall(run.cell_seconds or math.inf, self.failures(), run.workload.device, run.workload.threads)

    def cluster_executor(self, run: RunOptions, *, alike: bool) -> ClusterExecutor:
        """Does tasks on the cluster; on machines of one kind where they must be `alike`. Raises OptionError."""
        from peft_update_bench.bench.processes.ray_engine import ClusterError

        assert self._connection is not None, "a run connects first"
        try:
            return self._connection.executor(self.wall(run), alike=alike)
        except ClusterError as error:
            raise OptionError(str(error)) from None

    @property
    def machine_info(self) -> Mapping[str, Any] | None:
        """pytest-benchmark's, of the node that measures; None where this machine does."""
        return None if self._place is None else self._place.machine_info

    @property
    def where(self) -> str:
        """Where the run is done, in words that end a sentence; empty where it is this machine."""
        if self.cluster is None:
            return ""
        node = "" if self._place is None else f"on {self._place.made_on.node} of "
        return f", {node or 'on '}the cluster {self.cluster.address}"

    def prepare(self, run: RunOptions, cells: Sequence[Cell], visibly: Visibly) -> None:
        """Called once, when it is known which `cells` will be measured, before the first is."""

    @abstractmethod
    def measure(self, cell: Cell, run: RunOptions, gate: Gate, benchmark: Any) -> Result:
        """Measure one cell and judge it; give `benchmark`, pytest-benchmark's fixture, its rounds.

        Raises one of `failures` where the cell cannot be measured; the others still run.
        """

    @classmethod
    @abstractmethod
    def failures(cls) -> tuple[type[Exception], ...]:
        """What one cell may fail with, each a sentence for the user."""

    def close(self) -> None:
        """End whatever was started for the run."""
        if self._connection is not None:
            self._connection.close()

    def forget(self) -> None:
        """Drop what was kept for a run that goes on from this one: its results have been told and written."""
