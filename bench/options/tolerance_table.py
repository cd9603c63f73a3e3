"""How much a measured metric may grow: pyproject.toml's table, and ``--tolerance``."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path

from peft_update_bench.bench.options.values import OptionError, fraction


def project_tolerances(overrides: Collection[str] = ()) -> dict[str, float]:
    """As `tolerances`, of the table in pyproject.toml."""
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    return tolerances(pyproject["tool"]["peft-update-bench"]["tolerances"], overrides)


def tolerances(table: Mapping[str, object], overrides: Collection[str]) -> dict[str, float]:
    """The tolerance of each measured metric, as a fraction: `table` from pyproject.toml, `overrides` as NAME=FRACTION.

    Raises OptionError.
    """
    chosen = {name: fraction(f"tolerance {name} in pyproject.toml", value) for name, value in table.items()}
    for override in overrides:
        name, separator, value = override.partition("=")
        if not separator or name not in chosen:
            raise OptionError(
                f"--tolerance is {override!r}; expected NAME=FRACTION with NAME one of {', '.join(chosen)}"
            )
        chosen[name] = fraction(f"--tolerance {name}", value)
    if chosen.get("latency") == 0:
        raise OptionError("the tolerance latency is 0; expected a fraction above 0, because it is measured")
    return chosen
