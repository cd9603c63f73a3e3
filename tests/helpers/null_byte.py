"""What this Python says of a path with a null byte in it, which no folder has: releases word it in their own way."""

from __future__ import annotations

from pathlib import Path


def _said() -> str:
    try:
        Path("a\0b").stat()
    except ValueError as error:
        return str(error)
    raise AssertionError("a path with a null byte was looked up")


NULL_BYTE = _said()
