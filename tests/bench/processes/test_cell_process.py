"""One bad cell does not take down the run: whatever a method does, it is that cell's failure, and the others finish."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psutil
import pytest
import torch
from peft_update_bench.bench.processes.cell_process import CellProcess, ThisProcess
from peft_update_bench.bench.processes.child_process import MeasurementError
from peft_update_bench.fixtures.architectures import Network
from peft_update_bench.fixtures.methods.lora import LoRA

from tests.whole.test_run import Suite, suite, text

__all__ = ["suite"]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm_operators")]


class PlainError(Exception):
    """One whose message is a sentence."""


@pytest.fixture
def process() -> Iterator[CellProcess]:
    with closing(CellProcess(20, (PlainError,))) as cell_process:
        cell_process.begin()
        yield cell_process


def fail(error: Exception) -> None:
    raise error


def hang_in_a_kernel() -> None:
    """Sleep without giving the interpreter back, as a kernel that does not end."""
    ctypes.PyDLL(None).sleep(600)


def print_and_end(number: int) -> None:
    print("about to die")
    if number >= 0:
        os._exit(number)
    os.kill(os.getpid(), -number)


def start_a_child() -> int:
    return subprocess.Popen(["sleep", "600"]).pid


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def gone(pid: int, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not is_alive(pid)


def test_one_process_serves_all_calls(process: CellProcess) -> None:
    assert process.call(os.getpid) == process.call(os.getpid) != os.getpid()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PlainError("two lines\nof text"), "two lines\nof text"),
        (
            ValueError("the first line says it\nthe second is detail"),
            "ValueError: the first line says it (at `",
        ),
        (MemoryError(), "MemoryError (at `raise error`, test_cell_process.py:"),
    ],
)
def test_an_exception_is_a_sentence_and_ends_nothing(process: CellProcess, error: Exception, said: str) -> None:
    pid = process.call(os.getpid)
    with pytest.raises(MeasurementError) as raised:
        process.call(fail, error)
    assert str(raised.value).startswith(said)
    assert process.call(os.getpid) == pid


def test_more_memory_than_there_is(process: CellProcess) -> None:
    with pytest.raises(MeasurementError, match=r"^RuntimeError: .*[Mm]emory.*"):
        process.call(torch.empty, 2**60)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (3, "ended its process with exit code 3; the last line it printed: about to die"),
        (0, "ended its process with exit code 0; the last line it printed: about to die"),
        (
            -signal.SIGKILL,
            "its process was killed by SIGKILL, as happens when memory runs out; the last line",
        ),
        (-signal.SIGSEGV, "its process was killed by SIGSEGV in print_and_end (test_cell_process.py:"),
    ],
)
def test_a_process_that_ends_is_replaced(process: CellProcess, number: int, said: str) -> None:
    pid = process.call(os.getpid)
    with pytest.raises(MeasurementError) as raised:
        process.call(print_and_end, number)
    assert str(raised.value).startswith(said)
    assert process.call(os.getpid) != pid


def test_a_hang_is_ended_with_all_that_it_started(process: CellProcess) -> None:
    pid, child = process.call(os.getpid), process.call(start_a_child)
    process.limit_s = 1
    process.begin()
    started = time.monotonic()
    with pytest.raises(
        MeasurementError,
        match=r"^took longer than --cell-seconds 1 and was ended in hang_in_a_kernel \(test_cell_process.py:\d+\)$",
    ):
        process.call(hang_in_a_kernel)
    assert time.monotonic() - started < 10
    assert gone(pid)
    assert gone(child)
    process.begin()
    assert process.call(abs, -1) == 1


def test_the_limit_is_the_whole_cell_s(process: CellProcess) -> None:
    process.limit_s = 2
    process.begin()
    process.call(time.sleep, 1.5)
    with pytest.raises(MeasurementError, match="took longer than --cell-seconds 2"):
        process.call(time.sleep, 1.5)


def test_what_a_cell_prints_stays_out_of_the_run_s_output(
    process: CellProcess, capfd: pytest.CaptureFixture[str]
) -> None:
    process.call(os.system, "echo from a command; echo an error >&2")
    process.call(print, "from Python")
    assert capfd.readouterr() == ("", "")


def test_an_answer_that_cannot_be_sent_is_the_cell_s_failure(process: CellProcess) -> None:
    with pytest.raises(MeasurementError, match="pickle"):
        process.call(eval, "lambda: 0")
    assert process.call(abs, -1) == 1


def test_without_a_process_errors_are_raised_as_they_are() -> None:
    with pytest.raises(ValueError, match="as it is"):
        ThisProcess().call(fail, ValueError("as it is"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_the_process_that_started_it(number: int) -> None:
    code = (
        "import os, sys, time; from peft_update_bench.bench.processes.cell_process import CellProcess\n"
        "process = CellProcess(60); process.begin(); print(process.call(os.getpid), flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.send_signal(number)
    assert parent.wait(10) == -number
    parent.stdout.close()
    assert gone(pid)


def test_each_bad_cell_fails_with_its_cause_and_the_others_finish(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six cells in one run: one is well, and five go wrong, each in another way."""
    adapt = LoRA.adapt

    def misbehave(self: LoRA, network: Network, rank: int) -> None:
        if rank == 1:
            raise KeyError("layer5")
        if rank == 2:
            network.module.register_buffer("cache", torch.empty(2**60, device="cpu"))
        if rank == 4:
            hang_in_a_kernel()
        if rank in {8, 16}:
            print_and_end({8: 3, 16: -signal.SIGSEGV}[rank])
        adapt(self, network, rank)

    monkeypatch.setattr(LoRA, "adapt", misbehave)
    result = suite("--methods=lora,fft", "--ranks=1,2,4,8,16", "--cell-seconds=6", "--junitxml=junit.xml")
    result.assert_outcomes(passed=1, failed=5)
    assert result.ret == 1
    assert "Traceback" not in text(result)
    result.stdout.fnmatch_lines(
        [
            "mobilenet_v3_small-lora-r1: KeyError: 'layer5' (at `raise KeyError(*`, test_cell_process.py:*)",
            "mobilenet_v3_small-lora-r2: RuntimeError: *memory*",
            "mobilenet_v3_small-lora-r4: took longer than --cell-seconds 6 and was ended in hang_in_a_kernel (*",
            "mobilenet_v3_small-lora-r8: ended its process with exit code 3; *: about to die",
            "mobilenet_v3_small-lora-r16: its process was killed by SIGSEGV in print_and_end (*: about to die",
        ]
    )
    result.stdout.fnmatch_lines(["mobilenet_v3_small-fft * MiB *", "6 cells, *: 5 failed, 1 not compared"])


@pytest.mark.parametrize("value", ["-1", "soon", "1.5", ""])
def test_a_bad_limit_is_refused(suite: Suite, value: str) -> None:
    result: Any = suite(f"--cell-seconds={value}")
    assert result.ret == 4
    assert f"--cell-seconds is {value!r}; expected a whole number of at least 1" in text(result)
