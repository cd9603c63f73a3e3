"""What fits a terminal: tables, by fewer characters a column and then by paragraphs, and sentences."""

from __future__ import annotations

import pytest
from peft_update_bench.bench import terminal

HEADERS = ("cell", "FLOPs", "verdict")
ROWS = (
    ("resnet18-fft", "10.65 GFLOPs", "ok"),
    ("resnet18-dora-r1", "14.16 GFLOPs", "regressed: flops.forward +98.5 %, flops.backward +98.1 %"),
)
WIDE = 16 + 2 + 12 + 2 + 56
"""Of the longest entries, with two blanks between columns."""
NARROWEST = 16 + 2 + 12 + 2 + 14
"""`flops.backward` is the longest word that is left."""


@pytest.mark.parametrize("characters", [None, WIDE, WIDE + 1])
def test_a_table_that_fits_has_a_line_a_row(characters: int | None) -> None:
    lines = terminal.table(ROWS, HEADERS, characters).splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) == WIDE
    assert lines[3].split("  ") == list(ROWS[1])


@pytest.mark.parametrize("characters", [WIDE - 1, 60, NARROWEST])
def test_a_wider_one_breaks_between_words(characters: int) -> None:
    shown = terminal.table(ROWS, HEADERS, characters)
    assert max(map(len, shown.splitlines())) <= characters
    assert "resnet18-dora-r1  14.16 GFLOPs  regressed:" in shown
    assert " ".join(shown.split()).endswith("flops.backward +98.1 %"), "a number stays with its unit"
    assert "\N{NO-BREAK SPACE}" not in shown


def test_one_that_cannot_break_further_is_paragraphs() -> None:
    assert terminal.table(ROWS, HEADERS, NARROWEST - 1).splitlines() == [
        "resnet18-fft",
        "  FLOPs 10.65 GFLOPs · verdict ok",
        "resnet18-dora-r1",
        "  FLOPs 14.16 GFLOPs · verdict regressed:",
        "  flops.forward +98.5 %, flops.backward",
        "  +98.1 %",
    ]
    assert terminal.table([("1", *ROWS[0])], ("place", *HEADERS), 30, names=2).splitlines()[0] == "1 resnet18-fft"


@pytest.mark.parametrize("entry", ["1.469 GFLOPs", "100 Bytes", "+98.5 %", "-1.5 points", "0.995 ± 0.062", "0.303 ×"])
def test_a_figure_is_not_broken(entry: str) -> None:
    rows = [("a", f"{entry} worse")]
    assert terminal.table(rows, ("c", "of"), 5 + len(entry)).splitlines()[2] == f"a    {entry}"
    assert terminal.table(rows, ("c", "of"), 4 + len(entry)).startswith("a\n"), "no table any more"


def test_sentences_are_broken_and_tables_left() -> None:
    assert terminal.wrap("a sentence of words", None) == "a sentence of words"
    assert terminal.wrap("a sentence of words", 19) == "a sentence of words"
    assert terminal.wrap("a sentence of words", 18) == "a sentence of\nwords"
    assert terminal.wrap("mobilenet_v2-lora-r4 fits", 14) == "mobilenet_v2-lora-r4\nfits"
    assert terminal.wrap("a table of\nlines", 4) == "a table of\nlines"


def test_a_pipe_has_no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    assert terminal.width(is_terminal=True) == 72
    assert terminal.width(is_terminal=False) is None
