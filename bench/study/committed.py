"""The committed baselines that a page's tables are made from, each found below the working directory's `baselines`."""

from __future__ import annotations

from pathlib import Path

from peft_update_bench.bench.commands.error import CommandError
from peft_update_bench.bench.gate import baseline
from peft_update_bench.bench.gate.baseline import Baseline, BaselineError
from peft_update_bench.bench.record import Record

FOLDER = Path("baselines")
METHODS = FOLDER / "methods"
"""What every method costs; in folders below, what else was measured of the methods that the core matrix has not."""
FASHION = FOLDER / "fashion_mnist" / "adaptation"


def newest(folder: Path) -> Baseline:
    """The newest baseline in `folder`. Raises CommandError where none is there, or it cannot be read."""
    try:
        return baseline.read(baseline.find(folder, None, ""))
    except BaselineError as error:
        raise CommandError(str(error)) from None


def of_every_method(kind: str) -> list[Baseline]:
    """The newest baseline of a kind of benchmark, which is of the core matrix, and all of further methods.

    Raises CommandError where the first is missing, or one cannot be read.
    """
    return [newest(FOLDER / kind), *map(_read, _numbered(METHODS / kind))]


def adapted_to_fashion_mnist() -> list[Record]:
    """The records of every run in :data:`FASHION`, each of other methods or another shift; none where no run is there.

    Raises CommandError where one cannot be read.
    """
    return [record for path in _numbered(FASHION) for record in _read(path).records.values()]


def on_fashion_mnist() -> list[Record]:
    """As :func:`adapted_to_fashion_mnist`; raises CommandError where no run is there too."""
    records = adapted_to_fashion_mnist()
    if not records:
        raise CommandError(f"{FASHION}: holds no run; expected one, recorded as fixtures/training/README.md says")
    return records


def _read(path: Path) -> Baseline:
    try:
        return baseline.read(path)
    except BaselineError as error:
        raise CommandError(str(error)) from None


def _numbered(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.json"))
