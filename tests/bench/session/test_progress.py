"""The progress line: how many cells are left, and for about how long."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any, cast

import pytest
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.plain_progress import in_words
from peft_update_bench.bench.session.progress import Progress

from tests.helpers.sessions import session


class Reporter:
    """What of pytest's terminal reporter the progress line uses."""

    def __init__(self, verbosity: int = 0) -> None:
        self.verbosity = verbosity
        self.written = io.StringIO()

    def write(self, text: str, *, flush: bool) -> None:
        self.written.write(text)


def lines(*seconds: float, cells: int, verbosity: int = 0, tries: int = 1) -> list[str]:
    """What is written when the cells start at these `seconds`, each of them so many times in a row."""
    run = session()
    run.matrix_tests = {f"test[{rank}]": Cell("resnet18", "lora", rank) for rank in range(1, cells + 1)}
    reporter, now = Reporter(verbosity), SimpleNamespace(seconds=0.0)
    progress = Progress(cast(Any, reporter), run, clock=lambda: now.seconds)
    for start, name in zip(seconds, [name for name in run.tests for _ in range(tries)], strict=False):
        now.seconds = start
        hook = progress.pytest_runtest_logstart(name)
        next(hook)
        with pytest.raises(StopIteration):
            next(hook)
    return reporter.written.getvalue().splitlines()[1:]


def test_the_first_cell_says_no_time_and_the_others_the_mean_of_those_before() -> None:
    assert lines(100, 130, 150, 205, cells=4) == [
        "[1/4] resnet18-lora-r1, 3 left ",
        "[2/4] resnet18-lora-r2, 2 left, about 2 minutes ",  # 3 × 30 s
        "[3/4] resnet18-lora-r3, 1 left, about 50 seconds ",  # 2 × 25 s
        "[4/4] resnet18-lora-r4, 0 left, about 35 seconds ",
    ]


def test_one_that_is_run_again_is_counted_once() -> None:
    assert lines(100, 120, 130, 150, cells=2, tries=2) == [
        "[1/2] resnet18-lora-r1, 1 left ",
        "[1/2] resnet18-lora-r1, 1 left ",
        "[2/2] resnet18-lora-r2, 0 left, about 30 seconds ",
        "[2/2] resnet18-lora-r2, 0 left, about 50 seconds ",
    ]


@pytest.mark.parametrize("verbosity", [-1, 1])
def test_nothing_is_written_where_pytest_names_tests_or_is_quiet(verbosity: int) -> None:
    assert lines(1, 2, cells=2, verbosity=verbosity) == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "a moment"), (0.4, "a moment"), (1.0, "a second"), (59.4, "59 seconds"), (59.5, "1 minute"),
        (89, "1 minute"), (91, "2 minutes"), (3599, "1 hour"), (3900, "1 hour and 5 minutes"),
    ],
)  # fmt: skip
def test_time_left_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
