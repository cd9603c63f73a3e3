"""Runs over time: every metric of every cell by commit, and the points where it stepped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from peft_update_bench.bench import metrics
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.commands.error import CommandError
from peft_update_bench.bench.commands.report import charts
from peft_update_bench.bench.commands.report.figures import Figure, figure
from peft_update_bench.bench.commands.report.runs import Conditions, conditions, judge
from peft_update_bench.bench.gate import baseline
from peft_update_bench.bench.gate.baseline import Baseline, BaselineError
from peft_update_bench.bench.units import count, show

_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Step:
    """A figure that moved between two runs that follow each other, in words."""

    run: str
    cell: str
    metric: str
    before: str
    after: str
    change: str


@dataclass(frozen=True)
class History:
    """Runs in the order of their commits, what stepped between them, and the files that are no runs, each in a line."""

    runs: tuple[Baseline, ...]
    labels: tuple[str, ...]
    steps: tuple[Step, ...]
    unreadable: tuple[str, ...]

    @property
    def sentence(self) -> str:
        if len(self.runs) == 1:
            return f"One run, {self.labels[0]}: nothing to compare over time yet."
        found = f"{count(len(self.steps), 'figure')} stepped" if self.steps else "no figure stepped"
        return (
            f"{len(self.runs)} runs from {self.labels[0]} to {self.labels[-1]}: {found}. "
            "A computed figure steps when it changes at all, a measured one when it passes its tolerance."
        )


def read_folder(folder: Path) -> History:
    """Every run among the JSON files in `folder` and below. Raises CommandError where there is none."""
    if not folder.is_dir():
        raise CommandError(f"--history {folder}: is no folder; expected one with runs' JSON files")
    runs, unreadable = [], []
    for path in sorted(folder.rglob("*.json")):
        try:
            runs.append(baseline.read(path))
        except BaselineError as error:
            unreadable.append(str(error))
    if not runs:
        more = f"; {unreadable[0]}" if unreadable else ""
        raise CommandError(f"--history {folder}: holds no run; expected JSON of pytest --benchmark-save{more}")
    runs.sort(key=lambda run: (run.time or _BEFORE_ALL, run.name))
    labels = _labels(runs, folder)
    return History(tuple(runs), labels, tuple(_steps(runs, labels)), tuple(unreadable))


def figures(history: History) -> Iterator[Figure]:
    """A chart of each metric for each architecture, where there is more than one run."""
    if len(history.runs) < 2:
        return
    cells = dict.fromkeys(cell for run in history.runs for cell in run.records)
    for architecture in dict.fromkeys(cell.architecture for cell in cells):
        ours = [cell for cell in cells if cell.architecture == architecture]
        for metric in metrics.rows():
            title = metric.figure.over_time
            if not title:
                continue
            rows = [row for cell in ours for row in _series(history, cell, metric)]
            methods = list(dict.fromkeys(cell.method for cell in ours))
            chart = charts.over_time(rows, methods, history.labels)
            if chart is not None:
                held = _held(history, ours)
                yield figure(architecture, f"{metric}-over-time", f"{title} by commit", chart, held)


def _labels(runs: Sequence[Baseline], folder: Path) -> tuple[str, ...]:
    """What a run is called, unique: its commit, with its file's name where that is not enough."""
    commits = [run.commit[:9] for run in runs]
    return tuple(
        commit if commit and commits.count(commit) == 1 else f"{commit} {run.path.relative_to(folder)}".strip()
        for commit, run in zip(commits, runs, strict=True)
    )


def _steps(runs: Sequence[Baseline], labels: Sequence[str]) -> Iterator[Step]:
    """Every figure that a run's cell moved since the last run that had the cell under the same conditions."""
    latest: dict[tuple[Cell, object], Baseline] = {}
    for run, label in zip(runs, labels, strict=True):
        before = {
            cell: latest[cell, record.conditions]
            for cell, record in run.records.items()
            if (cell, record.conditions) in latest
        }
        latest |= {(cell, record.conditions): run for cell, record in run.records.items()}
        for cell, result in judge(run, before).items():
            for verdict in result.verdicts:
                if verdict.kind in {"regressed", "improved"}:
                    yield Step(
                        label,
                        str(cell),
                        verdict.metric,
                        show(verdict.before, verdict.unit),
                        show(verdict.now, verdict.unit),
                        verdict.shown_change,
                    )


def _series(history: History, cell: Cell, metric: metrics.Row) -> charts.Rows:
    """One cell's figure in every run that has it.

    Its line breaks where the conditions change and, for measured figures, the machine.
    """
    parts = {str(metric), *(f"{metric.metric.name}.{part}" for part in metric.figure.parts)}
    stepped = {step.run for step in history.steps if step.cell == str(cell) and step.metric in parts}
    first: dict[str, float] = {}
    rows: charts.Rows = []
    for run, label in zip(history.runs, history.labels, strict=True):
        record = run.records.get(cell)
        value = metric.of(record) if record else None
        if record is None or value is None:
            continue
        segment = f"{record.conditions} {run.machine if metric.figure.evidence.needs_machine else ''}"
        start = first.setdefault(segment, value)
        rows.append(
            {
                "cell": str(cell), "method": cell.method, "run": label, "segment": segment,
                "figure": show(value, metric.figure.unit),
                "change": (value / start - 1) * 100 if start else 0.0, "stepped": label in stepped,
            }
        )  # fmt: skip
    return rows


def _held(history: History, cells: Iterable[Cell]) -> Conditions:
    """The conditions of all runs that have any of `cells`."""
    wanted = set(cells)
    all_held = [
        conditions(run, records)
        for run in history.runs
        if (records := [record for cell, record in run.records.items() if cell in wanted])
    ]
    joined = (" or ".join(dict.fromkeys(getattr(c, name) for c in all_held)) for name in Conditions.__annotations__)
    return Conditions(*joined)
