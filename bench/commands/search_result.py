"""What ``update-bench search`` found: every score, the rate that they choose, and the file that holds both."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from peft_update_bench.bench.command_error import CommandError
from peft_update_bench.fixtures.methods import METHODS
from tabulate import tabulate

ByWhere = Mapping[str, Sequence[float]]
"""Validation accuracy, a fraction, by network with task, of each seed in turn."""

Scores = Mapping[str, Mapping[float, ByWhere]]
"""By method and rate."""


def mean(by_where: ByWhere) -> float:
    """Networks and tasks count alike."""
    return fmean(fmean(of_seeds) for of_seeds in by_where.values())


def best(rates: Mapping[float, ByWhere], most: int) -> list[float]:
    """As many of `rates` as `most`, the best mean score first; of equal ones the lower rate."""
    return sorted(rates, key=lambda rate: (-mean(rates[rate]), rate))[:most]


def finalists(rates: Mapping[float, ByWhere]) -> dict[float, ByWhere]:
    """Those that every seed tried: the others were dropped after the first."""
    seeds = {rate: min(len(of_seeds) for of_seeds in by_where.values()) for rate, by_where in rates.items()}
    return {rate: rates[rate] for rate in rates if seeds[rate] == max(seeds.values())}


def choose(scores: Scores) -> dict[str, float]:
    """The rate with the best mean score of each method, among its finalists; of equal ones the lowest."""
    return {method: best(finalists(rates), 1)[0] for method, rates in scores.items()}


def report(scores: Scores) -> str:
    """Mean validation accuracy by method and rate, and the rate chosen, as Markdown; and what to make of them."""
    chosen = choose(scores)
    rates = sorted(next(iter(scores.values())))
    rows = [[method, *_accuracies(scores[method]), str(chosen[method])] for method in scores]
    said = [tabulate(rows, ["", *map(str, rates), "chosen"], tablefmt="pipe", disable_numparse=True)]
    if any(len(finalists(of_rates)) < len(of_rates) for of_rates in scores.values()):
        said.append("In brackets: by the first seed alone.")
    ends = {rates[0]: "lowest", rates[-1]: "highest"}
    if len(rates) > 1 and (at_an_end := [f"{m} ({ends[rate]})" for m, rate in chosen.items() if rate in ends]):
        said.append(f"At an end of what was tried, beyond which a better rate may lie: {', '.join(at_an_end)}.")
    return "\n\n".join(said)


def _accuracies(rates: Mapping[float, ByWhere]) -> list[str]:
    full = finalists(rates)
    return [f"{mean(rates[rate]):.1%}" if rate in full else f"({mean(rates[rate]):.1%})" for rate in sorted(rates)]


def read_others(
    path: Path, methods: Sequence[str], conditions: Mapping[str, Any], rates: Sequence[float], wheres: Collection[str]
) -> dict[str, dict[float, dict[str, list[float]]]]:
    """The scores of methods in the file `path` that are not searched now.

    Raises CommandError where they were searched otherwise: the file says once what all of its scores are of.
    """
    if not path.is_file():
        return {}
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        scores = {
            method: {
                float(rate): {where: [float(score) for score in of_seeds] for where, of_seeds in by_where.items()}
                for rate, by_where in by_rate.items()
            }
            for method, by_rate in held["scores"].items()
            if method not in methods
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise CommandError(f"--output {path} is there, and is no search's; expected one, or a new file") from None
    if not scores:
        return {}
    unlike = [name for name, value in conditions.items() if held.get(name) != value]
    if any({*by_rate} != {*rates} for by_rate in scores.values()):
        unlike.append("rates")
    if any({*by_where} != {*wheres} for by_rate in scores.values() for by_where in by_rate.values()):
        unlike.append("architectures or tasks")
    if unlike:
        raise CommandError(
            f"--output {path} holds {', '.join(scores)}, searched with other {', '.join(unlike)}; expected a new file, "
            "or the same search"
        )
    return scores


def as_json(scores: Scores, conditions: Mapping[str, Any]) -> str:
    """The file's text, methods as they are listed, the scores of a rate's seeds in one line."""
    ordered = {method: scores[method] for method in sorted(scores, key=_place)}
    result = {
        "chosen": choose(ordered),
        **conditions,
        "scores": {
            method: {str(rate): by_where for rate, by_where in by_rate.items()} for method, by_rate in ordered.items()
        },
    }
    text = json.dumps(result, indent=1) + "\n"
    return re.sub(r"\[[^][{}]+\]", lambda found: f"[{' '.join(found[0][1:-1].split())}]", text)


def _place(method: str) -> int:
    """As methods are listed; users' own last."""
    return [*METHODS, method].index(method)
