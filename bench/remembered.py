"""Computed records remembered from earlier runs, where all that determines them is the same.

What is computed follows from the cell, its workload and the code: the suite, the packages that it requires, and
whatever else this process has imported, such as a conftest that changes one of them. Of the suite and of what is
imported besides, each file is read; of packages, a checkout that somebody edits among them, each file's size and time
of change. A user's own network, method or step may follow from more, and so may what is done within a test: neither is
remembered.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from peft_update_bench.bench.record import Record, RecordError, read_record
from peft_update_bench.fixtures.files import write_atomically
from peft_update_bench.fixtures.requirements import required_modules
from platformdirs import user_cache_path

if TYPE_CHECKING:
    from peft_update_bench.bench.cells import Cell
    from peft_update_bench.bench.options import RunOptions

MOST_CODES = 20
"""So many versions of the code are remembered; what was used longest ago goes."""

_SUITE = Path(__file__).parents[1]
_CODE = {".py", ".so", ".json"}


class Remembered:
    """The records of `run`'s cells as they were computed by the code that this process has."""

    def __init__(self, run: RunOptions) -> None:
        self._run = run
        self._folder = user_cache_path("peft-update-bench") / "computed" / _digest_of_code()

    @classmethod
    def of(cls, run: RunOptions, cells: Iterable[Cell]) -> Remembered | None:
        """None where nothing may be remembered: something is measured or debugged, or this is done within a test."""
        if run.needs_machine or not run.cell_seconds or "PYTEST_CURRENT_TEST" in os.environ:
            return None
        return cls(run) if any(map(_may_be_remembered, cells)) else None

    def find(self, cell: Cell) -> Record | None:
        """None where it was not computed before, or what was kept cannot be read."""
        if not _may_be_remembered(cell):
            return None
        try:
            return read_record(json.loads(self._path(cell).read_text("utf-8")))
        except (OSError, ValueError, RecordError):
            return None

    def keep(self, record: Record) -> None:
        """Remember it. Where no file can be written it is forgotten."""
        if not _may_be_remembered(record.cell):
            return
        with suppress(OSError):
            if not self._folder.exists():
                _forget_oldest(self._folder.parent)
            write_atomically(self._path(record.cell), json.dumps(record.as_extra_info()).encode())

    def _path(self, cell: Cell) -> Path:
        key = {"cell": str(cell), "workload": self._run.of(cell).workload.as_record(), "metrics": self._run.metrics}
        return self._folder / f"{_digest([json.dumps(key, sort_keys=True)])}.json"


def _may_be_remembered(cell: Cell) -> bool:
    return not (cell.is_users or cell.is_step)


def _forget_oldest(folder: Path) -> None:
    codes = sorted(folder.iterdir(), key=lambda code: code.stat().st_mtime) if folder.is_dir() else []
    for code in codes[: max(0, len(codes) - MOST_CODES + 1)]:
        shutil.rmtree(code, ignore_errors=True)


def _digest_of_code() -> str:
    packages = sorted({*_folders_of_packages()})
    parts = [platform.python_version(), platform.machine(), *_sizes_and_times(packages)]
    suite = [path for name in ("bench", "fixtures") for path in _files(_SUITE / name)]
    for path in sorted({*suite, *_others(packages)}):
        with suppress(OSError):
            parts += [str(path), hashlib.sha256(path.read_bytes()).hexdigest()]
    return _digest(parts)


def _others(packages: Iterable[Path]) -> Iterator[Path]:
    """The files of what is imported and neither the interpreter's nor of `packages`."""
    files = {*map(str, packages)}
    folders = tuple(f"{package}{os.sep}" for package in packages)
    interpreters = os.path.realpath(sysconfig.get_path("stdlib")) + os.sep
    for module in [*sys.modules.values()]:
        file = os.path.realpath(getattr(module, "__file__", None) or "/")
        is_interpreters = file.startswith(interpreters) and not {"site-packages", "dist-packages"} & {*Path(file).parts}
        if not is_interpreters and file not in files and not file.startswith(folders) and Path(file).is_file():
            yield Path(file)


def _folders_of_packages() -> Iterator[Path]:
    """Of the modules that the suite requires, as Python finds them here."""
    for module in required_modules():
        with suppress(ImportError, ValueError):
            if spec := find_spec(module):
                for location in spec.submodule_search_locations or filter(None, [spec.origin]):
                    yield Path(os.path.realpath(location))


def _sizes_and_times(packages: Iterable[Path]) -> Iterator[str]:
    for package in packages:
        for path in _files(package):
            with suppress(OSError):
                found = path.stat()
                yield f"{path} {found.st_size} {found.st_mtime_ns}"


def _files(package: Path) -> Iterator[Path]:
    """Those of a package that may be code, or a module's own."""
    if package.is_file():
        yield package
    for folder, below, names in os.walk(package):
        below[:] = sorted(name for name in below if name != "__pycache__")
        yield from (Path(folder, name) for name in sorted(names) if Path(name).suffix in _CODE)


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
