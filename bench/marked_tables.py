"""Tables in documents that a command writes: between ``<!-- table: NAME -->`` and ``<!-- /table -->``."""

from __future__ import annotations

import re
from collections.abc import Mapping

_OPENING = re.compile(r"<!-- table: ([\w-]+) -->")
_TABLE = re.compile(
    r"(<!-- table: (?P<name>[\w-]+) -->\n)(?P<text>(?:(?!<!-- table: ).)*?)(<!-- /table -->)", re.DOTALL
)


class MarkerError(Exception):
    """A document whose markers are not as they should be; the message is one line."""


def read(document: str) -> dict[str, str]:
    """The tables of a document by name, without the blank lines around them.

    Raises MarkerError where a marker is not closed or a name is there twice.
    """
    tables: dict[str, str] = {}
    for table in _TABLE.finditer(document):
        if table["name"] in tables:
            raise MarkerError(f"holds the table {table['name']!r} twice; expected it once")
        tables[table["name"]] = table["text"].strip("\n")
    for opening in _OPENING.finditer(document):
        if opening[1] not in tables:
            line = document.count("\n", 0, opening.start()) + 1
            raise MarkerError(f"line {line}: the table {opening[1]!r} does not end; expected <!-- /table --> after it")
    return tables


def replace(document: str, tables: Mapping[str, str]) -> str:
    """The document with these of its tables anew. What is in `tables` only is left out."""

    def anew(found: re.Match[str]) -> str:
        name = found["name"]
        return f"{found[1]}\n{tables[name]}\n\n{found[4]}" if name in tables else found[0]

    return _TABLE.sub(anew, document)
