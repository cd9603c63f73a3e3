"""How much a figure may grow, cell by cell: what holds for all, for the cells of a pattern, and for one cell.

The later counts before the earlier: the table of metrics' defaults, pyproject.toml's table, its tables for cells by
pattern, what a cell's test asks for, and ``--tolerance``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from peft_update_bench.bench import metrics
from peft_update_bench.bench.metrics import ABSOLUTE_TIME, Evidence, Row

_EXACT = {Evidence.EXACT, Evidence.PINNED}


@dataclass(eq=False)
class Tolerances(Mapping[str, float]):
    """The tolerances of all cells by limit, as a mapping, and by :meth:`of` those of one.

    Of an exact figure nothing is tolerated but what a pattern or a test allows; it has no limit's name, and goes by
    ``section.key``.
    """

    general: Mapping[str, float]
    by_pattern: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    overrides: Mapping[str, float] = field(default_factory=dict)
    asked: dict[str, Mapping[str, float]] = field(default_factory=dict)
    """By a cell's id, what its test asks for."""

    def __getitem__(self, limit: str) -> float:
        return {**self.general, **self.overrides}[limit]

    def __iter__(self) -> Iterator[str]:
        return iter(self.general)

    def __len__(self) -> int:
        return len(self.general)

    def of(self, cell: str, asked: Mapping[str, float] | None = None) -> dict[str, float]:
        """Those of the cell whose id is `cell`; what its test `asked` for is in its record, where there is one."""
        found = dict(self.general)
        for pattern, table in self.by_pattern.items():
            if _fits(cell, pattern):
                found |= table
        return {**found, **(asked or self.asked.get(cell, {})), **self.overrides}


def of_cell(
    tolerances: Mapping[str, float], cell: str, asked: Mapping[str, float] | None = None
) -> Mapping[str, float]:
    """The tolerances of one cell; a plain mapping holds for all alike."""
    if isinstance(tolerances, Tolerances):
        return tolerances.of(cell, asked)
    return {**tolerances, **(asked or {})}


def asked_by(tolerances: Mapping[str, float], cell: str) -> dict[str, float]:
    """What the test of a cell asks for; empty where it asks for nothing."""
    return dict(tolerances.asked.get(cell, {})) if isinstance(tolerances, Tolerances) else {}


def limit_of(row: Row) -> str:
    """By which name a figure's tolerance goes."""
    return row.figure.limit or str(row)


def limits_named(name: str) -> tuple[str, ...]:
    """The limits that a name in a table or a marker means: a limit's own, an exact figure's ``section.key`` or
    ``section_key``, or a section, for all of its exact figures. Empty where it means none."""
    rows = [row for row in metrics.rows() if row.figure.limit or row.figure.evidence in _EXACT]
    if name in {*(row.figure.limit for row in rows if row.figure.limit), ABSOLUTE_TIME.limit}:
        return (name,)
    exact = [row for row in rows if not row.figure.limit]
    return tuple(str(r) for r in exact if name in {r.metric.name, str(r), str(r).replace(".", "_")})


def names() -> list[str]:
    """All that :func:`limits_named` knows, for a sentence."""
    limits = [row.figure.limit for row in metrics.rows() if row.figure.limit]
    exact = [row for row in metrics.rows() if row.figure.evidence in _EXACT and not row.figure.limit]
    sections = [row.metric.name for row in exact]
    return list(dict.fromkeys([*limits, ABSOLUTE_TIME.limit, *sections, *map(str, exact)]))


def _fits(cell: str, pattern: str) -> bool:
    """Whether a cell's id is of a pattern, in which * and ? are wildcards. Brackets are the id's own."""
    return fnmatchcase(cell, pattern.replace("[", "[[]"))
