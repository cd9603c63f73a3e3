"""How libraries' pools of processes end a call that misbehaves: ``python -m tests.studies.process_libraries``.

Needs ``pip install pebble==5.2.3 loky==3.7.0``, which nothing else does. Each case is a call with a limit of 5 s, in an
interpreter of its own. Prints a Markdown table, with this project's own in the last column.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent import futures
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from peft_update_bench.bench.processes.child_process import ChildProcess, MeasurementError
from tabulate import tabulate

from tests.helpers.alive import all_gone, is_alive
from tests.helpers.misbehaviour import hang_in_a_kernel, print_and_end, raise_odd_error, start_a_child

LIMIT_S = 5.0
Call = Callable[..., Any]


def pebble() -> Call:
    pool = import_module("pebble").ProcessPool(1, context=get_context("fork"))
    return lambda function, *args: pool.schedule(function, args=args, timeout=LIMIT_S).result()


def loky() -> Call:
    pool = import_module("loky").ProcessPoolExecutor(1)
    return lambda function, *args: pool.submit(function, *args).result(LIMIT_S)


def concurrent_futures() -> Call:
    pool = futures.ProcessPoolExecutor(1, mp_context=get_context("fork"))
    return lambda function, *args: pool.submit(function, *args).result(LIMIT_S)


def own() -> Call:
    child = ChildProcess("fork")
    return lambda function, *args: child.call(function, *args, limit_s=LIMIT_S)


POOLS = {"pebble": pebble, "loky": loky, "concurrent.futures": concurrent_futures, "ChildProcess": own}


def hang(path: str) -> None:
    Path(path).write_text(f"{os.getpid()} {start_a_child()}")
    hang_in_a_kernel()


CASES: dict[str, tuple[Callable[..., object], tuple[object, ...]]] = {
    "ends with exit code 0": (print_and_end, (0,)),
    "SIGSEGV": (print_and_end, (-signal.SIGSEGV,)),
    "an exception that cannot be unpickled": (raise_odd_error, (1,)),
    "hangs in a kernel": (hang, ()),
    "the parent gets SIGKILL": (hang, ()),
}


def try_case(pool: str, case: str, notes: str) -> str:
    """What the caller is told, after how long, and what is left; in an interpreter of its own."""
    call = POOLS[pool]()
    call(abs, -1)
    function, args = CASES[case]
    start = time.monotonic()
    try:
        said = call(function, *(args or (notes,)))
    except (Exception, MeasurementError) as error:
        code = getattr(error, "exitcode", None)
        said = f"{type(error).__name__}: {str(error)[:48]}" + (f", exit code {code}" if code else "")
    seconds = time.monotonic() - start
    time.sleep(0.5)
    pids = map(int, Path(notes).read_text().split()) if function is hang else ()
    left = [name for name, pid in zip(("its process", "the process it started"), pids, strict=False) if is_alive(pid)]
    return f"{seconds:.1f} s: {said}" + (f"; still runs: {', '.join(left)}" if left else "")


def run_case(pool: str, case: str) -> str:
    with TemporaryDirectory() as folder:
        notes = Path(folder) / "pids"
        command = [sys.executable, "-m", __spec__.name, pool, case, str(notes)]
        parent = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            if case != "the parent gets SIGKILL":
                parent.wait(60)
                return notes.with_name("said").read_text()
            while not notes.exists() or len(notes.read_text().split()) < 2:
                time.sleep(0.1)
            pids = [int(pid) for pid in notes.read_text().split()]
            parent.kill()
            start = time.monotonic()
            ended = all_gone(pids, 5)
            return f"gone after {time.monotonic() - start:.2f} s" if ended else "still runs after 5 s"
        finally:
            pids = [int(pid) for pid in notes.read_text().split()] if notes.exists() else []
            for pid in (parent.pid, *pids):
                subprocess.run(["kill", "-9", str(pid)], check=False, stderr=subprocess.DEVNULL)
            parent.wait()


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m tests.studies.process_libraries",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    rows = [[case, *(run_case(pool, case) for pool in POOLS)] for case in CASES]
    print(tabulate(rows, ["the call", *POOLS], tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    if len(sys.argv) == 4:  # one case, in an interpreter that main started
        Path(sys.argv[3]).with_name("said").write_text(try_case(*sys.argv[1:]))
        os._exit(0)
    main()
