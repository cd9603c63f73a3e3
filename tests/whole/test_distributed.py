"""Users' own tests in processes of pytest-xdist's: a run that measures nothing does not pass for one that does."""

from __future__ import annotations

import pytest

from tests.helpers.own_repository import COMPARE, SAVE, Repository

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm_operators", "few_further_calls")]

TWO = ("-n", "2", "-W", "ignore")

LEAVES_OUT = """
def pytest_collection_modifyitems(config, items):
    kept = [item for item in items if not item.nodeid.startswith("test_b.py")]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
"""


def test_where_none_is_left_all_are_lost(repository: Repository) -> None:
    repository.run(SAVE).assert_outcomes(passed=4)
    repository.write("test_a.py", "def test_beside(): assert False")
    repository.write("test_b.py", "")
    lost = repository.run_alone(COMPARE, *TWO)
    lost.assert_outcomes(failed=5)
    assert lost.ret == 1
    lost.stdout.fnmatch_lines(
        [
            "test_a.py::test_update, test_a.py::test_lora, test_b.py::test_update and 1 more are in 0001_baseline.json "
            "and no longer in the run. *",
            "4 cells, against 0001_baseline.json: 4 missing",
            "FAILED the cell missing test_a.py::test_update*",
        ]
    )


def test_what_passes_without_measuring_fails(repository: Repository) -> None:
    repository.run(SAVE).assert_outcomes(passed=4)
    repository.write("test_a.py", "def test_update(): pass\ndef test_lora(): pass")
    failed = repository.run_alone(COMPARE, *TWO, "--ignore=test_b.py")
    failed.assert_outcomes(failed=2)
    failed.stdout.fnmatch_lines(["never calls update_benchmark, and is in baselines/0001_baseline.json; expected *"])


def test_what_is_kept_out_is_not_missed(repository: Repository) -> None:
    repository.run(SAVE).assert_outcomes(passed=4)
    repository.write("test_a.py", "def test_beside(): pass")
    repository.write("conftest.py", LEAVES_OUT)
    kept_out = repository.run_alone(COMPARE, *TWO, "--deselect=test_a.py::test_update", "--deselect=test_a.py::test_l")
    kept_out.assert_outcomes(passed=1)
    assert kept_out.ret == 0


def test_a_baseline_that_cannot_be_read_is_refused(repository: Repository) -> None:
    (repository.path / "baselines").mkdir()
    repository.write("baselines/0001_baseline.json", "{")
    repository.write("test_a.py", "def test_beside(): pass")
    repository.write("test_b.py", "")
    refused = repository.run_alone(COMPARE, *TWO)
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(["ERROR: baselines/0001_baseline.json: is not complete JSON *"])
