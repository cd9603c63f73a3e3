"""The statements on accuracy by two baselines beside each other: MNIST's digits from random weights, and
Fashion-MNIST's articles from ImageNet's weights."""

from __future__ import annotations

from peft_update_bench.bench.study import accuracy, committed
from peft_update_bench.bench.study.statement import check

HEADERS = ("statement", "the study", "MNIST", "by it", "Fashion-MNIST", "by it")


def rows() -> list[list[str]]:
    """Each statement with what both baselines say of it, under HEADERS. Raises CommandError where one is missing."""
    digits = [*committed.newest(committed.FOLDER / "adaptation").records.values()]
    articles = committed.adapted(committed.FASHION)
    found = []
    for statement in accuracy.STATEMENTS:
        row = [statement.text, statement.theirs]
        for records in (digits, articles):
            finding = check(statement, records)
            answer = finding.outcome.in_truth
            row += [finding.outcome.measured if answer is None else answer.figure, finding.verdict]
        found.append(row)
    return found
