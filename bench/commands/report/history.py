"""Runs over time: every metric of every cell by commit, the points where it stepped or its level changed, and the runs
in between that have no data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

from peft_update_bench.bench import metrics
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.command_error import CommandError
from peft_update_bench.bench.commands.report import change_points, charts
from peft_update_bench.bench.commands.report.chart_style import Rows
from peft_update_bench.bench.commands.report.figures import Figure, figure
from peft_update_bench.bench.commands.report.runs import Conditions, conditions, judge, kind_of_benchmark
from peft_update_bench.bench.gate import baseline
from peft_update_bench.bench.gate.baseline import Baseline, BaselineError
from peft_update_bench.bench.gate.grouped import cells_in_words
from peft_update_bench.bench.units import count, show, show_fraction

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
    """Runs in the order of their commits, what stepped between them, and the files that are no runs, each in a line.

    `levels` are where the level of a measured figure changed over many runs. `gaps` are the cells that a run lacks and
    runs before and after it have, by the run's label.
    """

    runs: tuple[Baseline, ...]
    labels: tuple[str, ...]
    steps: tuple[Step, ...]
    unreadable: tuple[str, ...]
    levels: tuple[Step, ...] = ()
    gaps: Mapping[str, tuple[Cell, ...]] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        if len(self.runs) == 1:
            return f"One run, {self.labels[0]}: nothing to compare over time yet."
        found = f"{count(len(self.steps), 'figure')} stepped" if self.steps else "no figure stepped"
        return (
            f"{len(self.runs)} runs from {self.labels[0]} to {self.labels[-1]}: {found}. "
            "A computed figure steps when it changes at all, a measured one when it passes its tolerance. "
            f"{self._levels}"
        )

    @property
    def _levels(self) -> str:
        if not change_points.is_available():
            return f"Changes of a measured figure's level were not looked for: {change_points.EXTRA}"
        found = f"changed in {count(len(self.levels), 'place')}" if self.levels else "changed nowhere"
        return f"The level of measured figures {found}; it is one of at least {change_points.MIN_RUNS} runs."

    @property
    def no_data(self) -> list[str]:
        """For each run what it lacks that runs before and after it have, as a sentence."""
        return [
            f"{label}: no data of {count(len(cells), 'cell')}, {cells_in_words(cells)}"
            for label, cells in self.gaps.items()
        ]


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
    levels = tuple(_levels(runs, labels)) if change_points.is_available() else ()
    gaps = {label: cells for run, label in zip(runs, labels, strict=True) if (cells := _lacking(run, runs))}
    return History(tuple(runs), labels, tuple(_steps(runs, labels)), tuple(unreadable), levels, gaps)


def figures(history: History) -> Iterator[Figure]:
    """A chart of each metric for each architecture and batch size, where there is more than one run."""
    if len(history.runs) < 2:
        return
    cells = dict.fromkeys(cell for run in history.runs for cell in run.records)
    for subject in dict.fromkeys(cell.subject for cell in cells):
        ours = [cell for cell in cells if cell.subject == subject]
        for metric in metrics.rows():
            title = metric.figure.over_time
            if not title:
                continue
            rows = [row for cell in ours for row in _series(history, cell, metric)]
            methods = list(dict.fromkeys(cell.method for cell in ours))
            chart = charts.over_time(rows, methods, history.labels, _no_data(history, ours))
            if chart is not None:
                held = _held(history, ours)
                yield figure(subject, f"{metric}-over-time", f"{title} by commit", chart, held)


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


def _levels(runs: Sequence[Baseline], labels: Sequence[str]) -> Iterator[Step]:
    """Where the level of each cell's measured figures changed, among runs under the same conditions on one machine."""
    for cell in dict.fromkeys(cell for run in runs for cell in run.records):
        for metric in metrics.rows():
            if not metric.figure.evidence.needs_machine:
                continue
            series: dict[object, list[tuple[str, float]]] = {}
            for run, label in zip(runs, labels, strict=True):
                record = run.records.get(cell)
                value = metric.of(record) if record else None
                if record is not None and value:
                    series.setdefault((record.conditions, run.machine.of(record)), []).append((label, value))
            for points in series.values():
                yield from _changed_levels(cell, metric, points)


def _changed_levels(cell: Cell, metric: metrics.Row, points: Sequence[tuple[str, float]]) -> Iterator[Step]:
    values = [value for _, value in points]
    places = change_points.change_points(values)
    starts = [0, *(place for place, _ in places)]
    ends = [*starts[1:], len(values)]
    means = [fmean(values[start:end]) for start, end in zip(starts, ends, strict=True)]
    for (place, change), before, after in zip(places, means, means[1:], strict=False):
        unit = metric.figure.unit
        yield Step(
            points[place][0], str(cell), str(metric), show(before, unit), show(after, unit), show_fraction(change)
        )


def _lacking(run: Baseline, runs: Sequence[Baseline]) -> tuple[Cell, ...]:
    """The cells that runs before and after `run` have, and it has not; of runs that were asked for the same cells."""

    def asked_for(one: Baseline) -> tuple[str, str, bool]:
        return kind_of_benchmark(one), one.matrix, one.is_filtered

    alike = [one for one in runs if asked_for(one) == asked_for(run)]
    place = alike.index(run)
    before, after = ({cell for one in some for cell in one.records} for some in (alike[:place], alike[place + 1 :]))
    return tuple(sorted(before & after - run.records.keys(), key=str))


def _no_data(history: History, cells: Sequence[Cell]) -> Rows:
    """What a chart of `cells` says at the runs that lack any."""
    found = ((label, [cell for cell in gaps if cell in cells]) for label, gaps in history.gaps.items())
    return [
        {"run": label, "words": "no data" if len(gaps) == len(cells) else f"no data: {count(len(gaps), 'cell')}"}
        for label, gaps in found
        if gaps
    ]


def _series(history: History, cell: Cell, metric: metrics.Row) -> Rows:
    """One cell's figure in every run that has it.

    Its line breaks at a run that lacks it, where the conditions change and, for measured figures, the machine.
    """
    parts = {str(metric), *(f"{metric.metric.name}.{part}" for part in metric.figure.parts)}
    moved = (*history.steps, *history.levels)
    stepped = {step.run for step in moved if step.cell == str(cell) and step.metric in parts}
    first: dict[str, float] = {}
    rows: Rows = []
    breaks = 0
    for run, label in zip(history.runs, history.labels, strict=True):
        record = run.records.get(cell)
        value = metric.of(record) if record else None
        if record is None or value is None:
            breaks += 1
            continue
        segment = f"{record.conditions} {run.machine.of(record) if metric.figure.evidence.needs_machine else ''}"
        start = first.setdefault(segment, value)
        rows.append(
            {
                "cell": str(cell), "method": cell.method, "run": label, "segment": f"{segment} {breaks}",
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
