"""What a reviewer of a new baseline needs: ``update-bench diff OLD.json NEW.json``.

    update-bench diff baselines/0001_baseline.json baselines/0002_baseline.json
    update-bench diff baselines/0002_baseline.json

The first says what moved between two recordings: machine, packages and cells, and for each figure in how many cells
and by how much. The second prints a recording as text, one figure a line, so that git can show a change of it:

    git config diff.update-bench.textconv "update-bench diff"
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from peft_update_bench.bench import metrics, terminal
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.commands.report import runs
from peft_update_bench.bench.gate import baseline
from peft_update_bench.bench.gate.baseline import Baseline, BaselineError
from peft_update_bench.bench.gate.grouped import Group, by_figure, cells_in_words
from peft_update_bench.bench.gate.load import explain_load
from peft_update_bench.bench.gate.verdict import Verdict
from peft_update_bench.bench.units import NOTHING, count, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", type=Path, metavar="OLD.json", help="a baseline, or a run's JSON")
    parser.add_argument("new", type=Path, nargs="?", metavar="NEW.json", help="default: print OLD as text")


def run(given: argparse.Namespace) -> int:
    """Print. Returns 0 whatever moved: the gate fails, the difference is read."""
    if given.new:
        characters = terminal.width(sys.stdout.isatty())
        found = differences(baseline.read(given.old), baseline.read(given.new))
        print("\n".join(terminal.wrap(part, characters) for part in found))
    else:
        print("\n".join(_as_text(given.old)))
    return 0


def differences(old: Baseline, new: Baseline) -> Iterator[str]:
    """What moved from `old` to `new`. Raises CommandError where the two cannot be compared."""
    results = runs.compare_runs(new, old).results
    yield f"{old.path} → {new.path}"
    yield from _conditions(old, new)
    yield from _cells(old, new)
    both = [cell for cell in results if cell in old.records and cell in new.records]
    groups = by_figure((cell, verdict) for cell in both for verdict in results[cell].verdicts)
    moved = [group for group in groups if any(_moved(verdict) for _, verdict in group.verdicts)]
    if moved:
        yield ""
        headers = ("figure", "moved in", "lowest change", "highest change", "verdict")
        yield terminal.table([_row(group) for group in moved], headers, terminal.width(sys.stdout.isatty()))
    if lost := _lost(old, new, both):
        yield ""
        yield f"No longer there, so that nothing would judge it: {', '.join(lost)}."
    same = [group.metric for group in groups if group not in moved]
    if same:
        yield ""
        yield f"The same in every cell: {', '.join(same)}."


def _conditions(old: Baseline, new: Baseline) -> Iterator[str]:
    """Where the recordings come from, and what of it differs."""
    before, now = (runs.conditions(one) for one in (old, new))
    for name, one, other in (
        ("commit", _commit(before), _commit(now)),
        ("machine", before.machine, now.machine),
        ("packages", before.versions, now.versions),
    ):
        if name == "packages" and one != other:
            one, other = _differing(one, other)
        yield f"{name}: {one} → {other}" if one != other else f"{name}: {one}, as before"
    yield from filter(None, (explain_load(one.name, one.records.values()) for one in (old, new)))


def _commit(said: runs.Conditions) -> str:
    return said.commit.removeprefix("commit ").replace("no commit", "none")


def _differing(before: str, now: str) -> tuple[str, str]:
    """The packages of two lists whose versions differ."""
    old, new = before.split(", "), now.split(", ")
    gone, come = ([name for name in one if name not in other] for one, other in ((old, new), (new, old)))
    return ", ".join(gone) or NOTHING, ", ".join(come) or NOTHING


def _cells(old: Baseline, new: Baseline) -> Iterator[str]:
    both = [cell for cell in new.records if cell in old.records]
    yield f"{count(len(both), 'cell')} in both"
    for word, one, other in (("new", new, old), ("no longer there", old, new)):
        alone = [cell for cell in one.records if cell not in other.records]
        if alone:
            yield f"{count(len(alone), 'cell')} {word}: {cells_in_words(alone)}"


def _lost(old: Baseline, new: Baseline, both: Iterable[Cell]) -> list[str]:
    """The judged figures that `old` has of a cell of `both`, and `new` has not: it was recorded with fewer metrics."""
    judged = [row for row in metrics.rows() if row.figure.evidence is not metrics.Evidence.SHOWN]
    lost = {
        str(row): None
        for row in judged
        for cell in both
        if row.of(old.records[cell]) is not None and row.of(new.records[cell]) is None
    }
    is_untimed = any(cell in old.seconds and cell not in new.seconds for cell in both)
    return [*lost, *(["stats.median"] if is_untimed else [])]


def _moved(verdict: Verdict) -> bool:
    return verdict.now != verdict.before


def _row(group: Group) -> list[str]:
    moved = Group(group.metric, tuple(entry for entry in group.verdicts if _moved(entry[1])))
    kinds = Counter(verdict.kind for _, verdict in moved.verdicts)
    # One that is absent on one side, or a ratio to another reference, has no change.
    changed = Group(group.metric, tuple(e for e in moved.verdicts if e[1].kind not in {"missing", "unrecorded"}))
    notes = sorted({verdict.note for _, verdict in moved.verdicts if verdict.kind == "missing"})
    return [
        group.metric,
        f"{len(moved.verdicts)} of {len(group.verdicts)}",
        *(_extremes(changed) if changed.verdicts else (NOTHING, NOTHING)),
        ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
        + (f" ({'; '.join(notes)})" if notes else ""),
    ]


def _extremes(group: Group) -> tuple[str, str]:
    lowest, highest = (f"{verdict.shown_change} {cell}" for cell, verdict in (group.lowest, group.highest))
    return lowest, highest


def _as_text(path: Path) -> Iterable[str]:
    """A recording, one figure a line. A file that is none is shown as it is: git asks for every file of the history."""
    content = baseline.content_of(path)
    try:
        found = baseline.of_data(path, baseline.parsed(path, content))
    except BaselineError as error:
        print(f"update-bench diff: {error}", file=sys.stderr)
        return [content.decode("utf-8", errors="replace").removesuffix("\n")]
    return [*_head(found), *(line for cell in found.records for line in _figures(found, cell))]


def _head(found: Baseline) -> Iterator[str]:
    said = runs.conditions(found)
    yield f"commit {_commit(said)}"
    yield f"machine {said.machine}"
    yield from (f"package {package}" for package in said.versions.split(", "))
    yield f"workload {said.workload}"
    yield f"matrix {found.matrix}{', a part of it' if found.is_filtered else ''}"


def _figures(found: Baseline, cell: Cell) -> Iterator[str]:
    record = found.records[cell]
    for row in metrics.rows():
        value = row.of(record)
        if isinstance(value, int):
            # To the last digit: what is computed is compared to it.
            yield f"{cell} {row} {value:,} {row.figure.unit}"
        elif value is not None:
            yield f"{cell} {row} {show(value, row.figure.unit)}"
    if cell in found.seconds:
        yield f"{cell} stats.median {show(found.seconds[cell], 's')}"
