"""How much a measured metric may grow: the table of metrics' defaults, pyproject.toml's table, and ``--tolerance``."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from peft_update_bench.bench.metrics import default_tolerances
from peft_update_bench.bench.options.values import OptionError, fraction


def tolerances(table: Mapping[str, object], overrides: Collection[str] = ()) -> dict[str, float]:
    """The tolerance of each limit, as a fraction: `table` from pyproject.toml, `overrides` as NAME=FRACTION.

    Raises OptionError.
    """
    chosen = default_tolerances()
    for name, value in table.items():
        if name not in chosen:
            raise OptionError(f"the tolerance {name} in pyproject.toml is of no metric; expected {', '.join(chosen)}")
        chosen[name] = fraction(f"tolerance {name} in pyproject.toml", value)
    for override in overrides:
        name, separator, value = override.partition("=")
        if not separator or name not in chosen:
            raise OptionError(
                f"--tolerance is {override!r}; expected NAME=FRACTION with NAME one of {', '.join(chosen)}"
            )
        chosen[name] = fraction(f"--tolerance {name}", value)
    if chosen["latency"] == 0:
        raise OptionError("the tolerance latency is 0; expected a fraction above 0, because it is measured")
    return chosen
