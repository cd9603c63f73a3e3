"""What a command prints, to whoever reads only its beginning, cannot show it, or has no room for it."""

from __future__ import annotations

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
