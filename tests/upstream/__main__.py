"""What releases of peft, torch and torchvision do to the computed metrics: ``python -m tests.upstream [RELEASE …]``.

Each release is installed with pip into a folder of its own, which goes first on the path of a run of
``bench/test_update.py --metrics flops,memory``; its records are judged against the newest committed baseline. Prints a
Markdown table: which figures moved, in how many cells, and by how much. Without names, every release of
:data:`RELEASES`; a torch takes 6 GB and some minutes, a peft a few seconds. ``--work FOLDER`` keeps what was installed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from peft_update_bench.bench.gate import baseline
from tabulate import tabulate

from tests.upstream.computed import COMPUTED, UpstreamError, extent, moved, newest_baseline, run

# peft up to 0.17 does not import beside transformers 5.
_TRANSFORMERS_4 = ("transformers==4.56.2", "tokenizers==0.22.0", "huggingface-hub==0.35.0")


@dataclass(frozen=True)
class Release:
    """What is installed over the environment at hand, and the methods that it can move."""

    requirements: tuple[str, ...]
    methods: str
    with_dependencies: bool = False


def _peft(version: str, *more: str) -> Release:
    return Release((f"peft=={version}", *more), "lora,dora")


def _torch(version: str, torchvision: str) -> Release:
    methods = "fft,head,bn_head,lora,dora,galore"
    return Release((f"torch=={version}", f"torchvision=={torchvision}"), methods, with_dependencies=True)


RELEASES = {
    **{
        f"peft-{version}": _peft(version, *_TRANSFORMERS_4)
        for version in ("0.11.1", "0.12.0", "0.13.2", "0.14.0", "0.15.2", "0.16.0", "0.17.1")
    },
    **{f"peft-{version}": _peft(version) for version in ("0.18.1", "0.19.1", "0.20.0", "0.21.2")},
    "torch-2.9.1": _torch("2.9.1", "0.24.1"),
    "torch-2.12.1": _torch("2.12.1", "0.27.1"),
    "torch-2.15.0": _torch("2.15.0", "0.29.2"),
}


def install(name: str, work: Path) -> Path:
    """Install a release, unless `work` has it. Returns its folder. Raises UpstreamError."""
    release, folder = RELEASES[name], work / name
    if not folder.exists():
        dependencies = () if release.with_dependencies else ("--no-deps",)
        arguments = ("--quiet", "--no-cache-dir", *dependencies, "--target", str(folder), *release.requirements)
        run((sys.executable, "-m", "pip", "install", *arguments), os.environ)
    return folder


def records(name: str, folder: Path, output: Path) -> baseline.Baseline:
    """Compute the core matrix with a release. Raises UpstreamError."""
    command = (
        sys.executable, "-m", "pytest", "bench/test_update.py", COMPUTED, "--quiet",
        f"--methods={RELEASES[name].methods}", "--benchmark-quiet", f"--benchmark-json={output}",
        # An old package may warn of much, beside a new one.
        "--override-ini=filterwarnings=ignore", "-p", "no:cacheprovider",
    )  # fmt: skip
    run(command, {**os.environ, "PYTHONPATH": str(folder)})
    return baseline.read(output)


def rows(name: str, work: Path, before: baseline.Baseline) -> Iterator[tuple[str, ...]]:
    """The table's rows of one release."""
    try:
        now = records(name, install(name, work), work / f"{name}.json")
    except (UpstreamError, baseline.BaselineError) as error:
        yield name, "", "", "", f"cannot run: {error}"
        return
    versions = next(iter(now.records.values())).versions
    cells = str(len(now.records))
    found = moved(now, before)
    if not found:
        others = ", ".join(f"{package} {versions[package]}" for package in ("torch", "torchvision", "peft"))
        yield name, cells, "", "", f"nothing moved ({others})"
    for (method, metric), changes in found.items():
        yield name, cells, method, metric, extent(changes)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.upstream", description=__doc__.split("\n")[0])
    parser.add_argument("releases", nargs="*", metavar="RELEASE", help=f"any of {', '.join(RELEASES)}; default: all")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="install there, and keep it")
    given = parser.parse_args()
    unknown = [name for name in given.releases if name not in RELEASES]
    if unknown:
        parser.error(f"given {unknown[0]!r}; expected any of {', '.join(RELEASES)}")
    before = newest_baseline()
    table: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as temporary:
        work = (given.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        for name in given.releases or RELEASES:
            print(name, file=sys.stderr, flush=True)
            table += rows(name, work, before)
    print(tabulate(table, ("release", "cells run", "method", "figure", "against the baseline"), tablefmt="pipe"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
