"""Two checkouts compared: stand-ins whose costs lie so far apart that no machine can doubt the verdict."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from peft_update_bench.bench.__main__ import main
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.commands import compare_checkouts
from peft_update_bench.bench.commands.compare_checkouts import Comparison, table
from peft_update_bench.bench.gate.slowdown import judge_ratio
from peft_update_bench.fixtures.instruments.latency.interval import Interval
from peft_update_bench.fixtures.instruments.latency.paired import SamplingLimits

pytestmark = pytest.mark.slow

WORKLOAD = """
from dataclasses import dataclass

@dataclass
class Workload:
    image_size: int = 224
    threads: int = 1
"""
UPDATE_STEP = """
print("what a library prints")
import fixtures.workload

class Refreshing:
    period = 7
    def __init__(self, step): self.step = step
    def schedule(self): self.step.counter = 0

class Step:
    def __init__(self, periodic):
        self.counter = 0
        self.periodic_work = Refreshing(self) if periodic else None
    def __call__(self):
        refreshes = self.periodic_work is not None and self.counter % 7 == 0
        self.counter += 1
        for _ in range({work} * (20 if refreshes else 1)):
            pass

def build_update_step(architecture, method, rank, workload):
    assert isinstance(workload, fixtures.workload.Workload)
    if method not in {methods!r}:
        raise KeyError(f"no method {{method}}")
    return Step(periodic=method == "galore")
"""
TORCH = """
def get_num_threads(): return 1
def set_num_threads(threads): pass
"""
"""Enough for stand-ins to be timed; importing the real one is most of what a worker's start takes."""

ALL = ("fft", "lora", "galore")


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    few = SamplingLimits(warm_up_rounds=1, min_rounds=10, max_rounds=20, max_refreshes=4)
    monkeypatch.setattr(compare_checkouts, "SCREENING", few)
    monkeypatch.setattr(compare_checkouts, "DECIDING", few)


def checkout(folder: Path, work: int = 20_000, methods: tuple[str, ...] = ALL, real_torch: bool = False) -> str:
    if not real_torch:
        folder.mkdir()
        (folder / "torch.py").write_text(TORCH)
    fixtures = folder / "fixtures"
    fixtures.mkdir(parents=True)
    (fixtures / "__init__.py").touch()
    (fixtures / "workload.py").write_text(WORKLOAD)
    (fixtures / "update_step.py").write_text(UPDATE_STEP.format(work=work, methods=methods))
    return str(folder)


def compared(base: str, head: str, *options: str) -> int:
    return main(["compare-checkouts", base, head, "--architectures", "resnet18", "--ranks", "4", *options])


def test_the_same_code_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, head = (checkout(tmp_path / name, real_torch=True) for name in "ab")
    assert compared(base, head, "--methods", "fft") == 0
    assert re.search(r"\| resnet18-fft +\| .*\| (ok|unstable) +\|$", capsys.readouterr().out, re.MULTILINE)


def test_a_slower_head_fails_and_a_faster_one_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow, quick = checkout(tmp_path / "slow", work=60_000), checkout(tmp_path / "quick")
    assert compared(quick, slow, "--methods", "lora") == 1
    assert "resnet18-lora-r4: regressed" in capsys.readouterr().err
    assert compared(slow, quick, "--methods", "lora") == 0
    assert "resnet18-lora-r4: improved" in capsys.readouterr().err


def test_a_slowdown_that_is_meant_is_accepted_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow, quick = checkout(tmp_path / "slow", work=60_000), checkout(tmp_path / "quick")
    assert compared(quick, slow, "--methods", "lora", "--accept", "the new loss\n is  dearer") == 0
    out = capsys.readouterr().out
    assert "| regressed |" in out, "it is told as what it is"
    accepted = "Accepted, because it is meant: resnet18-lora-r4 regressed. Reason: the new loss is dearer"
    assert out.splitlines()[-2:] == ["", accepted]
    assert compared(slow, quick, "--methods", "lora", "--accept", "nothing") == 0
    assert "No cell regressed, so nothing was accepted (nothing)." in capsys.readouterr().out


def test_what_is_gone_is_not_accepted(tmp_path: Path) -> None:
    more, less = checkout(tmp_path / "more"), checkout(tmp_path / "less", methods=("fft",))
    assert compared(more, less, "--methods", "lora", "--accept", "slower on purpose") == 1


def test_ordinary_rounds_hold_no_refreshing_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The refreshing step is 20 times as long, so one in seven would show: 3.7 times the ordinary step on average.
    base, head = checkout(tmp_path / "base"), checkout(tmp_path / "head", work=60_000)
    assert compared(base, head, "--methods", "galore") == 1
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| resnet18-galore"))
    milliseconds = [float(cell) for cell in row.split("|")[2:4]]
    refresh = row.split("|")[6]
    assert 2 < milliseconds[1] / milliseconds[0] < 4.5
    assert "to" in refresh


def test_a_cell_that_only_the_head_has_is_new_and_one_that_only_the_base_has_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more, less = checkout(tmp_path / "more"), checkout(tmp_path / "less", methods=("fft",))
    assert compared(less, more, "--methods", "lora,fft") == 0
    assert "new: the base cannot run it: KeyError: 'no method lora'" in capsys.readouterr().out
    assert compared(more, less, "--methods", "lora") == 1
    assert "missing: the head cannot run it: KeyError: 'no method lora'" in capsys.readouterr().out


def test_a_base_that_has_no_cell_at_all_is_no_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the wrong folder, or one whose step cannot be imported any more."""
    more, less = checkout(tmp_path / "more"), checkout(tmp_path / "less", methods=("fft",))
    assert compared(less, more, "--methods", "lora") == 1
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == (
        f"Nothing was compared, because {less} lacks every cell: the base cannot run it: KeyError: 'no method lora'; "
        "expected a base that has one of them, or --accept REASON where the head brings them all"
    )
    assert compared(less, more, "--methods", "lora", "--accept", "the first step") == 0
    accepted = capsys.readouterr().out.splitlines()[-1]
    assert accepted == "Accepted, because it is meant: nothing was compared. Reason: the first step"


def test_a_cell_that_neither_has_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = checkout(tmp_path / "a")
    assert compared(folder, folder, "--methods", "dora") == 1
    assert "broken: the base cannot run it: KeyError: 'no method dora'; the head" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: BASE, HEAD"),
        (["nowhere", "{checkout}"], "nowhere is no checkout of peft-update-bench: it has no fixtures/update_step.py; "),
        (["nowhere", "{checkout}", "--methods=fft"], "of yours name its update steps: --steps MODULE:NAME"),
        (["{checkout}", "{checkout}", "--methods", "lore"], "--methods is 'lore'; expected one of fft"),
        (["{checkout}", "{checkout}", "--threads", "0"], "--threads is '0'; expected a whole number"),
        (["{checkout}", "{checkout}", "--tolerance", "nan"], "--tolerance is 'nan'; expected a fraction"),
        (["{checkout}", "{checkout}", "--tolerance", "0"], "tolerance latency is 0; expected a fraction above 0"),
        (["{checkout}", "{checkout}", "--accept", " "], "--accept is empty; expected why the slowdown is meant"),
        (["{checkout}", "{checkout}", "--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkout(tmp_path / "a")
    assert status(["compare-checkouts", *(argument.format(checkout=folder) for argument in arguments)]) == 2
    output = capsys.readouterr()
    assert output.err.startswith("update-bench")
    assert message in output.err
    assert output.err.count("\n") == 1
    assert not output.out


def status(arguments: list[str]) -> int | str | None:
    """The exit status, whether it is returned or raised, as argparse does."""
    try:
        return main(arguments)
    except SystemExit as stopped:
        return stopped.code


def test_the_gravest_verdict_is_the_cells() -> None:
    def slowdown(ratio: float, half_width: float = 1.001) -> object:
        return judge_ratio(
            Interval(ratio, ratio / half_width, ratio * half_width, 0.95), tolerance=0.1, error_rate=0.05
        )

    comparison = Comparison(Cell("resnet18", "fft"), base_ms=10.0, head_ms=15.0, rounds=20)
    comparison.slowdowns = {"CPU time": slowdown(1.0), "wall clock": slowdown(1.5)}  # type: ignore[dict-item]
    assert comparison.kind == "regressed"
    assert "| resnet18-fft | 10.0       | 15.0       | +0.0% (" in table([comparison])
    comparison.slowdowns["wall clock"] = slowdown(1.0, 2.0)  # type: ignore[assignment]
    assert comparison.kind == "unstable"


OWN_STEP = """
import torch
from torch import nn


def build_step():
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 4))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    images = torch.randn(2, 3, 4, 4)

    def step():
        loss = network(images).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        sum(range({work}))
        return loss

    return step, network, optimizer
"""


def test_a_users_own_step_is_each_checkouts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, work in (("quick", 100_000), ("slow", 600_000)):
        (tmp_path / name / "src").mkdir(parents=True)
        (tmp_path / name / "src" / "timed_step.py").write_text(OWN_STEP.format(work=work))
    monkeypatch.setattr(sys, "path", [*sys.path])
    quick, slow = str(tmp_path / "quick"), str(tmp_path / "slow")
    # Neither is the current folder. What improved is not measured a second time.
    assert main(["compare-checkouts", slow, quick, "--steps", "timed_step:build_step"]) == 0
    assert "timed_step:build_step: improved" in capsys.readouterr().err
    assert main(["compare-checkouts", quick, str(tmp_path / "none"), "--steps", "timed_step:build_step"]) == 2
    assert "is no folder; expected a checkout of the repository whose step is named" in capsys.readouterr().err
