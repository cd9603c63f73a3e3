"""What is said of a run, or of a baseline, whose steps were timed beside other work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from peft_update_bench.bench.gate.baseline import Baseline
from peft_update_bench.bench.gate.gate import Gate
from peft_update_bench.bench.gate.load import LOADED, expected, explain_load
from peft_update_bench.bench.gate.machine import Machine
from peft_update_bench.bench.gate.verdict import Verdict
from peft_update_bench.bench.metrics import default_tolerances
from peft_update_bench.bench.record import Record, RecordError

from tests.helpers.records import FFT, LATENCY, LORA, changed, record
from tests.helpers.sessions import PreparedRecords, run_cell, session

HERE = Machine("A CPU", 2)


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
        "leave that out, caches were shared all the same, which moves a ratio by up to 8%: record baselines on idle "
        "cores."
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


def judged(before: Record, now: Record) -> tuple[bool, Verdict]:
    """Whether `now` is suspected of a slowdown, and what is said of its ratio."""
    result = gate_of(before).judge(now)
    return result.suspects_slowdown, next(v for v in result.verdicts if v.metric == "latency.relative")


def gate_of(before: Record) -> Gate:
    baseline = Baseline(Path("baselines/0001_a.json"), {LORA: before}, {}, HERE, "core", False)
    return Gate(default_tolerances(), baseline, HERE)


def timed(share: float, factor: float = 1.0, **entries: Any) -> Record:
    """With a ratio `factor` times as high."""
    ends = {key: LATENCY[key] * factor for key in LATENCY if "relative" in key}
    return record(**changed("latency", **ends, without_core=share, **entries))


IDLE, BUSY = LOADED - 0.001, LOADED


@pytest.mark.parametrize(
    ("before", "now", "factor", "suspected", "kind"),
    [
        (IDLE, IDLE, 1.09, False, "ok"), (IDLE, IDLE, 1.11, True, "unstable"), (IDLE, IDLE, 0.86, False, "improved"),
        (BUSY, IDLE, 1.04, False, "ok"), (BUSY, IDLE, 1.06, True, "unstable"), (BUSY, IDLE, 1.13, True, "regressed"),
        (BUSY, IDLE, 0.86, False, "ok"), (BUSY, IDLE, 0.82, False, "improved"),
        (BUSY, BUSY, 1.09, False, "ok"), (BUSY, BUSY, 1.11, True, "unstable"), (BUSY, BUSY, 0.86, False, "improved"),
        (IDLE, BUSY, 1.09, False, "ok"), (IDLE, BUSY, 1.11, True, "unstable"),
    ],
)  # fmt: skip
def test_less_is_expected_of_idle_cores_than_a_baseline_of_loaded_ones_says(
    before: float, now: float, factor: float, suspected: bool, kind: str
) -> None:
    found, verdict = judged(timed(before), timed(now, factor))
    assert (found, verdict.kind) == (suspected, kind)
    assert verdict.tolerance == pytest.approx(1.1 / 1.05 - 1 if (before, now) == (BUSY, IDLE) else 0.1)


def test_a_verdict_says_what_was_tolerated_and_why() -> None:
    _, verdict = judged(timed(0.6), timed(0.0))
    assert verdict.change == pytest.approx(0)
    low, high = (float(end) for end in re.findall(r"between (\S+)% and (\S+)% with", verdict.note)[0])
    assert low == pytest.approx(-high, abs=0.3)
    assert verdict.note.endswith("; less than 10% is tolerated, because the baseline was timed under load")
    assert "load" not in judged(timed(0.0), timed(0.0))[1].note


@pytest.mark.parametrize(("tolerance", "too_high"), [(0.2, 1.05), (0.1, 1.05), (0.05, 1.025), (0.01, 1.005)])
def test_a_narrow_tolerance_allows_for_less(tolerance: float, too_high: float) -> None:
    before = timed(0.6).latency
    assert before is not None
    assert expected(before, "relative", tolerance).estimate == pytest.approx(0.8 / too_high)


def test_of_a_ratio_to_the_calibration_step_nothing_is_taken() -> None:
    """A ResNet-18's was 8 % lower beside other work."""
    before, now = (timed(share, reference="calibration-2") for share in (0.6, 0.0))
    assert judged(before, now)[1].tolerance == pytest.approx(0.1)


def test_a_measurement_may_end_early_by_what_is_expected_of_idle_cores() -> None:
    decision = gate_of(timed(0.6)).decision(LORA)
    assert decision is not None
    assert decision.before["relative"].estimate == pytest.approx(0.8 / 1.05)
