"""Whether what pyproject.toml admits works at both ends: ``python -m tests.upstream.ends [END …] [--tests]``.

The oldest end is the oldest Python with every package at its lower bound, the newest is the newest Python with whatever
pip chooses. Each gets a virtual environment of its own, 6 GB with torch. There the computed metrics are compared with
the newest committed baseline and, with ``--tests``, the tests that take seconds are run; warnings are errors. Prints a
Markdown table; exits with 1 where an end does not work. ``--work FOLDER`` keeps the environments.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from peft_update_bench.bench.gate.baseline import Baseline, BaselineError, read
from tabulate import tabulate

from tests.upstream.computed import COMPUTED, REPOSITORY, UpstreamError, extent, moved, newest_baseline, run

PACKAGES = ("torch", "torchvision", "peft", "pytest", "pytest-benchmark")
HEADERS = ("end", "python", *PACKAGES, "cells ok", "tests", "what moved")

TESTS = ("tests/bench", "tests/fixtures", "tests/whole", "-m", "not slow and not study")


@dataclass(frozen=True)
class Outcome:
    """What became of one end. An `error` says why it could not be tried to its end."""

    versions: tuple[str, ...]
    cells_ok: int = 0
    cells: int = 0
    tests: str = "not run"
    moved: str = "nothing"
    error: str = ""

    @property
    def works(self) -> bool:
        return not self.error and self.cells_ok == self.cells and "failed" not in self.tests

    def columns(self) -> tuple[str, ...]:
        told = f"cannot run: {self.error}" if self.error else self.moved
        return *self.versions, f"{self.cells_ok} of {self.cells}", self.tests, told


def project() -> dict[str, Any]:
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        return dict(tomllib.load(file)["project"])


def lower_bounds(dependencies: list[str]) -> list[str]:
    """The constraints that hold each package at the oldest release that its requirement admits."""
    requirements = [Requirement(dependency) for dependency in dependencies]
    return [
        f"{requirement.name}=={bound.version}"
        for requirement in requirements
        for bound in requirement.specifier
        if bound.operator in {">=", "=="}
    ]


def pythons(admitted: SpecifierSet) -> list[str]:
    """The interpreters on the path that the project admits, oldest first."""
    names = [f"python3.{minor}" for minor in range(100) if f"3.{minor}" in admitted]
    return [
        name
        for name in names
        # pyenv has a stand-in on the path for every version, and it fails for those that are not switched on.
        if shutil.which(name) and subprocess.run([name, "-c", ""], capture_output=True, check=False).returncode == 0
    ]


def environment() -> dict[str, str]:
    """This process's, without what would bring this environment's packages or options into another."""
    return {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTEST_ADDOPTS"}}


def install(python: str, folder: Path, constraints: list[str]) -> str:
    """Install the project in an environment under `folder`, unless it is there. Returns its Python."""
    inside = str(folder / "bin" / "python")
    if not (folder / "installed").exists():
        run((python, "-m", "venv", "--clear", str(folder)), environment())
        held = folder / "constraints.txt"
        held.write_text("\n".join(constraints), encoding="utf-8")
        arguments = ("--quiet", "--no-cache-dir", "--editable", ".[test]", "--constraint", str(held))
        run((inside, "-m", "pip", "install", *arguments), environment())
        (folder / "installed").touch()
    return inside


def versions(python: str) -> tuple[str, ...]:
    code = (
        "import json, platform; from importlib.metadata import version;"
        f"print(json.dumps([platform.python_version(), *map(version, {PACKAGES!r})]))"
    )
    return tuple(json.loads(run((python, "-c", code), environment())))


def compare(python: str, before: Baseline, output: Path) -> tuple[int, str]:
    """How many cells hold the baseline, and what does not."""
    command = (python, "-m", "pytest", "bench", "--benchmark-compare", COMPUTED, f"--benchmark-json={output}")
    run((*command, "-p", "no:cacheprovider"), environment(), statuses=(0, 1))
    now = read(output)
    changes = moved(now, before)
    bad = {cell for changed in changes.values() for cell, _ in changed}
    told = [f"{method} {metric}: {extent(changed)}" for (method, metric), changed in changes.items()]
    return len(now.records) - len(bad), "; ".join(told) or "nothing"


def run_tests(python: str) -> str:
    """pytest's last line, of the tests that take seconds."""
    command = (python, "-m", "pytest", *TESTS, "--quiet", "-p", "no:cacheprovider")
    return run(command, environment(), statuses=(0, 1)).strip().splitlines()[-1].partition(" in ")[0]


def outcome(folder: Path, python: str, constraints: list[str], *, with_tests: bool) -> Outcome:
    """Install one end in `folder` and try it."""
    found: tuple[str, ...] = (python, *[""] * len(PACKAGES))
    before = newest_baseline()
    try:
        inside = install(python, folder, constraints)
        found = versions(inside)
        cells_ok, changes = compare(inside, before, folder / "computed.json")
        tests = run_tests(inside) if with_tests else "not run"
    except (UpstreamError, BaselineError) as error:
        return Outcome(found, cells=len(before.records), error=str(error))
    return Outcome(found, cells_ok, len(before.records), tests, changes)


def main() -> int:
    about = project()
    found = pythons(SpecifierSet(str(about["requires-python"])))
    parser = argparse.ArgumentParser(prog="python -m tests.upstream.ends", description=__doc__.split("\n")[0])
    for end, default in (("oldest", found[:1]), ("newest", found[-1:])):
        parser.add_argument(
            f"--{end}", metavar="PYTHON", default=next(iter(default), sys.executable), help="default: %(default)s"
        )
    parser.add_argument("ends", nargs="*", metavar="END", help="oldest or newest; default: both")
    parser.add_argument("--tests", action="store_true", help="run the tests that take seconds, too")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="install there, and keep it")
    given = parser.parse_args()
    unknown = [end for end in given.ends if end not in {"oldest", "newest"}]
    if unknown:
        parser.error(f"given {unknown[0]!r}; expected oldest or newest")
    bounds = lower_bounds([*about["dependencies"], *about["optional-dependencies"]["test"]])
    outcomes = {}
    with tempfile.TemporaryDirectory() as temporary:
        work = (given.work or Path(temporary)).resolve()
        for end in given.ends or ("oldest", "newest"):
            print(end, file=sys.stderr, flush=True)
            python, constraints = (given.oldest, bounds) if end == "oldest" else (given.newest, [])
            outcomes[end] = outcome(work / end, python, constraints, with_tests=given.tests)
    table = [(end, *found.columns()) for end, found in outcomes.items()]
    print(tabulate(table, HEADERS, tablefmt="pipe", disable_numparse=True))
    return 0 if all(found.works for found in outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
