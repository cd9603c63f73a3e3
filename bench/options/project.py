"""``[tool.peft-update-bench]`` in the pyproject.toml of the repository that is benchmarked."""

from __future__ import annotations

import importlib
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft_update_bench.bench import benchmarks
from peft_update_bench.bench.options.values import OptionError
from peft_update_bench.fixtures.imported import told


@dataclass(frozen=True)
class Project:
    """What a repository says for all its runs.

    ``root``        the folder of its pyproject.toml, from which `storage` counts
    ``storage``     where baselines are
    ``tolerances``  by limit
    ``modules``     imported before options are read: they may add metrics and kinds of benchmark
    """

    root: Path
    storage: str = "baselines"
    tolerances: Mapping[str, object] = field(default_factory=dict)
    modules: tuple[str, ...] = ()

    @property
    def storage_folder(self) -> Path:
        """From the current folder where it lies below, as a person would type it."""
        folder = self.root / self.storage
        return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder

    def baselines_of(self, benchmark: str) -> Path:
        """The folder of the baselines of a kind of benchmark."""
        return self.storage_folder / benchmarks.kind(benchmark).folder

    def import_modules(self) -> None:
        """Each is found in the project's folder too. Raises OptionError where one cannot be imported."""
        if self.modules and str(self.root) not in sys.path:
            sys.path.insert(0, str(self.root))
        for name in self.modules:
            try:
                importlib.import_module(name)
            except Exception as error:  # a user's module may raise anything
                raise OptionError(
                    f"[tool.peft-update-bench] modules: importing {name!r} raises {told(error)}"
                ) from None


def read_project(start: Path) -> Project:
    """The project whose pyproject.toml is in `start` or the nearest folder above; its defaults where there is none.

    Raises OptionError where the table is not as described.
    """
    path = next((p for folder in (start, *start.parents) if (p := folder / "pyproject.toml").is_file()), None)
    if path is None:
        return Project(start)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("peft-update-bench", {})
    except (OSError, ValueError) as error:
        raise OptionError(f"{path}: cannot be read ({error})") from None
    return Project(path.parent, **_checked(path, table))


_KINDS: dict[str, tuple[type, str]] = {
    "storage": (str, "a folder"),
    "tolerances": (dict, "a table of fractions"),
    "modules": (list, "a list of modules' names"),
}


def _checked(path: Path, table: Any) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise OptionError(f"{path}: tool.peft-update-bench is {table!r}; expected a table")
    for key, value in table.items():
        if key not in _KINDS:
            raise OptionError(f"{path}: tool.peft-update-bench.{key} is not known; expected {', '.join(_KINDS)}")
        kind, words = _KINDS[key]
        if not isinstance(value, kind):
            raise OptionError(f"{path}: tool.peft-update-bench.{key} is {value!r}; expected {words}")
    found = dict(table)
    if "modules" in found:
        found["modules"] = tuple(map(str, found["modules"]))
    return found
