"""Whatever ends a run, its processes and all that these started are gone within a second."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.helpers.alive import all_gone
from tests.whole.test_run import REPOSITORY

CHILD = """
import os, sys, time
from peft_update_bench.bench.processes.child_process import ChildProcess, start_server
from tests.helpers.misbehaviour import fork_a_child, hang_in_a_kernel, start_a_child
if sys.argv[1] == "forkserver": start_server(())
child = ChildProcess(sys.argv[1])
print(*(child.call(function, limit_s=60) for function in (os.getpid, start_a_child, fork_a_child)), flush=True)
"""

HANG = CHILD + "child.call(hang_in_a_kernel, limit_s=60)"
IDLE = CHILD + "time.sleep(60)"

WORKERS = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from peft_update_bench.bench.processes.lifeline import end_with_parent
from tests.helpers.misbehaviour import hang_in_a_kernel, start_a_child
if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=end_with_parent)
    print(*(pool.submit(function).result() for function in (os.getpid, start_a_child)), flush=True)
    pool.submit(hang_in_a_kernel).result()
"""


@contextmanager
def started(code: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A parent in a process group of its own, as a shell starts one, and the processes that it says it has."""
    # Where the tests run in the background of a script, an interrupt is ignored, and that is inherited.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + code
    parent = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip
    with parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        try:
            assert len(pids) >= 2
            yield parent, pids
        finally:
            parent.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("start", ["fork", "forkserver"])
@pytest.mark.parametrize("doing", [IDLE, HANG], ids=["idle", "in a kernel"])
def test_with_a_parent_that_is_killed(doing: str, start: str, number: int) -> None:
    with started(doing, start) as (parent, pids):
        parent.send_signal(number)
        assert all_gone(pids, seconds=1)
        assert parent.wait(10) == -number


def test_a_pool_s_worker_with_a_parent_that_is_killed() -> None:
    with started(WORKERS) as (parent, pids):
        parent.kill()
        assert all_gone(pids, seconds=1), "as of adaptation's pool"


def test_an_interrupt_is_the_parent_s_alone() -> None:
    """As from the keyboard: the parent's group gets it. The call is given up, and the next one has a process again."""
    code = (
        CHILD.replace("child = ChildProcess(sys.argv[1])", "")
        .replace("ChildProcess, start_server", "start_server")
        .replace("child.call(function, limit_s=60)", "cell.call(function)")
        # The signal may come as soon as the line is written.
        .replace("print(", "from peft_update_bench.bench.processes.cell_process import CellProcess\n"
                 "cell = CellProcess(60); cell.begin()\ntry:\n    print(")
    )  # fmt: skip
    code += (
        "    cell.call(hang_in_a_kernel)\n"
        "except KeyboardInterrupt:\n    print('interrupted', cell.call(abs, -7)); cell.close()"
    )
    with started(code, "fork") as (parent, pids):
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.communicate(timeout=20) == ("interrupted 7\n", "")
        assert parent.returncode == 0
        assert all_gone(pids, seconds=1)
