"""The commands beside the tests: ``update-bench COMMAND`` (``python -m bench`` in a checkout).

A command is a module with ``add_arguments(parser)`` and ``run(given)``, which returns the exit status. Only the one
that is called is imported: some import what takes seconds.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import sys
import textwrap
from collections.abc import Collection, Sequence
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from peft_update_bench.bench.command_error import CommandError
from peft_update_bench.bench.options import read_project
from peft_update_bench.bench.options.nearest import did_you_mean
from peft_update_bench.bench.options.number_lists import join_numbers
from peft_update_bench.bench.processes.interrupt import interrupt_waits
from peft_update_bench.bench.standard_output import open_closed_streams, printing
from peft_update_bench.fixtures.files import no_temporary_folder

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

PROGRAM = "update-bench"

COMMANDS = {
    "report": (
        "commands.report.command",
        "a run as a page and a table, compared, over time, and the study's claims",
    ),
    "diff": (
        "commands.diff",
        "what a new baseline changes, for who reviews it",
    ),
    "recommend": (
        "commands.recommend.command",
        "which method and rank fit a device, and what keeps the others out",
    ),
    "savings": (
        "study.savings",
        "peak memory saved by each method, small networks beside language models",
    ),
    "study": (
        "study.command",
        "the study's statements, by its own definitions and in truth, as tables",
    ),
    "search": (
        "commands.search",
        "learning rates for the adaptation benchmark, an equal budget for every method",
    ),
    "merge": (
        "commands.merge",
        "the files of a run's shards as one, judged once",
    ),
    "bisect": (
        "commands.bisect.command",
        "which commit, or which release of a package, first moved a computed figure",
    ),
    "export": (
        "commands.export",
        "a run's figures as JSON for Bencher or github-action-benchmark",
    ),
    "completion": (
        "commands.completion",
        "a script that completes this command in a shell",
    ),
    "compare-checkouts": (
        "commands.compare_checkouts",
        "the latency of two checkouts, timed in turn on this machine",
    ),
}


DESCRIPTION = (
    "Reads, compares and explains what pytest records with update benchmarks; see update-bench COMMAND --help. The "
    "benchmarks themselves are tests: pytest --pyargs peft_update_bench.bench, or your own that use update_benchmark."
)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        # argparse's own passes over what cannot be written.
        (file or sys.stderr).write(message)


_NEGATIVE = re.compile(r"-\.?\d")


def _with_negative_values(arguments: Sequence[str]) -> list[str]:
    """``--memory -3MB`` as ``--memory=-3MB``: argparse would take the value for an option, and say that one is missing.

    No option of ours begins with a digit.
    """
    joined: list[str] = []
    for word in arguments:
        if _NEGATIVE.match(word) and joined and joined[-1].startswith("--") and "=" not in joined[-1]:
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _filled(text: str) -> str:
    """A module's docstring for a terminal: its paragraphs fill the lines, and indented lines stay as they are."""
    width = max(shutil.get_terminal_size().columns - 2, 11)  # argparse's own
    wrapper = textwrap.TextWrapper(width, break_on_hyphens=False, break_long_words=False)
    lines: list[str] = []
    for stands, part in groupby(text.replace("``", "").strip().splitlines(), lambda line: line[:1] in {"", " "}):
        paragraph = list(part)
        lines += paragraph if stands else wrapper.wrap(" ".join(paragraph))
    return "\n".join(lines)


def build_parser(names: Collection[str]) -> argparse.ArgumentParser:
    """The parser, with the arguments of those commands that are among `names`: these are imported."""
    parser = _Parser(prog=PROGRAM, description=DESCRIPTION, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, allow_abbrev=False)
        if name in names:
            chosen = import_module(f"peft_update_bench.bench.{module}")
            command.description = _filled(chosen.__doc__ or "")
            command.formatter_class = argparse.RawDescriptionHelpFormatter
            chosen.add_arguments(command)
            command.set_defaults(run=chosen.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; what cannot be done ends in one line on stderr. Returns the exit status."""
    open_closed_streams()
    arguments = sys.argv[1:] if arguments is None else arguments
    if str(Path.cwd()) not in sys.path:
        # Users' own networks, methods and steps are found there; a console script has its own folder first.
        sys.path.insert(0, str(Path.cwd()))
    name = " ".join([PROGRAM, *(word for word in arguments[:1] if word in COMMANDS)])

    def run() -> int:
        if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            raise CommandError(
                f"{arguments[0]!r} is no command; expected one of {', '.join(COMMANDS)}"
                f"{did_you_mean(arguments[0], COMMANDS)}"
            )
        # Before a command's arguments are known: they follow from the table of metrics, to which a project may add.
        with interrupt_waits():
            read_project(Path.cwd()).import_modules()
            parser = build_parser(arguments[:1])
        given = parser.parse_args(join_numbers(_with_negative_values(arguments)))
        if given.command is None:
            raise CommandError(f"no command is given; expected one of {', '.join(COMMANDS)}; see {PROGRAM} --help")
        return int(given.run(given))

    try:
        return printing(run)
    except CommandError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except OSError:
        if not (complaint := no_temporary_folder()):
            raise
        print(f"{name}: {complaint}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
