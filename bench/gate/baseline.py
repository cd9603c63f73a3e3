"""Baselines: committed JSON files of records, found and read. Whatever is wrong with one is an error, never a pass."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from json import JSONDecodeError
from pathlib import Path
from typing import Any, NoReturn

from peft_update_bench.bench.benchmarks import BENCHMARKS, kind, test_names
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

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def needs_machine(self) -> bool:
        """Whether any figure is judged only on a machine like the one that it is from."""
        measured = [row for row in rows() if row.figure.evidence.needs_machine]
        return any(row.of(record) is not None for record in self.records.values() for row in measured)


def find(
    storage: Path,
    wanted: str | None,
    machine_id: str,
    machine: Callable[[], Machine] | None = None,
    record_command: str = "pytest --benchmark-save=baseline",
) -> Path:
    """The file that ``--benchmark-compare`` means, by pytest-benchmark's rules.

    `wanted` is a number or the beginning of a file name, or a path; None is the newest ``NNNN_*.json`` in the storage's
    root or in this machine's folder. Unlike the plugin, an unreadable newest file is not passed over for an older one.

    Other machines' baselines may lie in folders of any name. Where `machine` says which one this is, and the newest
    file is of another, a folder's newest file that was measured on this machine is meant.

    Raises BaselineError where no file, or more than one, is meant; `record_command` is what then records one.
    """
    if wanted is not None and _holds_tests(wanted):
        raise BaselineError(
            f"--benchmark-compare is {wanted!r}: pytest-benchmark takes the word behind it for a baseline's name, also "
            f"where that is what to run; expected it behind the tests: {wanted} --benchmark-compare"
        )
    if wanted is not None and _is_file(wanted):
        return Path(wanted)
    pattern = _NUMBERED if wanted is None else f"{_without_wildcards(wanted)}*.json"
    folders = [storage, storage / machine_id]
    found = sorted((path for folder in folders for path in folder.glob(pattern)), key=lambda path: path.name)
    if not found:
        what = "no baseline (NNNN_*.json)" if wanted is None else f"no baseline {wanted!r}"
        raise BaselineError(f"{what} in {storage}; record one with: {record_command}")
    if wanted is not None and len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise BaselineError(f"--benchmark-compare={wanted} means {len(found)} files in {storage}: {names}; name one")
    newest = found[-1]
    return newest if wanted is not None or machine is None else _of_machine(newest, storage, machine)


def _of_machine(newest: Path, storage: Path, machine: Callable[[], Machine]) -> Path:
    """`newest`, or a folder's newest file where that alone was measured on this machine.

    A folder of what was computed alone, such as a larger matrix's, is no machine's.
    """
    kinds = {kind(name).folder for name in BENCHMARKS}
    folders = [path for path in sorted(storage.iterdir()) if path.is_dir() and path.name not in kinds]
    others = [files[-1] for folder in folders if (files := numbered(folder))]
    if not others:
        return newest
    this = machine()
    for path in (newest, *others):
        baseline = read(path)
        if baseline.machine.is_like(this) and (path == newest or baseline.needs_machine):
            return path
    return newest


_NUMBERED = "[0-9][0-9][0-9][0-9]_*.json"


def numbered(folder: Path) -> list[Path]:
    """The baselines in `folder`, the newest last; none where there is no folder. None is read."""
    return sorted(folder.glob(_NUMBERED))


def tests_of_older(newest: Path) -> dict[str, Path]:
    """Users' tests in files beside `newest` that are older than it, and the last file that has each. One that cannot be
    read is passed over, because none of its figures is used."""
    found: dict[str, Path] = {}
    for path in numbered(newest.parent):
        if path.name < newest.name:
            with suppress(BaselineError):
                found |= {cell.architecture: path for cell in read(path).records if cell.is_tests}
    return found


def read(path: Path) -> Baseline:
    """Read a baseline. Raises BaselineError, in one sentence, for anything but a complete and valid one."""
    return of_data(path, load(path))


def of_data(path: Path, data: dict[str, Any]) -> Baseline:
    """As :func:`read`, of what :func:`load` has found in the file. Whatever is printed of it can be."""
    data = printable(data)
    entries, machine, suite = (_member(path, data, key, kind) for key, kind in _TOP_LEVEL.items())
    records: dict[Cell, Record] = {}
    seconds: dict[Cell, float] = {}
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
    return Baseline(path, records, seconds, read_machine(machine), *_suite(path, suite), *_origin(data))


def _cell_id(fullname: str, information: Any) -> str | None:
    """The cell whose entry is called `fullname`; None where it is of another benchmark."""
    # A test of a user's may be called as ours are, whether it is of a step or a plain benchmark, which has no record.
    architecture = information.get("architecture") if isinstance(information, dict) else None
    if architecture == fullname:
        return fullname
    file, _, name = fullname.rpartition("::")
    test, _, cell_id = name.rstrip("]").partition("[")
    is_ours = architecture is not None or file == f"bench/{test}.py"
    return cell_id if test in test_names() and is_ours else None


def _test_of(information: Any) -> str | None:
    """The users' test that a record is of; None where it is of none."""
    name = information.get("architecture") if isinstance(information, dict) else None
    return name if isinstance(name, str) and "::" in name else None


_CONFLICT = re.compile(r"^(?:<{7}|\|{7}|={7}|>{7})(?: |$)", re.MULTILINE)
"""A line that git writes between two sides of a merge."""

_TOP_LEVEL: dict[str, type] = {"benchmarks": list, "machine_info": dict, "suite": dict}


_KINDS = {type(None): "null", bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list"}
"""What JSON may hold in an object's place."""


def load(path: Path) -> dict[str, Any]:
    """All that a file of pytest-benchmark's holds. Raises BaselineError where it is no JSON object."""
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise BaselineError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BaselineError(f"{path}: is not UTF-8 at byte {error.start}; expected pytest-benchmark's JSON") from None

    def refuse(constant: str) -> NoReturn:
        raise BaselineError(f"{path}: holds {constant}; expected finite numbers only")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        repeated = {key for key in keys if keys.count(key) > 1}
        if repeated:
            raise BaselineError(f"{path}: the key {min(repeated)!r} is there twice in one object")
        return dict(pairs)

    try:
        data = json.loads(text, parse_constant=refuse, object_pairs_hook=unique)
    except JSONDecodeError as error:
        if conflict := _CONFLICT.search(text):
            line = text[: conflict.start()].count("\n") + 1
            raise BaselineError(
                f"{path}: holds a merge conflict (line {line}): two recordings took one number; take one of them whole "
                "with git checkout --ours or --theirs, and record the merged code: pytest --benchmark-save=baseline"
            ) from None
        raise BaselineError(
            f"{path}: is not complete JSON (line {error.lineno}, column {error.colno}: {error.msg}); "
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


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:  # longer than any file's name, for one
        return False


def _holds_tests(name: str) -> bool:
    """Whether a word is one that pytest runs tests by, and no number: a folder, or a file of Python with or without a
    test's name."""
    path = Path(name.partition("::")[0])
    try:
        return path.suffix == ".py" or (bool(name) and not name.isdigit() and path.is_dir())
    except OSError:  # as above
        return False


def _without_wildcards(wanted: str) -> str:
    if not wanted or "/" in wanted or any(character in wanted for character in "*?["):
        raise BaselineError(
            f"--benchmark-compare is {wanted!r}; expected a number, the beginning of a file name, or a path"
        )
    return wanted
