"""The lines of cells that are measured beside each other, where no terminal shows a bar."""

from __future__ import annotations

import io
import sys
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.measuring.neighbours import Neighbours
from peft_update_bench.bench.plain_progress import PlainProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def said(*done: int, total: int, where: type[io.StringIO] = io.StringIO) -> list[str]:
    """The lines of a run in which each of `done` is seen two seconds a cell after its beginning."""
    now = SimpleNamespace(seconds=100.0)
    with pytest.MonkeyPatch.context() as patch:
        stderr = where()
        patch.setattr(sys, "stderr", stderr)
        progress = PlainProgress("all but latency", total, clock=lambda: now.seconds)
        for number in done:
            now.seconds = 100.0 + 2 * number
            progress.update(number)
    return stderr.getvalue().splitlines()


def test_a_line_at_the_beginning_and_one_every_ten_cells() -> None:
    assert said(0, 1, 9, 10, 11, 19, 20, 47, 48, total=48) == [
        "[0/48] all but latency, 48 left",
        "[10/48] all but latency, 38 left, about 1 minute",
        "[20/48] all but latency, 28 left, about 56 seconds",
        "[47/48] all but latency, 1 left, about 2 seconds",
    ]


@pytest.mark.parametrize(("total", "lines"), [(9, 1), (10, 1), (11, 2)])
def test_few_cells_have_the_first_line_alone(total: int, lines: int) -> None:
    assert len(said(*range(total + 1), total=total)) == lines


def test_a_terminal_has_the_bar_alone() -> None:
    assert said(0, 10, total=20, where=Terminal) == []


@pytest.mark.parametrize(("where", "expected"), [(io.StringIO, True), (Terminal, False)])
def test_cells_beside_each_other_are_told_of(
    monkeypatch: pytest.MonkeyPatch, where: type[io.StringIO], *, expected: bool
) -> None:
    stderr = where()
    monkeypatch.setattr(sys, "stderr", stderr)
    futures = {Cell("resnet18", "lora", rank): Future[Any]() for rank in range(1, 13)}
    for future in futures.values():
        future.set_result(None)
    Neighbours(cast(Any, None), futures).wait("all but latency")
    assert ("[0/12] all but latency, 12 left\n" in stderr.getvalue()) == expected
