"""Where the work is done, on the page: exact figures, areas that compare, and what was not recorded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from peft_update_bench.bench.__main__ import main
from peft_update_bench.bench.commands.report import runs
from peft_update_bench.bench.commands.report.treemap import Treemap
from peft_update_bench.bench.commands.report.where import Pair, Where, where
from peft_update_bench.bench.gate import baseline

from tests.helpers.records import FFT, LORA, baseline_data, extra_info, write

BLOCKS = {"features.0": [1000, 2000, 50, 1], "features.18": [2000, 4000, 500, 1], "loss": [0, 0, 4, 0]}
OPERATORS = {"convolution": [3, 9000], "relu": [2, 0]}
TWICE = {**BLOCKS, "features.18": [4000, 5000, 600, 2]}


def place(blocks: dict[str, list[int]], operators: dict[str, list[int]] = OPERATORS) -> dict[str, Any]:
    return {"blocks": blocks, "operators": operators}


def compared(tmp_path: Path, now: list[dict[str, Any]], before: list[dict[str, Any]] | None) -> Where:
    run = baseline.read(write(tmp_path / "now.json", baseline_data(*now)))
    if before is None:
        return where(run, None)
    other = baseline.read(write(tmp_path / "before.json", baseline_data(*before)))
    return where(run, runs.compare_runs(run, other))


def test_a_block_that_moved_has_before_now_and_change_to_the_last_digit(tmp_path: Path) -> None:
    dearer = place(TWICE, {"convolution": [4, 12000], "relu": [2, 0]})
    found = compared(
        tmp_path,
        [extra_info(FFT, where=place(BLOCKS)), extra_info(LORA, where=dearer)],
        [extra_info(FFT, where=place(BLOCKS)), extra_info(LORA, where=place(BLOCKS))],
    )
    assert found.sentence == "Work moved in 1 of 2 cells, against before.json."
    (lora,), (fft,) = found.moved, found.others
    assert (str(lora.cell), str(fft.cell)) == ("resnet18-lora-r4", "resnet18-fft")
    assert lora.words == "features.18 +3.000 kFLOPs (convolution runs twice); made: features.18 +100 Bytes"
    blocks, operators = lora.parts
    assert {p.name: (p.flops.before, p.flops.now, p.flops.change) for p in blocks.places} == {
        "features.0": (3000, 3000, "as before"), "features.18": (6000, 9000, "+3,000 (+50.0 %)"),
        "loss": (0, 0, "as before"),
    }  # fmt: skip
    assert {p.name: p.others.change for p in operators.places} == {"convolution": "+1 (+33.3 %)", "relu": "as before"}


def areas(found: Treemap) -> dict[str, float]:
    """In hundredths of the wider treemap."""
    return {box.title.partition(":")[0]: box.width * box.height * found.share / 10_000 for box in found.boxes}


def test_areas_are_flops_on_one_scale(tmp_path: Path) -> None:
    found = compared(tmp_path, [extra_info(where=place(TWICE))], [extra_info(where=place(BLOCKS))])
    before, now = found.moved[0].parts[0].treemaps
    assert (before.title, now.title) == ("before: 9.000 kFLOPs", "now: 12.00 kFLOPs")
    assert (before.share, now.share) == (75, 100)
    assert areas(before) == pytest.approx({"features.18": 50, "features.0": 25})
    assert areas(now) == pytest.approx({"features.18": 75, "features.0": 25})
    for side in (before, now):
        for box in side.boxes:
            assert 0 <= box.x <= box.x + box.width <= 100 + 1e-9
            assert 0 <= box.y <= box.y + box.height <= 100 + 1e-9
    assert [box.kind for box in now.boxes] == ["more-3", "same"]


@pytest.mark.parametrize(
    ("now", "before", "change"),
    [
        (100, 100, "as before"), (101, 100, "+1 (+1.0 %)"), (99, 100, "-1 (-1.0 %)"),
        (5, 0, "+5 (from zero)"), (0, 5, "-5 (-100.0 %)"), (1_000_001, 1_000_000, "+1 (+0.00010 %)"),
    ],
)  # fmt: skip
def test_a_change_never_reads_as_none(now: int, before: int, change: str) -> None:
    assert Pair(now, before).change == change


@pytest.mark.parametrize(
    ("flops", "kind"),
    [(900, "same"), (901, "more-1"), (989, "more-1"), (990, "more-2"), (1349, "more-2"), (1350, "more-3"),
     (899, "less-1"), (810, "less-2"), (450, "less-3")],
)  # fmt: skip
def test_the_colour_follows_the_change(tmp_path: Path, flops: int, kind: str) -> None:
    """At a tenth and at half of before it becomes stronger."""
    before = extra_info(where=place({"a": [900, 0, 1, 1], "b": [1, 0, 1, 1]}))
    now = extra_info(where=place({"a": [flops, 0, 1, 1], "b": [2, 0, 1, 1]}))
    (cell,) = compared(tmp_path, [now], [before]).moved
    assert cell.parts[0].treemaps[1].boxes[0].kind == kind


def test_a_block_that_came_and_one_that_went_are_there(tmp_path: Path) -> None:
    before = extra_info(where=place({"old": [100, 0, 1, 1]}))
    now = extra_info(where=place({"new": [50, 0, 1, 1]}))
    (cell,) = compared(tmp_path, [now], [before]).moved
    assert {p.name: p.flops.change for p in cell.parts[0].places} == {
        "new": "+50 (from zero)",
        "old": "-100 (-100.0 %)",
    }
    old, new = cell.parts[0].treemaps
    assert ([box.kind for box in old.boxes], [box.kind for box in new.boxes]) == (["less-3"], ["more-3"])


def test_blocks_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    blocks = ["features.10", "features.2", "features.2.conv.11", "features.2.conv.3", "(loss)", "12", "3"]
    before, now = (extra_info(where=place({name: [flops, 0, 1, 1] for name in blocks})) for flops in (1, 2))
    (cell,) = compared(tmp_path, [now], [before]).moved
    assert [found.name for found in cell.parts[0].places] == [
        "3", "12", "(loss)", "features.2", "features.2.conv.3", "features.2.conv.11", "features.10",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("now", "before", "sentence"),
    [
        (True, True, "Work moved in 0 of 1 cell, against before.json."),
        (True, False, "Not recorded in before.json of 1 cell, which are shown as they are now."),
        (False, True, "Not recorded in now.json: its records do not say where in the network work is done."),
        (True, None, "1 cell, compared with nothing."),
    ],
)
def test_what_was_not_recorded_is_said(tmp_path: Path, now: bool, before: bool | None, sentence: str) -> None:
    def cell(recorded: bool) -> list[dict[str, Any]]:
        return [extra_info(where=place(BLOCKS) if recorded else None)]

    found = compared(tmp_path, cell(now), None if before is None else cell(before))
    assert found.sentence == sentence
    assert found.moved == ()
    assert len(found.others) == now


def test_the_page_has_the_figures_as_text(tmp_path: Path) -> None:
    run = write(tmp_path / "now.json", baseline_data(extra_info(where=place(TWICE))))
    other = write(tmp_path / "before.json", baseline_data(extra_info(where=place(BLOCKS))))
    page = tmp_path / "page.html"
    assert main(["report", str(run), "--compare", str(other), "--output", str(page), "--no-claims"]) == 0
    html = page.read_text()
    section = html[html.index('<section id="where">') :].partition("</section>")[0]
    row = re.search(r'<tr><th scope="row">features\.18</th>(.*?)</tr>', section, re.DOTALL)
    assert row is not None
    assert re.findall(r">([^<>]+)</td>", row[1]) == [
        "6,000",
        "9,000",
        "+3,000 (+50.0 %)",
        "500",
        "600",
        "+100 (+20.0 %)",
    ]
    assert section.count("<details") == section.count("</details") == 1
    assert '<details class="work" open>' in section
