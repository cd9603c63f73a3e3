"""Baselines and reports are data: nothing that a file says is run, and nothing of it leaves its place."""

from __future__ import annotations

import ast
import html
import re
import subprocess
import sys
from pathlib import Path

import pytest
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.gate import Result
from peft_update_bench.bench.gate.summary import Summary
from peft_update_bench.bench.processes import answering, child_process, cluster, executor, node_process
from peft_update_bench.fixtures.instruments.instructions import server, worker

from tests.whole.test_run import REPOSITORY

SOURCES = [path for folder in ("bench", "fixtures") for path in sorted((REPOSITORY / folder).rglob("*.py"))]
SOURCES.append(REPOSITORY / "conftest.py")

OWN_PROCESSES = {
    Path(str(module.__file__)) for module in (answering, child_process, cluster, executor, node_process, server, worker)
}
"""What these unpickle was pickled by the process that started them a moment before, and came through its pipe; or by
this run's own code on the nodes of the cluster that the user named."""


def names_called(tree: ast.AST) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_nothing_is_unpickled_or_evaluated() -> None:
    forbidden = re.compile(
        r"((pickle|marshal|shelve|dill|joblib|cPickle)\.(load|loads|open)|eval|exec|os\.system|os\.popen|yaml\.load)"
    )
    for path in SOURCES:
        called = {name for name in names_called(ast.parse(path.read_text())) if forbidden.fullmatch(name)}
        assert called <= ({"pickle.loads"} if path in OWN_PROCESSES else set()), path


def test_weights_are_loaded_as_weights_only() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords), path


def test_no_command_goes_through_a_shell() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                assert not any(k.arg == "shell" and ast.unparse(k.value) != "False" for k in node.keywords), path


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "a|b", "a\\|b", "a`b`", "a\nb", "<img src=x onerror=y>", "[a](b)"]
)
def test_a_name_is_text_in_markdown(name: str) -> None:
    summary = Summary([Result(Cell(name, "lora", 4), error=f"cannot be measured: {name}")], ("flops", "memory"))
    table = summary.markdown
    assert not re.search(r"<\s*/?\s*\w", table), "no tag"
    row = table.splitlines()[-1]
    assert row.count("|") == len(summary.headers) + 1, "no more cells than the table has columns"
    assert "[a]" not in row
    assert html.unescape(row).startswith(f"| {name}-lora-r4 ".replace("\n", " "))


def test_workflows_have_the_permissions_that_they_need() -> None:
    """zizmor knows what is dangerous: untrusted input in a script, tokens that can write, actions by name only."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("zizmor")), "--offline", "--quiet", ".github"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    workflow = (REPOSITORY / ".github/workflows/pull-request.yml").read_text()
    assert "pull_request_target" not in workflow
    assert "secrets." not in workflow
    assert re.search(r"^permissions:\n  contents: read\n\n", workflow, re.MULTILINE)
