"""The example repository as its users and its CI have it: the wheel beside it in an environment of its own.

``tests/example_repository`` is a small package that is not ours: a detector with two outputs, its loss, its batch from
a file, SGD with momentum, tests, a baseline, a workflow.

They take some ten minutes: ``pytest tests/whole/test_example_repository.py -m study``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.study

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "tests" / "example_repository"
TEST = "tests/test_update.py::test_update"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the wheel, and from here only what the wheel needs."""
    folder = tmp_path_factory.mktemp("environment")
    source = folder / "source"
    # Built from a copy: setuptools writes beside its sources.
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "tests", "baselines", "build", "*.egg-info"))
    _call(sys.executable, "-m", "pip", "wheel", "--no-deps", *_isolation(), "--wheel-dir", str(folder), str(source))
    _call(sys.executable, "-m", "venv", "--without-pip", str(folder / "env"))
    found = folder / "env" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    site = folder / "env" / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    _call(sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(site), str(wheel))
    # The folders alone: what else is installed here in editable mode is not found by a path.
    (site / "others.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    return found


def _isolation() -> list[str]:
    """Nothing is downloaded where a setuptools that is new enough is at hand."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return ["--no-build-isolation"] if int(version("setuptools").partition(".")[0]) >= 77 else []
    except PackageNotFoundError:
        return []


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLE, tmp_path / "spotter"))


def run(python: Path, repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTEST_ADDOPTS"}}
    command = [str(python), "-m", "pytest", "-p", "no:cacheprovider", "--benchmark-quiet", *arguments]
    return subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)


def change(repository: Path, name: str, old: str, new: str) -> None:
    path = repository / "spotter" / name
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_it_holds_its_baseline(python: Path, repository: Path) -> None:
    whose = [str(python), "-c", "import peft_update_bench.bench.plugin as p; print(p.__file__)"]
    told = subprocess.run(whose, cwd=repository, capture_output=True, text=True, check=True).stdout
    assert str(python.parents[1]) in told

    done = run(python, repository, "--benchmark-compare", "--update-markdown=verdicts.md")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "update benchmark: 3 cells, flops, memory, against baselines/0001_baseline.json" in done.stdout
    assert "3 cells, against 0001_baseline.json: 3 ok" in done.stdout
    assert "4 passed" in done.stdout
    assert "3 cells, against 0001_baseline.json: 3 ok" in (repository / "verdicts.md").read_text()


def test_a_regression_of_its_loss_fails(python: Path, repository: Path) -> None:
    """The network runs twice where once would do."""
    change(repository, "training.py", "    logits, found = network(images)\n",
           "    logits, found = network(images)[0], network(images)[1]\n")  # fmt: skip
    done = run(python, repository, TEST, "--benchmark-compare")
    assert done.returncode == 1
    assert f"{TEST} does not hold its baseline 0001_baseline.json:" in done.stdout
    assert (
        "  flops.forward regressed: 7.389 MFLOPs → 14.78 MFLOPs (+100.0 %, +7.389 MFLOPs; tolerance 0%)" in done.stdout
    )
    assert "  recorded with the same package versions" in done.stdout
    assert "If the change is meant, record a new baseline: pytest --benchmark-save=baseline" in done.stdout


def test_another_batch_is_refused(python: Path, repository: Path) -> None:
    change(repository, "training.py", '(arrays["images"]).float() / 255', '(arrays["images"]).float()[:2] / 255')
    change(repository, "training.py", "return images, torch.from_numpy(arrays[\"kinds\"]).long()",
           "return images, torch.from_numpy(arrays[\"kinds\"]).long()[:2]")  # fmt: skip
    change(repository, "training.py", '(arrays["boxes"]).float()', '(arrays["boxes"]).float()[:2]')
    done = run(python, repository, TEST, "--benchmark-compare")
    assert done.returncode == 1
    assert (
        f"{TEST}: was recorded under another workload in baselines/0001_baseline.json: batch float32 4×3×64×64, "
        "int64 4×8×8, float32 4×4×8×8, this run float32 2×3×64×64, int64 2×8×8, float32 2×4×8×8; figures of two "
        "workloads are not compared: if the change is meant, record a new baseline" in done.stdout
    )


def test_another_optimizer_is_refused(python: Path, repository: Path) -> None:
    change(
        repository,
        "training.py",
        "SGD(network.parameters(), lr=0.05, momentum=0.9,",
        "Adam(network.parameters(), lr=0.05,",
    )
    done = run(python, repository, TEST, "--benchmark-compare")
    assert done.returncode == 1
    assert (
        "optimizer SGD(lr=0.05, momentum=0.9, weight_decay=0.0001), this run Adam(lr=0.05, weight_decay=0.0001)"
        in done.stdout
    )


def test_a_batch_that_is_not_there_is_one_line_and_the_others_finish(python: Path, repository: Path) -> None:
    (repository / "spotter" / "batch.npz").unlink()
    (repository / "tests" / "test_training.py").write_text("def test_other():\n    pass\n")
    done = run(python, repository, "tests/test_training.py", TEST, "--benchmark-compare")
    assert done.returncode == 1
    assert f"{TEST}: raises FileNotFoundError: [Errno 2] No such file or directory: " in done.stdout
    assert "1 failed, 1 passed" in done.stdout


def test_a_test_that_is_no_longer_there_fails_the_run(python: Path, repository: Path) -> None:
    path = repository / "tests" / "test_update.py"
    path.write_text(path.read_text().replace('("head", None), ', ""))
    lost = "tests/test_update.py::test_update_with[head-None]"
    done = run(python, repository, "-k", "not lora", "--benchmark-compare")
    assert done.returncode == 1, done.stdout
    assert f"{lost} is in 0001_baseline.json and no longer in the run." in done.stdout
    # Who names a test asks for that one.
    assert run(python, repository, TEST, "--benchmark-compare").returncode == 0


def test_its_step_by_name_with_every_method(python: Path, repository: Path) -> None:
    by_name = "--pyargs", "peft_update_bench.bench", "--methods", "own,fft,lora,dora,galore", "--ranks", "4"
    done = run(python, repository, *by_name)
    assert done.returncode == 0, done.stdout
    for cell in ("", "-fft", "-lora-r4", "-dora-r4", "-galore-r4"):
        assert f"spotter.training:build_step{cell} " in done.stdout
    assert "5 cells, no baseline compared (--benchmark-compare): 5 not compared" in done.stdout
