"""Texts from elsewhere as a terminal may be given them: names in a file may hold line breaks and terminal sequences."""

from __future__ import annotations

from typing import Any


def printable(data: Any) -> Any:
    """`data`, as JSON holds it, with every character that cannot be printed written out, as ``\\x1b``."""
    if isinstance(data, str):
        return data if data.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in data)
    if isinstance(data, dict):
        return {printable(key): printable(value) for key, value in data.items()}
    return [printable(entry) for entry in data] if isinstance(data, list) else data
