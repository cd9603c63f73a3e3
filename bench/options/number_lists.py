"""Ranks and batch sizes as people type them: with commas, with blanks, or with both."""

from __future__ import annotations

import re
from collections.abc import Iterable

_OPTIONS = ("--ranks", "--update-ranks", "--batch-size", "--update-batch-size")
_NUMBERS = re.compile(r"\d+(,\d+)*,?")


def join_numbers(words: Iterable[str]) -> list[str]:
    """``--ranks 4 8`` as ``--ranks 4,8``, in the words of a command line.

    A parser would take the 8 for a file, or for an argument that it does not know. What is no number ends the list.
    """
    joined: list[str] = []
    is_list = list_follows = False
    for word in words:
        if is_list and _NUMBERS.fullmatch(word):
            joined[-1] = f"{joined[-1].removesuffix(',')},{word.removesuffix(',')}"
            continue
        option, _, value = word.partition("=")
        is_list = list_follows or (option in _OPTIONS and bool(value))
        list_follows = word in _OPTIONS
        joined.append(word)
    return joined
