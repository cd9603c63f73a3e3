"""A test of a user's that passes a comparison was judged in it, however it is written, started and collected."""

from __future__ import annotations

import sys

import pytest

from tests.helpers.own_repository import COMPARE, SAVE, TEST, Repository

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm_operators", "few_further_calls")]

OF_UNITTEST = """
import unittest

import pytest
import step


class TestUpdates(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def keep(self, update_benchmark):
        self.measure = update_benchmark

    def test_measured(self):
        {measured}

    def test_skipped(self):
        {skipped}

    def test_fails(self):
        {fails}

    @pytest.mark.xfail
    def test_expected(self):
        {expected}
"""
PARTS = "measured", "skipped", "fails", "expected"
LATE = """
import pytest
import step


def test_skipped(request):
    {skipped}
    request.getfixturevalue("update_benchmark")(step.build)


@pytest.mark.update_tolerance(flops={tolerance}, parameters={tolerance})
def test_late(request):
    {late}
    request.getfixturevalue("update_benchmark")(step.build)
"""
LIKE_CODSPEED = """
import pytest
from pytest_benchmark.fixture import BenchmarkFixture


class Theirs:
    disabled = False
    __class__ = property(lambda self: BenchmarkFixture)


@pytest.fixture
def benchmark():
    return Theirs()
"""
IN_PARTS = """
import step


def test_parts(subtests, update_benchmark):
    with subtests.test("before"):
        pass
    {call}
    with subtests.test("behind"):
        pass
"""
IN_FIXTURES = """
import pytest
import step


@pytest.fixture
def before(update_benchmark):
    update_benchmark(step.build)


@pytest.fixture
def after(update_benchmark):
    yield
    update_benchmark(step.build)


def test_before(before):
    pass


def test_after(after):
    pass
"""
IN_A_FORK = """
import os
import pickle
from _pytest.runner import runtestprotocol


def pytest_runtest_protocol(item, nextitem):
    config, hook, file = item.config, item.config.hook, item.config.rootpath / "reports"
    child = os.fork()
    if not child:
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        said = [hook.pytest_report_to_serializable(config=config, report=report) for report in reports]
        file.write_bytes(pickle.dumps(said))
        os._exit(0)
    os.waitpid(child, 0)
    for data in pickle.loads(file.read_bytes()):
        hook.pytest_runtest_logreport(report=hook.pytest_report_from_serializable(config=config, data=data))
    return True
"""
"""As pytest-forked has it, which does not know the reports of pytest 9."""
CALL, FLOPS = "self.measure(step.build)", "--update-metrics=flops"


@pytest.fixture
def alone(repository: Repository) -> Repository:
    """With no test yet."""
    for name in ("test_a.py", "test_b.py"):
        (repository.path / name).unlink()
    return repository


def test_one_of_unittests_that_measures_nothing(alone: Repository) -> None:
    """And one that is skipped, or fails before, is told as such."""
    alone.write("test_c.py", OF_UNITTEST.format(**dict.fromkeys(PARTS, CALL)))
    alone.run(SAVE, FLOPS).assert_outcomes(passed=3, xpassed=1)
    said = {"skipped": "self.skipTest('today')", "fails": "self.fail('before')", "measured": "pass", "expected": "pass"}
    alone.write("test_c.py", OF_UNITTEST.format(**said))
    failed = alone.run(COMPARE, FLOPS)
    failed.assert_outcomes(failed=2, skipped=1, xfailed=1)
    assert failed.ret == 1
    failed.stdout.fnmatch_lines(
        [
            "never calls update_benchmark, and is in baselines/0001_baseline.json; expected one call, pytest.skip *",
            "2 cells of 0001_baseline.json not measured, because skipped, not reached or failed before: "
            "test_c.py::TestUpdates::test_fails, test_c.py::TestUpdates::test_skipped.",
            "Marked xfail, so that the run does not fail for it: test_c.py::TestUpdates::test_expected.",
        ]
    )


def test_one_that_asks_while_it_runs_is_there_when_it_does_not(alone: Repository) -> None:
    alone.write("test_c.py", LATE.format(skipped="", late="", tolerance=0))
    alone.run(SAVE, FLOPS).assert_outcomes(passed=2)
    skip = "pytest.skip('today')"
    alone.write("test_c.py", LATE.format(skipped=skip, late="", tolerance=0.5))
    alone.widen(9)
    skipped = alone.run(COMPARE, FLOPS)
    skipped.assert_outcomes(passed=1, skipped=1)
    assert skipped.ret == 0, "what its marker allows counts too"
    skipped.stdout.fnmatch_lines(
        ["1 cell of 0001_baseline.json not measured, because skipped, *: test_c.py::test_skip*"]
    )
    alone.write("test_c.py", LATE.format(skipped=skip, late="return", tolerance=0.5))
    failed = alone.run(COMPARE, FLOPS)
    failed.assert_outcomes(failed=1, skipped=1)
    failed.stdout.fnmatch_lines(["never calls update_benchmark, and is in baselines/0001_baseline.json; *"])


@pytest.mark.skipif(not hasattr(pytest, "Subtests"), reason="pytest 9 has them")
def test_one_of_several_parts(alone: Repository) -> None:
    """Each of which makes a report, as the whole does."""
    alone.write("test_c.py", IN_PARTS.format(call="update_benchmark(step.build)"))
    assert alone.run(SAVE, FLOPS).ret == 0
    held = alone.run(COMPARE, FLOPS)
    assert held.ret == 0
    held.stdout.fnmatch_lines(["1 cell, against 0001_baseline.json: 1 ok"])
    alone.write("test_c.py", IN_PARTS.format(call=""))
    assert alone.run(COMPARE, FLOPS).ret == 1


def test_one_that_only_an_older_baseline_has_is_not_new(repository: Repository) -> None:
    """A part was recorded, and is the newest. One that no baseline has is new; a baseline that is named judges."""
    repository.run(SAVE, FLOPS).assert_outcomes(passed=4)
    repository.run(SAVE, FLOPS, "-k", "test_a").assert_outcomes(passed=2)
    failed = repository.run(COMPARE, FLOPS)
    failed.assert_outcomes(passed=2, failed=2)
    assert failed.ret == 1
    failed.stdout.fnmatch_lines(
        [
            "is in 0001_baseline.json, and not in baselines/0002_baseline.json, the newest, which was recorded without "
            "it; expected a baseline that has it too: pytest --benchmark-save=baseline, the older one by its name: "
            "--benchmark-compare=0001_baseline, or for what is recorded by itself a folder of its own: "
            "--benchmark-storage",
            "4 cells, against 0002_baseline.json: 2 ok, 2 failed",
        ]
    )
    named = repository.run("--benchmark-compare=0001_baseline", FLOPS)
    assert named.ret == 0
    named.stdout.fnmatch_lines(["4 cells, against 0001_baseline.json: 4 ok"])
    repository.write("test_b.py", TEST.replace("test_update", "test_new").replace("test_lora", "test_newer"))
    assert repository.run(COMPARE, FLOPS).ret == 0


def test_a_step_by_its_name_that_only_an_older_baseline_has_is_not_new(repository: Repository) -> None:
    """Tests and steps that are recorded by turns lose each other; recorded in one run both are judged by either."""
    by_name = "--pyargs", "peft_update_bench.bench", "--steps=step:build", "--methods=own,head"
    repository.run(SAVE, FLOPS, *by_name).assert_outcomes(passed=2)
    repository.run(SAVE, FLOPS).assert_outcomes(passed=4)
    failed = repository.run(COMPARE, FLOPS, *by_name)
    failed.assert_outcomes(failed=2)
    assert failed.ret == 1
    failed.stdout.fnmatch_lines(
        [
            "step:build: is in 0001_baseline.json, and not in baselines/0002_baseline.json, *",
            "step:build-head: is in 0001_baseline.json, and not in baselines/0002_baseline.json, *",
            "2 cells, against 0002_baseline.json: 2 failed",
        ]
    )
    repository.run(SAVE, FLOPS, "test_a.py", *by_name).assert_outcomes(passed=4)
    for words in (by_name, ("test_a.py",)):
        held = repository.run(COMPARE, FLOPS, *words)
        assert held.ret == 0
        held.stdout.fnmatch_lines(["2 cells, against 0003_baseline.json: 2 ok"])


def test_one_that_a_package_named_for_pyargs_has_no_longer(alone: Repository) -> None:
    alone.write("pyproject.toml", (alone.path / "pyproject.toml").read_text().replace('["."]', '["src", "."]'))
    package = alone.path / "src" / "spotter_checks"
    package.mkdir(parents=True)
    for name in ("__init__.py", "test_c.py", "test_d.py"):
        (package / name).write_text("" if name == "__init__.py" else TEST)
    alone.run(SAVE, FLOPS, "--pyargs", "spotter_checks").assert_outcomes(passed=4)
    (package / "test_d.py").unlink()
    lost = alone.run(FLOPS, "--pyargs", "spotter_checks", COMPARE)
    assert lost.ret == 1
    lost.stdout.fnmatch_lines(["4 cells, against 0001_baseline.json: 2 missing, 2 ok"])
    assert alone.run(FLOPS, "--pyargs", "spotter_checks.test_c", COMPARE).ret == 0


def test_a_baseline_recorded_in_a_folder_below_is_of_a_part(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository.path / "tests").mkdir()
    (repository.path / "test_a.py").rename(repository.path / "tests" / "test_a.py")
    monkeypatch.chdir(repository.path / "tests")
    repository.run(SAVE, FLOPS).assert_outcomes(passed=2)
    suite = repository.saved()["suite"]
    assert isinstance(suite, dict)
    assert suite["is_filtered"] is True


def test_one_that_is_measured_by_a_fixture_is_measured_before_it_ends(alone: Repository) -> None:
    """What is measured behind a fixture's yield was recorded, and unchanged it failed: it never measured anything."""
    alone.write("test_c.py", IN_FIXTURES)
    refused = alone.run(SAVE, FLOPS)
    refused.assert_outcomes(passed=2, errors=1)
    assert refused.ret == 1
    refused.stdout.fnmatch_lines(["update_benchmark is called after the test, as in a fixture behind its yield; *"])
    alone.run(SAVE, FLOPS, "-k", "before").assert_outcomes(passed=1)
    assert alone.run(COMPARE, FLOPS, "-k", "before").ret == 0


def test_one_that_runs_in_a_fork_is_refused(alone: Repository) -> None:
    """Its record would be lost: the baseline lacked it, and what it lacks is new, whatever it has become."""
    alone.write("test_c.py", TEST)
    alone.write("conftest.py", IN_A_FORK)
    refused = alone.run(SAVE, FLOPS)
    refused.assert_outcomes(failed=2)
    assert refused.ret == 1
    refused.stdout.fnmatch_lines(["runs in a process forked from pytest's, with which its record would be lost, *"])
    assert not list(alone.path.glob("baselines/*.json"))
    alone.run("--benchmark-disable").assert_outcomes(passed=2)


@pytest.mark.parametrize(("words", "status"), [("-k=", 1), ("-m=", 1), ("-qk=", 1), ("-k=test_a", 0)])
def test_an_empty_expression_leaves_out_no_test_that_is_gone(repository: Repository, words: str, status: int) -> None:
    """As of a variable of CI that is not set."""
    repository.run(SAVE, FLOPS).assert_outcomes(passed=4)
    (repository.path / "test_b.py").unlink()
    assert repository.run(COMPARE, FLOPS, *words.split("=")).ret == status


def test_the_fixture_of_another_plugin_is_named(repository: Repository) -> None:
    """By which nothing can be measured, and the run ended in a traceback."""
    repository.write("conftest.py", LIKE_CODSPEED)
    refused = repository.run(FLOPS, "test_a.py")
    refused.assert_outcomes(failed=2)
    refused.stdout.fnmatch_lines(
        ["the fixture benchmark gives a conftest.Theirs; expected pytest-benchmark's, which *"]
    )
    assert "INTERNALERROR" not in refused.stdout.str()


@pytest.mark.parametrize("modules", ["", 'modules = ["theirs"]'])
def test_their_tests_import_what_they_did(alone: Repository, monkeypatch: pytest.MonkeyPatch, modules: str) -> None:
    """Of two modules of one name the one that pytest finds, also where the project's table names us."""
    table = f'[tool.pytest.ini_options]\npythonpath = ["src"]\n[tool.peft-update-bench]\n{modules}\n'
    alone.write("pyproject.toml", table)
    alone.write("theirs.py", "PLACE = 'root'")
    for folder in ("src", "tests"):
        (alone.path / folder).mkdir()
    alone.write("src/theirs.py", "PLACE = 'src'")
    alone.write("tests/test_place.py", "import theirs\n\n\ndef test_place():\n    assert theirs.PLACE == 'src'\n")
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    alone.run("tests").assert_outcomes(passed=1)
