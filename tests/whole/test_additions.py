"""A metric and a kind of benchmark from elsewhere, added through the public door, and seen wherever one looks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# pytester forgets what a test imported, and this cannot be imported a second time.
import vl_convert  # noqa: F401
from peft_update_bench.bench.__main__ import main

MODULE = '''
import os

from peft_update_bench.bench import benchmarks, metrics
from peft_update_bench.bench.benchmarks.base import Benchmark
from peft_update_bench.bench.measuring.measurement import record_of
from peft_update_bench.bench.metrics import Column, Evidence, Figure, Metric
from peft_update_bench.bench.record.part import Part


class Energy(Part):
    joules: float


def measure(measuring):
    if os.environ["JOULES"]:
        measuring.sections["energy"] = {"joules": float(os.environ["JOULES"])}


class Transfer(Part):
    bytes: int


class Shipping(Benchmark):
    """What sending an update to a device takes."""

    name = "shipping"
    folder = "shipping"
    options = {"link": "the slowest link on the way"}

    def __init__(self, link):
        self.link = link

    @classmethod
    def read(cls, given, workload):
        return cls(given.get("link") or "usb"), workload

    @property
    def repeat(self):
        return [f"--metrics transfer --link {self.link}"]

    def measure(self, cell, run, gate, benchmark):
        size = {"usb": 100, "radio": 150}[self.link]
        benchmark.pedantic(lambda: None)
        return gate.judge(record_of(cell, run.workload, {"transfer": {"bytes": size}}))

    @classmethod
    def failures(cls):
        return (KeyError,)


ENERGY = Column("energy")
JOULES = Figure("joules", "J", Evidence.TOLERANCE, "energy", 0.1, column=ENERGY, brief=ENERGY, over_time="Energy")
BYTES = Figure("bytes", "bytes", Evidence.EXACT, column=Column("on the wire"), brief=Column("on the wire"))
metrics.add(Metric("energy", "energy", f"{__name__}:Energy", (JOULES,), f"{__name__}:measure", "update"))
metrics.add(
    Metric("transfer", "transfer", f"{__name__}:Transfer", (BYTES,), benchmark="shipping", by_default=True)
)
benchmarks.add("shipping", f"{__name__}:Shipping")
'''

TEST_FILE = """
BENCHMARK = "shipping"


def test_shipping(architecture, method, rank, benchmark_cell):
    benchmark_cell(architecture, method, rank)
"""

SUITE = ("--pyargs", "peft_update_bench.bench")
CELLS = ("--architectures=mobilenet_v3_small", "--methods=fft,head", "--image-size=64")
ENERGY = (*SUITE, *CELLS, "--metrics=energy", "--benchmark-quiet")
SHIPPING = (*SUITE, "test_shipping.py", *CELLS, "--benchmark-quiet")

Run = Callable[..., pytest.RunResult]

# pytester forgets what a run imported, and peft's parts cannot be imported a second time.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("warm_operators", "few_further_calls", "tables_as_they_were"),
]


@pytest.fixture(params=["named by pyproject.toml", "imported by conftest.py"])
def run(request: pytest.FixtureRequest, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs pytest in a repository that adds a metric and a benchmark, by either way to do so."""
    named = request.param == "named by pyproject.toml"
    modules = 'modules = ["additions"]\n' if named else ""
    pytester.makefile(".toml", pyproject=f'[tool.peft-update-bench]\nstorage = "perf"\n{modules}')
    pytester.makepyfile(test_shipping=TEST_FILE, additions=MODULE, conftest="" if named else "import additions")
    monkeypatch.setenv("JOULES", "2.0")
    return lambda *arguments: pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)


def records(path: Path) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry["extra_info"] for entry in json.loads(path.read_text())["benchmarks"]}


def words(result: pytest.RunResult) -> str:
    """The output with its line breaks as spaces, because help is wrapped."""
    return re.sub(r"\s+", " ", "\n".join([*result.outlines, *result.errlines]))


def test_both_are_options_with_their_help(run: Run) -> None:
    told = words(run(*SUITE, "--help"))
    assert re.search(
        r"--metrics.*update: flops, memory, measured_memory, latency, growth, result, first_step, energy; "
        r".*shipping: transfer",
        told,
    )
    assert "shipping: the slowest link on the way" in told


def test_a_metric_is_measured_recorded_judged_and_shown(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = run(*ENERGY, "--benchmark-save=baseline")
    saved.assert_outcomes(passed=2)
    baseline = pytester.path / "perf" / "0001_baseline.json"
    assert [record["energy"] for record in records(baseline).values()] == [{"joules": 2.0}, {"joules": 2.0}]

    # At its tolerance of a tenth, and above it.
    monkeypatch.setenv("JOULES", "2.2")
    held = run(*ENERGY, "--benchmark-compare", "--benchmark-json=run.json")
    held.assert_outcomes(passed=2)
    held.stdout.fnmatch_lines(
        [
            "update benchmark: 2 cells, energy, against perf/0001_baseline.json",
            "cell * energy * verdict",
            "mobilenet_v3_small-fft * 2.200 J * ok",
            "2 cells, against 0001_baseline.json: 2 ok",
        ]
    )
    monkeypatch.setenv("JOULES", "2.3")
    failed = run(*ENERGY, "--benchmark-compare", "--markdown=table.md")
    assert failed.ret == 1
    failed.assert_outcomes(failed=2)
    failed.stdout.fnmatch_lines(
        ["*energy.joules regressed: 2.000 J → 2.300 J (+15.0 %, +300.0 mJ; tolerance 10%)", "*: 2 regressed"]
    )
    markdown = (pytester.path / "table.md").read_text()
    assert re.search(r"^\| cell +\| energy +\| verdict", markdown, re.MULTILINE)
    assert "| 2.300 J  | regressed: energy.joules +15.0 %" in markdown
    tolerant = run(*ENERGY, "--benchmark-compare", "--tolerance=energy=0.2")
    assert tolerant.ret == 0, "its tolerance is an option as the others'"

    monkeypatch.syspath_prepend(pytester.path)
    page = pytester.path / "page.html"
    assert main(["report", "run.json", "--compare", "--output", str(page), "--no-claims"]) == 0
    html = page.read_text()
    assert re.search(r"<th[^>]*>\s*(<[^>]*>)?\s*energy", html)
    assert "2.200 J" in html


@pytest.mark.parametrize(
    ("joules", "complaint"),
    [
        ("nan", "energy.joules: Input should be a finite number, given nan"),
        ("inf", "energy.joules: Input should be a finite number, given inf"),
        ("", "additions:measure leaves no measuring.sections['energy']; expected what it measured"),
    ],
)
def test_a_metric_that_measures_no_number_fails_its_cells(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, joules: str, complaint: str
) -> None:
    monkeypatch.setenv("JOULES", joules)
    saved = run(*ENERGY, "--benchmark-save=baseline")
    saved.assert_outcomes(failed=2)
    saved.stdout.fnmatch_lines([f"mobilenet_v3_small-fft: {complaint.replace('[', '[[]')}"])
    assert not list(pytester.path.glob("perf/*"))


def test_a_benchmark_runs_and_saves_into_its_own_folder(run: Run, pytester: pytest.Pytester) -> None:
    saved = run(*SHIPPING, "--metrics=transfer", "--benchmark-save=baseline")
    saved.assert_outcomes(passed=2)
    baseline = pytester.path / "perf" / "shipping" / "0001_baseline.json"
    assert {name: record["transfer"] for name, record in records(baseline).items()} == {
        "test_shipping[mobilenet_v3_small-fft]": {"bytes": 100},
        "test_shipping[mobilenet_v3_small-head]": {"bytes": 100},
    }
    assert not list((pytester.path / "perf").glob("*.json")), "the update benchmark's newest file stays its own"

    held = run(*SHIPPING, "--metrics=transfer", "--benchmark-compare")
    held.stdout.fnmatch_lines(["cell * on the wire * verdict", "*fft * 100 Bytes * ok", "2 cells, *: 2 ok"])
    failed = run(*SHIPPING, "--metrics=transfer", "--link=radio", "--benchmark-compare")
    assert failed.ret == 1
    failed.stdout.fnmatch_lines(
        [
            "*transfer.bytes regressed: 100 Bytes → 150 Bytes (+50.0 %, +50 Bytes; tolerance 0%)",
            "If the change is meant, record a new baseline: * --metrics transfer --link radio*",
        ]
    )
    broken = run(*SHIPPING, "--metrics=transfer", "--link=pigeon")
    broken.assert_outcomes(failed=2)
    broken.stdout.fnmatch_lines(["mobilenet_v3_small-fft: 'pigeon'"])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--metrics=transfer,energy"], "--metrics is 'transfer,energy'; expected shipping alone"),
        (["--metrics=energy", "--link=usb"], "--link is given without --metrics shipping; expected both or neither"),
        (
            ["--metrics=speed"],
            "expected one of flops, memory, measured_memory, latency, growth, result, first_step, energy, "
            "instructions, adaptation, transfer",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(run: Run, options: list[str], complaint: str) -> None:
    result = run(*SHIPPING, *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert complaint in words(result)


@pytest.mark.parametrize(
    ("module", "complaint"),
    [("nowhere", "raises ModuleNotFoundError"), ("script", "raises SystemExit: 0 (script.py:2)")],
)
def test_a_module_that_cannot_be_imported_is_named(pytester: pytest.Pytester, module: str, complaint: str) -> None:
    pytester.makefile(".toml", pyproject=f'[tool.peft-update-bench]\nmodules = ["{module}"]\n')
    pytester.makepyfile(script="import sys\nsys.exit(0)")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", *SUITE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"[tool.peft-update-bench] modules: importing {module!r} {complaint}" in words(result)
    assert "Traceback" not in words(result)
    assert main(["report"]) == 2
