"""The latency gate's error rates on this machine, beside those of a stock rule:

    python -m tests.studies.latency_study --comparisons 100 --load both --output latency_study.jsonl

Each comparison is two measurements of a cell, each in a process of its own with a fresh build, judged as one of the
core matrix's. A slowdown that the first verdict suspects is measured again, as the gate does. The second measurement
may have extra work in its step. The stock rule, pytest-benchmark's ``--benchmark-compare-fail=median:10%``, judges the
same data. Loaded, every core is kept busy by a process of matrix products that the study starts.

Each finished comparison is appended to the output, and what is there already is not measured again. Prints Markdown.
The machine should do nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from scipy.stats import binomtest
from tabulate import tabulate

from bench.cells import Cell, Selection
from bench.gate.slowdown import BETWEEN_RUNS, Interval, combine, judge_slowdown
from fixtures.instruments import child_process
from tests.studies import injected
from tests.studies.injected import Slowdown

TOLERANCE = 0.10
CLOCKS = {"CPU time": "relative", "wall clock": "wall_relative"}
CORE_COMPARISONS = len(CLOCKS) * len(Selection().cells())
PRELOAD = ("tests.studies.injected",)
TIMEOUT_S = 600

CELLS = (
    Cell("mobilenet_v3_small", "lora", 4),
    Cell("mobilenet_v3_small", "fft"),
    Cell("mobilenet_v3_small", "bn_head"),
    Cell("mobilenet_v3_small", "dora", 4),
    Cell("mobilenet_v3_small", "galore", 4),
    Cell("mobilenet_v2", "lora", 4),
)
"""In turn, one a round: the quickest architecture's methods, and one cell of another."""

EVERY_ROUND = (Slowdown(), Slowdown(0.20))
EVERY_FIFTH = (Slowdown(0.05), Slowdown(0.10), Slowdown(0.50), Slowdown(0.20, "sleeping"))
"""What the proof asks 100 comparisons of, and what a fifth as many show well enough."""

BUSY = "import numpy; a = numpy.random.rand(700, 700)\nwhile True: a @ a"


@dataclass(frozen=True)
class Outcome:
    """One comparison: the change by each clock and by the absolute medians, and what the two rules say of it.

    `changes` are the first verdict's; `kinds` the last's.
    """

    load: str
    round: int
    cell: str
    slowdown: str
    kinds: dict[str, str]
    changes: dict[str, float]
    sampling_errors: dict[str, float]
    stock_change: float
    measured_again: bool
    seconds: float
    measurements: list[dict[str, Any]]

    @property
    def key(self) -> tuple[str, int, str]:
        return self.load, self.round, self.slowdown

    @property
    def alarms(self) -> bool:
        return "regressed" in self.kinds.values()

    @property
    def unstable(self) -> bool:
        return not self.alarms and "unstable" in self.kinds.values()

    @property
    def stock_alarms(self) -> bool:
        return self.stock_change > TOLERANCE


def run(path: Path, load: str, rounds: int) -> None:
    """Measure what `path` does not hold yet. Idle, one measurement runs at a time. Loaded, twice as many as there are
    cores do, beside the busy processes: their own time is what a measurement is bounded by."""
    done = {outcome.key for outcome in read(path)}
    writing = Lock()

    def one(round_: int) -> None:
        cell = CELLS[round_ % len(CELLS)]
        wanted = EVERY_ROUND + (EVERY_FIFTH if round_ % 5 == 0 else ())
        missing = [slowdown for slowdown in wanted if (load, round_, str(slowdown)) not in done]
        if not missing:
            return
        before = _measure(cell, Slowdown())
        for slowdown in missing:
            outcome = _compare(before, cell, slowdown, load, round_)
            with writing, path.open("a") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")
        print(f"{load} {round_ + 1}/{rounds} {cell}", file=sys.stderr, flush=True)

    child_process.start_server(PRELOAD)
    cores = os.cpu_count() or 1
    with _busy(cores if load == "loaded" else 0), ThreadPoolExecutor(2 * cores if load == "loaded" else 1) as pool:
        for _ in pool.map(one, range(rounds)):
            pass


def read(path: Path) -> list[Outcome]:
    if not path.exists():
        return []
    return [Outcome(**json.loads(line)) for line in path.read_text().splitlines()]


def _compare(before: dict[str, Any], cell: Cell, slowdown: Slowdown, load: str, round_: int) -> Outcome:
    start = time.perf_counter()
    now = _measure(cell, slowdown)
    measurements = [before, now]
    intervals = {clock: _interval(now, clock) for clock in CLOCKS}

    def verdicts() -> dict[str, Any]:
        return {
            clock: judge_slowdown(interval, _interval(before, clock), tolerance=TOLERANCE, comparisons=CORE_COMPARISONS)
            for clock, interval in intervals.items()
        }

    first = judged = verdicts()
    if any(verdict.suspected for verdict in first.values()):
        again = _measure(cell, slowdown)
        measurements.append(again)
        intervals = {clock: combine(interval, _interval(again, clock)) for clock, interval in intervals.items()}
        judged = verdicts()
    return Outcome(
        load=load,
        round=round_,
        cell=str(cell),
        slowdown=str(slowdown),
        kinds={clock: verdict.kind for clock, verdict in judged.items()},
        changes={clock: verdict.change for clock, verdict in first.items()},
        sampling_errors={
            clock: math.sqrt(_interval(now, clock).sampling_variance + _interval(before, clock).sampling_variance)
            for clock in CLOCKS
        },
        stock_change=now["median_s"] / before["median_s"] - 1,
        measured_again=len(measurements) == 3,
        seconds=time.perf_counter() - start,
        measurements=measurements,
    )


def _measure(cell: Cell, slowdown: Slowdown) -> dict[str, Any]:
    return child_process.call(injected.measure, cell, slowdown, timeout_s=TIMEOUT_S, preload=PRELOAD)


def _interval(latency: dict[str, Any], clock: str) -> Interval:
    estimate, low, high = (latency[f"{CLOCKS[clock]}{end}"] for end in ("", "_low", "_high"))
    return Interval(estimate, low, high, latency["confidence"])


@contextmanager
def _busy(processes: int) -> Iterator[None]:
    """Keep as many cores busy with matrix products, which want their caches too."""
    one_thread = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    busy = [subprocess.Popen([sys.executable, "-c", BUSY], env=one_thread) for _ in range(processes)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def tables(outcomes: Sequence[Outcome]) -> str:
    """What the rules said, and how far two measurements of the same code lie apart."""
    return f"{_alarms(outcomes)}\n\n{_spreads(outcomes)}"


def _alarms(outcomes: Sequence[Outcome]) -> str:
    rows = []
    for load in ("idle", "loaded"):
        for slowdown in (*EVERY_ROUND[:1], *EVERY_FIFTH[:2], EVERY_ROUND[1], *EVERY_FIFTH[2:]):
            some = [outcome for outcome in outcomes if (outcome.load, outcome.slowdown) == (load, str(slowdown))]
            if some:
                gate, stock = (_rate(sum(flags), len(some)) for flags in _flags(some))
                unstable = sum(outcome.unstable for outcome in some)
                rows.append([load, str(slowdown), len(some), gate, unstable, stock])
    headers = ["load", "slowdown", "comparisons", "gate alarms", "unstable", "median:10% alarms"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _flags(outcomes: Sequence[Outcome]) -> tuple[list[bool], list[bool]]:
    return [outcome.alarms for outcome in outcomes], [outcome.stock_alarms for outcome in outcomes]


def _rate(count: int, total: int) -> str:
    """A count with the exact 95 % interval of its rate (Clopper and Pearson)."""
    interval = binomtest(count, total).proportion_ci()
    return f"{count} ({interval.low:.1%} to {interval.high:.1%})"


def _spreads(outcomes: Sequence[Outcome]) -> str:
    """Standard deviation and extremes of the change where nothing changed; what of it sampling does not explain is
    what differs between runs, to be held against BETWEEN_RUNS."""
    rows = []
    for load in ("idle", "loaded"):
        same = [outcome for outcome in outcomes if (outcome.load, outcome.slowdown) == (load, str(Slowdown()))]
        if len(same) < 2:
            continue
        for clock in (*CLOCKS, "median"):
            changes = [o.stock_change if clock == "median" else o.changes[clock] for o in same]
            spread = float(np.std(np.log1p(changes), ddof=1))
            between = ""
            if clock != "median":
                explained = float(np.mean(np.square([o.sampling_errors[clock] for o in same])))
                between = f"{math.sqrt(max(0.0, spread**2 - explained) / 2):.2%}"
            rows.append([load, clock, f"{spread:.2%}", f"{min(changes):+.1%}", f"{max(changes):+.1%}", between])
    headers = ["load", "by", "spread", "lowest", "highest", f"between runs (allowed {BETWEEN_RUNS:.1%})"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=100, help="A/A comparisons for each load (%(default)s)")
    parser.add_argument("--load", choices=("idle", "loaded", "both"), default="both")
    parser.add_argument("--output", type=Path, default=Path("latency_study.jsonl"), help="JSON lines (%(default)s)")
    given = parser.parse_args()
    for load in ("idle", "loaded"):
        if given.load in (load, "both"):
            run(given.output, load, given.comparisons)
    print(tables(read(given.output)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
