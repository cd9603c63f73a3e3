"""Options of update benchmarks, added to pytest and read: all of them in a run of the matrix, some in one of users'
tests."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Generator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from peft_update_bench.bench import options
from peft_update_bench.bench.plugin import HOOKS
from peft_update_bench.bench.pytest_benchmark_session import (
    DEFAULT_STORAGE,
    PytestBenchmarkSession,
    save_nothing_without_a_warning,
)
from peft_update_bench.bench.session.other_plugins import refuse_other_plugins
from peft_update_bench.fixtures.files import no_temporary_folder

OF_TESTS = ("metrics", "threads", "cell_seconds", "unstable")
"""Those that mean something to a test that builds its step."""

_DEST = "peft_update_bench_"
"""Where values of ours are kept: an option of others called ``--update-metrics`` is kept under ``update_metrics``."""

RUN = pytest.StashKey[options.RunOptions]()
"""What a run of the matrix was asked for."""

_FOLDER = Path(__file__).resolve().parents[1]


def look_in_the_current_folder() -> None:
    """Users' own networks, methods and steps are found as the commands find them. A run of users' tests finds its
    modules as it would without us, or it might test others than before."""
    sys.path.insert(0, str(Path.cwd()))


def import_project_modules(config: pytest.Config) -> None:
    """Import what the project's pyproject.toml names. Raises UsageError where that cannot be done."""
    try:
        options.read_project(config.rootpath).import_modules()
    except options.OptionError as error:
        raise pytest.UsageError(str(error)) from None


class OptionHooks:
    """Each option has a short name, unless a conftest or another plugin has taken it, and one that nobody else has."""

    def __init__(self, names: Collection[str] | None = None) -> None:
        self._names = names
        self.taken: set[str] = set()
        """The options of which another has the short name."""

    def pytest_addoption(self, parser: pytest.Parser) -> None:
        group = parser.getgroup("update benchmark")
        groups = [parser._anonymous, *parser._groups]
        taken = {name for other in groups for option in other.options for name in option.names()}

        def add(name: str, **details: Any) -> None:
            words = name.replace("_", "-")
            names = [flag for flag in (f"--{words}", f"--update-{words}") if flag not in taken]
            if f"--{words}" in taken:
                self.taken.add(name)
            # Without a name it would be a word that every run must have.
            if names:
                group.addoption(*names, dest=f"{_DEST}{name}", **details)

        for name, text in options.all_options().items():
            if self._names is None or name in self._names:
                add(name, metavar=name.upper(), help=text)
        add("tolerance", action="append", default=[], metavar="NAME=FRACTION", help="override pyproject.toml's")
        add("markdown", metavar="PATH", type=Path, help="write the verdict table to this file, as Markdown")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, exitstatus: int) -> Generator[None, object, object]:
        """A run that ends before its tests are known, by an error in their file or an interrupt, says why."""
        with nullcontext() if exitstatus == pytest.ExitCode.OK else save_nothing_without_a_warning():
            return (yield)


def value(config: pytest.Config, name: str) -> Any:
    """What was typed for the option called `name`, without dashes; None where nothing was, or there is no such one."""
    return config.getoption(f"{_DEST}{name}", None)


def typed(config: pytest.Config) -> dict[str, str | None]:
    """The options as typed, by name without dashes; None where one was not."""
    return {name: value(config, name) for name in options.all_options()}


def taken(config: pytest.Config) -> frozenset[str]:
    """Our options that go by their longer name alone in this run, because another has the short one."""
    hooks = config.pluginmanager.get_plugin(f"{HOOKS}-options")
    return frozenset(hooks.taken) if isinstance(hooks, OptionHooks) else frozenset()


def choose_storage(config: pytest.Config, project: options.Project) -> bool:
    """Keep baselines where the project's table says, unless the command line names another place; whether it does.

    Raises OptionError where that is no folder, before pytest-benchmark, which would end in a traceback, looks there.
    """
    is_named: bool = config.option.benchmark_storage != DEFAULT_STORAGE
    if is_named:
        options.storage_folder(config.option.benchmark_storage)
    else:
        name = f"{project.path}: tool.peft-update-bench.storage"
        options.storage_folder(str(project.root / project.storage), name if project.path else "the storage")
        config.option.benchmark_storage = f"file://{project.storage_folder}"
    return is_named


def read_run(config: pytest.Config) -> options.RunOptions:
    """What the run of the matrix was asked for, and where its baselines are. Raises UsageError where it cannot be
    done."""
    try:
        refuse_other_plugins(config)
        theirs = PytestBenchmarkSession(config)
        if complaint := no_temporary_folder() or theirs.explain_unasked(judges_disabled=True):
            raise options.OptionError(complaint)
        project = options.read_project(config.rootpath)
        tolerances = options.tolerances(project.tolerances, value(config, "tolerance") or [])
        # Elsewhere than in this repository the tests are found by their package's name.
        words = ["pytest"] if config.rootpath == _FOLDER.parent else ["pytest", "--pyargs", "peft_update_bench.bench"]
        if choose_storage(config, project):
            words.append(f"--benchmark-storage={config.option.benchmark_storage}")
        saves = theirs.is_saving
        command = shlex.join(words)
        return options.read_for(
            project, typed(config), tolerances, records_baseline=saves, command=command, taken=taken(config)
        )
    except options.OptionError as error:
        raise pytest.UsageError(options.as_typed(str(error), taken(config))) from None
