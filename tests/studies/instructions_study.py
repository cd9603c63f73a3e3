"""How far instructions of unchanged code scatter, and the smallest slowdown that is always caught.

    python -m tests.studies.instructions_study [--servers N] [--user UID] >> tests/studies/instructions_study.jsonl
    python -m tests.studies.instructions_study --runs RUN.json … >> tests/studies/instructions_study.jsonl
    python -m tests.studies.instructions_study --edits 6 >> tests/studies/instructions_study.jsonl
    python -m tests.studies.instructions_study --slowdowns >> tests/studies/instructions_study.jsonl
    python -m tests.studies.instructions_study --table tests/studies/instructions_study.jsonl

The first counts small cells in fresh processes, two beside each other: from copies of the suite in folders of other
lengths, with every core kept busy, as another user (needs root and setpriv), and each cell twice in its own order. The
second takes what runs of `pytest bench --metrics instructions --benchmark-json=RUN.json` counted. Each pair of counts
of a cell is a comparison of unchanged code. The third puts functions that nothing calls into copies of the suite, as an
unrelated change does. The fourth adds turns of a loop to a step's forward, in another number for each trial. A server
takes some 130 s of CPU time to start, and a cell some 5.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from peft_update_bench.bench.gate.verdict import judge_measured
from peft_update_bench.bench.metrics import default_tolerances
from peft_update_bench.fixtures.instruments.instructions.installation import PRELOAD, Installation
from peft_update_bench.fixtures.instruments.instructions.worker import Worker
from peft_update_bench.fixtures.update_step import UpdateStep, build_update_step
from peft_update_bench.fixtures.workload import Workload
from tabulate import tabulate

REPOSITORY = Path(__file__).parents[2]
CELLS = (
    ("mobilenet_v3_small", "head", None, 32),
    ("mobilenet_v3_small", "lora", 4, 64),
    ("mobilenet_v3_small", "galore", 4, 64),
)
EDITED = "fixtures/update_step.py"
"""Which every cell imports."""
CIRCUMSTANCES = ("as it is", "folder", "busy", "folder, busy", "user", "user, folder")
SLOWDOWNS = (0.005, 0.0025, 0.001)
TRIALS = 20
Line = dict[str, Any]


def build_slower(turns: int, architecture: str, method: str, rank: int | None, image_size: int) -> UpdateStep:
    """A cell's step whose forward first turns a loop `turns` times."""
    step = build_update_step(architecture, method, rank, Workload(image_size=image_size))
    forward = step.forward

    def turn_and_forward() -> torch.Tensor:
        for _ in range(turns):
            pass
        return forward()

    if turns:
        step.forward = turn_and_forward  # type: ignore[method-assign]
    return step


@contextmanager
def worker() -> Iterator[Worker]:
    with ExitStack() as stack:
        installation = Installation((*PRELOAD, "tests.studies.instructions_study"))
        stack.callback(installation.close)
        counting = Worker(installation)
        stack.callback(counting.close)
        yield counting


def count_here(order: int) -> Iterator[Line]:
    """Every cell twice, in the `order`-th order and back."""
    orders = list(itertools.permutations(CELLS))
    cells = orders[order % len(orders)]
    with worker() as counting:
        for cell in (*cells, *reversed(cells)):
            counted = counting.count(build_slower, 0, *cell, limit_s=1800)
            yield {"cell": "-".join(map(str, cell)), "total": counted.total, "periodic": counted.periodic}


def count_elsewhere(number: int, circumstance: str, user: int | None) -> list[Line]:
    """What `count_here` finds in a process of its own, in its circumstances."""
    command = [sys.executable, "-m", "tests.studies.instructions_study", "--here", str(number)]
    with ExitStack() as stack:
        folder, temporary = REPOSITORY, tempfile.gettempdir()
        if "folder" in circumstance:
            temporary = stack.enter_context(tempfile.TemporaryDirectory())
            folder = Path(temporary) / ("x" * (11 * number + 1))
            for name in ("bench", "fixtures"):
                shutil.copytree(REPOSITORY / name, folder / "peft_update_bench" / name)
            shutil.copytree(REPOSITORY / "tests", folder / "tests")
        if "edited" in circumstance:
            edit(folder / "peft_update_bench", number)
        if "user" in circumstance:
            capable = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
            command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *capable, *command]
        if "busy" in circumstance:
            stack.enter_context(busy())
        environment = {**os.environ, "PYTHONPATH": str(folder), "TMPDIR": temporary, "OMP_NUM_THREADS": "1"}
        ran = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    return [{"server": number, "circumstance": circumstance, **line} for line in lines]


def edit(package: Path, number: int) -> None:
    """Unrelated code: a module that nothing imports, and `number` functions that nothing calls."""
    functions = "\n\n".join(f"def _unrelated_{index}() -> int:\n    return {index}\n" for index in range(number))
    (package / "fixtures" / "unrelated.py").write_text(functions)
    with (package / EDITED).open("a") as file:
        file.write(f"\n\n{functions}")


@contextmanager
def busy() -> Iterator[None]:
    """Every core has something else to do."""
    others = [subprocess.Popen(["nice", sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def unchanged(servers: int, user: int | None) -> Iterator[Line]:
    circumstances = [name for name in CIRCUMSTANCES if user is not None or "user" not in name]
    yield from _count_beside([(number, circumstances[number % len(circumstances)]) for number in range(servers)], user)


def edits(servers: int) -> Iterator[Line]:
    yield from _count_beside([(number, "folder, edited") for number in range(1, servers + 1)], None)


def _count_beside(counts: list[tuple[int, str]], user: int | None) -> Iterator[Line]:
    with ThreadPoolExecutor(2) as threads:
        for count in [threads.submit(count_elsewhere, *one, user) for one in counts]:
            yield from count.result()


def of_runs(paths: list[Path]) -> Iterator[Line]:
    """What runs of the suite counted."""
    for path in paths:
        for entry in json.loads(path.read_text())["benchmarks"]:
            counted = entry["extra_info"]["instructions"]
            name = entry["name"].partition("[")[2].rstrip("]")
            figures = {"total": counted["total"], "periodic": counted.get("periodic")}
            yield {"server": path.stem, "circumstance": "run", "cell": name, **figures}


def slowdowns() -> Iterator[Line]:
    cell = CELLS[0]
    with worker() as counting:
        plain = counting.count(build_slower, 0, *cell).total
        per_turn = (counting.count(build_slower, 20_000, *cell).total - plain) / 20_000
        for slowdown in SLOWDOWNS:
            for trial in range(TRIALS):
                turns = round(slowdown * plain / per_turn) + trial + 1
                now = counting.count(build_slower, turns, *cell).total
                yield {"slowdown": slowdown, "turns": turns, "now": now, "before": plain}


def judged(now: int, before: int) -> str:
    return judge_measured("total", "instructions", now, before, default_tolerances()["instructions"]).kind


def table(lines: Iterable[Line]) -> str:
    counts: dict[str, list[int]] = defaultdict(list)
    edited: dict[str, list[int]] = defaultdict(list)
    caught: dict[float, list[bool]] = defaultdict(list)
    servers = set()
    for line in lines:
        if "slowdown" in line:
            caught[line["slowdown"]].append(judged(line["now"], line["before"]) == "regressed")
            continue
        servers.add(line["server"])
        into = edited if "edited" in line["circumstance"] else counts
        into[line["cell"]].append(line["total"])
        if line["periodic"] is not None:
            into[f"{line['cell']}, refreshing"].append(line["periodic"])
    pairs = [pair for figures in counts.values() for pair in itertools.combinations(figures, 2)]
    changed = [(now, before) for cell in edited for now in edited[cell] for before in {*counts[cell]}]
    found = (
        f"{len(servers)} servers and runs.",
        f"{len(pairs)} comparisons of unchanged code: {_alarms(pairs)} alarms, {_unequal(pairs)} unequal.",
        f"{len(changed)} comparisons after unrelated edits: {_alarms(changed)} alarms, {_unequal(changed)} unequal.",
    )
    return "\n\n".join(
        (
            tabulate(map(_spread, counts, counts.values()), SPREAD, tablefmt="pipe"),
            " ".join(found),
            tabulate(map(_spread, edited, (edited[cell] + counts[cell] for cell in edited)), SPREAD, tablefmt="pipe"),
            tabulate(
                [(f"{slowdown:.2%}", f"{sum(of)} of {len(of)}") for slowdown, of in sorted(caught.items())],
                ("slowdown", "caught"),
                tablefmt="pipe",
                disable_numparse=True,
            ),
        )
    )


SPREAD = ("cell", "counts", "median", "different figures", "apart, at most")


def _spread(cell: str, figures: list[int]) -> tuple[str, int, str, int, str]:
    median = statistics.median(figures)
    apart = (max(figures) - min(figures)) / min(figures)
    return cell, len(figures), f"{median:,.0f}", len({*figures}), f"{apart:.5%}"


def _alarms(pairs: list[tuple[int, int]]) -> int:
    """Judged both ways."""
    return sum(judged(max(pair), min(pair)) != "ok" for pair in pairs)


def _unequal(pairs: list[tuple[int, int]]) -> int:
    return sum(now != before for now, before in pairs)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.studies.instructions_study")
    parser.add_argument("--servers", type=int, default=20)
    parser.add_argument("--user", type=int, metavar="UID", help="also as this user; needs root")
    parser.add_argument("--runs", type=Path, nargs="+", metavar="FILE", help="what runs of the suite counted, instead")
    parser.add_argument("--edits", type=int, metavar="SERVERS", help="after unrelated edits, instead")
    parser.add_argument("--slowdowns", action="store_true", help="the smallest slowdown that is caught, instead")
    parser.add_argument("--table", type=Path, metavar="FILE", help="what was found, as a table")
    parser.add_argument("--here", type=int, metavar="ORDER", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.table is not None:
        print(table(json.loads(line) for line in given.table.read_text().splitlines()))
        return
    lines = unchanged(given.servers, given.user)
    if given.here is not None:
        lines = count_here(given.here)
    elif given.runs is not None:
        lines = of_runs(given.runs)
    elif given.edits is not None:
        lines = edits(given.edits)
    elif given.slowdowns:
        lines = slowdowns()
    for line in lines:
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    # Under its own name, which the counting processes import.
    from tests.studies import instructions_study

    instructions_study.main(sys.argv[1:])
