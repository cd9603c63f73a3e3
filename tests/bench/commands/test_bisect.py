"""Which commit or release moved a figure: in a repository of 40 commits, and among releases that a stand-in serves."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from peft_update_bench.bench.__main__ import main
from peft_update_bench.bench.commands.bisect import releases
from peft_update_bench.bench.commands.bisect.search import Figures, ProbeError, Search

COMPUTED = """
from types import SimpleNamespace

def measure(cell):
    architecture, method, rank, pixels = cell
    counts = {"forward": %(forward)s, "total": %(forward)s}
    return SimpleNamespace(parameters={"total": 10}, flops=counts, memory={"peak": %(peak)s, "peak_phase": "forward"})
"""
"""Stand-ins for what measures: importing torch is most of what a real look takes."""

UPDATE_STEP = """
def build_update_step(architecture, method, rank, workload, device):
    assert device == "meta"
    print("what a library prints")
    return architecture, method, rank, workload.image_size
"""
WORKLOAD = """
from dataclasses import dataclass

@dataclass
class Workload:
    image_size: int = 224
"""


def write_code(folder: Path, forward: str = "1000", peak: str = "500") -> None:
    instruments = folder / "fixtures" / "instruments"
    instruments.mkdir(parents=True, exist_ok=True)
    for package in (instruments.parent, instruments):
        (package / "__init__.py").touch()
    (instruments.parent / "update_step.py").write_text(UPDATE_STEP)
    (instruments.parent / "workload.py").write_text(WORKLOAD)
    (instruments / "computed.py").write_text(COMPUTED % {"forward": forward, "peak": peak})


class Repository:
    """A repository whose commits are made one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git("init", "--initial-branch=main")

    def git(self, *words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.invalid"]
        done = subprocess.run(["git", *identity, *words], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self, subject: str) -> str:
        self.git("add", ".")
        self.git("commit", "--allow-empty", "-m", subject)
        return self.git("rev-parse", "--short", "HEAD")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.chdir(tmp_path)
    return Repository(tmp_path)


CELLS = ("--methods=fft,lora", "--architectures=resnet18")


def test_commits_planted_among_forty(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    """One moves FLOPs, one the memory of one method; every third cannot be imported, and some touch no code."""
    code = repository.folder
    hashes = []
    for number in range(40):
        forward = "1000" if number < 23 else "1500 if method == 'fft' else 2000"
        peak = "500" if number < 31 else "600 if method == 'lora' else 500"
        write_code(code, forward, peak)
        (code / "fixtures" / "number.py").write_text(f"{number}")
        if number % 3 == 0 and 0 < number < 39:
            (code / "fixtures" / "update_step.py").write_text("raise ImportError('is broken')")
        hashes.append(repository.commit(f"Commit {number}"))
        (code / "README.md").write_text(f"{number}")
        repository.commit("Only words")
    assert main(["bisect", hashes[0], "HEAD", *CELLS]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        f"{hashes[23]} Commit 23",
        "  flops.forward in 2 cells, from +50.0 % (resnet18-fft) to +100.0 % (resnet18-lora-r4)",
    ]
    broken = f"between {hashes[29]} Commit 29 and {hashes[31]} Commit 31"
    assert lines[2:4] == [broken, "  memory.peak in 1 cell, +20.0 %, +100 Bytes (resnet18-lora-r4)"]
    assert f"passed over: {hashes[30]} Commit 30: ImportError: is broken" in lines
    found = lines[-1].split()
    assert found[:3] == ["2", "changes", "found,"]
    assert found[4:8] == ["looks", "at", "40", "commits"], "those that touch no code are none"
    assert int(found[3]) < 20


def test_nothing_moved(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    write_code(repository.folder)
    first = repository.commit("First")
    write_code(repository.folder, "500 + 500")
    repository.commit("The same, otherwise")
    assert main(["bisect", first, "HEAD", *CELLS]) == 0
    assert capsys.readouterr().out.startswith("0 changes found, 2 looks at 2 commits in ")


def test_a_range_in_which_nothing_that_is_measured_changed(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    write_code(repository.folder)
    first = repository.commit("First")
    repository.commit("Only words")
    assert main(["bisect", first, "HEAD", *CELLS]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == (f"0 changes found: no commit from {first} to HEAD touches fixtures/\n", "")


def test_options_reach_the_code_that_is_measured(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    write_code(repository.folder, "pixels")
    first = repository.commit("First")
    write_code(repository.folder, "2 * pixels")
    repository.commit("Twice")
    assert main(["bisect", first, "HEAD", "--methods=fft", "--image-size=64"]) == 1
    assert "+100.0 %, +64.00 FLOPs (mobilenet_v3_small-fft)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["nowhere", "HEAD"], "git rev-parse finds no nowhere"),
        (["HEAD", "nowhere"], "git rev-parse finds no nowhere"),
        (["HEAD", "HEAD"], "HEAD has no commit that HEAD has not; expected an older commit, and a newer one"),
        (["HEAD", "HEAD~1"], "HEAD~1 has no commit that HEAD has not; expected an older commit, and a newer one"),
        (["HEAD~1", "HEAD"], "cannot be measured: ImportError: is broken"),
        (["HEAD~1", "HEAD", "--methods=loar"], "; did you mean lora, lokr or loha?"),
        (["one", "two", "--package=peft"], "Invalid version: 'one'; expected a release"),
        (["0.21.2", "0.20.0", "--package=peft"], "given 0.21.2 and 0.20.0; expected an older release, and a newer one"),
        (["0.21.2", "0.21.2", "--package=peft"], "given 0.21.2 and 0.21.2; expected an older release, and a newer one"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    repository: Repository, capsys: pytest.CaptureFixture[str], words: list[str], complaint: str
) -> None:
    write_code(repository.folder)
    repository.commit("First")
    (repository.folder / "fixtures" / "update_step.py").write_text("raise ImportError('is broken')")
    repository.commit("Second")
    assert main(["bisect", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    errors = [line for line in said.err.splitlines() if not line.startswith("looking at ")]
    assert len(errors) == 1
    assert errors[0].startswith("update-bench bisect: ")
    assert complaint in errors[0]


def test_from_a_folder_below_and_with_a_subject_in_another_encoding(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Git's paths count from the folder that it is run in: nothing seemed to touch the code."""
    write_code(repository.folder)
    first = repository.commit("First")
    write_code(repository.folder, "1500")
    (repository.folder / "subject").write_bytes(b"gr\xf6\xdfer")
    repository.git("commit", "--quiet", "--all", "--file=subject")
    monkeypatch.chdir(repository.folder / "fixtures")
    assert main(["bisect", first, "HEAD", *CELLS]) == 1
    assert "flops.forward in 2 cells, +50.0 %" in capfd.readouterr().out


def test_what_is_not_on_one_line_is_refused_and_not_told_as_of_another_commit(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    """A branch's change would be told as taken back by the first commit of main, or twice where it was merged."""
    write_code(repository.folder)
    start = repository.commit("Start")
    repository.git("switch", "--create", "branch")
    write_code(repository.folder, "1500")
    branch = repository.commit("Branch")
    repository.git("switch", "main")
    main_ = repository.commit("Main")
    for tip in (main_, repository.git("merge", "branch") and "HEAD"):
        assert main(["bisect", branch, tip, *CELLS]) == 2
        said = capsys.readouterr()
        assert (
            f"{branch} is not on the line of first parents that leads to {tip}: it is of another branch, or came by a "
            f"merge; expected a commit of that line, such as {start}"
        ) in said.err
    assert main(["bisect", start, "HEAD", *CELLS]) == 1
    assert "Merge branch 'branch'\n  flops.forward in 2 cells, +50.0 %" in capsys.readouterr().out
    repository.git("switch", "--orphan", "other")
    write_code(repository.folder)
    other = repository.commit("Other")
    assert main(["bisect", other, "main", *CELLS]) == 2
    assert f"{other} and main have no history in common" in capsys.readouterr().err


def test_a_shallow_clone_says_what_it_lacks(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was changed between would be told as of the oldest commit that is there."""
    for forward in ("1000", "1500", "2000", "3000"):
        write_code(repository.folder, forward)
        repository.commit(forward)
    first = repository.git("rev-parse", "HEAD~3")
    clone = repository.folder / "clone"
    repository.git("clone", "--depth=2", f"file://{repository.folder}", str(clone))
    monkeypatch.chdir(clone)
    assert main(["bisect", "HEAD~1", "HEAD", *CELLS]) == 1
    assert "flops.forward in 2 cells, +50.0 %" in capsys.readouterr().out.splitlines()[1]
    for words in ([first, "HEAD"], ["HEAD", first], ["HEAD~3", "HEAD"]):
        assert main(["bisect", *words, *CELLS]) == 2
        wanted = "in this clone, which is shallow: git fetch --unshallow brings the rest"
        (missing,) = {*words} - {"HEAD"}
        assert f"git rev-parse finds no {missing} {wanted}" in capsys.readouterr().err
    Repository.git(repository, "-C", "clone", "fetch", "--depth=1", "origin", first)
    assert main(["bisect", first, "HEAD", *CELLS]) == 2
    said = capsys.readouterr().err
    assert f"what lies between {first} and " in said
    assert "is not in this clone, which is shallow: git fetch --unshallow brings the rest" in said


def test_without_git_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["bisect", "HEAD~1", "HEAD"]) == 2
    assert "there is no git on the PATH; expected one" in capsys.readouterr().err


def test_outside_a_repository_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bisect", "HEAD~1", "HEAD"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("update-bench bisect: fatal: not a git repository")
    assert said.endswith("; expected a checkout of peft-update-bench, or --package NAME, which needs none\n")


def test_a_repository_of_another_kind_is_told_what_works_there(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository.folder / "fixtures").mkdir()
    (repository.folder / "fixtures" / "images.py").touch()
    first = repository.commit("First")
    (repository.folder / "fixtures" / "images.py").write_text("SIZE = 8")
    repository.commit("Second")
    assert main(["bisect", first, "HEAD"]) == 2
    said = capsys.readouterr().err
    assert f"neither {first} nor HEAD has fixtures/update_step.py" in said
    assert "git bisect run pytest --benchmark-compare=FILE" in said


def test_releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """pip is a stand-in; the package that it installs is what the code computes by."""

    def pip(*words: str) -> str:
        if words[0] == "index":
            return "planted (1.10.0)\nAvailable versions: 1.10.0, 1.9.1, 1.9.0, 1.2.0, 1.0.0\n"
        package, _, version = words[-1].partition("==")
        folder = Path(words[words.index("--target") + 1])
        folder.mkdir()
        (folder / f"{package}.py").write_text(f"FLOPS = {2000 if version in ('1.0.0', '1.2.0') else 1000}")
        return ""

    write_code(tmp_path, "__import__('planted').FLOPS")
    monkeypatch.setattr(releases, "_pip", pip)
    monkeypatch.setattr(releases, "CODE", tmp_path)
    assert main(["bisect", "1.0.0", "1.10.0", "--package=planted", "--methods=fft"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "planted 1.9.0",
        "  flops.forward in 1 cell, -50.0 %, -1.000 kFLOPs (mobilenet_v3_small-fft)",
    ]
    assert lines[-1].startswith("1 change found, 4 looks at 5 releases in ")
    assert main(["bisect", "1.0.0", "1.11.0", "--package=planted"]) == 2
    assert "pip knows no planted 1.11.0; expected releases such as 1.0.0, 1.2.0, 1.9.0" in capsys.readouterr().err


def test_pip_that_is_kept_quiet_lists_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip is a stand-in that is as quiet as the real one."""
    said = "import os; print('' if int(os.environ.get('PIP_QUIET') or 0) else 'Available versions: 1.1, 1.0')"
    monkeypatch.setenv("PIP_QUIET", "1")
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, **given: run([command[0], "-c", said], **given))
    assert releases.Releases.between("1.0", "1.1", Path(), "planted").versions == ["1.0", "1.1"]


def looking(values: dict[int, int | None]) -> Callable[[str], Figures]:
    """A probe of versions whose one figure is as of the greatest key up to its number; None cannot be measured."""

    def probe(version: str) -> Figures:
        value = values[max(key for key in values if key <= int(version))]
        if value is None:
            raise ProbeError("is broken")
        return {("cell", "figure"): value}

    return probe


@pytest.mark.parametrize("planted", range(1, 40))
def test_any_of_forty_is_found_in_eight_looks(planted: int) -> None:
    search = Search([*map(str, range(40))], looking({0: 1, planted: 2}))
    (change,) = search.changes
    assert (change.before, change.after, change.exact) == (planted - 1, planted, True)
    assert change.moved == {("cell", "figure"): (1, 2)}
    assert search.probes <= 8


def test_every_change_is_found_unless_it_was_undone() -> None:
    versions = [*map(str, range(10))]
    assert [c.after for c in Search(versions, looking({0: 1, 3: 2, 8: 3})).changes] == [3, 8]
    assert Search(versions, looking({0: 1, 3: 2, 5: 1})).changes == []


def test_a_stretch_that_cannot_be_measured_is_named_by_its_ends() -> None:
    search = Search([*map(str, range(10))], looking({0: 1, 4: None, 7: 2}))
    (change,) = search.changes
    assert (change.before, change.after, change.exact) == (3, 7, False)
    assert search.reasons.keys() == {4, 5, 6}
    with pytest.raises(ProbeError, match="0 cannot be measured: is broken"):
        _ = Search(["0", "1"], looking({0: None, 1: 1})).changes
