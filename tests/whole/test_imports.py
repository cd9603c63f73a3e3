"""Each module can be the first of the suite that is imported: by who extends it, and by a node of a cluster."""

from __future__ import annotations

import multiprocessing
import pkgutil
import sys
from importlib import import_module

import pytest

SUITE = "peft_update_bench."


def failures_of_importing_each_first() -> tuple[int, list[str]]:
    """How many modules there are, and what became of those that cannot be. For a process that has no other use."""
    found = [
        module.name
        for package in ("bench", "fixtures")
        for module in pkgutil.walk_packages(import_module(SUITE + package).__path__, f"{SUITE}{package}.")
        if not module.name.rpartition(".")[2].startswith(("test_", "__main__"))
    ]
    failures = []
    for name in found:
        for imported in [one for one in sys.modules if one.startswith(SUITE)]:
            del sys.modules[imported]
        try:
            import_module(name)
        except ImportError as error:
            failures.append(f"{name}: {error}")
    return len(found), failures


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_each_module_can_be_imported_first() -> None:
    """In a fork, which has torch and peft."""
    with multiprocessing.get_context("fork").Pool(1) as processes:
        number, failures = processes.apply(failures_of_importing_each_first)
    assert failures == []
    assert number > 200
