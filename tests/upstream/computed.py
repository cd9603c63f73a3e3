"""The computed metrics of the core matrix in another environment than this one, and what of them moved."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate import baseline, baseline_file
from peft_update_bench.bench.gate.baseline import Baseline
from peft_update_bench.bench.gate.verdict import Terms, Verdict, judge
from peft_update_bench.bench.metrics import default_tolerances
from peft_update_bench.bench.units import show_fraction

REPOSITORY = Path(__file__).parents[2]
COMPUTED = "--metrics=flops,memory"

Moved = dict[tuple[str, str], list[tuple[Cell, Verdict]]]
"""Verdicts that are not ok, by method and metric."""


class UpstreamError(Exception):
    """Packages that could not be installed or run; the message is the last line of what was printed."""


def newest_baseline() -> Baseline:
    return baseline.read(baseline_file.find(REPOSITORY / "baselines", None, "no machine"))


def run(command: tuple[str, ...], environment: Mapping[str, str], *, statuses: Collection[int] = (0,)) -> str:
    """Run `command` in the repository; returns what it printed. Raises UpstreamError for any other exit status."""
    done = subprocess.run(command, cwd=REPOSITORY, env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode not in statuses:
        lines = (done.stdout + done.stderr).strip().splitlines()
        errors = [line for line in lines if line.startswith(("E  ", "ERROR"))] or lines
        raise UpstreamError(errors[-1].strip() if errors else f"exit status {done.returncode}")
    return done.stdout


def moved(now: Baseline, before: Baseline) -> Moved:
    """What is not as in the baseline, by method and metric."""
    found: Moved = {}
    for cell, record in now.records.items():
        for verdict in judge(record, before.records.get(cell), Terms(default_tolerances(), "only computed")):
            if verdict.kind != "ok":
                found.setdefault((cell.method, verdict.metric), []).append((cell, verdict))
    return found


def extent(changes: list[tuple[Cell, Verdict]]) -> str:
    """How many cells a figure moved in, which way, and by how much."""
    sizes = sorted(verdict.change or 0.0 for _, verdict in changes)
    kinds = Counter(verdict.kind for _, verdict in changes)
    by = " to ".join(dict.fromkeys((show_fraction(sizes[0]), show_fraction(sizes[-1]))))
    return f"{', '.join(f'{n} {kind}' for kind, n in kinds.items())}, {by}"
