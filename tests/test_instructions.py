"""Instructions counted by valgrind: the same every time, by phase, and every way to fail in a sentence."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from peft_update_bench.fixtures.instruments.instructions import InstructionsError, Workers, conditions, valgrind
from peft_update_bench.fixtures.instruments.instructions.names import operator_name, short_name
from peft_update_bench.fixtures.instruments.instructions.profile import read_dump, read_dumps
from peft_update_bench.fixtures.instruments.instructions.worker import Worker

from tests import counted_by_valgrind as steps

needs_valgrind = pytest.mark.skipif(shutil.which("valgrind") is None, reason=f"valgrind is missing: {valgrind.INSTALL}")


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker(preload=())
    yield worker
    worker.close()


@needs_valgrind
class TestCounts:
    def test_the_same_step_counts_the_same_whatever_was_counted_before_it(self, worker: Worker) -> None:
        first = worker.count(steps.build_by_address, 500)
        worker.count(steps.build, 3000)
        again = worker.count(steps.build_by_address, 500)
        assert (again.phases, again.functions) == (first.phases, first.functions)

    def test_another_process_counts_the_same(self, worker: Worker) -> None:
        other = Worker(preload=())
        try:
            assert other.count(steps.build_by_address, 500).phases == worker.count(steps.build_by_address, 500).phases
        finally:
            other.close()

    def test_each_phase_counts_its_own(self, worker: Worker) -> None:
        few, many = (worker.count(steps.build, turns) for turns in (1000, 2000))
        grown = {phase: many.phases[phase] - few.phases[phase] for phase in few.phases}
        assert grown["forward"] > 20_000
        assert grown["backward"] == pytest.approx(2 * grown["forward"], rel=0.01)
        assert grown["optimizer"] == pytest.approx(grown["forward"], rel=0.01)
        assert (grown["zero_grad"], grown["other"]) == (0, 0)
        assert few.total == sum(few.phases.values())

    def test_a_single_further_turn_is_seen(self, worker: Worker) -> None:
        more = worker.count(steps.build, 1001).phases["forward"] - worker.count(steps.build, 1000).phases["forward"]
        assert 10 < more < 1000

    def test_periodic_work_is_in_its_own_step_only(self, worker: Worker) -> None:
        without, with_work = worker.count(steps.build, 1000), worker.count(steps.build, 1000, 5000)
        assert without.periodic is None
        assert with_work.total == pytest.approx(without.total, rel=0.01)
        assert with_work.periodic is not None
        assert with_work.periodic > 1.5 * with_work.total

    def test_functions_and_python_functions_are_named(self, worker: Worker) -> None:
        counted = worker.count(steps.build, 1000)
        assert next(iter(counted.functions)) == "_PyEval_EvalFrameDefault"
        assert counted.python_calls["tests.counted_by_valgrind._turn"] == 3
        assert counted.as_record()["conditions"] == conditions().as_record()

    def test_nothing_of_the_callers_environment_is_seen(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("A_VARIABLE_OF_THE_CALLER", "x" * 1000)
        worker = Worker(preload=())
        try:
            worker.count(steps.environment_seen, str(tmp_path / "seen"))
        finally:
            worker.close()
        seen = (tmp_path / "seen").read_text().split()
        assert "A_VARIABLE_OF_THE_CALLER" not in seen
        assert {"PYTHONHASHSEED", "ONEDNN_MAX_CPU_ISA", "GLIBC_TUNABLES"} <= {*seen}

    def test_workers_count_beside_each_other(self) -> None:
        with Workers(2, preload=()) as workers:
            counted = [workers.submit(steps.build, turns).result() for turns in (1000, 1000, 2000)]
        assert counted[0].phases == counted[1].phases
        assert counted[2].total > counted[1].total


@needs_valgrind
class TestFailures:
    def test_a_step_that_cannot_be_built(self, worker: Worker) -> None:
        with pytest.raises(InstructionsError, match=r"^ValueError: no such network$"):
            worker.count(steps.fail, 1)
        assert worker.count(steps.build, 10).total > 0

    def test_a_step_that_dies(self, worker: Worker) -> None:
        with pytest.raises(InstructionsError, match=r"^the counting process died"):
            worker.count(steps.die, 1)
        assert worker.count(steps.build, 10).total > 0

    def test_a_step_that_hangs(self) -> None:
        worker = Worker(preload=())
        try:
            before = worker.count(steps.build, 10)
            with pytest.raises(InstructionsError, match=r"^the step was not counted within 1 s$"):
                worker.count(steps.hang, 1, limit_s=1)
            assert worker.count(steps.build, 10).phases == before.phases
        finally:
            worker.close()

    def test_packages_that_cannot_be_imported(self) -> None:
        worker = Worker(preload=("no_such_package",))
        try:
            with pytest.raises(InstructionsError, match=r"ended; the last line it printed: .*no_such_package"):
                worker.count(steps.build, 1)
        finally:
            worker.close()


@pytest.fixture
def fresh_executable() -> Iterator[None]:
    valgrind._executable.cache_clear()
    yield
    valgrind._executable.cache_clear()


@pytest.mark.usefixtures("fresh_executable")
class TestWhereItCannotCount:
    def test_without_valgrind_it_says_how_to_install_it(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(InstructionsError, match="not on PATH: install it with `apt-get install valgrind`"):
            Workers(1)

    def test_on_another_processor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(platform, "machine", lambda: "aarch64")
        with pytest.raises(InstructionsError, match="on Linux on x86_64 only; this is linux on aarch64"):
            conditions()

    def test_a_valgrind_that_does_not_run(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        broken = tmp_path / "valgrind"
        broken.write_text("#!/bin/sh\necho not today >&2\nexit 3\n")
        broken.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
        with pytest.raises(InstructionsError, match="ends with 3 and says 'not today'; expected valgrind-VERSION"):
            conditions()


DUMP = """# callgrind format
version: 1
desc: Trigger: Client Request: ordinary.forward
positions: line
events: Ir
ob=(1) /usr/lib/libtorch_cpu.so
fl=(1) ???
fn=(1) main
0 10
cob=(1)
cfn=(2) at::_ops::add__Tensor::call(at::Tensor&)
calls=2 0
0 300
fn=(2)
0 100
cfn=(3) 0x00000000000012ab
calls=1 0
* 200
ob=(2) ???
fn=(3)
+3 200

totals: 310
"""


class TestDumps:
    def test_what_a_dump_says(self, tmp_path: Path) -> None:
        (tmp_path / "7.1").write_text(DUMP)
        (tmp_path / "7.2").write_text(DUMP)
        (tmp_path / "8.1").write_text(DUMP)
        (profile,) = read_dumps(tmp_path, 7).values()
        assert profile.total == 620
        assert profile.operators == {"aten::add__Tensor": 600}
        assert profile.functions == {"main": 20, "at::_ops::add__Tensor::call": 200, "generated code": 400}

    def test_a_dump_that_was_cut_short(self, tmp_path: Path) -> None:
        path = tmp_path / "7.1"
        path.write_text(DUMP.partition("\ntotals")[0])
        with pytest.raises(InstructionsError, match=r"^callgrind's dump 7\.1 ends before its total"):
            read_dump(path)


@pytest.mark.parametrize(
    ("function", "object_file", "name"),
    [
        ("_int_free", "/lib/libc.so.6", "_int_free"),
        ("_PyEval_EvalFrameDefault'2", "libpython", "_PyEval_EvalFrameDefault"),
        ("0x00000000ec854000", "???", "generated code"),
        ("0x000000000e1bcf70", "/x/libtorch_cpu.so", "unnamed code of libtorch_cpu.so"),
        (
            "void at::native::DEFAULT::vectorized_loop<at::native::(anonymous namespace)::hardswish_backward_kernel("
            "at::TensorIterator&)::{lambda()#2}>(char**, long)",
            "libtorch_cpu.so",
            "at::native::DEFAULT::vectorized_loop of hardswish_backward_kernel",
        ),
        (
            "void dnnl::impl::cpu::jit_gemm_convolution_utils::im2col<float>(conf_t const&, float const*)",
            "libtorch_cpu.so",
            "dnnl::impl::cpu::jit_gemm_convolution_utils::im2col",
        ),
        ("foo(int) const [clone .isra.0]", "x.so", "foo"),
    ],
)
def test_names_that_a_person_reads(function: str, object_file: str, name: str) -> None:
    assert short_name(function, object_file) == name


def test_operators_are_those_that_the_dispatcher_calls() -> None:
    assert operator_name("at::_ops::convolution::call(at::Tensor const&)") == "aten::convolution"
    assert operator_name("at::_ops::convolution::redispatch(c10::DispatchKeySet)") is None
    assert operator_name("malloc") is None
