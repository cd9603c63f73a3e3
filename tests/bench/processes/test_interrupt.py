"""An interrupt while packages are imported: it ends the run, and no package is said to be missing."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from peft_update_bench.bench.__main__ import main
from peft_update_bench.bench.benchmarks.update import UpdateBenchmark
from peft_update_bench.bench.processes.interrupt import interrupt_waits


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(autouse=True)
def interrupted_as_in_a_terminal() -> Iterator[None]:
    """In a script's background an interrupt is ignored, and that is inherited."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def within(*calls: Callable[[], object]) -> None:
    with interrupt_waits():
        for call in calls:
            call()


def missing() -> None:
    raise ImportError("no module named peft")


def test_it_comes_when_the_import_is_done() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        within(interrupt, lambda: done.append("import"))
    assert done == ["import"]


def test_a_second_comes_at_once() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        within(interrupt, lambda: done.append("import"), interrupt, lambda: done.append("more"))
    assert done == ["import"]


def test_it_is_told_and_not_the_error_that_came_as_well() -> None:
    with pytest.raises(KeyboardInterrupt):
        within(interrupt, missing)


def test_without_one_nothing_happens() -> None:
    within()
    with pytest.raises(ImportError):
        within(missing)


def test_where_it_is_ignored_it_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    within(interrupt)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_another_thread_leaves_it_to_the_main_one() -> None:
    found = []

    def enter() -> None:
        with interrupt_waits():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]


def test_a_command_that_is_interrupted_while_it_starts_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "interrupts_while_imported.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    (tmp_path / "pyproject.toml").write_text('[tool.peft-update-bench]\nmodules = ["interrupts_while_imported"]\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    assert main(["diff", "a.json", "b.json"]) == 130
    assert capsys.readouterr().err == "update-bench diff: interrupted\n"


@pytest.mark.parametrize("words", [("--pyargs", "peft_update_bench.bench", "--methods=head"), ("test_own.py",)])
def test_a_run_that_is_interrupted_before_its_cell_has_a_time_says_so(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """With warnings as errors pytest-benchmark's, that its fixture was not used, was a traceback in its place."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(UpdateBenchmark, "measure", interrupted)
    monkeypatch.setattr(UpdateBenchmark, "prepare", lambda *_: None)
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    pytester.makepyfile(test_own="def test_update(update_benchmark):\n    update_benchmark(lambda: None)\n")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", *words, no_reraise_ctrlc=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*! KeyboardInterrupt !*"])
    assert "was not used" not in "\n".join([*result.outlines, *result.errlines])
