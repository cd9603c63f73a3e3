"""Which commit, or which release of a package, first moved a computed figure.

    update-bench bisect OLD NEW [--architectures …] [--methods …] [--ranks …]
    update-bench bisect 0.14.0 0.21.2 --package peft --methods dora

OLD and NEW are commits of peft-update-bench, in a checkout of it, of which those on the first parent's line that touch
fixtures/ are looked at; or, with --package, releases of it, installed by pip into temporary folders. Computed figures
are exact, so a look is enough: half of what is left is ruled out at each, for every change between the two ends.
What changed and changed back in between is not seen. A version that cannot be measured is passed over.

Exit status: 0 where nothing moved, 1 where something did, 2 for bad input.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from peft_update_bench.bench import metrics, options
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.commands.bisect import commits, releases
from peft_update_bench.bench.commands.bisect.search import Change, Figures, ProbeError, Search
from peft_update_bench.bench.gate.grouped import by_figure
from peft_update_bench.bench.gate.verdict import Verdict
from peft_update_bench.bench.options import RunOptions
from peft_update_bench.bench.units import count

WORKER = Path(__file__).parents[1] / "computed_worker.py"

OPTIONS = {
    "architectures": "comma-separated; default: %(default)s",
    "methods": "comma-separated; default: the core matrix's six",
    "ranks": "comma-separated; default: %(default)s",
    "batch_size": "images in a batch, or several numbers of them, comma-separated; default: 1",
    "image_size": "pixels; default: 224",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", metavar="OLD", help="a commit, or a release")
    parser.add_argument("new", metavar="NEW", help="a later one")
    parser.add_argument("--package", metavar="NAME", help="look among releases of this package, such as peft")
    for name, meaning in OPTIONS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", help=meaning)
    # Of each method one cell: a look takes seconds.
    parser.set_defaults(architectures="mobilenet_v3_small", ranks="4")


def run(given: argparse.Namespace) -> int:
    """Search, print what moved where, return the exit status. Raises CommandError for bad input."""
    words = {name: getattr(given, name) for name in OPTIONS}
    run = options.read({**words, "metrics": "flops,memory"}, {})
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        source = releases.Releases if given.package else commits.Commits
        found = source.between(given.old, given.new, Path(folder), given.package or "")

        if len(found.versions) == 1:
            print(f"0 changes found: no commit from {given.old} to {given.new} touches {commits.FOLDER}/")
            return 0

        def probe(version: str) -> Figures:
            print(f"looking at {found.described(version)}", file=sys.stderr, flush=True)
            return _measure(found.prepare(version), run)

        search = Search(found.versions, probe)
        changes = search.changes
    seconds = time.monotonic() - start
    for change in changes:
        print(_told(change, search, found.described))
    for index, reason in search.reasons.items():
        print(f"passed over: {found.described(search.versions[index])}: {reason}")
    looks = f"{count(search.probes, 'look')} at {count(len(search.versions), found.noun)} in {seconds:.0f} s"
    print(f"{count(len(changes), 'change')} found, {looks}")
    return int(bool(changes))


def _measure(place: releases.Place, run: RunOptions) -> Figures:
    """The computed figures of the run's cells, with the code and the packages of `place`. Raises ProbeError."""
    cells = {str(cell): asdict(cell) for cell in run.selection.cells()}
    settings = json.dumps({"cells": cells, "workload": run.workload.changed()})
    paths = [*map(str, place.packages), ".", *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        # -P: the script's own folder must not be searched for modules. Old packages warn of much beside new ones.
        [sys.executable, "-P", "-W", "ignore", WORKER, settings],
        cwd=place.checkout, env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True, encoding="utf-8", errors="replace", check=False,
    )  # fmt: skip
    try:
        answer: dict[str, dict[str, float]] = json.loads(done.stdout)
    except ValueError:
        answer = {}
    if not answer:
        lines = done.stderr.strip().splitlines()
        raise ProbeError(lines[-1].strip() if lines else f"its process ended with status {done.returncode}")
    return {(cell, figure): value for cell, found in answer.items() for figure, value in found.items()}


def _told(change: Change, search: Search, described: Callable[[str], str]) -> str:
    """A change: where, and for each figure that the gate judges in how many cells and from which to which change."""
    where = described(search.versions[change.after])
    if not change.exact:
        where = f"between {described(search.versions[change.before])} and {where}"
    units = {str(row): row.figure.unit for row in metrics.rows() if row.figure.evidence is not metrics.Evidence.SHOWN}
    moved = [
        (_cell(cell), Verdict(figure, "missing" if None in pair else "regressed", units[figure], pair[1], pair[0]))
        for (cell, figure), pair in change.moved.items()
        if figure in units
    ]
    lines = [where]
    for group in by_figure(moved):
        (low, least), (high, most) = group.lowest, group.highest
        extent = f"{least.whole_change} ({low})"
        if least.shown_change != most.shown_change:
            extent = f"from {least.shown_change} ({low}) to {most.shown_change} ({high})"
        lines.append(f"  {group.metric} in {count(len(group.verdicts), 'cell')}, {extent}")
    return "\n".join(lines) if moved else f"{where}\n  only figures that are shown and not judged"


def _cell(name: str) -> Cell:
    """The cell of a name, which holds no hyphen within a part."""
    architecture, method, *numbers = name.split("-")
    by_letter = {number[0]: int(number[1:]) for number in numbers}
    return Cell(architecture, method, by_letter.get("r"), batch_size=by_letter.get("b"))
