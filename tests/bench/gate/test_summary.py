"""The table that ends a run: what each column, each verdict and each note says."""

from __future__ import annotations

import re
from typing import Any

import pytest
from peft_update_bench.bench import metrics
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.gate import Result
from peft_update_bench.bench.gate.summary import Summary, escape, indented, kind_of
from peft_update_bench.bench.gate.verdict import Kind, Verdict
from peft_update_bench.bench.options import RunOptions

from tests.helpers.adaptation_records import adapted
from tests.helpers.records import LATENCY, LORA, record

FFT = Cell("resnet18", "fft")
ADAPTED = Cell("resnet18", "lora", 4, "shift")


HEADERS = ("cell", "FLOPs", "peak memory", "latency / fft", "verdict")
ADAPTATION_HEADERS = (
    "cell", "accuracy before → after", "source before → after",
    "steps to target", "FLOPs to it", "peak memory", "verdict",
)  # fmt: skip


def summary(*results: Result, compared: bool = True, **more: Any) -> Summary:
    """The summary of a run of the update benchmark's usual metrics."""
    given: dict[str, Any] = {"measured": RunOptions().metrics, "record_command": RunOptions().record_command, **more}
    return Summary(results, baseline="0001_a.json" if compared else "", **given)


def of(*kinds: Kind, cell: Cell = LORA) -> Result:
    """A result with a verdict of each of `kinds`, each a change by +10 %."""
    return Result(cell, record(cell), tuple(Verdict(f"figure.{kind}", kind, "FLOPs", 110, 100) for kind in kinds))


def columns(line: str) -> list[str]:
    """A line of the terminal's table, apart."""
    return re.split(r"\s{2,}", line.strip())


def test_the_terminals_table_has_a_line_a_cell() -> None:
    head, rule, first, second = summary(of("ok"), of("regressed", cell=FFT)).table().splitlines()
    assert columns(head) == list(HEADERS)
    assert set(rule) == {"-", " "}
    assert columns(first) == ["resnet18-lora-r4", "3.000 kFLOPs", "1000 Bytes", "0.800 ± 0.010", "ok"]
    assert second.startswith("resnet18-fft ")
    assert second.endswith("regressed: figure.regressed +10.0 %")


def test_what_was_not_measured_is_a_dash() -> None:
    bare = record(flops=None, memory=None, latency=None)
    rows = summary(Result(LORA, bare), Result(FFT, error="hangs")).table().splitlines()[2:]
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
    (line,) = summary(result).table().splitlines()[2:]
    assert f"  {text}  " in line


def test_markdown_has_the_sentence_and_then_failing_cells_first() -> None:
    cells = [Cell("resnet18", "lora", rank) for rank in range(1, 8)]
    kinds: list[Kind] = ["ok", "unstable", "improved", "regressed", "new", "missing", "not comparable"]
    failed = Result(FFT, error="is out of memory")
    results = [of(kind, cell=cell) for kind, cell in zip(kinds, cells, strict=True)]
    told = summary(*results, failed)
    sentence, table, *notes = told.markdown.removesuffix("\n").split("\n\n")
    assert sentence == told.headline
    assert notes == told.notes
    head, rule, *rows = table.splitlines()
    assert [column.strip() for column in head.strip("|").split("|")] == list(HEADERS)
    assert rule.startswith("|:-")
    # Within each half the run's order is kept.
    assert [row.split()[1].removeprefix("resnet18-") for row in rows] == [
        "lora-r2", "lora-r4", "lora-r6", "fft", "lora-r1", "lora-r3", "lora-r5", "lora-r7"
    ]  # fmt: skip
    assert summary(failed).markdown.endswith("|\n")


def test_a_column_of_numbers_is_text() -> None:
    """A table renderer that reads numbers would move them to the right, and write 1e3 and 1.50 in its own way."""
    reached = adapted(ADAPTED, 0.1, 0.8, target_accuracy=0.5, steps_to_target=10, flops_to_target=2000)
    table = summary(Result(ADAPTED, reached), measured=("adaptation",))
    head, _, row = table.table().splitlines()
    assert row[head.index("steps to target") :].startswith("10 ")
    assert "-:" not in table.markdown


def test_the_headline_counts_the_commonest_kind_first() -> None:
    results = [of("regressed"), of("ok", cell=FFT), of("ok", cell=Cell("resnet18", "head"))]
    assert summary(*results).headline == "3 cells, against 0001_a.json: 2 ok, 1 regressed"
    none = "0 cells, no baseline compared (--benchmark-compare): none measured"
    assert summary(compared=False).lines(None) == [none], "a table without a cell says nothing"
    assert "cell |" not in summary(compared=False).markdown


@pytest.mark.parametrize(
    ("kinds", "word"),
    [
        ((), "not compared"),
        (("ok",), "ok"),
        (("not comparable",), "not comparable"),
        (("not comparable", "ok"), "ok"),
        (("ok", "new"), "new"),
        (("unrecorded", "ok"), "ok"),
        (("new", "improved"), "improved"),
        (("improved", "unstable"), "unstable"),
        (("unstable", "regressed"), "regressed"),
        (("regressed", "missing"), "missing"),
        (("not comparable", "ok", "regressed"), "regressed"),
    ],
)
def test_a_cells_word_is_its_gravest_verdict(kinds: tuple[Kind, ...], word: str) -> None:
    assert kind_of(of(*kinds)) == word
    assert kind_of(of(*reversed(kinds))) == word


@pytest.mark.parametrize("kind", ["regressed", "improved", "unstable"])
def test_what_moved_is_told_with_its_change(kind: Kind) -> None:
    both = (Verdict("flops.forward", kind, "FLOPs", 90, 100), Verdict("flops.backward", kind, "FLOPs", 120, 100))
    result = Result(LORA, record(), (*both, Verdict("memory.peak", "ok", "bytes", 100, 100)))
    assert summary(result).table().endswith(f"  {kind}: flops.forward -10.0 %, flops.backward +20.0 %")


@pytest.mark.parametrize("kind", ["regressed", "improved"])
@pytest.mark.parametrize(("figures", "more"), [(3, ""), (4, " and 1 more"), (6, " and 3 more")])
def test_a_failing_cells_line_names_three_figures(kind: Kind, figures: int, more: str) -> None:
    """Its message has all. What improved has none, and the page that a pull request shows has no message."""
    names = [f"f.{number}" for number in range(figures)]
    result = Result(LORA, record(), tuple(Verdict(name, kind, "FLOPs", 110, 100) for name in names))
    told, all_told = summary(result), ", ".join(f"{name} +10.0 %" for name in names)
    some = f"{', '.join(f'{name} +10.0 %' for name in names[:3])}{more}"
    assert told.table().endswith(f"  {kind}: {some if kind == 'regressed' else all_told}")
    assert f"| {kind}: {all_told} |" in told.markdown


def test_accuracy_is_told_in_points() -> None:
    result = Result(LORA, record(), (Verdict("adaptation.accuracy_after", "regressed", "accuracy", 0.7, 0.8),))
    assert summary(result).table().endswith("  regressed: adaptation.accuracy_after -10.0 points")
    half = Result(LORA, record(), (Verdict("adaptation.accuracy_after", "regressed", "accuracy", None, 0.8),))
    assert summary(half).table().endswith("  regressed: adaptation.accuracy_after –")


def test_a_long_error_is_cut_at_a_word_in_a_terminal_alone() -> None:
    """Which has it whole above the table; a comment on a pull request has nothing else."""
    long = summary(Result(LORA, error="word " * 40))
    line = long.table().splitlines()[-1]
    told = line.partition("failed: ")[2]
    assert told == "word " * 15 + "…"
    assert f"failed: {'word ' * 40}|" in long.markdown


def test_notes() -> None:
    assert summary(of("ok")).notes == []
    elsewhere = tuple(Verdict("latency.relative", "not comparable", note=note) for note in ("b", "a", "b"))
    results = of("improved", "ok"), of("new", cell=FFT), Result(Cell("resnet18", "head"), record(), elsewhere)
    assert summary(*results, remarks=("The instrument was busy.",)).notes == [
        "The instrument was busy.",
        "Not compared: latency (a; b).",
        "Improved past the tolerance; to keep it, record a new baseline: pytest --benchmark-save=baseline",
        "New cells have no baseline and were not judged; record one: pytest --benchmark-save=baseline",
    ]
    assert [note.split()[0] for note in summary(*results, record_command="").notes] == ["Not"], "none to name"


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        (["latency.relative"], "latency"),
        (["measured_memory.rss_peak", "measured_memory.allocator_peak"], "measured memory"),
        # In the table's order, absolute times last.
        (["stats.median", "latency.relative"], "latency and absolute times"),
        (
            ["latency.wall_relative", "stats.median", "measured_memory.rss_peak"],
            "measured memory, latency and absolute times",
        ),
    ],
)
def test_only_what_was_not_compared_is_named(figures: list[str], words: str) -> None:
    ok = Verdict("flops.forward", "ok", "FLOPs", 100, 100)
    elsewhere = (Verdict(figure, "not comparable", note="another CPU") for figure in figures)
    assert summary(Result(LORA, record(), (ok, *elsewhere))).notes == [f"Not compared: {words} (another CPU)."]


@pytest.mark.parametrize(
    ("number", "told"), [(0, ""), (1, "; 1 figure not comparable"), (2, "; 2 figures not comparable")]
)
def test_the_headline_and_the_row_count_what_is_not_comparable(number: int, told: str) -> None:
    ok = Verdict("flops.forward", "ok", "FLOPs", 100, 100)
    elsewhere = [Verdict("latency.relative", "not comparable", note="another CPU")] * number
    one = summary(Result(LORA, record(), (ok, *elsewhere)))
    assert one.headline == f"1 cell, against 0001_a.json: 1 ok{told}"
    assert one.table().endswith(f"  ok, {number} not comparable" if number else "  ok")


def test_markdown_ends_with_the_notes() -> None:
    *table, empty, note = summary(of("ok"), remarks=("The <instrument> was busy.",)).markdown.splitlines()
    assert table[-1].startswith("| resnet18-lora-r4 ")
    assert (empty, note) == ("", "The &lt;instrument&gt; was busy.")


def test_a_run_shows_the_columns_of_what_it_measured() -> None:
    assert summary(of("ok"), measured=("flops",)).headers == ["cell", "FLOPs", "verdict"]
    assert summary(of("ok"), measured=("measured_memory", "latency")).headers == ["cell", "latency / fft", "verdict"]


@pytest.mark.parametrize(("others", "heading"), [([], "latency"), ([LORA], "latency / fft")])
def test_own_steps_are_no_multiples_of_full_fine_tuning(others: list[Cell], heading: str) -> None:
    latency = {**LATENCY, "reference": "calibration"}
    steps = [Result(cell, record(cell, latency=latency)) for cell in (Cell("net", "own"), Cell("other", "own"))]
    told = summary(*steps, *(Result(cell, record(cell)) for cell in others), measured=("latency",))
    assert told.headers == ["cell", heading, "verdict"]
    assert columns(told.table().splitlines()[2])[:2] == ["net-own", "0.800 ± 0.010 × calibration"]


def test_adaptations_table() -> None:
    result = Result(ADAPTED, adapted(ADAPTED, 0.1, 0.8), (Verdict("adaptation.accuracy_after", "ok"),))
    failed = Result(Cell("resnet18", "fft", None, "shift"), error="diverges")
    head, _, row, bad = summary(result, failed, measured=("adaptation",)).table().splitlines()
    assert columns(head) == list(ADAPTATION_HEADERS)
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
    )  # fmt: skip
    (row,) = summary(Result(ADAPTED, found), measured=("adaptation",)).table().splitlines()[2:]
    assert columns(row)[1:] == [
        "50.0% → 41.0% ± 20.0 (not adapted)", "90.0% → 80.0%", "10", "2.000 MFLOPs", "50.00 MiB", "not compared"
    ]  # fmt: skip


def test_text_is_text_in_markdown() -> None:
    assert escape("a|b[c`d*e\nf\rg<h>&") == "a&#124;b&#91;c&#96;d&#42;e f g&lt;h&gt;&amp;"
    assert escape("\"quoted\" 'as it is'") == "\"quoted\" 'as it is'"
    assert escape("test_a[__init__-_b_-C:\\_d]") == "test_a&#91;&#95;&#95;init&#95;&#95;-&#95;b&#95;-C:&#92;&#95;d]"
    assert escape("~~gone~~ snake_case__too") == "&#126;&#126;gone&#126;&#126; snake_case__too"


def test_a_row_of_which_nothing_is_comparable_says_so_once() -> None:
    assert summary(of("not comparable", "not comparable")).table().endswith("  not comparable")


def test_absolute_times_are_named_only_where_they_are_among_what_was_not_compared() -> None:
    every = tuple(Verdict(f"{name}.figure", "not comparable", note="another CPU") for name in metrics.METRICS)
    (note,) = summary(Result(LORA, record(), every)).notes
    assert "absolute times" not in note


def test_what_indents_a_line_stays_in_markdown() -> None:
    assert indented(["a | b", "  c  d  e"]) == "a &#124; b<br>\n&emsp;c  d  e"
