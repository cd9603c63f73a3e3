"""What a run was asked for."""

from peft_update_bench.bench.options.project import Project, read_project
from peft_update_bench.bench.options.run import RunOptions, all_options, read, storage_folder
from peft_update_bench.bench.options.tolerance_table import tolerances
from peft_update_bench.bench.options.values import OptionError

__all__ = [
    "OptionError",
    "Project",
    "RunOptions",
    "all_options",
    "read",
    "read_project",
    "storage_folder",
    "tolerances",
]
