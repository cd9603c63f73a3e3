"""Whether the clock stands still by which multiprocessing counts what is left of a limit.

A test or a conftest may have it so, by hand. multiprocessing then waits for ever, also where it is to look only once.
"""

from __future__ import annotations

import select
from multiprocessing import connection
from typing import Any

_TICK_MS = 50
"""Longer than between two ticks of any clock."""


def stands_still() -> bool:
    """multiprocessing itself is asked, because freezegun leaves it the machine's clock."""
    theirs: Any = connection
    before = theirs._init_timeout(0)
    if theirs._check_timeout(before):
        return False
    select.poll().poll(_TICK_MS)
    return not theirs._check_timeout(before)
