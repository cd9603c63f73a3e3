"""What a run has finished so far, each kept at once, so that the run after one that did not finish goes on from there.

It is used again only under the same conditions and keys, and only until a run has all of its results: a whole run
always measures.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from peft_update_bench.fixtures import digests
from peft_update_bench.fixtures.files import keep_newest, write_atomically

MOST_RUNS = 20
"""So many runs that did not finish are kept; what was written to longest ago goes."""


Item = TypeVar("Item", bound=Hashable)


class Unfinished(Generic[Item]):
    """Results of a run's items in a folder below `cache_folder`, each under the item's key.

    `conditions` are those that all results of a run hold under: plan, code, package versions, kind of machine. They,
    the `keys` and results are as JSON has them.
    """

    def __init__(
        self, cache_folder: Path, conditions: Mapping[str, Any], keys: Mapping[Item, Mapping[str, Any]]
    ) -> None:
        self.folder = cache_folder / "unfinished" / digests.of_key(conditions)
        self._keys = keys
        self._handed_out: set[Item] = set()

    def find(self, item: Item) -> Any:
        """What was kept of `item`; None where nothing was, or where it is damaged."""
        try:
            data = json.loads(self._path(item).read_text(encoding="ascii"))
            return data["result"] if data["key"] == self._keys[item] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, item: Item, result: Any) -> None:
        """Raises OSError where no file can be written."""
        if not self.folder.exists():
            keep_newest(self.folder.parent, MOST_RUNS - 1)
        write_atomically(self._path(item), json.dumps({"key": self._keys[item], "result": result}).encode("ascii"))

    def hand_out(self, *items: Item) -> None:
        """The run has the results of `items`."""
        self._handed_out.update(items)

    def forget(self) -> None:
        """Drop what was kept, where every result was handed out: nothing is left to go on with.

        What cannot be removed stays.
        """
        if self._handed_out >= self._keys.keys():
            with suppress(OSError):
                for item in self._keys:
                    self._path(item).unlink(missing_ok=True)
                if not any(self.folder.iterdir()):
                    self.folder.rmdir()

    def _path(self, item: Item) -> Path:
        return self.folder / f"{digests.of_key(self._keys[item])}.json"
