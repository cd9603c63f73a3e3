"""The engine of a cluster in a process of its own: what that process is asked to do."""

from __future__ import annotations

from collections.abc import Mapping

from peft_update_bench.bench.processes.cluster_node import Description
from peft_update_bench.bench.processes.executor import Wall
from peft_update_bench.bench.processes.ray_engine import Engine, Finished, Node, Order

_engine: Engine | None = None
"""In the process that has it."""


def connect(address: str) -> tuple[str, int]:
    """Connect, and return the head's host and port."""
    global _engine
    _engine = Engine(address)
    return _engine.head


def _the_engine() -> Engine:
    assert _engine is not None, "the process connects first"
    return _engine


def nodes() -> list[Node]:
    return _the_engine().nodes()


def describe(wall: Wall, ids: list[str], limit_s: float) -> dict[str, Description | str]:
    return _the_engine().describe(wall, ids, limit_s)


def exclude(unfit: Mapping[str, str]) -> None:
    _the_engine().exclude(unfit)


def exchange(orders: list[Order]) -> list[Finished]:
    return _the_engine().exchange(orders)
