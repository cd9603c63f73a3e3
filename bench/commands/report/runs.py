"""Runs as the report sees them: read through the gate, so that every check of a baseline holds, and compared by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from peft_update_bench.bench import benchmarks, metrics, options
from peft_update_bench.bench.cells import Cell, leaves_out
from peft_update_bench.bench.command_error import CommandError
from peft_update_bench.bench.gate import baseline, baseline_file
from peft_update_bench.bench.gate.baseline import Baseline, BaselineError
from peft_update_bench.bench.gate.gate import Result, judge_saved
from peft_update_bench.bench.gate.grouped import LISTED
from peft_update_bench.bench.gate.summary import Summary, kind_of
from peft_update_bench.bench.gate.together import paragraph, told_together
from peft_update_bench.bench.gate.verdict import Kind, Verdict
from peft_update_bench.bench.gate.workloads import check_adaptation, differences
from peft_update_bench.bench.record import AdaptationSettings, Record
from peft_update_bench.bench.units import count
from peft_update_bench.fixtures.first_few import first_few
from pytest_benchmark.utils import get_machine_id

MOVED: tuple[Kind, ...] = ("missing", "regressed", "unstable", "improved", "new")
"""What a reader looks at first, in this order."""
NEWEST = "the newest baseline"
"""What ``--compare`` means without a name."""
FEW = 5
"""So many figures that moved stand before the matrix."""


def newest(before: Baseline | None = None) -> Path:
    """The newest committed baseline of the benchmark that `before` is a run of; where it is `before` itself, the one
    before it. Raises CommandError."""
    kind = benchmarks.DEFAULT if before is None else kind_of_benchmark(before)
    storage = options.read_project(Path.cwd()).baselines_of(kind)
    try:
        of_machine = None if before is None else lambda: before.machine
        path = baseline_file.find(storage, None, get_machine_id(), of_machine)
    except BaselineError as error:
        raise CommandError(f"{error}; or name a run's JSON") from None
    if before is None or path.resolve() != before.path.resolve():
        return path
    older = [p for p in baseline_file.numbered(storage) if p.name < path.name]
    if not older:
        raise CommandError(
            f"{path} is the first baseline in {storage}; name what to compare with: --compare OTHER.json"
        )
    return older[-1]


def compared_with(run: Baseline, other: str) -> Baseline:
    """What ``--compare`` names: a file, or NEWEST. Raises CommandError."""
    return baseline.read(newest(before=run) if other == NEWEST else Path(other))


def kind_of_benchmark(run: Baseline) -> str:
    """The benchmark whose metrics a run's records hold. The default's last: others' records hold computed ones, too."""
    for kind in sorted(benchmarks.BENCHMARKS, key=lambda kind: kind == benchmarks.DEFAULT):
        sections = [metrics.METRICS[name] for name in benchmarks.kind(kind).metrics()]
        if any(section.of(record) for section in sections for record in run.records.values()):
            return kind
    return benchmarks.DEFAULT


@dataclass(frozen=True)
class Conditions:
    """What a run's figures hold for, in words."""

    workload: str
    versions: str
    machine: str
    commit: str

    @property
    def sentence(self) -> str:
        return f"{self.workload} · {self.versions} · {self.machine}"


def conditions(run: Baseline, records: Iterable[Record] | None = None) -> Conditions:
    """Workload, versions, machine and commit of `run`, or of some of its `records`."""
    chosen = list(run.records.values() if records is None else records)
    commit = f"commit {run.commit[:9]}" if run.commit else "no commit"
    when = f", {run.time:%Y-%m-%d %H:%M} UTC" if run.time else ""
    return Conditions(
        " or ".join(dict.fromkeys(record.workload.words for record in chosen)),
        _packages(chosen),
        " or ".join(dict.fromkeys(str(run.machine.of(record)) for record in chosen)) or str(run.machine),
        f"{commit}{when}",
    )


def _packages(records: Iterable[Record]) -> str:
    """Of all of `records`, some of which name one more, as that of their method."""
    found: dict[str, dict[str, None]] = {}
    for record in records:
        for package, version in record.versions.items():
            found.setdefault(package, {})[version] = None
    # Sorted, as saved baselines have them, because the file that --benchmark-json writes has not.
    return ", ".join(f"{package} {' or '.join(found[package])}" for package in sorted(found))


@dataclass(frozen=True)
class Comparison:
    """A run judged against another. `left_out` are the other's cells that a filtered run was not asked for."""

    other: Baseline
    results: dict[Cell, Result]
    left_out: tuple[Cell, ...]

    @property
    def summary(self) -> Summary:
        left_out = count(len(self.left_out), "cell")
        remarks = [f"{left_out} of {self.other.name} not in this run and not judged."] if self.left_out else []
        return Summary(list(self.results.values()), baseline=self.other.name, remarks=tuple(remarks))

    @property
    def passes(self) -> bool:
        return not any(kind_of(result) in {"missing", "regressed"} for result in self.results.values())

    @property
    def causes(self) -> list[list[str]]:
        """What several cells fail for, told once: the lines of each cause; empty where few cells fail."""
        return [paragraph(results, self.other) for results in told_together(self.results.values())]

    @property
    def moved(self) -> list[tuple[Cell, Verdict]]:
        """Every figure that moved, worst kind first."""
        found = [(cell, verdict) for cell, result in self.results.items() for verdict in result.verdicts]
        return sorted((pair for pair in found if pair[1].kind in MOVED), key=lambda pair: MOVED.index(pair[1].kind))

    @property
    def worst(self) -> list[tuple[Cell, Verdict]]:
        """The few figures that a reader looks at first: of the worst kinds those that moved furthest."""
        return sorted(self.moved, key=lambda pair: (MOVED.index(pair[1].kind), -abs(pair[1].change or 0)))[:FEW]


def compare_runs(run: Baseline, other: Baseline) -> Comparison:
    """Judge every cell of `run` as the gate does. Raises CommandError where the two cannot be compared."""
    common = [cell for cell in run.records if cell in other.records]
    if not common:
        raise CommandError(
            f"{run.path} and {other.path} have no cell in common: the first has {first_few(run.records, LISTED)}, "
            f"the other {first_few(other.records, LISTED)}"
        )
    for cell in common:
        now, before = run.records[cell], other.records[cell]
        if now.workload != before.workload:
            raise CommandError(
                f"{cell} was recorded under another workload in {other.path}: "
                f"{differences(before.workload, now.workload)}; compare runs of one workload"
            )
    adaptations = [record.adaptation for record in run.records.values() if record.adaptation]
    settings: dict[str, AdaptationSettings] = {found.task: found.settings for found in adaptations}
    if settings:
        check_adaptation(other, settings, common)
    results = judge(run, dict.fromkeys(run.records, other))
    absent = tuple(cell for cell in other.records if cell not in run.records)
    if run.is_filtered or leaves_out(run.matrix, other.matrix):
        return Comparison(other, results, absent)
    lost = Verdict("the cell", "missing", note="not in this run: removed, or it failed before it was measured")
    asked = {cell.batch_size for cell in run.records}
    missing = [cell for cell in absent if cell.batch_size in asked and not cell.is_in_no_matrix]
    left_out = tuple(cell for cell in absent if cell not in missing)
    return Comparison(other, results | {cell: Result(cell, verdicts=(lost,)) for cell in missing}, left_out)


def judge(run: Baseline, others: Mapping[Cell, Baseline]) -> dict[Cell, Result]:
    """Judge the cells of `run` that have a baseline in `others`, as the run that saved them would."""
    saved = [(run.records[cell], run.seconds.get(cell), other) for cell, other in others.items()]
    return judge_saved(saved, options.tolerances(options.read_project(Path.cwd()).tolerances), run.machine)
