"""Which part of a run's cells this run is, where several machines share them."""

from __future__ import annotations

from peft_update_bench.bench.cells import Selection
from peft_update_bench.bench.options.values import OptionError, whole_number


def read_shard(value: str | None) -> tuple[int, int] | None:
    """Number and number of parts, from I/N; None where no part was asked for. Raises OptionError."""
    if value is None:
        return None
    number, _, parts = value.partition("/")
    try:
        shard = whole_number("shard", number), whole_number("shard", parts)
    except OptionError:
        # It says one of the two, which nobody has typed alone.
        raise OptionError(f"--shard is {value!r}; expected I/N, such as 1/3 for the first of three parts") from None
    if shard[0] > shard[1]:
        raise OptionError(f"--shard is {value!r}; expected a part from 1/{shard[1]} to {shard[1]}/{shard[1]}")
    return shard


def check_shard(selection: Selection) -> None:
    """Raise OptionError where there are more parts than subjects, so that some would be empty."""
    subjects = len(selection.whole.subjects)
    if selection.shard is not None and selection.shard[1] > subjects:
        number, parts = selection.shard
        raise OptionError(
            f"--shard is '{number}/{parts}'; expected at most {subjects} parts here, because the cells of an "
            "architecture, or of a step of one's own, are timed with one reference and stay together"
        )
