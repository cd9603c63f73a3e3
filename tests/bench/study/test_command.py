"""``update-bench study``: its tables, printed or written into a document."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from peft_update_bench.bench import marked_tables
from peft_update_bench.bench.__main__ import main
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate import baseline, baseline_file
from peft_update_bench.bench.study import committed, front_tables, tables
from peft_update_bench.bench.study.command import make
from peft_update_bench.bench.study.statement import check
from peft_update_bench.bench.study.statements import STATEMENTS
from peft_update_bench.bench.study.table_names import TABLES

from tests.helpers.adaptation_records import adapted
from tests.helpers.records import baseline_data, write

REPOSITORY = Path(__file__).parents[3]
DOCUMENT = REPOSITORY / "bench" / "study" / "README.md"
GUIDANCE = REPOSITORY / "bench" / "study" / "guidance.md"
METHODS_PAGE = REPOSITORY / "fixtures" / "methods" / "README.md"
CHEAP = ("study-accuracy", "study-cells", "front", "front-budgets")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's file: one seed of each method on one network under a shift."""
    records = [
        adapted(Cell("mobilenet_v2", method, rank, "shift"), 0.1, after)
        for method, rank, after in (("fft", None, 0.9), ("bn_head", None, 0.5), ("lora", 4, 0.8), ("dora", 4, 0.7))
    ]
    return write(tmp_path / "0001_a.json", baseline_data(*(record.as_extra_info() for record in records)))


def test_the_committed_tables_are_those_of_the_committed_baselines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the page's tables those that take no time; ``pytest bench -m claims`` looks at the others."""
    monkeypatch.chdir(REPOSITORY)
    held = marked_tables.read(DOCUMENT.read_text())
    of_methods, of_guidance = (marked_tables.read(page.read_text()) for page in (METHODS_PAGE, GUIDANCE))
    assert held.keys() | of_methods.keys() | of_guidance.keys() == TABLES.keys()
    for name, table in make(CHEAP, []).items():
        assert held[name] == table, "stale: update-bench study --write bench/study/README.md"


@pytest.mark.parametrize("page", [DOCUMENT, GUIDANCE], ids=lambda page: page.stem)
def test_tables_of_several_committed_baselines_are_theirs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    held = marked_tables.read(page.read_text())
    looked_at = [name for name in held if name.startswith(("figures-", "digits-", "fashion-"))]
    assert looked_at
    for name in looked_at:
        assert held[name] == tables.make(name, []), f"stale: update-bench study --write {page.relative_to(REPOSITORY)}"


def test_the_page_of_guidance_shows_the_committed_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture names the methods of a run of its network, and what the accuracies are of."""
    monkeypatch.chdir(REPOSITORY)
    names = re.findall(r"!\[.+\]\((.+\.svg)\)", GUIDANCE.read_text())
    assert names
    for name in names:
        picture = (GUIDANCE.parent / name).read_text()
        shown = [
            record
            for folder in (committed.FASHION, committed.FASHION_CLASSES)
            for record in committed.adapted(folder)
            if record.architecture == name.partition("-")[0]
            and front_tables.setting_of(record).partition(";")[0] in picture
        ]
        assert shown
        assert {record.method for record in shown} <= {*re.findall(r">(\w+)</text>", picture)}


def test_the_committed_baseline_has_the_verdicts_that_the_list_records() -> None:
    records = list(
        baseline.read(baseline_file.find(REPOSITORY / "baselines" / "adaptation", None, "")).records.values()
    )
    on_accuracy = [statement for statement in STATEMENTS if statement.text in tables.make("study-accuracy", [])]
    assert len(on_accuracy) == 5
    for statement in on_accuracy:
        assert check(statement, records).verdict == statement.expected


def test_it_prints_a_run_s_tables(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", str(run), "--tables", "study-cells, study-accuracy"]) == 0
    shown = capsys.readouterr()
    assert "10.0% → 80.0%" in next(line for line in shown.out.splitlines() if "mobilenet_v2-lora-r4-shift" in line)
    assert "10.0 points at most (mobilenet_v2-lora-r4-shift)" in shown.out
    assert "40.0 points at most (mobilenet_v2 40.0)" in shown.out
    assert shown.out.index("### Every cell") < shown.out.index("### The statements on accuracy")
    assert shown.err.splitlines() == ["[1/2] study-cells (no time)", "[2/2] study-accuracy (no time)"]


def test_a_run_without_adaptation_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", str(write(tmp_path / "0002_b.json", baseline_data()))]) == 2
    error = capsys.readouterr().err
    assert "holds no adaptation; expected a baseline of --metrics adaptation" in error
    assert error.count("\n") == 1


def test_where_no_baseline_is_the_error_names_what_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["study"]) == 2
    error = capsys.readouterr().err
    assert "no baseline (NNNN_*.json) in baselines/adaptation" in error
    assert "--tables study-cost needs none" in error


def test_a_run_that_no_table_is_of_is_one_line_and_status_2(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", str(run), "--tables", "figures-resnet18"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"update-bench study: {run} is given, and no table of figures-resnet18 is of a run")
    assert said.err.count("\n") == 1


def test_an_unknown_table_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["study", "--tables", "study-cells,cost"])
    assert stopped.value.code == 2
    assert "--tables: given 'cost', expected a list of study-cost, study-accuracy" in capsys.readouterr().err


TWO_TABLES = """# A page

<!-- table: study-cells -->
old
<!-- /table -->

Between.

<!-- table: others -->
another command's
<!-- /table -->
"""


def test_it_writes_the_tables_that_a_document_holds(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "page.md"
    document.write_text(TWO_TABLES)
    assert main(["study", str(run), "--write", str(document)]) == 0
    written = document.read_text()
    assert "old" not in written
    assert "| mobilenet_v2-lora-r4-shift " in written
    assert written.endswith(TWO_TABLES[TWO_TABLES.index("Between.") :])
    assert capsys.readouterr().out == ""
    assert main(["study", str(run), "--write", str(document)]) == 0
    assert document.read_text() == written, "a second time changes nothing"


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("# A page\n", (), "holds none of the study's tables; expected <!-- table: study-cost --> and <!-- /table -->"),
        (TWO_TABLES, ("--tables", "study-accuracy"), "holds no table study-accuracy; expected <!-- table: study-acc"),
        (TWO_TABLES[: TWO_TABLES.index("<!-- /")], (), "line 3: the table 'study-cells' does not end; expected <!-- /"),
        (TWO_TABLES.replace("<!-- /table -->", "", 1), (), "line 3: the table 'study-cells' does not end"),
        (TWO_TABLES + TWO_TABLES, (), "holds the table 'study-cells' twice; expected it once"),
        ("\udcff", (), "is not UTF-8; expected a Markdown document"),
        (None, (), "No such file or directory; expected a document that can be written"),
    ],
)
def test_a_document_that_cannot_be_written_is_one_line_and_stays(
    run: Path,
    tmp_path: Path,
    text: str | None,
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    document = tmp_path / "page.md"
    if text is not None:
        document.write_text(text, errors="surrogateescape")
    before = None if text is None else document.read_bytes()
    assert main(["study", str(run), "--write", str(document), *arguments]) == 2
    error = capsys.readouterr().err
    assert f"--write {document}: {message}" in error
    assert error.count("\n") == 1
    assert text is None or document.read_bytes() == before
