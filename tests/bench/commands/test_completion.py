"""The completion script, in the shell that it is for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from peft_update_bench.bench.__main__ import COMMANDS, main


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script for bash, as the command prints it."""
    folder = tmp_path_factory.mktemp("completion")
    path = folder / "update-bench"
    with pytest.MonkeyPatch.context() as patch, path.open("w", encoding="utf-8") as file:
        patch.setattr("sys.stdout", file)
        assert main(["completion", "bash"]) == 0
    return path


def completed(script: Path, *words: str) -> set[str]:
    """What bash offers for the last of `words`."""
    bash = shutil.which("bash")
    assert bash is not None
    line = " ".join(("update-bench", *words))
    program = """
        source "$1"; shift
        COMP_LINE="$1"; COMP_POINT=${#1}; shift
        COMP_WORDS=(update-bench "$@"); COMP_CWORD=$#
        function=$(complete -p update-bench | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        "$function" update-bench "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        [bash, "--norc", "-c", program, "bash", str(script), line, *words],
        cwd=script.parent, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {word.strip() for word in done.stdout.splitlines()}


def test_commands(script: Path) -> None:
    assert set(COMMANDS) <= completed(script, "")
    assert completed(script, "re") == {"report", "recommend"}


def test_a_commands_options(script: Path) -> None:
    assert completed(script, "recommend", "--fl") == {"--flops", "--flash"}
    assert "--history" in completed(script, "report", "--")


def test_names(script: Path) -> None:
    assert completed(script, "recommend", "--methods", "bn") == {"bn_head", "bn_affine"}
    assert completed(script, "export", "--format", "") == {"bencher", "github-action-benchmark"}
    assert "mobilenet_v2" in completed(script, "compare-checkouts", "--architectures", "mob")


def test_files(script: Path) -> None:
    (script.parent / "run.json").touch()
    assert "run.json" in completed(script, "report", "run")


def test_another_shell_and_one_that_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "zsh"]) == 0
    assert capsys.readouterr().out.startswith("#compdef update-bench")
    with pytest.raises(SystemExit) as stopped:
        main(["completion", "dos"])
    assert stopped.value.code == 2
    assert "invalid choice: 'dos'" in capsys.readouterr().err
