"""The table of every method's figures: out of committed baselines alone, with words where one has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peft_update_bench.bench.__main__ import main
from peft_update_bench.bench.cells import Cell

from tests.bench.study.test_front import of_seeds
from tests.helpers.records import LATENCY, baseline_data, extra_info, write

INSTRUCTIONS = {
    "total": 4_600_000, "forward": 2_000_000, "backward": 2_000_000, "optimizer": 600_000, "zero_grad": 0, "other": 0,
    "conditions": {"valgrind": "3.19.0", "libc": "glibc 2.36", "machine": "x86_64", "python": "3.11.7"},
    "operators": {}, "functions": {}, "python_calls": {},
}  # fmt: skip


def of_mobilenet(method: str, rank: int | None = None, batch_size: int | None = None, **parts: Any) -> dict[str, Any]:
    return extra_info(Cell("mobilenet_v2", method, rank, batch_size=batch_size), **parts)


def of_classes(method: str, *ends: float, **figures: Any) -> dict[str, Any]:
    return of_seeds(method, *ends, corruption=None, **figures).as_extra_info()


@pytest.fixture
def baselines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Costs of three methods at two batch sizes; times, counts and accuracies of some of them."""
    monkeypatch.chdir(tmp_path)
    choices = (("bitfit", None), ("lora", 4), ("fft", None))
    held = {
        "methods": [of_mobilenet(method, rank, size) for method, rank in choices for size in (1, 32)],
        ".": [of_mobilenet("lora", 4, latency=LATENCY), of_mobilenet("fft", latency=None)],
        "instructions": [of_mobilenet("fft", instructions=INSTRUCTIONS)],
        "adaptation": [of_seeds("fft", 0.8, 0.82).as_extra_info()],
        "methods/adaptation": [
            of_seeds("fft", 0.8, 0.82).as_extra_info(),
            of_seeds("lora", 0.7, 0.72, rank=4).as_extra_info(),
        ],
        "fashion_mnist/adaptation": [of_seeds("bitfit", 0.6, 0.62).as_extra_info()],
        "fashion_mnist/unseen/adaptation": [of_classes("bitfit", 0.6, 0.62), of_classes("lora", 0.5, 0.52, rank=16)],
        "fashion_mnist/unseen/further/adaptation": [of_classes("lora", 0.1, 0.12, rank=4)],
    }
    for folder, entries in held.items():
        (tmp_path / "baselines" / folder).mkdir(parents=True, exist_ok=True)
        write(tmp_path / "baselines" / folder / "0001_a.json", baseline_data(*entries))
    return tmp_path / "baselines"


def rows(shown: str) -> dict[str, list[str]]:
    lines = [line.strip("|").split("|") for line in shown.splitlines() if line.startswith("|")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


@pytest.mark.usefixtures("baselines")
def test_each_figure_is_a_baseline_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "--tables", "figures-mobilenet_v2"]) == 0
    shown = capsys.readouterr().out
    found = rows(shown)
    assert [name for name in found if "-" not in name and name != "method"] == ["fft", "lora, r=4", "bitfit"]
    assert found["lora, r=4"][:6] == ["3.000 kFLOPs"] * 2 + ["1000 Bytes"] * 2 + ["480 Bytes", "0.800 ± 0.010"]
    assert found["fft"][6] == "4.600 M"
    assert found["fft"][7].startswith("81.0% ±")
    assert found["bitfit"][5:8] == ["–", "–", "–"]
    assert found["bitfit"][8].startswith("61.0% ±")
    assert "instructions, batch 1: baselines/instructions/0001_a.json has no lora, r=4, bitfit" in shown
    assert found["lora, r=4"][8] == "worse than before"
    both = "baselines/fashion_mnist/unseen/adaptation and baselines/fashion_mnist/unseen/further/adaptation"
    assert f"accuracy, new classes of Fashion-MNIST: {both} have no fft." in shown


@pytest.mark.parametrize(("kind", "column"), [("latency", 5), ("instructions", 6), ("adaptation", 7)])
def test_a_further_method_s_figures_are_in_a_baseline_of_their_own(
    baselines: Path, capsys: pytest.CaptureFixture[str], kind: str, column: int
) -> None:
    of_bitfit = {
        "latency": of_mobilenet("bitfit", latency=LATENCY),
        "instructions": of_mobilenet("bitfit", instructions=INSTRUCTIONS),
        "adaptation": of_seeds("bitfit", 0.5, 0.52).as_extra_info(),
    }
    (baselines / "methods" / kind).mkdir(exist_ok=True)
    write(baselines / "methods" / kind / "0002_further.json", baseline_data(of_bitfit[kind]))
    assert main(["study", "--tables", "figures-mobilenet_v2"]) == 0
    shown = capsys.readouterr().out
    assert rows(shown)["bitfit"][column].startswith(
        {"latency": "0.800 ±", "instructions": "4.600 M", "adaptation": "51.0% ±"}[kind]
    )
    both = "baselines/instructions/0001_a.json and baselines/methods/instructions/0002_further.json have no lora, r=4."
    assert (both in shown) is (kind == "instructions")


def test_a_network_that_a_baseline_lacks_is_named(baselines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    costs = [extra_info(Cell("resnet18", "fft", batch_size=size)) for size in (1, 32)]
    write(baselines / "methods" / "0002_b.json", baseline_data(*costs))
    assert main(["study", "--tables", "figures-resnet18"]) == 0
    assert "accuracy, MNIST: baselines/methods/adaptation has nothing of resnet18" in capsys.readouterr().out


def test_a_missing_baseline_is_one_line(baselines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (baselines / "methods" / "0001_a.json").unlink()
    assert main(["study", "--tables", "figures-mobilenet_v2"]) == 2
    error = capsys.readouterr().err
    assert "no baseline (NNNN_*.json) in baselines/methods" in error


@pytest.mark.parametrize(
    ("table", "folder"),
    [
        ("fashion-front", "fashion_mnist/adaptation"),
        ("fashion-conditions", "fashion_mnist/fog/adaptation"),
        ("fashion-classes-front", "fashion_mnist/unseen/adaptation"),
        ("digits-front", "methods/adaptation"),
        ("fashion-methods-front", "fashion_mnist/unseen/further/adaptation"),
        *((table, "fashion_mnist/unseen/searched/adaptation") for table in ("fashion-searched-front", "fashion-rates")),
        *(("figures-mobilenet_v2", folder) for folder in ("fashion_mnist/unseen/adaptation", "methods/adaptation")),
    ],
)
def test_without_runs_their_tables_say_so(
    baselines: Path, capsys: pytest.CaptureFixture[str], table: str, folder: str
) -> None:
    (baselines / folder / "0001_a.json").unlink(missing_ok=True)
    assert main(["study", "--tables", table]) == 2
    assert f"baselines/{folder}: holds no run; expected one" in capsys.readouterr().err


def test_runs_of_different_methods_are_one_front(baselines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    further = of_seeds("bitfit", 0.5, 0.52).as_extra_info()
    write(baselines / "methods" / "adaptation" / "0002_further.json", baseline_data(further))
    assert main(["study", "--tables", "digits-front,digits-budgets"]) == 0
    shown = capsys.readouterr().out
    assert [line.split("|")[2].strip() for line in shown.splitlines() if line.startswith("| mobilenet_v2")][:3] == [
        "fft", "lora, r=4", "bitfit"
    ]  # fmt: skip


def test_the_statements_stand_beside_each_other(baselines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    articles = [of_seeds(m, *ends).as_extra_info() for m, ends in (("fft", (0.9, 0.9)), ("bn_head", (0.4, 0.42)))]
    write(baselines / "fashion_mnist" / "adaptation" / "0001_a.json", baseline_data(*articles))
    assert main(["study", "--tables", "fashion-accuracy"]) == 0
    found = rows(capsys.readouterr().out)["BN+H is up to 40 points behind on hard shifts"]
    assert found[1:3] == ["needs a run with --metrics adaptation", "not measured in this run"]
    assert found[3:] == ["49.0 points at most (mobilenet_v2 49.0)", "reproduced"]
