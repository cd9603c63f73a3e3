"""What a run of a user's own tests says of what it could not do, or did otherwise."""

from __future__ import annotations

import socket

import pytest

from tests.helpers.null_byte import NULL_BYTE
from tests.helpers.own_repository import COMPARE, ENDS_BEFORE, SAVE, TEST, Repository

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm_operators", "few_further_calls")]

FAILS_AS_EXPECTED = """
import pytest
import step


@pytest.mark.xfail
def test_expected(update_benchmark):
    update_benchmark(step.build)
    raise KeyError
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
