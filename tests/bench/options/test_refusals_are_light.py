"""A refused option, and ``--help``, are answered before torch is imported, which takes seconds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HEAVY = re.compile(r"\| +(torch|torchvision|peft|transformers)$", re.MULTILINE)


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs the benchmarks in a process of its own, which notes on stderr what it imports."""
    command = [sys.executable, "-X", "importtime", "-m", "pytest", "-p", "no:cacheprovider"]
    suite = ["--pyargs", "peft_update_bench.bench"]
    return subprocess.run([*command, *suite, *options], cwd=folder, capture_output=True, text=True, check=False)


def run_command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs ``update-bench`` in a process of its own, which notes on stderr what it imports."""
    command = [sys.executable, "-X", "importtime", "-m", "peft_update_bench.bench", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("--metrics=speed", "--metrics is 'speed'; expected one of flops, memory"),
        ("--architectures=resnet19", "--architectures is 'resnet19'; expected one of resnet18"),
        ("--methods=qlora", "--methods is 'qlora'; expected one of fft"),
        ("--batch-size=0", "--batch-size is '0'; expected a whole number of at least 1"),
        ("--tolerance=speed=1", "--tolerance is 'speed=1'; expected NAME=FRACTION"),
        ("--seeds=2", "--seeds is given without --metrics adaptation; expected both or neither"),
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
        ("--metrics=adaptation --benchmark-compare", "no baseline (NNNN_*.json) in baselines/adaptation"),
    ],
)
def test_a_refusal_imports_nothing_heavy(tmp_path: Path, option: str, complaint: str) -> None:
    done = run_pytest(tmp_path, *option.split())
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    assert len(errors) == 1
    assert complaint in errors[0]
    assert "import time:" in done.stderr
    assert HEAVY.findall(done.stderr) == []


def test_a_mistyped_option_is_refused_before_the_session_is_imported(tmp_path: Path) -> None:
    """Records are pydantic's models, which with what judges them take longer to import than pytest itself."""
    imported = r"\| +(pydantic|peft_update_bench\.bench\.session\.session)$"
    refused, listed = run_pytest(tmp_path, "--ranks=0"), run_pytest(tmp_path, "--collect-only")
    assert (refused.returncode, listed.returncode) == (pytest.ExitCode.USAGE_ERROR, 0)
    assert "--ranks is '0'; expected a whole number of at least 1" in refused.stderr
    assert re.findall(imported, refused.stderr, re.MULTILINE) == []
    assert len(re.findall(imported, listed.stderr, re.MULTILINE)) == 2


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "--help")
    assert done.returncode == 0
    assert "--architectures=ARCHITECTURES" in done.stdout
    assert HEAVY.findall(done.stderr) == []


@pytest.mark.parametrize(
    "command",
    ["recommend", "report", "diff", "merge", "bisect", "search", "compare-checkouts", "savings", "study", "export"],
)
def test_a_command_s_help_imports_nothing_heavy(tmp_path: Path, command: str) -> None:
    done = run_command(tmp_path, command, "--help")
    assert (done.returncode, done.stdout.partition(" [")[0]) == (0, f"usage: update-bench {command}")
    assert "import time:" in done.stderr
    assert HEAVY.findall(done.stderr) == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("recommend", "--memory", "64"), "--memory: "),
        (("recommend", "--memory", "64MB", "--methods", "loar"), "--methods is 'loar'; expected one of"),
        (("merge", "absent.json", "--output", "all.json"), "absent.json: cannot be read"),
        (("diff", "absent.json", "absent.json"), "absent.json: cannot be read"),
        (("search", "--weights", "none"), "--weights is 'none'; expected one of packaged, imagenet, torchvision"),
        (("search", "--rates", "2"), "--rates is '2'; expected comma-separated numbers above 0 and at most 1"),
        (("study", "absent.json", "--tables", "study-accuracy"), "absent.json: cannot be read"),
    ],
)
def test_what_a_command_refuses_imports_nothing_heavy(tmp_path: Path, words: tuple[str, ...], complaint: str) -> None:
    done = run_command(tmp_path, *words)
    assert done.returncode == 2
    assert f"update-bench {words[0]}: {complaint}" in done.stderr
    assert HEAVY.findall(done.stderr) == []
