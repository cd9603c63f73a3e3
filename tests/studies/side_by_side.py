"""Slowdowns of a known size as several instruments see them, in one run.

    pip install pytest-codspeed
    python -m tests.studies.side_by_side [--trials N] [--only INSTRUMENT …]

A step is measured as it is, again as it is (A/A), and with as many further convolutions as take 2, 5 and 10 % of its
time on this machine without valgrind. Each figure is the change from the trial's first measurement: the least and the
most of all trials. A measurement is a process of its own, but for `--metrics instructions`, whose server forks. Two
instruments run beside each other.

pytest-codspeed's simulation mode is run without CodSpeed's runner, in plain valgrind: what its hooks count are
instructions, from which the runner and its own valgrind estimate cycles. Whatever counts has our caps on instruction
sets (`valgrind.environment`); without them a step takes minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import torch
from peft_update_bench.fixtures.instruments.instructions.installation import PRELOAD, Installation
from peft_update_bench.fixtures.instruments.instructions.profile import read_dump
from peft_update_bench.fixtures.instruments.instructions.valgrind import environment
from peft_update_bench.fixtures.instruments.instructions.worker import Worker
from tabulate import tabulate

from tests.studies.slower_step import build, convolutions_for, time_more

REPOSITORY = Path(__file__).parents[2]
FRACTIONS = (0.02, 0.05, 0.10)

WARM = """
from tests.studies.slower_step import build
step = build({convolutions})
for _ in range(3):
    step()
"""
TEST = f"{WARM}\ndef test_step(benchmark):\n    benchmark(step)\n"
TIMER = """
from torch.utils.benchmark import Timer
timer = Timer("step()", setup={setup!r})
print(timer.collect_callgrind(number=1, repeats=None, collect_baseline=False, retain_out_file=False).counts())
"""
LATENCY = """
from peft_update_bench.fixtures.instruments.latency.paired import measure
from tests.studies.slower_step import build
print(measure(build({convolutions}), build(0)).as_record()["relative"])
"""


def run(program: Sequence[str], folder: Path, more: Mapping[str, str]) -> str:
    """What a program prints that finds the suite, with one thread. Ends the study where it fails."""
    python_path = os.pathsep.join((str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])))
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **more, "PYTHONPATH": python_path, "PATH": path}
    ran = subprocess.run(program, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"tests.studies.side_by_side: {' '.join(program)} failed:\n{ran.stdout}{ran.stderr}")
    return ran.stdout


def run_python(code: str, more: Mapping[str, str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return float(run([sys.executable, "-c", code], Path(folder), more))


def run_test(convolutions: int, folder: Path, options: Sequence[str], under: Sequence[str] = (), **more: str) -> None:
    """The only benchmark, with no plugin of pytest's but the one in `options`."""
    (folder / "test_step.py").write_text(TEST.format(convolutions=convolutions))
    (folder / "pytest.ini").touch()
    program = [*under, sys.executable, "-m", "pytest", "-q", "-p", *options, "test_step.py"]
    run(program, folder, {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **more})


def walltime(convolutions: int, options: Sequence[str], result: str, median: str) -> float:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_test(convolutions, folder, options)
        (path,) = folder.glob(result)
        (benchmark,) = json.loads(path.read_text())["benchmarks"]
        return float(benchmark["stats"][median])


def codspeed_instructions(convolutions: int) -> float:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        valgrind = ("valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=dump.%p")
        options = ("pytest_codspeed.plugin", "--codspeed", "--codspeed-mode=simulation")
        # As CodSpeed's runner has it.
        more = {**environment(), "CODSPEED_ENV": "1", "PYTHONMALLOC": "malloc"}
        run_test(convolutions, folder, options, valgrind, **more)
        dumps = dict(map(read_dump, folder.glob("dump.*")))
        (total,) = (profile.total for label, profile in dumps.items() if label and "test_step" in label)
        return total


def torch_timer(convolutions: int) -> float:
    # It asks every process under callgrind for its state that has the same user's name, and waits for the answers.
    more = {**environment(), "LOGNAME": "timer"}
    return run_python(TIMER.format(setup=WARM.format(convolutions=convolutions)), more)


def latency(convolutions: int) -> float:
    return run_python(LATENCY.format(convolutions=convolutions), {})


def instructions(numbers: Iterable[int]) -> Iterator[float]:
    with closing(Installation((*PRELOAD, build.__module__))) as installation, closing(Worker(installation)) as worker:
        for convolutions in numbers:
            yield worker.count(build, convolutions, limit_s=3600).total


CODSPEED = partial(
    walltime,
    options=("pytest_codspeed.plugin", "--codspeed", "--codspeed-mode=walltime"),
    result=".codspeed/results_*.json",
    median="median_ns",
)
PYTEST_BENCHMARK = partial(
    walltime,
    options=("pytest_benchmark.plugin", "--benchmark-json=result.json"),
    result="result.json",
    median="median",
)
INSTRUMENTS: dict[str, tuple[int, Callable[[Iterable[int]], Iterable[float]]]] = {
    "torch.utils.benchmark.Timer, callgrind": (1, partial(map, torch_timer)),
    "pytest-codspeed, simulation": (1, partial(map, codspeed_instructions)),
    "`--metrics instructions`": (5, instructions),
    "pytest-codspeed, walltime, median": (5, partial(map, CODSPEED)),
    "pytest-benchmark, median": (5, partial(map, PYTEST_BENCHMARK)),
    "`--metrics latency`": (5, partial(map, latency)),
}
"""Each with its trials at most, and what measures the step with these numbers of convolutions in turn. First what
takes longest."""


def changes(figures: Sequence[float], trials: int) -> list[str]:
    """The least and the most change from each trial's first figure, for each of its further ones."""
    width = len(figures) // trials
    shown = []
    for column in range(1, width):
        found = [figures[start + column] / figures[start] - 1 for start in range(0, len(figures), width)]
        low, high = f"{min(found):+.2%}", f"{max(found):+.2%}"
        shown.append(low if low == high else f"{low} to {high}")
    return shown


def row(name: str, numbers: Sequence[int], at_most: int) -> tuple[str, ...]:
    limit, measure = INSTRUMENTS[name]
    trials = min(limit, at_most)
    start = time.monotonic()
    figures = []
    for figure in measure([0, *numbers] * trials):
        figures.append(figure)
        print(f"{name}: {figure}", file=sys.stderr, flush=True)
    each = (time.monotonic() - start) / len(figures)
    return name, str(trials), *changes(figures, trials), f"{each:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.studies.side_by_side")
    parser.add_argument("--trials", type=int, default=5, help="at most; default: %(default)s")
    parser.add_argument("--only", nargs="+", choices=INSTRUMENTS, default=list(INSTRUMENTS), metavar="INSTRUMENT")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with_more = time_more()
    numbers = [0, *(convolutions_for(fraction, with_more) for fraction in FRACTIONS)]
    print(f"Further convolutions: {numbers}.", file=sys.stderr, flush=True)
    with ThreadPoolExecutor(2) as threads:
        rows = list(threads.map(lambda name: row(name, numbers, given.trials), given.only))
    slower = (f"{fraction:+.0%} ({number})" for fraction, number in zip(FRACTIONS, numbers[1:], strict=True))
    header = ("instrument", "trials", "A/A", *slower, "a measurement")
    print(tabulate(rows, header, tablefmt="pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
