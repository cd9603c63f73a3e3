"""Baselines: committed JSON files of records, read. Whatever is wrong with one is an error, never a pass."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from json import JSONDecodeError
from pathlib import Path
from typing import Any, NoReturn

from peft_update_bench.bench.benchmarks import test_names
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.command_error import CommandError
from peft_update_bench.bench.gate.machine import Machine, read_machine
from peft_update_bench.bench.metrics import rows
from peft_update_bench.bench.printable import printable
from peft_update_bench.bench.record import Record, RecordError, read_record


class BaselineError(CommandError):
    """A baseline that cannot be used: which file, what is wrong, what was expected.

    One line, whatever the file holds: keys and names from it may carry line breaks and terminal sequences.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class ForeignFileError(BaselineError):
    """A file of pytest-benchmark's that holds nothing of this suite."""


@dataclass(frozen=True)
class Baseline:
    """The records of one file, by cell, and the median seconds of the steps that were timed."""

    path: Path
    records: dict[Cell, Record]
    seconds: dict[Cell, float]
    machine: Machine
    matrix: str
    is_filtered: bool
    commit: str = ""
    """Of the checkout that was measured; empty where it was none."""
    time: datetime | None = None
    """When that commit was made; without one, when it was measured."""
    of_run: frozenset[str] = frozenset()
    """Of a shard's file: the ids of all cells of its run, those of other shards among them."""
    without_record: frozenset[str] = frozenset()
    """The tests of entries that hold no record: other benchmarks', or a user's test whose entry was emptied."""

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def needs_machine(self) -> bool:
        """Whether any figure is judged only on a machine like the one that it is from."""
        measured = [row for row in rows() if row.figure.evidence.needs_machine]
        return any(row.of(record) is not None for record in self.records.values() for row in measured)


def read(path: Path) -> Baseline:
    """Read a baseline. Raises BaselineError, in one sentence, for anything but a complete and valid one."""
    return of_data(path, load(path))


def of_data(path: Path, data: dict[str, Any]) -> Baseline:
    """As :func:`read`, of what :func:`load` has found in the file. Whatever is printed of it can be."""
    data = printable(data)
    entries, machine, suite = (_member(path, data, key, kind) for key, kind in _TOP_LEVEL.items())
    records: dict[Cell, Record] = {}
    seconds: dict[Cell, float] = {}
    without_record: set[str] = set()
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("fullname"), str):
            raise BaselineError(
                f"{path}: benchmarks[{index}] has no fullname; expected one of pytest-benchmark's entries"
            )
        cell_id, information = _cell_id(entry["fullname"], entry.get("extra_info")), entry.get("extra_info")
        # Other benchmarks' entries in the same file are passed over.
        if cell_id is None:
            if (test := _test_of(information)) is not None:
                raise BaselineError(f"{path}: the entry named {entry['fullname']} holds the record of {test}")
            without_record.add(entry["fullname"])
            continue
        try:
            record = read_record(information)
        except RecordError as error:
            raise BaselineError(f"{path}: {cell_id}: {error}") from None
        if str(record.cell) != cell_id:
            raise BaselineError(f"{path}: the entry named {cell_id} holds the record of {record.cell}")
        if record.cell in records:
            raise BaselineError(f"{path}: {cell_id} is there twice")
        records[record.cell] = record
        if record.latency is not None:
            seconds[record.cell] = _median(path, cell_id, entry.get("stats"))
    if not records:
        raise ForeignFileError(
            f"{path}: holds no record of this suite; expected entries of {' or '.join(test_names())}"
        )
    return Baseline(
        path,
        records,
        seconds,
        read_machine(machine),
        *_suite(path, suite),
        *_origin(data),
        of_run=frozenset(_cells_of_run(suite)),
        without_record=frozenset(without_record),
    )


def _cell_id(fullname: str, information: Any) -> str | None:
    """The cell whose entry is called `fullname`; None where it is of another benchmark."""
    # A test of a user's may be called as ours are, whether it is of a step or a plain benchmark, which has no record.
    architecture = information.get("architecture") if isinstance(information, dict) else None
    if architecture == fullname:
        return fullname
    file, _, name = fullname.rpartition("::")
    test, _, cell_id = name.rstrip("]").partition("[")
    is_ours = architecture is not None or file == f"bench/{test}.py"
    # Without brackets it is a user's test that is called as ours are.
    return cell_id if cell_id and test in test_names() and is_ours else None


def _test_of(information: Any) -> str | None:
    """The users' test that a record is of; None where it is of none."""
    name = information.get("architecture") if isinstance(information, dict) else None
    return name if isinstance(name, str) and "::" in name else None


_CONFLICT = re.compile(r"^(?:<{7}|\|{7}|={7}|>{7})(?: |$)", re.MULTILINE)
"""A line that git writes between two sides of a merge."""

_LFS = "version https://git-lfs.github.com/"

_DIGITS = 20
"""Of a number that is told as it stands."""

_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"
"""The byte order mark, once it is decoded."""

_TOP_LEVEL: dict[str, type] = {"benchmarks": list, "machine_info": dict, "suite": dict}


_KINDS = {type(None): "null", bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list"}
"""What JSON may hold in an object's place."""


def load(path: Path) -> dict[str, Any]:
    """All that a file of pytest-benchmark's holds. Raises BaselineError where it is no JSON object."""
    return parsed(path, content_of(path))


def content_of(path: Path) -> bytes:
    """Raises BaselineError where the file cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BaselineError(f"{path}: cannot be read: {error.strerror}") from None


def parsed(path: Path, content: bytes) -> dict[str, Any]:
    """As :func:`load`, of what the file `path` holds: a pipe has it only once."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BaselineError(f"{path}: is not UTF-8 at byte {error.start}; expected pytest-benchmark's JSON") from None

    def refuse(number: str) -> NoReturn:
        raise BaselineError(f"{path}: holds {number}; expected finite numbers only")

    def finite(number: str) -> str:
        """As it stands; JSON's numbers may be larger than any float, whole ones too."""
        if not math.isfinite(float(number)):
            refuse(number if len(number) <= _DIGITS else f"a number of {len(number)} characters")
        return number

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        repeated = {key for key in keys if keys.count(key) > 1}
        if repeated:
            raise BaselineError(f"{path}: the key {min(repeated)!r} is there twice in one object")
        return dict(pairs)

    try:
        data = json.loads(
            text,
            parse_constant=refuse,
            parse_int=lambda number: int(finite(number)),
            parse_float=lambda number: float(finite(number)),
            object_pairs_hook=unique,
        )
    except JSONDecodeError as error:
        if conflict := _CONFLICT.search(text):
            line = text[: conflict.start()].count("\n") + 1
            raise BaselineError(
                f"{path}: holds a merge conflict (line {line}): two recordings took one number; take one of them whole "
                "with git checkout --ours or --theirs, and record the merged code: pytest --benchmark-save=baseline"
            ) from None
        if text.startswith(_LFS):
            raise BaselineError(
                f"{path}: is Git LFS's pointer to a file that was not fetched; expected the file: git lfs pull, or in "
                "a workflow lfs: true at actions/checkout"
            ) from None
        if text.startswith(_MARK):
            raise BaselineError(
                f"{path}: begins with a byte order mark, as some editors write one; expected UTF-8 without one, which "
                "pytest-benchmark reads too: save it so, or restore it from version control"
            ) from None
        where = f"is not complete JSON (line {error.lineno}, column {error.colno}: {error.msg})"
        raise BaselineError(
            f"{path}: {where if text.strip() else 'is empty'}; "
            "restore it from version control, or record it again with: pytest --benchmark-save=baseline"
        ) from None
    except (RecursionError, ValueError) as error:
        raise BaselineError(f"{path}: is not usable JSON ({error})") from None
    if not isinstance(data, dict):
        raise BaselineError(f"{path}: holds {_KINDS[type(data)]}; expected pytest-benchmark's JSON object")
    return data


def _member(path: Path, data: dict[str, Any], key: str, kind: type) -> Any:
    if not isinstance(data.get(key), kind):
        # A run of other benchmarks saves all but this.
        refused = ForeignFileError if key == "suite" and key not in data else BaselineError
        raise refused(f"{path}: has no {key!r}; expected the JSON that pytest --benchmark-save writes in this suite")
    return data[key]


def _median(path: Path, cell_id: str, stats: Any) -> float:
    median = stats.get("median") if isinstance(stats, dict) else None
    if not isinstance(median, float) or median <= 0:
        raise BaselineError(f"{path}: {cell_id}: stats.median is {median!r}; expected seconds above 0")
    return median


def _suite(path: Path, suite: dict[str, Any]) -> tuple[str, bool]:
    matrix, is_filtered = suite.get("matrix"), suite.get("is_filtered")
    if not isinstance(matrix, str) or not isinstance(is_filtered, bool):
        raise BaselineError(f"{path}: suite is {suite!r}; expected a matrix and is_filtered")
    return matrix, is_filtered


def _cells_of_run(suite: dict[str, Any]) -> list[str]:
    """Of what a shard's file says of its run; empty where it is no shard's. ``merge`` alone reads, and checks, more."""
    shard = suite.get("shard")
    cells = shard.get("cells") if isinstance(shard, dict) else None
    return [cell for cell in cells if isinstance(cell, str)] if isinstance(cells, list) else []


_NO_COMMIT = ("unversioned", "unknown")
"""pytest-benchmark's words for none: where there is no version control, and where it does not answer."""


def _origin(data: dict[str, Any]) -> tuple[str, datetime | None]:
    """The commit, and its time or else the run's. Nothing is judged by them, so neither must be there."""
    commit = data.get("commit_info")
    commit = commit if isinstance(commit, dict) else {}
    name = "" if commit.get("id") in _NO_COMMIT else str(commit.get("id") or "")
    for text in (commit.get("time"), data.get("datetime")):
        try:
            time = datetime.fromisoformat(text if isinstance(text, str) else "")
            # A time without a zone is pytest-benchmark's own, which is UTC.
            time = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
        except (ValueError, OverflowError):  # the latter at both ends of the calendar
            continue
        return name, time
    return name, None
