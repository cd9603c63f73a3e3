"""The report's charts: as PNG, over time, and of accuracy against cost."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from altair.utils.schemapi import SchemaBase
from peft_update_bench.bench import metrics
from peft_update_bench.bench.__main__ import main
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.commands.report import chart_style, charts, figures, history
from peft_update_bench.bench.commands.report.page import Contents, render
from peft_update_bench.bench.commands.report.pareto import front
from peft_update_bench.bench.gate import baseline
from peft_update_bench.bench.gate.baseline import Baseline
from peft_update_bench.bench.gate.machine import Machine

from tests.helpers.adaptation_records import SETTINGS, adapted
from tests.helpers.records import FFT, baseline_data, extra_info, record, write

SHIFT = Cell("resnet18", "lora", 4, "shift")
METHODS = (("fft", None), ("lora", 4))


def test_figures_are_written_by_name(run_file: Path, tmp_path: Path) -> None:
    assert main(["report", str(run_file), "--figures", str(tmp_path / "figures")]) == 0
    written = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    names = {
        f"resnet18-{name}" for name in ("memory-by-category", "flops-by-rank", "memory-by-rank", "latency-by-rank")
    }
    assert set(written) == {f"{name}.{ending}" for name in names for ending in ("png", "svg")}
    for name in names:
        assert b"torch 2.14.1" in written[f"{name}.svg"]
        image = written[f"{name}.png"]
        assert image.startswith(b"\x89PNG")
        width = int.from_bytes(image[16:20], "big")
        assert width > figures.WIDTH * figures.PIXELS_PER_INCH / 96


def test_a_figure_says_its_workload_versions_and_machine(run_file: Path) -> None:
    for figure in figures.of_run(baseline.read(run_file)):
        described = figure.specification["description"]
        for said in ("batch 1 of 3×224×224", "torch 2.14.1", "galore-torch 1.0", "A CPU, 2 cores"):
            assert said in described


def test_a_run_without_ranks_has_no_chart_against_rank(tmp_path: Path) -> None:
    run = baseline.read(write(tmp_path / "run.json", baseline_data(extra_info(FFT))))
    assert [figure.name for figure in figures.of_run(run)] == ["resnet18-memory-by-category"]


def test_no_chart_lets_altair_look_for_what_a_word_means(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is three quarters of the time that a chart takes, and a page of users' tests has one for each."""

    def look(*_: object, **__: object) -> None:
        raise AssertionError("expected a channel, such as alt.Tooltip('cell:N')")

    monkeypatch.setattr(SchemaBase, "from_dict", look)
    storage = Path(__file__).parents[4] / "baselines"
    for path in (storage / "0004_baseline.json", storage / "adaptation" / "0001_baseline.json"):
        assert list(figures.of_run(baseline.read(path)))
    assert list(history.figures(history.read_folder(storage)))


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
    assert "3 runs from aaaaaaaaa to ccccccccc: 1 figure stepped." in html
    (row,) = [line for line in html.splitlines() if "flops.forward" in line and "<tr>" in line]
    for text in ("bbbbbbbbb", "resnet18-lora-r4", "1.000 kFLOPs", "1.100 kFLOPs", "+10.0 %"):
        assert text in row
    assert "Left out: " in html
    assert "<title>Update benchmark: a.json</title>" in html, "the newest run is the one shown"


def runs_of_which_some_lack_a_cell(run_file: Path, tmp_path: Path, commits: str, lack: str, **suite: Any) -> Path:
    """A folder with a run of each commit, of which those that `lack` the last cell say so much more of their suite."""
    data = json.loads(run_file.read_text())
    folder = tmp_path / "artifacts"
    folder.mkdir()
    for day, commit in enumerate(commits, start=20):
        run = stepped(data, commit, day)
        if commit in lack:
            run["benchmarks"].pop()
            run["suite"].update(suite)
        write(folder / f"{commit}.json", run)
    return folder


def test_a_run_that_lacks_a_cell_says_no_data(run_file: Path, tmp_path: Path) -> None:
    """Where runs before and after it have the cell: in the list, in the chart, and by a line that breaks."""
    folder = runs_of_which_some_lack_a_cell(run_file, tmp_path, "abcd", "bd")
    page = tmp_path / "page.html"
    assert main(["report", "--history", str(folder), "--output", str(page), "--no-claims"]) == 0
    assert "<li>bbbbbbbbb: no data of 1 cell, resnet18-lora-r4</li>" in page.read_text()
    found = history.read_folder(folder)
    assert list(found.gaps) == ["bbbbbbbbb"], "the last run's may have been removed: the gate's to say"
    chart = next(figure.specification for figure in history.figures(found) if "flops" in figure.name)
    ((_, words),) = layers_of(chart, "text")
    assert words == [{"run": "bbbbbbbbb", "words": "no data: 1 cell"}]
    ((_, points),) = layers_of(chart, "point")
    lora, fft = ([p["segment"] for p in points if p["method"] == method] for method in ("lora", "fft"))
    assert len(set(lora)) == len(lora) == 2, "the line breaks at the run that lacks it"
    assert len(set(fft)) == 1


def test_a_run_that_was_asked_for_other_cells_lacks_none(run_file: Path, tmp_path: Path) -> None:
    folder = runs_of_which_some_lack_a_cell(run_file, tmp_path, "abc", "b", is_filtered=True)
    assert history.read_folder(folder).gaps == {}


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
    flops = metrics.row("flops.total")
    assert flops.figure.curve is not None
    chart = charts.by_rank(records, flops, flops.figure.curve)
    assert chart is not None
    scale = chart_style.specification(chart, "")["layer"][0]["encoding"]["color"]["scale"]
    assert scale["domain"] == ["lora", "mine", "yours"]
    assert len(set(scale["range"])) == 3


def drawn(name: str, *cells: Cell, **parts: Any) -> dict[str, Any]:
    """The chart called `name` of a run of `cells`."""
    run = Baseline(
        Path("run.json"), {cell: record(cell, **parts) for cell in cells}, {}, Machine("A CPU", 2), "core", False
    )
    return next(figure.specification for figure in figures.of_run(run) if figure.name == f"resnet18-{name}")


def layers_of(specification: dict[str, Any], mark: str) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """The layers with a mark, each with what it is drawn from."""
    return [
        (
            layer,
            specification["datasets"][layer["data"]["name"]] if "name" in layer["data"] else layer["data"]["values"],
        )
        for layer in specification["layer"]
        if layer["mark"]["type"] == mark
    ]


LEVEL = [Cell("resnet18", name) for name in ("fft", "head", "bn_head")]


def test_every_line_has_its_methods_marker_as_the_legend_has() -> None:
    """Lines that coincide show two markers and both names."""
    chart = drawn("flops-by-rank", *LEVEL, Cell("resnet18", "lora", 1), Cell("resnet18", "lora", 16))
    ((points, rows),) = layers_of(chart, "point")
    assert points["encoding"]["shape"]["field"] == points["encoding"]["color"]["field"] == "method"
    assert {row["method"] for row in rows} == {"fft", "head", "bn_head", "lora"}
    places = [(row["x"], row["value"]) for row in rows]
    assert len(set(places)) == len(places), "no marker hides another"
    ((_, names),) = layers_of(chart, "text")
    assert [name["names"] for name in names] == ["fft = head = bn_head"]
    dashes = [str(line["mark"]["strokeDash"]) for line, _ in layers_of(chart, "rule") if "strokeDash" in line["mark"]]
    assert len(set(dashes)) == 3


@pytest.mark.parametrize(("head", "names"), [(0.994, []), (0.996, ["head = fft"]), (1.0, ["fft = head"])])
def test_lines_that_look_like_one_are_named(head: float, names: list[str]) -> None:
    cells = [*LEVEL[:2], Cell("resnet18", "lora", 4)]
    flops = metrics.row("flops.total")
    assert flops.figure.curve is not None
    totals = {"fft": 100_000, "head": round(head * 100_000), "lora": 50_000}
    records = [record(c, **_total(totals[c.method])) for c in cells]
    chart = charts.by_rank(records, flops, flops.figure.curve)
    assert chart is not None
    texts = layers_of(chart_style.specification(chart, ""), "text")
    assert [name["names"] for _, rows in texts for name in rows] == names


def _total(flops: int) -> dict[str, Any]:
    return {"flops": {**extra_info()["flops"], "forward": flops, "backward": 0, "optimizer": 0, "total": flops}}


def test_the_refreshing_steps_tick_is_in_the_legend() -> None:
    memory = {**extra_info()["memory"], "refresh_peak": 1500}
    chart = drawn("memory-by-category", Cell("resnet18", "galore", 4), memory=memory)
    ((tick, rows),) = layers_of(chart, "tick")
    stroke = tick["encoding"]["stroke"]
    assert {row[stroke["field"]] for row in rows} == set(stroke["scale"]["domain"]) == {"peak of a refreshing step"}
    assert stroke["legend"] is not None


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


def accuracy_chart(run: Baseline) -> dict[str, Any]:
    (chart,) = [figure.specification for figure in figures.of_run(run) if figure.name.endswith("accuracy-memory")]
    return chart


def test_no_two_methods_have_colour_and_shape_in_common() -> None:
    """Not even of 24 that a run has beside the study's six."""
    names = [*chart_style.METHODS, *(f"mine:Method{number}" for number in range(24))]
    chart = accuracy_chart(adapted_run(*((name, 0.5 + place / 100, 50 + place) for place, name in enumerate(names))))
    ((points, _), *_) = layers_of(chart, "point")
    colours, shapes = (points["encoding"][channel]["scale"]["range"] for channel in ("color", "shape"))
    assert len({*zip(colours, shapes, strict=True)}) == len(names) == 30


def test_names_do_not_lie_on_each_other() -> None:
    """Of points that are close the more accurate one is named; within a line's height names stand beside each other."""
    run = adapted_run(
        ("head", 0.30, 50), ("bn_head", 0.60, 52), ("last_layers", 0.61, 55), ("lora", 0.62, 190), ("fft", 0.90, 200)
    )
    ((_, named),) = layers_of(accuracy_chart(run), "text")
    assert {row["cell"] for row in named} == {"head", "last_layers", "lora r=4", "fft"}


def test_a_package_that_one_method_needs_is_named_once() -> None:
    run = adapted_run(("fft", 0.9, 190), ("head", 0.5, 50))
    first, *_ = run.records.values()
    of_head = run.records[Cell("resnet18", "head", task="shift")]
    run.records[of_head.cell] = of_head.model_copy(update={"versions": {**first.versions, "torch": "9", "zlib": "1"}})
    shown = accuracy_chart(run)["description"]
    assert f"torch {first.versions['torch']} or 9" in shown
    assert (shown.count(" torch "), shown.count(" zlib 1")) == (1, 1)


@pytest.mark.parametrize("seeds", [1, 2])
def test_accuracies_have_the_interval_that_seeds_leave_them(seeds: int) -> None:
    """Of one seed none is known; of what is worse than before the update, from 30 %, none is drawn."""
    curves = {"fft": (0.88, 0.92), "lora": (0.80, 0.80), "head": (0.0, 0.5)}
    found = []
    for method, ends in curves.items():
        of_seeds = [
            {"seed": seed, "curve": [0.3, end], "source_accuracy_before": 0.9, "source_accuracy_after": 0.8}
            for seed, end in enumerate(ends[:seeds])
        ]
        cell, spread = Cell("resnet18", method, 4 if method == "lora" else None, "shift"), {}
        if seeds > 1:
            spread = {"accuracy_spread": abs(ends[1] - ends[0]) / 2**0.5}
        found.append(adapted(cell, 0.3, sum(ends[:seeds]) / seeds, runs=of_seeds, **spread))
    run = Baseline(Path("run.json"), {r.cell: r for r in found}, {}, Machine("A CPU", 2), "core", False)
    chart = accuracy_chart(run)
    rules = layers_of(chart, "rule")
    if seeds == 1:
        assert rules == []
        return
    ((_, rows),) = rules
    assert [row["method"] for row in rows] == ["fft", "lora"]
    ((_, points), *_) = layers_of(chart, "point")
    assert [row["after the update"] for row in points] == ["90.0% ± 6.1", "80.0% ± 6.1", "25.0%"]
    # Two cells of two seeds: pooled deviation 2 points, of means 1.41, and Student's t of two degrees of freedom 4.30.
    assert [round((row["high"] - row["low"]) / 2, 2) for row in rows] == [6.08, 6.08]
    assert "shift under fog 3; 2 seeds" in chart["description"]


def test_accuracy_has_a_history() -> None:
    before, after = adapted_run(("fft", 0.8, 190)), adapted_run(("fft", 0.6, 190))
    (figure,) = history.figures(history.History((before, after), ("a", "b"), (), ()))
    assert figure.title == "Accuracy after the update by commit"
    rows = [row for data in figure.specification["datasets"].values() for row in data]
    assert [(row["run"], row["figure"], round(row["change"])) for row in rows] == [
        ("a", "80.0%", 0),
        ("b", "60.0%", -25),
    ]


def test_each_batch_size_has_a_section_with_its_charts() -> None:
    cells = [Cell("resnet18", method, rank, batch_size=size) for size in (1, 16) for method, rank in METHODS]
    records = {cell: record(cell) for cell in cells}
    run = Baseline(Path("run.json"), records, {}, Machine("A CPU", 2), "core", True)
    drawn = list(figures.of_run(run))
    html = render(Contents(run, None, drawn))
    assert {figure.section for figure in drawn} == {"resnet18 b1", "resnet18 b16"}
    assert html.count("<figure>") == len(drawn)
    assert [f"<h2>resnet18 b{size}</h2>" in html for size in (1, 16)] == [True, True]


def test_a_page_with_accuracy_does_not_say_that_there_is_none() -> None:
    run = adapted_run(("fft", 0.9, 190), ("lora", 0.8, 65))
    html = render(Contents(run, None, list(figures.of_run(run))))
    assert "measured no accuracy" not in html
    assert "Accuracy (shift) against peak memory" in html


def test_another_corruption_is_no_step(tmp_path: Path) -> None:
    """Nor is it drawn as one line with the first."""
    for day, (corruption, accuracy) in enumerate((("fog", 0.9), ("snow", 0.5), ("fog", 0.5)), start=1):
        settings = {**SETTINGS, "corruption": corruption, "severity": 3}
        runs_of = [
            {"seed": seed, "curve": [0.1, accuracy], "source_accuracy_before": 0.9, "source_accuracy_after": 0.8}
            for seed in (0, 1)
        ]
        found = adapted(SHIFT, 0.1, accuracy, settings=settings, runs=runs_of, accuracy_spread=0.0)
        data = baseline_data(found.as_extra_info())
        data["commit_info"] = {"id": f"{day}" * 40, "time": f"2026-11-0{day}T12:00:00+00:00"}
        write(tmp_path / f"{day}.json", data)
    steps = history.read_folder(tmp_path).steps
    assert [(step.run, step.metric, step.change) for step in steps] == [
        ("333333333", "adaptation.accuracy_after", "-40.0 points")
    ]
