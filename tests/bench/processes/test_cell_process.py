"""One bad cell does not take down the run: whatever a method does, it is that cell's failure, and the others finish."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import torch
from peft_update_bench.bench.processes.cell_process import CellProcess, ThisProcess
from peft_update_bench.bench.processes.child_process import MeasurementError
from peft_update_bench.fixtures.architectures import Network
from peft_update_bench.fixtures.methods.lora import LoRA

from tests.helpers.alive import gone
from tests.helpers.misbehaviour import fail, hang_in_a_kernel, print_and_end
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


def test_one_process_serves_all_calls(process: CellProcess) -> None:
    assert process.call(os.getpid) == process.call(os.getpid) != os.getpid()


def test_a_fresh_one_serves_one(process: CellProcess) -> None:
    assert len({process.call_fresh(os.getpid), process.call_fresh(os.getpid), process.call(os.getpid)}) == 3


def test_a_user_s_code_has_a_process_that_no_other_has_had(process: CellProcess) -> None:
    """It may have changed torch for all that come after it; its own cells share what one of them has computed."""
    pids = []
    for users_code in ((), (), ("mine:net",), ("mine:net",), ("mine:net", "mine:Method"), ("other:net",), ()):
        process.begin(users_code)
        pids.append(process.call(os.getpid))
    assert [pids.index(pid) for pid in pids] == [0, 0, 2, 2, 4, 5, 6]


PATCHING = """
from torch import nn
once = nn.Conv2d.forward

def twice(num_classes):
    nn.Conv2d.forward = lambda self, images: (once(self, images), once(self, images))[1]
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))
"""


def test_what_a_network_changes_in_torch_is_not_the_next_cell_s(suite: Suite, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(patching=PATCHING)
    forward = []
    for architectures in ("mobilenet_v3_small", "patching:twice,mobilenet_v3_small"):
        options = ("--methods=head", "--metrics=flops", "--workers=1", "--benchmark-json=run.json")
        assert suite(f"--architectures={architectures}", *options).ret == 0
        entries = json.loads((pytester.path / "run.json").read_text())["benchmarks"]
        forward.append(entries[-1]["extra_info"]["flops"]["forward"])
    assert forward[0] == forward[1]


@pytest.mark.parametrize("call", [CellProcess.call, CellProcess.call_fresh])
def test_an_error_that_is_a_sentence_is_said_as_it_is(process: CellProcess, call: Any) -> None:
    with pytest.raises(MeasurementError, match=r"^two lines\nof text$"):
        call(process, fail, PlainError("two lines\nof text"))
    with pytest.raises(MeasurementError, match=r"^ValueError: a sentence or not "):
        call(process, fail, ValueError("a sentence or not"))


@pytest.mark.parametrize("number", [3, -signal.SIGSEGV])
def test_a_process_that_ends_is_replaced(process: CellProcess, number: int) -> None:
    pid = process.call(os.getpid)
    with pytest.raises(MeasurementError):
        process.call(print_and_end, number)
    assert process.call(os.getpid) != pid


def test_one_that_ended_between_two_calls_fails_neither(process: CellProcess) -> None:
    pid = process.call(os.getpid)
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    assert process.call(os.getpid) != pid


def test_the_next_cell_has_its_time_after_one_that_was_late(process: CellProcess) -> None:
    process.limit_s = 1
    process.begin()
    with pytest.raises(MeasurementError, match=r"^took longer than --cell-seconds 1 and was ended in hang_in_a_kernel"):
        process.call(hang_in_a_kernel)
    process.begin()
    assert process.call(abs, -1) == 1


@pytest.mark.parametrize("call", [CellProcess.call, CellProcess.call_fresh])
def test_the_limit_is_the_whole_cell_s(process: CellProcess, call: Any) -> None:
    process.limit_s = 2
    process.begin()
    process.call(time.sleep, 1.5)
    with pytest.raises(MeasurementError, match=r"^took longer than --cell-seconds 2 and was ended"):
        call(process, time.sleep, 1.5)


def lines_of(script: str) -> list[str]:
    """What a Python of its own prints of `script`."""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_threads_that_ran_before_do_not_hang_the_cells() -> None:
    """As where a test before uses torch, or a module calls its network when it is imported; the fork alone hangs at
    its first parallel operator."""
    script = (
        "import operator, torch\n"
        "from peft_update_bench.bench.processes.cell_process import CellProcess, MeasurementError\n"
        "torch.set_num_threads(2); many = torch.ones(1 << 20); many + 1\n"
        "for call, threads in ((CellProcess.call, 2), (CellProcess.call_forked, 1), (CellProcess.call_forked, 2)):\n"
        "    cell = CellProcess(60, threads=threads); cell.begin()\n"
        "    try: call(cell, operator.add, many, 1); print('done')\n"
        "    except MeasurementError as error: print(error)\n"
        "    cell.close()"
    )
    *done, refused = lines_of(script)
    assert done == ["done"] * 2
    assert refused.startswith("operators with 2 threads do not end in a process forked from pytest's own")


def test_a_fork_that_never_begins_does_not_hang_the_cells() -> None:
    """As where a test before has used tensors of torch.distributed, whose end waits for threads that a fork lacks."""
    script = (
        "import operator, os, time\n"
        "from peft_update_bench.bench.processes import cell_process\n"
        "from peft_update_bench.bench.processes.cell_process import CellProcess, MeasurementError\n"
        "cell_process._PROBE_S = 1\n"
        "os.register_at_fork(after_in_child=lambda: time.sleep(300))\n"
        "for call in (CellProcess.call, CellProcess.call_forked):\n"
        "    cell = CellProcess(60); cell.begin()\n"
        "    try: print(call(cell, operator.add, 1, 1))\n"
        "    except MeasurementError as error: print(error)\n"
        "    cell.close()"
    )
    assert lines_of(script) == [
        "2",
        "nothing begins in a process forked from pytest's own, in which earlier tests used threads; expected a builder "
        "that can be imported by its name",
    ]


def test_without_a_process_errors_are_raised_as_they_are() -> None:
    with pytest.raises(ValueError, match="as it is"):
        ThisProcess().call(fail, ValueError("as it is"))


def test_without_a_process_everything_is_called_here() -> None:
    assert ThisProcess().call(os.getpid) == ThisProcess().call_fresh(os.getpid) == os.getpid()


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
    result = suite("--methods=lora,fft", "--ranks=1,2,4,8,16", "--cell-seconds=15", "--junitxml=junit.xml")
    result.assert_outcomes(passed=1, failed=5)
    assert result.ret == 1
    assert "Traceback" not in text(result)
    result.stdout.fnmatch_lines(
        [
            "mobilenet_v3_small-lora-r1: KeyError: 'layer5' (at `raise KeyError(*`, test_cell_process.py:*)",
            "mobilenet_v3_small-lora-r2: RuntimeError: *memory*",
            "mobilenet_v3_small-lora-r4: took longer than --cell-seconds 15 and was ended in hang_in_a_kernel (*",
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
