"""What a run has finished is found by the next under the same conditions and key, and by nobody else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from peft_update_bench.bench.unfinished import MOST_RUNS, Unfinished

KEY = {"cell": "resnet18-fft", "seed": 0}


@pytest.fixture
def kept(tmp_path: Path) -> Unfinished:
    unfinished = Unfinished(tmp_path, {"code": "1"})
    unfinished.keep(KEY, {"total": 3})
    return unfinished


@pytest.mark.usefixtures("kept")
def test_it_is_found_again(tmp_path: Path) -> None:
    assert Unfinished(tmp_path, {"code": "1"}).find(KEY) == {"total": 3}


def test_other_conditions_or_another_key_find_nothing(kept: Unfinished, tmp_path: Path) -> None:
    assert Unfinished(tmp_path, {"code": "2"}).find(KEY) is None
    assert kept.find({**KEY, "seed": 1}) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"key": {}, "result": 4}'])
def test_a_damaged_file_is_nothing(content: bytes, kept: Unfinished) -> None:
    (path,) = kept.folder.iterdir()
    path.write_bytes(content)
    assert kept.find(KEY) is None


def test_what_is_dropped_leaves_no_folder(kept: Unfinished) -> None:
    kept.keep({**KEY, "seed": 1}, 4)
    kept.drop([KEY])
    assert kept.find(KEY) is None
    assert kept.find({**KEY, "seed": 1}) == 4
    kept.drop([KEY, {**KEY, "seed": 1}])
    assert not kept.folder.exists()


def test_only_the_newest_runs_are_kept(tmp_path: Path) -> None:
    runs = tmp_path / "unfinished"
    for number in range(MOST_RUNS):
        (runs / str(number)).mkdir(parents=True)
        os.utime(runs / str(number), (number, number))
    unfinished = Unfinished(tmp_path, {"code": "1"})
    for seed in (0, 1):
        unfinished.keep({**KEY, "seed": seed}, 3)
    assert {path.name for path in runs.iterdir()} == {*map(str, range(1, MOST_RUNS)), unfinished.folder.name}
