"""The machine that figures were measured on, and whether they may be compared with another's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from peft_update_bench.bench.record import Record

UNKNOWN = "an unknown CPU"


@dataclass(frozen=True)
class Machine:
    """What must agree before measured figures may be compared."""

    cpu: str
    cores: int
    model: str = ""
    """Family, model and stepping: the name that a virtual machine shows is often that of many models."""
    gpu: str = ""
    """Empty where figures are the CPU's."""

    def __str__(self) -> str:
        gpu = f", {self.gpu}" if self.gpu else ""
        return f"{self.cpu}{f' ({self.model})' if self.model else ''}, {self.cores} cores{gpu}"

    def of(self, record: Record) -> Machine:
        """With the GPU that a record's figures were measured on."""
        return replace(self, gpu=record.gpu or "")

    def is_like(self, other: Machine | None) -> bool:
        """Whether figures measured on both may be compared. What nobody knows is like nothing."""
        return self == other and self.cpu != UNKNOWN


def read_machine(machine_info: dict[str, Any]) -> Machine:
    """The machine in pytest-benchmark's ``machine_info``."""
    cpu = machine_info.get("cpu")
    cpu = cpu if isinstance(cpu, dict) else {}
    cores = cpu.get("count")
    parts = [f"{key} {cpu[key]}" for key in ("family", "model", "stepping") if isinstance(cpu.get(key), int)]
    name = cpu.get("brand_raw")
    return Machine(
        name if isinstance(name, str) and name else UNKNOWN, cores if isinstance(cores, int) else 0, ", ".join(parts)
    )
