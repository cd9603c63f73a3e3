"""Computed records remembered from earlier runs, where all that determines them is the same.

What is computed follows from the cell, its workload and the code: the suite, the packages that it requires, and
whatever else is installed and imported, such as pytest's plugins. What a user's own code does may follow from more,
from a variable or a file that it reads. So nothing is remembered of a user's network, method or step, nor where a
metric, a conftest or another module of a user's takes part, nor within a test.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from peft_update_bench.bench.metrics import METRICS
from peft_update_bench.bench.record import Record, RecordError, read_record
from peft_update_bench.fixtures import digests
from peft_update_bench.fixtures.files import keep_newest, users_cache, write_atomically

if TYPE_CHECKING:
    from peft_update_bench.bench.cells import Cell
    from peft_update_bench.bench.options import RunOptions

MOST_CODES = 20
"""So many versions of the code are remembered; what was used longest ago goes."""


class Remembered:
    """The records of `run`'s cells as they were computed by the code that this process has."""

    def __init__(self, run: RunOptions) -> None:
        self._run = run
        self._code = digests.of_code()
        key = {"code": self._code, "imported": digests.of_imported()}
        self._folder = users_cache() / "computed" / digests.of_key(key)
        self._computed: list[Record] = []

    @classmethod
    def of(cls, run: RunOptions, cells: Iterable[Cell]) -> Remembered | None:
        """None where nothing may be remembered: something is measured or debugged, a user's code takes part, or this is
        done within a test."""
        if run.needs_machine or not run.cell_seconds or "PYTEST_CURRENT_TEST" in os.environ:
            return None
        if digests.imports_users_code() or any(METRICS[name].is_from_elsewhere for name in run.metrics):
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
        """Remember it, once the run is at its end."""
        if _may_be_remembered(record.cell):
            self._computed.append(record)

    def close(self) -> None:
        """Write what was computed, unless the code was changed meanwhile: it is imported piece by piece, and nobody
        knows which of both had computed what. Where no file can be written it is forgotten."""
        computed, self._computed = self._computed, []
        if not computed or digests.of_code() != self._code:
            return
        with suppress(OSError):
            if not self._folder.exists():
                keep_newest(self._folder.parent, MOST_CODES - 1)
            for record in computed:
                write_atomically(self._path(record.cell), json.dumps(record.as_extra_info()).encode())

    def _path(self, cell: Cell) -> Path:
        key = {"cell": str(cell), "workload": self._run.of(cell).workload.as_record(), "metrics": self._run.metrics}
        return self._folder / f"{digests.of_key(key)}.json"


def _may_be_remembered(cell: Cell) -> bool:
    return not (cell.is_users or cell.is_step)
