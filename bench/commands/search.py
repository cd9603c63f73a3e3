"""Learning rates for all methods, from one search with an equal budget for each: ``update-bench search``.

Every method is tried with the same rates on the same networks, tasks and seeds, and takes the rate with the best mean
accuracy on the validation data; the test data are not looked at. A single update may come out well by a rate at which
others diverge: on one network with one task take several seeds. The scores are printed; ``--output`` writes them to a
file as well, beside those of other methods that it holds, if these were searched alike, and
``pytest bench --metrics adaptation --learning-rates FILE`` updates with its choice. Else methods take theirs from
``fixtures/methods/learning_rates.json``. An interrupted search continues.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from peft_update_bench.bench import options
from peft_update_bench.bench.benchmarks.adaptation import AdaptationBenchmark
from peft_update_bench.bench.command_error import CommandError
from peft_update_bench.bench.commands.output import refuse_unwritable, writing
from peft_update_bench.fixtures.methods import METHODS, takes_rank
from tabulate import tabulate

if TYPE_CHECKING:
    from peft_update_bench.fixtures.training.adaptation import Update
    from peft_update_bench.fixtures.training.plan import Plan

RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
SEED = 1000
"""The first, and none of those that results come from, which count from 0."""
RANK = 4

OPTIONS = {
    "methods": "default: all that are built in",
    "architectures": "default: %(default)s",
    "tasks": "shift, unseen; default: both",
    "data": "the images, by name; default: the adaptation benchmark's",
    "data_root": "the folder that holds them, where the package does not",
    "image_size": "their side in pixels",
    "corruption": "of the task shift",
    "severity": "of the corruption",
    "weights": "the networks' first weights",
    "seeds": "updates for each network and task; default: %(default)s",
    "steps": "of each update; default: the adaptation benchmark's",
    "workers": "processes, each with one thread; default: one a core",
    "cache_dir": "where trained networks are kept; default: the user's cache folder",
}
"""They mean here what they mean beside ``--metrics adaptation``."""

Scores = Mapping[str, Mapping[float, Mapping[str, float]]]
"""Validation accuracy, a fraction, by method, rate, and network with task."""


def choose(scores: Scores) -> dict[str, float]:
    """The rate with the best mean score of each method; of equal ones the lowest."""
    return {
        method: max(sorted(rates), key=lambda rate: fmean(rates[rate].values())) for method, rates in scores.items()
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name, meaning in OPTIONS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", help=meaning)
    parser.set_defaults(architectures="resnet18,mobilenet_v2", seeds="1")
    parser.add_argument("--rates", default=",".join(f"{rate:g}" for rate in RATES), help="default: %(default)s")
    parser.add_argument(
        "--output",
        type=Path,
        help="write the result to this JSON file, where other methods' stay; default: print it only",
    )


def run(given: argparse.Namespace) -> int:
    """Search, print the scores as Markdown, and write the file where one is named. Raises CommandError."""
    rates = _rates(given.rates)
    if given.output is not None:
        refuse_unwritable(given.output)
    words = {name: getattr(given, name) for name in OPTIONS}
    asked = options.read({**words, "metrics": AdaptationBenchmark.name}, {})
    # Seconds of imports, which --help and a refused option should not wait for.
    from peft_update_bench.bench.processes.child_process import MeasurementError
    from peft_update_bench.bench.processes.local_processes import LocalProcesses
    from peft_update_bench.bench.processes.update_runs import UpdateRuns
    from peft_update_bench.fixtures.files import write_named

    assert isinstance(asked.benchmark, AdaptationBenchmark)
    adaptation = asked.benchmark.adaptation
    plan = replace(adaptation.plan, evaluations=1, split="validation")
    methods = asked.selection.methods or tuple(METHODS)
    updates = _updates(
        asked.selection.architectures or (), tuple(adaptation.settings), methods, rates, adaptation.seeds
    )
    conditions = _conditions(plan, adaptation.seeds)
    wheres = {where for _, _, where in updates}
    others = {} if given.output is None else _others(given.output, methods, conditions, rates, wheres)
    scores: dict[str, dict[float, dict[str, float]]] = {method: {rate: {} for rate in rates} for method in methods}
    start = partial(LocalProcesses, adaptation.workers, asked.benchmark.wall(asked))
    try:
        needed = [update for of_seeds in updates.values() for update in of_seeds]
        with UpdateRuns(needed, plan, adaptation.cache_folder, start) as runs:
            if runs.kept:
                print(f"{runs.kept} of {len(needed)} updates done by a search that did not finish", file=sys.stderr)
            for (method, rate, where), of_seeds in updates.items():
                scores[method][rate][where] = fmean(outcome.curve[-1] for outcome in runs.outcomes(of_seeds))
    except MeasurementError as error:
        raise CommandError(str(error)) from None
    print(report(scores))
    if given.output is not None:
        found = json.dumps(_result({**others, **scores}, conditions), indent=1) + "\n"
        with writing(given.output):
            write_named(given.output, found.encode("ascii"))
    runs.forget()
    return 0


def _updates(
    architectures: Sequence[str], tasks: Sequence[str], methods: Sequence[str], rates: Sequence[float], seeds: int
) -> dict[tuple[str, float, str], list[Update]]:
    """As many updates as `seeds` for each method, rate, and network with task."""
    from peft_update_bench.fixtures.training.adaptation import Update

    return {
        (method, rate, f"{architecture}-{task}"): [
            Update(architecture, method, RANK if takes_rank(method) else None, task, SEED + number, rate)
            for number in range(seeds)
        ]
        for architecture in architectures
        for task in tasks
        for method in methods
        for rate in rates
    }


def report(scores: Scores) -> str:
    """Mean validation accuracy by method and rate, and the rate chosen, as Markdown."""
    chosen = choose(scores)
    rates = sorted(next(iter(scores.values())))
    rows = [
        [method, *(f"{fmean(by_rate[rate].values()):.1%}" for rate in rates), f"{chosen[method]:g}"]
        for method, by_rate in scores.items()
    ]
    return tabulate(rows, ["", *(f"{rate:g}" for rate in rates), "chosen"], tablefmt="pipe", disable_numparse=True)


def _conditions(plan: Plan, seeds: int) -> dict[str, Any]:
    from peft_update_bench.bench.record import installed_versions

    return {
        "by": "the best mean accuracy on the validation data",
        "seed": SEED,
        "seeds": seeds,
        "rank": RANK,
        "data": plan.data.name,
        "corruption": plan.data.corruption,
        "severity": plan.data.severity,
        "weights": plan.weights,
        "image_size": plan.data.image_size,
        "steps": plan.steps,
        "batch_size": plan.batch_size,
        "versions": installed_versions(),
    }


def _others(
    path: Path, methods: Sequence[str], conditions: Mapping[str, Any], rates: Sequence[float], wheres: Collection[str]
) -> dict[str, dict[float, dict[str, float]]]:
    """The scores of methods in the file `path` that are not searched now.

    Raises CommandError where they were searched otherwise: the file says once what all of its scores are of.
    """
    if not path.is_file():
        return {}
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        scores = {
            method: {float(rate): dict(by_where) for rate, by_where in by_rate.items()}
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


def _result(scores: Scores, conditions: Mapping[str, Any]) -> dict[str, Any]:
    ordered = {method: scores[method] for method in sorted(scores, key=_place)}
    return {
        "chosen": choose(ordered),
        **conditions,
        "scores": {
            method: {f"{rate:g}": dict(by_where) for rate, by_where in by_rate.items()}
            for method, by_rate in ordered.items()
        },
    }


def _place(method: str) -> int:
    """As methods are listed; users' own last."""
    return [*METHODS, method].index(method)


def _rates(value: str) -> list[float]:
    try:
        rates = sorted({float(word) for word in value.split(",")})
    except ValueError:
        rates = []
    if not rates or not all(0 < rate <= 1 for rate in rates):  # of which nan is none
        raise CommandError(f"--rates is {value!r}; expected comma-separated numbers above 0 and at most 1")
    return rates
