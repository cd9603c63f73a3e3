"""A run's verdict as GitHub Actions shows it beside the changed files, from lines that a step prints.

The format: GitHub Docs, "Workflow commands for GitHub Actions", Setting an error message, Setting a warning message.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from peft_update_bench.bench.gate.messages import in_brief
from peft_update_bench.bench.gate.summary import Summary

TITLE = "update benchmark"


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether the process is a step of a GitHub workflow."""
    return environment.get("GITHUB_ACTIONS") == "true"


def workflow_commands(summary: Summary) -> Iterator[str]:
    """An error where cells fail, with what they have in common, and a warning where figures were not compared."""
    if summary.failing:
        told = {result.cell for results in summary.together for result in results}
        alone = [
            f"{result.cell}: {result.error or in_brief(result, summary.also_fails)}"
            for result in summary.failing
            if result.cell not in told
        ]
        yield _command("error", TITLE, "\n".join([summary.headline, *summary.paragraphs, *alone]))
    if summary.incomparable:
        yield _command("warning", f"{TITLE}: not comparable", f"{summary.headline}\n{summary.incomparable}")


def _command(kind: str, title: str, message: str) -> str:
    return f"::{kind} title={_escaped(title).replace(':', '%3A').replace(',', '%2C')}::{_escaped(message)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
