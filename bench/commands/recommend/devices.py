"""Real devices, from ``devices.toml``: what they have, where that is said, and how much of it is assumed to be free."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from peft_update_bench.bench.command_error import CommandError
from peft_update_bench.bench.commands.recommend.budget import Limit
from peft_update_bench.bench.commands.recommend.quantities import parse_bytes
from peft_update_bench.bench.metrics import budgets
from peft_update_bench.bench.options.nearest import did_you_mean

_FILE = Path(__file__).with_name("devices.toml")


@dataclass(frozen=True)
class Device:
    """A device's limits in bytes, and where they come from."""

    name: str
    limits: tuple[Limit, ...]
    source: str
    assumed: str


def names() -> list[str]:
    return list(_table())


def named(name: str) -> Device:
    """Raises CommandError for a name that is not there."""
    table = _table()
    if name not in table:
        raise CommandError(f"--device is {name!r}; expected one of {', '.join(table)}{did_you_mean(name, table)}")
    entry = table[name]
    limits = [Limit(budgets()["memory"], parse_bytes(str(entry["memory"])) * float(entry["memory_share"]))]
    if "flash" in entry:
        limits.append(Limit(budgets()["flash"], parse_bytes(str(entry["flash"])) * float(entry["flash_share"])))
    return Device(name, tuple(limits), str(entry["source"]), str(entry["assumed"]))


def _table() -> dict[str, dict[str, str | float]]:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))
