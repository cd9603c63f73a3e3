"""A run's session: what it may be compared with, and what it keeps."""

from __future__ import annotations

from pathlib import Path

import pytest
from peft_update_bench.bench.benchmarks.adaptation import AdaptationBenchmark
from peft_update_bench.bench.cells import Cell, Selection
from peft_update_bench.bench.gate.baseline import BaselineError, read
from peft_update_bench.bench.gate.gate import Result
from peft_update_bench.bench.gate.verdict import Verdict
from peft_update_bench.bench.options.adaptation import AdaptationOptions
from peft_update_bench.fixtures.workload import Workload

from tests.helpers.adaptation_records import adapted
from tests.helpers.records import LORA, baseline_data, extra_info, record, write
from tests.helpers.sessions import ADAPTING, FFT, SHIFT, PreparedRecords, explain, of, run_cell, session

SMALL = Selection(architectures=("resnet18",), methods=("fft", "lora"), ranks=(4,))


def test_the_header_says_how_many_cells_which_metrics_and_against_what() -> None:
    run = {"selection": SMALL, "metrics": ("flops", "memory")}
    assert session(record(), **run).header == "update benchmark: 2 cells, flops, memory, against baselines/0001_a.json"
    assert session(**run).header == "update benchmark: 2 cells, flops, memory, without a baseline"


def test_the_command_that_records_repeats_the_workload() -> None:
    assert session().run.record_command == "pytest --benchmark-save=baseline"
    eight = session(workload=Workload(batch_size=8))
    assert eight.run.record_command == "pytest --benchmark-save=baseline --batch-size 8"


def test_a_shard_is_no_baseline_of_another(tmp_path: Path) -> None:
    """The cells of the others would be new, and pass."""
    said = {"number": 1, "of": 2, "cells": [str(LORA), str(FFT)]}
    data = {**baseline_data(extra_info(LORA)), "suite": {"matrix": "core", "is_filtered": True, "shard": said}}
    shard = read(write(tmp_path / "1.json", data))
    with pytest.raises(BaselineError) as error:
        session(selection=SMALL).compare_with(shard)
    assert str(error.value) == (
        f"{shard.path}: is a shard of a run, and another has resnet18-fft; expected the whole, which update-bench "
        "merge makes of all shards, or a run of the same shard"
    )
    same = session(selection=Selection(architectures=("resnet18",), methods=("lora",), ranks=(4,)))
    same.compare_with(shard)
    assert same.gate.baseline is shard


def test_a_shard_says_how_a_baseline_of_the_whole_is_recorded() -> None:
    """Which ``update-bench merge`` tells: it knows no command, nor where the run was started."""
    shard = Selection(architectures=("mine:net", "resnet18"), shard=(1, 2))
    run = session(selection=shard, workload=Workload(image_size=64), command="pytest --pyargs peft_update_bench.bench")
    assert run.suite_entry["shard"]["record_command"] == (
        "pytest --pyargs peft_update_bench.bench --benchmark-save=baseline --image-size 64 --architectures "
        "mine:net,resnet18"
    )


def test_a_baseline_of_this_workload_is_compared_with() -> None:
    run = session(selection=SMALL)
    assert run.gate.baseline is None
    assert run.lost == frozenset()
    whole = of(record(), record(FFT))
    run.compare_with(whole)
    assert run.gate.baseline is whole


def test_a_baseline_of_another_workload_is_refused() -> None:
    run = session(selection=SMALL, workload=Workload(batch_size=8))
    with pytest.raises(BaselineError, match="batch_size 1, this run 8"):
        run.compare_with(of(record()))
    assert run.gate.baseline is None


def test_a_part_cannot_judge_a_whole_run() -> None:
    whole = Selection().cells()
    lacking = [record(cell) for cell in whole if cell.method == "fft"]
    with pytest.raises(BaselineError) as error:
        session(workload=Workload(threads=1)).compare_with(of(*lacking, is_filtered=True))
    assert str(error.value) == (
        "baselines/0001_a.json: was saved by a filtered run and lacks 44 of this run's 48 cells, "
        "resnet18-head for one; run with the same filters, or record a whole one: pytest --benchmark-save=baseline"
    )


def test_a_part_can_judge_a_part_and_a_run_that_it_covers() -> None:
    session(selection=SMALL).compare_with(of(record(), is_filtered=True))
    session().compare_with(of(*map(record, Selection().cells()), is_filtered=True))
    # A whole baseline may lack a cell: it is new.
    session().compare_with(of(record()))


def test_a_baseline_of_another_adaptation_is_refused() -> None:
    runs = [
        {"seed": seed, "curve": [0.1, 0.8], "source_accuracy_before": 0.9, "source_accuracy_after": 0.8}
        for seed in (0, 1)
    ]
    with pytest.raises(BaselineError, match="was adapted otherwise: severity 3, this run 5"):
        session(**ADAPTING).compare_with(of(adapted(SHIFT, 0.1, 0.8, runs=runs, accuracy_spread=0.0)))


def test_a_saved_file_says_whether_it_is_whole() -> None:
    mine = Cell("mine:network", "fft")
    *most, last = Selection().cells()
    run = session(
        benchmark=PreparedRecords({**{cell: record(cell) for cell in (*most, mine)}, last: "is out of memory"})
    )
    for cell in most:
        run_cell(run, cell)
    assert run.suite_entry == {"matrix": "core", "is_filtered": True}
    assert run_cell(run, last), "a failed cell is there, too"
    run_cell(run, mine)
    assert run.suite_entry == {"matrix": "core", "is_filtered": False}


def test_a_saved_file_of_adaptation_is_whole_with_both_tasks() -> None:
    selection = Selection(matrix="subset", tasks=("shift",))
    run = session(selection=selection, benchmark=AdaptationBenchmark(AdaptationOptions()))
    for cell in run.cells:
        run.results[cell] = Result(cell, error="not run")
    assert run.suite_entry == {"matrix": "subset", "is_filtered": True}
    for cell in Selection(matrix="subset", tasks=("unseen",)).cells():
        run.results[cell] = Result(cell, error="not run")
    assert run.suite_entry == {"matrix": "subset", "is_filtered": False}


def test_without_a_baseline_a_record_is_kept_and_not_judged() -> None:
    run = session(benchmark=PreparedRecords({LORA: record()}))
    assert run_cell(run, LORA) == ""
    assert run.results == {LORA: Result(LORA, record())}


def test_a_cell_that_cannot_be_measured_is_kept_with_its_error() -> None:
    run = session(record(), benchmark=PreparedRecords({LORA: "is out of memory"}))
    assert run_cell(run, LORA) == "resnet18-lora-r4: is out of memory"
    assert run.results == {LORA: Result(LORA, error="is out of memory")}


def test_a_lost_cell_is_kept_as_missing() -> None:
    lost = Cell("resnet18", "lora", 2)
    run = session(record(lost))
    assert run_cell(run, lost) == (
        "resnet18-lora-r2 is in 0001_a.json and no longer in the run.\n"
        "If it was removed or renamed on purpose, record a new baseline: pytest --benchmark-save=baseline"
    )
    verdict = Verdict("the cell", "missing", note="the run no longer has it")
    assert run.results == {lost: Result(lost, verdicts=(verdict,))}


def test_a_result_without_a_record_has_no_message_of_its_own() -> None:
    """Neither a cell that failed nor one that was lost: its message is its error, or that it was lost."""
    verdict = Verdict("the cell", "missing", note="the run no longer has it")
    for result in (Result(LORA, error="is out of memory"), Result(LORA, verdicts=(verdict,))):
        assert explain(result, of(record())) == ""
    assert explain(Result(LORA, record()), None) == ""
