"""A run as a page for people and a table for pull requests: ``update-bench report``.

    update-bench report --output page.html
    update-bench report run.json --compare --output page.html --output table.md
    update-bench report --history baselines --output history.html --figures figures

Without a run it is the newest committed baseline. Without --output the Markdown table goes to stdout.
"""

from __future__ import annotations

import argparse
import html
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from peft_update_bench.bench import options
from peft_update_bench.bench.commands.output import refuse_unwritable, writing
from peft_update_bench.bench.commands.report import matrix, runs
from peft_update_bench.bench.commands.report.runs import NEWEST, Comparison
from peft_update_bench.bench.gate import baseline
from peft_update_bench.bench.gate.baseline import Baseline
from peft_update_bench.fixtures.files import write_named

if TYPE_CHECKING:
    from peft_update_bench.bench.commands.report.figures import Figure
    from peft_update_bench.bench.commands.report.history import History

ENDINGS = (".html", ".md")
_BASELINES = object()
"""``--history`` without a folder, which is not the current one: that is typed as a dot."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("measured", nargs="?", type=Path, metavar="RUN.json", help=f"default: {NEWEST}")
    parser.add_argument(
        "--compare",
        nargs="?",
        const=NEWEST,
        metavar="OTHER.json",
        help=f"judge the run against another; without a name, against {NEWEST} (but the run itself)",
    )
    parser.add_argument(
        "--output",
        action="append",
        default=[],
        type=_output,
        metavar="FILE",
        help="a .html page or a .md table; repeatable",
    )
    parser.add_argument(
        "--figures", type=Path, metavar="FOLDER", help="write each figure there, as SVG and as PNG of 300 dots an inch"
    )
    parser.add_argument(
        "--history",
        nargs="?",
        const=_BASELINES,
        type=Path,
        metavar="FOLDER",
        help="every run in a folder and below over time, such as CI's artifacts; default: baselines",
    )
    parser.add_argument(
        "--claims",
        action=argparse.BooleanOptionalAction,
        help="re-measure the study's claims for the page, which takes some 15 seconds or more; default: unless every "
        "cell of the run is of a network, a method or a step of your own",
    )


def _output(word: str) -> Path:
    path = Path(word)
    if path.suffix not in ENDINGS:
        raise argparse.ArgumentTypeError(f"given {word!r}, expected a file that ends in {' or '.join(ENDINGS)}")
    return path


def run(given: argparse.Namespace) -> int:
    """Write what was asked for. Returns 0: a regression is the gate's to fail, the report shows it."""
    from peft_update_bench.bench.commands.report import figures, history  # with altair, for which no --help waits

    for path in given.output:
        refuse_unwritable(path)
    over_time = None
    if given.history is not None:
        folder = options.read_project(Path.cwd()).storage_folder if given.history is _BASELINES else given.history
        over_time = history.read_folder(folder)
    for line in over_time.unreadable if over_time else ():
        print(f"left out: {line}", file=sys.stderr)
    shown = _shown(given.measured, over_time)
    comparison = None
    if given.compare is not None:
        comparison = runs.compare_runs(shown, runs.compared_with(shown, given.compare))
    draws = given.figures or any(path.suffix == ".html" for path in given.output)
    drawn = list(figures.of_run(shown)) if draws else []
    drawn_over_time = list(history.figures(over_time)) if draws and over_time else []
    table = matrix.markdown(shown, comparison, [runs.conditions(shown).commit, runs.conditions(shown).sentence])
    if not given.output and not given.figures:
        # In a terminal nobody takes entities for the characters that they are.
        print(html.unescape(table) if sys.stdout.isatty() else table, end="")
    for path in given.output:
        is_table = path.suffix == ".md"
        text = table if is_table else _page(given, shown, comparison, drawn, over_time, drawn_over_time)
        with writing(path):
            write_named(path, text.encode())
    if given.figures:
        written = [*drawn, *drawn_over_time]
        figures.write(written, given.figures)
        print(f"{given.figures}: {len(written)} figures", file=sys.stderr)
    return 0


def _shown(path: Path | None, over_time: History | None) -> Baseline:
    """The run named; else the newest of the history; else the newest baseline."""
    if path is None and over_time is not None:
        return over_time.runs[-1]
    return baseline.read(path or runs.newest())


def _page(
    given: argparse.Namespace,
    shown: Baseline,
    comparison: Comparison | None,
    drawn: list[Figure],
    over_time: History | None,
    drawn_over_time: list[Figure],
) -> str:
    from peft_update_bench.bench.commands.report.page import Contents, render

    found = None
    is_of_matrix = not all(cell.is_step or cell.is_users for cell in shown.records)
    if is_of_matrix if given.claims is None else given.claims:
        print("re-measuring the study's claims (--no-claims leaves them out)", file=sys.stderr, flush=True)
        from peft_update_bench.bench.commands.report import claims  # which takes peft

        found = claims.measure(list(shown.records.values()))
    return render(Contents(shown, comparison, drawn, over_time, drawn_over_time, found))
