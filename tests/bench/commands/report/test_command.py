"""The report's command: what it writes from which files, and what it says where it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from peft_update_bench.bench.__main__ import main
from peft_update_bench.bench.cells import Cell

from tests.helpers.adaptation_records import SETTINGS, adapted
from tests.helpers.records import FFT, LORA, baseline_data, changed, extra_info, write

DORA = Cell("resnet18", "dora", 4)


def fails_in_one_line(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run the command, which must fail; returns the one line it says."""
    try:
        status = main(["report", *map(str, arguments)])
    except SystemExit as exit_:
        status = int(exit_.code or 0)
    assert status == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    return said.err


def test_without_an_output_the_table_is_printed(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run_file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 cells of run.json, compared with nothing"
    assert [word.strip() for word in lines[2].split("|")][1:4] == ["cell", "trainable parameters", "FLOPs"]
    shown = [word.strip() for word in lines[5].split("|")]
    assert shown[1:-1] == [
        "resnet18-lora-r4", "100", "3.000 kFLOPs", "1000 Bytes", "1.95 KiB", "0.800 (0.790 to 0.810)", "480 Bytes",
    ]  # fmt: skip
    assert "1 (reference)" in lines[4]
    assert "batch 1 of 3×224×224, 10 classes, AdamW, float32, 1 thread, cpu" in lines[-1]
    assert "torch 2.14.1" in lines[-1]
    assert "A CPU, 2 cores" in lines[-1]


@pytest.mark.parametrize(("networks", "folded"), [(12, False), (13, True)])
def test_many_networks_do_not_push_the_verdict_off_the_screen(tmp_path: Path, networks: int, folded: bool) -> None:
    sections = dict.fromkeys(("flops", "memory", "growth", "result", "first_step", "measured_memory", "latency"))
    cells = [extra_info(Cell(f"mine:network_{n}", "head"), **sections) for n in range(networks)]
    run, page = write(tmp_path / "run.json", baseline_data(*cells)), tmp_path / "page.html"
    assert main(["report", str(run), "--no-claims", "--output", str(page)]) == 0
    navigation = page.read_text("utf-8").partition("<nav")[2].partition("</nav>")[0]
    assert navigation.count("#subject-") == networks
    assert (f"<details><summary>{networks} networks and steps</summary>" in navigation) == folded


def test_the_newest_baseline_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "baselines").mkdir()
    write(tmp_path / "baselines" / "0001_old.json", baseline_data())
    write(tmp_path / "baselines" / "0002_new.json", baseline_data())
    assert main(["report"]) == 0
    assert capsys.readouterr().out.startswith("1 cell of 0002_new.json")
    assert main(["report", "--compare"]) == 0, "the newest baseline is compared with the one before it"
    assert capsys.readouterr().out.startswith("1 cell, against 0001_old.json: 1 ok")
    run = write(tmp_path / "run.json", baseline_data())
    assert main(["report", str(run), "--compare"]) == 0
    assert capsys.readouterr().out.startswith("1 cell, against 0002_new.json: 1 ok")


def adaptation(*seeds: int, **settings: Any) -> dict[str, Any]:
    """A cell's `extra_info` with an adaptation of `seeds`."""
    runs = [
        {"seed": seed, "curve": [0.1, 0.8], "source_accuracy_before": 0.9, "source_accuracy_after": 0.8}
        for seed in seeds
    ]
    spread = {"accuracy_spread": 0.0} if len(runs) > 1 else {}
    used = {**SETTINGS, "corruption": "fog", "severity": 3, **settings}
    return adapted(Cell("resnet18", "lora", 4, "shift"), 0.1, 0.8, runs=runs, settings=used, **spread).as_extra_info()


def test_a_run_of_adaptation_has_a_newest_baseline_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "baselines" / "adaptation").mkdir(parents=True)
    write(tmp_path / "baselines" / "0007_update.json", baseline_data())
    run = write(tmp_path / "run.json", baseline_data(adaptation(0, 1)))
    assert "no baseline (NNNN_*.json) in baselines/adaptation" in fails_in_one_line(capsys, run, "--compare")
    before = write(tmp_path / "baselines" / "adaptation" / "0001_a.json", baseline_data(adaptation(0, 1)))
    assert main(["report", str(run), "--compare"]) == 0
    assert capsys.readouterr().out.startswith("1 cell, against 0001_a.json: 1 ok")
    # What the gate refuses to judge, the report does not show either.
    write(before, baseline_data(adaptation(0)))
    assert "was adapted with one seed; expected two or more" in fails_in_one_line(capsys, run, "--compare")
    write(before, baseline_data(adaptation(0, 1, corruption="snow")))
    assert "was adapted otherwise: corruption snow, this run fog" in fails_in_one_line(capsys, run, "--compare")


def test_only_one_baseline_has_none_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no baseline (NNNN_*.json) in baselines" in fails_in_one_line(capsys)
    (tmp_path / "baselines").mkdir()
    write(tmp_path / "baselines" / "0001_old.json", baseline_data())
    assert "is the first baseline in baselines" in fails_in_one_line(capsys, "--compare")


def test_the_table_begins_with_what_moved(tmp_path: Path) -> None:
    before = write(
        tmp_path / "before.json", baseline_data(extra_info(FFT), extra_info(LORA), extra_info(DORA), is_filtered=False)
    )
    worse = extra_info(LORA, **changed("flops", forward=1001, total=3001))
    better = extra_info(FFT, **changed("flops", elementwise=49))
    now = write(tmp_path / "now.json", baseline_data(better, worse))
    table = tmp_path / "table.md"
    assert main(["report", str(now), "--compare", str(before), "--output", str(table)]) == 0
    lines = table.read_text().splitlines()
    assert lines[0].startswith("**Does not hold its baseline.** 3 cells, against before.json: 1 ")
    rows = [[word.strip() for word in line.split("|")[1:-1]] for line in lines[4:] if line.startswith("|")]
    assert [row[:3] for row in rows[:3]] == [
        ["resnet18-dora-r4", "the cell", "missing"],
        ["resnet18-lora-r4", "flops.forward", "regressed"],
        ["resnet18-fft", "flops.elementwise", "improved"],
    ]
    assert rows[1][3:] == ["1.000 kFLOPs", "1.001 kFLOPs", "+0.1 %, +1.000 FLOPs"]


def test_a_filtered_run_misses_no_cell(run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = write(tmp_path / "part.json", baseline_data(extra_info(LORA), is_filtered=True))
    assert main(["report", str(part), "--compare", str(run_file)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("1 cell, against run.json: 1 ok")
    assert "1 cell of run.json not in this run and not judged." in out


@pytest.mark.parametrize(
    ("matrix", "other", "lost"),
    [("core", "core", True), ("full", "core", True), ("core", "full", False), ("subset", "core", False)],
)
def test_a_smaller_matrix_loses_no_cell(
    tmp_path: Path, matrix: str, other: str, lost: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write(tmp_path / "run.json", baseline_data(extra_info(LORA), matrix=matrix))
    whole = write(tmp_path / "whole.json", baseline_data(extra_info(LORA), extra_info(FFT), matrix=other))
    assert main(["report", str(run), "--compare", str(whole)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("**Does not hold its baseline.** 2 cells") == lost
    assert ("1 cell of whole.json not in this run and not judged." in out) != lost


def test_a_users_own_network_is_missed_by_no_run_that_does_not_name_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write(tmp_path / "run.json", baseline_data(extra_info(LORA)))
    own = (extra_info(Cell("mine:net", "fft")), extra_info(Cell("resnet18", "mine:Method", 4)))
    other = write(tmp_path / "other.json", baseline_data(extra_info(LORA), *own))
    assert main(["report", str(run), "--compare", str(other)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("1 cell, against other.json: 1 ok")
    assert "2 cells of other.json not in this run and not judged." in out


def test_another_machine_is_not_compared(tmp_path: Path, run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(run_file.read_text())
    data["machine_info"]["cpu"]["brand_raw"] = "Another CPU"
    other = write(tmp_path / "other.json", data)
    assert main(["report", str(run_file), "--compare", str(other)]) == 0
    out = capsys.readouterr().out
    told = "measured memory, latency, the first step and absolute times (measured on A CPU, 2 cores"
    assert f"Not compared: {told}" in out


def test_a_pipe_or_markup_in_a_name_stays_text_in_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write(tmp_path / "run.json", baseline_data(extra_info(Cell("a|b<script>", "fft"))))
    assert main(["report", str(run)]) == 0
    assert "| a&#124;b&lt;script&gt;-fft |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.json"], "nowhere.json: cannot be read: No such file or directory"),
        (["half.json"], "half.json: is not complete JSON"),
        (["run.json", "--compare", "nowhere.json"], "nowhere.json: cannot be read"),
        (["run.json", "--compare", "mobilenet.json"], "run.json and mobilenet.json have no cell in common"),
        (["run.json", "--compare", "batch.json"], "another workload in batch.json: batch_size 8, this run 1"),
        (["run.json", "--output", "page.pdf"], "given 'page.pdf', expected a file that ends in .html or .md"),
        (["run.json", "--output", "no/such/folder.md"], "--output no/such/folder.md: No such file or directory"),
        (["run.json", "--figures", "run.json"], "--figures run.json: File exists; expected a folder"),
        (["--history", "nowhere"], "--history nowhere: is no folder"),
        (["--history", "empty"], "--history empty: holds no run"),
        (["--history"], "--history baselines: is no folder"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    run_file: Path, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run_file.parent)
    Path("half.json").write_text(run_file.read_text()[:500])
    Path("empty").mkdir()
    write(Path("mobilenet.json"), baseline_data(extra_info(Cell("mobilenet_v2", "fft"))))
    workload = {**extra_info()["workload"], "batch_size": 8}
    write(Path("batch.json"), baseline_data(extra_info(LORA, workload=workload)))
    assert said in fails_in_one_line(capsys, *arguments)


def test_a_history_may_be_the_current_folder(
    run_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run_file.parent)
    assert main(["report", "--history", "."]) == 0
    assert capsys.readouterr().out.startswith("2 cells of run.json")


def test_a_page_that_cannot_be_written_is_not_made(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The study's claims, which go into it, take minutes."""
    page = run_file.parent / "nowhere" / "page.html"
    said = fails_in_one_line(capsys, run_file, "--output", page)
    assert f"--output {page}: No such file or directory; expected a file in a folder that can be written" in said


def test_a_page_of_a_users_own_network_has_no_claims_of_the_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write(tmp_path / "run.json", baseline_data(extra_info(Cell("mine:build", "fft"))))
    assert main(["report", str(run), "--output", str(tmp_path / "page.html")]) == 0
    assert "claims" not in capsys.readouterr().err


def test_in_a_terminal_a_name_is_shown_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write(tmp_path / "run[1].json", baseline_data())
    assert main(["report", str(run)]) == 0
    assert "run&#91;1].json" in capsys.readouterr().out, "as Markdown, which others may read"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["report", str(run)]) == 0
    assert "run[1].json" in capsys.readouterr().out
