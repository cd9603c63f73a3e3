"""Instructions kept as they are counted, until a run has them all: a cell takes valgrind a minute and more."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from peft_update_bench.bench.unfinished import Unfinished
from peft_update_bench.fixtures import digests
from peft_update_bench.fixtures.files import users_cache
from peft_update_bench.fixtures.instruments.instructions import Conditions, Instructions, conditions

if TYPE_CHECKING:
    from peft_update_bench.bench.cells import Cell
    from peft_update_bench.bench.options import RunOptions


class KeptCounts:
    """Those of `cells`, by the code that this process has; what a test builds is not among them.

    ``found`` is what a run that did not finish has counted.
    """

    def __init__(self, run: RunOptions, cells: Sequence[Cell]) -> None:
        self._cells = [cell for cell in cells if not cell.is_tests]
        code = digests.by_users_name(name for cell in self._cells for name in (cell.architecture, cell.method))
        self._code = digests.of_code()
        process = {"code": self._code, "imported": digests.of_imported()}
        self._unfinished = Unfinished(
            users_cache(),
            {**process, "conditions": conditions().as_record()},
            {
                cell: {
                    "cell": str(cell),
                    "workload": run.of(cell).workload.as_record(),
                    "code": [code.get(name) for name in (cell.architecture, cell.method)],
                }
                for cell in self._cells
            },
        )
        self.folder = self._unfinished.folder
        kept = {cell: _read(self._unfinished.find(cell)) for cell in self._cells}
        self.found = {cell: counted for cell, counted in kept.items() if counted is not None}

    @classmethod
    def of(cls, run: RunOptions, cells: Sequence[Cell]) -> KeptCounts | None:
        """None within a test, whose code is not all in files."""
        return None if "PYTEST_CURRENT_TEST" in os.environ else cls(run, cells)

    def keep(self, cell: Cell, counted: Instructions) -> None:
        """Where no file can be written it is forgotten, and where the code was changed meanwhile, which the process of
        a cell imports when it starts."""
        if not cell.is_tests and digests.of_code() == self._code:
            with suppress(OSError):
                self._unfinished.keep(cell, asdict(counted))

    def hand_out(self, cell: Cell) -> None:
        """The run has the count of `cell`."""
        self._unfinished.hand_out(cell)

    def forget(self) -> None:
        """Drop what was kept, where the run has every count."""
        self._unfinished.forget()


def _read(kept: Any) -> Instructions | None:
    try:
        return kept and Instructions(**(kept | {"conditions": Conditions(**kept["conditions"])}))
    except (KeyError, TypeError):
        return None
