"""Budgets as people write them: ``64MB``, ``64MiB``, ``2G``, ``2GFLOPs``, ``1.5e9``, ``80%``.

A parser of our own, because pydantic's ByteSize passes over whatever follows the unit, and knows no FLOPs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal

_NUMBER = re.compile(r"\s*(?P<number>\d+\.?\d*(e\+?\d{1,2})?|\.\d+)\s*(?P<unit>[a-z%]*)\s*", re.ASCII | re.IGNORECASE)
_DECIMAL = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


class QuantityError(ValueError):
    """What was given and what was expected, in one line."""


def parse_bytes(text: str) -> float:
    """Bytes: MB, M and mb are 10⁶ of them, MiB and Mi are 2²⁰, B is one. Raises QuantityError.

    A number alone is refused: who writes 64 means megabytes.
    """
    units = {f"{prefix}{b}": factor for prefix, factor in {**_DECIMAL, **_BINARY}.items() for b in ("", "b")}
    expected = "bytes, such as 64MB, 64MiB or 512KB"
    value = _parse(text, units, expected)
    if not text.strip()[-1:].isalpha():
        raise QuantityError(f"given {text!r}, whose unit is missing; expected {expected}")
    return value


def parse_flops(text: str) -> float:
    """Floating-point operations of one update. Raises QuantityError."""
    units = {f"{prefix}{word}": factor for prefix, factor in _DECIMAL.items() for word in ("", "flop", "flops")}
    return _parse(text, units, "FLOPs, such as 2G, 2GFLOPs or 1.5e9")


def parse_ratio(text: str) -> float:
    """A multiple, or a percentage. Raises QuantityError."""
    return _parse(text, {"": 1, "x": 1, "%": "0.01"}, "a multiple of full fine-tuning's, such as 0.8 or 80%")


def parse_accuracy(text: str) -> float:
    """A fraction of at most 1, or a percentage. Raises QuantityError."""
    expected = "a fraction from 0 to 1, such as 0.7 or 70%"
    value = _parse(text, {"": 1, "%": "0.01"}, expected)
    if value > 1:
        raise QuantityError(f"given {text!r}, expected {expected}")
    return value


def _parse(text: str, units: Mapping[str, int | str], expected: str) -> float:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise QuantityError(f"given {text!r}, expected {expected}")
    unit = match["unit"]
    if unit.lower() not in units:
        raise QuantityError(f"given {text!r}, whose unit {unit!r} is not known; expected {expected}")
    # As typed, to the last digit: of floats 70 × 0.01 is more than 0.7.
    value = float(Decimal(match["number"]) * Decimal(units[unit.lower()]))
    if not (math.isfinite(value) and value > 0):
        raise QuantityError(f"given {text!r}, expected more than nothing: {expected}")
    return value
