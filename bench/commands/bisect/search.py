"""Looking for changes among versions in order, with as few looks as there need be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from peft_update_bench.bench.command_error import CommandError

Figures = dict[tuple[str, str], float]
"""By cell and figure."""


class ProbeError(CommandError):
    """A version that cannot be measured: the search passes over it, unless it is an end."""


@dataclass(frozen=True)
class Change:
    """What moved between two versions. ``exact`` where the second comes right after the first; else those between
    cannot be measured."""

    before: int
    after: int
    moved: dict[tuple[str, str], tuple[float | None, float | None]]

    @property
    def exact(self) -> bool:
        return self.after == self.before + 1


@dataclass
class Search:
    """Changes of figures among `versions`, oldest first. `probe` measures one, or raises ProbeError."""

    versions: Sequence[str]
    probe: Callable[[str], Figures]
    _seen: dict[int, Figures | None] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    """Why a version could not be measured."""

    @property
    def probes(self) -> int:
        """How many versions were measured, or tried."""
        return len(self._seen)

    @cached_property
    def changes(self) -> list[Change]:
        """What differs between the ends, each at the step that brought it; what changed and changed back within a
        stretch whose ends agree is not seen. Raises ProbeError where an end cannot be measured."""
        last = len(self.versions) - 1
        for end in (0, last):
            if self._at(end) is None:
                raise ProbeError(f"{self.versions[end]} cannot be measured: {self.reasons[end]}")
        return self._between(0, last)

    def _between(self, low: int, high: int) -> list[Change]:
        moved = self._moved(low, high)
        if not moved:
            return []
        middle = self._middle(low, high)
        if middle is None:
            return [Change(low, high, moved)]
        return [*self._between(low, middle), *self._between(middle, high)]

    def _middle(self, low: int, high: int) -> int | None:
        """The version nearest to the middle that can be measured; None where none can."""
        centre = (low + high) / 2
        between = sorted(range(low + 1, high), key=lambda version: abs(version - centre))
        return next((version for version in between if self._at(version) is not None), None)

    def _moved(self, low: int, high: int) -> dict[tuple[str, str], tuple[float | None, float | None]]:
        before, after = self._at(low) or {}, self._at(high) or {}
        keys = dict.fromkeys([*before, *after])
        return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}

    def _at(self, index: int) -> Figures | None:
        if index not in self._seen:
            try:
                self._seen[index] = self.probe(self.versions[index])
            except ProbeError as error:
                self._seen[index], self.reasons[index] = None, str(error)
        return self._seen[index]
