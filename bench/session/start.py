"""How a session begins, whether its cells are the matrix' or users' own tests."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
from peft_update_bench.bench import options
from peft_update_bench.bench.gate import baseline, baseline_file
from peft_update_bench.bench.gate.machine import read_machine
from peft_update_bench.bench.pytest_benchmark_session import PytestBenchmarkSession
from peft_update_bench.bench.session import option_hooks
from peft_update_bench.bench.session.failures import Failures
from peft_update_bench.bench.session.progress import Progress
from peft_update_bench.bench.session.session import Session
from peft_update_bench.fixtures.files import unwritable


def find_baseline(ours: Session, theirs: PytestBenchmarkSession, storage: Path, named: str | bool) -> None:
    """Judge against the baseline in `storage` that is `named`, True for the newest, False for none.

    Raises BaselineError.
    """
    if named is not False:
        ours.compare_with(baseline.read(baseline_path(ours.run, theirs, storage, named)))
        ours.users.is_baseline_named = named is not True


def baseline_path(run: options.RunOptions, theirs: PytestBenchmarkSession, storage: Path, named: str | bool) -> Path:
    """The file in `storage` that is `named`, True for the newest. Raises BaselineError."""
    # A machine's own baseline matters where something is measured; to know the machine takes a second.
    machine = (lambda: read_machine(theirs.machine_info)) if run.needs_machine else None
    wanted = None if named is True else str(named)
    return baseline_file.find(storage, wanted, theirs.machine_id, machine, run.record_command)


def refuse_unwritable(config: pytest.Config, ours: Session, storage: Path) -> None:
    """Raise OptionError where what the run is asked to write could not be: said after minutes, they would be lost. Or
    where it would replace the baseline, by which the next run would hold whatever this one is.
    """
    if config.option.collectonly:
        return
    theirs = PytestBenchmarkSession(config)
    if theirs.is_saving and (why := unwritable(storage / "0001_baseline.json", makes_folders=True)):
        raise options.OptionError(
            f"no baseline can be saved: {storage} cannot be written to ({why}); expected a folder that takes files, "
            "which --benchmark-storage names"
        )
    markdown: Path | None = option_hooks.value(config, "markdown")
    for name, path, makes_folders in (("benchmark-json", theirs.json, True), ("markdown", markdown, False)):
        if path is not None and (why := unwritable(path, makes_folders=makes_folders)):
            raise options.OptionError(f"--{name} {path} cannot be written ({why}); expected a file to make or replace")
        if path is not None and ours.gate.baseline and path.exists() and path.samefile(ours.gate.baseline.path):
            raise options.OptionError(f"--{name} {path} is the baseline of this run; expected another file")


def register_reports(config: pytest.Config, ours: Session) -> None:
    """Add the progress line, failures that are told together, and a word on a report that cannot be written."""
    PytestBenchmarkSession(config).survive_unwritten_json()
    plugins = config.pluginmanager
    reporter = plugins.get_plugin("terminalreporter")
    plugins.register(Progress(reporter, ours), "update-benchmark-progress")
    plugins.register(Failures(reporter, ours), Failures.NAME)


def prepare(config: pytest.Config, ours: Session) -> None:
    """Let the benchmark start what its cells need, unless they are only listed."""
    if config.option.collectonly:
        return
    # pytest takes what a test writes; a progress bar is for who waits.
    capture = config.pluginmanager.get_plugin("capturemanager")
    try:
        ours.prepare(capture.global_and_fixture_disabled if capture else nullcontext)
    except options.OptionError as error:
        raise pytest.UsageError(str(error)) from None
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and (notice := ours.run.benchmark.notice):
        reporter.write_line(notice)
