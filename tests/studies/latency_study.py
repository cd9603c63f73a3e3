"""The latency gate's error rates on this machine, beside those of a stock rule:

    python -m tests.studies.latency_study --rounds 50 --output latency_study.jsonl

A round compares measurements of a cell with its baseline, one as careful as a recorded one, as the gate does: of the
same code, twice, and of a step with extra work in it. Each measurement is a process of its own with a fresh build; what
the first suspects is measured again, until it is decided. The gate's rule for absolute times, and the stock rule,
pytest-benchmark's ``--benchmark-compare-fail=median:10%``, judge the first measurement. Baselines are recorded idle and
loaded, one a cell, and compared with idle and loaded. Loaded, ``--busy`` processes compute matrix products on the
cores, and as many measurements run at a time as there are cores.

A verdict depends on the suspicions of its run that came to nothing before. It is given for a run's first, and for the
fifth after four that came to nothing.

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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate import slowdown as gate
from peft_update_bench.bench.gate.load import expected
from peft_update_bench.bench.gate.slowdown import BETWEEN_RUNS
from peft_update_bench.bench.metrics import ABSOLUTE_TIME, default_tolerances
from peft_update_bench.bench.processes import child_process
from peft_update_bench.bench.record import Latency
from peft_update_bench.fixtures.instruments.latency.paired import (
    CAREFUL_LIMITS,
    DECIDING_LIMITS,
    DEFAULT_LIMITS,
    SamplingLimits,
)
from scipy.stats import binomtest
from tabulate import tabulate

from tests.studies import injected_slowdown as injected
from tests.studies.injected_slowdown import Slowdown

TOLERANCE = 0.10
CLOCKS = {"CPU time": "relative", "wall clock": "wall_relative"}
TESTS = (1, 5)
LOADS = ("idle", "loaded")
PRELOAD = ("tests.studies.injected_slowdown",)
LIMIT_S = 600

CELLS = (
    Cell("mobilenet_v3_small", "lora", 4),
    Cell("mobilenet_v3_small", "fft"),
    Cell("mobilenet_v3_small", "bn_head"),
    Cell("mobilenet_v3_small", "dora", 4),
    Cell("mobilenet_v3_small", "galore", 4),
    Cell("mobilenet_v2", "lora", 4),
    Cell("resnet18", "lora", 4),
    Cell("efficientnet_b0", "head"),
)
"""In turn, one a round: the quickest architecture's methods, and a cell of three others."""

EVERY_ROUND = (Slowdown(), Slowdown(), Slowdown(0.20))
EVERY_FIFTH = (Slowdown(0.05), Slowdown(0.10), Slowdown(0.50), Slowdown(0.20, "sleeping"))
"""What the proof asks 100 comparisons of, and what fewer show well enough."""

BUSY = "import numpy; a = numpy.random.rand(700, 700)\nwhile True: a @ a"


@dataclass(frozen=True)
class Outcome:
    """One comparison: the baseline's latency, the first measurement's and, where there were any, the later ones'.

    `number` tells comparisons of one round apart; `recorded` is the load that the baseline was recorded under, where it
    was another baseline than the round's own. `confirmed` is whether the last measurement was to confirm a
    suspected slowdown.
    """

    load: str
    round: int
    number: int
    cell: str
    slowdown: str
    confirmed: bool
    seconds: float
    measurements: list[dict[str, Any]]
    recorded: str = ""

    @property
    def key(self) -> tuple[str, str, int, int]:
        return self.recorded, self.load, self.round, self.number

    def kinds(self, test: int) -> set[str]:
        """The verdict by each clock, as the `test`-th suspicion of its run, where none before came to anything."""
        before, *_, now = self.measurements
        return {judged.kind for judged in judge(before, now, test if self.confirmed else 1).values()}

    def alarms(self, test: int) -> bool:
        return self.confirmed and "regressed" in self.kinds(test)

    @property
    def unstable(self) -> bool:
        return not self.alarms(1) and "unstable" in self.kinds(1)

    @property
    def alarms_by_seconds(self) -> bool:
        """By the gate's rule for absolute times."""
        return self.stock_change > default_tolerances()[ABSOLUTE_TIME.limit]

    @property
    def stock_change(self) -> float:
        before, now, *_ = self.measurements
        return float(now["median_s"] / before["median_s"]) - 1

    def change(self, clock: str) -> float:
        """The first measurement's."""
        before, now, *_ = self.measurements
        return judge(before, now, 1)[clock].change

    def sampling_error(self, clock: str) -> float:
        """The first measurement's, with the baseline's, on the scale of logarithms."""
        return math.hypot(
            *(_latency(one).interval(CLOCKS[clock]).sampling_variance ** 0.5 for one in self.measurements[:2])
        )


def judge(before: dict[str, Any], now: dict[str, Any], test: int) -> dict[str, gate.Slowdown]:
    error_rate = _decision(before, test).error_rate
    latency, then = _latency(now), _latency(before)
    return {
        clock: gate.judge_slowdown(
            latency.interval(key), expected(then, key, TOLERANCE, latency), tolerance=TOLERANCE, error_rate=error_rate
        )
        for clock, key in CLOCKS.items()
    }


def _decision(before: dict[str, Any], test: int) -> gate.Decision:
    intervals = {key: expected(_latency(before), key, TOLERANCE) for key in CLOCKS.values()}
    return gate.Decision(intervals, TOLERANCE, gate.ErrorBudget(len(CLOCKS), tests=test - 1).rate)


def _latency(measured: dict[str, Any]) -> Latency:
    """The record's part of what :func:`injected_slowdown.measure` found."""
    return Latency.model_validate({key: measured[key] for key in measured if key in Latency.model_fields})


def run(
    path: Path,
    load: str,
    rounds: Sequence[int],
    baselines: Mapping[tuple[str, Cell], dict[str, Any]],
    *,
    every_fifth: Sequence[Slowdown] = EVERY_FIFTH,
) -> None:
    """Measure what `path` does not hold yet: idle one measurement at a time, loaded as many as there are cores.

    `baselines` are by the load that they were recorded under, and by cell.
    """
    done = {outcome.key for outcome in read(path)}
    writing = Lock()

    def one(recorded: str, round_: int) -> None:
        cell = CELLS[round_ % len(CELLS)]
        wanted = [*EVERY_ROUND, *(every_fifth if round_ % 5 == 0 else ())]
        for number, slowdown in enumerate(wanted):
            if (recorded, load, round_, number) in done:
                continue
            outcome = _compare(baselines[recorded, cell], cell, slowdown, load, round_, number, recorded)
            with writing, path.open("a") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")
        print(f"{recorded}, then {load}: {round_} of {rounds[0]} to {rounds[-1]} {cell}", file=sys.stderr, flush=True)

    at_a_time = (os.cpu_count() or 1) if load == "loaded" else 1
    with ThreadPoolExecutor(at_a_time) as pool:
        for _ in pool.map(one, *zip(*product(LOADS, rounds), strict=True)):
            pass


def record(path: Path, load: str) -> Iterator[tuple[tuple[str, Cell], dict[str, Any]]]:
    """The cells' baselines, each measured once and kept beside `path`."""
    kept = path.with_suffix(".baselines.jsonl")
    found = {(line["load"], line["cell"]): line for line in map(json.loads, _lines(kept))}
    for cell in CELLS:
        line = found.get((load, str(cell)))
        if line is None:
            line = {"load": load, "cell": str(cell), "baseline": _measure(cell, Slowdown(), CAREFUL_LIMITS)}
            with kept.open("a") as file:
                file.write(json.dumps(line) + "\n")
        yield (load, cell), line["baseline"]


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def read(path: Path) -> list[Outcome]:
    return [Outcome(**json.loads(line)) for line in _lines(path)]


def _compare(
    before: dict[str, Any], cell: Cell, slowdown: Slowdown, load: str, round_: int, number: int, recorded: str
) -> Outcome:
    """As ``bench/test_update.py`` does."""
    start = time.perf_counter()
    measurements = [before, _measure(cell, slowdown, DEFAULT_LIMITS, replace(_decision(before, 1), screens=True))]

    def judged() -> list[gate.Slowdown]:
        return list(judge(before, measurements[-1], 1).values())

    if any(one.kind == "unstable" for one in judged()) and not any(one.suspected for one in judged()):
        measurements.append(_measure(cell, slowdown, CAREFUL_LIMITS))
    confirmed = any(one.suspected for one in judged())
    if confirmed:
        measurements.append(_measure(cell, slowdown, DECIDING_LIMITS, _decision(before, 1)))
    seconds = time.perf_counter() - start
    return Outcome(load, round_, number, str(cell), str(slowdown), confirmed, seconds, measurements, recorded)


def _measure(
    cell: Cell, slowdown: Slowdown, limits: SamplingLimits, decision: gate.Decision | None = None
) -> dict[str, Any]:
    return child_process.call_once(injected.measure, cell, slowdown, limits, decision, limit_s=LIMIT_S, preload=PRELOAD)


@contextmanager
def _busy(processes: int) -> Iterator[None]:
    """Let so many compete for the cores with matrix products, which want their caches too."""
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
    """A baseline recorded under another load than its comparison is a row of its own."""
    rows = []
    for recorded, load in product(sorted({outcome.recorded for outcome in outcomes}), LOADS):
        for slowdown in (EVERY_ROUND[0], *EVERY_FIFTH[:2], EVERY_ROUND[2], *EVERY_FIFTH[2:]):
            wanted = recorded, load, str(slowdown)
            some = [outcome for outcome in outcomes if (outcome.recorded, outcome.load, outcome.slowdown) == wanted]
            if some:
                first, fifth = ([outcome.alarms(test) for outcome in some] for test in TESTS)
                stock = [outcome.stock_change > TOLERANCE for outcome in some]
                unstable = sum(outcome.unstable for outcome in some)
                absolute = sum(outcome.alarms_by_seconds for outcome in some)
                rates = _rate(first), unstable, _rate(fifth), absolute, _rate(stock)
                rows.append([recorded or load, load, str(slowdown), len(some), *rates])
    headers = [
        "recorded",
        "load",
        "slowdown",
        "comparisons",
        "gate alarms",
        "unstable",
        "after four false suspicions",
        "alarms by seconds",
        "median:10% alarms",
    ]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _rate(alarms: Sequence[bool]) -> str:
    """A count with the exact 95 % interval of its rate (Clopper and Pearson)."""
    count = sum(alarms)
    interval = binomtest(count, len(alarms)).proportion_ci()
    return f"{count} ({interval.low:.1%} to {interval.high:.1%})"


def _spreads(outcomes: Sequence[Outcome]) -> str:
    """Standard deviation and extremes of the change where nothing changed; what of it sampling does not explain is
    what differs between runs, to be held against BETWEEN_RUNS."""
    rows = []
    for recorded, load in product(sorted({outcome.recorded for outcome in outcomes}), LOADS):
        wanted = recorded, load, str(Slowdown())
        same = [outcome for outcome in outcomes if (outcome.recorded, outcome.load, outcome.slowdown) == wanted]
        if len(same) < 2:
            continue
        for clock in (*CLOCKS, "median"):
            changes = [o.stock_change if clock == "median" else o.change(clock) for o in same]
            spread = float(np.std(np.log1p(changes), ddof=1))
            between = ""
            if clock != "median":
                explained = float(np.mean(np.square([o.sampling_error(clock) for o in same])))
                between = f"{math.sqrt(max(0.0, spread**2 - explained) / 2):.2%}"
            ends = f"{min(changes):+.1%}", f"{max(changes):+.1%}"
            rows.append([recorded or load, load, clock, f"{spread:.2%}", *ends, between])
    headers = ["recorded", "load", "by", "spread", "lowest", "highest", f"between runs (allowed {BETWEEN_RUNS:.1%})"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50, help="of each load, a baseline in each (%(default)s)")
    parser.add_argument("--first", type=int, default=0, metavar="ROUND", help="where to begin (%(default)s)")
    parser.add_argument("--proof-only", action="store_true", help="leave out what every fifth round has besides")
    parser.add_argument("--busy", type=int, default=5, help="processes that load the cores, in all (%(default)s)")
    parser.add_argument("--load", choices=(*LOADS, "both"), default="both", help="that is compared under (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("latency_study.jsonl"), help="JSON lines (%(default)s)")
    given = parser.parse_args()
    if given.first < given.rounds:
        child_process.start_server(PRELOAD)
        baselines: dict[tuple[str, Cell], dict[str, Any]] = {}
        for load in LOADS:
            with _busy(given.busy if load == "loaded" else 0):
                baselines |= record(given.output, load)
        for load in LOADS:
            if given.load in (load, "both"):
                with _busy(given.busy if load == "loaded" else 0):
                    rounds = range(given.first, given.rounds)
                    run(given.output, load, rounds, baselines, every_fifth=() if given.proof_only else EVERY_FIFTH)
    print(tables(read(given.output)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
