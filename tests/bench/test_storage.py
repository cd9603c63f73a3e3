"""Saving: complete or not at all, at the storage's root, never over another file."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from peft_update_bench.bench.storage import BaselineStorage
from pytest_benchmark.logger import Logger


def storage(folder: Path) -> BaselineStorage:
    return BaselineStorage(folder, Logger(Logger.QUIET), "machine")  # type: ignore[no-untyped-call]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_numbers_go_on_at_the_root(tmp_path: Path) -> None:
    folder = tmp_path / "baselines"
    for number in (1, 2):
        storage(folder).save({"run": number}, "baseline")
    assert names(folder) == ["0001_baseline.json", "0002_baseline.json"]
    assert json.loads((folder / "0002_baseline.json").read_text()) == {"run": 2}


def test_other_benchmarks_folders_beside_it_have_numbers_of_their_own(tmp_path: Path) -> None:
    """The plugin's own numbering takes the last path of all: that of a folder, and so a number that is taken."""
    storage(tmp_path / "instructions").save({"run": 0}, "baseline")
    for number in (1, 2, 3):
        storage(tmp_path).save({"run": number}, "baseline")
        assert (tmp_path / f"{number:04}_baseline.json").exists()
    assert names(tmp_path / "instructions") == ["0001_baseline.json"]


def test_two_runs_at_the_same_time_both_survive(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: storage(tmp_path).save({"run": number}, "baseline"), range(8)))
    saved = [json.loads(path.read_text())["run"] for path in tmp_path.iterdir()]
    assert sorted(saved) == list(range(8))
    assert names(tmp_path) == [f"{number:04}_baseline.json" for number in range(1, 9)]


@pytest.mark.parametrize("stage", ["os.fsync", "os.link"])
def test_an_interrupted_save_leaves_nothing(tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage(tmp_path).save({"run": 1}, "baseline")

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, interrupted)
    with pytest.raises(KeyboardInterrupt):
        storage(tmp_path).save({"run": 2}, "baseline")
    assert names(tmp_path) == ["0001_baseline.json"]


def test_what_a_kill_leaves_is_never_read(tmp_path: Path) -> None:
    """SIGKILL leaves the temporary file: hidden, and with a suffix that no reader looks for."""
    from peft_update_bench.bench.gate.baseline import BaselineError, find

    (tmp_path / ".0001_baseline.json.partial").write_text("{")
    with pytest.raises(BaselineError, match="no baseline"):
        find(tmp_path, None, "machine")
    storage(tmp_path).save({"run": 1}, "baseline")
    assert find(tmp_path, None, "machine").name == "0001_baseline.json"


def test_a_number_that_another_run_has_just_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between looking for a free number and taking it, another run takes it: the next one is tried."""
    link = os.link
    taken: list[Path] = []

    def overtaken(source: str, target: Path) -> None:
        if not taken:
            taken.append(target)
            target.write_text('{"run": "another"}')
        link(source, target)

    monkeypatch.setattr("os.link", overtaken)
    storage(tmp_path).save({"run": 1}, "baseline")
    assert names(tmp_path) == ["0001_baseline.json", "0002_baseline.json"]
    assert json.loads((tmp_path / "0001_baseline.json").read_text()) == {"run": "another"}


def test_the_unfinished_file_is_hidden_and_beside_the_finished_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside it, because a link cannot cross file systems; hidden and with another ending, so that nobody reads it."""
    seen: list[str] = []
    monkeypatch.setattr("os.fsync", lambda _: seen.extend(names(tmp_path / "new" / "folder")))
    storage(tmp_path / "new" / "folder").save({"name": "é"}, "baseline")
    (unfinished,) = seen
    assert unfinished.startswith(".")
    assert unfinished.endswith(".partial")
    saved = tmp_path / "new" / "folder" / "0001_baseline.json"
    assert saved.stat().st_mode & 0o777 == 0o644
    assert saved.read_bytes() == b'{\n "name": "\\u00e9"\n}\n'


def test_a_folder_that_went_away_during_the_run_is_made_again(tmp_path: Path) -> None:
    kept = storage(tmp_path / "new" / "folder")
    shutil.rmtree(tmp_path / "new")
    kept.save({"run": 1}, "baseline")
    assert names(tmp_path / "new" / "folder") == ["0001_baseline.json"]
    assert kept.failure == ""


def test_where_it_was_saved_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    kept = storage(tmp_path)
    monkeypatch.setattr(kept.logger, "info", said.append)
    kept.save({"run": 1}, "baseline")
    assert said == [f"Saved benchmark data in: {tmp_path / '0001_baseline.json'}"]


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    full = storage(tmp_path / "file" / "folder")
    full.save({}, "baseline")
    assert full.failure == f"{tmp_path / 'file' / 'folder'} cannot be written to (Not a directory)"
