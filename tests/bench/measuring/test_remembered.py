"""Computed cells remembered from an earlier run: where the code is the same, and nowhere else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from peft_update_bench.bench import options
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.measuring import remembered
from peft_update_bench.bench.measuring.remembered import Remembered
from peft_update_bench.bench.metrics import METRICS, Metric
from peft_update_bench.bench.options import OptionError, RunOptions
from peft_update_bench.bench.record import Record
from peft_update_bench.fixtures import digests

from tests.helpers.records import FFT, record

pytestmark = pytest.mark.usefixtures("modules")

REPOSITORY = Path(__file__).parents[3]
KNOWN = "2 cells computed by an earlier run of the same code; --remember no computes anew"


def run_options(**given: str) -> RunOptions:
    return options.read({"metrics": "flops,memory", **given}, {"latency": 0.1})


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """What the process has imported, without what other tests have left there, such as users' code; a digest of all
    that would take seconds each time."""
    few = {name: module for name, module in sys.modules.items() if name.startswith("galore_torch")}
    monkeypatch.setattr(digests, "sys", SimpleNamespace(modules=few))
    return few


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Remembered | None]:
    """What a run outside a test remembers that has imported `modules`, in a cache of the test's."""
    monkeypatch.setattr(remembered, "users_cache", lambda: tmp_path / "peft-update-bench")
    monkeypatch.setattr(digests, "required_modules", lambda: ["galore_torch"])

    def of(cell: Cell = FFT_CELL, **given: str) -> Remembered | None:
        monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)
        return Remembered.of(run_options(**given), [cell])

    return of


FFT_CELL = Cell("resnet18", "fft")


def module(file: Path) -> ModuleType:
    made = ModuleType(file.stem)
    made.__file__ = str(file)
    return made


def found(memory: Remembered | None, cell: Cell = FFT_CELL) -> Record | None:
    assert memory is not None
    return memory.find(cell)


def keep(memory: Remembered | None) -> None:
    assert memory is not None
    memory.keep(record(FFT))
    memory.close()


def test_what_was_kept_is_found_again(memory: Callable[..., Remembered | None]) -> None:
    assert found(memory()) is None
    keep(memory())
    assert found(memory()) == record(FFT)
    assert found(memory(), Cell("resnet18", "head")) is None


@pytest.mark.parametrize("given", [{"metrics": "flops"}, {"batch_size": "2"}, {"image_size": "64"}])
def test_another_workload_or_metric_is_another_cell(
    given: dict[str, str], memory: Callable[..., Remembered | None]
) -> None:
    keep(memory())
    assert found(memory(**given)) is None


def test_a_module_that_is_installed_counts_by_its_content(
    memory: Callable[..., Remembered | None], tmp_path: Path, modules: dict[str, ModuleType]
) -> None:
    plugin = tmp_path / "site-packages" / "some_plugin.py"
    plugin.parent.mkdir()
    plugin.write_text("one = 1")
    modules["some_plugin"] = module(plugin)
    keep(memory())
    plugin.touch()
    assert found(memory()) is not None
    plugin.write_text("one = 2")
    assert found(memory()) is None


def test_beside_a_users_module_nothing_is_remembered(
    memory: Callable[..., Remembered | None], tmp_path: Path, modules: dict[str, ModuleType]
) -> None:
    """A conftest may change a package, and by a variable, an option or a file that it reads."""
    assert memory() is not None
    (tmp_path / "conftest.py").touch()
    modules["some.conftest"] = module(tmp_path / "conftest.py")
    assert memory() is None


@pytest.mark.parametrize(
    "file",
    [Path(os.__file__), Path(pytest.__file__), Path(sys.executable).with_name("pytest"), REPOSITORY / "conftest.py"],
)
def test_neither_the_interpreter_s_nor_the_suite_s_modules_are_a_user_s(
    file: Path, memory: Callable[..., Remembered | None], modules: dict[str, ModuleType]
) -> None:
    modules["module"] = module(file)
    assert file.is_file()
    assert memory() is not None


def test_a_module_of_the_interpreter_s_that_is_a_link_is_none_of_a_user_s(
    memory: Callable[..., Remembered | None],
    tmp_path: Path,
    modules: dict[str, ModuleType],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As Debian's sitecustomize."""
    (tmp_path / "etc.py").touch()
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "sitecustomize.py").symlink_to(tmp_path / "etc.py")
    monkeypatch.setattr(digests, "sysconfig", SimpleNamespace(get_path=lambda _: str(tmp_path / "lib")))
    modules["sitecustomize"] = module(tmp_path / "lib" / "sitecustomize.py")
    assert memory() is not None


def test_a_file_of_a_package_counts_by_its_time(
    memory: Callable[..., Remembered | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "edited").mkdir()
    (tmp_path / "edited" / "__init__.py").write_text("one = 1")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(digests, "required_modules", lambda: ["edited"])
    keep(memory())
    assert found(memory()) is not None
    os.utime(tmp_path / "edited" / "__init__.py", ns=(1, 1))
    assert found(memory()) is None


def test_a_module_whose_name_begins_like_a_package_s_is_none_of_its(
    memory: Callable[..., Remembered | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    modules: dict[str, ModuleType],
) -> None:
    installed = tmp_path / "site-packages"
    (installed / "edited").mkdir(parents=True)
    (installed / "edited" / "__init__.py").touch()
    beside = installed / "edited_besides.py"
    beside.write_text("one = 1")
    monkeypatch.syspath_prepend(installed)
    monkeypatch.setattr(digests, "required_modules", lambda: ["edited"])
    modules["edited_besides"] = module(beside)
    keep(memory())
    beside.write_text("one = 2")
    assert found(memory()) is None


def test_of_code_that_was_changed_while_a_run_was_on_nothing_is_remembered(
    memory: Callable[..., Remembered | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had been imported when the run began is the old code, and what it imports later is the new."""
    code = tmp_path / "suite" / "fixtures" / "lora.py"
    code.parent.mkdir(parents=True)
    code.write_text("rank = 4")
    monkeypatch.setattr(digests, "_SUITE", tmp_path / "suite")
    run = memory()
    code.write_text("rank = 5")
    keep(run)
    code.write_text("rank = 4")
    assert found(memory()) is None
    keep(memory())
    assert found(memory()) is not None


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"\xff"])
def test_a_damaged_file_is_computed_anew(
    content: bytes, memory: Callable[..., Remembered | None], tmp_path: Path
) -> None:
    keep(memory())
    (path,) = tmp_path.rglob("*.json")
    path.write_bytes(content)
    assert found(memory()) is None


@pytest.mark.parametrize("given", [{"metrics": "latency"}, {"metrics": "flops,measured_memory"}, {"cell_seconds": "0"}])
def test_what_is_measured_or_debugged_is_not_remembered(
    given: dict[str, str], memory: Callable[..., Remembered | None]
) -> None:
    assert memory(**given) is None


@pytest.mark.parametrize(
    "cell", [Cell("mine:Net", "fft"), Cell("resnet18", "mine:Method"), Cell("mine:step", "own", is_step=True)]
)
def test_users_own_code_is_not_remembered(cell: Cell, memory: Callable[..., Remembered | None]) -> None:
    assert memory(cell) is None


@pytest.mark.parametrize(
    "theirs",
    [
        replace(METRICS["memory"], section="additions:Wire"),
        replace(METRICS["memory"], measure="json:loads"),
    ],
    ids=["section", "measure"],
)
def test_a_metric_from_elsewhere_is_not_remembered(
    theirs: Metric, memory: Callable[..., Remembered | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What measures it is imported later, and may read a file or a variable."""
    monkeypatch.setitem(METRICS, "memory", theirs)
    assert memory() is None
    assert memory(metrics="flops") is not None


def test_nothing_is_remembered_within_a_test() -> None:
    assert "PYTEST_CURRENT_TEST" in os.environ
    assert Remembered.of(run_options(), [FFT_CELL]) is None


def test_a_folder_that_cannot_be_written_is_no_failure(
    memory: Callable[..., Remembered | None], tmp_path: Path
) -> None:
    (tmp_path / "peft-update-bench").write_text("a file")
    keep(memory())
    assert found(memory()) is None


def test_only_the_newest_codes_are_kept(memory: Callable[..., Remembered | None], tmp_path: Path) -> None:
    codes = tmp_path / "peft-update-bench" / "computed"
    for number in range(remembered.MOST_CODES):
        (codes / str(number)).mkdir(parents=True)
        os.utime(codes / str(number), (number, number))
    keep(memory())
    assert len(list(codes.iterdir())) == remembered.MOST_CODES
    assert not (codes / "0").exists()
    assert (codes / "1").exists()


def test_a_bad_value_is_refused() -> None:
    with pytest.raises(OptionError, match="--remember is 'maybe'; expected one of yes, no"):
        run_options(remember="maybe")


@pytest.mark.parametrize(("word", "notice"), [("yes", KNOWN.replace("2 cells", "1 cell")), ("no", "")])
def test_what_is_known_is_computed_anew_where_that_is_asked_for(
    word: str, notice: str, memory: Callable[..., Remembered | None]
) -> None:
    keep(memory())
    run = run_options(remember=word)
    run.benchmark.prepare(run, [FFT_CELL], nullcontext)
    assert run.benchmark.notice == notice


@pytest.mark.slow
def test_a_second_run_is_told_what_the_first_computed(tmp_path: Path) -> None:
    """The same figures and verdicts, without an import of torch."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}

    def run(name: str) -> str:
        command = [
            sys.executable, "-X", "importtime", "-m", "pytest", "bench", "-p", "no:cacheprovider",
            "--architectures=mobilenet_v3_small", "--methods=fft,head", "--metrics=flops,memory", "--benchmark-compare",
            f"--benchmark-json={tmp_path / name}",
        ]  # fmt: skip
        ran = subprocess.run(
            command, cwd=REPOSITORY, env={**environment, "XDG_CACHE_HOME": str(tmp_path)}, text=True,
            capture_output=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout
        assert "2 cells, against 0004_baseline.json: 2 ok" in ran.stdout
        imported = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
        return f"{KNOWN in ran.stdout} {'torch' in imported}"

    assert run("1.json") == "False True"
    assert run("2.json") == "True False"
    one, two = (
        [entry["extra_info"] for entry in json.loads((tmp_path / f"{number}.json").read_text())["benchmarks"]]
        for number in (1, 2)
    )
    assert one == two
