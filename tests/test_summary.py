"""The table that ends a run: what each column, each verdict and each note says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate import summary
from peft_update_bench.bench.gate.baseline import Baseline, Machine
from peft_update_bench.bench.gate.gate import Gate, Result
from peft_update_bench.bench.gate.verdict import Kind, Verdict
from peft_update_bench.bench.options import AdaptationOptions, RunOptions

from tests.adaptations import adapted
from tests.records import LATENCY, LORA, record

FFT = Cell("resnet18", "fft")
ADAPTED = Cell("resnet18", "lora", 4, "shift")
HERE = Machine("A CPU", 2)


def gate(*results: Result, compared: bool = True, **run: Any) -> Gate:
    baseline = Baseline(Path("baselines/0001_a.json"), {}, {}, HERE, "core", False) if compared else None
    return Gate(RunOptions(**run), baseline, HERE, {result.cell: result for result in results})


def of(*kinds: Kind, cell: Cell = LORA) -> Result:
    """A result with a verdict of each of `kinds`, each a change by +10 %."""
    return Result(cell, record(cell), tuple(Verdict(f"figure.{kind}", kind, "FLOPs", 110, 100) for kind in kinds))


def columns(line: str) -> list[str]:
    """A line of the terminal's table, apart."""
    return re.split(r"\s{2,}", line.strip())


def test_the_terminals_table_has_a_line_a_cell() -> None:
    head, rule, first, second = summary.terminal(gate(of("ok"), of("regressed", cell=FFT))).splitlines()
    assert columns(head) == list(summary.HEADERS)
    assert set(rule) == {"-", " "}
    assert columns(first) == ["resnet18-lora-r4", "3.000 kFLOPs", "1000 Bytes", "0.800 ± 0.010", "ok"]
    assert second.startswith("resnet18-fft ")
    assert second.endswith("regressed: figure.regressed +10.0 %")


def test_what_was_not_measured_is_a_dash() -> None:
    bare = record(flops=None, memory=None, latency=None)
    rows = summary.terminal(gate(Result(LORA, bare), Result(FFT, error="hangs"))).splitlines()[2:]
    assert [columns(line) for line in rows] == [
        ["resnet18-lora-r4", "–", "–", "–", "not compared"],
        ["resnet18-fft", "–", "–", "–", "failed: hangs"],
    ]


@pytest.mark.parametrize(
    ("latency", "text"),
    [
        ({}, "0.800 ± 0.010"),
        ({"stable": False}, "0.800 ± 0.010 unstable"),
        ({"reference": "calibration"}, "1 (reference)"),
        ({"reference": "calibration", "stable": False}, "1 (reference) unstable"),
    ],
)
def test_a_latency_with_half_of_its_interval(latency: dict[str, Any], text: str) -> None:
    result = Result(LORA, record(latency={**LATENCY, **latency}), (Verdict("flops.forward", "ok"),))
    (line,) = summary.terminal(gate(result)).splitlines()[2:]
    assert f"  {text}  " in line


def test_markdown_has_the_sentence_and_then_failing_cells_first() -> None:
    cells = [Cell("resnet18", "lora", rank) for rank in range(1, 8)]
    kinds: list[Kind] = ["ok", "unstable", "improved", "regressed", "new", "missing", "not comparable"]
    failed = Result(FFT, error="is out of memory")
    results = [of(kind, cell=cell) for kind, cell in zip(kinds, cells, strict=True)]
    text = summary.markdown(gate(*results, failed))
    sentence, empty, head, rule, *rows = text.splitlines()
    assert sentence == summary.headline(gate(*results, failed))
    assert empty == ""
    assert [column.strip() for column in head.strip("|").split("|")] == list(summary.HEADERS)
    assert rule.startswith("|:-")
    # Within each half the run's order is kept.
    assert [row.split()[1].removeprefix("resnet18-") for row in rows] == [
        "lora-r2", "lora-r4", "lora-r6", "fft", "lora-r1", "lora-r3", "lora-r5", "lora-r7"
    ]  # fmt: skip
    assert text.endswith("|\n")


def test_a_column_of_numbers_is_text() -> None:
    """A table renderer that reads numbers would move them to the right, and write 1e3 and 1.50 in its own way."""
    reached = adapted(ADAPTED, 0.1, 0.8, target_accuracy=0.5, steps_to_target=10, flops_to_target=2000)
    table = gate(Result(ADAPTED, reached), adaptation=AdaptationOptions())
    head, _, row = summary.terminal(table).splitlines()
    assert row[head.index("steps to target") :].startswith("10 ")
    assert "-:" not in summary.markdown(table)


def test_the_headline_counts_the_commonest_kind_first() -> None:
    results = [of("regressed"), of("ok", cell=FFT), of("ok", cell=Cell("resnet18", "head"))]
    assert summary.headline(gate(*results)) == "3 cells, against 0001_a.json: 2 ok, 1 regressed"
    assert summary.headline(gate(compared=False)) == (
        "0 cells, no baseline compared (--benchmark-compare): none measured"
    )


@pytest.mark.parametrize(
    ("kinds", "word"),
    [
        ((), "not compared"),
        (("ok",), "ok"),
        (("not comparable",), "not comparable"),
        (("not comparable", "ok"), "ok"),
        (("ok", "new"), "new"),
        (("new", "improved"), "improved"),
        (("improved", "unstable"), "unstable"),
        (("unstable", "regressed"), "regressed"),
        (("regressed", "missing"), "missing"),
        (("not comparable", "ok", "regressed"), "regressed"),
    ],
)
def test_a_cells_word_is_its_gravest_verdict(kinds: tuple[Kind, ...], word: str) -> None:
    assert summary.kind_of(of(*kinds)) == word
    assert summary.kind_of(of(*reversed(kinds))) == word


@pytest.mark.parametrize("kind", ["regressed", "improved", "unstable"])
def test_what_moved_is_told_with_its_change(kind: Kind) -> None:
    both = (Verdict("flops.forward", kind, "FLOPs", 90, 100), Verdict("flops.backward", kind, "FLOPs", 120, 100))
    result = Result(LORA, record(), (*both, Verdict("memory.peak", "ok", "bytes", 100, 100)))
    assert summary.terminal(gate(result)).endswith(f"  {kind}: flops.forward -10.0 %, flops.backward +20.0 %")


def test_accuracy_is_told_in_points() -> None:
    result = Result(LORA, record(), (Verdict("adaptation.accuracy_after", "regressed", "accuracy", 0.7, 0.8),))
    assert summary.terminal(gate(result)).endswith("  regressed: adaptation.accuracy_after -10.0 points")
    half = Result(LORA, record(), (Verdict("adaptation.accuracy_after", "regressed", "accuracy", None, 0.8),))
    assert summary.terminal(gate(half)).endswith("  regressed: adaptation.accuracy_after –")


def test_a_long_error_is_cut_at_a_word() -> None:
    line = summary.terminal(gate(Result(LORA, error="word " * 40))).splitlines()[-1]
    told = line.partition("failed: ")[2]
    assert told == "word " * 15 + "…"


def test_notes() -> None:
    quiet = gate(of("ok"))
    assert summary.notes(quiet) == []
    elsewhere = tuple(Verdict("latency.relative", "not comparable", note=note) for note in ("b", "a", "b"))
    told = gate(of("improved", "ok"), of("new", cell=FFT), Result(Cell("resnet18", "head"), record(), elsewhere))
    told.remarks.append("The instrument was busy.")
    told.unsaved = "a cell failed"
    assert summary.notes(told) == [
        "The instrument was busy.",
        "Not compared: measured memory and latency (a; b).",
        "Improved past the tolerance; to keep it, record a new baseline: pytest --benchmark-save=baseline",
        "New cells have no baseline and were not judged; record one: pytest --benchmark-save=baseline",
        "No baseline was saved: a cell failed.",
    ]
    assert told.remarks == ["The instrument was busy."], "the gate's own list is not added to"


def test_adaptations_table() -> None:
    result = Result(ADAPTED, adapted(ADAPTED, 0.1, 0.8), (Verdict("adaptation.accuracy_after", "ok"),))
    failed = Result(Cell("resnet18", "fft", None, "shift"), error="diverges")
    head, _, row, bad = summary.terminal(gate(result, failed, adaptation=AdaptationOptions())).splitlines()
    assert columns(head) == list(summary.ADAPTATION_HEADERS)
    assert columns(row) == [
        "resnet18-lora-r4-shift", "10.0% → 80.0%", "90.0% → 80.0%", "not reached", "–", "50.00 MiB", "ok"
    ]  # fmt: skip
    assert columns(bad) == ["resnet18-fft-shift", *["–"] * 5, "failed: diverges"]


def test_what_is_shown_of_an_adaptation() -> None:
    runs = [
        {"seed": seed, "curve": [0.5, after], "source_accuracy_before": 0.9, "source_accuracy_after": 0.8}
        for seed, after in enumerate((0.4, 0.42))
    ]
    found = adapted(
        ADAPTED, 0.5, 0.41, runs=runs, accuracy_spread=0.2, target_accuracy=0.4, steps_to_target=10,
        flops_to_target=2_000_000,
    ).adaptation  # fmt: skip
    assert summary.adaptation_figures(found) == (
        "50.0% → 41.0% ± 20.0 (not adapted)", "90.0% → 80.0%", "10", "2.000 MFLOPs", "50.00 MiB"
    )  # fmt: skip


def test_text_is_text_in_markdown() -> None:
    assert summary.escape("a|b[c`d*e\nf\rg<h>&") == "a&#124;b&#91;c&#96;d&#42;e f g&lt;h&gt;&amp;"
    assert summary.escape("\"quoted\" 'as it is'") == "\"quoted\" 'as it is'"
