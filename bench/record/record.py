"""A cell's record, and how it is read."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Literal, Self

from peft_update_bench.bench import metrics
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.record.adaptation import Adaptation, AdaptationSettings
from peft_update_bench.bench.record.growth import Growth
from peft_update_bench.bench.record.instructions import Instructions
from peft_update_bench.bench.record.made_on import MadeOn
from peft_update_bench.bench.record.part import Fraction, Part
from peft_update_bench.bench.record.result import FirstStep, Result
from peft_update_bench.bench.record.update import (
    Flops,
    Latency,
    MeasuredMemory,
    Memory,
    Parameters,
    StepWorkload,
    WorkloadEntry,
    kind_of_workload,
)
from peft_update_bench.bench.record.where import Where
from peft_update_bench.fixtures.methods.names import BUILT_IN
from pydantic import Discriminator, Field, PositiveInt, Tag, ValidationError, create_model, model_validator

PACKAGES = {"torch": "torch", "torchvision": "torchvision", "peft": "peft", "galore-torch": None}
"""The distributions that a record's figures depend on, each with the module that tells its version, if one does."""

IMAGE_PACKAGES = ("corrupt-tta", "mlxtend", "numpy", "opencv-python", "scikit-learn")
"""What images depend on, besides: records of adaptation have their versions too."""

SCHEMA = 3
SCHEMAS = {
    1: "cell, workload, versions; parameters (later with statistics), flops, memory, measured_memory (later with its "
    "gaps), latency (later with the wall clock's ratio), adaptation",
    2: "sections of metrics that were added from elsewhere; instructions; remarks; the optimizer that ran; "
    "where the work is done; steps of a user's own, with the workload read from them, and tolerances that a test asks "
    "for",
    3: "what the optimizer's step does; the first step's peak and seconds; growth; the update's result; how much of a "
    "timing others had the cores; the machines of a cluster that it was made on; the batch size of a cell in a run of "
    "several; the GPU's name",
}
"""What each version of a record added. All of them are read; the newest is written."""


AnyWorkload = Annotated[
    Annotated[WorkloadEntry, Tag("matrix")] | Annotated[StepWorkload, Tag("step")], Discriminator(kind_of_workload)
]
"""Of a cell of the matrix, or of a user's own step."""
_TAGS = ("matrix", "step")


class RecordError(Exception):
    """A record that does not follow the schema: where, and what was expected."""


class Record(Part):
    """One cell's metrics under one workload, with the versions of the packages that produced them.

    The sections are those of the table of metrics (``bench/metrics/``). One that was added to the table from
    elsewhere is a field too, of the subclass that :func:`read_record` makes. ``remarks`` are sentences for who reads
    the figures, ``made_on`` the machines of a cluster that made them; nothing is judged by either. ``gpu`` is the name
    of the one that measured figures are of, and none of them is compared with another's. ``tolerances`` are
    those of the cell alone, by the names of ``bench/gate/tolerances.py``. The architecture of a user's own step is the
    step's name. ``batch_size`` is there where it is part of the cell, and then the workload's too.
    """

    schema_: Literal[1, 2, 3] = Field(alias="schema")
    architecture: str
    method: str
    rank: PositiveInt | None = None
    batch_size: PositiveInt | None = None
    workload: AnyWorkload
    remarks: list[str] | None = None
    tolerances: dict[str, Fraction] | None = None
    versions: dict[str, str]
    gpu: Annotated[str, Field(min_length=1)] | None = None
    parameters: Parameters | None = None
    flops: Flops | None = None
    memory: Memory | None = None
    growth: Growth | None = None
    result: Result | None = None
    first_step: FirstStep | None = None
    measured_memory: MeasuredMemory | None = None
    latency: Latency | None = None
    instructions: Instructions | None = None
    adaptation: Adaptation | None = None
    where: Where | None = None
    made_on: Annotated[list[MadeOn], Field(min_length=1)] | None = None

    @property
    def cell(self) -> Cell:
        task = self.adaptation.task if self.adaptation else None
        is_step = isinstance(self.workload, StepWorkload)
        return Cell(self.architecture, self.method, self.rank, task, is_step, self.batch_size)

    @property
    def conditions(self) -> tuple[WorkloadEntry | StepWorkload, AdaptationSettings | None]:
        """What the figures hold for: those of two records compare only where it is the same."""
        return self.workload, self.adaptation.settings if self.adaptation else None

    @model_validator(mode="after")
    def _has_the_workloads_batch(self) -> Self:
        if self.batch_size is not None and self.batch_size != getattr(self.workload, "batch_size", None):
            raise ValueError(f"batch_size is {self.batch_size}, which is not the workload's")
        return self

    def as_extra_info(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def read_record(data: Any) -> Record:
    """Check one cell's ``extra_info``. Raises RecordError, whose message begins with the key at fault."""
    schema = data.get("schema") if isinstance(data, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise RecordError(
            f"schema: given {schema}, which a newer peft-update-bench wrote; expected at most {SCHEMA}: update this one"
        )
    try:
        return _model().model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in _TAGS) or "the record"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        given = "" if first["type"] == "missing" else f", given {_shortened(first['input'])}"
        raise RecordError(f"{where}: {first['msg']}{given}{more}") from None


def _model() -> type[Record]:
    """Record, with a field for every metric that was added from elsewhere."""
    added: dict[str, Any] = {
        name: (metric.model() | None, None)
        for name, metric in metrics.METRICS.items()
        if name not in Record.model_fields
    }
    return create_model("Record", __base__=Record, **added) if added else Record


def installed_versions(method: str = "") -> dict[str, str]:
    """The versions that a record depends on, of the modules that are really imported; and that of the package by which
    `method` is done, where only its records depend on one."""
    versions = {
        # A module knows its own version even where another copy's metadata stands earlier on the path.
        package: import_module(module).__version__ if module else version(package)
        for package, module in PACKAGES.items()
    }
    through = BUILT_IN[method].through if method in BUILT_IN else ""
    if through and through not in PACKAGES:
        versions[through] = version(through)
    return {**versions, "python": platform.python_version()}


def image_versions() -> dict[str, str]:
    """The versions that images depend on."""
    return {package: version(package) for package in IMAGE_PACKAGES}


def all_versions() -> dict[str, str]:
    """Every version that a record of any method, on any images, may depend on: two machines do the same where these
    agree. What is not installed has none."""
    versions = installed_versions()
    for package in (*IMAGE_PACKAGES, *(method.through for method in BUILT_IN.values() if method.through)):
        with suppress(PackageNotFoundError):
            versions.setdefault(package, version(package))
    return versions


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
