"""Learning rates for all methods, from one search with an equal budget for each: ``update-bench search``.

Every method is tried with the same rates on the same networks, tasks and seeds, and takes the rate with the best mean
accuracy on the validation data; the test data are not looked at. A single update may come out well by a rate at which
others diverge: on one network with one task take several seeds, and ``--finalists 2`` spends all but the first on each
method's two best rates. The scores are printed; ``--output`` writes them to a file as well, beside those of other
methods that it holds, if these were searched alike, and ``pytest bench --metrics adaptation --learning-rates FILE``
updates with its choice. Else methods take theirs from ``fixtures/methods/learning_rates.json``. An interrupted search
continues.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from peft_update_bench.bench import options
from peft_update_bench.bench.benchmarks.adaptation import AdaptationBenchmark
from peft_update_bench.bench.command_error import CommandError
from peft_update_bench.bench.commands.output import refuse_unwritable, writing
from peft_update_bench.bench.commands.search_result import as_json, best, read_others, report
from peft_update_bench.bench.options.values import whole_number
from peft_update_bench.fixtures.methods import METHODS, takes_rank

if TYPE_CHECKING:
    from peft_update_bench.bench.processes.update_runs import UpdateRuns
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name, meaning in OPTIONS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", help=meaning)
    parser.set_defaults(architectures="resnet18,mobilenet_v2", seeds="1")
    parser.add_argument("--rates", default=",".join(f"{rate:g}" for rate in RATES), help="default: %(default)s")
    parser.add_argument(
        "--finalists", help="how many rates of each method, the best by the first seed, further seeds try; default: all"
    )
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
    finalists = _finalists(given.finalists, len(rates), adaptation.seeds)
    plan = replace(adaptation.plan, evaluations=1, split="validation")
    methods = asked.selection.methods or tuple(METHODS)
    wheres = [Where(*where) for where in product(asked.selection.architectures or (), adaptation.settings)]
    conditions = _conditions(plan, adaptation.seeds, finalists)
    names = [str(where) for where in wheres]
    others = {} if given.output is None else read_others(given.output, methods, conditions, rates, names)
    start = partial(LocalProcesses, adaptation.workers, asked.benchmark.wall(asked))
    begin = partial(UpdateRuns, plan=plan, cache_folder=adaptation.cache_folder, start=start)
    scores: dict[str, dict[float, dict[str, list[float]]]] = {
        method: {rate: {} for rate in rates} for method in methods
    }
    seeds = range(SEED, SEED + adaptation.seeds)
    try:
        rounds = [_try(product(methods, rates), wheres, seeds if finalists is None else seeds[:1], begin, scores)]
        if finalists is not None:
            left = [(method, rate) for method in methods for rate in best(scores[method], finalists)]
            rounds.append(_try(left, wheres, seeds[1:], begin, scores))
    except MeasurementError as error:
        raise CommandError(str(error)) from None
    print(report(scores))
    if given.output is not None:
        with writing(given.output):
            write_named(given.output, as_json({**others, **scores}, conditions).encode("ascii"))
    for runs in rounds:
        runs.forget()
    return 0


class Where(NamedTuple):
    """A network that is updated, and to what."""

    architecture: str
    task: str

    def __str__(self) -> str:
        return f"{self.architecture}-{self.task}"


def _try(
    rates: Iterable[tuple[str, float]],
    wheres: Sequence[Where],
    seeds: Sequence[int],
    begin: Callable[[Sequence[Update]], UpdateRuns],
    scores: Mapping[str, Mapping[float, dict[str, list[float]]]],
) -> UpdateRuns:
    """Add to `scores` what every seed comes to on every network by each of `rates`, which are methods'."""
    from peft_update_bench.fixtures.training.adaptation import Update

    updates = {
        (method, rate, where): [
            Update(where.architecture, method, RANK if takes_rank(method) else None, where.task, seed, rate)
            for seed in seeds
        ]
        for where, (method, rate) in product(wheres, rates)
    }
    needed = [update for of_seeds in updates.values() for update in of_seeds]
    with begin(needed) as runs:
        if runs.kept:
            print(f"{runs.kept} of {len(needed)} updates done by a search that did not finish", file=sys.stderr)
        for (method, rate, where), of_seeds in updates.items():
            accuracies = [outcome.curve[-1] for outcome in runs.outcomes(of_seeds)]
            scores[method][rate].setdefault(str(where), []).extend(accuracies)
    return runs


def _conditions(plan: Plan, seeds: int, finalists: int | None) -> dict[str, Any]:
    from peft_update_bench.bench.record import installed_versions

    return {
        "by": "the best mean accuracy on the validation data",
        "seed": SEED,
        "seeds": seeds,
        "finalists": finalists,
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


def _finalists(value: str | None, rates: int, seeds: int) -> int | None:
    """How many rates of each method all seeds try; None is all of `rates`. Raises CommandError."""
    if value is None:
        return None
    finalists = whole_number("finalists", value)
    if seeds == 1:
        raise CommandError("--finalists is for the seeds after the first, and there is one; expected --seeds 2 or more")
    if not 2 <= finalists <= rates:
        raise CommandError(f"--finalists is {value}; expected from 2 to the number of --rates, which is {rates}")
    return finalists if finalists < rates else None


def _rates(value: str) -> list[float]:
    try:
        rates = sorted({float(word) for word in value.split(",")})
    except ValueError:
        rates = []
    if not rates or not all(0 < rate <= 1 for rate in rates):  # of which nan is none
        raise CommandError(f"--rates is {value!r}; expected comma-separated numbers above 0 and at most 1")
    return rates
