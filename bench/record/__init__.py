"""The record: what one cell writes into pytest-benchmark's JSON, under ``extra_info``.

Integers are bytes or floating-point operations. A metric that was not measured is absent, never 0 or null. Reading is
as strict as writing: a figure of the wrong type, a negative one, NaN, or a key that the schema does not know is an
error.

What each version of the schema added stands beside it, in ``record.py``.
"""

from peft_update_bench.bench.record.adaptation import Adaptation, AdaptationRun, AdaptationSettings
from peft_update_bench.bench.record.growth import Growth
from peft_update_bench.bench.record.record import (
    SCHEMA,
    Record,
    RecordError,
    all_versions,
    image_versions,
    installed_versions,
    read_record,
)
from peft_update_bench.bench.record.update import (
    CLOCKS,
    Flops,
    Latency,
    MeasuredMemory,
    Memory,
    Parameters,
    StepWorkload,
    WorkloadEntry,
)
from peft_update_bench.bench.record.where import Where

__all__ = [
    "CLOCKS",
    "SCHEMA",
    "Adaptation",
    "AdaptationRun",
    "AdaptationSettings",
    "Flops",
    "Growth",
    "Latency",
    "MeasuredMemory",
    "Memory",
    "Parameters",
    "Record",
    "RecordError",
    "StepWorkload",
    "Where",
    "WorkloadEntry",
    "all_versions",
    "image_versions",
    "installed_versions",
    "read_record",
]
