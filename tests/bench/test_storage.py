"""Saving: complete or not at all, at the storage's root, never over another file."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from peft_update_bench.bench.storage import BaselineStorage, text_of
from pytest_benchmark.logger import Logger
from pytest_benchmark.stats import Stats
from pytest_benchmark.utils import ALLOWED_COLUMNS

BASELINES = Path(__file__).parents[2] / "baselines"


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


def test_a_file_system_without_links_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    for number in (1, 2):
        storage(tmp_path).save({"run": number}, "baseline")
    assert names(tmp_path) == ["0001_baseline.json", "0002_baseline.json"]
    assert json.loads((tmp_path / "0002_baseline.json").read_text()) == {"run": 2}


def test_a_storage_outside_the_current_folder_has_a_location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin asks for it where the baseline is of another machine."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert storage(tmp_path / "elsewhere").location == str(tmp_path / "elsewhere")


def test_other_benchmarks_folders_beside_it_have_numbers_of_their_own(tmp_path: Path) -> None:
    """The plugin's own numbering takes the last path of all: that of a folder, and so a number that is taken."""
    storage(tmp_path / "instructions").save({"run": 0}, "baseline")
    for number in (1, 2, 3):
        storage(tmp_path).save({"run": number}, "baseline")
        assert (tmp_path / f"{number:04}_baseline.json").exists()
    assert names(tmp_path / "instructions") == ["0001_baseline.json"]


def entry(name: str, **more: Any) -> dict[str, Any]:
    """One of pytest-benchmark's entries, with what its own tools read."""
    stats = dict.fromkeys(Stats.fields, 0.5) | {"rounds": 3, "outliers": "0;0", "iterations": 1}
    return {
        "name": name, "group": "g", "params": {"rank": 4}, "param": "4", "fullname": f"bench/test_update.py::{name}",
        "extra_info": {"b": 1, "a": {"d": 1, "c": 2}}, "options": {"timer": "perf_counter"}, "stats": stats, **more,
    }  # fmt: skip


def test_an_entry_is_a_line_with_sorted_keys(tmp_path: Path) -> None:
    data = {"version": "5", "benchmarks": [entry("a[1]"), entry("a[2]")], "machine_info": {"b": 1, "a": 2}}
    storage(tmp_path).save(data, "baseline")
    lines = (tmp_path / "0001_baseline.json").read_text().splitlines()
    assert lines[:5] == [
        "{", ' "version": "5",', ' "machine_info": {"a": 2, "b": 1},', ' "options": {"timer": "perf_counter"},',
        ' "benchmarks": [',
    ]  # fmt: skip
    assert lines[5].startswith(
        '  {"extra_info": {"a": {"c": 2, "d": 1}, "b": 1}, "fullname": "bench/test_update.py::a[1'
    )
    assert lines[6].startswith("  {")
    assert lines[7:] == [" ]", "}"]


def test_nothing_is_lost_but_the_settings_that_every_entry_repeats() -> None:
    for entries in ([], [entry("a"), entry("b")], [entry("a"), entry("b", options={"timer": "another"})]):
        data = {"version": "5", "benchmarks": entries}
        again = json.loads(text_of(data))
        shared = again.pop("options", None)
        for one in again["benchmarks"]:
            one.setdefault("options", shared)
        assert again == data


def test_pytest_benchmarks_own_tools_read_it(tmp_path: Path) -> None:
    """The command that compares, with every column, its CSV file and its histogram."""
    for seconds in (0.5, 0.6):
        stats = entry("a")["stats"] | {"median": seconds}
        storage(tmp_path).save({"version": "5", "benchmarks": [entry("a", stats=stats)]}, "baseline")
    files = sorted(map(str, tmp_path.glob("*.json")))
    columns = ",".join(ALLOWED_COLUMNS)
    options = [f"--columns={columns}", f"--csv={tmp_path / 'a.csv'}", f"--histogram={tmp_path / 'drawn'}"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "pytest_benchmark", "compare", *options, *files],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 tests" in done.stdout
    assert "600.0000" in done.stdout
    header, *rows = (tmp_path / "a.csv").read_text().splitlines()
    assert header.startswith("name,param:rank,min,")
    assert len(rows) == 2
    assert (tmp_path / "drawn-g.svg").exists()


@pytest.mark.parametrize("path", sorted(BASELINES.rglob("*.json")), ids=lambda path: str(path.relative_to(BASELINES)))
def test_committed_baselines_can_be_reviewed(path: Path) -> None:
    """As the writer writes them, at most 200 lines, and named by git's attributes."""
    content = path.read_text()
    assert text_of(json.loads(content)) == content
    assert content.count("\n") <= 200
    done = subprocess.run(
        ["git", "check-attr", "merge", "diff", "linguist-generated", "--", path],
        cwd=BASELINES, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        said = [line.rpartition(": ")[2] for line in done.stdout.splitlines()]
        assert said == ["unset", "update-bench", "set"]


def test_two_recordings_of_one_number_conflict_whole(tmp_path: Path) -> None:
    """git keeps one of them, readable, and says that there is a conflict."""

    def git(*words: str) -> int:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.invalid", "-c", "init.defaultBranch=main"]
        return subprocess.run(["git", *identity, *words], cwd=tmp_path, capture_output=True, check=False).returncode

    def record(branch: str, value: int) -> Path:
        git("switch", "-c", branch, "main")
        storage(tmp_path / "baselines").save({"benchmarks": [entry("a", extra_info={"run": value})]}, "baseline")
        git("add", ".")
        git("commit", "-m", branch)
        return tmp_path / "baselines" / "0001_baseline.json"

    git("init")
    (tmp_path / ".gitattributes").write_text((BASELINES.parent / ".gitattributes").read_text())
    git("add", ".")
    assert git("commit", "-m", "attributes") == 0
    record("theirs", 1)
    path = record("ours", 2)
    ours = path.read_text()
    assert git("merge", "theirs") == 1, "a conflict"
    assert path.read_text() == ours
    assert git("checkout", "--theirs", str(path)) == 0
    assert json.loads(path.read_text())["benchmarks"][0]["extra_info"] == {"run": 1}


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
    from peft_update_bench.bench.gate.baseline import BaselineError
    from peft_update_bench.bench.gate.baseline_file import find

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
