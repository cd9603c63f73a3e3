"""What a run was asked for."""

from peft_update_bench.bench.options.adaptation import ADAPTATION, AdaptationOptions
from peft_update_bench.bench.options.run import RunOptions, read, storage_folder
from peft_update_bench.bench.options.tolerance_table import project_tolerances, tolerances
from peft_update_bench.bench.options.values import OptionError

__all__ = [
    "ADAPTATION",
    "AdaptationOptions",
    "OptionError",
    "RunOptions",
    "project_tolerances",
    "read",
    "storage_folder",
    "tolerances",
]
