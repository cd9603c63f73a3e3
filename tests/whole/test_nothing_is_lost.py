"""Whenever a run ends, and however, the baselines that were there are as they were, and no file is half written."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers.alive import gone
from tests.helpers.forked_pytest import ended, start_pytest
from tests.whole.test_run import COMPARE, REPOSITORY, Suite, files, recorded, storage, suite, text

__all__ = ["recorded", "storage", "suite"]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm_operators")]

SAVER = """
import signal, sys; from pathlib import Path
# Where the tests run in the background of a script, an interrupt is ignored, and that is inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)
from pytest_benchmark.logger import Logger
from peft_update_bench.bench.storage import BaselineStorage
print("ready", flush=True)
for number in range(1000):
    BaselineStorage(Path(sys.argv[1]), Logger(Logger.QUIET), "machine").save({"run": list(range(20_000))}, "baseline")
"""
"""Saves baselines of 150 kB for half a minute: no longer, should the tests be killed before they kill it."""

NUMBERED = re.compile(r"\d{4}_baseline\.json")


def start(folder: Path, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SAVER, str(folder)]
    return subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_killed_while_it_saves(tmp_path: Path, number: int) -> None:
    """At moments from 20 to 200 ms into a loop in which a save takes some 30 ms."""
    committed = tmp_path / "0001_baseline.json"
    committed.write_text('{"run": "committed"}')
    for milliseconds in (20, 50, 90, 200):
        process = start(tmp_path)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(milliseconds / 1000)
        process.send_signal(number)
        process.communicate(timeout=20)
        assert process.returncode == -number
    whole = [path for path in tmp_path.iterdir() if NUMBERED.fullmatch(path.name)]
    assert len(whole) > 4, "some were saved before the signal came"
    assert committed.read_text() == '{"run": "committed"}'
    assert all(len(json.loads(path.read_text())["run"]) == 20_000 for path in whole if path != committed)
    others = {path.name for path in tmp_path.iterdir()} - {path.name for path in whole}
    assert all(name.startswith(".") and name.endswith(".partial") for name in others)
    if number == signal.SIGINT:
        # Python gets to tidy up, unless the interrupt comes while it does.
        assert len(others) <= 1


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk's end: it comes in the middle of a write as well."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    code = SAVER.replace("range(1000)", "range(1)")
    code = code.replace("    BaselineStorage(", "    storage = BaselineStorage(").replace(
        '"machine").', '"machine"); storage.'
    )
    code += "    print(storage.failure)"
    # Coverage would write its own file when the process ends, and the disk has no room for that either.
    without_coverage = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=REPOSITORY, env=without_coverage, preexec_fn=limit, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == f"ready\n{tmp_path} cannot be written to (File too large)\n"
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_fails_the_run_in_one_line(
    suite: Suite, recorded: Path, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = recorded.read_bytes()
    monkeypatch.setattr("os.fsync", full)
    result = suite("--benchmark-save=baseline", "--methods=fft")
    result.assert_outcomes(passed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["No baseline was saved: *baselines cannot be written to (No space left on device)."])
    assert "Traceback" not in text(result)
    assert "INTERNALERROR" not in text(result)
    assert files(storage) == ["0001_baseline.json"]
    assert recorded.read_bytes() == before


def test_a_report_that_cannot_be_written_fails_the_run_in_one_line(
    suite: Suite, storage: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the baseline, which is saved after it, is not lost. A folder that it lacks is made."""
    assert suite("--methods=fft", "--benchmark-json=made/run.json").ret == 0
    assert (pytester.path / "made" / "run.json").is_file()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("peft_update_bench.bench.pytest_benchmark_session.write_named", full)
    result = suite("--methods=fft", "--benchmark-json=run.json", "--benchmark-save=baseline")
    result.assert_outcomes(passed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["--benchmark-json run.json cannot be written (No space left on device)"])
    assert "Traceback" not in text(result)
    assert files(storage) == ["0001_baseline.json"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--benchmark-json=.",), "--benchmark-json . cannot be written (Is a directory); expected a file to make"),
        (("--benchmark-json=run.json",), "--benchmark-json run.json cannot be written (Permission denied)"),
        (("--markdown=nowhere/verdicts.md",), "--markdown nowhere/verdicts.md cannot be written (No such file or dir"),
        (("--markdown=/dev/null/verdicts.md",), "--markdown /dev/null/verdicts.md cannot be written (Not a directory)"),
        (
            ("--benchmark-save=baseline", "--benchmark-storage=kept"),
            "no baseline can be saved: kept cannot be written to (Permission denied); expected a folder that takes",
        ),
    ],
)
def test_what_cannot_be_written_is_said_before_anything_runs(
    suite: Suite, options: tuple[str, ...], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a folder of another user's, which takes files of root's all the same."""
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and may(path, mode))
    result = suite("--methods=fft", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: {complaint}" in text(result)
    assert "passed" not in text(result)
    collected = suite("--methods=fft", "--collect-only", *options)
    assert collected.ret == 0
    assert ("No baseline was saved: tests were only collected." in text(collected)) is (len(options) > 1)


@pytest.mark.parametrize("option", ["--benchmark-json", "--markdown"])
def test_a_run_does_not_write_over_the_baseline_that_judges_it(suite: Suite, recorded: Path, option: str) -> None:
    """The next run would hold whatever this one was."""
    held, link = recorded.read_text(), recorded.with_name("link.json")
    link.symlink_to(recorded)
    for path in (recorded, link):
        result = suite(COMPARE, f"{option}={path}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert f"ERROR: {option} {path} is the baseline of this run; expected another file" in text(result)
    assert recorded.read_text() == held


def test_a_full_disk_takes_no_report_of_the_run_before(
    suite: Suite, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    reports = [pytester.path / name for name in ("run.json", "verdicts.md")]
    for report in reports:
        report.write_text("of the run before")
    monkeypatch.setattr("os.fsync", full)
    result = suite("--methods=fft", "--benchmark-json=run.json", "--markdown=verdicts.md")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [f"{option} cannot be written (No space left*)" for option in ("--benchmark-json *", "--markdown *")]
    )
    assert [report.read_text() for report in reports] == ["of the run before"] * 2


def test_a_table_is_written_where_nothing_is_printed(suite: Suite, pytester: pytest.Pytester) -> None:
    assert suite("--methods=fft", "--markdown=verdicts.md", "-p", "no:terminal").ret == 0
    assert "1 cell, no baseline compared" in (pytester.path / "verdicts.md").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_killed_saves_nothing(tmp_path: Path, number: int) -> None:
    """While its cells are measured: the baselines are as they were, and no process of the run is left."""
    folder = tmp_path / "baselines"
    folder.mkdir()
    (folder / "0001_baseline.json").write_text("as it was")
    process, output = start_pytest(
        REPOSITORY, "bench/test_update.py", "--metrics=flops,memory", "-p", "no:cacheprovider",
        "--image-size=64", "--benchmark-save=baseline", f"--benchmark-storage=file://{folder}",
    )  # fmt: skip
    for line in output:
        if line.startswith("[2/48]"):
            break
    assert process.pid is not None
    others = psutil.Process(process.pid).children(recursive=True)
    assert others, "a cell is measured in a process of its own"
    os.kill(process.pid, number)
    status, _ = ended(process, output)
    assert status != 0 if number == signal.SIGINT else status == -number
    assert all(gone(other.pid) for other in others)
    assert [path.name for path in folder.iterdir()] == ["0001_baseline.json"]
    assert (folder / "0001_baseline.json").read_text() == "as it was"


INTERRUPTED = """
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call():
    raise KeyboardInterrupt

def pytest_keyboard_interrupt():
    raise TypeError("as pytest's own report of an interrupt, where it came between two lines")
"""


def test_an_interrupt_that_pytest_fails_to_handle_saves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pytest then takes the run for one that passed."""
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    monkeypatch.syspath_prepend(tmp_path)
    status, said = ended(
        *start_pytest(
            REPOSITORY, "bench/test_update.py", "--metrics=flops", "-p", "no:cacheprovider", "-p", "interrupted",
            "--benchmark-save=baseline", f"--benchmark-storage=file://{tmp_path / 'baselines'}",
        )
    )  # fmt: skip
    assert status != 0
    assert "as pytest's own report of an interrupt" in said
    assert not list(tmp_path.glob("**/*.json"))


@pytest.mark.parametrize("name", ["../escape", "a/b", "a\\b", "a|b", "<script>"])
def test_a_name_cannot_leave_the_folder(suite: Suite, storage: Path, name: str, pytester: pytest.Pytester) -> None:
    result = suite(f"--benchmark-save={name}", "--methods=fft")
    assert result.ret == 4
    assert files(storage) == []
    assert not list(pytester.path.glob("**/*.json"))


def test_an_unfinished_file_is_no_baseline(suite: Suite, storage: Path) -> None:
    storage.mkdir()
    (storage / ".tmpabc.partial").write_text("{")
    result = suite(COMPARE)
    assert result.ret == 4
    assert "no baseline (NNNN_*.json)" in text(result)
