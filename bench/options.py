"""What a run was asked for, checked: every bad value is one sentence that says what is allowed."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from bench.cells import MATRICES, Selection
from bench.record import AdaptationSettings
from fixtures import datasets, own_networks
from fixtures.adaptation import Plan
from fixtures.architectures import ARCHITECTURES, FURTHER_ARCHITECTURES, UnsupportedNetworkError
from fixtures.cache import DEFAULT_FOLDER
from fixtures.corruptions import CORRUPTIONS, SEVERITIES
from fixtures.datasets import DATASETS, DataError, Dataset
from fixtures.imported import ImportedNameError, is_imported
from fixtures.methods import METHODS, method_named
from fixtures.pretraining import WEIGHTS
from fixtures.tasks import TASKS, DataChoice, new_classes
from fixtures.workload import Workload

T = TypeVar("T")

_MOST_DIGITS = 9
"""Of a whole number. Python refuses to read thousands of digits, with an error of its own."""

METRICS = ("flops", "memory", "measured_memory", "latency")
"""The update benchmark's, measured by default."""

ADAPTATION = "adaptation"
"""The adaptation benchmark's, which has a workload of its own and runs alone."""

ADAPTATION_OPTIONS = (
    "tasks", "seeds", "steps", "data", "data_root", "corruption", "severity", "weights", "workers", "cache_dir",
)  # fmt: skip
"""Those that mean nothing to the update benchmark."""


class OptionError(Exception):
    """A bad option: what was given and what is allowed."""


@dataclass(frozen=True)
class AdaptationOptions:
    """How cells are adapted: the plan of an update, what the record says of it for each task, and by how many seeds,
    worker processes and where networks are kept."""

    plan: Plan = field(default_factory=Plan)
    settings: Mapping[str, AdaptationSettings] = field(default_factory=dict)
    seeds: int = 2
    workers: int = 1
    cache_folder: Path = DEFAULT_FOLDER


@dataclass(frozen=True)
class RunOptions:
    """Cells, workload and metrics of one run. `adaptation` is None in the update benchmark."""

    selection: Selection = field(default_factory=Selection)
    workload: Workload = field(default_factory=Workload)
    metrics: tuple[str, ...] = METRICS
    tolerances: Mapping[str, float] = field(default_factory=dict)
    unstable: str = "warn"
    records_baseline: bool = False
    cell_seconds: int = 300
    adaptation: AdaptationOptions | None = None

    @property
    def computed(self) -> bool:
        return "flops" in self.metrics or "memory" in self.metrics

    def baseline_folder(self, storage: Path) -> Path:
        """Where this run's baselines are in `storage`: adaptation's have a folder of their own, so that neither
        benchmark takes the other's newest file for its own."""
        return storage if self.adaptation is None else storage / ADAPTATION

    @property
    def repeat(self) -> str:
        """The options that repeat this run's workload and cells, as one types them; empty for the default run.

        Filters are left out, because a baseline should be whole; a user's own names are in no matrix, and stay.
        """
        default, matrix = (Workload(), "core") if self.adaptation is None else (_adapting(), "subset")
        words = [] if self.adaptation is None else ["--metrics adaptation", *_words(self.adaptation)]
        words += [
            f"--{name.replace('_', '-')} {getattr(self.workload, name)}"
            for name in ("batch_size", "image_size", "threads", "device")
            if getattr(self.workload, name) != getattr(default, name)
        ]
        if self.selection.matrix != matrix:
            words.append(f"--matrix {self.selection.matrix}")
        for name in ("architectures", "methods"):
            chosen = getattr(self.selection, name) or ()
            if any(map(is_imported, chosen)):
                words.append(f"--{name} {','.join(chosen)}")
        return " ".join(words)


def read(
    given: Mapping[str, str | None], tolerances: Mapping[str, float], *, records_baseline: bool = False
) -> RunOptions:
    """Check the options as typed, keyed by name without dashes; None where an option was not given.

    Raises OptionError.
    """
    metrics = _names("metrics", given["metrics"], (*METRICS, ADAPTATION)) or METRICS
    adapts = metrics == (ADAPTATION,)
    if ADAPTATION in metrics and not adapts:
        raise OptionError(
            f"--metrics is {given['metrics']!r}; expected adaptation alone, because it has a workload of its own "
            "(its records hold FLOPs and memory too)"
        )
    meaningless = [] if adapts else [name for name in ADAPTATION_OPTIONS if given.get(name) is not None]
    if meaningless:
        raise OptionError(
            f"--{meaningless[0].replace('_', '-')} is given without --metrics adaptation; expected both or neither"
        )
    sizes: dict[str, Any] = {
        name: _whole_number(name, given[name])
        for name in ("batch_size", "image_size", "threads")
        if given[name] is not None
    }
    workload = replace(_adapting() if adapts else Workload(), **sizes, device=_device(given["device"]))
    adaptation = None
    if adapts:
        adaptation, num_classes = _adaptation(given, workload)
        workload = replace(workload, num_classes=num_classes)
    return RunOptions(
        selection=Selection(
            matrix=_one_of("matrix", given["matrix"] or ("subset" if adapts else "core"), MATRICES),
            architectures=_list(given["architectures"], lambda name: _architecture(name, workload)),
            methods=_list(given["methods"], _method),
            ranks=_list(given["ranks"], lambda word: _whole_number("ranks", word)),
            tasks=tuple(adaptation.settings) if adaptation else (),
        ),
        workload=workload,
        metrics=metrics,
        adaptation=adaptation,
        tolerances=tolerances,
        unstable=_one_of("unstable", given["unstable"] or "warn", ("fail", "warn")),
        records_baseline=records_baseline,
        cell_seconds=_cell_seconds(given.get("cell_seconds")),
    )


def _adapting() -> Workload:
    """The adaptation benchmark's default: small images in batches, as an update on a device sees them."""
    return Workload(batch_size=32, image_size=32)


def _adaptation(given: Mapping[str, str | None], workload: Workload) -> tuple[AdaptationOptions, int]:
    """The adaptation benchmark's options, with the data looked at, and how many classes these have."""
    if workload.threads != 1 or workload.device != "cpu":
        raise OptionError(
            "--metrics adaptation runs on the CPU with one thread an update, which repeats to the last digit; "
            "expected no --threads and no --device beside it (use --workers for speed)"
        )
    data_root = given.get("data_root")
    severity = _whole_number("severity", given.get("severity") or str(SEVERITIES[-1]))
    if severity not in SEVERITIES:
        raise OptionError(f"--severity is '{severity}'; expected a whole number from 1 to {SEVERITIES[-1]}")
    choice = DataChoice(
        name=_one_of("data", given.get("data") or next(iter(DATASETS)), DATASETS),
        data_root=None if data_root is None else Path(data_root).resolve(),
        image_size=workload.image_size,
        corruption=_one_of("corruption", given.get("corruption") or DataChoice.corruption, CORRUPTIONS),
        severity=severity,
    )
    plan = Plan(
        data=choice,
        weights=_one_of("weights", given.get("weights") or WEIGHTS[0], WEIGHTS),
        steps=_whole_number("steps", given.get("steps") or str(Plan.steps)),
        batch_size=workload.batch_size,
    )
    try:
        data = datasets.load(choice.name, choice.image_size, choice.data_root)
        chosen = _names("tasks", given.get("tasks"), TASKS) or TASKS
        settings = {task: _settings(task, plan, data) for task in chosen}
    except DataError as error:
        raise OptionError(str(error)) from None
    options = AdaptationOptions(
        plan=plan,
        settings=settings,
        seeds=_whole_number("seeds", given.get("seeds") or str(AdaptationOptions.seeds)),
        workers=_whole_number("workers", given.get("workers") or str(min(os.cpu_count() or 1, 8))),
        cache_folder=Path(given.get("cache_dir") or DEFAULT_FOLDER).resolve(),
    )
    return options, data.num_classes


def _settings(task: str, plan: Plan, data: Dataset) -> AdaptationSettings:
    """What the record says of `task`. Raises DataError where the data do not do for it."""
    particular: dict[str, Any] = {"corruption": plan.data.corruption, "severity": plan.data.severity}
    if task == "unseen":
        particular = {"new_classes": new_classes(data)}
    return AdaptationSettings(
        data=plan.data.name,
        data_digest=data.fingerprint,
        weights=plan.weights,
        steps=plan.steps,
        update_images=len(data.splits["update"]),
        test_images=len(data.splits["test"]),
        **particular,
    )


def _words(options: AdaptationOptions) -> list[str]:
    """The options that repeat an adaptation, as one types them; those at their default are left out."""
    plan, default = options.plan, Plan()
    pairs: list[tuple[str, object, object]] = [
        ("seeds", options.seeds, AdaptationOptions.seeds),
        ("steps", plan.steps, default.steps),
        ("data", plan.data.name, default.data.name),
        ("data-root", plan.data.data_root, None),
        ("corruption", plan.data.corruption, default.data.corruption),
        ("severity", plan.data.severity, default.data.severity),
        ("weights", plan.weights, default.weights),
    ]
    if tuple(options.settings) != TASKS:
        pairs.append(("tasks", ",".join(options.settings), ""))
    return [f"--{name} {value}" for name, value, usual in pairs if value != usual]


def project_tolerances(overrides: Collection[str] = ()) -> dict[str, float]:
    """As `tolerances`, of the table in pyproject.toml."""
    pyproject = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    return tolerances(pyproject["tool"]["peft-update-bench"]["tolerances"], overrides)


def tolerances(table: Mapping[str, object], overrides: Collection[str]) -> dict[str, float]:
    """The tolerance of each measured metric, as a fraction: `table` from pyproject.toml, `overrides` as NAME=FRACTION.

    Raises OptionError.
    """
    chosen = {name: _fraction(f"tolerance {name} in pyproject.toml", value) for name, value in table.items()}
    for override in overrides:
        name, separator, value = override.partition("=")
        if not separator or name not in chosen:
            raise OptionError(
                f"--tolerance is {override!r}; expected NAME=FRACTION with NAME one of {', '.join(chosen)}"
            )
        chosen[name] = _fraction(f"--tolerance {name}", value)
    if chosen.get("latency") == 0:
        raise OptionError("the tolerance latency is 0; expected a fraction above 0, because it is measured")
    return chosen


def storage_folder(location: str) -> Path:
    """The folder that ``--benchmark-storage`` names. Raises OptionError for anything but a folder."""
    scheme, separator, path = location.rpartition("://")
    if separator and scheme != "file":
        raise OptionError(f"--benchmark-storage is {location!r}; expected a folder, because the gate reads files only")
    return Path(path)


def _one_of(option: str, value: str, allowed: Collection[str], or_else: str = "") -> str:
    if value not in allowed:
        expected = f"{', '.join(allowed)}{', or ' if or_else else ''}{or_else}"
        raise OptionError(f"--{option.replace('_', '-')} is {value!r}; expected one of {expected}")
    return value


def _list(value: str | None, parse: Callable[[str], T]) -> tuple[T, ...] | None:
    """A comma-separated list without repetitions, in the order given."""
    if value is None:
        return None
    return tuple(dict.fromkeys(parse(word.strip()) for word in value.split(",")))


def _names(option: str, value: str | None, allowed: Collection[str]) -> tuple[str, ...] | None:
    return _list(value, lambda word: _one_of(option, word, allowed))


def _architecture(name: str, workload: Workload) -> str:
    if not is_imported(name):
        return _one_of(
            "architectures",
            name,
            (*ARCHITECTURES, *FURTHER_ARCHITECTURES),
            or_else="MODULE:NAME for a network of your own",
        )
    try:
        own_networks.check(name, workload)
    except (ImportedNameError, UnsupportedNetworkError) as error:
        raise OptionError(f"--architectures is {name!r}: {error}") from None
    return name


def _method(name: str) -> str:
    if not is_imported(name):
        return _one_of("methods", name, METHODS, or_else="MODULE:NAME for a method of your own")
    try:
        method_named(name)
    except ImportedNameError as error:
        raise OptionError(f"--methods is {name!r}: {error}") from None
    return name


def _whole_number(option: str, value: str | None) -> int:
    flag = f"--{option.replace('_', '-')}"
    is_number = value is not None and value.isascii() and value.isdigit()
    if value is not None and is_number and len(value) > _MOST_DIGITS:
        raise OptionError(f"{flag} has {len(value)} digits; expected at most {_MOST_DIGITS}")
    if value is None or not is_number or int(value) < 1:
        raise OptionError(f"{flag} is {value!r}; expected a whole number of at least 1")
    return int(value)


def _cell_seconds(value: str | None) -> int:
    """A cell's time; 0 is for debuggers: no limit, and no process of its own."""
    if value is None:
        return RunOptions.cell_seconds
    if value == "0":
        return 0
    return _whole_number("cell_seconds", value)


def _fraction(name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < 10:
        raise OptionError(f"{name} is {value!r}; expected a fraction of at least 0, such as 0.1 for 10 %")
    return number


def _device(value: str | None) -> str:
    device = _one_of("device", value or "cpu", ("cpu", "cuda"))
    if device == "cuda" and not torch.cuda.is_available():
        raise OptionError("--device is 'cuda'; expected 'cpu', because torch finds no CUDA device on this machine")
    return device
