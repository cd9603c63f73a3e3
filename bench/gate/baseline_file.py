"""Which file of a storage is the baseline that is meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from peft_update_bench.bench.benchmarks import BENCHMARKS, kind
from peft_update_bench.bench.gate.baseline import BaselineError, read
from peft_update_bench.bench.gate.machine import Machine
from peft_update_bench.fixtures.first_few import first_few


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

    Raises BaselineError where no file is meant, or more than one, as where two have the newest number;
    `record_command` is what records one.
    """
    if wanted is not None and _holds_tests(wanted):
        raise BaselineError(
            f"--benchmark-compare is {wanted!r}: pytest-benchmark takes the word behind it for a baseline's name, also "
            f"where that is what to run; expected it behind the tests: {wanted} --benchmark-compare"
        )
    if wanted is not None and _is_file(wanted):
        return Path(wanted)
    folders = [storage, storage / machine_id]
    there = _named(_NUMBERED, folders)
    found = there if wanted is None else _named(_name_of_file(wanted), folders)
    if not found:
        what = "no baseline (NNNN_*.json)" if wanted is None else f"no baseline {wanted!r}"
        expected = f"expected one of {first_few([path.name for path in reversed(there)], _LISTED)}"
        raise BaselineError(f"{what} in {storage}; {expected if there else f'record one with: {record_command}'}")
    if wanted is not None and len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise BaselineError(f"--benchmark-compare={wanted} means {len(found)} files in {storage}: {names}; name one")
    newest = found[-1]
    if wanted is not None:
        return newest
    return _alone(newest if machine is None else _of_machine(newest, storage, machine))


def _alone(newest: Path) -> Path:
    """`newest`, where no other file of its folder has its number. Raises BaselineError."""
    number = newest.name[: newest.name.index("_")]
    twins = [path.name for path in _named(f"{number}_", [newest.parent])]
    if len(twins) > 1:
        raise BaselineError(
            f"{newest.parent} has {len(twins)} files of the number {number}, as two branches leave them that are "
            f"merged, and none is the newest: {', '.join(twins)}; expected one: record the merged code and remove "
            f"these, or name one, as --benchmark-compare={twins[0]}"
        )
    return newest


def _named(wanted: str, folders: Iterable[Path]) -> list[Path]:
    """The files in `folders` that are called `wanted`, or begin with it, in the order of their names."""
    pattern = wanted if wanted.endswith(".json") else f"{wanted}*.json"
    return sorted((path for folder in folders for path in folder.glob(pattern)), key=lambda path: path.name)


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


_LISTED = 3
"""So many names of files are told."""

_NUMBERED = "[0-9][0-9][0-9][0-9]_*.json"


def numbered(folder: Path) -> list[Path]:
    """The baselines in `folder`, the newest last; none where there is no folder. None is read."""
    return sorted(folder.glob(_NUMBERED))


def steps_of_older(newest: Path) -> dict[str, Path]:
    """Users' steps, by a test's id or by their cell's, in files beside `newest` that are older than it, and the last
    file that has each. One that cannot be read is passed over, because none of its figures is used."""
    return _steps_of(path for path in numbered(newest.parent) if path.name < newest.name)


def has_steps(folder: Path) -> bool:
    """Whether any file in `folder` that can be read has users' steps."""
    return bool(_steps_of(numbered(folder)))


def _steps_of(paths: Iterable[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        with suppress(BaselineError):
            found |= {str(cell): path for cell in read(path).records if cell.is_step}
    return found


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


def _name_of_file(wanted: str) -> str:
    """`wanted`, which is no path of a file. Raises BaselineError where it cannot be the name of one either."""
    is_path = "/" in wanted
    if not wanted or is_path or any(character in wanted for character in "*?["):
        raise BaselineError(
            f"--benchmark-compare is {wanted!r}{', and there is no such file' if is_path else ''}; expected a number, "
            "the beginning of a file name, or a path"
        )
    return wanted
