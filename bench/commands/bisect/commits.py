"""Commits as versions: each is unpacked into a folder of its own, so that nothing is checked out."""

from __future__ import annotations

import io
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from peft_update_bench.bench.commands.bisect.releases import Place
from peft_update_bench.bench.commands.bisect.search import ProbeError

FOLDER = "fixtures"
"""What computed figures come from."""
CODE = f"{FOLDER}/update_step.py"
"""A file by which a commit of this suite is known: others may have a folder of that name too."""


@dataclass(frozen=True)
class Commits:
    """Commits of the repository in the current folder, oldest first."""

    versions: list[str]
    folder: Path
    noun: ClassVar[str] = "commit"

    @classmethod
    def between(cls, old: str, new: str, folder: Path, _package: str = "") -> Self:
        """`old`, and what follows it up to `new` on the first parent's line and touches the code that is measured;
        `old` alone where nothing does. Raises ProbeError.
        """
        if not any(_has_code(end) for end in (old, new)):
            raise ProbeError(
                f"neither {old} nor {new} has {CODE}: commits are looked at in a checkout of peft-update-bench alone; "
                "in a repository of yours record OLD (pytest --benchmark-save=old), keep the file elsewhere, "
                "and let git search: git bisect run pytest --benchmark-compare=FILE"
            )
        first = _git("rev-parse", "--verify", "--quiet", f"{old}^{{commit}}").strip()
        listed = _git("rev-list", "--first-parent", "--reverse", f"{first}..{new}", "--", FOLDER).split()
        if not listed and not _git("rev-list", "--max-count=1", f"{first}..{new}"):
            raise ProbeError(f"{new} has no commit that {old} has not; expected an older commit, and a newer one")
        return cls([first, *listed], folder)

    def described(self, version: str) -> str:
        return _git("show", "--no-patch", "--format=%h %s", version).strip()

    def prepare(self, version: str) -> Place:
        place = self.folder / version
        place.mkdir()
        packed = subprocess.run(["git", "archive", version, FOLDER], capture_output=True, check=False)
        if packed.returncode:
            raise ProbeError(f"has no {FOLDER}/")
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(place, filter="data")
        return Place(place)


def _has_code(commit: str) -> bool:
    """Whether `commit` is of this suite; True where there is no such commit, which is said elsewhere."""
    is_known = _succeeds("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    return not is_known or _succeeds("cat-file", "-e", f"{commit}:{CODE}")


def _succeeds(*words: str) -> bool:
    return not subprocess.run(["git", *words], capture_output=True, check=False).returncode


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise ProbeError(said[-1] if said else f"git {words[0]} finds no {words[-1].removesuffix('^{commit}')}")
    return done.stdout
