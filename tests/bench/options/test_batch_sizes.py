"""Several batch sizes in one run: which cells they make, what is refused, and which baseline judges them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from peft_update_bench.bench import options
from peft_update_bench.bench.__main__ import main
from peft_update_bench.bench.cells import Cell, Selection
from peft_update_bench.bench.commands.report.runs import compare_runs
from peft_update_bench.bench.gate import baseline
from peft_update_bench.bench.gate.baseline import Baseline, BaselineError
from peft_update_bench.bench.gate.grouped import cells_in_words
from peft_update_bench.bench.options import OptionError, RunOptions
from peft_update_bench.bench.record import RecordError

from tests.helpers.records import baseline_data, extra_info, record, write
from tests.helpers.sessions import gate, of, session

FEW = {"architectures": "resnet18,mobilenet_v2", "methods": "fft,lora", "ranks": "4"}


def read(**given: str) -> RunOptions:
    return options.read({**FEW, **given}, {"latency": 0.1})


def test_a_list_makes_cells_by_architecture_and_batch_size() -> None:
    run = read(batch_size="16, 1,16")
    assert [str(cell) for cell in run.selection.cells()] == [
        "resnet18-fft-b16", "resnet18-lora-r4-b16", "resnet18-fft-b1", "resnet18-lora-r4-b1",
        "mobilenet_v2-fft-b16", "mobilenet_v2-lora-r4-b16", "mobilenet_v2-fft-b1", "mobilenet_v2-lora-r4-b1",
    ]  # fmt: skip
    first, *_, last = run.selection.cells()
    assert (run.of(first).workload.batch_size, run.of(last).workload.batch_size) == (16, 1)
    assert run.of(last).workload == replace(run.workload, batch_size=1)
    assert run.record_command.endswith("--benchmark-save=baseline --batch-size 16,1")


@pytest.mark.parametrize("typed", ["8", "8,8"])
def test_one_batch_size_is_no_part_of_a_cell(typed: str) -> None:
    run = read(batch_size=typed)
    assert str(run.selection.cells()[0]) == "resnet18-fft"
    assert run.workload.batch_size == 8
    assert run.of(run.selection.cells()[0]) is run
    assert run.record_command.endswith("--batch-size 8")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"batch_size": "1,0"}, "--batch-size is '0'; expected a whole number of at least 1"),
        ({"batch_size": "1,"}, "--batch-size is ''; expected a whole number"),
        ({"batch_size": "1,b"}, "--batch-size is 'b'"),
        (
            {"batch_size": "8,32", "metrics": "adaptation", "data": "digits"},
            "--batch-size is '8,32' beside --metrics adaptation; expected one number",
        ),
    ],
)
def test_bad_lists(given: dict[str, str], complaint: str) -> None:
    with pytest.raises(OptionError) as error:
        read(**given)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_a_step_of_ones_own_brings_its_batch() -> None:
    with pytest.raises(OptionError, match="--batch-size is given beside --steps; expected one of the two"):
        options.read({"steps": "tests.helpers.own_steps:build", "batch_size": "1,2"}, {"latency": 0.1})


def test_a_record_has_its_cells_batch_size() -> None:
    cell = Cell("resnet18", "lora", 4, batch_size=16)
    found = record(cell)
    assert found.cell == cell
    assert found.as_extra_info()["batch_size"] == found.as_extra_info()["workload"]["batch_size"] == 16
    assert "batch_size" not in record().as_extra_info()
    with pytest.raises(RecordError, match="batch_size is 8, which is not the workload's"):
        record(cell, batch_size=8)


def by_size(*sizes: int | None) -> Baseline:
    return of(*(record(Cell("resnet18", "lora", 4, batch_size=size)) for size in sizes))


def compared(run: RunOptions, baseline: Baseline) -> None:
    a_session = session(selection=run.selection, workload=run.workload)
    a_session.compare_with(baseline)
    assert a_session.lost == frozenset()


ONE = {"architectures": "resnet18", "methods": "lora"}


def test_which_baseline_judges_which_run() -> None:
    compared(read(**ONE, batch_size="1,16"), by_size(1, 16))
    # As with a filter, what was not asked for is not lost.
    compared(read(**ONE, batch_size="1,16"), by_size(1, 16, 32))
    compared(read(**ONE, batch_size="1,16"), by_size(16, 32))
    compared(read(**ONE), by_size(None))
    with pytest.raises(BaselineError, match=r"no cell of this run's batch sizes.* expected --batch-size 1,16, which"):
        compared(read(**ONE), by_size(16, 1))
    with pytest.raises(BaselineError, match=r"no cell of this run's batch sizes.* expected --batch-size 32, which"):
        compared(read(**ONE, batch_size="1,16"), by_size(32))
    with pytest.raises(BaselineError, match="expected one --batch-size, as this baseline has, or name another"):
        compared(read(**ONE, batch_size="1,16"), by_size(None))


def test_a_cell_of_the_list_that_is_gone_is_lost() -> None:
    gone = Cell("resnet18", "lora", 2, batch_size=16)
    selection = Selection(batch_sizes=(1, 16))
    assert selection.no_longer_there([gone, replace(gone, batch_size=32), replace(gone, batch_size=None)], "core") == [
        gone
    ]
    assert Selection().no_longer_there([gone], "core") == []


def test_each_is_judged_by_its_own() -> None:
    small, large = (Cell("resnet18", "lora", 4, batch_size=size) for size in (1, 16))
    judged = gate(record(small), record(large)).judge(record(large))
    assert judged.cell == large
    assert {verdict.kind for verdict in judged.verdicts} == {"ok"}
    assert gate(record(small)).judge(record(large)).verdicts[0].kind == "new"


def test_runs_are_compared_by_what_they_have(tmp_path: Path) -> None:
    cells = [Cell("resnet18", "lora", 4, batch_size=size) for size in (1, 16)]
    both = write(tmp_path / "0001_a.json", baseline_data(*map(extra_info, cells)))
    alone = write(tmp_path / "0002_b.json", baseline_data(extra_info(cells[0])))
    comparison = compare_runs(baseline.read(alone), baseline.read(both))
    assert comparison.passes
    assert comparison.left_out == (cells[1],)


def test_cells_in_words_name_them() -> None:
    cells = [Cell("resnet18", "lora", rank, batch_size=size) for rank in (1, 4) for size in (1, 16)]
    assert cells_in_words(cells) == "resnet18 × lora × r1, r4 × b1, b16"


@pytest.mark.slow
def test_recommend_says_which_batch_fits(capsys: pytest.CaptureFixture[str]) -> None:
    words = "recommend --memory 40MiB --architectures mobilenet_v3_small --methods lora --ranks 4 --batch-size 1 16"
    assert main([*words.split(), "--image-size", "96"]) == 0
    shown = capsys.readouterr().out
    assert "Workload: batch 1 or 16, 3×96×96" in shown
    assert "mobilenet_v3_small-lora-r4-b1 " in shown
    assert "mobilenet_v3_small-lora-r4-b16 would need" in shown
