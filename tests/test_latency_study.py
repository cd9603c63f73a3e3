"""The study of the latency gate's error rates: what it counts, and that it resumes. Its measurements are made up."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.cells import Cell
from fixtures.instruments import child_process
from tests.studies import latency_study
from tests.studies.injected import Slowdown
from tests.studies.latency_study import CORE_COMPARISONS, EVERY_FIFTH, EVERY_ROUND, Outcome, read, run, tables


def measurement(ratio: float, half_width: float = 0.015, median_s: float = 0.03) -> dict[str, Any]:
    interval = {"": ratio, "_low": ratio * math.exp(-half_width), "_high": ratio * math.exp(half_width)}
    entries = {f"{clock}{end}": value for clock in ("relative", "wall_relative") for end, value in interval.items()}
    return {**entries, "confidence": 0.95, "median_s": median_s}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Slowdown]:
    """The slowdowns measured so far, each exactly as slow as it should be."""
    calls: list[Slowdown] = []

    def measure(_: Cell, slowdown: Slowdown) -> dict[str, Any]:
        calls.append(slowdown)
        slower = 1 + slowdown.fraction
        return measurement(0.8 * slower, median_s=0.03 * slower)

    monkeypatch.setattr(latency_study, "_measure", measure)
    monkeypatch.setattr(child_process, "start_server", lambda _: None)
    return calls


def test_the_core_matrix_makes_96_comparisons() -> None:
    assert CORE_COMPARISONS == 96


def test_each_round_compares_the_same_code_and_a_slower_one(tmp_path: Path, measured: list[Slowdown]) -> None:
    path = tmp_path / "study.jsonl"
    run(path, "idle", rounds=4)
    outcomes = read(path)
    assert [outcome.slowdown for outcome in outcomes if outcome.round == 0] == [
        str(slowdown) for slowdown in EVERY_ROUND + EVERY_FIFTH
    ]
    assert [outcome.slowdown for outcome in outcomes if outcome.round == 3] == ["none", "20% computing"]
    assert len({outcome.cell for outcome in outcomes}) == 4
    alarms = {outcome.slowdown: outcome.alarms for outcome in outcomes}
    assert alarms == {
        "none": False,
        "5% computing": False,
        "10% computing": False,
        "20% computing": True,
        "50% computing": True,
        "20% sleeping": True,
    }
    # A suspected slowdown is measured again.
    assert measured.count(Slowdown(0.50)) == 2
    assert [outcome.measured_again for outcome in outcomes[:3]] == [False, True, False]


def test_what_is_there_is_not_measured_again(tmp_path: Path, measured: list[Slowdown]) -> None:
    path = tmp_path / "study.jsonl"
    run(path, "idle", rounds=2)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    measured.clear()
    run(path, "idle", rounds=2)
    # The baseline and the one that was missing, which is suspected.
    assert measured == [Slowdown(), Slowdown(0.20), Slowdown(0.20)]
    assert path.read_text().splitlines()[:-1] == "".join(lines[:-1]).splitlines()


def outcome(**different: Any) -> Outcome:
    same = Outcome(
        load="idle",
        round=0,
        cell="mobilenet_v2-fft",
        slowdown="none",
        kinds={"CPU time": "ok", "wall clock": "ok"},
        changes={"CPU time": 0.0, "wall clock": 0.0},
        sampling_errors={"CPU time": 0.0, "wall clock": 0.0},
        stock_change=0.0,
        measured_again=False,
        seconds=1.0,
        measurements=[],
    )
    return replace(same, **different)


def test_tables_count_alarms_of_both_rules_and_what_is_unstable() -> None:
    alarm, wide = {"CPU time": "ok", "wall clock": "regressed"}, {"CPU time": "unstable", "wall clock": "ok"}
    text = tables(
        [
            outcome(),
            outcome(kinds=alarm, stock_change=0.1001),
            outcome(kinds=wide, stock_change=0.0999),
            outcome(load="loaded", kinds={**alarm, "CPU time": "unstable"}),
        ]
    )
    idle, loaded = (line.split("|")[1:-1] for line in text.splitlines()[2:4])
    assert [cell.strip() for cell in idle] == [
        "idle", "none", "3", "1 (0.8% to 90.6%)", "1", "1 (0.8% to 90.6%)",
    ]  # fmt: skip
    assert [cell.strip() for cell in loaded] == ["loaded", "none", "1", "1 (2.5% to 100.0%)", "0", "0 (0.0% to 97.5%)"]


def test_what_sampling_does_not_explain_is_put_down_to_runs() -> None:
    spread, sampling = 0.02, 0.01
    changes = [math.expm1(spread / math.sqrt(2)), math.expm1(-spread / math.sqrt(2))]
    outcomes = [
        outcome(changes=dict.fromkeys(("CPU time", "wall clock"), change), sampling_errors={
            "CPU time": sampling, "wall clock": 2 * spread,
        })
        for change in changes
    ]  # fmt: skip
    rows = [line for line in tables(outcomes).splitlines() if line.startswith("| idle")][1:]
    assert rows[0].split("|")[6].strip() == f"{math.sqrt((spread**2 - sampling**2) / 2):.2%}"
    assert rows[1].split("|")[6].strip() == "0.00%"
