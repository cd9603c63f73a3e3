"""A machine on which nothing can be kept for a while: TMPDIR is not set, and /tmp cannot be written to."""

from __future__ import annotations

import re

import pytest
from peft_update_bench.bench.__main__ import main
from peft_update_bench.bench.processes.child_process import ChildProcess, MeasurementError
from peft_update_bench.fixtures.files import no_temporary_folder

SENTENCE = "there is no folder for temporary files that can be written to; expected /tmp, or one that TMPDIR names"

OWN_TEST = """
def test_update(update_benchmark):
    update_benchmark(lambda: None)
"""


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/proc/none"])


def test_where_there_is_one_nothing_is_said() -> None:
    assert no_temporary_folder() == ""


@pytest.mark.usefixtures("nowhere")
def test_a_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bisect", "0.18.0", "0.18.1", "--package", "peft"]) == 2
    assert capsys.readouterr().err == f"update-bench bisect: {SENTENCE}\n"


@pytest.mark.parametrize("words", [("--pyargs", "peft_update_bench.bench", "--metrics=flops"), ("test_own.py",)])
def test_a_run_says_so_before_it_measures(
    pytester: pytest.Pytester, request: pytest.FixtureRequest, words: tuple[str, ...]
) -> None:
    """Without ``-s`` pytest itself needs one, for what tests print."""
    pytester.makepyfile(test_own=OWN_TEST)
    request.getfixturevalue("nowhere")
    result = pytester.runpytest_inprocess("-s", "-p", "no:cacheprovider", *words)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert SENTENCE in "\n".join([*result.outlines, *result.errlines])


def test_a_process_that_cannot_keep_its_output_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a disk has become full, which is the cell's failure and not the run's end."""
    monkeypatch.setattr("tempfile.tempdir", "/proc/none")
    with pytest.raises(MeasurementError, match=re.escape("no process could be started for it: [Errno 2] No such")):
        ChildProcess("fork")
