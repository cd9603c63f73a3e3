"""The one place that touches the inside of pytest-benchmark's session, which has no public door for any of this."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from peft_update_bench.bench.storage import BaselineStorage
from peft_update_bench.fixtures.files import write_named
from pytest_benchmark.fixture import BenchmarkFixture
from pytest_benchmark.logger import PytestBenchmarkWarning
from pytest_benchmark.plugin import pytest_benchmark_generate_machine_info
from pytest_benchmark.utils import get_machine_id, safe_dumps

DEFAULT_STORAGE = "file://./.benchmarks"
"""pytest-benchmark's own, which means that none was named."""

_ONLY = "(--benchmark-only active)"
"""In the reason for which pytest-benchmark skips a test."""

_WRITES = ("--benchmark-save", "--benchmark-autosave", "--benchmark-json")


def this_machine() -> dict[str, Any]:
    """What the plugin says of the machine that this is called on."""
    info: dict[str, Any] = pytest_benchmark_generate_machine_info()
    return info


def is_theirs(benchmark: object) -> bool:
    """Whether the fixture `benchmark` is pytest-benchmark's: a conftest or another plugin may have one of that name.

    pytest-codspeed's says by `__class__` that it is.
    """
    return issubclass(type(benchmark), BenchmarkFixture)


def load_without_a_warning() -> None:
    """Let pytest-benchmark not warn, while pytest is configured, of a baseline that it cannot load: with warnings as
    errors that ends pytest in a traceback, where the gate has a sentence for it."""
    warnings.filterwarnings("ignore", "Can't compare|Failed to load", PytestBenchmarkWarning)


@contextmanager
def save_nothing_without_a_warning() -> Generator[None]:
    """With warnings as errors it would end a run in a traceback in the place of why nothing was measured."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Not saving anything", PytestBenchmarkWarning)
        yield


def was_used(benchmark: Any) -> bool:
    """Whether a test has measured something by pytest-benchmark's fixture, which does so once."""
    return bool(benchmark._mode)


def mark_used(benchmark: Any) -> None:
    """Let pytest-benchmark take its fixture for one that an update has used: it does not warn that the test has not."""
    if is_theirs(benchmark):
        benchmark._mode = "update_benchmark"


class PytestBenchmarkSession:
    """pytest-benchmark's session of one run of pytest."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @property
    def _session(self) -> Any:
        return self._config._benchmarksession  # type: ignore[attr-defined]

    @property
    def is_saving(self) -> bool:
        """Whether a baseline is to be saved at the end."""
        option = self._config.option
        return bool(option.benchmark_save or option.benchmark_autosave)

    @property
    def json(self) -> Path | None:
        """The file that ``--benchmark-json`` names."""
        path: Path | None = self._config.option.benchmark_json
        return path

    @property
    def is_disabled(self) -> bool:
        """Whether benchmarks are only to be tried, by ``--benchmark-disable``."""
        return bool(self._config.option.benchmark_disable and not self._config.option.benchmark_enable)

    def explain_unasked(self, *, judges_disabled: bool) -> str:
        """Why what was typed would come to nothing, because a project's addopts leave benchmarks out; empty where it
        would not. The matrix `judges_disabled` ones too, and saves none."""
        options = self._config.option
        asked = self._typed & {"--benchmark-compare", *_WRITES}
        if asked and options.benchmark_skip and "--benchmark-skip" not in self._typed:
            return (
                f"{min(asked)} is given, and the project's addopts or PYTEST_ADDOPTS have --benchmark-skip, by which "
                "nothing is measured, recorded or judged; expected a run without it, such as with -o addopts= and the "
                "rest of them"
            )
        asked &= {*_WRITES} if judges_disabled else asked
        if asked and self.is_disabled and "--benchmark-disable" not in self._typed:
            judged = "recorded" if judges_disabled else "measured, recorded or judged"
            return (
                f"{min(asked)} is given, and the project's addopts or PYTEST_ADDOPTS have --benchmark-disable, or "
                f"another plugin sets it, as pytest-codspeed by --codspeed: nothing is {judged}; expected "
                "--benchmark-enable beside it, and no such plugin"
            )
        return ""

    @property
    def _typed(self) -> set[str]:
        """The words of the command line, less what they are set to; without a project's addopts."""
        return {str(word).partition("=")[0] for word in self._config.invocation_params.args}

    def skip_none_of(self, tests: Iterable[pytest.Item]) -> None:
        """Let ``--benchmark-only`` run `tests`. What asks for no fixture before it runs is no benchmark to the plugin,
        which marks it to be skipped."""
        for test in tests:
            test.own_markers[:] = [mark for mark in test.own_markers if _ONLY not in str(mark.kwargs.get("reason"))]

    def drop_unmeasured(self) -> None:
        """Forget benchmarks without a round that are no errors to the plugin, as of a test that ``pytest.skip`` or a
        time limit has ended within its call: it would end the run in a traceback in the place of a file."""
        self._session.benchmarks[:] = [one for one in self._session.benchmarks if one.has_error or one.stats.data]

    @property
    def has_measured(self) -> bool:
        """Whether any benchmark has something to save."""
        return bool(self._session.benchmarks)

    @property
    def machine_id(self) -> str:
        """The name of this machine's folder in a storage."""
        return str(get_machine_id())

    @property
    def machine_info(self) -> dict[str, Any]:
        """As the plugin's session would say it, which asks the same hooks and is there later."""
        hook = self._config.hook
        info: dict[str, Any] = hook.pytest_benchmark_generate_machine_info(config=self._config)
        hook.pytest_benchmark_update_machine_info(config=self._config, machine_info=info)
        return info

    @property
    def compare_option(self) -> str | bool:
        """What ``--benchmark-compare`` names: True for the newest file, False where it was not given. An empty word,
        as of a variable that is not set, is a name too, of no file.

        Nor is it where a project's addopts have it and saving is typed: nobody could record a first baseline, or a
        change that is meant.
        """
        saves = self._typed & {"--benchmark-save", "--benchmark-autosave"}
        if saves and "--benchmark-compare" not in self._typed:
            return False
        compare = self._config.option.benchmark_compare
        return False if compare == [] else compare

    def take_compare_option(self) -> str | bool:
        """As `compare_option`, and it is taken away from the plugin, which passes over an unreadable baseline with a
        warning."""
        compare = self.compare_option
        self._config.option.benchmark_compare = []
        return compare

    def store_in(self, folder: Path) -> None:
        """Save baselines there, each complete or not at all."""
        self._session.storage = BaselineStorage(folder, self._session.logger)  # type: ignore[no-untyped-call]

    def survive_unwritten_json(self) -> None:
        """Let a ``--benchmark-json`` that cannot be written end neither pytest in a traceback, nor saving, which is
        next; nor take with it what the file held. Folders that it lacks are made, as they are for baselines."""
        session = self._session

        def save_json(output_json: dict[str, Any]) -> None:
            try:
                session.json.parent.mkdir(parents=True, exist_ok=True)
                write_named(session.json, safe_dumps(output_json, ensure_ascii=True, indent=4).encode())
                session.logger.info(f"Wrote benchmark data in: {session.json}", purple=True)
            except OSError as error:
                session.json_failure = f"--benchmark-json {session.json} cannot be written ({error.strerror})"

        session.save_json = save_json

    def show_beside(self, baseline: Path) -> None:
        """Let the plugin's own table show `baseline` too."""
        self._session.compare = str(baseline.resolve())
        with warnings.catch_warnings():
            # Another machine is the gate's to judge; the plugin warns of every field that differs.
            warnings.simplefilter("ignore")
            self._session.handle_loading()

    def warn_of_nothing_loaded(self) -> None:
        """Say now what it did not while pytest was configured, where the gate says nothing of it."""
        if not self._session.compared_mapping:
            self._session.handle_loading()

    def show_no_times(self) -> bool:
        """Where no update was timed: no table of how long the measurements took, and no failure for it.

        A histogram that was asked for is drawn with the table. Whether something would have failed for times.
        """
        session = self._session
        session.quiet = session.quiet or not session.histogram
        asked, session.compare_fail = bool(session.compare_fail), []
        return asked

    @property
    def untimed_before(self) -> set[str]:
        """Tests of which a compared file has a record without a latency: its times are how long measuring took."""
        compared = [entry for recorded in self._session.compared_mapping.values() for entry in recorded.values()]
        return {
            entry["fullname"]
            for entry in compared
            if {"schema", "architecture"} <= entry.get("extra_info", {}).keys() and "latency" not in entry["extra_info"]
        }

    def judge_no_times_of(self, tests: Collection[str]) -> str:
        """Let the plugin compare no times of `tests`, by node id, in which no update was timed; others' it does.

        Returns what a reader should know of it, empty for nothing.
        """
        session = self._session
        for recorded in session.compared_mapping.values():
            for test in tests:
                recorded.pop(test, None)
        if not session.compare_fail:
            return ""
        others = {benchmark.fullname for benchmark in session.benchmarks} - {*tests}
        what = "nothing of update_benchmark" if others else "nothing"
        return f"--benchmark-compare-fail judged {what}: no update was timed."

    @property
    def draws_histogram(self) -> bool:
        return bool(self._session.histogram)

    def cancel_saving(self) -> bool:
        """Save nothing at the end; whether something would have been saved."""
        saving = bool(self._session.save or self._session.autosave)
        self._session.save = self._session.autosave = None
        return saving

    def write_nothing(self) -> None:
        """Save nothing at the end, and no ``--benchmark-json``: the run is refused."""
        self.cancel_saving()
        self._session.json = None

    @property
    def json_failure(self) -> str:
        """Why the file that ``--benchmark-json`` names could not be written, empty where it could."""
        return str(getattr(self._session, "json_failure", ""))

    @property
    def saving_failure(self) -> str:
        """Why the baseline could not be saved, empty where it could."""
        return str(getattr(self._session.storage, "failure", ""))
