"""Values as typed, checked: every bad one is a sentence that says what is allowed."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

from peft_update_bench.bench.command_error import CommandError
from peft_update_bench.bench.options.nearest import did_you_mean

T = TypeVar("T")

_MOST_DIGITS = 9
"""Of a whole number. Python refuses to read thousands of digits, with an error of its own."""


class OptionError(CommandError):
    """A bad option: what was given and what is allowed."""


def as_typed(text: str, taken: Collection[str]) -> str:
    """`text`, a message or a command, with the longer name of options whose short one another's option has `taken`."""
    for name in taken:
        words = name.replace("_", "-")
        text = re.sub(rf"(?<![\w-])--{words}(?![\w-])", f"--update-{words}", text)
    return text


def typed_or(given: Mapping[str, str | None], name: str, default: str) -> str:
    """What was typed for an option, also where that is empty, as of a variable that is not set; else `default`."""
    value = given.get(name)
    return default if value is None else value


def one_of(option: str, value: str, allowed: Collection[str], or_else: str = "") -> str:
    if value not in allowed:
        expected = f"{', '.join(allowed)}{', or ' if or_else else ''}{or_else}"
        meant = did_you_mean(value, allowed)
        raise OptionError(f"--{option.replace('_', '-')} is {value!r}; expected one of {expected}{meant}")
    return value


def comma_separated(value: str | None, parse: Callable[[str], T]) -> tuple[T, ...] | None:
    """A comma-separated list without repetitions, in the order given."""
    if value is None:
        return None
    return tuple(dict.fromkeys(parse(word.strip()) for word in value.split(",")))


def names(option: str, value: str | None, allowed: Collection[str]) -> tuple[str, ...] | None:
    return comma_separated(value, lambda word: one_of(option, word, allowed))


def whole_number(option: str, value: str | None, or_else: str = "") -> int:
    flag = f"--{option.replace('_', '-')}"
    is_number = value is not None and value.isascii() and value.isdigit()
    if value is not None and is_number and len(value) > _MOST_DIGITS:
        raise OptionError(f"{flag} has {len(value)} digits; expected at most {_MOST_DIGITS}")
    if value is None or not is_number or int(value) < 1:
        raise OptionError(f"{flag} is {value!r}; expected a whole number of at least 1{or_else}")
    return int(value)


def workers_asked(given: Mapping[str, str | None]) -> int | None:
    """What ``--workers`` was given; None where it was not, and their number is left to the run. Raises OptionError."""
    workers = given.get("workers")
    return None if workers is None else whole_number("workers", workers)


def folder(flag: str, given: str, path: str | None = None) -> Path:
    """The folder that an option's value, or the `path` in it, names: there, or to be made. Raises OptionError."""
    path = given if path is None else path
    if not path:
        raise OptionError(f"{flag} is {given!r}; expected a folder, or no {flag}")
    if path.startswith(("~", "$")):
        # A shell leaves the first as it is behind the option's name and =, and a folder of that name would be made.
        raise OptionError(f"{flag} is {given!r}, in which nothing replaces {path[0]}; expected a folder by its path")
    try:
        is_folder = stat.S_ISDIR(Path(path).stat().st_mode)  # is_dir() would pass over what no folder can be
    except FileNotFoundError:
        is_folder = True
    except (OSError, ValueError) as error:
        raise OptionError(f"{flag} is {given!r}, which cannot be used ({error}); expected a folder") from None
    if not is_folder:
        raise OptionError(f"{flag} is {given!r}, which is a file; expected a folder")
    return Path(path)


def fraction(name: str, value: object) -> float:
    try:
        # true is a number to Python, and no fraction to a person.
        number = -1.0 if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < 10:
        raise OptionError(f"{name} is {value!r}; expected a fraction of at least 0, such as 0.1 for 10 %")
    return number
