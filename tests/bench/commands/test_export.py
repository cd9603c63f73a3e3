"""A run's figures as dashboards read them."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from peft_update_bench.bench.__main__ import main

from tests.bench.commands.report.test_command import adaptation
from tests.helpers.records import LATENCY, baseline_data, extra_info, write

BENCHER_SCHEMA = {
    "type": "object",
    "patternProperties": {
        ".+": {
            "type": "object",
            "patternProperties": {
                ".+": {
                    "type": "object",
                    "properties": {name: {"type": "number"} for name in ("value", "lower_value", "upper_value")},
                    "required": ["value"],
                    "additionalProperties": False,
                }
            },
        }
    },
}
"""https://bencher.dev/bmf.json, and no further key."""


def exported(capsys: pytest.CaptureFixture[str], form: str, run: Path) -> Any:
    assert main(["export", "--format", form, str(run)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return json.loads(said.out)


def test_bencher_has_a_benchmark_a_cell_and_a_measure_a_figure(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = exported(capsys, "bencher", run_file)
    jsonschema.validate(found, BENCHER_SCHEMA)
    assert list(found) == ["resnet18-fft", "resnet18-lora-r4"]
    lora = found["resnet18-lora-r4"]
    assert lora["flops.total"] == {"value": 3000}
    assert lora["memory.peak"] == {"value": 1000}
    assert lora["latency.relative"] == {"value": 0.8, "lower_value": 0.79, "upper_value": 0.81}
    assert lora["stats.median"] == {"value": 0.05}
    assert max(map(len, lora)) <= 64, "Bencher takes no longer name of a measure"


def test_github_action_benchmark_has_an_entry_a_figure(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = exported(capsys, "github-action-benchmark", run_file)
    assert all({"name", "unit", "value", "extra"} <= entry.keys() for entry in found)
    by_name = {entry["name"]: entry for entry in found}
    assert len(by_name) == len(found), "two entries of one name are one line of the chart"
    flops = by_name["resnet18-lora-r4 flops.total"]
    assert (flops["value"], flops["unit"], flops.get("range")) == (3000, "FLOPs", None)
    latency = by_name["resnet18-lora-r4 latency.relative"]
    assert (latency["value"], latency["unit"], latency["range"]) == (0.8, "×", "0.79 to 0.81")
    assert "torch 2.14.1" in flops["extra"]
    assert "A CPU, 2 cores" in flops["extra"]


def test_what_was_not_measured_is_absent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write(tmp_path / "run.json", baseline_data(extra_info(latency=None)))
    assert not any(name.startswith("latency.") for name in exported(capsys, "bencher", run)["resnet18-lora-r4"])


def test_accuracy_of_which_more_is_better_is_bencher_s_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write(tmp_path / "run.json", baseline_data(adaptation(0, 1)))
    (cell,) = exported(capsys, "bencher", run).values()
    assert cell["adaptation.accuracy_after"] == {"value": 0.8}
    names = [entry["name"] for entry in exported(capsys, "github-action-benchmark", run)]
    assert any("adaptation.peak_memory" in name for name in names)
    assert not any("accuracy" in name for name in names)


def test_it_is_written_to_a_file(run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    assert main(["export", "--format", "bencher", str(run_file), "--output", str(out)]) == 0
    assert capsys.readouterr().out == ""
    assert json.loads(out.read_text())["resnet18-lora-r4"]["latency.relative"]["value"] == LATENCY["relative"]


def test_a_full_disk_does_not_take_what_the_file_held(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / "out.json"
    out.write_text("of the run before")
    monkeypatch.setattr("os.fsync", full)
    assert main(["export", "--format", "bencher", str(run_file), "--output", str(out)]) == 2
    assert f"--output {out}: No space left on device; expected a file" in capsys.readouterr().err
    assert out.read_text() == "of the run before"


def test_the_newest_baseline_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "baselines").mkdir()
    write(tmp_path / "baselines" / "0001_a.json", baseline_data())
    assert main(["export", "--format", "bencher"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["resnet18-lora-r4"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run.json"], "the following arguments are required: --format"),
        (["--format", "csv", "run.json"], "argument --format: invalid choice: 'csv'"),
        (["--format", "bencher", "nowhere.json"], "nowhere.json: cannot be read: No such file or directory"),
        (["--format", "bencher", "run.json", "--output", "no/out.json"], "--output no/out.json: No such file"),
        (
            ["--format", "bencher", "run.json", "--output", "-"],
            "--output -: expected a file's name, such as /dev/stdout",
        ),
        (
            ["--format", "bencher", "run.json", "--output", "./run.json"],
            "--output run.json: is one of the files that are read; expected another",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    run_file: Path, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run_file.parent)
    try:
        status: object = main(["export", *arguments])
    except SystemExit as stopped:
        status = stopped.code
    assert status == 2
    output = capsys.readouterr()
    assert said in output.err
    assert (output.err.count("\n"), output.out) == (1, "")
