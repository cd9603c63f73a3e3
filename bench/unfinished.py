"""What a run has finished so far, each kept at once, so that the run after one that did not finish goes on from there.

It is used again only under the same conditions and keys, and only until a run has all of its results: a whole run
always measures.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from peft_update_bench.fixtures import digests
from peft_update_bench.fixtures.files import keep_newest, write_atomically

MOST_RUNS = 20
"""So many runs that did not finish are kept; what was written to longest ago goes."""


class Unfinished:
    """Results in a folder below `cache_folder`, each under a key; keys, `conditions` and results are as JSON has them.

    `conditions` are those that all results of a run hold under: plan, code, package versions, kind of machine.
    """

    def __init__(self, cache_folder: Path, conditions: Mapping[str, Any]) -> None:
        self.folder = cache_folder / "unfinished" / digests.of_key(conditions)

    def find(self, key: Mapping[str, Any]) -> Any:
        """What was kept under `key`; None where nothing was, or where it is damaged."""
        try:
            data = json.loads(self._path(key).read_text(encoding="ascii"))
            return data["result"] if data["key"] == key else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, key: Mapping[str, Any], result: Any) -> None:
        """Raises OSError where no file can be written."""
        if not self.folder.exists():
            keep_newest(self.folder.parent, MOST_RUNS - 1)
        write_atomically(self._path(key), json.dumps({"key": key, "result": result}).encode("ascii"))

    def drop(self, keys: Iterable[Mapping[str, Any]]) -> None:
        """Forget what was kept under `keys`, as far as files can be removed."""
        with suppress(OSError):
            for key in keys:
                self._path(key).unlink(missing_ok=True)
            if not any(self.folder.iterdir()):
                self.folder.rmdir()

    def _path(self, key: Mapping[str, Any]) -> Path:
        return self.folder / f"{digests.of_key(key)}.json"
