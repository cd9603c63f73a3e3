"""The study of the latency gate's error rates: what it counts, and that it resumes. Its measurements are made up."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.slowdown import Decision
from peft_update_bench.bench.processes import child_process
from peft_update_bench.fixtures.instruments.latency.paired import SamplingLimits

from tests.helpers.records import LATENCY
from tests.studies import latency_study
from tests.studies.injected_slowdown import Slowdown
from tests.studies.latency_study import CELLS, EVERY_FIFTH, EVERY_ROUND, LOADS, Outcome, read, record, run, tables

pytestmark = pytest.mark.slow


def measurement(ratio: float, half_width: float = 0.015, median_s: float = 0.03) -> dict[str, Any]:
    interval = {"": ratio, "_low": ratio * math.exp(-half_width), "_high": ratio * math.exp(half_width)}
    entries = {f"{clock}{end}": value for clock in ("relative", "wall_relative") for end, value in interval.items()}
    return {**LATENCY, **entries, "median_s": median_s}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Slowdown]:
    """The slowdowns measured so far, each exactly as slow as it should be."""
    calls: list[Slowdown] = []

    def measure(_: Cell, slowdown: Slowdown, __: SamplingLimits, ___: Decision | None = None) -> dict[str, Any]:
        calls.append(slowdown)
        slower = 1 + slowdown.fraction
        return measurement(0.8 * slower, median_s=0.03 * slower)

    monkeypatch.setattr(latency_study, "_measure", measure)
    monkeypatch.setattr(child_process, "start_server", lambda _: None)
    return calls


BASELINES = {(load, cell): measurement(0.8) for load in LOADS for cell in CELLS}


def test_each_round_compares_the_same_code_and_a_slower_one(tmp_path: Path, measured: list[Slowdown]) -> None:
    path = tmp_path / "study.jsonl"
    run(path, "idle", range(4), BASELINES)
    assert [(o.recorded, o.round) for o in read(path) if o.number == 0] == [*product(LOADS, range(4))]
    outcomes = [outcome for outcome in read(path) if outcome.recorded == "loaded"]
    assert [outcome.slowdown for outcome in outcomes if outcome.round == 0] == [
        str(slowdown) for slowdown in EVERY_ROUND + EVERY_FIFTH
    ]
    assert [outcome.slowdown for outcome in outcomes if outcome.round == 3] == ["none", "none", "20% computing"]
    assert len({outcome.cell for outcome in outcomes}) == 4
    alarms = {outcome.slowdown: outcome.alarms(1) for outcome in outcomes}
    assert alarms == {
        "none": False,
        "5% computing": False,
        "10% computing": False,
        "20% computing": True,
        "50% computing": True,
        "20% sleeping": True,
    }
    # A suspected slowdown is measured again.
    assert measured.count(Slowdown(0.50)) == 4
    assert [outcome.confirmed for outcome in outcomes[:4]] == [False, False, True, False]


def test_what_is_there_is_not_measured_again(tmp_path: Path, measured: list[Slowdown]) -> None:
    path = tmp_path / "study.jsonl"
    run(path, "idle", range(2), BASELINES)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    measured.clear()
    run(path, "idle", range(2), BASELINES)
    # The one that was missing, which is suspected.
    assert measured == [Slowdown(0.20), Slowdown(0.20)]
    assert path.read_text().splitlines()[:-1] == "".join(lines[:-1]).splitlines()


@pytest.mark.usefixtures("measured")
def test_what_the_proof_does_not_ask_for_can_be_measured_later(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    run(path, "idle", range(1), BASELINES, every_fifth=())
    proof = len(read(path))
    assert {outcome.slowdown for outcome in read(path)} == {str(slowdown) for slowdown in EVERY_ROUND}
    run(path, "idle", range(1), BASELINES)
    assert len(read(path)) == proof + len(LOADS) * len(EVERY_FIFTH)


def test_a_baseline_is_recorded_once_a_cell(tmp_path: Path, measured: list[Slowdown]) -> None:
    path = tmp_path / "study.jsonl"
    first = dict(record(path, "loaded"))
    assert [*first] == [("loaded", cell) for cell in CELLS]
    assert dict(record(path, "loaded")) == first
    assert measured == [Slowdown()] * len(CELLS)


def outcome(
    load: str, *ratios: float, median_s: float = 0.03, half_width: float = 0.015, recorded: str = ""
) -> Outcome:
    """A comparison of the same code that measured `ratios`; of three, the last is to confirm the second."""
    before, now, *later = (measurement(ratio, half_width) for ratio in ratios)
    now["median_s"] = median_s
    return Outcome(load, 0, 0, "mobilenet_v2-fft", "none", bool(later), 1.0, [before, now, *later], recorded)


def test_tables_count_alarms_of_both_rules_and_what_is_unstable() -> None:
    text = tables(
        [
            outcome("idle", 1.0, 1.0, median_s=0.03299),
            outcome("idle", 1.0, 1.2, 1.16, median_s=0.03301),  # enough for a run's first, not for its fifth
            outcome("idle", 1.0, 1.3, 1.0),  # not confirmed
            outcome("idle", 1.0, 1.0, half_width=0.2),
            outcome("loaded", 1.0, 1.5, 1.5, median_s=0.0601),
        ]
    )
    idle, loaded = ([cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:4])
    assert idle == [
        "idle",
        "idle",
        "none",
        "4",
        "1 (0.6% to 80.6%)",
        "1",
        "0 (0.0% to 60.2%)",
        "0",
        "1 (0.6% to 80.6%)",
    ]
    always = "1 (2.5% to 100.0%)"
    assert loaded == ["loaded", "loaded", "none", "1", always, "0", always, "1", always]


def test_a_baseline_of_another_load_is_a_row_of_its_own() -> None:
    text = tables([outcome("idle", 1.0, 1.0, recorded=recorded) for recorded in ("loaded", "idle", "loaded")])
    rows = [[cell.strip() for cell in line.split("|")[1:5]] for line in text.splitlines()[2:4]]
    assert rows == [["idle", "idle", "none", "1"], ["loaded", "idle", "none", "2"]]


def test_what_sampling_does_not_explain_is_put_down_to_runs() -> None:
    half_width = 0.015
    sampling = math.sqrt(2) * half_width / NormalDist().inv_cdf(0.975)
    for spread, between in ((0.02, math.sqrt((0.02**2 - sampling**2) / 2)), (sampling / 2, 0.0)):
        ratios = [math.exp(spread / math.sqrt(2)), math.exp(-spread / math.sqrt(2))]
        text = tables([outcome("idle", 1.0, ratio, half_width=half_width) for ratio in ratios])
        rows = [line for line in text.splitlines() if line.startswith("| idle")][1:]
        assert {row.split("|")[7].strip() for row in rows[:2]} == {f"{between:.2%}"}
