"""The computed metrics of some cells, by one checkout's own code. Run by ``bench/commands/bisect``, in a process of its
own; settings come as JSON in its first argument, the figures go as JSON to its stdout.

It imports `fixtures` from the folder that it runs in, which may be older or newer than this file.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def figures(settings: dict[str, Any]) -> dict[str, dict[str, int | float]]:
    """Parameter counts, FLOPs and memory of each cell, by figure; a cell that cannot be computed is absent."""
    # The package is the folder that this process runs in, as in checkout_worker.py.
    package = ModuleType("peft_update_bench")
    package.__path__ = [str(Path.cwd())]
    sys.modules[package.__name__] = package
    from fixtures.instruments import computed
    from fixtures.update_step import build_update_step
    from fixtures.workload import Workload

    found: dict[str, dict[str, int | float]] = {}
    for name, cell in settings["cells"].items():
        batch = {"batch_size": cell["batch_size"]} if cell["batch_size"] else {}
        workload = Workload(**{**settings["workload"], **batch})
        try:
            step = build_update_step(cell["architecture"], cell["method"], cell["rank"], workload, "meta")
            measured = computed.measure(step)
        except Exception as error:  # another version's may raise anything
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        found[name] = {
            f"{section}.{key}": value
            for section in ("parameters", "flops", "memory")
            for key, value in getattr(measured, section).items()
            if isinstance(value, (int, float))
        }
    return found


if __name__ == "__main__":
    # The answer's stream is kept apart: whatever libraries print goes to the log.
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    print(json.dumps(figures(json.loads(sys.argv[1]))), file=answer, flush=True)
