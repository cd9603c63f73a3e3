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
        _must_be_a_repository()
        if not any(_has_code(end) for end in (old, new)):
            raise ProbeError(
                f"neither {old} nor {new} has {CODE}: commits are looked at in a checkout of peft-update-bench alone; "
                "in a repository of yours record OLD (pytest --benchmark-save=old), keep the file elsewhere, "
                "and let git search: git bisect run pytest --benchmark-compare=FILE"
            )
        first, last = _commit(old), _commit(new)
        line = ("rev-list", "--first-parent", "--reverse", f"{first}..{last}")
        if not (followed := _git(*line).split()):
            raise ProbeError(f"{new} has no commit that {old} has not; expected an older commit, and a newer one")
        _must_follow(followed[0], first, old, new)
        return cls([first, *_git(*line, "--", f":/{FOLDER}").split()], folder)

    def described(self, version: str) -> str:
        return _git("show", "--no-patch", "--format=%h %s", version).strip()

    def prepare(self, version: str) -> Place:
        place = self.folder / version
        place.mkdir()
        # Its paths count from the folder that it is run in.
        top = _git("rev-parse", "--show-cdup").strip() or "."
        packed = subprocess.run(["git", "archive", version, FOLDER], cwd=top, capture_output=True, check=False)
        if packed.returncode:
            raise ProbeError(f"has no {FOLDER}/")
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(place, filter="data")
        return Place(place)


def _must_be_a_repository() -> None:
    found = _run("rev-parse", "--git-dir")
    if found.returncode:
        said = found.stderr.partition("\n")[0]
        raise ProbeError(f"{said}; expected a checkout of peft-update-bench, or --package NAME, which needs none")


def _must_follow(oldest: str, first: str, old: str, new: str) -> None:
    """Raise ProbeError unless `oldest`, the oldest commit of `new`'s that `old` has not, comes right after `first`.

    Else what `old` alone has, or what lies between in a clone that lacks it, would be told as of `oldest`.
    """
    found = _run("rev-parse", "--verify", "--quiet", f"{oldest}^")
    before = found.stdout.strip()
    if found.returncode and _is_shallow():
        raise ProbeError(f"what lies between {old} and {oldest[:9]} is not in this clone{_UNSHALLOW}")
    if found.returncode:
        raise ProbeError(f"{old} and {new} have no history in common; expected an older commit, and a newer one")
    if before != first:
        raise ProbeError(
            f"{old} is not on the line of first parents that leads to {new}: it is of another branch, or came by a "
            f"merge; expected a commit of that line, such as {before[:9]}, the last that {old} has too"
        )


_UNSHALLOW = ", which is shallow: git fetch --unshallow brings the rest"


def _is_shallow() -> bool:
    return _git("rev-parse", "--is-shallow-repository").strip() == "true"


def _commit(name: str) -> str:
    """The full hash of a commit. Raises ProbeError where this clone has none of that name."""
    found = _run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if found.returncode:
        where = f" in this clone{_UNSHALLOW}" if _is_shallow() else ""
        raise ProbeError(f"git rev-parse finds no {name}{where}")
    return found.stdout.strip()


def _has_code(commit: str) -> bool:
    """Whether `commit` is of this suite."""
    return not _run("cat-file", "-e", f"{_commit(commit)}:{CODE}").returncode


def _git(*words: str) -> str:
    """What git says. Raises ProbeError where it refuses."""
    done = _run(*words)
    if done.returncode:
        raise ProbeError((done.stderr.strip().splitlines() or [f"git {words[0]} ended with {done.returncode}"])[-1])
    return done.stdout


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    """Raises ProbeError where there is no git. A commit's subject may be in any encoding."""
    try:
        return subprocess.run(["git", *words], capture_output=True, encoding="utf-8", errors="replace", check=False)
    except FileNotFoundError:
        raise ProbeError("there is no git on the PATH; expected one, by which commits are read") from None
