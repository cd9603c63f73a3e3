"""Measured memory on small steps: figures that can be worked out by hand, and children that fail in every way."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import psutil
import pytest
import torch
from peft_update_bench.bench.processes.child_process import MeasurementError, call
from peft_update_bench.fixtures.instruments import computed, measured_memory
from peft_update_bench.fixtures.instruments.allocations import Allocations, Event, account
from peft_update_bench.fixtures.instruments.measured_memory import (
    MeasuredMemory,
    computed_gap,
    measure,
    unexplained_gap,
)
from peft_update_bench.fixtures.update_step import UpdateStep, build_update_step, classification_loss
from peft_update_bench.fixtures.workload import Workload
from torch import nn

SMALL = Workload(batch_size=2, image_size=64)
CELLS = [("resnet18", "lora", 4), ("mobilenet_v2", "dora", 4), ("mobilenet_v3_small", "galore", 4)]
SmallCells = dict[tuple[str, str, int], MeasuredMemory]

BATCH, INPUTS, HIDDEN, CLASSES = 64, 1000, 2000, 10


def by_hand(learning_rate: float = 0.1, loss_factor: float = 1.0) -> UpdateStep:
    network = nn.Sequential(nn.Linear(INPUTS, HIDDEN, bias=False), nn.Tanh(), nn.Linear(HIDDEN, CLASSES, bias=False))
    batch = (torch.randn(BATCH, INPUTS), torch.randint(CLASSES, (BATCH,)))
    optimizer = torch.optim.SGD(network.parameters(), lr=learning_rate)
    return UpdateStep(network, optimizer, batch, partial(scaled_loss, loss_factor))


def scaled_loss(factor: float, network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return factor * classification_loss(network, images, labels)


def hangs_in_its_first_step(pid_file: Path) -> UpdateStep:
    pid_file.write_text(str(os.getpid()))
    step = by_hand()
    step.loss_function = sleep_long
    return step


def sleep_long(*_: object) -> torch.Tensor:
    time.sleep(600)
    raise AssertionError


def raise_two_lines() -> NoReturn:
    raise ValueError("the first line says it\nthe second is detail")


def print_and_die(number: int) -> NoReturn:
    print("about to die", flush=True)
    os.kill(os.getpid(), number)
    raise AssertionError


def sampled_and_true_peak(build: Callable[[], UpdateStep]) -> tuple[int, int]:
    """The RSS peak in bytes as sampled while steps run, and as the kernel kept count of it."""
    measured_memory._return_freed_memory()
    torch.set_num_threads(1)
    step = build()
    Path("/proc/self/clear_refs").write_text("5")
    sampled, _ = measured_memory._sampled_rss_peak(step)
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return sampled, int(match[1]) * 1024


@pytest.fixture(scope="module")
def small_cells() -> SmallCells:
    return {cell: measure(partial(build_update_step, *cell, SMALL), threads=1) for cell in CELLS}


class TestFigures:
    def test_by_hand(self) -> None:
        measured = measure(by_hand, threads=1)
        weights = 4 * HIDDEN * (INPUTS + CLASSES)
        images_and_labels = BATCH * (4 * INPUTS + 8)
        activation = 4 * BATCH * HIDDEN
        assert measured.allocator_peak - measured.allocator_transient == weights + images_and_labels
        # When the first layer's weight gradient is made: both weight gradients and the activation's gradient, the
        # activation itself being released; and a few scalars.
        assert 0 < measured.allocator_transient - (weights + activation) < 64
        assert measured.as_record() == {
            "allocator_peak": measured.allocator_peak,
            "allocator_transient": measured.allocator_transient,
            "rss_peak": measured.rss_peak,
        }

    @pytest.mark.parametrize("cell", CELLS)
    def test_a_real_cell_trains(self, cell: tuple[str, str, int], small_cells: SmallCells) -> None:
        measured = small_cells[cell]
        assert len(measured.losses) >= 4
        assert all(math.isfinite(loss) for loss in measured.losses)
        assert measured.unmoved == ()

    @pytest.mark.parametrize("cell", CELLS)
    def test_computed_memory_and_workspaces_explain_the_allocator(
        self, cell: tuple[str, str, int], small_cells: SmallCells
    ) -> None:
        measured = small_cells[cell]
        memory = computed.measure(build_update_step(*cell, SMALL, "meta")).memory
        resident = sum(int(memory[name]) for name in ("parameters", "buffers", "optimizer_states", "other"))
        assert measured.allocator_peak - measured.allocator_transient == resident
        assert abs(unexplained_gap(memory, measured)) < 0.01
        assert measured.allocations is not None
        assert measured.allocations.peak == measured.allocator_transient
        workspace = sum(held for _, held in measured.allocations.workspace)
        assert measured.allocations.peak - workspace <= measured.allocations.without_workspace

    def test_the_allocator_says_the_same_twice(self, small_cells: SmallCells) -> None:
        again = measure(partial(build_update_step, *CELLS[0], SMALL), threads=1)
        assert again.allocations == small_cells[CELLS[0]].allocations
        assert again.allocator_peak == small_cells[CELLS[0]].allocator_peak

    def test_a_large_cell_before_it_does_not_change_a_cell(self) -> None:
        cell = partial(build_update_step, "mobilenet_v3_small", "head", None, Workload())
        before = measure(cell, threads=1)
        large = measure(partial(build_update_step, "resnet18", "fft", None, Workload()), threads=1)
        after = measure(cell, threads=1)
        assert after.allocator_peak == before.allocator_peak
        assert after.rss_peak == pytest.approx(before.rss_peak, rel=0.05)
        assert large.allocator_peak > 10 * after.allocator_peak
        # Over the allocator's peak lie only the libraries' own memory and pages half used.
        assert large.allocator_peak < large.rss_peak < 1.3 * large.allocator_peak

    @pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel keeps no count of its own")
    def test_sampling_finds_the_peak(self) -> None:
        build = partial(build_update_step, "mobilenet_v2", "dora", 4, Workload())
        sampled, true = call(sampled_and_true_peak, build, timeout_s=60)
        assert sampled == pytest.approx(true, rel=0.02)

    def test_parameters_that_stay_are_named(self) -> None:
        assert measure(partial(by_hand, learning_rate=0.0), threads=1).unmoved == ("0.weight", "2.weight")

    def test_a_loss_that_is_not_finite_is_returned(self) -> None:
        assert math.isnan(measure(partial(by_hand, loss_factor=math.nan), threads=1).losses[0])


MEMORY: dict[str, int | str] = {
    "peak": 1000, "parameters": 300, "buffers": 50, "optimizer_states": 100, "other": 50,
    "gradients": 200, "activations": 200, "temporaries": 100, "peak_phase": "backward",
}  # fmt: skip


class TestGap:
    def measured(self, transient: int, without_workspace: int | None) -> MeasuredMemory:
        allocations = without_workspace and Allocations(transient, (), without_workspace)
        return MeasuredMemory(500 + transient, transient, 2000, allocations or None, (1.0,), ())

    @pytest.mark.parametrize(("transient", "gap"), [(500, 0.0), (1000, 0.5), (400, -0.25)])
    def test_is_a_fraction_of_the_allocator_s_transient_peak(self, transient: int, gap: float) -> None:
        assert computed_gap(MEMORY, self.measured(transient, None)) == gap

    def test_workspaces_explain_it(self) -> None:
        assert unexplained_gap(MEMORY, self.measured(1000, 510)) == 0.01

    def test_an_allocator_without_events_cannot_explain_it(self) -> None:
        with pytest.raises(ValueError, match="does not tell workspaces apart"):
            unexplained_gap(MEMORY, self.measured(1000, None))


class TestAccount:
    def test_workspace_is_what_one_call_makes_and_releases(self) -> None:
        events = [
            Event(1, 100, 0xA, call=1, operator="aten::convolution"),  # the result
            Event(2, 40, 0xB, call=1, operator="aten::convolution"),  # for itself
            Event(3, -40, 0xB, call=1, operator="aten::convolution"),
            Event(4, 30, 0xB, call=2, operator="aten::relu"),  # the address again, a result this time
            Event(5, -100, 0xA, call=-1, operator=""),
            Event(6, -30, 0xB, call=3, operator="aten::mul"),
        ]
        assert account(reversed(events)) == Allocations(140, (("aten::convolution", 40),), 130)

    def test_outside_operators_there_is_no_workspace(self) -> None:
        assert account([Event(1, 8, 0xA, -1, ""), Event(2, -8, 0xA, -1, "")]) == Allocations(8, (), 8)

    def test_the_release_of_what_existed_before_is_no_peak(self) -> None:
        assert account([Event(1, -50, 0xA, -1, ""), Event(2, 20, 0xB, -1, "")]).peak == 0


class TestFailures:
    def test_an_exception_is_one_sentence(self) -> None:
        with pytest.raises(MeasurementError, match=r"^ValueError: the first line says it$"):
            measure(raise_two_lines, threads=1)

    def test_a_network_that_rejects_its_batch(self) -> None:
        build = partial(build_update_step, "mobilenet_v2", "fft", None, Workload(image_size=32))
        with pytest.raises(MeasurementError, match="ValueError: Expected more than 1 value per channel"):
            measure(build, threads=1)

    def test_an_exception_does_not_end_the_session(self) -> None:
        with pytest.raises(MeasurementError):
            measure(raise_two_lines, threads=1)
        assert call(math.sqrt, 4.0, timeout_s=30) == 2.0

    def test_killed(self) -> None:
        started = time.perf_counter()
        message = r"^the child process was killed by SIGKILL, as happens when memory runs out; .*: about to die$"
        with pytest.raises(MeasurementError, match=message):
            measure(partial(print_and_die, signal.SIGKILL), threads=1)
        assert time.perf_counter() - started < 20

    def test_crashed(self) -> None:
        with pytest.raises(MeasurementError, match=r"was killed by SIGSEGV; the last line it printed: about to die$"):
            call(print_and_die, signal.SIGSEGV, timeout_s=30)

    def test_ended_without_an_answer(self) -> None:
        with pytest.raises(MeasurementError, match=r"ended with exit code 3 and no answer; it printed nothing$"):
            call(os._exit, 3, timeout_s=30)

    def test_a_hang_is_ended_with_all_that_it_started(self, tmp_path: Path) -> None:
        started = time.perf_counter()
        with pytest.raises(MeasurementError, match=r"had no answer after 3 s and was ended"):
            measure(partial(hangs_in_its_first_step, tmp_path / "pid"), threads=1, timeout_s=3)
        assert time.perf_counter() - started < 20
        group = int((tmp_path / "pid").read_text())
        assert eventually(lambda: not processes_of(group))

    def test_what_cannot_be_pickled_is_the_caller_s_mistake(self) -> None:
        with pytest.raises((AttributeError, TypeError), match="pickle"):
            measure(lambda: by_hand(), threads=1)


class TestServer:
    def run(self, code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)

    def test_ends_with_the_process_that_started_it(self) -> None:
        code = (
            "import os; from peft_update_bench.bench.processes.child_process import call\n"
            "print(call(os.getppid, timeout_s=30))"
        )
        done = self.run(code)
        assert done.returncode == 0, done.stderr
        assert eventually(lambda: not is_alive(int(done.stdout)))

    def test_prints_nothing(self) -> None:
        code = (
            "import sys; from peft_update_bench.bench.processes import child_process\n"
            "from peft_update_bench.fixtures.instruments import measured_memory\n"
            "print(child_process.call(sys.getrecursionlimit, timeout_s=60, preload=measured_memory._PRELOAD))"
        )
        done = self.run(code)
        assert done.returncode == 0
        assert done.stderr == ""


def processes_of(group: int) -> list[int]:
    return [pid for pid in psutil.pids() if is_alive(pid) and group_of(pid) == group]


def group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.perf_counter() + seconds
    while not (met := condition()) and time.perf_counter() < end:
        time.sleep(0.05)
    return met
