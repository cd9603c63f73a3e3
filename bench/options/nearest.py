"""The names that a mistyped one may have meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

_SEPARATORS = re.compile(r"[\s_.-]+")


def nearest(given: str, known: Iterable[str], most: int = 4) -> list[str]:
    """Up to `most` of the `known` names that `given` may have meant.

    Case, blanks, hyphens and underscores count for nothing. One that is the same otherwise is what was meant; else
    those that go on where `given` ends; else those that resemble it, the nearest first.
    """
    plain: dict[str, list[str]] = {}
    for name in known:
        plain.setdefault(_plain(name), []).append(name)
    wanted = _plain(given)
    longer = [name for name in plain if len(wanted) > 1 and name.startswith(wanted)]
    keys = [wanted] if wanted in plain else longer or get_close_matches(wanted, plain, n=most, cutoff=0.7)
    return [name for key in keys for name in plain[key]][:most]


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """The end of a sentence that refuses `given`, empty where nothing resembles it."""
    *others, last = nearest(given, known) or [""]
    return f"; did you mean {' or '.join(filter(None, (', '.join(others), last)))}?" if last else ""


def _plain(name: str) -> str:
    return _SEPARATORS.sub("", name).lower()
