"""``[tool.peft-update-bench]`` in the pyproject.toml of the repository that is benchmarked."""

from __future__ import annotations

import importlib
import sys
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft_update_bench.bench import benchmarks
from peft_update_bench.bench.options.additions import check_additions
from peft_update_bench.bench.options.values import OptionError
from peft_update_bench.fixtures.imported import RAISED, told


@dataclass(frozen=True)
class Project:
    """What a repository says for all its runs.

    ``root``        the folder of its pyproject.toml, from which `storage` counts
    ``storage``     where baselines are
    ``tolerances``  by limit; a table within it is for the cells of a pattern
    ``modules``     imported before options are read: they may add metrics and kinds of benchmark
    ``options``     what its runs are of where the command line does not say, as one would type it: steps,
                    architectures, methods, ranks, metrics
    ``path``        of its pyproject.toml, None where there is none
    """

    root: Path
    storage: str = "baselines"
    tolerances: Mapping[str, object] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None

    def complete(self, given: Mapping[str, str | None], own: Collection[str] = ()) -> dict[str, str | None]:
        """The options as typed, and the project's where none was. What is measured is typed as a whole.

        `own` are options that the run's kind of benchmark has for itself: adaptation's ``--steps`` is a number, and
        not the steps that a project names.
        """
        subjects = {"steps", "architectures"}.difference(own)
        left_out = {*own, *(subjects if any(given.get(name) is not None for name in subjects) else ())}
        chosen = {name: value for name, value in self.options.items() if name not in left_out}
        return {**chosen, **{name: value for name, value in given.items() if value is not None}}

    def located(self, error: OptionError, given: Mapping[str, str | None]) -> OptionError:
        """`error`, where it is of an option of the project's."""
        for name in self.options:
            flag = f"--{name} "
            if given.get(name) is None and str(error).startswith(flag):
                return OptionError(f"{self.path}: tool.peft-update-bench.{name} {str(error).removeprefix(flag)}")
        return error

    @property
    def storage_folder(self) -> Path:
        """From the current folder where it lies below, as a person would type it."""
        folder = self.root / self.storage
        return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder

    def baselines_of(self, benchmark: str) -> Path:
        """The folder of the baselines of a kind of benchmark."""
        return self.storage_folder / benchmarks.kind(benchmark).folder

    def import_modules(self) -> None:
        """Each is found in the project's folder too: after all else, so that nobody's tests import other modules for
        it than before. Raises OptionError where one cannot be imported, or what was added is not what it should be."""
        if self.modules and str(self.root) not in sys.path:
            sys.path.append(str(self.root))
        import_modules(self.modules)
        check_additions()


def import_modules(names: Iterable[str]) -> None:
    """Import a project's modules, which may add metrics and kinds of benchmark. Raises OptionError."""
    for name in names:
        try:
            importlib.import_module(name)
        except RAISED as error:
            raise OptionError(f"[tool.peft-update-bench] modules: importing {name!r} raises {told(error)}") from None


def read_project(start: Path) -> Project:
    """The project whose pyproject.toml is in `start` or the nearest folder above; its defaults where there is none.

    Raises OptionError where the table is not as described.
    """
    path = next((p for folder in (start, *start.parents) if (p := folder / "pyproject.toml").is_file()), None)
    if path is None:
        return Project(start)
    try:
        tools = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {})
    except (OSError, ValueError) as error:
        raise OptionError(f"{path}: cannot be read ({error})") from None
    table = tools.get("peft-update-bench", {}) if isinstance(tools, dict) else {}
    return Project(path.parent, **_checked(path, table), path=path)


_LISTS = {"steps": str, "architectures": str, "methods": str, "ranks": int, "metrics": str}
"""Options that a project may give a list for, and of what."""

_KINDS: dict[str, tuple[type, str]] = {
    "storage": (str, "a folder"),
    "tolerances": (dict, "a table of fractions"),
    "modules": (list, "a list of modules' names"),
    **{name: (list, f"a list of {'whole numbers' if kind is int else 'names'}") for name, kind in _LISTS.items()},
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
    storage = table.get("storage", "")
    if "://" in storage or storage.startswith(("~", "$")):
        raise OptionError(
            f"{path}: tool.peft-update-bench.storage is {storage!r}; expected a folder, by its path from this file"
        )
    found = {key: value for key, value in table.items() if key not in _LISTS}
    if "modules" in found:
        _must_hold(path, "modules", str, found["modules"])
        found["modules"] = tuple(found["modules"])
    found["options"] = {key: _typed(path, key, table[key]) for key in _LISTS if key in table}
    if {"steps", "architectures"} <= found["options"].keys():
        raise OptionError(f"{path}: tool.peft-update-bench has steps and architectures; {NOT_BOTH}")
    return found


NOT_BOTH = "expected one of the two, because a step brings its network"


def _typed(path: Path, key: str, values: list[object]) -> str:
    """A list as one types it. Raises OptionError where it is empty, or holds something else than its kind."""
    _must_hold(path, key, _LISTS[key], values)
    if not values:
        raise OptionError(f"{path}: tool.peft-update-bench.{key} is empty; expected {_KINDS[key][1]}, or no such line")
    return ",".join(map(str, values))


def _must_hold(path: Path, key: str, kind: type, values: list[object]) -> None:
    """Raise OptionError where a list holds something else than its kind."""
    for value in values:
        is_of_kind = isinstance(value, kind) and not isinstance(value, bool)
        if not is_of_kind or value == "" or "," in str(value):
            raise OptionError(f"{path}: tool.peft-update-bench.{key} holds {value!r}; expected {_KINDS[key][1]}")
