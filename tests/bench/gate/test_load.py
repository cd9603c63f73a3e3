"""What is said of a run, or of a baseline, whose steps were timed beside other work."""

from __future__ import annotations

from typing import Any

import pytest
from peft_update_bench.bench.gate.load import LOADED, explain_load
from peft_update_bench.bench.record import Record, RecordError

from tests.helpers.records import FFT, LORA, changed, record
from tests.helpers.sessions import PreparedRecords, run_cell, session


def loaded(share: float | None, cell: Any = LORA) -> Record:
    latency: dict[str, Any] = changed("latency", without_core=share)
    if share is None:
        del latency["latency"]["without_core"]
    return record(cell, **latency)


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.0, False), (LOADED - 0.001, False), (LOADED, True), (LOADED + 0.001, True), (None, False)],
)
def test_from_a_share_on_a_recording_is_one_made_under_load(share: float | None, said: bool) -> None:
    assert bool(explain_load("1.json", [loaded(share)])) == said


def test_the_median_of_the_timed_cells_counts() -> None:
    assert explain_load("1.json", [loaded(0.05), loaded(0.05), loaded(0.9)]) == ""
    assert explain_load("1.json", [loaded(0.05), loaded(0.6), loaded(0.7), loaded(None), record(latency=None)]) == (
        "1.json was timed under load: others had the cores for 60% of the time of its steps (median of 3 cells). Times "
        "leave that out, caches were shared all the same, and a slowdown of 20% may hide behind that: record baselines "
        "on idle cores."
    )
    assert explain_load("1.json", []) == ""


@pytest.mark.parametrize("share", [-0.001, 1.0])
def test_a_share_is_one(share: float) -> None:
    with pytest.raises(RecordError, match=r"latency\.without_core"):
        loaded(share)


@pytest.mark.parametrize(
    ("now", "before", "said"),
    [(0.0, 0.0, []), (0.6, 0.0, ["This run"]), (0.0, 0.6, ["0001_a.json"]), (0.5, 0.6, ["This run", "0001_a.json"])],
)
def test_a_run_says_at_its_end_what_was_timed_under_load(now: float, before: float, said: list[str]) -> None:
    run = session(loaded(before, FFT), benchmark=PreparedRecords({FFT: loaded(now, FFT)}))
    assert run_cell(run, FFT) == ""
    assert [note.partition(" was timed under load")[0] for note in run.summary.notes] == said


def test_a_run_that_times_nothing_does_not_speak_of_its_baseline_s_load() -> None:
    computed = record(FFT, latency=None, measured_memory=None, first_step=None)
    run = session(loaded(0.6, FFT), benchmark=PreparedRecords({FFT: computed}), metrics=("flops", "memory"))
    run_cell(run, FFT)
    assert not any("under load" in note for note in run.summary.notes)
