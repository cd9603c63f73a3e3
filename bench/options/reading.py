"""What was typed, read and checked: every bad value is one sentence that says what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_update_bench.bench import benchmarks
from peft_update_bench.bench.cells import MATRICES, Selection
from peft_update_bench.bench.metrics import METRICS
from peft_update_bench.bench.options.additions import check_measures
from peft_update_bench.bench.options.project import Project
from peft_update_bench.bench.options.run import RunOptions, default_kind
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
    usual = ", ".join(default_kind().metrics(by_default=True))
    return {**OPTIONS, "metrics": f"comma-separated names of one benchmark's ({listed}); default: {usual}", **own}


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


def _metrics(value: str | None, *, saves: bool) -> tuple[type[Benchmark], tuple[str, ...]]:
    """The kind of benchmark that the metrics named belong to, and these, in the table's order."""
    owner = {metric: name for name in benchmarks.BENCHMARKS for metric in benchmarks.kind(name).metrics()}
    named = names("metrics", value, owner)
    if named is None:
        kind = default_kind()
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


def _cell_seconds(value: str | None) -> int:
    """A cell's time; 0 is for debuggers: no limit, and no process of its own."""
    if value is None:
        return RunOptions.cell_seconds
    if value == "0":
        return 0
    return whole_number("cell_seconds", value, ", or 0 for no limit")
