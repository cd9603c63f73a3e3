"""The plugin in a repository that is not ours: it costs that one's own tests nothing, and benchmarks its networks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CONFTEST = """
import pytest


def pytest_addoption(parser):
    for name in ("device", "data", "steps", "metrics", "threads"):
        parser.addoption(f"--{name}", default=f"their {name}")


@pytest.fixture
def run():
    return "their run"


@pytest.fixture
def process():
    return "their process"


@pytest.fixture
def gate():
    return "their gate"
"""

OWN_TEST = """
import sys

from fixtures.images import IMAGE


def test_theirs(run, process, gate, pytestconfig):
    assert (run, process, gate, IMAGE) == ("their run", "their process", "their gate", "their image")
    assert pytestconfig.getoption("--device") == "mine"
    assert pytestconfig.getoption("--metrics") == "their metrics"


def test_nothing_is_imported():
    assert "torch" not in sys.modules
    ours = {name for name in sys.modules if name.startswith("peft_update_bench.")}
    assert ours <= {"peft_update_bench.bench", "peft_update_bench.bench.plugin"}
"""

NETWORK = """
from torch import nn


def net(num_classes):
    body = nn.Conv2d(3, {channels}, 3), nn.BatchNorm2d({channels}), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*body, nn.Linear({channels}, num_classes))
"""

BENCHMARKS = (
    "--pyargs", "peft_update_bench.bench", "--architectures", "mymodule:net", "--methods", "fft", "--image-size", "64",
    "--update-metrics", "flops,memory", "--update-device", "cpu", "--benchmark-storage=file://perf",
)  # fmt: skip


@pytest.fixture
def repository(pytester: pytest.Pytester) -> Path:
    """A stranger's repository, with folders and options of the names that ours have."""
    files = {
        "conftest.py": CONFTEST, "bench/test_theirs.py": OWN_TEST, "fixtures/__init__.py": "",
        "fixtures/images.py": 'IMAGE = "their image"\n', "mymodule.py": NETWORK.format(channels=8),
        "pytest.ini": "[pytest]\npythonpath = .\n",
    }  # fmt: skip
    for name, content in files.items():
        path = pytester.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    return pytester.path


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("paths", [(), ("bench",), ("bench/test_theirs.py",)])
def test_its_own_tests_run_as_before(pytester: pytest.Pytester, paths: tuple[str, ...]) -> None:
    result = pytester.runpytest_subprocess(*paths, "--device=mine")
    result.assert_outcomes(passed=2)
    assert "update benchmark" not in result.stdout.str()


@pytest.mark.usefixtures("repository")
def test_its_help_has_no_option_of_ours(pytester: pytest.Pytester) -> None:
    told = pytester.runpytest_subprocess("--help").stdout.str()
    assert "--device=DEVICE" in told
    assert not re.search(r"--(update-\w+|architectures|ranks|batch-size|tolerance)\b", told)


@pytest.mark.usefixtures("warm_operators")
def test_its_network_is_benchmarked_and_held_to_its_baseline(pytester: pytest.Pytester, repository: Path) -> None:
    saved = pytester.runpytest_inprocess(*BENCHMARKS, "--benchmark-save=baseline")
    saved.assert_outcomes(passed=1)
    assert [path.name for path in (repository / "perf").iterdir()] == ["0001_baseline.json"]
    assert str(Path(__file__).parents[2]) not in (repository / "perf" / "0001_baseline.json").read_text()

    held = pytester.runpytest_inprocess(*BENCHMARKS, "--benchmark-compare")
    held.assert_outcomes(passed=1)
    assert held.ret == 0
    held.stdout.fnmatch_lines(
        [
            "update benchmark: 1 cell, flops, memory, against perf/0001_baseline.json",
            "1 cell, against 0001_baseline.json: 1 ok",
        ]
    )

    (repository / "mymodule.py").write_text(NETWORK.format(channels=9))
    failed = pytester.runpytest_inprocess(*BENCHMARKS, "--benchmark-compare")
    failed.assert_outcomes(failed=1)
    assert failed.ret == 1
    failed.stdout.fnmatch_lines(
        [
            "mymodule:net-fft does not hold its baseline 0001_baseline.json:",
            "*parameters.trainable regressed: *",
            "*flops.forward regressed: *",
            "*memory.peak regressed: *",
            "1 cell, against 0001_baseline.json: 1 regressed",
        ]
    )


@pytest.mark.usefixtures("repository")
def test_the_short_name_stays_the_strangers(pytester: pytest.Pytester) -> None:
    """Its `--steps` takes whatever it takes; of ours a message and a command have the long name, and no other."""
    said = pytester.runpytest_inprocess(*BENCHMARKS, "--steps=many", "--update-metrics=speed")
    assert said.ret == pytest.ExitCode.USAGE_ERROR
    said.stderr.fnmatch_lines(["ERROR: --update-metrics is 'speed'; expected one of flops, memory*"])
    unrecorded = pytester.runpytest_inprocess(*BENCHMARKS, "--update-threads=2", "--benchmark-compare")
    assert unrecorded.ret == pytest.ExitCode.USAGE_ERROR
    unrecorded.stderr.fnmatch_lines(["*; record one with: * --image-size 64 --update-threads 2 --architectures my*"])


def test_the_benchmarks_are_found_whatever_the_stranger_calls_tests(
    pytester: pytest.Pytester, repository: Path
) -> None:
    """By its pytest.ini alone nothing would be collected, and the run would end without a word on why."""
    ini = "[pytest]\npythonpath = .\npython_files = *_check.py\npython_functions = check_*\n"
    (repository / "pytest.ini").write_text(ini)
    found = pytester.runpytest_inprocess(*BENCHMARKS, "--collect-only", "-q")
    assert found.ret == 0
    found.stdout.fnmatch_lines(["*test_update.py::test_update[[]mymodule:net-fft]", "1 test collected in *"])


@pytest.mark.usefixtures("warm_operators")
def test_where_the_stranger_disables_benchmarks_nothing_seems_to_be_saved(
    pytester: pytest.Pytester, repository: Path
) -> None:
    (repository / "pytest.ini").write_text("[pytest]\npythonpath = .\naddopts = --benchmark-disable\n")
    for option in ("--benchmark-save=baseline", "--benchmark-json=run.json"):
        refused = pytester.runpytest_inprocess(*BENCHMARKS, option)
        assert refused.ret == pytest.ExitCode.USAGE_ERROR
        refused.stderr.fnmatch_lines(
            [f"ERROR: {option.partition('=')[0]} is given, *: nothing is recorded; expected *"]
        )
    assert pytester.runpytest_inprocess(*BENCHMARKS, "--benchmark-save=baseline", "--benchmark-enable").ret == 0
    assert (repository / "perf" / "0001_baseline.json").is_file()
