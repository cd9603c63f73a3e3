"""The committed baselines that a page's tables are made from, each found below the working directory's `baselines`."""

from __future__ import annotations

from pathlib import Path

from peft_update_bench.bench.command_error import CommandError
from peft_update_bench.bench.gate import baseline, baseline_file
from peft_update_bench.bench.gate.baseline import Baseline
from peft_update_bench.bench.record import Record

FOLDER = Path("baselines")
METHODS = FOLDER / "methods"
"""What every method costs; in folders below, what else was measured of the methods that the core matrix has not."""
DIGITS = METHODS / "adaptation"
"""Every method on MNIST, by runs that share their networks."""
FASHION = FOLDER / "fashion_mnist" / "adaptation"
"""Fashion-MNIST under Gaussian noise."""
FASHION_CLASSES = FOLDER / "fashion_mnist" / "unseen" / "adaptation"
"""Fashion-MNIST with classes that the network has not seen."""
FASHION_FURTHER = FOLDER / "fashion_mnist" / "unseen" / "further" / "adaptation"
"""As FASHION_CLASSES, from the same networks: the methods that those runs leave out, at rank 4."""
FASHION_SEARCHED = FOLDER / "fashion_mnist" / "unseen" / "searched" / "adaptation"
"""As FASHION_CLASSES, every method at rank 4, with learning rates that were searched on these images."""
FASHION_CONDITIONS = (
    FASHION,
    *(FOLDER / "fashion_mnist" / name / "adaptation" for name in ("fog", "blur")),
    FASHION_CLASSES,
)
"""Fashion-MNIST under each shift that was tried, and with unseen classes."""


def newest(folder: Path) -> Baseline:
    """The newest baseline in `folder`. Raises CommandError where none is there, or it cannot be read."""
    return baseline.read(baseline_file.find(folder, None, ""))


def timed() -> list[Baseline]:
    """The newest baseline of the core matrix, and all of further methods' latency.

    Raises CommandError where the first is missing, or one cannot be read.
    """
    return _and_further(FOLDER, "latency")


def counted() -> list[Baseline]:
    """As :func:`timed`, of instructions."""
    return _and_further(FOLDER / "instructions", "instructions")


def _and_further(core: Path, further: str) -> list[Baseline]:
    return [newest(core), *map(baseline.read, baseline_file.numbered(METHODS / further))]


def by_condition() -> list[list[Record]]:
    """The records of each of FASHION_CONDITIONS. Raises as :func:`adapted`."""
    return [adapted(folder) for folder in FASHION_CONDITIONS]


def by_every_method() -> list[Record]:
    """Fashion-MNIST with unseen classes, of networks that every method was tried on; those that take one at rank 4.

    Raises as :func:`adapted`.
    """
    further = adapted(FASHION_FURTHER)
    networks = {record.architecture for record in further}
    first = [record for record in adapted(FASHION_CLASSES) if record.architecture in networks]
    return [record for record in (*first, *further) if record.rank in {None, 4}]


def adapted(folder: Path) -> list[Record]:
    """The records of every run in `folder`, each of other methods, other networks or another shift.

    Raises CommandError where no run is there, or one cannot be read.
    """
    paths = baseline_file.numbered(folder)
    if not paths:
        raise CommandError(f"{folder}: holds no run; expected one, recorded as fixtures/training/README.md says")
    return [record for path in paths for record in baseline.read(path).records.values()]
