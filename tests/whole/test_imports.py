"""Each module can be the first of the suite that is imported: by who extends it, and by a node of a cluster."""

from __future__ import annotations

import subprocess
import sys

import pytest

IMPORT_EACH_FIRST = """
import pkgutil
import sys
from importlib import import_module

import peft, torch, torchvision  # once, and not for each

SUITE = "peft_update_bench."
found = [
    module.name
    for package in ("bench", "fixtures")
    for module in pkgutil.walk_packages(import_module(SUITE + package).__path__, f"{SUITE}{package}.")
    if not module.name.rpartition(".")[2].startswith(("test_", "__main__"))
]
for name in found:
    for imported in [one for one in sys.modules if one.startswith(SUITE)]:
        del sys.modules[imported]
    try:
        import_module(name)
    except ImportError as error:
        print(f"{name}: {error}")
print(len(found) > 200)
"""


@pytest.mark.slow
def test_each_module_can_be_imported_first() -> None:
    ran = subprocess.run([sys.executable, "-c", IMPORT_EACH_FIRST], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.returncode) == ("True\n", 0), ran.stderr
