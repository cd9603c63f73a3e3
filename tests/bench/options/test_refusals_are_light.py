"""A refused option, and ``--help``, are answered before torch and others are imported, which take seconds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.slow

SUITE = ("--pyargs", "peft_update_bench.bench", "-p", "no:cacheprovider")
REFUSED_OPTIONS = [
    ("--metrics=speed", "--metrics is 'speed'; expected one of flops, memory"),
    ("--architectures=resnet19", "--architectures is 'resnet19'; expected one of resnet18"),
    ("--methods=qlora", "--methods is 'qlora'; expected one of fft"),
    ("--batch-size=0", "--batch-size is '0'; expected a whole number of at least 1"),
    ("--tolerance=speed=1", "--tolerance is 'speed=1'; expected NAME=FRACTION"),
    ("--seeds=2", "--seeds is given without --metrics adaptation; expected both or neither"),
    ("--steps=mine:build:1", "--steps is 'mine:build:1': expected MODULE:NAME, such as mypackage.models:build"),
    ("--benchmark-compare", "no baseline (NNNN_*.json) in baselines"),
    ("--metrics=adaptation --data=mnist", "--data is 'mnist'; expected one of mnist_5k, digits, fashion_mnist"),
    ("--metrics=adaptation --tasks=shift,fog", "--tasks is 'fog'; expected one of shift, unseen"),
    ("--metrics=adaptation --corruption=haze", "--corruption is 'haze'; expected one of gaussian_noise"),
    ("--metrics=adaptation --severity=6", "--severity is '6'; expected a whole number from 1 to 5"),
    ("--metrics=adaptation --data-root=mine", "--data-root is given beside --data mnist_5k, which a package ships"),
    ("--metrics=adaptation --tasks=unseen --corruption=snow", "--corruption is given beside --tasks unseen, which"),
    ("--metrics=adaptation --tasks=unseen --severity=2", "--severity is given beside --tasks unseen, which"),
    ("--metrics=adaptation --steps=none", "--steps is 'none'; expected a whole number of at least 1"),
    ("--metrics=adaptation --methods=qlora", "--methods is 'qlora'; expected one of fft"),
    ("--metrics=adaptation --data=folder", "the data set folder needs --data-root DIR; the folder that holds a"),
    ("--metrics=adaptation --data=cifar10 --data-root=lost", "lost: is no folder; expected the folder that holds"),
    ("--metrics=adaptation --data=cifar10 --data-root=", "--data-root is ''; expected a folder, or no --data-root"),
    ("--metrics=adaptation --severity=0", "--severity is '0'; expected a whole number from 1 to 5"),
    ("--metrics=adaptation --cache-dir=", "--cache-dir is ''; expected a folder, or no --cache-dir"),
    ("--metrics=adaptation --cache-dir=/dev/null", "--cache-dir is '/dev/null', which is a file; expected a fold"),
    ("--metrics=adaptation --weights=imagenet", "--weights is 'imagenet', and no package is known to ship"),
    ("--metrics=adaptation --learning-rates=lost.json", "--learning-rates 'lost.json' cannot be read (No such file"),
    ("--learning-rates=lost.json", "--learning-rates is given without --metrics adaptation; expected both or neither"),
    ("--metrics=adaptation --benchmark-compare", "no baseline (NNNN_*.json) in baselines/adaptation"),
]
REFUSED_WORDS = [
    (("recommend", "--memory", "64"), "--memory: "),
    (("recommend", "--memory", "64MB", "--methods", "loar"), "--methods is 'loar'; expected one of"),
    (("merge", "absent.json", "--output", "all.json"), "absent.json: cannot be read"),
    (("diff", "absent.json", "absent.json"), "absent.json: cannot be read"),
    (("search", "--weights", "none"), "--weights is 'none'; expected one of packaged, imagenet, torchvision"),
    (("search", "--rates", "2"), "--rates is '2'; expected comma-separated numbers above 0 and at most 1"),
    (("study", "absent.json", "--tables", "study-accuracy"), "absent.json: cannot be read"),
]
COMMANDS = [
    "recommend", "report", "diff", "merge", "bisect", "search", "compare-checkouts", "savings", "study", "export",
]  # fmt: skip

ANSWER_IN_FORKS = """
import json
import os
import sys
from pathlib import Path

import pytest
from peft_update_bench.bench.__main__ import main as update_bench

HEAVY = {"torch", "torchvision", "peft", "transformers", "altair", "scipy.stats"}


def answer(number, program, words):
    for standard, name in (1, "stdout"), (2, "stderr"):
        os.dup2(os.open(f"{number}.{name}", os.O_WRONLY | os.O_CREAT), standard)
    try:
        status = pytest.main(words) if program == "pytest" else update_bench(words)
    except SystemExit as ended:
        status = ended.code
    sys.stdout.flush()
    Path(f"{number}.json").write_text(json.dumps([int(status), sorted(HEAVY & {*sys.modules})]))
    os._exit(0)


pytest.main(["--version", "--version"])  # which imports pytest's plugins
assert not HEAVY & {*sys.modules}
for number, (program, *words) in enumerate(json.load(sys.stdin)):
    if not (child := os.fork()):
        answer(number, program, words)
    os.waitpid(child, 0)
"""
"""Runs each of the command lines that it is given in a fork: what is imported for all of them is imported once."""


class Answer(NamedTuple):
    status: int
    heavy: list[str]
    """What has been imported of that which takes seconds."""
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], Answer]:
    """Of every command line in this file, in one empty folder."""
    asked = [
        *(("pytest", *SUITE, *option.split()) for option, _ in REFUSED_OPTIONS), ("pytest", *SUITE, "--help"),
        *(("update-bench", *words) for words, _ in REFUSED_WORDS),
        *(("update-bench", command, "--help") for command in COMMANDS),
    ]  # fmt: skip
    folder = tmp_path_factory.mktemp("answers")
    command = [sys.executable, "-c", ANSWER_IN_FORKS]
    ran = subprocess.run(command, cwd=folder, input=json.dumps(asked), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = {}
    for number, line in enumerate(asked):
        status, heavy = json.loads((folder / f"{number}.json").read_text())
        found[line] = Answer(
            status, heavy, *((folder / f"{number}.{name}").read_text() for name in ("stdout", "stderr"))
        )
    return found


@pytest.mark.parametrize(("option", "complaint"), REFUSED_OPTIONS)
def test_a_refusal_imports_nothing_heavy(answers: dict[tuple[str, ...], Answer], option: str, complaint: str) -> None:
    answer = answers["pytest", *SUITE, *option.split()]
    assert answer.status == pytest.ExitCode.USAGE_ERROR
    errors = [line for line in answer.stderr.splitlines() if line.startswith("ERROR")]
    assert len(errors) == 1
    assert complaint in errors[0]
    assert answer.heavy == []


def test_a_mistyped_option_is_refused_before_the_session_is_imported(tmp_path: Path) -> None:
    """Records are pydantic's models, which with what judges them take longer to import than pytest itself."""

    def run_pytest(option: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-X", "importtime", "-m", "pytest", *SUITE, option]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    imported = r"\| +(pydantic|peft_update_bench\.bench\.session\.session)$"
    refused, listed = run_pytest("--ranks=0"), run_pytest("--collect-only")
    assert (refused.returncode, listed.returncode) == (pytest.ExitCode.USAGE_ERROR, 0)
    assert "--ranks is '0'; expected a whole number of at least 1" in refused.stderr
    assert re.findall(imported, refused.stderr, re.MULTILINE) == []
    assert len(re.findall(imported, listed.stderr, re.MULTILINE)) == 2


def test_help_imports_nothing_heavy(answers: dict[tuple[str, ...], Answer]) -> None:
    answer = answers["pytest", *SUITE, "--help"]
    assert (answer.status, answer.heavy) == (0, [])
    # Python 3.13 names the value once, earlier ones with each of the two names.
    assert re.search(r"--architectures(=ARCHITECTURES)?, --update-architectures=ARCHITECTURES", answer.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_s_help_imports_nothing_heavy(answers: dict[tuple[str, ...], Answer], command: str) -> None:
    answer = answers["update-bench", command, "--help"]
    assert (answer.status, answer.stdout.partition(" [")[0]) == (0, f"usage: update-bench {command}")
    assert answer.heavy == []


@pytest.mark.parametrize(("words", "complaint"), REFUSED_WORDS)
def test_what_a_command_refuses_imports_nothing_heavy(
    answers: dict[tuple[str, ...], Answer], words: tuple[str, ...], complaint: str
) -> None:
    answer = answers["update-bench", *words]
    assert answer.status == 2
    assert f"update-bench {words[0]}: {complaint}" in answer.stderr
    assert answer.heavy == []
