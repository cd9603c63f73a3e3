"""Files of shards: what each says of the run that it is a part of, and whether all are of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_update_bench.bench import metrics
from peft_update_bench.bench.command_error import CommandError
from peft_update_bench.bench.gate import baseline
from peft_update_bench.bench.gate.baseline import Baseline
from peft_update_bench.bench.gate.grouped import LISTED
from peft_update_bench.bench.printable import printable
from peft_update_bench.bench.record import Record
from peft_update_bench.fixtures.first_few import first_few
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError


class _Entry(BaseModel):
    """What a shard's file says under ``suite.shard`` (``bench/session/session.py`` writes it)."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    number: PositiveInt
    of: PositiveInt
    metrics: list[str]
    cells: list[str]
    is_filtered: bool
    record_command: str


@dataclass(frozen=True)
class Shard:
    """A shard's file: its records, all that it holds, and what it says of the run.

    `cells` are the ids of the whole run's, in its order, `metrics` what it measured, and `record_command` is what
    records a baseline of its workload.
    """

    run: Baseline
    data: dict[str, Any]
    number: int
    of: int
    metrics: list[str]
    cells: list[str]
    whole_is_filtered: bool
    record_command: str

    @property
    def path(self) -> Path:
        return self.run.path

    @property
    def is_dirty(self) -> bool:
        """Whether it was made with changes that are not committed; pytest-benchmark's word for it."""
        commit = self.data.get("commit_info")
        return isinstance(commit, dict) and commit.get("dirty") is True

    @property
    def name(self) -> str:
        return f"{self.number}/{self.of}"


def read_shard(path: Path) -> Shard:
    """Read a shard's file. Raises CommandError for anything but a complete and valid one."""
    data = baseline.load(path)  # once: a pipe has nothing for a second time
    run = baseline.of_data(path, data)
    said = printable(data["suite"].get("shard"))
    if said is None:
        raise CommandError(
            f"{path}: is of no shard; expected what pytest bench --shard 1/3 --benchmark-json=1.json writes"
        )
    try:
        entry = _Entry.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CommandError(f"{path}: suite.shard.{where}: {first['msg']}") from None
    whole = entry.metrics, entry.cells, entry.is_filtered, entry.record_command
    return Shard(run, data, entry.number, entry.of, *whole)


def join(shards: Sequence[Shard], *, takes_uncommitted: bool = False) -> dict[str, Any]:
    """What a run of all cells would have written. Raises CommandError where `shards` are not all of one run.

    Changes that are not committed have no name by which it could be told that they were the same: shards made with them
    are joined only where the caller says so, and the whole says of itself that it was (``commit_info.dirty``).
    """
    first, *others = shards
    for other in others:
        _must_be_of_one_run(first, other)
    if first.is_dirty and not takes_uncommitted:
        raise CommandError(
            f"{first.path} was made with changes that are not committed; expected a commit, because it cannot be told "
            "whether all had the same: commit them and run the shards again, or say --uncommitted same where they had"
        )
    _must_be_complete(shards)
    entries = [entry for shard in shards for entry in shard.data["benchmarks"]]
    order = {cell: index for index, cell in enumerate(first.cells)}
    whole = {**first.data, "benchmarks": sorted(entries, key=lambda entry: order.get(_id(entry), len(order)))}
    whole["datetime"] = min(str(shard.data.get("datetime", "")) for shard in shards)
    whole["suite"] = {"matrix": first.run.matrix, "is_filtered": first.whole_is_filtered}
    return whole


def _id(entry: dict[str, Any]) -> str:
    """The cell of an entry; pytest-benchmark calls what stands in a test's brackets its param."""
    return str(entry.get("param"))


def _must_be_of_one_run(one: Shard, other: Shard) -> None:
    """Raise CommandError where two shards differ in what they have to have in common."""
    for what, ours, theirs in (
        ("commit", _commit(one), _commit(other)),
        ("number of shards", one.of, other.of),
        ("matrix", one.run.matrix, other.run.matrix),
        ("metrics", ", ".join(one.metrics), ", ".join(other.metrics)),
        ("cells", first_few(one.cells, LISTED), first_few(other.cells, LISTED)),
    ):
        if ours != theirs:
            raise CommandError(
                f"{one.path} and {other.path} are of two runs: {what} {ours}, and {theirs}; expected one run's"
            )
    if one.cells != other.cells or one.whole_is_filtered != other.whole_is_filtered:
        raise CommandError(f"{one.path} and {other.path} are of runs of other cells; expected the shards of one run")
    before, now = (next(iter(shard.run.records.values())).versions for shard in (one, other))
    if packages := _differing({**before, **now}, before, now):
        raise CommandError(f"{one.path} and {other.path} were made with other packages: {packages}; expected the same")
    asked, elsewhere = _asked_for(one), _asked_for(other)
    if differing := _differing([name for name in asked if name in elsewhere], asked, elsewhere):
        raise CommandError(
            f"{one.path} and {other.path} are of two workloads: {differing}; expected the shards of one run"
        )
    if _are_measured(one) and not one.run.machine.is_like(other.run.machine):
        raise _of_two_machines(one, other, one.run.machine, other.run.machine)
    on_one, on_other = _gpus(one), _gpus(other)
    if len(on_one | on_other) > 1:
        raise _of_two_machines(one, other, " and ".join(sorted(on_one)), " and ".join(sorted(on_other)))


def _gpus(shard: Shard) -> set[str]:
    return {record.gpu for record in shard.run.records.values() if record.gpu}


def _of_two_machines(one: Shard, other: Shard, on_one: object, on_other: object) -> CommandError:
    return CommandError(
        f"{one.path} was measured on {on_one}, {other.path} on {on_other}; expected machines that are alike, because "
        "figures measured on two are no one baseline, or --metrics that are computed"
    )


def _must_be_complete(shards: Sequence[Shard]) -> None:
    """Raise CommandError unless each shard is there once, and each cell in one of them."""
    first = shards[0]
    by_number: dict[int, Shard] = {}
    for shard in shards:
        if (twin := by_number.setdefault(shard.number, shard)) is not shard:
            raise CommandError(f"{twin.path} and {shard.path} are both shard {shard.name}; expected each once")
    if lost := [f"{number}/{first.of}" for number in range(1, first.of + 1) if number not in by_number]:
        raise CommandError(
            f"shard {' and '.join(lost)} never ran, or its file is not named; expected all {first.of} files"
        )
    holders: dict[str, Shard] = {}
    for shard in shards:
        for cell in map(str, shard.run.records):
            if (holder := holders.setdefault(cell, shard)) is not shard:
                raise CommandError(f"{cell} is in {holder.path} and in {shard.path}; expected each cell once")
    if absent := [cell for cell in first.cells if cell not in holders]:
        raise CommandError(
            f"{first_few(absent, LISTED)} of the run is in no file: it failed in its shard, or was left out; expected "
            "every cell"
        )
    if strangers := [cell for cell in holders if cell not in first.cells]:
        raise CommandError(f"{holders[strangers[0]].path}: {first_few(strangers, LISTED)} is no cell of the run")


def _commit(shard: Shard) -> str:
    changes = " with changes that are not committed" if shard.is_dirty else ""
    return (shard.run.commit[:9] or "none") + changes


def _asked_for(shard: Shard) -> dict[str, Any]:
    """What the run was asked for of its workload and its adaptations, as far as the shard's records say it."""
    found: dict[str, Any] = {}
    for record in shard.run.records.values():
        found = {**_asked_of(record), **found}
    return found


def _asked_of(record: Record) -> dict[str, Any]:
    """Without what a user's own network or step has of its own, and without a batch size that is part of the cell."""
    cell, asked = record.cell, dict(record.workload)
    own = set(asked) - {"threads"} if cell.is_step else {"optimizer", "dtype"} if cell.is_users else set()
    if record.batch_size is not None:
        own.add("batch_size")
    asked = {name: value for name, value in asked.items() if name not in own}
    if record.adaptation is not None:
        settings = {**dict(record.adaptation.settings), "seeds": [run.seed for run in record.adaptation.runs]}
        asked |= {f"{name} of {cell.task}": value for name, value in settings.items()}
        if not cell.is_users:
            asked[f"learning rate of {cell.method}"] = record.adaptation.learning_rate
    return asked


def _differing(names: Iterable[str], ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """Which of `names` two shards say otherwise, with both values; empty where they agree."""
    both = {name: (ours.get(name, "none"), theirs.get(name, "none")) for name in names}
    return "; ".join(f"{name} {one}, and {other}" for name, (one, other) in both.items() if one != other)


def _are_measured(shard: Shard) -> bool:
    return any(row.figure.evidence.needs_machine for row in metrics.rows(tuple(shard.metrics)))
