"""How far instructions of unchanged code scatter, and the smallest slowdown that is always caught.

``python -m tests.studies.instructions_study [--servers N] [--user UID]`` counts small cells again and again: in fresh
processes, in every order, from folders of other lengths, with both cores kept busy, and as another user where it may.
Every pair of counts of a cell is a comparison; every step with a known number of further turns of a loop is a slowdown.
Prints Markdown tables. A server takes some 80 s of CPU time to start, and a cell some 3.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from peft_update_bench.bench.gate.verdict import judge_measured
from peft_update_bench.bench.metrics import default_tolerances
from peft_update_bench.fixtures.instruments.instructions import Instructions, valgrind
from peft_update_bench.fixtures.instruments.instructions.worker import Worker
from peft_update_bench.fixtures.update_step import UpdateStep, build_update_step
from peft_update_bench.fixtures.workload import Workload
from tabulate import tabulate

CELLS = (("mobilenet_v3_small", "head", None), ("mobilenet_v3_small", "lora", 4), ("mobilenet_v3_small", "galore", 4))
WORKLOAD = Workload(image_size=32)
SLOWDOWNS = (0.002, 0.003, 0.004, 0.005, 0.0075, 0.01)
TRIALS = 20


def build_slower(turns: int, architecture: str, method: str, rank: int | None) -> UpdateStep:
    """A cell's step whose forward first turns a loop `turns` times."""
    step = build_update_step(architecture, method, rank, WORKLOAD)
    forward = step.forward

    def turn_and_forward() -> object:
        for _ in range(turns):
            pass
        return forward()

    if turns:
        step.forward = turn_and_forward  # type: ignore[method-assign, assignment]
    return step


@contextmanager
def elsewhere(length: int) -> Iterator[None]:
    """A current folder, and a first entry of Python's path, whose name is `length` characters longer."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / ("x" * length)
        there.mkdir()
        os.chdir(there)
        sys.path.insert(0, str(there))
        try:
            yield
        finally:
            sys.path.remove(str(there))
            os.chdir(before)


@contextmanager
def busy() -> Iterator[None]:
    """Every core has something else to do."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


@contextmanager
def another_user(uid: int) -> Iterator[None]:
    """Servers run as `uid`, with this user's right to read files. Needs setpriv, and root."""
    setpriv = shutil.which("setpriv")
    assert setpriv is not None, "util-linux has setpriv"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        wrapper = Path(folder) / "valgrind"
        found = shutil.which("valgrind")
        capable = "--inh-caps=+dac_override --ambient-caps=+dac_override"
        wrapper.write_text(
            f'#!/bin/sh\nexec {setpriv} --reuid={uid} --regid={uid} --clear-groups {capable} {found} "$@"\n'
        )
        wrapper.chmod(0o755)
        before = os.environ["PATH"]
        os.environ["PATH"] = f"{folder}:{before}"
        valgrind._executable.cache_clear()
        try:
            yield
        finally:
            os.environ["PATH"] = before
            valgrind._executable.cache_clear()


def unchanged(servers: int, uid: int | None) -> dict[str, list[tuple[str, Instructions]]]:
    """Counts of each cell with the circumstances of each."""
    orders = list(itertools.permutations(CELLS))
    circumstances: list[tuple[str, Callable[[int], AbstractContextManager[None]]]] = [
        ("fresh", lambda _: nullcontext()),
        ("longer folder", lambda number: elsewhere(17 * number)),
        ("busy", lambda _: busy()),
    ]
    if uid is not None:
        circumstances.append((f"user {uid}", lambda _: another_user(uid)))
    counted = defaultdict(list)
    for number in range(servers):
        name, context = circumstances[number % len(circumstances)]
        with context(number):
            worker = Worker()
            try:
                for cell in (*orders[number % len(orders)], *reversed(orders[number % len(orders)])):
                    counted["-".join(map(str, cell))].append((name, worker.count(build_slower, 0, *cell)))
                    print(name, cell, counted["-".join(map(str, cell))][-1][1].total, file=sys.stderr, flush=True)
            finally:
                worker.close()
    return counted


def slowdowns() -> list[tuple[str, str]]:
    """How many of TRIALS slowdowns of each size fail, each of another number of turns."""
    worker = Worker()
    try:
        cell = CELLS[0]
        plain = worker.count(build_slower, 0, *cell).total
        per_turn = (worker.count(build_slower, 20_000, *cell).total - plain) / 20_000
        rows = []
        for slowdown in SLOWDOWNS:
            caught = 0
            for trial in range(TRIALS):
                turns = round((slowdown + trial * 1e-6) * plain / per_turn)
                now = worker.count(build_slower, turns, *cell).total
                caught += judged(now, plain) == "regressed"
            rows.append((f"{slowdown:.2%}", f"{caught} of {TRIALS}"))
            print(rows[-1], file=sys.stderr, flush=True)
        return rows
    finally:
        worker.close()


def judged(now: int, before: int) -> str:
    return judge_measured("total", "instructions", now, before, default_tolerances()["instructions"]).kind


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.studies.instructions_study")
    parser.add_argument("--servers", type=int, default=20)
    parser.add_argument("--user", type=int, metavar="UID", help="also as this user; needs root")
    parser.add_argument("--slowdowns", action="store_true", help="the smallest slowdown that is caught, instead")
    given = parser.parse_args(arguments)
    if given.slowdowns:
        print(tabulate(slowdowns(), ("slowdown", "caught"), tablefmt="pipe", disable_numparse=True))
        return 0
    counted = unchanged(given.servers, given.user)
    rows = []
    comparisons = alarms = 0
    for cell, counts in counted.items():
        totals = [instructions.total for _, instructions in counts]
        pairs = list(itertools.permutations(totals, 2))
        comparisons += len(pairs)
        alarms += sum(judged(*pair) != "ok" for pair in pairs)
        spread = (max(totals) - min(totals)) / statistics.median(totals)
        by_circumstance = {name: {i.total for other, i in counts if other == name} for name, _ in counts}
        different = ", ".join(f"{name}: {len(values)}" for name, values in by_circumstance.items())
        rows.append((cell, len(totals), f"{statistics.median(totals):,.0f}", f"{spread:.5%}", different))
    print(tabulate(rows, ("cell", "counts", "median", "spread", "different counts"), tablefmt="pipe"))
    print(f"\n{comparisons} comparisons of unchanged code: {alarms} alarms.")
    return 0


if __name__ == "__main__":
    # Under its own name, which the counting processes import.
    from tests.studies import instructions_study

    sys.exit(instructions_study.main(sys.argv[1:]))
