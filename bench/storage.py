"""How baselines are written: pytest-benchmark's file storage, with its gaps closed, and files that can be reviewed."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from peft_update_bench.fixtures.files import complete_file
from pytest_benchmark.storage.file import FileStorage
from pytest_benchmark.utils import safe_dumps

_SHARED = "options"
"""The plugin's settings: every entry repeats them, and nothing reads them back. Written once, beside the entries."""


def text_of(output_json: Mapping[str, Any]) -> str:
    """pytest-benchmark's JSON with a line for each entry, keys sorted, the entries last.

    A diff then has a line for each cell that moved, and a recording of 48 cells some 60 lines. What
    ``pytest-benchmark compare`` and ``--benchmark-compare`` read of an entry is left in it: statistics, names, groups
    and parameters.
    """
    head = dict(output_json)
    entries = head.pop("benchmarks", None)
    settings = [entry.get(_SHARED) for entry in entries or ()]
    if entries and settings[0] is not None and all(one == settings[0] for one in settings):
        head[_SHARED] = settings[0]
        entries = [{key: value for key, value in entry.items() if key != _SHARED} for entry in entries]
    lines = [f" {_in_one_line(key)}: {_in_one_line(value)}" for key, value in head.items()]
    if entries is not None:
        listed = ",\n".join(f"  {_in_one_line(entry)}" for entry in entries)
        lines.append(f' "benchmarks": [\n{listed}\n ]')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _in_one_line(value: Any) -> str:
    return str(safe_dumps(value, ensure_ascii=True, sort_keys=True))


class BaselineStorage(FileStorage):
    """Saves at the storage's root, where every machine finds it, completely or not at all, and never over a file.

    `failure` says why nothing could be saved. It is no exception, which the plugin would let end pytest in a traceback.
    """

    failure = ""

    @property
    def location(self) -> str:
        """Named where the plugin warns of another machine. Its own raises for a folder outside the current one."""
        return str(self.path)

    def save(self, output_json: dict[str, Any], save: str) -> None:
        """Write ``NNNN_<save>.json`` with the next free number.

        The file appears under its name only when it is complete, so a run that is killed leaves nothing that a later
        one would read. A link, unlike a rename, fails where another run has just taken the number; then the next one
        is tried.
        """
        try:
            target = self._write(output_json, save)
        except OSError as error:
            self.failure = f"{self.path} cannot be written to ({error.strerror})"
        else:
            self.logger.info(f"Saved benchmark data in: {target}")

    def _write(self, output_json: dict[str, Any], save: str) -> Path:
        # A baseline is read by everyone who reads the repository.
        with complete_file(self.path, text_of(output_json).encode("ascii"), 0o644) as hidden:
            # Of the root's files alone: the plugin's own numbering looks into folders beside them too.
            taken = (int(path.name.partition("_")[0]) for path in self.path.glob("[0-9][0-9][0-9][0-9]_*.json"))
            number = max(taken, default=0)
            while True:
                number += 1
                target = self.path / f"{number:04}_{save}.json"
                with suppress(FileExistsError):
                    _move_to_new(hidden, target)
                    return target


_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP}
"""What file systems say that have no second names for a file, such as FAT and some that are mounted from elsewhere."""


def _move_to_new(file: Path, target: Path) -> None:
    """Let `target` be the complete `file`. Raises FileExistsError where it is there already, OSError where it cannot be
    written."""
    try:
        os.link(file, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        target.open("x").close()
        file.replace(target)
