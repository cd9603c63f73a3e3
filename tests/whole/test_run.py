"""The whole way, as a user takes it: pytest's command line, real cells, real files, exit statuses and messages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from multiprocessing import active_children
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from peft_update_bench.bench.measuring import timing
from peft_update_bench.bench.measuring.measured import Measurement
from peft_update_bench.fixtures.instruments.latency.clock import Clock
from peft_update_bench.fixtures.methods.lora import LoRA
from peft_update_bench.fixtures.update_step import UpdateStep

REPOSITORY = Path(__file__).parents[2]
SMALL = ("--image-size=64", "--architectures=mobilenet_v3_small", "--methods=fft,lora", "--ranks=4")
COMPUTED = ("--metrics=flops,memory",)
COMPARE = "--benchmark-compare"

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm_operators")]

Suite = Callable[..., pytest.RunResult]


@pytest.fixture
def suite(pytester: pytest.Pytester) -> Suite:
    """Runs ``pytest bench`` of this repository with some options, its baselines in an empty folder."""

    def run(*options: str, small: bool = True, computed: bool = True) -> pytest.RunResult:
        return pytester.runpytest_inprocess(
            REPOSITORY / "bench", "-c", REPOSITORY / "pyproject.toml", "--rootdir", REPOSITORY,
            "-p", "no:cacheprovider", "--benchmark-storage=file://baselines", "--benchmark-quiet",
            *(SMALL if small else ()), *(COMPUTED if computed else ()), *options,
        )  # fmt: skip

    return run


@pytest.fixture
def storage(pytester: pytest.Pytester) -> Path:
    return pytester.path / "baselines"


@pytest.fixture
def recorded(suite: Suite, storage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small cells' baseline in the storage, as saved by the first test that asks for it."""
    kept = tmp_path_factory.getbasetemp() / "small_cells.json"
    path = storage / "0001_baseline.json"
    if not kept.exists():
        suite("--benchmark-save=baseline").assert_outcomes(passed=2)
        shutil.copy(path, kept)
    else:
        storage.mkdir()
        shutil.copy(kept, path)
    return path


def files(storage: Path) -> list[str]:
    return sorted(path.name for path in storage.iterdir()) if storage.exists() else []


def text(result: pytest.RunResult) -> str:
    return "\n".join(result.outlines + result.errlines)


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Edit the records of a saved file, each by `edit`."""
    data = json.loads(path.read_text())
    for entry in data["benchmarks"]:
        edit(entry["extra_info"])
    path.write_text(json.dumps(data))


def test_save_then_compare_passes(suite: Suite, storage: Path) -> None:
    saved = suite("--benchmark-save=baseline")
    saved.assert_outcomes(passed=2)
    assert files(storage) == ["0001_baseline.json"]
    result = suite(COMPARE)
    result.assert_outcomes(passed=2)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "update benchmark: 2 cells, flops, memory, against baselines/0001_baseline.json",
            "*1/2* mobilenet_v3_small-fft, 1 left *",
            "*2/2* mobilenet_v3_small-lora-r4, 0 left*",
            "cell * FLOPs * peak memory * verdict",
            "mobilenet_v3_small-fft *MFLOPs * MiB *ok",
            "mobilenet_v3_small-lora-r4 *MFLOPs * MiB *ok",
            "2 cells, against 0001_baseline.json: 2 ok",
        ]
    )


def test_several_batch_sizes_are_saved_and_compared(suite: Suite, storage: Path) -> None:
    saved = suite("--benchmark-save=baseline", "--batch-size", "1", "2")
    saved.assert_outcomes(passed=4)
    entries = json.loads((storage / "0001_baseline.json").read_text())["benchmarks"]
    peaks = {entry["extra_info"]["batch_size"]: entry["extra_info"]["memory"]["peak"] for entry in entries}
    assert peaks[1] < peaks[2]
    result = suite(COMPARE, "--batch-size=2,1")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["mobilenet_v3_small-lora-r4-b1 *ok", "4 cells, against 0001_baseline.json: 4 ok"])
    refused = suite(COMPARE, "--batch-size=2")
    assert refused.ret == 4
    assert "expected --batch-size 1,2, which this baseline has" in text(refused)


def test_a_saved_file_is_whole_and_names_no_machine(recorded: Path) -> None:
    content = recorded.read_text()
    data = json.loads(content)
    assert data["suite"] == {"matrix": "core", "is_filtered": True}
    assert {"node", "release"}.isdisjoint(data["machine_info"])
    assert str(REPOSITORY) not in content
    entry = data["benchmarks"][1]
    assert entry["params"] == {"architecture": "mobilenet_v3_small", "method": "lora", "rank": 4}
    info = entry["extra_info"]
    assert set(info) == {
        "schema", "architecture", "method", "rank", "workload", "versions", "parameters", "flops", "memory", "where",
    }  # fmt: skip
    assert "rank" not in data["benchmarks"][0]["extra_info"]


def test_a_regression_fails_as_a_test(suite: Suite, recorded: Path, pytester: pytest.Pytester) -> None:
    before: list[int] = []

    def less(info: dict[str, Any]) -> None:
        before.append(info["flops"]["forward"])
        info["flops"]["forward"] -= 100
        info["flops"]["total"] -= 100

    change(recorded, less)
    result = suite(COMPARE, "--junitxml=junit.xml", "--markdown=verdicts.md")
    result.assert_outcomes(failed=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "mobilenet_v3_small-fft does not hold its baseline 0001_baseline.json:",
            "*flops.forward regressed: * (+* %, +100*FLOPs; tolerance 0%)",
            "*recorded with the same package versions",
            "2 cells, against 0001_baseline.json: 2 regressed",
        ]
    )
    assert "Traceback" not in text(result)
    failures = ElementTree.parse(pytester.path / "junit.xml").findall(".//failure")
    assert ["flops.forward" in (failure.text or "") for failure in failures] == [True, True]
    markdown = (pytester.path / "verdicts.md").read_text()
    assert markdown.startswith("2 cells, against 0001_baseline.json: 2 regressed")
    assert "| mobilenet_v3_small-fft " in markdown


def test_four_failures_of_one_cause_are_told_once(
    suite: Suite, storage: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the terminal, in JUnit's file, in Markdown and as a workflow's annotation; each in full under -v."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    four = ("--methods=fft,lora", "--ranks=1,2,4")
    suite("--benchmark-save=baseline", *four).assert_outcomes(passed=4)

    def less(info: dict[str, Any]) -> None:
        info["flops"]["forward"] -= 100
        info["flops"]["total"] -= 100

    change(storage / "0001_baseline.json", less)
    result = suite(COMPARE, *four, "--junitxml=junit.xml", "--markdown=verdicts.md")
    result.assert_outcomes(failed=4)
    assert result.ret == 1
    assert "= FAILURES =" not in text(result)
    result.stdout.fnmatch_lines(
        [
            "4 cells not as in 0001_baseline.json: mobilenet_v3_small-fft, mobilenet_v3_small-lora-r1, *",
            "  flops.forward regressed in 4, from +* % (mobilenet_v3_small-*) to +* % (mobilenet_v3_small-*)",
            "  recorded with the same package versions",
            "If the change is meant, record a new baseline: pytest *",
            "cell * FLOPs * peak memory * verdict",
            "4 cells, against 0001_baseline.json: 4 regressed",
            "::error title=update benchmark::4 cells, against 0001_baseline.json: 4 regressed%0A4 cells not as in *",
            "FAILED flops.forward +* %*test_update[[]mobilenet_v3_small-fft[]]*",
        ]
    )
    suites = ElementTree.parse(pytester.path / "junit.xml")
    failures = suites.findall(".//failure")
    assert ["flops.forward regressed: " in (failure.text or "") for failure in failures] == [True] * 4
    properties = {one.get("name"): one.get("value") for one in suites.findall(".//testsuite/properties/property")}
    assert properties == {"update_benchmark": "4 cells, against 0001_baseline.json: 4 regressed"}
    assert len(suites.findall(".//testcase/properties/property[@name='verdict']")) == 4
    assert "&emsp;flops.forward regressed in 4, " in (pytester.path / "verdicts.md").read_text()
    assert text(suite(COMPARE, *four, "-v")).count("  flops.forward regressed: ") == 4


@pytest.mark.usefixtures("recorded")
def test_a_computed_run_shows_no_times(pytester: pytest.Pytester) -> None:
    """Not how long its measurements took; and a threshold for times judges nothing."""
    result = pytester.runpytest_inprocess(
        REPOSITORY / "bench", "-c", REPOSITORY / "pyproject.toml", "--rootdir", REPOSITORY, "-p", "no:cacheprovider",
        "--benchmark-storage=file://baselines", *SMALL, *COMPUTED, COMPARE, "--benchmark-compare-fail=median:1%",
    )  # fmt: skip
    assert result.ret == 0
    assert "Name (time in" not in text(result)
    result.stdout.fnmatch_lines(["--benchmark-compare-fail judged nothing: no update was timed.", "2 cells*: 2 ok"])


@pytest.mark.usefixtures("recorded")
def test_a_figure_that_cannot_be_compared_fails_only_where_asked(suite: Suite) -> None:
    """What is computed can be, on any machine."""
    assert suite(COMPARE, "--not-comparable=fail").ret == 0
    result = suite(COMPARE, "--not-comparable=maybe")
    assert result.ret == 4
    assert "--not-comparable is 'maybe'; expected one of fail, warn" in text(result)


@pytest.mark.usefixtures("recorded")
def test_a_real_regression_in_a_method_names_its_cause(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    adapt = LoRA.adapt
    monkeypatch.setattr(LoRA, "adapt", lambda self, network, rank: adapt(self, network, 2 * rank))
    monkeypatch.setattr("torchvision.__version__", "0.99")
    result = suite(COMPARE)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "mobilenet_v3_small-lora-r4 does not hold its baseline*",
            "*parameters.trainable regressed: *",
            "*flops.forward regressed: *",
            "*memory.peak regressed: *",
            "*at the peak (*): *",
            "*recorded with torchvision *, now 0.99",
        ]
    )


def test_an_improvement_passes_and_says_how_to_keep_it(suite: Suite, recorded: Path) -> None:
    def more(info: dict[str, Any]) -> None:
        info["flops"]["elementwise"] += 1

    change(recorded, more)
    result = suite(COMPARE)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "Improved past the tolerance; to keep it, record a new baseline: "
            "pytest --benchmark-storage=file://baselines --benchmark-save=baseline --image-size 64"
        ]
    )


def test_a_failed_run_saves_no_baseline(suite: Suite, recorded: Path, storage: Path, pytester: pytest.Pytester) -> None:
    change(recorded, lambda info: info["parameters"].update(total=1))
    result = suite(COMPARE, "--benchmark-save=worse", "--benchmark-json=run.json")
    assert result.ret == 1
    assert files(storage) == ["0001_baseline.json"]
    result.stdout.fnmatch_lines(["No baseline was saved: the run did not pass."])
    # The run's own file is what one looks into after a failure.
    assert len(json.loads((pytester.path / "run.json").read_text())["benchmarks"]) == 2


@pytest.mark.usefixtures("recorded")
def test_a_new_cell_is_reported_and_passes(suite: Suite) -> None:
    result = suite(COMPARE, "--methods=fft,head")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["mobilenet_v3_small-head * new", "New cells have no baseline and were not judged*"])


def test_a_cell_that_the_run_lost_fails_as_a_test_of_its_own(suite: Suite) -> None:
    suite("--benchmark-save=baseline", "--methods=lora", "--ranks=2")
    result = suite(COMPARE, "--methods=lora", "--architectures=mobilenet_v3_small")
    assert result.ret == 0, "with ranks given, rank 2 is left out on purpose"
    options = [option for option in SMALL if "ranks" not in option]
    result = suite(COMPARE, *options, "--methods=lora", small=False)
    assert result.ret == 1
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["mobilenet_v3_small-lora-r2 is in 0001_baseline.json and no longer in the run."])


def test_no_baseline_is_an_error(suite: Suite, storage: Path) -> None:
    result = suite(COMPARE)
    assert result.ret == 4
    said = "ERROR: no baseline (NNNN_*.json) in baselines; record one with: pytest --benchmark-storage=file://baselines"
    assert said in text(result)
    assert files(storage) == []


def test_an_unreadable_newest_baseline_is_an_error_though_an_older_one_is_fine(suite: Suite, recorded: Path) -> None:
    recorded.with_name("0002_baseline.json").write_text(recorded.read_text()[:1000])
    result = suite(COMPARE)
    assert result.ret == 4
    errors = [line for line in text(result).splitlines() if line.startswith("ERROR")]
    assert len(errors) == 1
    assert "0002_baseline.json: is not complete JSON" in errors[0]
    assert "Traceback" not in text(result)
    assert suite(f"{COMPARE}=0001").ret == 0


@pytest.mark.usefixtures("recorded")
def test_another_workload_is_an_error(suite: Suite) -> None:
    result = suite(COMPARE, "--image-size=96")
    assert result.ret == 4
    assert "was recorded under another workload: image_size 64, this run 96" in text(result)


def test_a_missing_figure_fails(suite: Suite) -> None:
    suite("--benchmark-save=baseline", "--metrics=flops")
    result = suite(COMPARE)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*memory.peak is missing: the baseline has no such figure"])


def test_a_part_is_no_baseline_for_the_whole(suite: Suite) -> None:
    suite("--benchmark-save=baseline", "--image-size=224", "--methods=fft")
    result = suite(COMPARE, small=False)
    assert result.ret == 4
    assert "was saved by a filtered run and lacks 47 of this run's 48 cells" in text(result)


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("--architectures=resnet19", "--architectures is 'resnet19'; expected one of resnet18, mobilenet_v2"),
        ("--methods=qlora", "--methods is 'qlora'; expected one of fft, head, bn_head, lora, dora, galore"),
        ("--ranks=0", "--ranks is '0'; expected a whole number of at least 1"),
        ("--ranks=-1", "--ranks is '-1'"),
        ("--ranks=1.5", "--ranks is '1.5'"),
        ("--metrics=speed", "--metrics is 'speed'; expected one of flops, memory, measured_memory, latency"),
        ("--batch-size=0", "--batch-size is '0'; expected a whole number of at least 1"),
        ("--tolerance=latency", "--tolerance is 'latency'; expected NAME=FRACTION"),
        ("--benchmark-storage=elasticsearch+http://host/a/b", "--benchmark-storage is"),
    ],
)
def test_bad_options_are_one_line_and_write_nothing(suite: Suite, storage: Path, option: str, complaint: str) -> None:
    result = suite("--benchmark-save=baseline", COMPARE, option)
    assert result.ret == 4
    errors = [line for line in text(result).splitlines() if line.startswith("ERROR")]
    assert len(errors) == 1
    assert complaint in errors[0]
    assert "Traceback" not in text(result)
    assert files(storage) == []


def test_one_cell_that_cannot_be_measured_fails_alone(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft_update_bench.fixtures.architectures import UnsupportedNetworkError

    def refuse(*_: Any) -> None:
        raise UnsupportedNetworkError("no place for an adapter")

    monkeypatch.setattr(LoRA, "adapt", refuse)
    result = suite()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["mobilenet_v3_small-lora-r4: no place for an adapter", "mobilenet_v3_small-lora-r4 * failed: no place*"]
    )
    assert "Traceback" not in text(result)


@pytest.mark.usefixtures("few_rounds")
def test_every_metric_is_measured_recorded_and_compared(suite: Suite, storage: Path) -> None:
    """The default metrics on one small cell, with everything real: child process, allocator, paired rounds."""
    cell = ("--architectures=mobilenet_v3_small", "--methods=galore", "--ranks=4", "--image-size=64")
    # Whatever the machine does meanwhile, the same code must not look 10 times as slow.
    options = (*cell, "--tolerance=latency=9", "--tolerance=rss_peak=9")
    suite("--benchmark-save=baseline", *options, small=False, computed=False).assert_outcomes(passed=1)
    entry = json.loads((storage / "0001_baseline.json").read_text())["benchmarks"][0]
    info = entry["extra_info"]
    assert {"parameters", "flops", "memory", "measured_memory", "latency"} <= set(info)
    assert {"computed_gap", "unexplained_gap"} <= set(info["measured_memory"])
    assert info["latency"]["rounds"] == entry["stats"]["rounds"]
    assert info["latency"]["refresh_relative"] > info["latency"]["relative"]
    result = suite(COMPARE, *options, small=False, computed=False)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["mobilenet_v3_small-galore-r4 * ok"])


@pytest.mark.usefixtures("few_rounds")
def test_a_cell_is_timed_beside_nothing(suite: Suite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """When the first is timed all else is measured of every cell, and the processes that did it have ended."""
    beside = []
    others = {*active_children()}  # of tests before, for which this one does not answer
    time_a_cell = timing.measure_latency_of

    def note_and_time(measured: Measurement, *given: Any) -> Measurement:
        processes = {*active_children()} - others
        beside.append((str(measured.record.cell), measured.record.measured_memory is None, processes))
        return time_a_cell(measured, *given)

    monkeypatch.setattr(timing, "measure_latency_of", note_and_time)
    run = tmp_path / "run.json"
    suite("--workers=2", f"--benchmark-json={run}", computed=False).assert_outcomes(passed=2)
    cells = ["mobilenet_v3_small-fft", "mobilenet_v3_small-lora-r4"]
    # The second has the process that timed the first.
    assert [(cell, lacks, len(processes)) for cell, lacks, processes in beside] == [
        (cell, False, number) for number, cell in enumerate(cells)
    ]
    for entry in json.loads(run.read_text())["benchmarks"]:
        assert entry["group"] == "mobilenet_v3_small"
        assert {"flops", "memory", "measured_memory", "latency", "result", "first_step"} <= set(entry["extra_info"])


@pytest.mark.usefixtures("few_rounds")
def test_only_updates_with_the_run_s_threads_are_rounds(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call of the step is noted with its threads and its duration; these tests' own processes have one thread."""
    notes = tmp_path / "notes"
    update = UpdateStep.__call__

    def noted(self: UpdateStep) -> torch.Tensor:
        losses: list[torch.Tensor] = []
        duration = Clock.for_threads(2).time(lambda: losses.append(update(self)))
        with notes.open("a") as file:
            file.write(f"{torch.get_num_threads()} {duration.unqueued / 1e9}\n")
        return losses[0]

    monkeypatch.setattr(UpdateStep, "__call__", noted)
    run = tmp_path / "run.json"
    suite(
        "--methods=head", "--metrics=latency", "--threads=2", f"--benchmark-json={run}", computed=False
    ).assert_outcomes(passed=1)
    threads, seconds = zip(*(line.split() for line in notes.read_text().splitlines()), strict=True)
    assert set(threads) == {"2"}
    (entry,) = json.loads(run.read_text())["benchmarks"]
    rounds = entry["stats"]["data"]
    assert len(rounds) == entry["extra_info"]["latency"]["rounds"]
    # An update within its round, both less the time without a core.
    assert min(rounds) >= min(map(float, seconds))


def test_a_run_without_one_measured_cell_writes_no_traceback(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest-benchmark warns that there is nothing to save, and these tests' warnings are errors."""
    monkeypatch.setattr(LoRA, "adapt", lambda *_: 1 / 0)
    result = suite("--methods=lora", "--benchmark-json=run.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["mobilenet_v3_small-lora-r4: ZeroDivisionError*", "1 cell, *: 1 failed"])


@pytest.mark.parametrize(
    ("metrics", "more", "failed"),
    [("latency", (), 1), ("flops,latency", ("--ranks=4,8", "--workers=2"), 2)],  # computed beside each other before
)
@pytest.mark.usefixtures("few_rounds")
def test_a_method_that_trains_nothing_fails(
    metrics: str, more: tuple[str, ...], failed: int, suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoRA, "learning_rate", 0.0)
    result = suite("--methods=lora", f"--metrics={metrics}", *more, computed=False)
    result.assert_outcomes(failed=failed)
    result.stdout.fnmatch_lines(["*mobilenet_v3_small-lora-r4: updates leave trained parameters as they were: *"])
