"""How often a run fails that changed nothing but its seeds, by how differently its methods scatter.

    python -m tests.studies.seed_alarms [--runs 400]

The logarithms of the methods' standard deviations have that of the first column; their median is a tenth of a point.
Simulated runs are judged by the gate; "pooled" is a gate that knows the variance pooled over the methods, or the
method's own where that is larger, and nothing of how differently methods scatter. The tolerance is the mean over cells,
in points.
"""

from __future__ import annotations

import argparse
import math
from contextlib import nullcontext
from statistics import fmean
from unittest.mock import patch

import numpy as np
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.adapting import judge_adaptation
from peft_update_bench.bench.gate.spread import VariancePrior
from peft_update_bench.bench.record import Record
from tabulate import tabulate

from tests.helpers.adaptation_records import SETTINGS, adapted

Judged = tuple[bool, float]
"""Whether a run failed, and the mean of its tolerances."""

USUAL = 0.001
"""The median of the methods' standard deviations, as a fraction."""


def simulate(draw: np.random.Generator, differently: float, tasks: int, methods: int, seeds: int) -> Judged:
    """Two runs whose accuracies are normal around 50 %, the second judged against the first."""
    deviations = USUAL * np.exp(differently * draw.standard_normal((tasks, methods)))
    before, now = (
        [
            _record(task, method, deviations[task, method] * draw.standard_normal((2, seeds)))
            for task in range(tasks)
            for method in range(methods)
        ]
        for _ in range(2)
    )
    verdicts = [verdict for new, old in zip(now, before, strict=True) for verdict in judge_adaptation(new, old, before)]
    return any(found.kind == "regressed" for found in verdicts), fmean(found.tolerance or 0.0 for found in verdicts)


def _record(task: int, method: int, apart: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Record:
    target, source = (0.5 + apart).tolist()
    runs = [
        {"seed": seed, "curve": [0.1, t], "source_accuracy_before": 0.9, "source_accuracy_after": s}
        for seed, (t, s) in enumerate(zip(target, source, strict=True))
    ]
    cell = Cell(f"net{task}", f"m{method}", None, "shift")
    settings = {**SETTINGS, "corruption": "fog", "severity": 3, "test_images": 10**6}
    means = {"source_accuracy_after": fmean(source), "accuracy_spread": 0.0}
    return adapted(cell, 0.1, fmean(target), runs=runs, settings=settings, **means)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400)
    runs = parser.parse_args().runs
    rows = []
    for differently in (0.0, 0.3, 0.5, 0.8):
        for tasks, methods, seeds in ((1, 9, 3), (2, 12, 3), (2, 24, 3), (2, 16, 5)):
            found = []
            for gate in (nullcontext(), patch.object(VariancePrior, "of", lambda *_: VariancePrior(math.inf, 0.0))):
                draw = np.random.default_rng(0)
                with gate:
                    each = [simulate(draw, differently, tasks, methods, seeds) for _ in range(runs)]
                found += [f"{fmean(failed for failed, _ in each):.1%}", f"{100 * fmean(wide for _, wide in each):.1f}"]
            rows.append([differently, f"{tasks} × {methods} × {seeds}", *found])
    headers = ["of logarithms", "tasks × methods × seeds", "fails", "tolerance", "pooled fails", "tolerance"]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
