"""The files of all shards of a run, as one: ``update-bench merge A.json B.json … --output ALL.json``.

    pytest bench --shard 1/3 --benchmark-json=1.json   # and 2/3 and 3/3, on other machines
    update-bench merge 1.json 2.json 3.json --output all.json --compare

The file is what a run of all cells on one machine would have written, and is refused where it would not be: shards of
another commit, with other packages, another workload or other options; one that never ran, or twice; a cell that none
of them has; measured figures of machines that are not alike. Shards that were made with changes that are not committed
are refused, too, unless --uncommitted same says that all had the same ones.
With --compare the whole is judged, once. Exit status: 0, 1 where a cell regressed, 2 for bad input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from peft_update_bench.bench import terminal
from peft_update_bench.bench.commands.output import writing
from peft_update_bench.bench.commands.report import runs
from peft_update_bench.bench.commands.report.runs import NEWEST
from peft_update_bench.bench.commands.shards import join, read_shard
from peft_update_bench.bench.gate import baseline
from peft_update_bench.bench.gate.messages import explain_failure, explain_loss
from peft_update_bench.bench.gate.summary import Summary
from peft_update_bench.bench.storage import text_of
from peft_update_bench.fixtures.files import write_named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shards", nargs="+", type=Path, metavar="SHARD.json", help="the file of each shard")
    parser.add_argument("--output", required=True, type=Path, metavar="ALL.json", help="where the whole is written")
    parser.add_argument(
        "--uncommitted",
        choices=("same",),
        help="take shards that were made with changes that are not committed, too, because all had the same",
    )
    parser.add_argument(
        "--compare",
        nargs="?",
        const=NEWEST,
        metavar="OTHER.json",
        help=f"judge the whole against another run; without a name, against {NEWEST}",
    )


def run(given: argparse.Namespace) -> int:
    """Write the whole and, where asked to, judge it. Raises CommandError where the files are not all of one run."""
    shards = [read_shard(path) for path in given.shards]
    whole = text_of(join(shards, takes_uncommitted=given.uncommitted == "same"))
    compared = [] if given.compare in {None, NEWEST} else [Path(given.compare)]
    with writing(given.output, [*given.shards, *compared]):
        write_named(given.output, whole.encode("ascii"))
    if given.compare is None:
        print(f"{given.output}: {len(shards[0].cells)} cells of {len(shards)} shards")
        return 0
    return _judge(given.output, given.compare, shards[0].metrics, shards[0].record_command)


def _judge(path: Path, other: str, metrics: Sequence[str], record_command: str) -> int:
    """Print the verdicts on the whole. Returns the exit status."""
    whole = baseline.read(path)
    before = runs.compared_with(whole, other)
    comparison = runs.compare_runs(whole, before)
    found = comparison.summary
    summary = Summary(found.results, tuple(metrics), before.name, record_command, found.remarks, before)
    told = {result.cell for results in summary.together for result in results}
    for result in summary.failing:
        if result.record is None:
            print(explain_loss([result.cell], before, record_command))
        elif result.cell not in told:
            print(explain_failure(result, before, record_command))
    print("\n".join(summary.lines(terminal.width(sys.stdout.isatty()))))
    return 0 if comparison.passes else 1
