"""Tests of a user's own that ask for ``update_benchmark``, from the command line: recorded, judged, left out, lost."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.helpers.null_byte import NULL_BYTE

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm_operators", "few_further_calls")]

STEP = """
import torch
from peft_update_bench.fixtures.update_step import UpdateStep
from torch import nn
from torch.nn import functional


def build(network=None):
    if network is None:
        pool = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        network = nn.Sequential(nn.Conv2d(3, {channels}, 3), *pool, nn.Linear({channels}, 4))
    images, labels = torch.randn(2, 3, 8, 8), torch.tensor([0, 1])
    loss = lambda network, images, labels: functional.cross_entropy(network(images), labels)
    return UpdateStep(network, torch.optim.SGD(network.parameters(), lr=0.1), (images, labels), loss)
"""
TEST = """
import step


def test_update(update_benchmark):
    update_benchmark(step.build)


def test_lora(update_benchmark):
    update_benchmark(step.build, method="lora", rank=2)
"""
ASKS_LATE = """
import step


def test_before():
    pass


def test_late(request):
    request.getfixturevalue("update_benchmark")(step.build)


def test_after():
    pass
"""
BESIDE = """
def test_beside(benchmark):
    benchmark.pedantic(sum, args=([1, 2],))
"""
RUNS_AGAIN = """
from _pytest.runner import runtestprotocol


def pytest_runtest_protocol(item, nextitem):
    runtestprotocol(item, log=False, nextitem=nextitem)
"""
FAILS_AS_EXPECTED = """
import pytest
import step


@pytest.mark.xfail
def test_expected(update_benchmark):
    update_benchmark(step.build)
    raise KeyError
"""
ENDS_BEFORE = """
import pytest
import step


def fails():
    raise KeyError("boxes")


def test_skipped(update_benchmark):
    pytest.skip("today")


def test_ends(update_benchmark):
    raise RuntimeError


def test_refused(update_benchmark):
    update_benchmark(step.build, rank=2)


def test_unbuilt(update_benchmark):
    update_benchmark(fails)


@pytest.mark.xfail
def test_expected(update_benchmark):
    update_benchmark(step.build)
"""
CAUGHT = """
import contextlib
import threading
import step


def test_in_a_thread(update_benchmark):
    thread = threading.Thread(target=update_benchmark, args=[step.build])
    thread.start()
    thread.join()


def test_caught(update_benchmark):
    with contextlib.suppress(BaseException):
        update_benchmark(step.build)
"""
BOTH = """
import step


def test_first(benchmark, update_benchmark):
    benchmark.pedantic(sum, args=([1, 2],))
    update_benchmark(step.build)


def test_last(benchmark, update_benchmark):
    update_benchmark(step.build)
    benchmark.pedantic(sum, args=([1, 2],))
"""
NO_SOCKETS = """
import socket


def refuse(*arguments, **named):
    raise RuntimeError("no network in tests")


socket.socketpair = socket.socket = refuse
"""
SAVE, COMPARE, METRICS = "--benchmark-save=baseline", "--benchmark-compare", "--update-metrics=flops"


class Repository:
    """A stranger's, with two files of tests."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester
        self.path = pytester.path
        self.write("pyproject.toml", '[tool.pytest.ini_options]\npythonpath = ["."]\n[tool.peft-update-bench]\n')
        self.write("test_a.py", TEST)
        self.write("test_b.py", TEST)
        self.widen(8)

    def write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)

    def widen(self, channels: int) -> None:
        self.write("step.py", STEP.format(channels=channels))

    def run(self, *options: str) -> pytest.RunResult:
        chosen = ("-p", "no:cacheprovider", METRICS, *options)
        return self._pytester.runpytest_inprocess(*chosen)

    def run_alone(self, *options: str) -> pytest.RunResult:
        """In a process that has the variables of the environment from its start."""
        return self._pytester.runpytest_subprocess("-p", "no:cacheprovider", METRICS, *options)

    def saved(self, number: int = 1) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.path / "baselines" / f"{number:04}_baseline.json").read_text())
        return found


@pytest.fixture
def repository(pytester: pytest.Pytester) -> Repository:
    return Repository(pytester)


def test_they_are_recorded_and_held_to_it(repository: Repository) -> None:
    both = "--update-metrics=flops,memory"
    saved = repository.run(SAVE, both)
    saved.assert_outcomes(passed=4)
    assert saved.ret == 0
    held = repository.run(COMPARE, both)
    assert held.ret == 0
    held.stdout.fnmatch_lines(["4 cells, against 0001_baseline.json: 4 ok"])

    repository.widen(9)
    failed = repository.run(COMPARE, both)
    failed.assert_outcomes(failed=4)
    assert failed.ret == 1
    brief = [line for line in failed.outlines if line.startswith("FAILED")]
    assert len(brief) == 4
    assert all(" +12." in line for line in brief), "a method's cells are told in brief, as the others"
    assert "4 cells not as in 0001_baseline.json" in failed.stdout.str()
    one_by_one = [line for line in failed.outlines if "does not hold its baseline" in line]
    assert all(line.startswith("FAILED") for line in one_by_one), "what is told together is not told one by one"


def test_what_torch_does_otherwise_while_it_is_watched_has_the_allocators_peak(repository: Repository) -> None:
    logits, lowest = "network(images), labels)", "network(images), labels) + network[0](images).quantile(0.3)"
    (repository.path / "test_b.py").unlink()
    repository.write("test_a.py", TEST.partition("\n\n\ndef test_lora")[0])
    repository.write("step.py", STEP.format(channels=64).replace(logits, lowest))
    saved = repository.run("--update-metrics=flops,memory,measured_memory", SAVE)
    assert saved.ret == 0
    saved.stdout.fnmatch_lines(
        ["*its peak memory is the CPU allocator's account of the step, the same twice: * less than operators show *"]
    )
    cells: Any = repository.saved()["benchmarks"]
    assert abs(cells[0]["extra_info"]["measured_memory"]["unexplained_gap"]) < 1e-4
    held = repository.run(COMPARE)
    assert held.ret == 0
    held.stdout.fnmatch_lines(["1 cell, against 0001_baseline.json: 1 ok"])


def test_one_that_is_gone_is_lost_unless_the_command_line_leaves_it_out(repository: Repository) -> None:
    repository.run(SAVE).assert_outcomes(passed=4)
    for option in ("--ignore=test_b.py", "--ignore-glob=*_b.py", "--deselect=test_b.py", "test_a.py"):
        left_out = repository.run(option, COMPARE)
        assert left_out.ret == 0, option
        left_out.stdout.fnmatch_lines(["2 cells, against 0001_baseline.json: 2 ok"])
    (repository.path / "test_b.py").unlink()
    lost = repository.run("--ignore=elsewhere", COMPARE)
    assert lost.ret == 1
    lost.stdout.fnmatch_lines(["*test_b.py::test_update is in 0001_baseline.json and no longer in the run.*"])
    for option, status in (("--deselect=test_b.py", 0), ("--deselect=test_a.py::test_lora", 1)):
        assert repository.run("-p", "no:terminal", option, COMPARE).ret == status, "also where nothing is printed"


def test_metrics_that_are_not_told_of_a_step_are_named(repository: Repository) -> None:
    """Who asked for them would look for their columns."""
    run = repository.run("test_a.py", "--update-metrics=flops,growth,result")
    assert run.ret == 0
    run.stdout.fnmatch_lines(["Not measured, because not told of a step of one's own: growth, result."])


@pytest.mark.parametrize(
    ("option", "line", "complaint"),
    [
        ("--benchmark-compare=", "", "--benchmark-compare is ''; expected a number, the beginning of a file name, "),
        ("--benchmark-storage=http://a", "", "--benchmark-storage is 'http://a'; expected a folder"),
        (
            "--update-metrics=growth",
            "",
            "--metrics is 'growth', which is not told of a step of one's own; expected others too, such as flops",
        ),
        ("--benchmark-json=.", "", "--benchmark-json . cannot be written (Is a directory); expected a file to make"),
        (COMPARE, 'storage = "step.py"', "*: tool.peft-update-bench.storage is *step.py', which is a file"),
        (
            COMPARE,
            'storage = "a\\u0000b"',
            f"*: tool.peft-update-bench.storage is *, which cannot be used ({NULL_BYTE}",
        ),
        # In a project whose warnings are errors, as this one's, pytest-benchmark's does not come first.
        (COMPARE, 'storage = "perf"', "no baseline (NNNN_[*].json) in perf; record one with: pytest "),
        ("--benchmark-compare=pyproject.toml", "", "pyproject.toml: is not complete JSON (line 1, column 2: "),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(
    repository: Repository, option: str, line: str, complaint: str
) -> None:
    table = (repository.path / "pyproject.toml").read_text()
    repository.write("pyproject.toml", f"{table}{line}\n")
    refused = repository.run(option)
    assert refused.ret == 4
    refused.stderr.fnmatch_lines([f"ERROR: {complaint}*"])
    assert "Traceback" not in refused.stdout.str() + refused.stderr.str()


@pytest.mark.parametrize(
    "line", ['tool.peft-update-bench.storage = "perf"', '[tool]\npeft-update-bench = {storage = "perf"}']
)
def test_a_table_is_noticed_however_it_is_written(repository: Repository, line: str) -> None:
    repository.write("pyproject.toml", f'{line}\n[tool.pytest.ini_options]\npythonpath = ["."]\n')
    repository.run(COMPARE).stderr.fnmatch_lines(["ERROR: no baseline (NNNN_[*].json) in perf; *"])


def test_a_baseline_of_nothing_is_said_not_to_be_saved(repository: Repository) -> None:
    skipped = repository.run(SAVE, "--benchmark-skip")
    skipped.assert_outcomes(skipped=4)
    skipped.stdout.fnmatch_lines(["No baseline was saved: nothing was measured."])


def test_a_run_that_ends_before_its_tests_are_known_says_why(repository: Repository) -> None:
    """Of nothing to save pytest-benchmark warns: as an error that was a traceback in the place of what is wrong."""
    (repository.path / "test_b.py").unlink()
    repository.write("test_a.py", "import nowhere\n")
    broken = repository.run(SAVE, "-W", "error")
    assert broken.ret == pytest.ExitCode.INTERRUPTED
    broken.stdout.fnmatch_lines(["*ModuleNotFoundError: No module named 'nowhere'"])
    repository.write("test_a.py", "raise KeyboardInterrupt\n")
    assert repository.run_alone(SAVE, "-W", "error").ret == pytest.ExitCode.INTERRUPTED


@pytest.mark.parametrize(("option", "is_part"), [("--ignore=test_b.py", True), ("--durations=1", False)])
def test_a_baseline_of_a_part_says_so(repository: Repository, option: str, is_part: bool) -> None:
    repository.run(SAVE, option)
    suite = repository.saved()["suite"]
    assert isinstance(suite, dict)
    assert suite["is_filtered"] is is_part


def test_one_that_asks_while_it_runs_is_saved_too(repository: Repository) -> None:
    for name in ("test_a.py", "test_b.py"):
        (repository.path / name).unlink()
    repository.write("test_late.py", ASKS_LATE)
    saved = repository.run(SAVE)
    saved.assert_outcomes(passed=3)
    assert "No baseline was saved" not in saved.stdout.str()
    entries = repository.saved()["benchmarks"]
    assert isinstance(entries, list)
    assert [entry["fullname"] for entry in entries] == ["test_late.py::test_late"]


def test_a_folder_of_tests_is_no_run_of_the_matrix_because_of_testpaths(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pytest goes by testpaths in its root folder alone."""
    bench = Path(__file__).parents[2] / "bench"
    pytester.makeini(f"[pytest]\ntestpaths = {bench}\n")
    folder = pytester.mkdir("tests")
    (folder / "test_theirs.py").write_text("def test_theirs():\n    pass\n")
    monkeypatch.chdir(folder)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    assert "update benchmark" not in result.stdout.str()


def test_one_of_a_baseline_is_a_benchmark_whether_or_not_it_asks_for_the_fixture(repository: Repository) -> None:
    """`--benchmark-only`, which many have in their addopts, skipped one that no longer did."""
    (repository.path / "test_b.py").unlink()
    repository.write("test_a.py", ASKS_LATE)
    repository.run(SAVE).assert_outcomes(passed=3)
    repository.run(COMPARE, "--benchmark-only").assert_outcomes(passed=1, skipped=2)
    repository.write("test_a.py", ASKS_LATE.replace('request.getfixturevalue("update_benchmark")', "print"))
    failed = repository.run(COMPARE, "--benchmark-only")
    failed.assert_outcomes(failed=1, skipped=2)
    failed.stdout.fnmatch_lines(["never calls update_benchmark, and is in baselines/0001_baseline.json; *"])


def test_one_that_passes_and_measures_nothing_does_not_hold_its_baseline(repository: Repository) -> None:
    repository.run(SAVE).assert_outcomes(passed=4)
    repository.write("test_a.py", TEST.replace("update_benchmark):\n", "update_benchmark):\n    return\n"))
    failed = repository.run(COMPARE)
    failed.assert_outcomes(passed=2, failed=2)
    assert failed.ret == 1
    failed.stdout.fnmatch_lines(
        [
            "never calls update_benchmark, and is in baselines/0001_baseline.json; expected one call, pytest.skip *",
            "test_a.py::test_lora * failed: never calls update_benchmark*",
            "FAILED never calls update_benchmark*",
        ]
    )
    repository.run(SAVE).assert_outcomes(passed=4)  # which is how it is said that it is meant


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_one_whose_failure_does_not_reach_it_fails(repository: Repository) -> None:
    """It ends a thread of the test's, in which pytest sees a warning, or is caught."""
    for name in ("test_a.py", "test_b.py"):
        (repository.path / name).unlink()
    repository.write("test_c.py", CAUGHT)
    repository.run(SAVE).assert_outcomes(passed=2)
    assert repository.run(COMPARE).ret == 0
    repository.widen(9)
    failed = repository.run(COMPARE, "-W", "ignore::pytest.PytestUnhandledThreadExceptionWarning")
    failed.assert_outcomes(failed=2)
    assert failed.ret == 1
    failed.stdout.fnmatch_lines(["  flops.forward regressed: *", "2 cells, *: 2 regressed", "FAILED flops.forward *"])
    repository.write("test_c.py", CAUGHT.replace("step.build", "step"))
    refused = repository.run("-k", "caught")
    refused.assert_outcomes(failed=1)
    refused.stdout.fnmatch_lines(["is given module; expected the function that builds the step"])


def test_one_that_uses_the_other_fixture_too_is_told(repository: Repository) -> None:
    repository.write("test_a.py", BOTH)
    refused = repository.run("test_a.py")
    refused.assert_outcomes(failed=2)
    assert "own_tests.py" not in refused.stdout.str(), "no traceback through the plugin"
    refused.stdout.fnmatch_lines(
        [
            "the test has used its fixture benchmark before, which measures once; expected a test for each, *",
            "*FixtureAlreadyUsed: * it was used in update_benchmark mode.",
        ]
    )


@pytest.mark.parametrize("metrics", ["flops", "flops,measured_memory"])
def test_where_no_socket_can_be_had_it_is_said(
    repository: Repository, metrics: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under pytest-socket: processes of one machine speak by sockets."""
    for name in ("socket", "socketpair"):
        monkeypatch.setattr(socket, name, getattr(socket, name))  # for the tests that follow, as it was
    repository.write("conftest.py", NO_SOCKETS)
    failed = repository.run(f"--update-metrics={metrics}", "test_a.py", "-k", "update")
    failed.assert_outcomes(failed=1)
    failed.stdout.fnmatch_lines(
        ["no process could be started for it: RuntimeError('no network in tests'); expected * --allow-unix-socket"]
    )


def test_where_none_is_left_all_are_lost(repository: Repository) -> None:
    """In pytest's counts and JUnit's file too; a run that may have left them out says nothing."""
    repository.run(SAVE).assert_outcomes(passed=4)
    for name in ("test_a.py", "test_b.py"):
        (repository.path / name).unlink()
    repository.write("test_beside.py", BESIDE)
    lost = repository.run(COMPARE, "--junitxml=junit.xml")
    assert lost.ret == 1
    lost.assert_outcomes(passed=1, failed=4)
    lost.stdout.fnmatch_lines(
        [
            "test_a.py::test_update, test_a.py::test_lora, test_b.py::test_update and 1 more are in 0001_baseline.json "
            "and no longer in the run. *",
            "4 cells, against 0001_baseline.json: 4 missing",
            "FAILED the cell missing test_a.py::test_update*",
        ]
    )
    suites = ElementTree.parse(repository.path / "junit.xml")
    values = [one.get("value") for one in suites.findall(".//testsuite/properties/property")]
    assert values == ["4 cells, against 0001_baseline.json: 4 missing"]
    assert len(suites.findall(".//failure")) == 4
    for options in (
        [], ["-k", "beside", COMPARE], ["-m", "not slow", COMPARE], ["test_beside.py", COMPARE],
        ["--deselect=test_a.py", "--ignore-glob=*_b.py", COMPARE],
    ):  # fmt: skip
        narrowed = repository.run(*options)
        narrowed.assert_outcomes(passed=1)
        assert narrowed.ret == 0, options
        assert "update benchmark" not in narrowed.stdout.str(), options
    (repository.path / "test_beside.py").unlink()
    assert repository.run(COMPARE).ret == 1, "pytest's own status says only that nothing was collected"
    assert repository.run(COMPARE, "-pno:mock").ret == 1, "no -k or -m is among its letters"


@pytest.mark.parametrize("processes", [(), ("-n", "2", "-W", "ignore")])
def test_where_none_is_left_a_baseline_that_cannot_be_told_is_refused(
    repository: Repository, processes: tuple[str, ...]
) -> None:
    """Else nothing would miss them."""
    repository.run(SAVE).assert_outcomes(passed=4)
    for name in ("test_a.py", "test_b.py"):
        (repository.path / name).unlink()
    repository.write("test_beside.py", BESIDE)
    tests = repository.run(*processes, COMPARE, ".")
    assert tests.ret == 4
    tests.stderr.fnmatch_lines(["*--benchmark-compare is '.': * expected it behind the tests: . --benchmark-compare"])
    first = repository.path / "baselines" / "0001_baseline.json"
    first.with_name("0001_theirs.json").write_text(first.read_text())
    twins = repository.run(*processes, COMPARE)
    assert twins.ret == 4
    twins.stderr.fnmatch_lines(["*baselines has 2 files of the number 0001, *"])


@pytest.mark.filterwarnings("ignore::pytest_benchmark.logger.PytestBenchmarkWarning")
def test_a_project_without_a_baseline_may_compare_other_benchmarks(repository: Repository) -> None:
    for name in ("test_a.py", "test_b.py"):
        (repository.path / name).unlink()
    repository.write("test_beside.py", BESIDE)
    warned = repository.run(COMPARE, "-W", "error::pytest_benchmark.logger.PytestBenchmarkWarning")
    assert warned.ret == pytest.ExitCode.INTERNAL_ERROR, "which is pytest-benchmark's own answer"
    assert repository.run(COMPARE).ret == 0
    assert repository.run("--benchmark-save=theirs").ret == 0
    assert repository.run(COMPARE).ret == 0
    repository.write("baselines/0002_broken.json", "{")
    broken = repository.run(COMPARE)
    assert broken.ret == 4
    broken.stderr.fnmatch_lines(["ERROR: baselines/0002_broken.json: is not complete JSON *"])


def test_only_updates_are_timed(repository: Repository) -> None:
    """How long a measurement took is in no table, and no threshold judges it; other benchmarks are shown."""
    (repository.path / "test_b.py").unlink()
    repository.run(SAVE)
    alone = repository.run(COMPARE, "--benchmark-compare-fail=mean:1%")
    assert alone.ret == 0
    alone.stdout.fnmatch_lines(["--benchmark-compare-fail judged nothing: no update was timed."])
    assert "measurement's own time" not in alone.stdout.str()
    repository.write("test_beside.py", BESIDE)
    beside = repository.run(COMPARE)
    beside.stdout.fnmatch_lines(["*benchmark: 1 tests*", "test_beside*"])
    # Nor is an update's time held against how long it took to compute its figures.
    timed = repository.run(
        "test_a.py", "-k", "update", COMPARE, f"{METRICS},latency", "--benchmark-compare-fail=min:1%"
    )
    timed.stdout.fnmatch_lines(["*: 1 tests*", "test_update *", "--benchmark-compare-fail judged nothing: no update*"])
    assert "(NOW)" not in timed.stdout.str()


def test_a_run_in_a_folder_below(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.write("pyproject.toml", (repository.path / "pyproject.toml").read_text() + 'storage = "perf/baselines"')
    (repository.path / "test_b.py").unlink()
    (repository.path / "tests").mkdir()
    (repository.path / "test_a.py").rename(repository.path / "tests" / "test_a.py")
    repository.run(SAVE).assert_outcomes(passed=2)
    monkeypatch.chdir(repository.path / "tests")
    below = repository.run(COMPARE, "-k", "lora")
    assert below.ret == 0
    below.stdout.fnmatch_lines(["1 cell, against 0001_baseline.json: 1 ok"])


def test_a_root_folder_that_is_not_the_recordings_is_named(repository: Repository) -> None:
    """By it a test has another id, under which it would pass as new."""
    for folder in ("tests", "ci"):
        (repository.path / folder).mkdir()
    (repository.path / "test_a.py").rename(repository.path / "tests" / "test_a.py")
    (repository.path / "test_b.py").unlink()
    repository.write("ci/pytest.ini", "[pytest]\npythonpath = ..\n")
    repository.run(SAVE).assert_outcomes(passed=2)
    options = ("-c", "ci/pytest.ini", "tests", COMPARE)
    refused = repository.run(*options)
    assert refused.ret == 4
    refused.stderr.fnmatch_lines(
        ["ERROR: baselines/0001_baseline.json: holds tests/test_a.py::test_update, which is test_a.py::test_update in "
         "this run, whose root folder is */ci; expected that of the recording, --rootdir=., or where the file was "
         "moved a new baseline: pytest tests --benchmark-save=baseline"]
    )  # fmt: skip
    assert repository.run("--rootdir=.", *options).ret == 0


def test_what_was_not_measured_is_told(repository: Repository) -> None:
    """And why each failed, at the beginning of a line; nobody is warned that such a test has measured nothing."""
    for name in ("test_a.py", "test_b.py"):
        (repository.path / name).unlink()
    names = ("skipped", "ends", "refused", "unbuilt", "expected")
    tests = [f"def test_{name}(update_benchmark):\n    update_benchmark(step.build)\n" for name in names]
    repository.write("test_c.py", "import step\n" + "\n".join(tests))
    repository.run(SAVE).assert_outcomes(passed=5)
    expected = "Marked xfail, so that the run does not fail for it: test_c.py::test_expected."
    repository.write("test_c.py", FAILS_AS_EXPECTED)
    alone = repository.run()
    alone.assert_outcomes(xfailed=1)
    alone.stdout.fnmatch_lines([expected, "1 cell, no baseline compared *: 1 not compared"])
    repository.write("test_c.py", ENDS_BEFORE)
    repository.widen(9)
    result = repository.run(COMPARE, "-W", "error::pytest_benchmark.logger.PytestBenchmarkWarning")
    result.assert_outcomes(failed=3, skipped=1, xfailed=1)
    result.stdout.fnmatch_lines(
        [
            "3 cells of 0001_baseline.json not measured, because skipped, not reached or failed before: "
            "test_c.py::test_skipped, test_c.py::test_ends, test_c.py::test_refused.",
            expected,
            "2 cells, against 0001_baseline.json: 1 failed, 1 regressed",
            "FAILED rank is 2 without a method; expected both or neither test_c.py::test_refused*",
            "FAILED raises KeyError: 'boxes' (test_c.py:7) when it is built test_c.py::test_unbuilt*",
        ]
    )


def test_what_builds_no_step_is_told_once(repository: Repository) -> None:
    repository.write("test_a.py", 'def test_named(update_benchmark):\n    update_benchmark("step:build")\n')
    refused = repository.run("test_a.py")
    assert refused.ret == 1
    refused.stdout.fnmatch_lines(["is given str; expected the function that builds the step"])
    assert "During handling" not in refused.stdout.str()
    repository.write("test_a.py", TEST.replace("step.build", "step.build()"))
    refused = repository.run("test_a.py")
    assert refused.ret == 1
    refused.stdout.fnmatch_lines(["is given UpdateStep; expected the function that builds the step"])


def test_a_test_that_is_run_again_is_recorded_once(repository: Repository) -> None:
    """As pytest-rerunfailures does it by a marker; a file that had it twice would be refused ever after."""
    repository.write("conftest.py", RUNS_AGAIN)
    repository.run(SAVE).assert_outcomes(passed=4)
    held = repository.run(COMPARE)
    assert held.ret == 0
    held.stdout.fnmatch_lines(["4 cells, against 0001_baseline.json: 4 ok"])


def test_what_addopts_compare_can_be_recorded(repository: Repository) -> None:
    """A first baseline, and a meant change, by the command that a failing run names; without it, it is judged."""
    table = (
        '[tool.pytest.ini_options]\naddopts = ["--benchmark-compare"]\npythonpath = ["."]\n[tool.peft-update-bench]\n'
    )
    repository.write("pyproject.toml", table)
    assert repository.run(SAVE).ret == 0
    repository.widen(9)
    repository.run().assert_outcomes(failed=4)
    repository.run(SAVE, COMPARE).assert_outcomes(failed=4)
    assert repository.run(SAVE).ret == 0
    assert repository.run().ret == 0
    for name in ("test_a.py", "test_b.py"):
        repository.write(name, "def test_other():\n    pass\n")
    assert repository.run().ret == 1


def test_options_of_our_names_stay_whose_they_are(repository: Repository) -> None:
    """Of two options one has our longer name alone, and the other both of ours, which is then left out."""
    options = "--update-threads", "--cell-seconds", "--update-cell-seconds"
    lines = [f'    parser.addoption("{option}", type=int, default=0)' for option in options]
    repository.write("conftest.py", "\n".join(["def pytest_addoption(parser):", *lines]))
    result = repository.run("--update-threads=7", "test_a.py")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["2 cells, no baseline compared *"])


def test_where_benchmarks_are_disabled_steps_are_tried(repository: Repository) -> None:
    repository.run(SAVE).assert_outcomes(passed=4)
    repository.widen(9)
    repository.write("test_b.py", ENDS_BEFORE)
    tried = repository.run(COMPARE, "--benchmark-disable")
    tried.assert_outcomes(passed=2, failed=3, skipped=1, xpassed=1)
    tried.stdout.fnmatch_lines(["update benchmark: disabled (--benchmark-disable); *"])
    assert "0001_baseline.json:" not in tried.stdout.str(), "nothing is judged"
    unsaved = repository.run(SAVE, "--benchmark-disable", "test_a.py")
    unsaved.stdout.fnmatch_lines(["No baseline was saved: benchmarks are disabled."])


@pytest.mark.parametrize(
    ("addopts", "remedy"),
    [("--benchmark-disable", "--benchmark-enable *"), ("--benchmark-skip", "a run without it, *-o addopts= *")],
)
def test_a_project_that_leaves_benchmarks_out_lets_no_judging_run_pass(
    repository: Repository, addopts: str, remedy: str
) -> None:
    """As many do in their addopts, for their usual runs."""
    (repository.path / "test_b.py").unlink()
    repository.run(SAVE).assert_outcomes(passed=2)
    pyproject = (repository.path / "pyproject.toml").read_text()
    repository.write("pyproject.toml", pyproject.replace("[tool.peft", f'addopts = "{addopts}"\n[tool.peft'))
    for option in (COMPARE, SAVE, "--benchmark-json=run.json"):
        refused = repository.run(option)
        assert refused.ret == 4
        refused.stderr.fnmatch_lines(
            [f"ERROR: {option.partition('=')[0]} is given, and * {addopts}*; expected {remedy}"]
        )
    assert repository.run().ret == 0
    judging = "--benchmark-enable" if addopts == "--benchmark-disable" else "-o addopts="
    repository.run(COMPARE, *judging.split()).stdout.fnmatch_lines(["2 cells, * 2 ok"])


def test_what_a_step_prints_need_not_be_in_the_terminals_encoding(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where pytest captures it. Of a table with a letter too many pytest wrote the line breaks out."""
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONUTF8", "0")
    prints = "import step\n\n\ndef build():\n    print('Größe →')\n    {}\n"
    test = "import {0}\n\n\ndef test_it(update_benchmark):\n    update_benchmark({0}.build)\n"
    repository.write("prints.py", prints.format("return step.build()"))
    repository.write("fails.py", prints.format("raise RuntimeError('Größe')"))
    repository.write("test_a.py", test.format("prints"))
    repository.write("test_b.py", test.format("fails"))
    held = repository.run_alone("test_a.py", "test_b.py")
    held.assert_outcomes(passed=1, failed=1)
    held.stdout.fnmatch_lines(
        [
            "cell * FLOPs * verdict",
            "----*",
            "test_a.py::test_it *FLOPs * not compared",
            "test_b.py::test_it *failed: raises RuntimeError: Gr\\xf6\\xdfe *",
            "2 cells, no baseline compared (--benchmark-compare): 1 not compared, 1 failed",
        ]
    )
