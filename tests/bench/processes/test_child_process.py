"""Every way in which a call in a process of its own can fail is one sentence, in a forked and in a fresh process."""

from __future__ import annotations

import math
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from peft_update_bench.bench.processes.child_process import ChildProcess, MeasurementError, call_once, start_server

from tests.helpers.alive import all_gone, gone
from tests.helpers.misbehaviour import (
    CannotBeRead,
    close_every_connection,
    fail,
    fork_a_child,
    fork_and_end,
    hang_in_a_kernel,
    many_bytes,
    print_and_end,
    print_everywhere,
    raise_odd_error,
    start_a_child,
)


class PlainError(Exception):
    """One whose message is a sentence."""


@pytest.fixture(params=["fork", "forkserver"])
def child(request: pytest.FixtureRequest) -> Iterator[ChildProcess]:
    if request.param == "forkserver":
        start_server()
    with closing(ChildProcess(request.param, (PlainError,))) as process:
        yield process


def failure(child: ChildProcess, function: object, *args: object, limit_s: float = 20.0) -> str:
    with pytest.raises(MeasurementError) as raised:
        child.call(function, *args, limit_s=limit_s)  # type: ignore[arg-type]
    return str(raised.value)


def test_one_process_does_one_call_after_another(child: ChildProcess) -> None:
    assert child.call(os.getpid, limit_s=20) == child.call(os.getpid, limit_s=20) != os.getpid()


def test_a_clock_that_stands_still_is_refused(child: ChildProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand, as a conftest does it, before the process is started or after; multiprocessing waits for ever."""
    with monkeypatch.context() as frozen:
        frozen.setattr(time, "monotonic", lambda: 7.0)
        for use in (lambda: child.is_alive, lambda: child.call(os.getpid, limit_s=20), lambda: ChildProcess("fork")):
            with pytest.raises(MeasurementError, match=r"^time.monotonic stands still, as a test or a conftest.py"):
                use()


def test_a_clock_that_ticks_seldom_is_not_refused(child: ChildProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    ticking = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: ticking() // 0.016 * 0.016)
    assert child.call(os.getpid, limit_s=20) != os.getpid()


def test_each_call_once_is_a_fresh_process() -> None:
    assert call_once(os.getpid, limit_s=20) != call_once(os.getpid, limit_s=20)


class TestExceptions:
    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (PlainError("two lines\nof text"), r"two lines\nof text"),
            (
                ValueError("the first line says it\nthe second is detail"),
                r"ValueError: the first line says it \(at `raise error`, misbehaviour.py:\d+\)",
            ),
            (MemoryError(), r"MemoryError \(at `raise error`, misbehaviour.py:\d+\)"),
        ],
    )
    def test_are_a_sentence_and_end_nothing(self, child: ChildProcess, error: Exception, said: str) -> None:
        pid = child.call(os.getpid, limit_s=20)
        assert re.fullmatch(said, failure(child, fail, error))
        assert child.call(os.getpid, limit_s=20) == pid

    def test_more_memory_than_there_is(self, child: ChildProcess) -> None:
        assert re.match(r"RuntimeError: .*[Mm]emory[^`]*$", failure(child, torch.empty, 2**60)), "and no place in torch"

    def test_one_that_cannot_be_unpickled(self, child: ChildProcess) -> None:
        said = failure(child, raise_odd_error, 3)
        assert said.startswith("NeedsTwoError: layer4 has 3 (at `raise NeedsTwoError(")
        assert child.is_alive

    def test_arguments_that_cannot_be_read_there(self, child: ChildProcess) -> None:
        """As of a function whose module the fresh process cannot import."""
        assert failure(child, abs, CannotBeRead()).startswith("NeedsTwoError: layer4 has 1 (at `raise")
        assert child.is_alive


class TestEnds:
    @pytest.mark.parametrize(
        ("number", "said"),
        [
            (3, r"ended its process with exit code 3; the last line it printed: about to die"),
            (0, r"ended its process with exit code 0; the last line it printed: about to die"),
            (
                -signal.SIGKILL,
                r"its process was killed by SIGKILL, as happens when memory runs out; the last line it printed: .*die",
            ),
            (
                -signal.SIGSEGV,
                r"its process was killed by SIGSEGV in print_and_end \(misbehaviour.py:\d+\); the last line .*die",
            ),
        ],
    )
    def test_by_itself_or_by_a_signal(self, child: ChildProcess, number: int, said: str) -> None:
        pid = child.call(os.getpid, limit_s=20)
        assert re.fullmatch(said, failure(child, print_and_end, number))
        assert not child.is_alive
        assert gone(pid)

    def test_by_sys_exit(self, child: ChildProcess) -> None:
        assert failure(child, sys.exit, "no data") == (
            "ended its process with exit code 1; the last line it printed: no data"
        )

    def test_although_what_it_forked_holds_its_connection(self, child: ChildProcess, tmp_path: Path) -> None:
        started = time.monotonic()
        assert failure(child, fork_and_end, tmp_path / "pid", 3, limit_s=60) == "ended its process with exit code 3"
        assert time.monotonic() - started < 30, "it was not taken for late"
        assert gone(int((tmp_path / "pid").read_text()))

    def test_between_two_calls(self, child: ChildProcess) -> None:
        os.kill(child.call(os.getpid, limit_s=20), signal.SIGKILL)
        assert failure(child, abs, -1) == "its process was killed by SIGKILL, as happens when memory runs out"


class TestLimit:
    def test_a_hang_is_ended_with_all_that_it_started(self, child: ChildProcess) -> None:
        pids = [child.call(function, limit_s=20) for function in (os.getpid, start_a_child, fork_a_child)]
        assert re.fullmatch(
            r"took longer than 1 s and was ended in hang_in_a_kernel \(misbehaviour.py:\d+\)",
            failure(child, hang_in_a_kernel, limit_s=1),
        )
        assert all_gone(pids)

    def test_is_said_by_its_name(self, child: ChildProcess) -> None:
        with pytest.raises(MeasurementError, match=r"^took longer than a coffee and was ended"):
            child.call(time.sleep, 60, limit_s=0.2, limit="a coffee")

    def test_just_within_it(self, child: ChildProcess) -> None:
        child.call(time.sleep, 0.2, limit_s=10)
        child.call(time.sleep, 0.2, limit_s=10)
        assert child.is_alive

    def test_a_process_that_closes_its_connection_and_lives(
        self, child: ChildProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("peft_update_bench.bench.processes.child_process._DYING_S", 0.5)
        pid = child.call(os.getpid, limit_s=20)
        assert failure(child, close_every_connection) == "its process closed its connection and was ended"
        assert gone(pid)


class TestResults:
    def test_big(self, child: ChildProcess) -> None:
        assert len(child.call(many_bytes, 50_000_000, limit_s=60)) == 50_000_000

    def test_that_cannot_be_pickled(self, child: ChildProcess) -> None:
        assert "pickle" in failure(child, eval, "lambda: 0")
        assert child.call(abs, -1, limit_s=20) == 1

    def test_that_cannot_be_read(self, child: ChildProcess) -> None:
        assert failure(child, CannotBeRead).startswith("NeedsTwoError: layer4 has 1")
        assert child.call(abs, -1, limit_s=20) == 1

    def test_arguments_that_cannot_be_pickled_are_the_caller_s_mistake(self, child: ChildProcess) -> None:
        with pytest.raises((AttributeError, TypeError), match="pickle"):
            child.call(lambda: 0, limit_s=20)
        assert child.call(abs, -1, limit_s=20) == 1


def test_what_it_prints_stays_out_of_this_process_s_output(
    child: ChildProcess, capfd: pytest.CaptureFixture[str]
) -> None:
    child.call(print_everywhere, limit_s=20)
    assert capfd.readouterr() == ("", "")


def test_its_own_processes_are_forked_into_its_group(child: ChildProcess) -> None:
    assert child.call(multiprocessing.get_start_method, limit_s=20) == "fork"
    assert child.call(os.getpgrp, limit_s=20) == child.call(os.getpid, limit_s=20)


def call_ignoring_ends() -> tuple[int, str]:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with closing(ChildProcess("fork")) as child:
        returned = child.call(abs, -1, limit_s=20)
    with closing(ChildProcess("fork")) as child:
        return returned, failure(child, os._exit, 3)


def test_a_program_that_ignores_its_children_s_ends() -> None:
    """As one does that would leave no zombies: nobody can ask then how a process has ended."""
    # In a process of its own, to which those children seem alive ever after.
    with closing(ChildProcess("fork")) as program:
        assert program.call(call_ignoring_ends, limit_s=60) == (
            1, "ended its process, how is not known, because SIGCHLD is ignored",
        )  # fmt: skip


def test_closed_it_leaves_nothing(child: ChildProcess) -> None:
    pids = [child.call(function, limit_s=20) for function in (os.getpid, start_a_child)]
    folder = Path(child._folder.name)
    assert folder.is_dir()
    child.close()
    child.close()
    assert all_gone(pids)
    assert not folder.exists()
    assert not child.is_alive


class TestServer:
    def run(self, code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)

    def test_ends_with_the_process_that_started_it(self) -> None:
        code = (
            "import os; from peft_update_bench.bench.processes.child_process import call_once\n"
            "print(call_once(os.getppid, limit_s=30, preload=()))"
        )
        done = self.run(code)
        assert done.returncode == 0, done.stderr
        assert gone(int(done.stdout))

    def test_prints_nothing(self) -> None:
        code = (
            "import math; from peft_update_bench.bench.processes.child_process import call_once\n"
            "print(call_once(math.sqrt, 4.0, limit_s=60))"
        )
        done = self.run(code)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{math.sqrt(4.0)}\n", "")

    def test_has_imported_what_an_update_needs(self) -> None:
        imported = call_once(list_modules, limit_s=60)
        assert {"torch", "peft", "peft_update_bench.fixtures.methods.galore"} <= imported


def list_modules() -> set[str]:
    return set(sys.modules)
