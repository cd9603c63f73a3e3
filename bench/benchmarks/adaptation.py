"""A trained network updated to a shift of its images or to new classes: does the update work?

Every seed's update is done in a process of its own, beside others, on this machine or on a cluster. The record says how
accurate the network was before, on the way and after, and what that cost.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from peft_update_bench.bench.benchmarks.base import Benchmark, Visibly
from peft_update_bench.bench.options.cluster import CLUSTER
from peft_update_bench.bench.options.values import OptionError
from peft_update_bench.bench.units import count
from peft_update_bench.fixtures.data.names import TASKS
from peft_update_bench.fixtures.training import weight_sources
from peft_update_bench.fixtures.workload import Workload

if TYPE_CHECKING:
    from peft_update_bench.bench.cells import Cell
    from peft_update_bench.bench.gate.baseline import Baseline
    from peft_update_bench.bench.gate.gate import Gate, Result
    from peft_update_bench.bench.options import RunOptions
    from peft_update_bench.bench.options.adaptation import AdaptationOptions
    from peft_update_bench.bench.processes.executor import Wall
    from peft_update_bench.bench.processes.update_runs import UpdateRuns


class AdaptationBenchmark(Benchmark):
    name = "adaptation"
    default_matrix = "subset"
    default_workload = Workload(batch_size=32, image_size=32)
    """Small images in batches, as an update on a device sees them."""
    folder = "adaptation"
    takes_steps = False
    options = {  # noqa: RUF012 - as the base class has it
        "tasks": "comma-separated names out of shift, unseen; default: both",
        "seeds": "updates of each cell, each with its own seed; default: 2",
        "data": "mnist_5k (default) or digits, which packages ship; fashion_mnist, cifar10, cifar10-c or folder",
        "data_root": "where fashion_mnist, cifar10, cifar10-c or folder lies",
        "corruption": "what shifts the images, by ImageNet-C's name; default: fog",
        "severity": "how strong the shift is, 1 to 5; default: 5",
        "weights": "packaged (default), imagenet for those that packages ship, or torchvision for its own, which it "
        "downloads",
        "learning_rates": "the file that update-bench search --output wrote; default: the methods' own rates",
        "workers": "processes, each with one thread; default: one a core",
        "cache_dir": "where trained networks are kept; default: the user's cache folder",
        "cluster": CLUSTER,
    }

    def __init__(self, options: AdaptationOptions) -> None:
        self.adaptation = options
        self.cluster = options.cluster
        self._updates: UpdateRuns | None = None

    @classmethod
    def read(cls, given: Mapping[str, str | None], workload: Workload) -> tuple[Self, Workload]:
        from peft_update_bench.bench.options.adaptation import read_adaptation

        options, workload = read_adaptation(given, workload)
        return cls(options), workload

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.adaptation.settings)

    @property
    def all_tasks(self) -> tuple[str, ...]:
        return TASKS

    @property
    def repeat(self) -> list[str]:
        return [f"--metrics {self.name}", *self.adaptation.repeat]

    @property
    def remarks(self) -> list[str]:
        found = list(super().remarks)
        if self._updates is not None and self._updates.kept:
            number = count(self._updates.kept, "update")
            found.append(f"{number} done by a run that did not finish, found in {self._updates.folder}.")
        return found

    def check_run(self, run: RunOptions) -> None:
        if run.selection.batch_sizes:
            raise OptionError(
                f"--batch-size is '{','.join(map(str, run.selection.batch_sizes))}' beside --metrics adaptation; "
                "expected one number, because learning rates were searched for one"
            )
        if self.adaptation.learning_rates is not None:
            self.adaptation.learning_rates.check(["fft", *(cell.method for cell in run.selection.cells())])
        for architecture in dict.fromkeys(cell.architecture for cell in run.selection.cells()):
            try:
                weight_sources.check(architecture, self.adaptation.plan.weights)
            except weight_sources.WeightsError as error:
                raise OptionError(str(error)) from None

    def check_baseline(self, baseline: Baseline, cells: Collection[Cell]) -> None:
        from peft_update_bench.bench.gate.workloads import check_adaptation

        check_adaptation(baseline, self.adaptation.settings, cells)

    def prepare(self, run: RunOptions, cells: Sequence[Cell], visibly: Visibly) -> None:
        from peft_update_bench.bench.measuring.adaptation import reference, updates
        from peft_update_bench.bench.processes.local_processes import LocalProcesses
        from peft_update_bench.bench.processes.update_runs import UpdateRuns

        options = self.adaptation
        _check_shift(options)
        needed = [update for cell in cells for one in (reference(cell), cell) for update in updates(one, options)]
        if self._connection is None:
            here = partial(LocalProcesses, options.workers, self.wall(run))
            self._updates = UpdateRuns(needed, options.plan, options.cache_folder, here, visibly)
            return
        executor = self.cluster_executor(run, alike=True)
        self._updates = UpdateRuns(needed, options.plan, options.cache_folder, lambda: executor, visibly, executor.kind)

    def wall(self, run: RunOptions) -> Wall:
        from peft_update_bench.bench.processes.executor import Wall

        return Wall(plain=self.failures())

    def measure(self, cell: Cell, run: RunOptions, gate: Gate, benchmark: Any) -> Result:
        from peft_update_bench.bench.measuring.adaptation import record, reference, updates

        assert self._updates is not None, "a run prepares a benchmark before it measures"
        benchmark.group = f"{cell.architecture} (time spent waiting; updates run beside each other)"
        found = benchmark.pedantic(self._updates.found, args=(updates(cell, self.adaptation),))
        of_reference = self._updates.outcomes(updates(reference(cell), self.adaptation))
        return gate.judge(record(cell, run.workload, self.adaptation, found, of_reference))

    @classmethod
    def failures(cls) -> tuple[type[Exception], ...]:
        from peft_update_bench.bench.measuring.adaptation import FAILURES

        return FAILURES

    def close(self) -> None:
        # Kept: what it has to say of the run is asked for afterwards.
        if self._updates is not None:
            self._updates.close()
        super().close()

    def forget(self) -> None:
        if self._updates is not None:
            self._updates.forget()


def _check_shift(options: AdaptationOptions) -> None:
    """Raise OptionError where images of the run's size cannot be shifted: before a network is trained, and after what
    needs no import of what shifts them."""
    shift, data = options.settings.get("shift"), options.plan.data
    if shift is None or shift.published_digest is not None:
        return
    from peft_update_bench.fixtures.data import corruptions
    from peft_update_bench.fixtures.data.datasets import DataError

    try:
        corruptions.check(data.image_size, data.corruption, data.severity)
    except DataError as error:
        raise OptionError(str(error)) from None
