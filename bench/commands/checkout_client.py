"""A process that holds one checkout's step (``checkout_worker.py``), as the comparison sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

from peft_update_bench.bench.cells import Cell
from peft_update_bench.fixtures.instruments.latency.clock import Clock, Duration
from peft_update_bench.fixtures.workload import Workload

WORKER = Path(__file__).with_name("checkout_worker.py")


class WorkerError(Exception):
    """A checkout that cannot run a cell; the message is the last line that its process printed."""


@dataclass(frozen=True)
class RemoteClock(Clock):
    """Has the worker time its own step: a step that is called returns how long it took."""

    def time(self, step: Callable[[], object]) -> Duration:
        duration = step()
        assert isinstance(duration, Duration)
        return duration


class Worker:
    """A process that holds one cell's step from one checkout."""

    def __init__(self, checkout: Path, cell: Cell, workload: Workload) -> None:
        settings = {"cell": asdict(cell), "workload": workload.changed() | {"threads": workload.threads}}
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed on exit
        threads = str(workload.threads)
        self.process = subprocess.Popen(
            # -P: the script's own folder must not be searched for modules.
            [sys.executable, "-P", WORKER, json.dumps(settings)],
            cwd=checkout,
            env=os.environ
            | {"PYTHONPATH": _modules(cell), "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
            # Whatever a step prints can be, also where the terminal's encoding lacks it.
            | {"PYTHONIOENCODING": "utf-8:backslashreplace"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self.period = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self.log.close()

    def start(self) -> None:
        """Wait until the step is built and has done one update. Raises WorkerError."""
        self.period = self._ask("period") or 0
        self.update()

    def update(self) -> Duration:
        return Duration(**self._ask("update"))

    def refresh(self) -> Duration:
        return Duration(**self._ask("refresh"))

    def _ask(self, request: str) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(f"{request}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self._fail()
        answer = self.process.stdout.readline()
        if not answer:
            self._fail()
        return json.loads(answer)

    def _fail(self) -> NoReturn:
        status = self.process.wait()
        self.log.seek(0)
        lines = self.log.read().strip().splitlines()
        raise WorkerError(lines[-1].strip() if lines else f"its process ended with status {status}")


def _modules(cell: Cell) -> str:
    """Where a worker looks for modules: in its checkout; for a user's own network or method also in the folder from
    which this command is run, and on the path that it was given. A user's own step is the checkout's."""
    after = "src" if cell.is_step else str(Path.cwd())
    return os.pathsep.join([".", after, *filter(None, [os.environ.get("PYTHONPATH")])])
