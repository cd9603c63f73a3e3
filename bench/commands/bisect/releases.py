"""Releases of a package as versions: each is installed by pip into a folder that goes first on the path."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from packaging.version import InvalidVersion, Version
from peft_update_bench.bench.commands.bisect.search import ProbeError

CODE = Path(__file__).parents[3]
"""The folder that holds this version's own ``fixtures``."""


SHOWN = 8
"""So many of the newest releases are named where one is given that is none."""


@dataclass(frozen=True)
class Place:
    """Where figures are computed: a folder that holds ``fixtures``, and folders of packages that go before others."""

    checkout: Path
    packages: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Releases:
    """Releases of `package`, oldest first."""

    versions: list[str]
    folder: Path
    package: str
    noun: ClassVar[str] = "release"

    @classmethod
    def between(cls, old: str, new: str, folder: Path, package: str) -> Self:
        """Those that pip knows from `old` to `new`, pre-releases left out. Raises ProbeError."""
        try:
            first, last = Version(old), Version(new)
        except InvalidVersion as error:
            raise ProbeError(f"{error}; expected a release, such as 0.14.0") from None
        if first >= last:
            raise ProbeError(f"given {old} and {new}; expected an older release, and a newer one")
        said = _pip("index", "versions", package)
        listed = re.search(r"Available versions: (.+)", said)
        known = sorted(Version(word) for word in listed[1].split(", ")) if listed else []
        chosen = [version for version in known if first <= version <= last]
        missing = [str(end) for end in (first, last) if end not in known]
        if missing:
            newest = [str(version) for version in known[-SHOWN:]]
            raise ProbeError(
                f"pip knows no {package} {' and no '.join(missing)}; expected releases such as {', '.join(newest)}"
            )
        return cls([str(version) for version in chosen], folder, package)

    def described(self, version: str) -> str:
        return f"{self.package} {version}"

    def prepare(self, version: str) -> Place:
        target = self.folder / version
        _pip("install", "--quiet", "--no-deps", "--target", str(target), f"{self.package}=={version}")
        return Place(CODE, (target,))


def _pip(*words: str) -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    # Where a user's settings keep pip quiet it would list no release.
    spoken = os.environ | {"PIP_QUIET": "0"}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False, env=spoken)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise ProbeError(said[-1] if said else f"pip {words[0]} ended with status {done.returncode}")
    return done.stdout
