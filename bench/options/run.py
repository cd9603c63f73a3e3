"""What a run was asked for, checked: every bad value is one sentence that says what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_update_bench.bench import benchmarks
from peft_update_bench.bench.cells import MATRICES, Cell, Selection
from peft_update_bench.bench.metrics import METRICS, default_tolerances, rows
from peft_update_bench.bench.options.additions import check_measures
from peft_update_bench.bench.options.project import Project
from peft_update_bench.bench.options.shard import check_shard, read_shard
from peft_update_bench.bench.options.subjects import (
    check_architecture,
    check_method,
    check_optimizer_of,
    read_device,
    read_optimizer,
    read_steps,
)
from peft_update_bench.bench.options.values import (
    OptionError,
    as_typed,
    comma_separated,
    folder,
    names,
    one_of,
    typed_or,
    whole_number,
)
from peft_update_bench.fixtures.methods import METHODS
from peft_update_bench.fixtures.workload import DTYPES, OPTIMIZERS, Workload

if TYPE_CHECKING:
    from peft_update_bench.bench.benchmarks.base import Benchmark
    from peft_update_bench.bench.gate.verdict import Kind

OPTIONS = {
    "matrix": f"{', '.join(MATRICES)}; default: core, adaptation's subset",
    "steps": "comma-separated MODULE:NAME of update steps of one's own, in the place of architectures; with --metrics "
    "adaptation a number, of an update's steps, default: 60",
    "architectures": "comma-separated torchvision names, or MODULE:NAME for one's own; default: the matrix's",
    "methods": f"comma-separated: {', '.join(METHODS)}, or MODULE:NAME for one's own; default: the matrix's",
    "ranks": "comma-separated ranks for the methods that take one; default: the matrix's",
    "metrics": "comma-separated; see the list below",
    "batch_size": "images in a batch, or several numbers of them, comma-separated, each for cells of its own; "
    "default: 1; adaptation's: 32",
    "image_size": "height and width of an image in pixels; default: 224; adaptation's: 32",
    "num_classes": "what the classifier tells apart; default: 10",
    "optimizer": f"{', '.join(OPTIMIZERS).lower()}; default: adamw",
    "dtype": f"{', '.join(DTYPES)}; default: float32",
    "threads": "threads within an operator; default: 1",
    "device": "cpu (default) or cuda",
    "shard": "I/N: the I-th of N parts of the cells, for several machines; update-bench merge joins the files",
    "cell_seconds": "how long a cell may take before it is ended and fails; default: 300; 0: no limit, for debuggers",
    "unstable": "fail or warn (default) where a latency stayed too noisy to judge",
    "not_comparable": "fail or warn (default) where a figure cannot be compared with the baseline's",
}
"""Those of every kind of benchmark, with their help. A kind's own are its class's."""


def all_options() -> dict[str, str]:
    """Every option's help, by its name without dashes."""
    kinds: dict[str, dict[str, list[str]]] = {}
    for name in benchmarks.BENCHMARKS:
        for option, text in benchmarks.kind(name).options.items():
            kinds.setdefault(option, {}).setdefault(text, []).append(name)
    own = {
        option: "; ".join(f"{', '.join(names)}: {text}" for text, names in texts.items())
        for option, texts in kinds.items()
    }
    listed = "; ".join(
        f"{name}: {', '.join(benchmarks.kind(name).metrics())}" if len(benchmarks.BENCHMARKS) > 1 else name
        for name in benchmarks.BENCHMARKS
    )
    usual = ", ".join(_default_kind().metrics(by_default=True))
    return {**OPTIONS, "metrics": f"comma-separated names of one benchmark's ({listed}); default: {usual}", **own}


@dataclass(frozen=True)
class RunOptions:
    """Benchmark, cells, workload and metrics of one run."""

    benchmark: Benchmark = field(default_factory=lambda: _default_kind()())
    selection: Selection = field(default_factory=Selection)
    workload: Workload = field(default_factory=Workload)
    metrics: tuple[str, ...] = field(default_factory=lambda: _default_kind().metrics(by_default=True))
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


def read(
    given: Mapping[str, str | None],
    tolerances: Mapping[str, float],
    *,
    records_baseline: bool = False,
    command: str = RunOptions.command,
    is_of_tests: bool = False,
    modules: tuple[str, ...] = (),
    taken: frozenset[str] = frozenset(),
) -> RunOptions:
    """Check the options as typed, keyed by name without dashes; None, or no key, where an option was not given.

    `command` is how the run was started. Where it `is_of_tests`, its cells are not the options' to choose: tests build
    their steps.

    Raises OptionError.
    """
    kind, metrics = _metrics(given.get("metrics"), saves=records_baseline)
    for name in benchmarks.BENCHMARKS:
        options = benchmarks.kind(name).options
        meaningless = [o for o in options if given.get(o) is not None and o not in kind.options]
        if meaningless:
            flag = f"--{meaningless[0].replace('_', '-')}"
            if name == benchmarks.DEFAULT:
                raise OptionError(
                    f"{flag} is given with --metrics {kind.name}, which takes none; expected one of the two"
                )
            raise OptionError(f"{flag} is given without --metrics {name}; expected both or neither")
    sizes: dict[str, Any] = {
        name: whole_number(name, given[name])
        for name in ("image_size", "num_classes", "threads")
        if given.get(name) is not None
    }
    batch_sizes = comma_separated(given.get("batch_size"), lambda word: whole_number("batch_size", word)) or ()
    if batch_sizes:
        sizes["batch_size"] = batch_sizes[0]
    steps = () if is_of_tests else read_steps(given, kind)
    untold = tuple(name for name in metrics if not METRICS[name].of_steps) if steps or is_of_tests else ()
    if untold:
        metrics = tuple(name for name in metrics if name not in untold)
        if not metrics:
            raise OptionError(
                f"--metrics is {given.get('metrics')!r}, which is not told of a step of one's own; expected others "
                "too, such as flops,memory"
            )
    check_measures(metrics)
    device = read_device(given.get("device"))
    workload = replace(
        kind.default_workload,
        **sizes,
        device=device,
        optimizer=read_optimizer(given.get("optimizer"), device),
        dtype=one_of("dtype", typed_or(given, "dtype", Workload.dtype), DTYPES),
    )
    selection = Selection(
        matrix=one_of("matrix", typed_or(given, "matrix", kind.default_matrix), tuple(MATRICES)),
        architectures=None if is_of_tests else comma_separated(given.get("architectures"), check_architecture),
        methods=None
        if is_of_tests
        else comma_separated(given.get("methods"), partial(check_method, of_steps=bool(steps))),
        ranks=comma_separated(given.get("ranks"), lambda word: whole_number("ranks", word)),
        steps=steps,
        shard=None if is_of_tests else read_shard(given.get("shard")),
        batch_sizes=batch_sizes if len(batch_sizes) > 1 else (),
    )
    run = RunOptions(
        selection=selection,
        workload=workload,
        metrics=metrics,
        untold=untold if given.get("metrics") else (),
        tolerances=tolerances,
        unstable=one_of("unstable", typed_or(given, "unstable", "warn"), ("fail", "warn")),
        not_comparable=one_of("not_comparable", typed_or(given, "not_comparable", "warn"), ("fail", "warn")),
        records_baseline=records_baseline,
        cell_seconds=_cell_seconds(given.get("cell_seconds")),
        command=command,
        modules=modules,
        taken=taken,
    )
    # After all that is only words: a kind may read images, and users' own networks are built for what these are.
    benchmark, workload = kind.read(given, workload)
    run = replace(run, benchmark=benchmark, selection=replace(selection, tasks=benchmark.tasks), workload=workload)
    benchmark.try_networks(run)
    check_shard(run.selection)
    benchmark.check_run(run)
    if workload.optimizer != Workload.optimizer and not is_of_tests:
        check_optimizer_of(run.selection, str(given["optimizer"]))
    return run


def read_for(
    project: Project, typed: Mapping[str, str | None], tolerances: Mapping[str, float], **details: Any
) -> RunOptions:
    """As :func:`read`, with the project's own choice for what was not typed. Raises OptionError."""
    try:
        kind, _ = _metrics(typed.get("metrics") or project.options.get("metrics"), saves=False)
        return read(
            project.complete(typed, () if kind.takes_steps else ("steps",)),
            tolerances,
            modules=project.modules,
            **details,
        )
    except OptionError as error:
        raise project.located(error, typed) from None


def storage_folder(location: str, name: str = "--benchmark-storage") -> Path:
    """The folder that ``--benchmark-storage`` names, there or to be made. Raises OptionError for anything else."""
    scheme, separator, path = location.rpartition("://")
    if separator and scheme != "file":
        raise OptionError(f"{name} is {location!r}; expected a folder, because the gate reads files only")
    if path.startswith("file:"):
        raise OptionError(f"{name} is {location!r}; expected a folder by its path, alone or behind file://")
    return folder(name, location, path)


def _default_kind() -> type[Benchmark]:
    # Kinds import options, and whoever adds one may import its base first.
    return benchmarks.kind(benchmarks.DEFAULT)


def _metrics(value: str | None, *, saves: bool) -> tuple[type[Benchmark], tuple[str, ...]]:
    """The kind of benchmark that the metrics named belong to, and these, in the table's order."""
    owner = {metric: name for name in benchmarks.BENCHMARKS for metric in benchmarks.kind(name).metrics()}
    named = names("metrics", value, owner)
    if named is None:
        kind = _default_kind()
        usual = kind.metrics(by_default=True)
        return kind, tuple(name for name in kind.metrics() if name in usual or (saves and METRICS[name].in_baselines))
    owners = list(dict.fromkeys(owner[metric] for metric in named))
    if len(owners) > 1:
        alone = next(name for name in owners if name != benchmarks.DEFAULT)
        raise OptionError(
            f"--metrics is {value!r}; expected {alone} alone, because it has a workload of its own "
            "(its records hold FLOPs and memory too)"
        )
    return benchmarks.kind(owners[0]), tuple(metric for metric in METRICS if metric in named)


_OF_THE_WORKLOAD = ("batch_size", "image_size", "num_classes", "optimizer", "dtype", "threads", "device")
"""The options that say what cells are updated with."""


def _cell_seconds(value: str | None) -> int:
    """A cell's time; 0 is for debuggers: no limit, and no process of its own."""
    if value is None:
        return RunOptions.cell_seconds
    if value == "0":
        return 0
    return whole_number("cell_seconds", value, ", or 0 for no limit")
