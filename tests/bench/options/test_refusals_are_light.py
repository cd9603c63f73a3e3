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
    ],
)
def test_a_refusal_imports_nothing_heavy(tmp_path: Path, option: str, complaint: str) -> None:
    done = run_pytest(tmp_path, option)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    assert len(errors) == 1
    assert complaint in errors[0]
    assert "import time:" in done.stderr
    assert HEAVY.findall(done.stderr) == []


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "--help")
    assert done.returncode == 0
    assert "--architectures=ARCHITECTURES" in done.stdout
    assert HEAVY.findall(done.stderr) == []
