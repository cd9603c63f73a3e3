"""What a run was asked for."""

from bench.options.adaptation import ADAPTATION, AdaptationOptions
from bench.options.run import RunOptions, read, storage_folder
from bench.options.tolerance_table import project_tolerances, tolerances
from bench.options.values import OptionError

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
