"""On which machine of a cluster a record's figures were made."""

from __future__ import annotations

from peft_update_bench.bench.record.part import Count, Part


class MadeOn(Part):
    """A node by its host's name, with its CPU, how many cores it has, and what kind of machine it is (``x86_64``)."""

    node: str
    cpu: str
    cores: Count
    machine: str

    def __str__(self) -> str:
        return f"{self.node} ({self.machine}, {self.cpu}, {self.cores} cores)"
