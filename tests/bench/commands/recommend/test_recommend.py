"""``update-bench recommend``: budgets as typed, the answer and its exit status."""

from __future__ import annotations

from pathlib import Path

import pytest
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.commands.recommend import devices
from peft_update_bench.bench.commands.recommend.budget import Limit, answer
from peft_update_bench.bench.commands.recommend.words import Tables, paragraphs
from peft_update_bench.bench.metrics import budgets

from tests.helpers import records
from tests.helpers.recommending import FFT, HEAD, LORA, Ask, costing, fitting


@pytest.mark.parametrize(
    ("budget", "fit"),
    [
        ("--memory=1048575B", []),
        ("--memory=1MiB", ["resnet18-head"]),
        ("--memory=2097151B", ["resnet18-head"]),
        ("--memory=2mib", ["resnet18-head", "resnet18-lora-r4"]),
        ("--flops=1999999999", ["resnet18-head"]),
        ("--flops=2G", ["resnet18-head", "resnet18-lora-r4"]),
        ("--flops=2.000000001GFLOPs", ["resnet18-head", "resnet18-lora-r4"]),
        ("--latency=0.79", ["resnet18-head"]),
        ("--latency=0.8", ["resnet18-head", "resnet18-lora-r4"]),
        ("--latency=100%", ["resnet18-head", "resnet18-lora-r4", "resnet18-fft"]),
        ("--latency=80%", ["resnet18-head", "resnet18-lora-r4"]),
        ("--flash=7.999KB", ["resnet18-head"]),
        ("--flash=8KB", ["resnet18-head", "resnet18-lora-r4"]),
    ],
)
def test_just_below_at_and_above_each_limit(ask: Ask, budget: str, fit: list[str]) -> None:
    status, output, errors = ask(budget)
    assert fitting(output) == fit
    assert status == (0 if fit else 1)
    # Where nothing fits, smaller images are tried.
    assert [line for line in errors.splitlines() if fit or not line.startswith("trying resnet18-")] == []


@pytest.mark.parametrize(
    ("typed", "echoed"),
    [
        ("--memory=64MB", "peak memory at most 64MB (61.04 MiB)."),
        ("--memory= 64  mib ", "peak memory at most 64 mib."),
        ("--flops=1.5e9", "FLOPs at most 1.5e9."),
        ("--latency=80%", "latency / fft at most 80%."),
        ("--accuracy=.7", "accuracy at least .7."),
    ],
)
def test_a_limit_is_repeated_as_it_was_typed(ask: Ask, typed: str, echoed: str) -> None:
    """Figures are in MiB: what is typed in MB is another number there."""
    _, output, _ = ask(typed)
    assert output.partition("\n")[0] == f"Budget: {echoed}"


def test_the_answer_says_what_binds_and_what_would_have_to_change(ask: Ask) -> None:
    status, output, _ = ask("--memory=1.5MiB", "--flops=1.5G")
    assert status == 0
    assert output.startswith("Budget: FLOPs at most 1.5G, peak memory at most 1.5MiB.\n")
    assert "3 cells from 0001_baseline.json; latency is of its machine" in output
    assert "1 cell within the budget, lowest peak memory first:" in output
    assert "| FLOPs, 67% of it |" in output
    need = "500.0 MFLOPs more FLOPs (+33%); 512.00 KiB more memory (+33%)"
    assert f"Next best: resnet18-lora-r4 would need {need}." in output
    assert "2 cells left out, the nearest first:" in output
    assert "The order says what an update costs, not how well it adapts." in output


@pytest.mark.parametrize("characters", [60, 80, 110])
def test_a_terminals_lines_fit_it(ask: Ask, monkeypatch: pytest.MonkeyPatch, characters: int) -> None:
    """What is piped is Markdown, whatever the terminal."""
    monkeypatch.setenv("COLUMNS", str(characters))
    piped = ask("--memory=1.5MiB", "--flops=1.5G")[1]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    shown = ask("--memory=1.5MiB", "--flops=1.5G")[1]
    assert max(map(len, shown.splitlines())) <= characters < max(map(len, piped.splitlines()))
    assert "|" in piped
    assert "|" not in shown
    for word in ("resnet18-lora-r4", "FLOPs, 67% of it", "512.00 KiB more memory (+33%)"):
        assert word in " ".join(shown.split())


def test_nothing_fits(ask: Ask) -> None:
    status, output, _ = ask("--memory=64KB")
    assert status == 1
    assert "No cell fits." in output
    assert "Nearest: resnet18-head would need 961.50 KiB more memory (+1538%)." in output


@pytest.mark.parametrize(
    ("by", "first"), [("memory", HEAD), ("flops", HEAD), ("latency", HEAD), ("flash", HEAD), ("accuracy", HEAD)]
)
def test_the_order_that_was_asked_for(ask: Ask, by: str, first: Cell) -> None:
    status, output, _ = ask("--memory=1GB", f"--by={by}")
    assert status == 0
    assert fitting(output)[0] == str(first)
    assert f"{'best' if by == 'accuracy' else 'lowest'} " in output


@pytest.mark.parametrize("section", ["adaptation", "instructions"])
def test_a_file_that_has_nothing_of_what_it_is_named_for_is_refused(ask: Ask, section: str) -> None:
    """Its cells would be said to have no baseline."""
    path = "baselines/0001_baseline.json"
    assert ask("--memory=1MiB", f"--{section}={path}") == (
        2,
        "",
        f"update-bench recommend: --{section} is '{path}', which has no {section} of any cell; expected a baseline of "
        f"--metrics {section}\n",
    )


def test_another_workload_is_computed_and_its_latency_is_not_known(ask: Ask) -> None:
    status, output, errors = ask("--memory=1GB", "--latency=2", "--image-size=32", "--methods=head")
    assert status == 1
    assert "[1/1] computing resnet18-head" in errors
    assert "1 cell computed now, with latency not known." in output
    assert "would need a known latency / fft (no baseline has timed it under this workload)" in output
    status, output, _ = ask("--memory=1GB", "--image-size=32", "--methods=head")
    assert (status, fitting(output)) == (0, ["resnet18-head"])


def test_a_network_of_ones_own(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "chosen.py").write_text(
        "from torch import nn\n"
        "def build(num_classes):\n"
        "    pool = nn.AdaptiveAvgPool2d(1), nn.Flatten()\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), *pool, nn.Linear(4, num_classes))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    status, output, _ = ask(
        "--memory=1MB", "--image-size=32", "--architectures=resnet18,chosen:build", "--methods=head"
    )
    assert (status, fitting(output)) == (0, ["chosen:build-head"])
    assert "resnet18-head would need" in output


def test_a_baseline_of_ones_own_choice(ask: Ask, tmp_path: Path) -> None:
    path = records.write(
        tmp_path / "mine.json",
        records.baseline_data(costing(HEAD, peak=5 * 2**20, flops=10**9, trained=1000, relative=None)),
    )
    _, output, _ = ask("--memory=1MiB", "--methods=head", f"--baseline={path}")
    assert "1 cell from mine.json." in output
    assert "resnet18-head would need 4.00 MiB more memory (+400%)" in output


@pytest.mark.parametrize("name", devices.names())
def test_every_device_has_limits_and_a_source(ask: Ask, name: str) -> None:
    device = devices.named(name)
    assert device.source
    assert device.assumed
    status, output, _ = ask(f"--device={name}")
    assert f"{name}: {device.source}. Assumed: {device.assumed}." in output
    (memory,) = (limit.value for limit in device.limits if limit.name == "memory")
    assert status == (0 if memory >= 2**20 else 1), "the least of the three cells takes 1 MiB"


def test_an_update_stores_the_statistics_that_it_moved(ask: Ask, tmp_path: Path) -> None:
    info = costing(HEAD, peak=2**20, flops=10**9, trained=1000, relative=0.25)
    info["parameters"]["statistics"] = 24
    path = records.write(tmp_path / "mine.json", records.baseline_data(info))
    for limit, fit in (("4095B", []), ("4096B", [str(HEAD)])):
        assert fitting(ask(f"--flash={limit}", "--methods=head", f"--baseline={path}")[1]) == fit


def test_what_the_peak_holds_of_frozen_weights_is_said(ask: Ask) -> None:
    """Of 400 bytes of parameters, a million of them, all but a thousand are frozen."""
    assert "frozen ones too: 399 Bytes of resnet18-head's. A device that reads" in ask("--memory=1GB")[1]
    assert "frozen ones too" not in ask("--memory=1GB", "--methods=fft")[1]


def test_a_latency_that_was_too_unsteady_to_judge_is_told(ask: Ask, tmp_path: Path) -> None:
    assert "Unstable" not in ask("--memory=1GB")[1]
    info = costing(LORA, peak=2**20, flops=10**9, trained=1000, relative=0.8)
    info["latency"]["stable"] = False
    path = records.write(tmp_path / "mine.json", records.baseline_data(info))
    output = ask("--memory=1GB", "--methods=lora", f"--baseline={path}")[1]
    assert "Unstable when it was recorded, and a rough ratio, is the latency of resnet18-lora-r4." in output


def test_the_first_ten_rows_or_as_many_as_are_asked_for(ask: Ask, tmp_path: Path) -> None:
    cells = [Cell("resnet18", "lora", rank) for rank in range(1, 13)]
    infos = [costing(c, peak=2**20 + (c.rank or 0), flops=10**9, trained=1000, relative=None) for c in cells]
    path = records.write(tmp_path / "many.json", records.baseline_data(*infos))
    many = ("--methods=lora", f"--ranks={','.join(map(str, range(1, 13)))}", f"--baseline={path}")
    output = ask("--memory=1GB", *many)[1]
    assert "12 cells (10 shown, --rows N for more) within the budget" in output
    assert len(fitting(output)) == 10
    assert len(fitting(ask("--memory=1GB", *many, "--rows=12")[1])) == 12
    assert "(3 shown, --rows N for more):" in ask("--memory=1KB", *many, "--rows=3", "--image-size=224")[1]


def test_counted_instructions_stand_beside_and_are_called_no_time(ask: Ask) -> None:
    counted = {
        "total": 115_531_000, "forward": 115_531_000, "backward": 0, "optimizer": 0, "zero_grad": 0, "other": 0,
        "conditions": {"valgrind": "3.19.0", "libc": "glibc 2.36", "machine": "x86_64", "python": "3.11.7"},
        "operators": {}, "functions": {}, "python_calls": {},
    }  # fmt: skip
    folder = Path("baselines") / "instructions"
    folder.mkdir()
    assert "instructions" not in ask("--memory=1GB")[1]
    only = dict.fromkeys(("flops", "memory", "measured_memory", "latency", "parameters"))
    records.write(folder / "0001_a.json", records.baseline_data(records.extra_info(HEAD, instructions=counted, **only)))
    output = ask("--memory=1GB")[1]
    rows = {line.split("|")[2].strip(): line for line in output.splitlines() if line.startswith("| ")}
    assert "115.5 M " in rows["resnet18-head"]
    assert " – " in rows["resnet18-fft"]
    assert "they are no time" in output
    assert "instructions" not in ask("--memory=1GB", "--image-size=32", "--methods=head")[1], "another workload's"


def test_cells_that_fail_for_one_reason_are_told_once() -> None:
    failures = {**dict.fromkeys((HEAD, LORA), "it has no layer"), FFT: "another"}
    found = answer([], [Limit(budgets()["memory"], 1)], None, 0.0)
    assert paragraphs(found, Tables(10, "", 80), [], failures)[-2:] == [
        "Not computed: resnet18-head, resnet18-lora-r4: it has no layer",
        "Not computed: resnet18-fft: another",
    ]


def test_a_limit_of_ones_own_counts_before_the_devices(ask: Ask) -> None:
    assert "peak memory at most 1.00 MiB, flash at most 1.00 MiB" in ask("--device=stm32h743")[1]
    assert "peak memory at most 2MiB, flash at most 1.00 MiB" in ask("--device=stm32h743", "--memory=2MiB")[1]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ((), "no budget is given; expected at least one of --memory"),
        (("--device=",), "--device is ''; expected one of raspberry-pi-4-1gb, "),
        (("--memory=64",), "--memory: given '64', whose unit is missing; expected bytes, such as 64MB, 64MiB or 512KB"),
        (("--flash=512 ",), "--flash: given '512 ', whose unit is missing; expected bytes"),
        (("--memory", "-3MB"), "--memory: given '-3MB', expected bytes, such as 64MB"),
        (("--memory", "-.5MB"), "--memory: given '-.5MB', expected bytes"),
        (("--memory=64XB",), "--memory: given '64XB', whose unit 'XB' is not known; expected bytes, such as 64MB"),
        (("--memory=-1MB",), "--memory: given '-1MB', expected bytes"),
        (("--memory=0",), "--memory: given '0', expected more than nothing"),
        (("--memory=nan",), "--memory: given 'nan', expected bytes"),
        (("--memory=",), "--memory: given '', expected bytes"),
        (("--memory=64MB!",), "--memory: given '64MB!', expected bytes"),
        (("--flops=2GB",), "--flops: given '2GB', whose unit 'GB' is not known; expected FLOPs"),
        (("--latency=inf",), "--latency: given 'inf', expected a multiple"),
        (("--flash=0KB",), "--flash: given '0KB', expected more than nothing"),
        (("--accuracy=1.01",), "--accuracy: given '1.01', expected a fraction from 0 to 1"),
        (("--device=toaster",), "--device is 'toaster'; expected one of raspberry-pi-4-1gb"),
        (
            ("--device=Raspberry Pi 4",),
            "; did you mean raspberry-pi-4-1gb, raspberry-pi-4-2gb, raspberry-pi-4-4gb or raspberry-pi-4-8gb?",
        ),
        (("--device=jetson_orin_nano",), "; did you mean jetson-orin-nano-4gb or jetson-orin-nano-8gb?"),
        (("--memory=1MB", "--methods=loar"), "; did you mean lora, lokr or loha?"),
        (("--memory=1MB", "--methods=qlora"), "--methods is 'qlora'; expected one of fft"),
        (("--memory=1MB", "--architectures=nowhere:build"), "there is no module 'nowhere'"),
        (("--memory=1MB", "--image-size=0"), "--image-size is '0'"),
        (("--memory=1MB", "--baseline=none.json"), "none.json: cannot be read"),
    ],
)
def test_bad_input_is_one_line(ask: Ask, options: tuple[str, ...], complaint: str) -> None:
    status, output, errors = ask(*options)
    assert status == 2
    assert output == ""
    assert errors.startswith("update-bench recommend: ")
    assert complaint in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("rows", ["0", "-1", "ten", "1.5"])
def test_a_bad_number_of_rows_is_one_line(ask: Ask, rows: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        ask("--memory=1MB", "--rows", rows)
    assert ended.value.code == 2
    assert f"given {rows!r}, expected a whole number of at least 1" in capsys.readouterr().err


def test_an_unknown_order_is_one_line(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        ask("--memory=1MB", "--by=beauty")
    assert ended.value.code == 2
    assert "argument --by: invalid choice: 'beauty'" in capsys.readouterr().err
