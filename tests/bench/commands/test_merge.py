"""The files of a run's shards as one: what is joined, what is refused and in which words, and the one verdict."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from peft_update_bench.bench.__main__ import main
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.record import read_record

from tests.helpers.adaptation_records import adapted
from tests.helpers.records import VERSIONS, WORKLOAD, baseline_data, changed, extra_info, write

CELLS = [Cell(name, method) for name in ("resnet18", "mobilenet_v2", "squeezenet1_1") for method in ("fft", "head")]
COMPUTED = {"latency": None, "measured_memory": None, "first_step": None}


def recorded(cells: Sequence[Cell], **parts: Any) -> dict[str, Any]:
    data = baseline_data(*(extra_info(cell, **{**COMPUTED, **parts}) for cell in cells))
    for entry, cell in zip(data["benchmarks"], cells, strict=True):
        entry["param"] = str(cell)
    return {**data, "commit_info": {"id": "0123456789abcdef"}, "datetime": "2026-11-25T12:00:00"}


@pytest.fixture
def shard(tmp_path: Path) -> Callable[..., Path]:
    """Writes the file of a shard of three, whose records have `parts`; `said` changes what it says of itself."""

    def written(number: int, *, said: dict[str, Any] | None = None, name: str = "", **parts: Any) -> Path:
        data = recorded(CELLS[2 * number - 2 : 2 * number], **parts)
        data["suite"] = {
            "matrix": "full",
            "is_filtered": True,
            "shard": {
                "number": number,
                "of": 3,
                "metrics": ["flops", "memory"],
                "cells": [*map(str, CELLS)],
                "is_filtered": False,
                "record_command": "pytest --benchmark-save=baseline",
                **(said or {}),
            },
        }
        return write(tmp_path / (name or f"{number}.json"), data)

    return written


def merge(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main(["merge", *map(str, words)])
    said = capsys.readouterr()
    return status, said.out, said.err


def refusal(capsys: pytest.CaptureFixture[str], tmp_path: Path, *paths: Path) -> str:
    """What is said of files that are not joined: one line, and nothing is written."""
    status, out, err = merge(capsys, *paths, "--output", tmp_path / "all.json")
    assert (status, out, (tmp_path / "all.json").exists()) == (2, "", False)
    assert err.startswith("update-bench merge: ")
    assert err.count("\n") == 1
    return err.replace(f"{tmp_path}/", "")


def test_all_shards_are_what_one_run_would_have_written(
    shard: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / "all.json"
    assert merge(capsys, shard(3), shard(1), shard(2), "--output", whole) == (0, f"{whole}: 6 cells of 3 shards\n", "")
    data = json.loads(whole.read_text())
    assert data == {**recorded(CELLS), "suite": {"matrix": "full", "is_filtered": False}}


def test_shards_are_read_from_pipes(
    shard: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What ``update-bench merge <(zcat 1.json.gz) …`` gives it."""
    reading, writing = os.pipe()
    os.write(writing, shard(1).read_bytes())  # less than a pipe holds
    os.close(writing)
    status, out, err = merge(capsys, f"/dev/fd/{reading}", shard(2), shard(3), "--output", tmp_path / "all.json")
    os.close(reading)
    assert (status, out, err) == (0, f"{tmp_path / 'all.json'}: 6 cells of 3 shards\n", "")


def test_a_date_of_another_type_is_no_error(
    shard: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = shard(1)
    write(first, {**json.loads(first.read_text()), "datetime": 1764})
    assert merge(capsys, first, shard(2), shard(3), "--output", tmp_path / "all.json")[0] == 0


def test_two_of_three_name_the_one_that_never_ran(
    shard: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    err = refusal(capsys, tmp_path, shard(1), shard(3))
    assert "shard 2/3 never ran, or its file is not named; expected all 3 files" in err
    assert "shard 1/3 and 3/3 never ran" in refusal(capsys, tmp_path, shard(2))


def test_the_same_twice_is_refused(
    shard: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = shard(2, name="again.json")
    err = refusal(capsys, tmp_path, shard(1), shard(2), again, shard(3))
    assert "2.json and again.json are both shard 2/3; expected each once" in err


@pytest.mark.parametrize(
    ("said", "parts", "complaint"),
    [
        (
            {},
            {"versions": {**VERSIONS, "torch": "2.15.0"}},
            "were made with other packages: torch 2.14.1, and 2.15.0; expected",
        ),
        (
            {},
            {"workload": {**WORKLOAD, "batch_size": 8}},
            "are of two workloads: batch_size 1, and 8; expected the shards",
        ),
        ({"of": 4}, {}, "are of two runs: number of shards 3, and 4; expected one run's"),
        ({"metrics": ["flops"]}, {}, "are of two runs: metrics flops, memory, and flops; expected one run's"),
        (
            {"cells": ["resnet18-fft"]},
            {},
            "are of two runs: cells resnet18-fft, resnet18-head, mobilenet_v2-fft and 3 more, and",
        ),
        ({"cells": [*map(str, CELLS[:5]), "x"]}, {}, "are of runs of other cells"),
        ({"is_filtered": True}, {}, "are of runs of other cells"),
    ],
)
def test_shards_of_two_runs_are_refused(
    shard: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    said: dict[str, Any],
    parts: dict[str, Any],
    complaint: str,
) -> None:
    err = refusal(capsys, tmp_path, shard(1), shard(2), shard(3, said=said, **parts))
    assert f"1.json and 3.json {complaint}" in err


def of_two_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str], *records: dict[str, Any]) -> str:
    """What is said of two shards of a cell each."""
    cells = [str(read_record(one).cell) for one in records]
    for number, one in enumerate(records, 1):
        said = {"number": number, "of": 2, "metrics": ["flops"], "cells": cells, "is_filtered": True}
        said["record_command"] = "pytest --benchmark-save=baseline"
        data = {**baseline_data(one), "suite": {"matrix": "core", "is_filtered": True, "shard": said}}
        write(tmp_path / f"{number}.json", data)
    return refusal(capsys, tmp_path, tmp_path / "1.json", tmp_path / "2.json")


def test_users_own_networks_under_two_workloads_are_of_two_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their optimizer and dtype may be their own, the batch and its images are the run's."""
    one = extra_info(Cell("mine:small", "fft"), **COMPUTED)
    other = {**WORKLOAD, "image_size": 32, "optimizer": "SGD"}
    err = of_two_runs(tmp_path, capsys, one, extra_info(Cell("mine:large", "fft"), **COMPUTED, workload=other))
    assert "1.json and 2.json are of two workloads: image_size 224, and 32; expected the shards of one run" in err


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda adaptation: adaptation["settings"].update(severity=5), "severity of shift 3, and 5"),
        (lambda adaptation: adaptation["runs"][0].update(seed=7), "seeds of shift [0], and [7]"),
        (lambda adaptation: adaptation.update(learning_rate=0.25), "learning rate of head 0.001, and 0.25"),
    ],
)
def test_two_adaptations_are_no_one_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[dict[str, Any]], object], complaint: str
) -> None:
    one, other = (adapted(Cell(name, "head", task="shift"), 0.5, 0.6).as_extra_info() for name in ("a", "b"))
    change(other["adaptation"])
    err = of_two_runs(tmp_path, capsys, one, other)
    assert f"1.json and 2.json are of two workloads: {complaint}; expected the shards of one run" in err


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    data = json.loads(path.read_text())
    change(data)
    return write(path, data)


def test_another_commit_is_refused(
    shard: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = edit(shard(3), lambda data: data.update(commit_info={"id": "fedcba9876543210"}))
    err = refusal(capsys, tmp_path, shard(1), shard(2), other)
    assert "1.json and 3.json are of two runs: commit 012345678, and fedcba987; expected one run's" in err


def dirty(path: Path) -> Path:
    """As pytest-benchmark writes it where git describe --dirty says so."""
    return edit(path, lambda data: data["commit_info"].update(dirty=True))


def test_changes_that_are_not_committed_are_refused_unless_they_are_said_to_be_the_same(
    shard: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [dirty(shard(number)) for number in (1, 2, 3)]
    err = refusal(capsys, tmp_path, *paths)
    assert "1.json was made with changes that are not committed; expected a commit, because it cannot be told" in err
    assert "commit them and run the shards again, or say --uncommitted same where they had" in err
    whole = tmp_path / "all.json"
    assert merge(capsys, *paths, "--uncommitted", "same", "--output", whole)[0] == 0
    assert json.loads(whole.read_text())["commit_info"] == {"id": "0123456789abcdef", "dirty": True}


@pytest.mark.parametrize("words", [(), ("--uncommitted", "same")])
def test_one_shard_with_changes_among_others_is_of_another_run(
    shard: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    paths = shard(1), edit(shard(2), lambda data: data["commit_info"].update(dirty=False)), dirty(shard(3))
    status, _, err = merge(capsys, *paths, *words, "--output", tmp_path / "all.json")
    assert (status, err.count("\n"), (tmp_path / "all.json").exists()) == (2, 1, False)
    assert "3.json are of two runs: commit 012345678, and 012345678 with changes that are not committed; exp" in err


def test_a_cell_that_failed_in_its_shard_is_named(
    shard: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking = edit(shard(2), lambda data: data["benchmarks"].pop())
    err = refusal(capsys, tmp_path, shard(1), lacking, shard(3))
    assert "mobilenet_v2-head of the run is in no file: it failed in its shard, or was left out; expected every" in err


def test_a_cell_in_two_shards_and_one_of_no_run_are_refused(
    shard: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = json.loads(shard(1).read_text())["benchmarks"]
    both = edit(shard(2), lambda data: data["benchmarks"].extend(first))
    err = refusal(capsys, tmp_path, shard(1), both, shard(3))
    assert "resnet18-fft is in 1.json and in 2.json; expected each cell once" in err
    stranger = recorded([Cell("regnet_y_400mf", "fft")])["benchmarks"]
    strange = edit(shard(2), lambda data: data["benchmarks"].extend(stranger))
    assert "2.json: regnet_y_400mf-fft is no cell of the run" in refusal(capsys, tmp_path, shard(1), strange, shard(3))


def test_measured_figures_of_two_machines_are_no_one_run(
    shard: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def elsewhere(data: dict[str, Any]) -> None:
        data["machine_info"]["cpu"]["count"] = 4

    timed = {"said": {"metrics": ["first_step"]}, "first_step": {"seconds": 0.2}}
    paths = [shard(1, **timed), shard(2, **timed), edit(shard(3, **timed), elsewhere)]
    err = refusal(capsys, tmp_path, *paths)
    assert "1.json was measured on A CPU, 2 cores, 3.json on A CPU, 4 cores; expected machines that are alike" in err
    edit(shard(3), elsewhere)
    assert merge(capsys, shard(1), shard(2), tmp_path / "3.json", "--output", tmp_path / "all.json")[0] == 0


def test_figures_of_two_gpus_are_no_one_run(
    shard: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    timed = {"said": {"metrics": ["first_step"]}, "first_step": {"seconds": 0.2}}
    paths = [shard(1, **timed, gpu="A GPU"), shard(2, **timed, gpu="A GPU"), shard(3, **timed, gpu="Another")]
    err = refusal(capsys, tmp_path, *paths)
    assert "1.json was measured on A GPU, 3.json on Another; expected machines that are alike" in err
    paths[2] = shard(3, **timed, gpu="A GPU")
    assert merge(capsys, *paths, "--output", tmp_path / "all.json")[0] == 0


@pytest.mark.parametrize(
    ("suite", "complaint"),
    [
        ({}, "1.json: is of no shard; expected what pytest bench --shard 1/3"),
        ({"shard": {"number": 1}}, "1.json: suite.shard.of: Field required"),
        (
            {"shard": {"number": 0, "of": 3, "metrics": [], "cells": [], "is_filtered": False, "record_command": ""}},
            "1.json: suite.shard.number:",
        ),
        ({"shard": "1/3"}, "1.json: suite.shard"),
    ],
)
def test_what_is_no_shard_s_file_is_refused(
    shard: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    suite: dict[str, Any],
    complaint: str,
) -> None:
    edit(shard(1), lambda data: data.update(suite={"matrix": "full", "is_filtered": True, **suite}))
    assert complaint in refusal(capsys, tmp_path, tmp_path / "1.json")


def test_the_whole_is_judged_once(
    shard: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = write(tmp_path / "before.json", {**recorded(CELLS), "suite": {"matrix": "full", "is_filtered": False}})
    dearer = changed("flops", forward=1100, total=3100)
    words = ("--output", tmp_path / "all.json", "--compare", before)
    status, out, err = merge(capsys, shard(1), shard(2), shard(3), *words)
    assert (status, out.splitlines()[-1], err) == (0, "6 cells, against before.json: 6 ok", "")
    status, out, err = merge(capsys, shard(1), shard(2, **dearer), shard(3), *words)
    assert (status, out.splitlines()[-1], err) == (1, "6 cells, against before.json: 4 ok, 2 regressed", "")
    assert "mobilenet_v2-fft does not hold its baseline before.json:" in out
    assert "flops.forward regressed: 1.000 kFLOPs → 1.100 kFLOPs (+10.0 %" in out


def test_no_file_that_is_read_is_written(
    shard: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shard would be lost, and a baseline in whose place the whole stands is what the whole is then compared with."""
    before = write(tmp_path / "before.json", {**recorded(CELLS), "suite": {"matrix": "full", "is_filtered": False}})
    (tmp_path / "link.json").symlink_to(before)
    shards = shard(1), shard(2), shard(3)
    held = [path.read_text() for path in (*shards, before)]
    for output in (shards[1], before, tmp_path / "link.json"):
        status, out, err = merge(capsys, *shards, "--output", output, "--compare", before)
        complaint = f"update-bench merge: --output {output}: is one of the files that are read; expected another\n"
        assert (status, out, err) == (2, "", complaint)
    assert [path.read_text() for path in (*shards, before)] == held


def test_a_baseline_is_to_be_recorded_as_the_shards_run_would_be(
    shard: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of other metrics, or elsewhere than in this repository, another command does it."""
    command = "pytest --pyargs peft_update_bench.bench --benchmark-save=baseline --architectures mine:net"
    before = write(tmp_path / "before.json", {**recorded(CELLS), "suite": {"matrix": "full", "is_filtered": False}})
    said = {"record_command": command}
    dearer = changed("flops", forward=1100, total=3100)
    shards = shard(1, said=said), shard(2, said=said, **dearer), shard(3, said=said)
    _, out, _ = merge(capsys, *shards, "--output", tmp_path / "all.json", "--compare", before)
    assert f"record a new baseline: {command}\n" in out


def test_a_cell_that_the_baseline_has_and_the_whole_run_has_not_fails(
    shard: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [*CELLS, Cell("regnet_y_400mf", "fft")]
    before = write(tmp_path / "before.json", {**recorded(cells), "suite": {"matrix": "full", "is_filtered": False}})
    status, out, _ = merge(capsys, shard(1), shard(2), shard(3), "--output", tmp_path / "all.json", "--compare", before)
    assert status == 1
    assert "regnet_y_400mf-fft is in before.json and no longer in the run." in out
