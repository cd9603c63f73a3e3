"""What ``update-bench --help`` prints in terminals of several widths, and what is said where no command is named."""

from __future__ import annotations

import pytest
from peft_update_bench.bench.__main__ import COMMANDS, main


def help_of(command: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_said_of_a_command_fits_a_terminal(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = help_of(command, 80, monkeypatch, capsys)
    examples = "    update-bench", "    pytest", "    bencher", "    git"  # which are to be copied
    assert [line for line in said.splitlines() if len(line) > 80 and not line.startswith(examples)] == []
    assert "``" not in said


def test_a_narrow_terminal_has_whole_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "\nfixtures/methods/learning_rates.json.\n" in help_of("search", 1, monkeypatch, capsys)


def test_no_command_is_answered_with_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    said = capsys.readouterr().err
    assert said.startswith("update-bench: no command is given; expected one of report, diff, ")
    assert said.endswith("; see update-bench --help\n")


def test_a_mistyped_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["repot", "run.json"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("update-bench: 'repot' is no command; expected one of report, diff, ")
    assert said.endswith("; did you mean report or export?\n")
