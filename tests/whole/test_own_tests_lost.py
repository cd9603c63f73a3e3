"""Tests of a user's own that a baseline has, and that a run lacks, or passes without measuring."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.helpers.own_repository import ASKS_LATE, BESIDE, COMPARE, SAVE, TEST, Repository

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm_operators", "few_further_calls")]

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
