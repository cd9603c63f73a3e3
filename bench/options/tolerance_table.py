"""How much a metric may grow: the table of metrics' defaults, pyproject.toml's tables, markers, and ``--tolerance``."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from peft_update_bench.bench.gate.tolerances import Tolerances, limits_named, names
from peft_update_bench.bench.metrics import default_tolerances
from peft_update_bench.bench.options.nearest import did_you_mean
from peft_update_bench.bench.options.values import OptionError, fraction


def tolerances(table: Mapping[str, object], overrides: Collection[str] = ()) -> Tolerances:
    """The tolerances as fractions: `table` from pyproject.toml, `overrides` as NAME=FRACTION.

    A table within `table` is for the cells whose ids are of its name, a pattern; in it exact metrics may be named too.

    Raises OptionError.
    """
    chosen = default_tolerances()
    by_pattern: dict[str, dict[str, float]] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            by_pattern[name] = read_tolerances(f"in pyproject.toml's table for {name!r}", value)
            continue
        if name not in chosen:
            raise OptionError(
                f"the tolerance {name} in pyproject.toml is of no measured metric; expected {_one_of(chosen, name)}"
            )
        chosen[name] = fraction(f"tolerance {name} in pyproject.toml", value)
    typed: dict[str, float] = {}
    for override in overrides:
        name, separator, value = override.partition("=")
        if not separator or name not in chosen:
            raise OptionError(f"--tolerance is {override!r}; expected NAME=FRACTION with NAME {_one_of(chosen, name)}")
        typed[name] = fraction(f"--tolerance {name}", value)
    found = Tolerances(chosen, by_pattern, typed)
    if found["latency"] == 0:
        raise OptionError("the tolerance latency is 0; expected a fraction above 0, because it is measured")
    return found


def _one_of(measured: Collection[str], name: str) -> str:
    """What may be named where a tolerance is every cell's, and where that may be named which was."""
    if name in measured:
        hint = ""
    elif limits_named(name):
        hint = f"; {name} is exact: pyproject.toml's table of a pattern may name it, or a test's marker"
    else:
        hint = did_you_mean(name, measured)
    return f"one of {', '.join(measured)}{hint}"


def read_tolerances(where: str, table: Mapping[str, object]) -> dict[str, float]:
    """The tolerances of some cells, by limit; `where` names the table. Raises OptionError."""
    found: dict[str, float] = {}
    for name, value in table.items():
        limits = limits_named(name)
        if not limits:
            raise OptionError(
                f"the tolerance {name} {where} is of no metric; expected one of {', '.join(names())}"
                f"{did_you_mean(name, names())}"
            )
        found |= dict.fromkeys(limits, fraction(f"the tolerance {name} {where}", value))
    if found.get("latency") == 0:
        raise OptionError(f"the tolerance latency {where} is 0; expected a fraction above 0, because it is measured")
    return found
