"""Changes of level in noise: found where they are, and not where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peft_update_bench.bench.__main__ import main
from peft_update_bench.bench.commands.report.change_points import MIN_RUNS, change_points

from tests.bench.commands.report.test_figures import stepped
from tests.helpers.records import write

SERIES = 100


def noisy(seed: int, *levels: tuple[int, float], spread: float = 0.02) -> list[float]:
    """Runs at each of `levels`, a number of runs and a figure, with noise that multiplies."""
    random = np.random.default_rng(seed)
    return [level * float(np.exp(random.normal(0, spread))) for runs, level in levels for _ in range(runs)]


@pytest.mark.parametrize("runs", [8, 20, 40])
def test_noise_alone_has_few_changes_of_level(runs: int) -> None:
    false = sum(bool(change_points(noisy(seed, (runs, 1.0)))) for seed in range(SERIES))
    assert false <= 0.02 * SERIES


def test_a_change_of_five_spreads_is_found_where_it_is() -> None:
    found = [change_points(noisy(seed, (10, 1.0), (10, 1.1))) for seed in range(SERIES)]
    right = [places for places in found if [place for place, _ in places] == [10]]
    assert len(right) >= 0.9 * SERIES
    assert np.mean([places[0][1] for places in right]) == pytest.approx(0.1, abs=0.01)


def test_a_level_is_one_of_enough_runs() -> None:
    quiet = [1.0] * MIN_RUNS + [1.2] * MIN_RUNS
    ((place, change),) = change_points(quiet)
    assert place == MIN_RUNS
    assert change == pytest.approx(0.2)
    assert change_points(quiet[:-1]) == []
    assert change_points([]) == []


def test_what_hardly_changes_is_not_told() -> None:
    assert change_points([1.0] * 20 + [1.0049] * 20) == []
    assert len(change_points([1.0] * 20 + [1.0051] * 20)) == 1


def latencies(run_file: Path, folder: Path, values: list[float]) -> Path:
    """Runs of as many days whose second cell has these latencies."""
    data: dict[str, Any] = json.loads(run_file.read_text())
    folder.mkdir()
    for day, value in enumerate(values, start=1):
        run = stepped(data, f"{day:x}", day)
        figures = run["benchmarks"][-1]["extra_info"]["latency"]
        for clock in ("relative", "wall_relative"):
            figures |= {clock: value, f"{clock}_low": value * 0.98, f"{clock}_high": value * 1.02}
        write(folder / f"{day:02}.json", run)
    return folder


def test_the_page_names_the_run_at_which_a_level_begins(run_file: Path, tmp_path: Path) -> None:
    """By 6 %, which no tolerance notices."""
    folder = latencies(run_file, tmp_path / "runs", noisy(1, (6, 0.80), (6, 0.848), spread=0.005))
    page = tmp_path / "page.html"
    assert main(["report", "--history", str(folder), "--output", str(page), "--no-claims"]) == 0
    html = page.read_text()
    assert "12 runs from 111111111 to ccccccccc: no figure stepped." in html
    assert "The level of measured figures changed in 2 places" in html, "one by each clock"
    rows = [line for line in html.splitlines() if "latency.relative" in line and "<tr>" in line]
    (row,) = rows
    for text in ("777777777", "resnet18-lora-r4", "+6."):
        assert text in row


def test_without_the_extra_the_page_says_so(run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peft_update_bench.bench.commands.report.change_points.find_spec", lambda _: None)
    folder = latencies(run_file, tmp_path / "runs", [0.8] * 6 + [0.85] * 6)
    page = tmp_path / "page.html"
    assert main(["report", "--history", str(folder), "--output", str(page), "--no-claims"]) == 0
    html = page.read_text()
    assert "level were not looked for: pip install" in html
    assert 'id="levels"' not in html
