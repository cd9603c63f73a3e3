"""What the fork server imports: an update's memory is not that of the packages which its method is from."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

from peft_update_bench.fixtures import gpus
from peft_update_bench.fixtures.methods.names import BUILT_IN

with gpus.hidden():
    for name in (
        "peft_update_bench.bench.processes.child_process",
        "peft_update_bench.fixtures.instruments.measured_memory",
        "peft_update_bench.fixtures.update_step",
        *(method.module for method in BUILT_IN.values()),
    ):
        # A child complains about what cannot be imported.
        with suppress(ImportError):
            import_module(name)
