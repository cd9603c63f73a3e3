"""The kind of machine that an update is done on: what is done on another rounds otherwise."""

from __future__ import annotations

import platform

from peft_update_bench.bench.gate.machine import read_machine


def kind_of_machine() -> str:
    """What rounding depends on, of this machine: architecture, CPU model, and what torch uses of its instructions."""
    import torch
    from peft_update_bench.bench.pytest_benchmark_session import this_machine

    here = read_machine(this_machine())
    return f"{platform.machine()}, {here.cpu} ({here.model}), {torch.backends.cpu.get_cpu_capability()}"
