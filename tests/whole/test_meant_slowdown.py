"""The pull request's line that accepts a slowdown, read by the workflow's own step."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.whole.test_run import REPOSITORY


@pytest.fixture(scope="module")
def steps() -> dict[str, str]:
    """The scripts of the latency job's steps, by name."""
    workflow: dict[str, Any] = YAML(typ="safe").load(REPOSITORY / ".github/workflows/pull-request.yml")
    return {
        step["name"]: step["run"] for step in workflow["jobs"]["latency"]["steps"] if "run" in step and "name" in step
    }


def command(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("A new loss.\r\n\r\nMeant slowdown: the loss is dearer\r\nMore.", "--accept|the loss is dearer|"),
        ('meant slowdown:  $(touch owned) `touch owned` "x"', '--accept|$(touch owned) `touch owned` "x"|'),
        ("Meant slowdown: one\nMeant slowdown: two", "--accept|one|"),
        ("Meant slowdown:", ""),
        ("This is no Meant slowdown: not at a line's start", ""),
        ("", ""),
    ],
)
def test_the_line_becomes_the_reason(tmp_path: Path, steps: dict[str, str], body: str, words: str) -> None:
    (tmp_path / "head").mkdir()
    (tmp_path / "body.txt").write_bytes(body.encode())
    command(tmp_path, "gh", f"cat {tmp_path}/body.txt")
    command(tmp_path, "update-bench", "shift 5; printf '%s|' \"$@\"")
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "RUNNER_TEMP": str(tmp_path)}
    environment |= {"PULL_REQUEST": "repos/a/b/pulls/1"}
    for name, options in (("Read whether a slowdown is meant", ["-e"]), ("Time both in turn", ["-eo", "pipefail"])):
        subprocess.run(
            ["bash", "--noprofile", "--norc", *options, "-c", steps[name]],
            cwd=tmp_path / "head", env=environment, check=True, capture_output=True,
        )  # fmt: skip
    # printf without arguments writes its format once.
    assert (tmp_path / "latency.txt").read_text().removeprefix("|" if not words else "") == words
    assert not list(tmp_path.rglob("owned"))
