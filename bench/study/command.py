"""The study's statements with what is found here, as Markdown: ``update-bench study``.

    update-bench study                                # the statements on cost and on accuracy
    update-bench study run.json                       # on accuracy from this run
    update-bench study fog.json noise.json --tables front,front-budgets  # from several, of other shifts and tasks
    update-bench study --tables study-batches         # another table
    update-bench study --write bench/study/README.md  # a document's tables anew

What is stated of cost is computed here and now. What is stated of accuracy needs a run of --metrics adaptation.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from peft_update_bench.bench import marked_tables
from peft_update_bench.bench.command_error import CommandError
from peft_update_bench.bench.gate import baseline, baseline_file
from peft_update_bench.bench.gate.baseline import BaselineError
from peft_update_bench.bench.marked_tables import MarkerError
from peft_update_bench.bench.record import Record
from peft_update_bench.bench.study.table_names import DEFAULT, TABLES
from peft_update_bench.fixtures.files import write_named

FOLDER = Path("baselines") / "adaptation"
_HINT = "(with --metrics adaptation; --tables study-cost needs none)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "measured",
        nargs="*",
        type=Path,
        metavar="RUN.json",
        help=f"with adaptation; default: the newest in {FOLDER}",
    )
    parser.add_argument(
        "--tables",
        type=_tables,
        metavar="a,b",
        help=f"of {', '.join(TABLES)}; default: {','.join(DEFAULT)}, and with --write those that the document holds",
    )
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="replace the tables between <!-- table: NAME --> and <!-- /table --> in a document, and print none",
    )


def _tables(words: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(word.strip() for word in words.split(",")))
    for name in names:
        if name not in TABLES:
            raise argparse.ArgumentTypeError(f"given {name!r}, expected a list of {', '.join(TABLES)}")
    return names


def run(given: argparse.Namespace) -> int:
    """Print the tables, or write them into a document. Raises CommandError."""
    if given.write is None:
        for name, table in make(given.tables or DEFAULT, given.measured).items():
            print(f"### {TABLES[name].about}\n\n{table}\n")
    else:
        _write(given.write, given.tables, given.measured)
    return 0


def make(names: Sequence[str], measured: Sequence[Path]) -> dict[str, str]:
    """Tables by name. Progress goes to stderr. Raises CommandError where a run with adaptation is missing."""
    needs_runs = any(TABLES[name].needs_adaptation for name in names)
    if measured and not needs_runs:
        raise CommandError(
            f"{measured[0]} is given, and no table of {', '.join(names)} is of a run that is given; expected a table "
            f"out of {', '.join(name for name, table in TABLES.items() if table.needs_adaptation)}, or no run"
        )
    records = _adapted(measured) if needs_runs else []
    # Seconds of imports, which a run that cannot be read should not wait for.
    from peft_update_bench.bench.study import tables

    made = {}
    for index, name in enumerate(names, 1):
        print(f"[{index}/{len(names)}] {name} ({TABLES[name].takes})", file=sys.stderr, flush=True)
        made[name] = tables.make(name, records)
    return made


def _adapted(measured: Sequence[Path]) -> list[Record]:
    """The records of the runs that were named, or of the newest baseline's. Raises CommandError."""
    try:
        runs = [baseline.read(path) for path in measured or [baseline_file.find(FOLDER, None, "")]]
    except BaselineError as error:
        raise CommandError(f"{error} {_HINT}") from None
    for run in runs:
        if not any(record.adaptation for record in run.records.values()):
            raise CommandError(f"{run.path}: holds no adaptation; expected a baseline of --metrics adaptation")
    return [record for run in runs for record in run.records.values() if record.adaptation]


def _write(path: Path, wanted: Sequence[str] | None, measured: Sequence[Path]) -> None:
    try:
        document = path.read_text(encoding="utf-8")
        held = marked_tables.read(document)
        names = [name for name in held if name in TABLES] if wanted is None else list(wanted)
        lacking = [name for name in names if name not in held]
        if lacking or not names:
            what = f"no table {', '.join(lacking)}" if lacking else "none of the study's tables"
            example = f"<!-- table: {(lacking or DEFAULT)[0]} --> and <!-- /table -->"
            raise CommandError(f"--write {path}: holds {what}; expected {example} where one belongs")
        write_named(path, marked_tables.replace(document, make(names, measured)).encode())
    except MarkerError as error:
        raise CommandError(f"--write {path}: {error}") from None
    except UnicodeDecodeError:
        raise CommandError(f"--write {path}: is not UTF-8; expected a Markdown document") from None
    except OSError as error:
        raise CommandError(f"--write {path}: {error.strerror}; expected a document that can be written") from None
