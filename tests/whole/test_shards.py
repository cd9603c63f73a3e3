"""Parts of a run, and cells beside each other: what comes of them is what one process finds in one run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from peft_update_bench.bench.__main__ import main

from tests.whole.test_run import Suite, suite

__all__ = ["suite"]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm_operators")]

CELLS = ("--image-size=64", "--architectures=mobilenet_v3_small,squeezenet1_1", "--methods=fft,lora", "--ranks=4")


def recorded(suite: Suite, path: Path, *options: str) -> dict[str, Any]:
    suite(*CELLS, f"--benchmark-json={path}", *options, small=False).assert_outcomes(passed=2 if options[1:] else 4)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def figures(run: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(entry["fullname"], entry["extra_info"]) for entry in run["benchmarks"]]


def test_shards_joined_equal_the_whole_run_figure_by_figure(
    suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = recorded(suite, tmp_path / "whole.json", "--workers=1")
    for number in (1, 2):
        recorded(suite, tmp_path / f"{number}.json", "--workers=1", f"--shard={number}/2")
    paths = [str(tmp_path / name) for name in ("2.json", "1.json")]
    capsys.readouterr()
    compare = ["--compare", str(tmp_path / "whole.json")]
    assert main(["merge", *paths, "--output", str(tmp_path / "all.json"), *compare]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "4 cells, against whole.json: 4 ok"
    joined = json.loads((tmp_path / "all.json").read_text())
    assert figures(joined) == figures(whole)
    assert joined["suite"] == whole["suite"] == {"matrix": "core", "is_filtered": True}


def test_cells_beside_each_other_are_what_one_process_finds(suite: Suite, tmp_path: Path) -> None:
    alone, beside = (recorded(suite, tmp_path / f"{n}.json", f"--workers={n}") for n in (1, 2))
    assert figures(alone) == figures(beside)
    assert {entry["group"].partition(" (")[2] for entry in beside["benchmarks"]} == {
        "time spent waiting; cells are measured beside each other)"
    }
