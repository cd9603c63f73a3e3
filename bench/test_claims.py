"""The study's statements, re-measured: ``pytest bench -m claims``. Those on accuracy are the committed baseline's."""

from __future__ import annotations

from pathlib import Path

import pytest
from peft_update_bench.bench import marked_tables
from peft_update_bench.bench.gate import baseline, baseline_file
from peft_update_bench.bench.gate.baseline import BaselineError
from peft_update_bench.bench.record import Record
from peft_update_bench.bench.study import command, grouped_convolution, tables
from peft_update_bench.bench.study.statement import Statement, check
from peft_update_bench.bench.study.statements import STATEMENTS

pytestmark = pytest.mark.claims

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def records() -> list[Record]:
    try:
        path = baseline_file.find(ROOT / command.FOLDER, None, "")
    except BaselineError as error:  # an installed copy has none
        pytest.skip(str(error))
    return list(baseline.read(path).records.values())


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.text)
def test_claim(statement: Statement, records: list[Record]) -> None:
    """What is measured is the verdict that the list of statements records."""
    finding = check(statement, records)
    assert finding.verdict == statement.expected, finding.row()


@pytest.mark.parametrize("name", ["study-cost", "study-accuracy", "study-counts", "study-peaks", "study-batches"])
def test_the_rooms_page_says_what_is_measured(name: str, records: list[Record]) -> None:
    """The tables in bench/study/README.md, which ``update-bench study --write bench/study/README.md`` writes."""
    document = (ROOT / "bench" / "study" / "README.md").read_text()
    assert marked_tables.read(document)[name] == tables.make(name, records)


@pytest.mark.parametrize("name", ["methods-resnet18", "methods-mobilenet_v2"])
def test_the_methods_page_says_what_is_measured(name: str) -> None:
    """The tables that ``update-bench study --write fixtures/methods/README.md`` writes."""
    document = (ROOT / "fixtures" / "methods" / "README.md").read_text()
    assert marked_tables.read(document)[name] == tables.make(name, [])


def test_the_stock_count_of_a_grouped_convolution_is_wrong() -> None:
    """Stock, corrected and brute-force count of one depthwise layer's weight gradient."""
    steps = grouped_convolution.count(channels=16, size=6)
    assert steps.corrected == steps.brute_force == 2 * 16 * (3 * 3) * (6 * 6)
    assert steps.stock == 16 * steps.brute_force
