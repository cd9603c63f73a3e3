"""``--learning-rates FILE``: rates that ``update-bench search`` chose, in place of those that methods bring."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from peft_update_bench.bench.options.values import OptionError

_FLAG = "--learning-rates"


@dataclass(frozen=True)
class LearningRates:
    """What is in the file `path`: a rate for each method by its name."""

    path: Path
    of: Mapping[str, float]

    def check(self, methods: Collection[str]) -> None:
        """Raise OptionError where one of `methods` has no rate here: it would be compared by one of another network."""
        if missing := [method for method in dict.fromkeys(methods) if method not in self.of]:
            raise OptionError(
                f"{_FLAG} {self.path} has no rate of {', '.join(missing)}; expected one of each method of the run, and "
                "of fft, whose gain sets the target: search for it, with the options that the file was written with "
                f"(update-bench search --methods {','.join(missing)} --output {self.path})"
            )


def read_learning_rates(given: Mapping[str, str | None]) -> LearningRates | None:
    """What the option names; None where it is not given. Raises OptionError where that is no file of a search."""
    typed = given.get("learning_rates")
    if typed is None:
        return None
    expected = "expected a file that update-bench search --output FILE wrote"
    try:
        chosen = json.loads(Path(typed).read_text(encoding="utf-8"))["chosen"]
        rates = {str(method): float(rate) for method, rate in chosen.items()}
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise OptionError(f"{_FLAG} {typed!r} cannot be read ({why}); {expected}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise OptionError(f"{_FLAG} {typed!r} is no search's result; {expected}") from None
    for method, rate in rates.items():
        if not (math.isfinite(rate) and rate > 0):
            raise OptionError(f"{_FLAG} {typed!r} says {rate} of {method}; expected a number above 0")
    return LearningRates(Path(typed), rates)
