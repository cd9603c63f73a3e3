"""Tests of a user's own that ask for ``update_benchmark``, from the command line: recorded and judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.own_repository import ASKS_LATE, BESIDE, COMPARE, ENDS_BEFORE, METRICS, SAVE, STEP, TEST, Repository

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm_operators", "few_further_calls")]

RUNS_AGAIN = """
from _pytest.runner import runtestprotocol


def pytest_runtest_protocol(item, nextitem):
    runtestprotocol(item, log=False, nextitem=nextitem)
"""


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
