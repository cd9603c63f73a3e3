"""The report's command: what it writes from which files, and what it says where it cannot."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.cells import Cell
from bench.gate.baseline import Baseline, Machine
from bench.report import charts, figures, history, runs
from bench.report.page import Contents, render
from bench.report.pareto import front
from tests.adaptations import adapted
from tests.records import LATENCY, baseline_data, changed, extra_info, record, write

FFT = Cell("resnet18", "fft")
LORA = Cell("resnet18", "lora", 4)
DORA = Cell("resnet18", "dora", 4)


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    reference = {**LATENCY, "reference": "calibration"}
    return write(tmp_path / "run.json", baseline_data(extra_info(FFT, latency=reference), extra_info(LORA)))


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
        "resnet18-lora-r4", "100", "3.000 kFLOPs", "1000 Bytes", "1.95 KiB", "0.800 (0.790 to 0.810)",
    ]  # fmt: skip
    assert "1 (reference)" in lines[4]
    assert "batch 1 of 3×224×224, 10 classes, AdamW, float32, 1 thread, cpu" in lines[-1]
    assert "torch 2.14.1" in lines[-1]
    assert "A CPU, 2 cores" in lines[-1]


def test_the_newest_baseline_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "baselines").mkdir()
    write(tmp_path / "baselines" / "0001_old.json", baseline_data())
    write(tmp_path / "baselines" / "0002_new.json", baseline_data())
    assert main(["report"]) == 0
    assert capsys.readouterr().out.startswith("1 cells of 0002_new.json")
    assert main(["report", "--compare"]) == 0, "the newest baseline is compared with the one before it"
    assert capsys.readouterr().out.startswith("1 cells, against 0001_old.json: 1 ok")
    run = write(tmp_path / "run.json", baseline_data())
    assert main(["report", str(run), "--compare"]) == 0
    assert capsys.readouterr().out.startswith("1 cells, against 0002_new.json: 1 ok")


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
    assert out.startswith("1 cells, against run.json: 1 ok")
    assert "1 cells of run.json are not in this run and were not judged." in out


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
    assert ("1 cells of whole.json are not in this run and were not judged." in out) != lost


def test_another_machine_is_not_compared(tmp_path: Path, run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(run_file.read_text())
    data["machine_info"]["cpu"]["brand_raw"] = "Another CPU"
    other = write(tmp_path / "other.json", data)
    assert main(["report", str(run_file), "--compare", str(other)]) == 0
    out = capsys.readouterr().out
    assert "Not compared: measured memory and latency (measured on A CPU, 2 cores; the baseline on Another CPU" in out


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


def test_figures_are_written_as_png_by_name(run_file: Path, tmp_path: Path) -> None:
    assert main(["report", str(run_file), "--figures", str(tmp_path / "figures")]) == 0
    written = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert set(written) == {
        "resnet18-memory-by-category.png", "resnet18-flops-by-rank.png", "resnet18-memory-by-rank.png",
        "resnet18-latency-by-rank.png",
    }  # fmt: skip
    for image in written.values():
        assert image.startswith(b"\x89PNG")
        width = int.from_bytes(image[16:20], "big")
        assert width > figures.WIDTH * figures.PIXELS_PER_INCH / 96


def test_a_figure_says_its_workload_versions_and_machine(run_file: Path) -> None:
    for figure in figures.of_run(runs.read(run_file)):
        described = figure.specification["description"]
        for said in ("batch 1 of 3×224×224", "torch 2.14.1", "galore-torch 1.0", "A CPU, 2 cores"):
            assert said in described


def test_a_run_without_ranks_has_no_chart_against_rank(tmp_path: Path) -> None:
    run = runs.read(write(tmp_path / "run.json", baseline_data(extra_info(FFT))))
    assert [figure.name for figure in figures.of_run(run)] == ["resnet18-memory-by-category"]


def stepped(data: dict[str, Any], commit: str, day: int, **flops: int) -> dict[str, Any]:
    """A run's data at another commit, with some FLOPs changed in its last cell."""
    data = copy.deepcopy(data)
    data["commit_info"] = {"id": commit * 40, "time": f"2026-11-{day}T12:00:00+00:00"}
    info = data["benchmarks"][-1]["extra_info"]
    info["flops"].update(flops)
    info["flops"]["total"] = sum(info["flops"][phase] for phase in ("forward", "backward", "optimizer"))
    return data


def test_history_names_the_commit_at_which_a_figure_stepped(
    run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = json.loads(run_file.read_text())
    folder = tmp_path / "artifacts"
    (folder / "later").mkdir(parents=True)
    # The files' names are in another order than the commits.
    write(folder / "later" / "a.json", stepped(data, "c", 22, forward=1100))
    write(folder / "b.json", stepped(data, "a", 20))
    write(folder / "c.json", stepped(data, "b", 21, forward=1100))
    write(folder / "junk.json", {"no": "run"})
    page = tmp_path / "page.html"
    assert main(["report", "--history", str(folder), "--output", str(page), "--no-claims"]) == 0
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"left out: {folder / 'junk.json'}: has no 'benchmarks'")
    html = page.read_text()
    assert "3 runs from aaaaaaaaa to ccccccccc: 1 figures stepped." in html
    (row,) = [line for line in html.splitlines() if "flops.forward" in line and "<tr>" in line]
    for text in ("bbbbbbbbb", "resnet18-lora-r4", "1.000 kFLOPs", "1.100 kFLOPs", "+10.0 %"):
        assert text in row
    assert "Left out: " in html
    assert "<title>Update benchmark: a.json</title>" in html, "the newest run is the one shown"


def test_runs_of_one_commit_are_told_apart_by_their_file(run_file: Path, tmp_path: Path) -> None:
    data = json.loads(run_file.read_text())
    folder = tmp_path / "artifacts"
    (folder / "again").mkdir(parents=True)
    write(folder / "run.json", stepped(data, "a", 20))
    write(folder / "again" / "run.json", stepped(data, "a", 20))
    labels = history.read_folder(folder).labels
    assert set(labels) == {"aaaaaaaaa run.json", "aaaaaaaaa again/run.json"}


@pytest.mark.usefixtures("run_file")
def test_one_run_is_no_history(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["report", "--history", str(tmp_path), "--output", str(page), "--no-claims"]) == 0
    assert "nothing to compare over time yet" in page.read_text()


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], []),
        ([(1, 0.5)], [0]),
        ([(2, 0.9), (1, 0.5), (3, 0.8)], [1, 0]),
        ([(1, 0.5), (1, 0.6)], [1]),
        ([(1, 0.5), (2, 0.5)], [0]),
        ([(1, 0.5), (1, 0.5)], [0, 1]),
    ],
)
def test_the_front_holds_what_nothing_beats(points: list[tuple[float, float]], expected: list[int]) -> None:
    assert front(points) == expected


def test_a_users_method_has_a_colour_of_its_own() -> None:
    records = [record(Cell("resnet18", method, 4)) for method in ("lora", "mine", "yours")]
    chart = charts.by_rank(records, charts.BY_RANK[0])
    assert chart is not None
    scale = charts.specification(chart, "")["layer"][0]["encoding"]["color"]["scale"]
    assert scale["domain"] == ["lora", "mine", "yours"]
    assert len(set(scale["range"])) == 3


def adapted_run(*methods: tuple[str, float, int]) -> Baseline:
    """A run in which each method came to an accuracy at a peak memory, in MiB."""
    records = [
        adapted(Cell("resnet18", name, 4 if name == "lora" else None, "shift"), 0.3, accuracy, peak_memory=mib * 2**20)
        for name, accuracy, mib in methods
    ]
    return Baseline(Path("run.json"), {r.cell: r for r in records}, {}, Machine("A CPU", 2), "core", False)


def test_accuracy_is_drawn_against_memory_and_flops_with_its_front() -> None:
    run = adapted_run(("fft", 0.9, 190), ("lora", 0.8, 65), ("head", 0.5, 50), ("bn_head", 0.45, 50))
    drawn = {figure.name: figure for figure in figures.of_run(run)}
    assert set(drawn) == {"resnet18-shift-accuracy-memory", "resnet18-shift-accuracy-flops"}
    rows = {
        row["cell"]: row
        for data in drawn["resnet18-shift-accuracy-memory"].specification["datasets"].values()
        for row in data
    }
    assert {cell: (round(row["accuracy"]), row["cost"], row["front"]) for cell, row in rows.items()} == {
        "fft": (90, 190, True), "lora r=4": (80, 65, True), "head": (50, 50, True), "bn_head": (45, 50, False),
    }  # fmt: skip
    # All cost the same FLOPs, so that only the most accurate is on that front.
    flops = drawn["resnet18-shift-accuracy-flops"].specification["datasets"].values()
    assert {row["cell"] for data in flops for row in data if row["front"]} == {"fft"}


def test_accuracy_has_a_history() -> None:
    before, after = adapted_run(("fft", 0.8, 190)), adapted_run(("fft", 0.6, 190))
    (figure,) = history.figures(history.History((before, after), ("a", "b"), (), ()))
    assert figure.title == "Accuracy after the update by commit"
    rows = [row for data in figure.specification["datasets"].values() for row in data]
    assert [(row["run"], row["figure"], round(row["change"])) for row in rows] == [
        ("a", "80.0 %", 0),
        ("b", "60.0 %", -25),
    ]


def test_a_page_with_accuracy_does_not_say_that_there_is_none() -> None:
    run = adapted_run(("fft", 0.9, 190), ("lora", 0.8, 65))
    html = render(Contents(run, None, list(figures.of_run(run))))
    assert "measured no accuracy" not in html
    assert "Accuracy (shift) against peak memory" in html
