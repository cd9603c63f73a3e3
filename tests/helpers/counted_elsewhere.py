"""Counts a step with the suite that lies in the current folder, and prints what it found as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from peft_update_bench import fixtures
from peft_update_bench.fixtures.instruments.instructions.installation import Installation
from peft_update_bench.fixtures.instruments.instructions.worker import Worker

from tests.helpers import counted_steps


def main() -> None:
    installation = Installation((counted_steps.__name__,))
    worker = Worker(installation)
    try:
        counted = worker.count(counted_steps.build_by_address, 500)
    finally:
        worker.close()
        installation.close()
    source = str(Path(fixtures.__file__).parents[2])
    json.dump({"from": source, "phases": counted.phases, "functions": counted.functions}, sys.stdout)


if __name__ == "__main__":
    main()
