"""How cells are adapted, as asked for with ``--metrics adaptation``; words are checked before torch is imported."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_update_bench.bench.options.cluster import ClusterOptions, read_cluster
from peft_update_bench.bench.options.learning_rates import LearningRates, read_learning_rates
from peft_update_bench.bench.options.values import OptionError, folder, names, one_of, typed_or, whole_number
from peft_update_bench.bench.record import AdaptationSettings
from peft_update_bench.fixtures.data.names import CORRUPTIONS, DATASETS, NEED_A_ROOT, SEVERITIES, TASKS, DataChoice
from peft_update_bench.fixtures.training.plan import Plan
from peft_update_bench.fixtures.training.weight_sources import WEIGHTS
from peft_update_bench.fixtures.workload import Workload

if TYPE_CHECKING:
    from peft_update_bench.fixtures.data.datasets import Dataset


@dataclass(frozen=True)
class AdaptationOptions:
    """How cells are adapted: the plan of an update, what the record says of it for each task, and by how many seeds,
    worker processes and where networks are kept; None is the user's cache folder on whatever machine. Without
    `learning_rates` methods have their own."""

    plan: Plan = field(default_factory=Plan)
    settings: Mapping[str, AdaptationSettings] = field(default_factory=dict)
    learning_rates: LearningRates | None = None
    seeds: int = 2
    workers: int = 1
    cache_folder: Path | None = None
    cluster: ClusterOptions | None = None

    @property
    def repeat(self) -> list[str]:
        """The options that repeat this adaptation, as one types them; those at their default are left out."""
        plan, default = self.plan, Plan()
        pairs: list[tuple[str, object, object]] = [
            ("seeds", self.seeds, AdaptationOptions.seeds),
            ("steps", plan.steps, default.steps),
            ("data", plan.data.name, default.data.name),
            ("data-root", plan.data.data_root, None),
            ("corruption", plan.data.corruption, default.data.corruption),
            ("severity", plan.data.severity, default.data.severity),
            ("weights", plan.weights, default.weights),
            ("learning-rates", None if self.learning_rates is None else self.learning_rates.path, None),
        ]
        if tuple(self.settings) != TASKS:
            pairs.append(("tasks", ",".join(self.settings), ""))
        return [f"--{name} {shlex.quote(str(value))}" for name, value, usual in pairs if value != usual]


def read_adaptation(given: Mapping[str, str | None], workload: Workload) -> tuple[AdaptationOptions, Workload]:
    """The adaptation benchmark's options, with the data looked at, and the workload with as many classes as these have.

    Raises OptionError.
    """
    if workload.threads != 1 or workload.device != "cpu":
        raise OptionError(
            "--metrics adaptation runs on the CPU with one thread an update, which repeats to the last digit; "
            "expected no --threads and no --device beside it (use --workers for speed)"
        )
    for option in ("num_classes", "optimizer", "dtype"):
        if given.get(option) is not None:
            raise OptionError(
                f"--{option.replace('_', '-')} is given beside --metrics adaptation; expected no such option, because "
                "classes are the data's, and learning rates were searched for AdamW in float32"
            )
    tasks = names("tasks", given.get("tasks"), TASKS) or TASKS
    _refuse_unused(given, tasks)
    severity = typed_or(given, "severity", str(SEVERITIES[-1]))
    if severity not in map(str, SEVERITIES):
        raise OptionError(f"--severity is {severity!r}; expected a whole number from 1 to {SEVERITIES[-1]}")
    choice = DataChoice(
        name=one_of("data", typed_or(given, "data", DataChoice.name), DATASETS),
        data_root=_folder("data_root", given),
        image_size=workload.image_size,
        corruption=one_of("corruption", typed_or(given, "corruption", DataChoice.corruption), CORRUPTIONS),
        severity=int(severity),
    )
    plan = Plan(
        data=choice,
        weights=one_of("weights", typed_or(given, "weights", WEIGHTS[0]), WEIGHTS),
        steps=whole_number("steps", typed_or(given, "steps", str(Plan.steps))),
        batch_size=workload.batch_size,
    )
    options = AdaptationOptions(
        plan=plan,
        learning_rates=read_learning_rates(given),
        seeds=whole_number("seeds", typed_or(given, "seeds", str(AdaptationOptions.seeds))),
        workers=whole_number("workers", typed_or(given, "workers", str(min(os.cpu_count() or 1, 8)))),
        cluster=read_cluster(given),
        cache_folder=_folder("cache_dir", given),
    )
    # Last: what reads images is imported here, and no option should wait for it.
    from peft_update_bench.fixtures.data import datasets

    try:
        data = datasets.load(choice.name, choice.image_size, choice.data_root)
        settings = {task: _settings(task, plan, data) for task in tasks}
    except datasets.DataError as error:
        raise OptionError(str(error)) from None
    return replace(options, settings=settings), replace(workload, num_classes=data.num_classes)


def _folder(option: str, given: Mapping[str, str | None]) -> Path | None:
    """Whole, because updates are done in processes of their own. Raises OptionError."""
    value = given.get(option)
    return None if value is None else folder(f"--{option.replace('_', '-')}", value).resolve()


def _refuse_unused(given: Mapping[str, str | None], tasks: Sequence[str]) -> None:
    """Raise OptionError where an option names images, or a shift of them, that nothing would be adapted to."""
    data = typed_or(given, "data", DataChoice.name)
    if given.get("data_root") is not None and data in DATASETS and data not in NEED_A_ROOT:
        raise OptionError(
            f"--data-root is given beside --data {data}, which a package ships; expected --data out of "
            f"{', '.join(NEED_A_ROOT)}, or no --data-root"
        )
    for option in ("corruption", "severity"):
        if given.get(option) is not None and "shift" not in tasks:
            raise OptionError(
                f"--{option} is given beside --tasks {','.join(tasks)}, which shifts no images; expected the task "
                f"shift, or no --{option}"
            )


def _settings(task: str, plan: Plan, data: Dataset) -> AdaptationSettings:
    """What the record says of `task`. Raises DataError where the data do not do for it."""
    from peft_update_bench.fixtures.data.datasets import new_classes

    particular: dict[str, Any] = {"corruption": plan.data.corruption, "severity": plan.data.severity}
    if task == "unseen":
        particular = {"new_classes": new_classes(data)}
    elif digest := data.published_fingerprint(plan.data.corruption, plan.data.severity):
        particular["published_digest"] = digest
    return AdaptationSettings(
        data=plan.data.name,
        data_digest=data.fingerprint,
        weights=plan.weights,
        steps=plan.steps,
        update_images=len(data.splits["update"]),
        test_images=len(data.splits["test"]),
        **particular,
    )
