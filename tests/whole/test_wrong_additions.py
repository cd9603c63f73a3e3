"""Metrics and kinds of benchmark from elsewhere that are not what they should be: each is refused in a sentence, and
what a function that measures does to pytest's process ends with it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from textwrap import indent

import pytest
import torch
from peft_update_bench.bench.__main__ import main

MODULE = """
import os
import sys

import pytest
import torch
from peft_update_bench.bench import benchmarks, metrics
from peft_update_bench.bench.benchmarks.base import Benchmark
from peft_update_bench.bench.metrics import Column, Evidence, Figure, Metric
from peft_update_bench.bench.record.part import Part


class Energy(Part):
    joules: float


def measure(measuring):
    measuring.sections["energy"] = {"joules": 2.0}
BODY


class Shipping(Benchmark):
    name = "shipping"


JOULES = Figure("joules", "J", Evidence.TOLERANCE, "energy", 0.1, brief=Column("energy"))
metrics.add(Metric("energy", "energy", "additions:Energy", (JOULES,), "additions:measure", "update"))
"""

RUN = ("-p", "no:cacheprovider", "--pyargs", "peft_update_bench.bench", "--architectures=mobilenet_v3_small")
SMALL = (*RUN, "--methods=head", "--image-size=64", "--metrics=energy", "--benchmark-json=run.json")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm_operators", "tables_as_they_were")]


def add(pytester: pytest.Pytester, old: str = "", new: str = "", body: str = "", *, more: str = "") -> None:
    """The module of additions, with one thing another, or with a `body` of the function that measures."""
    assert old in MODULE
    text = MODULE.replace(old, new) if old else MODULE
    pytester.makepyfile(additions=text.replace("BODY", indent(body, "    ")) + more)
    pytester.makefile(".toml", pyproject='[tool.peft-update-bench]\nmodules = ["additions"]\n')


def words(result: pytest.RunResult) -> str:
    return re.sub(r"\s+", " ", "\n".join([*result.outlines, *result.errlines]))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("additions:Energy", "additions:Energie", "section 'additions:Energie': the module 'additions' has no 'Energ"),
        ("additions:Energy", "addition:Energy", "section 'addition:Energy': there is no module 'addition' in the"),
        ("additions:Energy", "Energy", "section 'Energy': expected MODULE:NAME"),
        ("additions:Energy", "additions:measure", "'additions:measure'; expected a subclass of peft_update_bench"),
        ('Figure("joules"', 'Figure("joule"', "'additions:Energy', which has no 'joule'; expected a field for each"),
        ("(JOULES,)", "(JOULES)", "figures of type Figure; expected a tuple of Figure"),
        ("(JOULES,)", "('joules',)", "figures of type tuple; expected a tuple of Figure"),
        ('"update")', '"updates")', "'energy' is of the benchmark 'updates'; expected one of update, instructions"),
        ('Metric("energy"', 'Metric("latency"', "and every record has its own 'latency'; expected another name"),
        ('Metric("energy"', 'Metric("my energy"', "expected a name of letters, digits and _"),
        ("Evidence.TOLERANCE", '"TOLERANCE"', "figure energy.joules has the evidence TOLERANCE; expected one of Evid"),
        ("Evidence.TOLERANCE", "Evidence.SEEDS", "has the evidence Evidence.SEEDS; expected one of Evidence.SHOWN"),
        ('"energy", 0.1,', '"", 0.1,', "the limit '', the tolerance 0.1 and Evidence.TOLERANCE; expected limit and"),
        ('"energy", 0.1,', '"energy",', "the limit 'energy', the tolerance None and Evidence.TOLERANCE; expected"),
        ("Evidence.TOLERANCE", "Evidence.EXACT", "the tolerance 0.1 and Evidence.EXACT; expected limit and toleranc"),
        ('"energy", 0.1,', '"energy", 10,', "energy.joules: its tolerance is 10; expected a fraction of at least 0"),
    ],
)
def test_a_metric_that_is_none_is_refused(pytester: pytest.Pytester, old: str, new: str, complaint: str) -> None:
    """By pytest, its ``--help`` included, and by the commands."""
    add(pytester, old, new)
    for result in (pytester.runpytest_inprocess(*SMALL), pytester.runpytest_inprocess(*RUN, "--help")):
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert complaint in words(result)
        assert "Traceback (" not in words(result)
    assert main(["report"]) == 2


@pytest.mark.parametrize(
    ("added", "complaint"),
    [
        ("shiping", "the benchmark 'ship' is 'additions:shiping': the module 'additions' has no 'shiping'"),
        ("measure", "'additions:measure'; expected a subclass of peft_update_bench.bench.benchmarks.base.Benchmark"),
        ("Shipping", "'additions:Shipping', whose name is 'shipping'; expected 'ship'"),
    ],
)
def test_a_benchmark_that_is_none_is_refused(pytester: pytest.Pytester, added: str, complaint: str) -> None:
    add(pytester, more=f'\nbenchmarks.add("ship", "additions:{added}")\n')
    result = pytester.runpytest_inprocess(*SMALL)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert complaint in words(result)


def test_a_benchmark_must_define_what_is_abstract(pytester: pytest.Pytester) -> None:
    add(pytester, more='\nbenchmarks.add("shipping", "additions:Shipping")\n')
    result = pytester.runpytest_inprocess(*SMALL)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "'additions:Shipping', which does not define failures, measure" in words(result)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("additions:measure", "additions:mesure", "by 'additions:mesure': the module 'additions' has no 'mesure'"),
        ("additions:measure", "addition:measure", "by 'addition:measure': there is no module 'addition' in the"),
        ("additions:measure", "additions:JOULES", "'additions:JOULES', which is of type Figure; expected a function"),
        ("measure(measuring)", "measure(measuring, other)", "which takes (measuring, other); expected a function that"),
        ("measure(measuring)", "measure()", "which takes (); expected a function that is given a Measuring"),
    ],
)
def test_what_cannot_measure_is_refused_where_it_would(
    pytester: pytest.Pytester, old: str, new: str, complaint: str
) -> None:
    """And not where another metric is measured: its module may be heavy."""
    add(pytester, old, new)
    refused = pytester.runpytest_inprocess(*SMALL)
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    assert complaint in words(refused)
    others = pytester.runpytest_inprocess(*RUN, "--metrics=flops", "--collect-only", "-q")
    assert others.ret == pytest.ExitCode.OK


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("raise KeyError('no meter')", "additions:measure raises KeyError: 'no meter' (additions.py:18)"),
        ("sys.exit(3)", "additions:measure raises SystemExit: 3 (additions.py:18)"),
        ("pytest.skip('no meter')", "additions:measure raises Skipped: no meter (additions.py:18)"),
        ("measuring.process.call(lambda: 1)", "additions:measure raises *local object*(additions.py:18)"),
        ("measuring.process.call(os._exit, 3)", "ended its process with exit code 3"),
        ("measuring.sections = None", "additions:measure leaves no measuring.sections['energy']; expected *"),
    ],
)
def test_what_fails_while_it_measures_fails_its_cell(pytester: pytest.Pytester, body: str, complaint: str) -> None:
    add(pytester, body=body)
    result = pytester.runpytest_inprocess(*SMALL, "--tb=short")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"mobilenet_v3_small-head: {complaint.replace('[', '[[]')}"])
    assert "Traceback (" not in words(result)
    assert json.loads((pytester.path / "run.json").read_text())["benchmarks"] == []


@pytest.mark.parametrize("broken", ["brief=Column('energy', lambda record: record.energie)", "brief=Column('e', 1)"])
def test_a_column_that_raises_fails_its_cell_and_no_table(pytester: pytest.Pytester, broken: str) -> None:
    add(pytester, 'brief=Column("energy")', broken)
    result = pytester.runpytest_inprocess(*SMALL)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*-head: energy.joules cannot be told: *Error: *", "1 cell*: 1 failed"])


def test_what_a_function_sets_for_the_process_is_set_back(pytester: pytest.Pytester) -> None:
    add(pytester, body="os.chdir('/'); torch.manual_seed(5); torch.set_num_threads(2); torch.set_grad_enabled(False)")
    before = (Path.cwd(), torch.get_num_threads(), torch.is_grad_enabled(), torch.initial_seed())
    pytester.runpytest_inprocess(*SMALL).assert_outcomes(passed=1)
    assert (Path.cwd(), torch.get_num_threads(), torch.is_grad_enabled(), torch.initial_seed()) == before
    assert (pytester.path / "run.json").is_file()


def test_it_measures_beside_nothing(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """What others' cells would spoil of it nobody knows, and what it sets is this process's."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    add(pytester, body="import threading\nassert threading.current_thread() is threading.main_thread()")
    two = [word.replace("head", "head,bn_head") for word in SMALL]
    pytester.runpytest_inprocess(*two).assert_outcomes(passed=2)
    asked = pytester.runpytest_inprocess(*two, "--workers=2")
    assert asked.ret == pytest.ExitCode.USAGE_ERROR
    assert "--workers is 2 and --metrics energy, which your own code measures; expected one worker" in words(asked)
    pytester.runpytest_inprocess(*two, "--workers=1").assert_outcomes(passed=2)
