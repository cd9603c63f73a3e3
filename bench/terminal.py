"""Tables and sentences that fit a terminal. What is piped into a file or a log has no width, and is left as it is."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Sequence

from tabulate import tabulate

_Rows = Sequence[Sequence[str]]
_GAP = 2
_NO_BREAK = "\N{NO-BREAK SPACE}"
_PADDING = 2 * _NO_BREAK
"""tabulate's, of a header."""


def width(is_terminal: bool) -> int | None:
    """How many characters a line may have: the terminal's (``COLUMNS`` says another), None where it is none."""
    return shutil.get_terminal_size().columns if is_terminal else None


def wrap(text: str, characters: int | None) -> str:
    """Sentences in lines of at most `characters`. A text that has lines already, as a table has, is left as it is."""
    if characters is None or "\n" in text:
        return text
    return _fill(text, characters)


def table(rows: _Rows, headers: Sequence[str], characters: int | None, names: int = 1) -> str:
    """A table, one line a row where its lines have at most `characters`.

    Where they would be longer, columns are made narrower and break between words, the widest first; a number stays
    with its unit. Where no word can be broken any more, each row is a paragraph: its first `names` entries, then the
    others by their headers.
    """
    shown = _simple(rows, headers)
    if characters is None or _length(shown) <= characters:
        return shown
    rows = [[_kept_together(entry) for entry in row] for row in rows]
    columns = [[f"{title}{_PADDING}", *entries] for title, *entries in zip(headers, *rows, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    floors = [max(len(word) for entry in column for word in entry.split(" ")) for column in columns]
    while sum(widths) + _GAP * (len(widths) - 1) > characters:
        narrowable = [index for index, (now, least) in enumerate(zip(widths, floors, strict=True)) if now > least]
        if not narrowable:
            return _paragraphs(rows, headers, characters, names).replace(_NO_BREAK, " ")
        widths[max(narrowable, key=lambda index: widths[index])] -= 1
    return _simple(rows, headers, widths).replace(_NO_BREAK, " ")


def _simple(rows: _Rows, headers: Sequence[str], widths: list[int] | None = None) -> str:
    of_headers = widths and [width - len(_PADDING) for width in widths]
    return tabulate(
        rows, headers, tablefmt="simple", disable_numparse=True, maxcolwidths=widths, maxheadercolwidths=of_headers
    )


def _paragraphs(rows: _Rows, headers: Sequence[str], characters: int, names: int) -> str:
    lines = []
    for row in rows:
        lines.append(" ".join(row[:names]))
        entries = zip(headers[names:], row[names:], strict=True)
        lines.append(_fill(" · ".join(f"{title} {entry}" for title, entry in entries if entry), characters, "  "))
    return "\n".join(lines)


def _fill(text: str, characters: int, indent: str = "") -> str:
    """No word is broken: names of cells and files are there to be copied."""
    broken = textwrap.wrap(text, characters - len(indent), break_on_hyphens=False, break_long_words=False)
    return textwrap.indent("\n".join(broken), indent)


def _kept_together(entry: str) -> str:
    """Numbers with their units and intervals: 1.469 GFLOPs, +98.5 %, 0.995 ± 0.062."""
    return re.sub(r"(?<=\d) (?=[A-Z%×±]|(?:ms|points)\b)|(?<=±) ", _NO_BREAK, entry)


def _length(text: str) -> int:
    return max(map(len, text.splitlines()), default=0)
