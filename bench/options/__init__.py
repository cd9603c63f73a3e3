"""What a run was asked for."""

from peft_update_bench.bench.options.project import Project, import_modules, read_project
from peft_update_bench.bench.options.reading import all_options, read, read_for, storage_folder
from peft_update_bench.bench.options.run import RunOptions
from peft_update_bench.bench.options.tolerance_table import read_tolerances, tolerances
from peft_update_bench.bench.options.values import OptionError, as_typed

__all__ = [
    "OptionError",
    "Project",
    "RunOptions",
    "all_options",
    "as_typed",
    "import_modules",
    "read",
    "read_for",
    "read_project",
    "read_tolerances",
    "storage_folder",
    "tolerances",
]
