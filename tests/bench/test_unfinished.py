"""What a run has finished is found by the next under the same conditions and key, and by nobody else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from peft_update_bench.bench.unfinished import MOST_RUNS, Unfinished

KEYS = {seed: {"cell": "resnet18-fft", "seed": seed} for seed in (0, 1)}


def unfinished(folder: Path, code: str = "1", keys: Mapping[int, Mapping[str, Any]] = KEYS) -> Unfinished[int]:
    return Unfinished(folder, {"code": code}, keys)


@pytest.fixture
def kept(tmp_path: Path) -> Unfinished[int]:
    found = unfinished(tmp_path)
    found.keep(0, {"total": 3})
    return found


@pytest.mark.usefixtures("kept")
def test_it_is_found_again(tmp_path: Path) -> None:
    assert unfinished(tmp_path).find(0) == {"total": 3}


@pytest.mark.usefixtures("kept")
def test_other_conditions_or_another_key_find_nothing(tmp_path: Path) -> None:
    assert unfinished(tmp_path, "2").find(0) is None
    assert unfinished(tmp_path).find(1) is None
    assert unfinished(tmp_path, keys={0: {**KEYS[0], "rank": 4}}).find(0) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"key": {}, "result": 4}'])
def test_a_damaged_file_is_nothing(content: bytes, kept: Unfinished[int]) -> None:
    (path,) = kept.folder.iterdir()
    path.write_bytes(content)
    assert kept.find(0) is None


def test_it_stays_until_all_was_handed_out_and_is_then_forgotten(kept: Unfinished[int]) -> None:
    kept.keep(1, 4)
    kept.hand_out(0)
    kept.forget()
    assert (kept.find(0), kept.find(1)) == ({"total": 3}, 4)
    kept.hand_out(1)
    kept.forget()
    assert not kept.folder.exists()


def test_what_another_run_has_kept_under_the_same_conditions_stays(kept: Unfinished[int], tmp_path: Path) -> None:
    other = unfinished(tmp_path, keys={1: KEYS[1]})
    other.keep(1, 4)
    other.hand_out(1)
    other.forget()
    assert (kept.find(0), kept.find(1)) == ({"total": 3}, None)


def test_only_the_newest_runs_are_kept(tmp_path: Path) -> None:
    runs = tmp_path / "unfinished"
    for number in range(MOST_RUNS):
        (runs / str(number)).mkdir(parents=True)
        os.utime(runs / str(number), (number, number))
    newest = unfinished(tmp_path)
    for seed in KEYS:
        newest.keep(seed, 3)
    assert {path.name for path in runs.iterdir()} == {*map(str, range(1, MOST_RUNS)), newest.folder.name}
