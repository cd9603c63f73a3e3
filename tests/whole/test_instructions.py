"""The benchmark of instructions as a user takes it; counts are prepared, because valgrind needs minutes for torch."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# What a record's versions are read from. A run of pytest within a test forgets what it has imported itself.
import galore_torch  # noqa: F401
import peft  # noqa: F401
import pytest
from peft_update_bench.bench.benchmarks import kept_counts
from peft_update_bench.fixtures import digests
from peft_update_bench.fixtures.instruments import instructions
from peft_update_bench.fixtures.instruments.instructions import Conditions, Instructions, InstructionsError, valgrind

REPOSITORY = Path(__file__).parents[2]
CONDITIONS = Conditions("3.19.0", "glibc 2.36", "x86_64", "3.11.7, GCC 12.2.0")
PHASES = {"forward": 300_000, "backward": 500_000, "optimizer": 190_000, "zero_grad": 8_000, "other": 2_000}
Suite = Callable[..., pytest.RunResult]


class PreparedWorkers:
    """Stands for Workers: counts by method, a text where a cell fails, None where it is still counted."""

    counts: dict[str, Instructions | str | None] = {}  # noqa: RUF012 - each test has its own
    asked: list[Any] = []  # noqa: RUF012
    numbers: list[tuple[int, int | None]] = []  # noqa: RUF012

    def __init__(self, cells: int, number: int | None) -> None:
        self.numbers.append((cells, number))

    def submit(self, build: Any, architecture: str, method: str, *more: Any, limit_s: float) -> Future[Instructions]:
        self.asked.append((architecture, method, *more))
        future: Future[Instructions] = Future()
        counted = self.counts[method]
        if isinstance(counted, str):
            future.set_exception(InstructionsError(counted))
        elif counted is not None:
            future.set_result(counted)
        return future

    def close(self) -> None:
        """Nothing to end."""


def counted(more: int = 0, conditions: Conditions = CONDITIONS) -> Instructions:
    phases = {**PHASES, "forward": PHASES["forward"] + more}
    return Instructions(phases, None, 0, {}, {"im2col": 200_000 + more}, {"step": 1}, conditions)


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """Runs the benchmark with two cells, whose counts are those given by method."""
    monkeypatch.setattr(instructions, "Workers", PreparedWorkers)
    monkeypatch.setattr(instructions, "conditions", lambda: CONDITIONS)
    monkeypatch.setattr(PreparedWorkers, "asked", [])
    monkeypatch.setattr(PreparedWorkers, "numbers", [])

    def run(*options: str, **counts: Instructions | str | None) -> pytest.RunResult:
        monkeypatch.setattr(PreparedWorkers, "counts", {"fft": counted(), "head": counted(), **counts})
        return pytester.runpytest_inprocess(
            REPOSITORY / "bench", "-c", REPOSITORY / "pyproject.toml", "--rootdir", REPOSITORY,
            "-p", "no:cacheprovider", "--benchmark-storage=file://baselines", "--benchmark-quiet",
            "--metrics=instructions", "--architectures=mobilenet_v3_small", "--methods=fft,head", *options,
        )  # fmt: skip

    return run


@pytest.fixture
def recorded(suite: Suite, pytester: pytest.Pytester) -> Path:
    assert suite("--benchmark-save=baseline").ret == 0
    return pytester.path / "baselines" / "instructions" / "0001_baseline.json"


def of_another_cpu(path: Path) -> None:
    data = json.loads(path.read_text())
    data["machine_info"]["cpu"]["brand_raw"] = "Another CPU"
    path.write_text(json.dumps(data))


def test_it_records_into_a_folder_of_its_own(recorded: Path) -> None:
    entries = json.loads(recorded.read_text())["benchmarks"]
    assert [entry["name"] for entry in entries] == [
        "test_instructions[mobilenet_v3_small-fft]",
        "test_instructions[mobilenet_v3_small-head]",
    ]
    assert entries[0]["extra_info"]["instructions"]["total"] == 1_000_000
    assert [(architecture, method) for architecture, method, *_ in PreparedWorkers.asked] == [
        ("mobilenet_v3_small", "fft"),
        ("mobilenet_v3_small", "head"),
    ]


def test_as_many_cells_are_counted_beside_each_other_as_workers_says(suite: Suite) -> None:
    assert suite().ret == suite("--workers=1").ret == 0
    assert PreparedWorkers.numbers == [(2, None), (2, 1)]


def test_on_another_cpu_a_slowdown_fails_and_names_the_function(suite: Suite, recorded: Path) -> None:
    of_another_cpu(recorded)
    result = suite("--benchmark-compare", head=counted(more=20_000))
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "*mobilenet_v3_small-head does not hold its baseline 0001_baseline.json:",
            "*instructions.total regressed: 1.000 M instructions → 1.020 M instructions (+2.0 %, *tolerance 0.2%)",
            "*instructions moved in forward +20.00 k instructions:",
            "*function im2col: 200.0 k instructions → 220.0 k instructions (+20.00 k instructions, +10.0 %)",
            "*pytest --benchmark-storage=* --benchmark-save=baseline --metrics instructions",
            "mobilenet_v3_small-fft *ok",
            "mobilenet_v3_small-head *regressed: instructions.total +2.0 %",
        ]
    )


def test_the_same_counts_hold_on_another_cpu(suite: Suite, recorded: Path) -> None:
    of_another_cpu(recorded)
    assert suite("--benchmark-compare").ret == 0


@pytest.mark.usefixtures("recorded")
def test_with_another_valgrind_nothing_is_judged_and_it_says_so(suite: Suite) -> None:
    other = counted(20_000, Conditions("3.22.0", "glibc 2.36", "x86_64", "3.11.7, GCC 12.2.0"))
    result = suite("--benchmark-compare", head=other)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["mobilenet_v3_small-head *not comparable*"])
    result.stdout.fnmatch_lines(["*counted with valgrind 3.22.0, the baseline's with 3.19.0*"])


def test_a_cell_that_cannot_be_counted_fails_alone(suite: Suite) -> None:
    result = suite(head="the step was not counted within 3000 s")
    assert result.ret == 1
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*mobilenet_v3_small-head: the step was not counted within 3000 s"])


@pytest.mark.parametrize("counting", [None, "UnsupportedNetworkError: a norm"])
def test_a_cell_that_cannot_be_done_says_so_before_it_is_counted(suite: Suite, counting: str | None) -> None:
    result = suite("--image-size=32", "--methods=fft", fft=counting)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["mobilenet_v3_small-fft: a norm in train mode has one value per channel*"])


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user's, of a run that is not within a test."""
    monkeypatch.setattr(kept_counts, "users_cache", lambda: tmp_path / "peft-update-bench")
    monkeypatch.setattr(kept_counts, "os", SimpleNamespace(environ={}))
    return tmp_path / "peft-update-bench" / "unfinished"


def test_what_a_run_has_counted_before_it_failed_the_next_goes_on_from(suite: Suite, cache: Path) -> None:
    assert suite(head="the step was not counted within 3000 s").ret == 1
    assert len([*cache.rglob("*.json")]) == 1
    PreparedWorkers.asked.clear()
    result = suite("--benchmark-save=baseline")
    assert result.ret == 0
    assert [method for _, method, *_ in PreparedWorkers.asked] == ["head"]
    result.stdout.fnmatch_lines([f"1 cell counted by a run that did not finish, found in {cache}*"])
    assert not [*cache.iterdir()], "a whole run leaves nothing to the next"


def test_of_code_that_was_changed_while_a_run_was_on_nothing_is_kept(
    suite: Suite, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = map(str, itertools.count())
    monkeypatch.setattr(digests, "of_code", lambda: next(versions))
    assert suite(head="the step was not counted within 3000 s").ret == 1
    assert not [*cache.rglob("*.json")]


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("other", ["--batch-size=2", "--image-size=64"])
def test_nothing_is_kept_for_another_workload(suite: Suite, other: str) -> None:
    assert suite(head="the step was not counted within 3000 s").ret == 1
    PreparedWorkers.asked.clear()
    assert suite(other).ret == 0
    assert len(PreparedWorkers.asked) == 2


def test_where_nothing_can_be_kept_it_counts_all_the_same(suite: Suite, cache: Path) -> None:
    cache.parent.write_text("a file")
    assert suite().ret == 0


def test_within_a_test_nothing_is_kept(suite: Suite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kept_counts, "users_cache", lambda: tmp_path / "peft-update-bench")
    assert suite(head="the step was not counted within 3000 s").ret == 1
    assert not [*tmp_path.rglob("unfinished")]


def test_other_than_one_thread_is_refused(suite: Suite) -> None:
    result = suite("--threads=2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--metrics instructions counts on the CPU with one thread; given *"])


def test_without_valgrind_it_says_how_to_install_it(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Conditions:
        raise InstructionsError(f"instructions are counted by valgrind, which is not on PATH: {valgrind.INSTALL}")

    monkeypatch.setattr(instructions, "conditions", missing)
    result = suite()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--metrics instructions: *not on PATH: install it with `apt-get install valgrind`*"])


@pytest.mark.usefixtures("recorded")
def test_the_report_compares_with_the_baseline_of_its_own_kind(
    suite: Suite, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft_update_bench.bench.__main__ import main

    shutil.copy(REPOSITORY / "pyproject.toml", pytester.path)
    assert suite("--benchmark-json=run.json", "--benchmark-compare", head=counted(more=20_000)).ret == 1
    monkeypatch.chdir(pytester.path)
    main(["report", "run.json", "--compare", "--no-claims", "--output", "page.html", "--output", "table.md"])
    table = (pytester.path / "table.md").read_text()
    assert "1.020 M instructions" in table
    assert "regressed" in table
    assert "1.020 M instructions" in (pytester.path / "page.html").read_text()
