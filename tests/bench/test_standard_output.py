"""What a command prints, to whoever reads only its beginning, cannot show it, or has no room for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from peft_update_bench.bench.__main__ import main

from tests.helpers.records import baseline_data, extra_info, write

REPOSITORY = Path(__file__).resolve().parents[2]


def command(tmp_path: Path, name: str, **options: Any) -> subprocess.Popen[str]:
    run = write(tmp_path / "run.json", baseline_data(extra_info()))
    words = {"diff": [str(run), str(run)], "export": ["--format", "bencher", str(run)]}[name]
    return subprocess.Popen(
        [sys.executable, "-m", "bench", name, *words],
        cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["diff", "export"])
def test_a_reader_that_has_enough_ends_it_without_a_word(tmp_path: Path, name: str) -> None:
    process = command(tmp_path, name, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 141, "as of a program that SIGPIPE has ended"


def test_a_full_disk_is_said_in_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        process = command(tmp_path, "export", stdout=full)
        said = process.communicate(timeout=60)[1]
    assert said == "update-bench export: what it found cannot be printed: No space left on device\n"
    assert process.returncode == 2


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(("words", "name"), [((), "update-bench"), (("diff",), "update-bench diff")])
def test_help_that_cannot_be_written_is_said(words: tuple[str, ...], name: str, unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "bench", *words, "--help"], cwd=REPOSITORY, stdout=full, stderr=subprocess.PIPE,
            text=True, env={**os.environ, "PYTHONUNBUFFERED": unbuffered}, check=False,
        )  # fmt: skip
    assert run.stderr == f"{name}: what it found cannot be printed: No space left on device\n"
    assert run.returncode == 2


@pytest.mark.parametrize("closed", [">&-", "<&- >&-"])
def test_a_closed_standard_output_is_said_in_one_line(tmp_path: Path, closed: str) -> None:
    run = write(tmp_path / "run.json", baseline_data(extra_info()))
    process = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "bench", "diff", str(run)],
        cwd=REPOSITORY, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.communicate(timeout=60)[1] == (
        "update-bench diff: what it found cannot be printed: Bad file descriptor\n"
    )
    assert process.returncode == 2


def test_what_goes_to_a_closed_stderr_is_not_among_the_figures(tmp_path: Path) -> None:
    """Of what is no recording `diff` prints the text, for git, and on stderr why."""
    (tmp_path / "run.json").write_text("cut off")
    process = subprocess.Popen(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-m", "bench", "diff", str(tmp_path / "run.json")],
        cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.communicate(timeout=60)[0] == "cut off\n"
    assert process.returncode == 0


def test_characters_that_the_terminal_lacks_are_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    said = command(tmp_path, "diff", stdout=subprocess.PIPE).communicate(timeout=60)
    assert said[0].startswith(rf"{tmp_path / 'run.json'} \u2192 ")
    assert said[1] == ""


def test_an_interrupt_ends_it_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("peft_update_bench.bench.commands.diff.run", interrupted)
    assert main(["diff", str(tmp_path), str(tmp_path)]) == 130
    assert capsys.readouterr().err == "update-bench diff: interrupted\n"
